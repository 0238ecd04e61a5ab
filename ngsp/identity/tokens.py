"""Access tokens (RFC 9068): issued by any gateway, checked by every gateway, on the path of every request.

A token is a JWT signed with ES256, of type `at+jwt`, with the claims `iss`, `sub` and `client_id` (the client), `aud`
(the issuer), `iat`, `exp`, `jti`, `scope`, `member`, and `cred`: which of the client's credentials it was issued for.

What a signature check proved about a token never changes and is kept, by the token's SHA-256; whether the client, its
member, the credential, the scopes and the signing key are still good is looked up each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from joserfc import jwt
from sqlalchemy import delete, func
from sqlalchemy.ext.asyncio import AsyncEngine

from ngsp.config import Settings
from ngsp.errors import Unauthenticated
from ngsp.identity.credentials import ClientAuthenticator, credential_of_key, credential_of_secret
from ngsp.identity.jose import NotAToken, read_compact
from ngsp.identity.keys import LONGEST_TOKEN_S, Keyring, SigningKey
from ngsp.identity.model import Caller
from ngsp.identity.tables import DATABASE_LOST, used_assertions
from ngsp.registry.model import SCOPES, Client, Member, Snapshot
from ngsp.vault import Vault
from ngsp.vntime import midnight

logger = structlog.get_logger(__name__)

LONGEST_TOKEN_BYTES = 4_096
SKEW_S = 30
"""How far in the future a token's `iat` may lie: the clocks of two gateways."""
MOST_CACHED = 20_000
UPKEEP_S = 60.0

TYPE = "at+jwt"
_HEADER = frozenset(("alg", "typ", "kid"))
_CLAIMS = frozenset(("iss", "sub", "client_id", "aud", "iat", "exp", "jti", "scope", "member", "cred"))
_TEXT_CLAIMS = _CLAIMS - {"iat", "exp"}

_sha256 = hashlib.sha256


class UnknownKey(Unauthenticated):
    """The token names a key that this gateway does not know (yet): `authenticate_fresh` looks once."""

    def __init__(self, kid: str) -> None:
        super().__init__(reason="unknown kid")
        self.kid = kid


@dataclass(frozen=True, slots=True)
class Issued:
    """`expires_in_s` from now; `scope` as it is written in the token, separated by spaces."""

    access_token: str
    expires_in_s: int
    scope: str


class _Known:
    """A token whose signature and claims were found good, and what the registry said of it last."""

    __slots__ = ("caller", "client", "client_id", "cred", "exp_s", "from_s", "iat_s", "key", "kid", "member",
                 "member_code", "scopes", "until_s")  # fmt: skip

    def __init__(self, claims: dict[str, Any], kid: str) -> None:
        self.kid = kid
        self.client_id: str = claims["client_id"]
        self.member_code: str = claims["member"]
        self.cred: str = claims["cred"]
        self.scopes = frozenset(claims["scope"].split())
        self.iat_s: int = claims["iat"]
        self.exp_s: int = claims["exp"]
        # Objects of the snapshot and the keyring that the three fields after them were computed from.
        self.client: Client | None = None
        self.member: Member | None = None
        self.key: SigningKey | None = None
        self.caller: Caller | None = None
        self.from_s = 0.0
        self.until_s = 0.0


class Tokens:
    """Issues and checks access tokens. One for each gateway process; `start` before use, `stop` at the end."""

    def __init__(self, settings: Settings, engine: AsyncEngine, vault: Vault) -> None:
        self.issuer = settings.issuer
        self.clients = ClientAuthenticator(engine, settings.issuer, lambda key: vault.comparison_digests(key)[0])
        self.keys = Keyring(engine, vault, key_days=settings.signing_key_days)
        self._ttl_s = settings.token_ttl_s
        self._poll_s = settings.registry_poll_s
        self._engine = engine
        self._cache: OrderedDict[bytes, _Known] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns once a key signs. The database's error, or `ConfigurationError`, where there is none to be had."""
        await self.keys.open()
        self._task = asyncio.create_task(self._run(), name="signing-keys")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def holder(self, authorization: bytes) -> str:
        """The client of a token seen before, empty where it is not known here: to admit fairly, never to trust."""
        if len(authorization) > LONGEST_TOKEN_BYTES + 7:
            return ""
        known = self._cache.get(_sha256(authorization[7:]).digest())
        return known.client_id if known is not None else ""

    def authenticate(self, authorization: str | bytes | None, snapshot: Snapshot, now_s: float) -> Caller:
        """The caller whose token the `Authorization` header carries. Raises `Unauthenticated`; never waits.

        `now_s`: Unix time. A token seen before costs about two microseconds. `UnknownKey`, a kind of
        `Unauthenticated`, means that `authenticate_fresh` may still find the key.
        """
        token = _bearer(authorization)
        digest = _sha256(token).digest()
        known = self._cache.get(digest)
        if known is None:
            known = self._verify(token, now_s)
            self._cache[digest] = known
            if len(self._cache) > MOST_CACHED:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(digest)
        key = self.keys.get(known.kid)
        client = snapshot.clients.get(known.client_id)
        if (
            client is not known.client
            or key is not known.key
            or snapshot.members.get(known.member_code) is not known.member
            or known.caller is None
        ):
            _bind(known, key, client, snapshot.members.get(known.member_code))
        if now_s >= known.until_s or now_s < known.from_s:
            raise Unauthenticated(reason=_why_not_now(known, now_s))
        caller = known.caller
        assert caller is not None
        return caller

    async def authenticate_fresh(self, authorization: str | bytes | None, snapshot: Snapshot, now_s: float) -> Caller:
        """The same, and reads the keys again, once, where the token names one that is not known here."""
        try:
            return self.authenticate(authorization, snapshot, now_s)
        except UnknownKey as unknown:
            if not await self._found(unknown.kid):
                raise
        return self.authenticate(authorization, snapshot, now_s)

    async def _found(self, kid: str) -> bool:
        try:
            return await self.keys.reload_for(kid)
        except DATABASE_LOST as error:
            logger.warning("signing_keys.not_read", error=type(error).__name__)
            return False

    def issue(self, client: Client, scopes: frozenset[str], cred: str, now_s: float) -> Issued:
        """A token for `client`, which proved itself by the credential `cred`, with no more scopes than it has.

        `RegistryStale` (503) where no key signs: the database has been away for longer than a key's life.
        """
        key, private = self.keys.signer(now_s)
        iat = _issued_at(client, now_s)
        scope = " ".join(name for name in SCOPES if name in scopes & client.scopes)
        claims = {
            "iss": self.issuer,
            "sub": client.id,
            "client_id": client.id,
            "aud": self.issuer,
            "iat": iat,
            "exp": iat + self._ttl_s,
            "jti": str(uuid.uuid4()),
            "scope": scope,
            "member": client.member,
            "cred": cred,
        }
        header = {"alg": "ES256", "typ": TYPE, "kid": key.kid}
        token = jwt.encode(header, claims, private, algorithms=["ES256"], default_type=None)
        return Issued(token, self._ttl_s, scope)

    def _verify(self, token: bytes, now_s: float) -> _Known:
        """Structure, then key, then signature, then claims: what is cheap comes first."""
        try:
            compact = read_compact(token, members=_HEADER, longest=LONGEST_TOKEN_BYTES)
            header = compact.header
            if header.get("alg") != "ES256" or header.get("typ") != TYPE:
                raise NotAToken("wrong alg or typ")
            kid = header.get("kid")
            if kid is None:
                raise NotAToken("no kid")
            key = self.keys.get(kid)
            if key is None:
                raise UnknownKey(kid)
            if not key.verifies(now_s):
                raise NotAToken("key retired")
            if not compact.is_signed_by(key.public, "ES256"):
                raise NotAToken("bad signature")
            return _Known(self._check_claims(compact.claims()), kid)
        except NotAToken as error:
            raise Unauthenticated(reason=f"token: {error}") from None

    def _check_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        if not claims.keys() >= _CLAIMS:
            raise NotAToken("claims missing")
        iat, exp = claims["iat"], claims["exp"]
        if type(iat) is not int or type(exp) is not int or not 0 < exp - iat <= LONGEST_TOKEN_S:
            raise NotAToken("iat or exp out of bounds")
        if not all(isinstance(claims[name], str) for name in _TEXT_CLAIMS):
            raise NotAToken("a claim is not text")
        if claims["iss"] != self.issuer or claims["aud"] != self.issuer:
            raise NotAToken("another issuer or audience")
        if claims["sub"] != claims["client_id"]:
            raise NotAToken("sub is not the client")
        return claims

    async def _run(self) -> None:
        """Keeps the keys fresh, rotates them by age, forgets assertions that have expired."""
        upkeep_at_s = time.monotonic()
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                await self.keys.reload()
                if time.monotonic() >= upkeep_at_s:
                    upkeep_at_s = time.monotonic() + UPKEEP_S
                    await self.upkeep()
            except DATABASE_LOST as error:
                # What is known stays in use; a stale registry stops the calls before long.
                logger.warning("signing_keys.not_read", error=type(error).__name__)
            except Exception as error:  # noqa: BLE001 - a defect of ours must not end the rotation for good
                logger.error("signing_keys.defect", error=type(error).__name__)

    async def upkeep(self) -> None:
        """Rotates where it is due, and deletes used assertions that no check would accept any more."""
        if self.keys.is_due(time.time()):
            await self.keys.rotate("if-due")
        async with self._engine.begin() as connection:
            gone = used_assertions.c.expires_at < func.now()
            await connection.execute(delete(used_assertions).where(gone))


def _bearer(authorization: str | bytes | None) -> bytes:
    """The token in the header's value (RFC 6750 §2.1; the scheme's name in any case)."""
    if authorization is None:
        raise Unauthenticated(reason="no Authorization header")
    if len(authorization) > LONGEST_TOKEN_BYTES + 7:
        raise Unauthenticated(reason="token: oversize")
    if isinstance(authorization, str):
        authorization = authorization.encode("utf-8", "replace")
    if authorization[:7] != b"Bearer " and authorization[:7].lower() != b"bearer ":
        raise Unauthenticated(reason="not a bearer token")
    return authorization[7:]


def _issued_at(client: Client, now_s: float) -> int:
    """Whole seconds; never before `tokens_valid_from`, so that a token of the same second as a revocation is good."""
    iat = math.floor(now_s)
    if client.tokens_valid_from is not None:
        earliest_s = client.tokens_valid_from.timestamp()
        if iat < earliest_s <= now_s:
            iat = math.ceil(earliest_s)
    return iat


def _bind(known: _Known, key: SigningKey | None, client: Client | None, member: Member | None) -> None:
    """Computes the caller and the span of time in which the token is good, from the registry as it is now."""
    known.caller = known.client = known.member = known.key = None
    if key is None:
        raise Unauthenticated(reason="token: signing key withdrawn")
    if client is None or not client.active:
        raise Unauthenticated(reason="token: client unknown or not active")
    if client.member != known.member_code or member is None:
        raise Unauthenticated(reason="token: member unknown or another")
    if client.tokens_valid_from is not None and known.iat_s < client.tokens_valid_from.timestamp():
        raise Unauthenticated(reason="token: issued before a revocation")
    known.from_s, known.until_s = float(known.iat_s - SKEW_S), float(known.exp_s)
    _narrow(known, None, _moment(key.verifies_until_s))
    _narrow(known, midnight(member.valid_from), midnight(member.valid_to) if member.valid_to else None)
    if known.cred.startswith("key:"):
        own = next((own for own in client.keys if known.cred == credential_of_key(own.kid)), None)
        if own is None:
            raise Unauthenticated(reason="token: the client's key was withdrawn")
        _narrow(known, own.valid_from, own.valid_to)
    elif not client.secret_hash or known.cred != credential_of_secret(client.secret_hash):
        raise Unauthenticated(reason="token: the client's secret was changed")
    known.client, known.member, known.key = client, member, key
    known.caller = Caller(client, known.scopes & client.scopes)


def _narrow(known: _Known, start: datetime | None, end: datetime | None) -> None:
    if start is not None:
        known.from_s = max(known.from_s, start.timestamp())
    if end is not None:
        known.until_s = min(known.until_s, end.timestamp())


def _moment(at_s: float | None) -> datetime | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC)


def _why_not_now(known: _Known, now_s: float) -> str:
    if now_s >= known.exp_s:
        return "token: expired"
    if now_s < known.iat_s - SKEW_S:
        return "token: issued in the future"
    return "token: client's key, member or signing key not in force"
