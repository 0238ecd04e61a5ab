"""What a repeat under an idempotency key is answered: the stored outcome, byte for byte."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from ngsp.conclusion import no_answer
from ngsp.errors import (
    IdempotencyMismatch,
    KeyExpired,
    KeyInFlight,
    LogUnavailable,
    NgspError,
    NoAnswer,
    ReplyErased,
)
from ngsp.registry.model import Service
from ngsp.transactions import entry
from ngsp.transactions.extras import KeyName
from ngsp.transactions.gateways import DATABASE_TROUBLE
from ngsp.transactions.log import REPLY_AAD, error_of
from ngsp.transactions.work import Transaction
from ngsp.vault import Vault, VaultError

_FIND = """
SELECT k.key, k.digest, k.tx::text AS tx, k.mode, k.expires_at,
       r.tx IS NOT NULL AS stored, r.code, r.provider_code, r.body, r.expires_at AS reply_until, a.wrapped,
       EXISTS (SELECT 1 FROM entries e WHERE e.tx = k.tx AND e.at >= k.at AND e.kind BETWEEN 3 AND 8) AS ended
FROM idempotency_keys k LEFT JOIN replies r USING (tx)
LEFT JOIN entries a ON a.tx = k.tx AND a.kind = 1 AND a.at = k.at WHERE k.client = $1 AND k.key = ANY($2::bytea[])
ORDER BY k.at LIMIT 1"""

_DIGESTS = "SELECT key, digest FROM idempotency_keys WHERE client = $1 AND key = ANY($2::bytea[])"


@dataclass(frozen=True, slots=True)
class Found:
    """The earlier transaction's answer: 200 with the stored bytes, or 202 where it is still under way."""

    status: int
    transaction: str
    body: bytes = b""


class Repeats:
    """Looks earlier transactions up by client and key."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault) -> None:
        self._pool, self._vault = pool, vault

    async def known(self, transaction: Transaction, names: Sequence[KeyName]) -> bool:
        """Whether an earlier transaction holds the key. LogUnavailable (503) where the database cannot say."""
        return await self._find(transaction, names) is not None

    async def mismatched(self, holder: str, names: Sequence[Sequence[KeyName]]) -> list[int]:
        """Which of the keys that `names` stand for, all of `holder`, were used for something else, here among
        themselves or before; by index. LogUnavailable (503) where the database cannot say."""
        known: dict[bytes, bytes] = {}
        keys = [name.key for several in names for name in several]
        try:
            for row in await self._pool.fetch(_DIGESTS, holder, keys):
                known[row["key"]] = row["digest"]
        except DATABASE_TROUBLE as error:
            raise LogUnavailable(retry_after_s=2, reason=type(error).__name__) from error
        differs = [
            any(not hmac.compare_digest(known.setdefault(name.key, name.digest), name.digest) for name in several)
            for several in names
        ]
        return [index for index, found in enumerate(differs) if found]

    async def answer(self, transaction: Transaction, names: Sequence[KeyName]) -> Found:
        """The answer to a repeat of the request behind `transaction`'s key, which `names` stand for.

        Raises IdempotencyMismatch (422), KeyInFlight (409), KeyExpired or ReplyErased (410), or the stored error,
        each with the earlier transaction's id as `transaction`.
        """
        row = await self._find(transaction, names)
        if row is None:
            raise KeyInFlight(retry_after_s=1, reason="the key's holder is not committed yet")
        digests = {name.key: name.digest for name in names}
        if not hmac.compare_digest(row["digest"], digests[row["key"]]):
            raise IdempotencyMismatch
        now = entry.now()
        if now >= row["expires_at"]:
            raise _of(KeyExpired(), row["tx"])
        if not row["ended"]:
            if row["mode"] == "submission":
                return Found(202, row["tx"])
            raise _of(KeyInFlight(retry_after_s=1), row["tx"])
        if not row["stored"]:  # its retention has ended before the key's
            raise _of(ReplyErased(), row["tx"])
        if row["code"]:
            raise _of(_again(row["code"], row["provider_code"], transaction.grant.service), row["tx"])
        if row["body"] is None or row["wrapped"] is None or now >= row["reply_until"]:
            raise _of(ReplyErased(), row["tx"])
        try:
            body = self._vault.unwrap(row["wrapped"], row["tx"]).open(row["body"], REPLY_AAD)
        except VaultError as error:
            raise _of(ReplyErased(reason=str(error)), row["tx"]) from error
        return Found(200, row["tx"], body)

    async def _find(self, transaction: Transaction, names: Sequence[KeyName]) -> asyncpg.Record | None:
        try:
            return await self._pool.fetchrow(_FIND, transaction.key_holder, [name.key for name in names])
        except DATABASE_TROUBLE as error:
            raise LogUnavailable(retry_after_s=2, reason=type(error).__name__) from error


def _again(code: str, provider_code: str, service: Service) -> NgspError:
    """The stored error as it was told first."""
    again = error_of(code, provider_code)
    return (no_answer(service).error or again) if code == NoAnswer.code else again


def _of(error: NgspError, transaction: str) -> NgspError:
    """Marks the error with the transaction whose outcome it is, so that the answer names that one."""
    error.transaction = transaction
    return error
