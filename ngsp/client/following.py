"""Transactions as their two ends see them: one, a list by cursor, and the stream as server-sent events."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from ngsp.client.errors import NotUnderstood

OPEN_STATES = frozenset(("accepted", "delivered"))


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction (giao dịch). `state`: accepted, delivered, succeeded, refused, failed, expired, unknown, resolved.

    `code`, `failure_class`, `status`, `provider_code`: of what its state came from. `entries`: its log entries where
    one transaction was asked for, empty in lists. What was not said is None. `docs/calling.md` explains the states.
    """

    id: str
    state: str
    mode: str = ""
    accepted_at: datetime | None = None
    ended_at: datetime | None = None
    client: str | None = None
    consumer: str | None = None
    provider: str | None = None
    service: str | None = None
    adapter: str | None = None
    agreement: Mapping[str, Any] | None = None
    purpose: str | None = None
    officer: str | None = None
    dossier: str | None = None
    procedure: str | None = None
    trace: str | None = None
    code: str | None = None
    failure_class: str | None = None
    provider_code: str | None = None
    status: int | None = None
    request_bytes: int | None = None
    reply_bytes: int | None = None
    duration_ms: float | None = None
    sandbox: bool = False
    entries: tuple[Mapping[str, Any], ...] = ()

    @property
    def ended(self) -> bool:
        """True once it has an outcome; *unknown* may yet become *resolved*."""
        return self.state not in OPEN_STATES

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Transaction:
        """From the interface's JSON; members that a newer gateway adds are passed over."""
        found = {name: document[name] for name in _MEMBERS if name in document}
        for name in ("accepted_at", "ended_at"):
            found[name] = _moment(found.get(name))
        return cls(**{**found, "entries": tuple(found.get("entries") or ())})


_MEMBERS = [member.name for member in fields(Transaction)]


def _moment(value: object) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class Filters:
    """Which transactions; all must hold, empty: no such filter. `since` is inclusive, `until` exclusive, both aware.

    `service`: a name, or provider/name/version. `outcome`: a state. `sandbox`: those of the sandbox, and no real ones.
    """

    since: datetime | None = None
    until: datetime | None = None
    consumer: str = ""
    provider: str = ""
    service: str = ""
    outcome: str = ""
    purpose: str = ""
    dossier: str = ""
    trace: str = ""
    officer: str = ""
    sandbox: bool = False

    def parameters(self) -> dict[str, str]:
        names = ("consumer", "provider", "service", "outcome", "purpose", "dossier", "trace", "officer")
        found = {name: value for name in names if (value := getattr(self, name))}
        if self.sandbox:
            found["sandbox"] = "true"
        for name, at in (("from", self.since), ("to", self.until)):
            if at is not None:
                if at.tzinfo is None:
                    raise ValueError(f"{name}: a time needs its zone")
                found[name] = at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return found


@dataclass(frozen=True, slots=True)
class Page:
    """Newest first. `next`: the cursor of the page after, None at the end. A page may be short, even empty."""

    items: tuple[Transaction, ...]
    next: str | None

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Page:
        return cls(tuple(Transaction.read(item) for item in document["items"]), document["next"])


@dataclass(frozen=True, slots=True)
class Event:
    """An entry as it became part of the log. `position`: where to resume, after this one.

    `kind`: what the entry says (as a state, or `repeated`). `transaction`: as it is now. `document`: as it came.
    """

    position: str
    kind: str
    at: datetime
    transaction: Transaction
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


class EventReader:
    """Server-sent events (WHATWG HTML §9.2) from bytes as they come.

    `position`: the last id that was said. `fed`: how many bytes there were, comments and heartbeats included.
    """

    def __init__(self, position: str = "") -> None:
        self.position = position
        self.fed = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._data: list[str] = []

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that `data` completes. `NotUnderstood` where one is not of this stream."""
        self.fed += len(data)
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        for line in lines:
            yield from self._take(line.removesuffix("\r"))

    def _take(self, line: str) -> Iterator[Event]:
        if not line:
            data, self._data = "\n".join(self._data), []
            if data:
                yield self._event(data)
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "id":
            self.position = value

    def _event(self, data: str) -> Event:
        try:
            document = json.loads(data)
            at = datetime.fromisoformat(document["at"])
            transaction = Transaction.read(document["transaction"])
            return Event(self.position, str(document["kind"]), at, transaction, document)
        except (KeyError, TypeError, ValueError):
            raise NotUnderstood(200) from None
