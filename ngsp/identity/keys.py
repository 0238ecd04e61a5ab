"""The keys that sign access tokens: made, published, rotated and retired in PostgreSQL, shared by all gateways.

A key's life: *published* in the JWKS from its making; it *signs* `PUBLISH_AHEAD_S` later (the very first at once), so
that every gateway and every cache of the JWKS has it by then; when the next one signs it only *verifies*, until the
last token it can have signed has expired. All moments are the database's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import orjson
import structlog
from joserfc.jwk import ECKey
from sqlalchemy import delete, func, insert, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ngsp.database import ConfigurationError
from ngsp.errors import RegistryStale
from ngsp.identity.tables import signing_keys
from ngsp.text import Text
from ngsp.vault import Vault, VaultError

logger = structlog.get_logger(__name__)

PUBLISH_AHEAD_S = 300
"""How long a new key stands in the JWKS before it signs."""
LONGEST_TOKEN_S = 3_600
"""The bound of `token_ttl_s`; a retired key verifies so long, whatever each gateway's setting is."""
CLOCK_MARGIN_S = 60
"""How far the clocks of gateways may be apart."""
KEEP_RETIRED_S = 86_400
RELOAD_PAUSE_S = 1.0
"""Between two reloads for unknown kids: a flood of invented ones costs one read a second."""

_ROTATION_LOCK = 0x6E67_7370_6B65_7973


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key, its public half ready to verify. Moments in Unix seconds; None: not yet fixed."""

    kid: str
    public_jwk: dict[str, str]
    public: ECKey
    created_at_s: float
    signs_from_s: float
    signs_until_s: float | None
    verifies_until_s: float | None

    def verifies(self, now_s: float) -> bool:
        return self.verifies_until_s is None or now_s < self.verifies_until_s

    def signs(self, now_s: float) -> bool:
        return self.signs_from_s <= now_s and (self.signs_until_s is None or now_s < self.signs_until_s)

    def published(self) -> dict[str, str]:
        """Its entry in the JWKS (RFC 7517 §5)."""
        return {**self.public_jwk, "kid": self.kid, "use": "sig", "alg": "ES256"}


class Keyring:
    """What one gateway knows of the signing keys. `key_days`: the age at which a new key takes over."""

    def __init__(self, engine: AsyncEngine, vault: Vault, *, key_days: int) -> None:
        self._engine = engine
        self._vault = vault
        self._key_age_s = key_days * 86_400
        self._keys: dict[str, SigningKey] = {}
        self._private: dict[str, ECKey] = {}
        self._reloading = asyncio.Lock()
        self._reloaded_s = float("-inf")

    def get(self, kid: str) -> SigningKey | None:
        return self._keys.get(kid)

    def signer(self, now_s: float) -> tuple[SigningKey, ECKey]:
        """The newest key that signs now, with its private half. `RegistryStale` (503) where there is none."""
        signing = [key for key in self._keys.values() if key.signs(now_s) and key.kid in self._private]
        if not signing:
            raise RegistryStale(reason="no key signs now")
        key = max(signing, key=lambda candidate: candidate.signs_from_s)
        return key, self._private[key.kid]

    def jwks(self, now_s: float) -> dict[str, Any]:
        """RFC 7517 §5: every key that verifies or will, oldest first."""
        keys = sorted((key for key in self._keys.values() if key.verifies(now_s)), key=lambda key: key.signs_from_s)
        return {"keys": [key.published() for key in keys]}

    async def open(self) -> None:
        """Makes the first key where there is none, and reads all. `ConfigurationError` where the KEK is another."""
        await self.rotate("if-due")
        if not any(key.kid in self._private for key in self._keys.values()):
            raise ConfigurationError(
                Text(
                    "Khóa ký mã truy cập trong cơ sở dữ liệu không mở được bằng khóa mã hóa khóa (KEK) hiện có. "
                    "Hãy kiểm tra NGSP_KEK_FILE.",
                    "The keys that sign access tokens do not open with the key-encryption key given. "
                    "Check NGSP_KEK_FILE.",
                )
            )

    async def reload(self) -> None:
        """Reads the keys again. The database's error where it cannot; what was known stays."""
        async with self._engine.connect() as connection:
            self._take(await _rows(connection))

    async def reload_for(self, kid: str) -> bool:
        """Whether `kid` is known after at most one read, which unknown kids cause at most once a second."""
        async with self._reloading:
            if kid not in self._keys and time.monotonic() - self._reloaded_s >= RELOAD_PAUSE_S:
                self._reloaded_s = time.monotonic()
                await self.reload()
        return kid in self._keys

    async def rotate(self, how: Literal["if-due", "planned", "at-once"]) -> str | None:
        """Makes the next key and returns its kid; None where nothing was due. Safe from several gateways at once.

        `if-due`: where there is no key, or the newest is old enough. `planned`: it signs in `PUBLISH_AHEAD_S`.
        `at-once`: a key is feared lost; the new one signs now and every token of the others is refused from now on.
        """
        async with self._engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ROTATION_LOCK})
            now = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
            rows = await _rows(connection)
            kid = await self._next(connection, rows, now, how)
            retired = now - timedelta(seconds=KEEP_RETIRED_S)
            await connection.execute(delete(signing_keys).where(signing_keys.c.verifies_until < retired))
            rows = await _rows(connection)
        self._take(rows)
        if kid is not None:
            logger.info("signing_key.made", kid=kid, how=how)
        return kid

    async def _next(self, connection: AsyncConnection, rows: Sequence[Any], now: datetime, how: str) -> str | None:
        newest = max(rows, key=lambda row: row.signs_from, default=None)
        usable = newest is not None and (newest.verifies_until is None or newest.verifies_until > now)
        if how == "if-due" and newest is not None and usable:
            age_s = (now - newest.signs_from).total_seconds()
            if age_s < self._key_age_s - PUBLISH_AHEAD_S:
                return None
        if how == "planned" and newest is not None and newest.signs_from > now:
            # The next key is on its way already: a second one would only take its place before it ever signed.
            return None
        # A key that must sign at once does so on a gateway whose clock is behind the database's, too.
        ahead_s = -CLOCK_MARGIN_S if how == "at-once" or not usable else PUBLISH_AHEAD_S
        signs_from = now + timedelta(seconds=ahead_s)
        verify_s = 0 if how == "at-once" else LONGEST_TOKEN_S + CLOCK_MARGIN_S
        verifies_until = signs_from + timedelta(seconds=verify_s)
        await connection.execute(
            update(signing_keys)
            .where(or_(signing_keys.c.verifies_until.is_(None), signing_keys.c.verifies_until > verifies_until))
            .values(signs_until=signs_from, verifies_until=verifies_until)
        )
        key = ECKey.generate_key("P-256")
        kid, public, private = key.thumbprint(), key.as_dict(private=False), key.as_dict(private=True)
        await connection.execute(
            insert(signing_keys).values(
                kid=kid,
                public_jwk={name: public[name] for name in ("kty", "crv", "x", "y")},
                private_sealed=self._vault.seal_secret(_secret_name(kid), orjson.dumps(private)),
                created_at=now,
                signs_from=signs_from,
            )
        )
        return kid

    def is_due(self, now_s: float) -> bool:
        """Whether `rotate("if-due")` would have work, as far as this gateway knows."""
        newest_s = max((key.signs_from_s for key in self._keys.values()), default=float("-inf"))
        return now_s - newest_s >= self._key_age_s - PUBLISH_AHEAD_S

    def _take(self, rows: Sequence[Any]) -> None:
        keys: dict[str, SigningKey] = {}
        private: dict[str, ECKey] = {}
        for row in rows:
            known = self._keys.get(row.kid)
            public = known.public if known is not None else ECKey.import_key(row.public_jwk)
            key = SigningKey(
                row.kid,
                row.public_jwk,
                public,
                row.created_at.timestamp(),
                row.signs_from.timestamp(),
                row.signs_until and row.signs_until.timestamp(),
                row.verifies_until and row.verifies_until.timestamp(),
            )
            # The same object while nothing changed: cached tokens are bound to it.
            keys[row.kid] = known if known == key else key
            opened = self._private.get(row.kid) or self._open_private(row.kid, row.private_sealed)
            if opened is not None:
                private[row.kid] = opened
        self._keys, self._private = keys, private

    def _open_private(self, kid: str, sealed: bytes) -> ECKey | None:
        try:
            return ECKey.import_key(orjson.loads(self._vault.open_secret(_secret_name(kid), sealed)))
        except VaultError as error:
            logger.error("signing_key.does_not_open", kid=kid, error=str(error))
            return None


def _secret_name(kid: str) -> str:
    return f"signing-key:{kid}"


async def _rows(connection: AsyncConnection) -> Sequence[Any]:
    return (await connection.execute(select(signing_keys))).all()
