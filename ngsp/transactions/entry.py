"""The canonical form of a log entry, version 1: what proofs are taken over, so it never changes.

An entry is a JSON object in the form of RFC 8785 (JCS) that holds only strings, integers, arrays and objects, with
ASCII member names: sorted names, no space, UTF-8. A member without a value is left out; there is no null. Times are
RFC 3339 in UTC with microseconds; digests are base64url without padding. `docs/log-entry.md` lists the members with
test vectors.

No entry holds a payload, a token, an identity number or a name of a person: digests are keyed by the record's key.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from ngsp.registry.model import Grant

VERSION: Final = 1

ACCEPTED, DELIVERED, SUCCEEDED, REFUSED, FAILED, EXPIRED, UNKNOWN, RESOLVED, REPEATED, PROBED, PROBING = range(1, 12)
KINDS: Final[dict[int, str]] = {
    ACCEPTED: "accepted",
    DELIVERED: "delivered",
    SUCCEEDED: "succeeded",
    REFUSED: "refused",
    FAILED: "failed",
    EXPIRED: "expired",
    UNKNOWN: "unknown",
    RESOLVED: "resolved",
    REPEATED: "repeated",
    PROBED: "probed",
    PROBING: "probing",
}
TERMINAL: Final = frozenset((SUCCEEDED, REFUSED, FAILED, EXPIRED, UNKNOWN))

Row = tuple[datetime, str, int, bytes, bytes | None]
"""An entry on its way into the log: at, transaction, kind, canonical bytes, and the record's wrapped key (once)."""


def now() -> datetime:
    return datetime.now(UTC)


def moment(at: datetime) -> str:
    """RFC 3339 with six digits of a second and `Z`; `at` is in UTC."""
    return at.isoformat(timespec="microseconds")[:-6] + "Z"


def canonical(members: dict[str, Any]) -> bytes:
    """The bytes of an entry. orjson with sorted keys is RFC 8785 for what an entry may hold."""
    return orjson.dumps(members, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)


def _stamp(at: datetime) -> datetime | str:
    """What `canonical` writes as `moment` does: orjson is quicker at it, but leaves out a fraction that is zero."""
    return at if at.microsecond else moment(at)


def digest_text(digest: bytes) -> str:
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def read(body: bytes) -> dict[str, Any]:
    """The members of a stored entry."""
    found: dict[str, Any] = orjson.loads(body)
    return found


class Scribe:
    """Writes the entries of one gateway: knows node, instance and epoch, and keeps what repeats ready-made."""

    def __init__(self, node: str, gateway: str, epoch: int) -> None:
        self._node, self._gateway, self._epoch = node, gateway, epoch
        self._grants: dict[tuple[str, int, str, str], orjson.Fragment] = {}

    def _entry(self, kind: int, tx: str, at: datetime, members: dict[str, Any], wrapped: bytes | None = None) -> Row:
        members["at"] = _stamp(at)
        members["epoch"] = self._epoch
        members["gateway"] = self._gateway
        members["kind"] = KINDS[kind]
        members["node"] = self._node
        members["tx"] = tx
        members["v"] = VERSION
        return at, tx, kind, canonical(members), wrapped

    def _grant(self, grant: Grant, mode: str) -> orjson.Fragment:
        agreement, service = grant.agreement, grant.service
        key = (agreement.id, agreement.version, grant.purpose, f"{mode} {service.path}" if grant.sandbox else mode)
        found = self._grants.get(key)
        if found is None:
            if len(self._grants) > 10_000:
                self._grants.clear()
            members = {
                "adapter": service.adapter,
                "agreement": agreement.id,
                "agreement_version": agreement.version,
                "consumer": agreement.consumer,
                "fields": list(agreement.fields),
                "legal_basis": agreement.legal_basis,
                "mode": mode,
                "provider": service.key.provider,
                "purpose": grant.purpose,
                "service": service.key.name,
                "version": service.key.version,
            }
            found = self._grants[key] = orjson.Fragment(canonical(members))
        return found

    def accepted(
        self,
        tx: str,
        at: datetime,
        grant: Grant,
        mode: str,
        call: dict[str, str],
        deadline: datetime,
        size: int,
        digest: bytes,
        wrapped: bytes,
    ) -> Row:
        """`call`: client, member, and officer, dossier, procedure, consent and trace where the call has them."""
        return self._entry(
            ACCEPTED,
            tx,
            at,
            {
                "call": call,
                "deadline": _stamp(deadline),
                "grant": self._grant(grant, mode),
                "request": {"bytes": size, "digest": digest_text(digest)},
            },
            wrapped,
        )

    def refused_call(
        self, tx: str, at: datetime, call: dict[str, str], asked: dict[str, str], code: str, status: int, reason: str
    ) -> Row:
        """A call refused before acceptance: its only entry. `asked`: service path, purpose and agreement as asked."""
        outcome = {"class": "refused-call", "code": code, "reason": reason, "status": status}
        return self._entry(REFUSED, tx, at, {"asked": asked, "call": call, "outcome": outcome})

    def delivered(self, tx: str, at: datetime, attempt: int) -> Row:
        return self._entry(DELIVERED, tx, at, {"attempt": attempt})

    def probing(self, tx: str, at: datetime, call: dict[str, str], probe: dict[str, str]) -> Row:
        """An operator's probe, which is no transaction, before it is sent. `probe`: adapter, service, what is asked."""
        return self._entry(PROBING, tx, at, {"call": call, "probe": probe})

    def probed(
        self,
        tx: str,
        at: datetime,
        call: dict[str, str],
        probe: dict[str, str],
        outcome: dict[str, Any],
        timings_us: dict[str, int],
    ) -> Row:
        """How it went."""
        members = {"call": call, "outcome": outcome, "probe": probe, "timings_us": timings_us}
        return self._entry(PROBED, tx, at, members)

    def ended(
        self,
        kind: int,
        tx: str,
        at: datetime,
        outcome: dict[str, Any],
        reply: tuple[int, bytes] | None = None,
        timings_us: dict[str, int] | None = None,
    ) -> Row:
        """A terminal entry, or *resolved*, or *repeated*.

        `outcome`: `class`, `code`, `status` and, where there is one, `provider_code`; for *resolved* also `state`.
        `reply`: size and keyed digest of the bytes as the caller gets them.
        """
        members: dict[str, Any] = {"outcome": outcome}
        if reply is not None:
            members["reply"] = {"bytes": reply[0], "digest": digest_text(reply[1])}
        if timings_us is not None:
            members["timings_us"] = timings_us
        return self._entry(kind, tx, at, members)
