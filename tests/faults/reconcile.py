"""Holds what the clients were told against the log and against what the provider did: nothing lost, nothing doubled.

Answers prove nothing here. What counts is the provider's own table, the file of notices, and the entries of the log.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ngsp.transactions import entry
from tests.faults.load import Told
from tests.support.installation import Installation

MOST_SHOWN = 20
TERMINAL = sorted(entry.TERMINAL)

OPEN = f"""
SELECT count(*) FROM entries a WHERE a.kind = {entry.ACCEPTED}
AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.tx = a.tx AND e.kind = ANY(ARRAY{TERMINAL}::smallint[]))"""
"""Transactions accepted and not ended: what is in flight."""

_ENTRIES = """
SELECT tx::text AS tx, array_agg(kind::int ORDER BY xid, seq) AS kinds,
       max(CASE WHEN kind = 1 THEN convert_from(body, 'UTF8')::jsonb->'grant'->>'service' END) AS service
FROM entries GROUP BY tx"""


@dataclass(slots=True)
class Account:
    """What was found. `faults` is empty where everything holds."""

    transactions: int = 0
    acknowledged: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    effects: int = 0
    resolved: int = 0
    repeated: int = 0
    faults: list[str] = field(default_factory=list)

    def fault(self, what: str) -> None:
        if len(self.faults) < MOST_SHOWN:
            self.faults.append(what)


async def open_work(installation: Installation) -> int:
    """Transactions in flight now. OSError or asyncpg's errors where the database does not answer."""
    return int(await installation.value(OPEN))


async def reconcile(installation: Installation, told: Told, ledger_url: str, notices: Path) -> Account:
    """To be called when nothing is in flight and every part runs."""
    account = Account()
    log = {row["tx"]: row for row in await installation.rows(_ENTRIES)}
    ledger = Counter([row["tx"] for row in await installation.rows("SELECT tx FROM ledger", url=ledger_url)])
    lines = await asyncio.to_thread(notices.read_text, "ascii") if notices.exists() else ""
    sent = Counter(lines.split())
    for tx, row in log.items():
        _check_entries(account, tx, row["kinds"])
        if row["service"] == "post-entry":
            _check_ledger(account, tx, row["kinds"], ledger[tx])
        elif row["service"] == "send-notice":
            _check_notices(account, tx, row["kinds"], sent[tx])
    for tx in (ledger.keys() | sent.keys()) - log.keys():
        account.fault(f"{tx}: an effect of a transaction that the log does not know")
    account.effects = ledger.total() + sent.total()
    _check_told(account, told, {tx: row["kinds"] for tx, row in log.items()})
    await _check_database(account, installation)
    return account


def _check_entries(account: Account, tx: str, kinds: list[int]) -> None:
    counts = Counter(kinds)
    ends = [kind for kind in kinds if kind in entry.TERMINAL]
    if counts[entry.ACCEPTED]:
        account.transactions += 1
        account.outcomes.update(entry.KINDS[kind] for kind in ends)
    account.resolved += counts[entry.RESOLVED]
    account.repeated += counts[entry.REPEATED]
    names = [entry.KINDS.get(kind, str(kind)) for kind in kinds]
    if len(ends) != 1:
        account.fault(f"{tx}: {len(ends)} terminal entries: {names}")
    if counts[entry.ACCEPTED] > 1 or (not counts[entry.ACCEPTED] and kinds != [entry.REFUSED]):
        account.fault(f"{tx}: not one acceptance: {names}")
    if counts[entry.ACCEPTED] and kinds[0] != entry.ACCEPTED:
        account.fault(f"{tx}: the acceptance is not first: {names}")
    if any(counts[kind] > 1 for kind in (entry.DELIVERED, entry.RESOLVED, entry.REPEATED)):
        account.fault(f"{tx}: recorded twice: {names}")
    if counts[entry.RESOLVED] and not counts[entry.UNKNOWN]:
        account.fault(f"{tx}: resolved but never unknown: {names}")


def _check_ledger(account: Account, tx: str, kinds: list[int], rows: int) -> None:
    if rows > 1:
        account.fault(f"{tx}: {rows} rows in the ledger")
    if entry.SUCCEEDED in kinds and rows != 1:
        account.fault(f"{tx}: succeeded with {rows} rows in the ledger")
    if rows and not {entry.SUCCEEDED, entry.UNKNOWN} & set(kinds):
        account.fault(f"{tx}: a row in the ledger, but {[entry.KINDS[kind] for kind in kinds]}")


def _check_notices(account: Account, tx: str, kinds: list[int], lines: int) -> None:
    if lines > 1:
        account.fault(f"{tx}: {lines} notices")
    if entry.SUCCEEDED in kinds and lines != 1:
        account.fault(f"{tx}: succeeded with {lines} notices")
    if lines and not {entry.SUCCEEDED, entry.UNKNOWN} & set(kinds):
        account.fault(f"{tx}: a notice was sent, but {[entry.KINDS[kind] for kind in kinds]}")


def _check_told(account: Account, told: Told, log: dict[str, list[int]]) -> None:
    account.acknowledged = len(told.acknowledged)
    for answer in told.unplanned:
        account.fault(f"an answer that no fault explains: {answer}")
    for submission in told.submissions:
        if not submission.transactions:
            account.fault(f"{submission.key}: never acknowledged in {submission.attempts} attempts")
        if len(submission.transactions) > 1:
            account.fault(f"{submission.key}: acknowledged as {sorted(submission.transactions)}")
        for tx in submission.transactions:
            kinds = log.get(tx, [])
            if entry.ACCEPTED not in kinds:
                account.fault(f"{submission.key}: acknowledged as {tx}, of which the log has {kinds}")
            if submission.body["rule"] == "refuse" and entry.SUCCEEDED in kinds:
                account.fault(f"{submission.key}: refused by the rules, but {tx} succeeded")
    for tx, status in told.queries.items():
        kinds = log.get(tx, [])
        if status == 200 and entry.SUCCEEDED not in kinds:
            account.fault(f"{tx}: a query answered with 200, but the log has {kinds}")


async def _check_database(account: Account, installation: Installation) -> None:
    """What stands beside the log agrees with it."""
    for what, statement in {
        "submissions whose outbox row is not closed": "SELECT count(*) FROM outbox WHERE state <> 'closed'",
        "closed submissions that keep their body": "SELECT count(*) FROM outbox WHERE length(body) > 0",
        "closed submissions without a stored outcome": """
            SELECT count(*) FROM outbox o WHERE NOT EXISTS (SELECT 1 FROM replies r WHERE r.tx = o.tx)""",
        "messages in quarantine": "SELECT count(*) FROM quarantine",
        "transactions whose projected state is not the log's": """
            SELECT count(*) FROM transactions t WHERE NOT EXISTS (
                SELECT 1 FROM entries e WHERE e.tx = t.tx AND t.state = (ARRAY['accepted', 'delivered', 'succeeded',
                    'refused', 'failed', 'expired', 'unknown', 'resolved'])[e.kind])""",
        "transactions that are projected as open": """
            SELECT count(*) FROM transactions WHERE state IN ('accepted', 'delivered')""",
    }.items():
        if found := await installation.value(statement):
            account.fault(f"{found} {what}")
