"""What the entries of a transaction add up to: one row, the same in the projection and when read from the entries.

The folding is SQL, so that the projector never brings entries into the gateway's process. Where several entries of one
transaction count, the one of the highest rank wins (accepted < delivered < a terminal one < resolved), of equal ones
the earliest: so the sum does not depend on how the entries were cut into batches.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

import asyncpg

from ngsp.messages import MEMBER_CODE, SERVICE_NAME, VERSION_NAME
from ngsp.registry.model import NO_AGREEMENT, OWN
from ngsp.transactions.entry import KINDS, RESOLVED, moment

STATES: Final = tuple(KINDS[kind] for kind in range(1, RESOLVED + 1))
"""State number n is that of the entry kind n; *repeated* is no state."""
OPEN: Final = frozenset(("accepted", "delivered"))


@dataclass(frozen=True, slots=True)
class TransactionRow:
    """One transaction as lists and filters see it; the columns of `transactions` without `place`.

    A call refused before acceptance has mode `query`, an `agreement_version` of 0, and empty text for what is unknown.
    `code`, `failure_class`, `status` …: of the entry that gave the state; None while there is none, or on success.
    """

    tx: str
    accepted_at: datetime
    ended_at: datetime | None
    state: str
    mode: str
    client: str
    consumer: str
    provider: str
    service: str
    version: str
    adapter: str
    agreement: str
    agreement_version: int
    purpose: str
    officer: str | None
    dossier: str | None
    procedure: str | None
    trace: str | None
    gateway: str
    epoch: int
    code: str | None
    failure_class: str | None
    provider_code: str | None
    status: int | None
    request_bytes: int | None
    reply_bytes: int | None
    duration_us: int | None
    sandbox: bool

    @property
    def open(self) -> bool:
        return self.state in OPEN

    @property
    def path(self) -> str:
        """`provider/service/version`; empty where the call named no such thing."""
        return f"{self.provider}/{self.service}/{self.version}" if self.version else ""

    def may_be_seen_by(self, member: str) -> bool:
        """The two ends; of a call that reached nobody (refused before, or of the sandbox) the calling end only."""
        reached = self.agreement_version and not self.sandbox
        return member in (self.consumer, self.provider if reached else self.consumer)

    def _agreement(self) -> dict[str, Any] | None:
        if self.agreement in ("", NO_AGREEMENT, OWN):
            return None
        return {"id": self.agreement, "version": self.agreement_version or None}

    def item(self) -> dict[str, Any]:
        """The JSON that `GET /v1/transactions` gives."""
        return {
            "id": self.tx,
            "state": self.state,
            "mode": self.mode,
            "accepted_at": moment(self.accepted_at),
            "ended_at": moment(self.ended_at) if self.ended_at else None,
            "client": self.client,
            "consumer": self.consumer or None,
            "provider": self.provider or None,
            "service": self.path or None,
            "adapter": self.adapter or None,
            "agreement": self._agreement(),
            "purpose": self.purpose or None,
            "officer": self.officer,
            "dossier": self.dossier,
            "procedure": self.procedure,
            "trace": self.trace,
            "code": self.code,
            "failure_class": self.failure_class,
            "provider_code": self.provider_code,
            "status": self.status,
            "request_bytes": self.request_bytes,
            "reply_bytes": self.reply_bytes,
            "duration_ms": None if self.duration_us is None else self.duration_us / 1000,
            "sandbox": self.sandbox,
        }


COLUMNS: Final = tuple(field.name for field in fields(TransactionRow))


def row_of(record: asyncpg.Record) -> TransactionRow:
    """The row in a record that holds at least COLUMNS."""
    return TransactionRow(str(record["tx"]), *(record[name] for name in COLUMNS[1:]))


SELECTED: Final = ", ".join(f"t.{name}" for name in COLUMNS)
"""Select list for `transactions t` that `row_of` reads."""

STATES_SQL: Final = "ARRAY['" + "', '".join(STATES) + "']"
RANKS_SQL: Final = "ARRAY[0, 1, 2, 2, 2, 2, 2, 3]"
_PATH: Final = f"^({MEMBER_CODE.pattern})/({SERVICE_NAME.pattern})/({VERSION_NAME.pattern})$"

FOLDING: Final = f"""
parts AS (
    SELECT xid, seq, at, tx, kind, kind = 1 OR b ? 'asked' AS opens, b->'grant' AS g, b->'call' AS c, b->'asked' AS a,
           b->>'gateway' AS gateway, (b->>'epoch')::int AS epoch, (b->'request'->>'bytes')::int AS request_bytes,
           b->'outcome' AS o, (b->'reply'->>'bytes')::int AS reply_bytes
    FROM batch WHERE kind BETWEEN 1 AND 8
), folded AS MATERIALIZED (
    SELECT *, regexp_match(a->>'service', '{_PATH}') AS path, bool_or(opens) OVER (PARTITION BY tx) AS opened,
           row_number() OVER best AS standing, first_value(kind) OVER best AS last_kind,
           first_value(at) OVER best AS last_at, first_value(o) OVER best AS outcome,
           first_value(reply_bytes) OVER best AS last_bytes
    FROM parts WINDOW best AS (PARTITION BY tx ORDER BY ({RANKS_SQL})[kind] DESC, xid, seq)
)"""  # noqa: S608  # constants only
"""CTEs over `batch(xid, seq, at, tx, kind, b)`, b being the entry's body as jsonb.

Each row of `folded` is an entry (`opens`: the first of its transaction) with what its transaction has come to.
"""

_DURATION: Final = "greatest(0, extract(epoch FROM f.last_at - {begun}) * 1000000)::bigint"
_REACHED: Final = {
    "state": f"({STATES_SQL})[f.last_kind]",
    "ended_at": "CASE WHEN f.last_kind > 2 THEN f.last_at END",
    "code": "f.outcome->>'code'",
    "failure_class": "f.outcome->>'class'",
    "provider_code": "f.outcome->>'provider_code'",
    "status": "(f.outcome->>'status')::smallint",
    "reply_bytes": "f.last_bytes",
    "duration_us": f"CASE WHEN f.last_kind > 2 THEN {_DURATION} END",
}
"""What a later entry changes: column → its value from `folded f`; `{begun}` is the moment of acceptance."""


def _if_accepted(accepted: str, refused: str) -> str:
    return f"CASE f.kind WHEN 1 THEN {accepted} ELSE {refused} END"


_VALUES: Final = {
    "tx": "f.tx",
    "accepted_at": "f.at",
    "mode": _if_accepted("g->>'mode'", "'query'"),
    "client": "c->>'client'",
    "consumer": _if_accepted("g->>'consumer'", "coalesce(c->>'member', '')"),
    "provider": _if_accepted("g->>'provider'", "coalesce(path[1], '')"),
    "service": _if_accepted("g->>'service'", "coalesce(path[2], '')"),
    "version": _if_accepted("g->>'version'", "coalesce(path[3], '')"),
    "adapter": _if_accepted("g->>'adapter'", "''"),
    "agreement": _if_accepted("g->>'agreement'", "coalesce(a->>'agreement', '')"),
    "agreement_version": _if_accepted("(g->>'agreement_version')::int", "0"),
    "purpose": _if_accepted("g->>'purpose'", "coalesce(a->>'purpose', '')"),
    **{name: f"c->>'{name}'" for name in ("officer", "dossier", "procedure", "trace")},
    **{name: f"f.{name}" for name in ("gateway", "epoch", "request_bytes")},
    **{name: value.format(begun="f.at") for name, value in _REACHED.items()},
    "sandbox": "coalesce(c ? 'sandbox', false)",
}

FOLDED: Final = ", ".join(f"{_VALUES[name]} AS {name}" for name in COLUMNS)
"""Select list over the rows `f` of `folded` that open a transaction: COLUMNS."""
REACHED: Final = ", ".join(f"{name} = {value.format(begun='t.accepted_at')}" for name, value in _REACHED.items())
"""What `UPDATE transactions t SET` is to do with a row `f` of `folded` whose `standing` is 1."""
ADVANCES: Final = f"({RANKS_SQL})[array_position({STATES_SQL}, t.state)] < ({RANKS_SQL})[f.last_kind]"
"""True where `f` is further on than the row `t`."""
