"""A client proves itself to the token endpoint: by its secret, or by an assertion that its key signed.

`client_secret_basic` (RFC 6749 §2.3.1) and `private_key_jwt` (RFC 7523). An assertion is signed with ES256 or EdDSA as
its key's record says, its `iss` and `sub` are the client, its `aud` is the issuer as one string (RFC 7523bis; neither
a list nor the address of the token endpoint), it lives at most five minutes, and its `jti` is good once.

A client that does not exist, is not active or has no such credential costs what a wrong one costs, and hears the same.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, TypeGuard
from urllib.parse import unquote_plus

from joserfc.jwk import ECKey, OKPKey
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from ngsp.errors import RegistryStale
from ngsp.identity.attempts import Attempts
from ngsp.identity.jose import Algorithm, Compact, NotAToken, read_compact, verify_key
from ngsp.identity.secrets import verify_secret
from ngsp.identity.tables import DATABASE_LOST, used_assertions
from ngsp.registry.model import Client, ClientKey, Snapshot
from ngsp.vntime import day_of

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST_ASSERTION_BYTES = 4_096
LONGEST_ASSERTION_LIFE_S = 300
LONGEST_JTI_CHARS = 128
LONGEST_BASIC_CHARS = 2_048
SKEW_S = 30
"""How far a client's clock may be off, either way."""

_HEADER = frozenset(("alg", "typ", "kid"))
_TYPES = frozenset((None, "JWT", "client-authentication+jwt"))
# RFC 9864 gives EdDSA over Ed25519 a name of its own; clients use either.
_ALGORITHMS: dict[str | None, Algorithm] = {"ES256": "ES256", "EdDSA": "EdDSA", "Ed25519": "EdDSA"}


class InvalidClient(Exception):
    """The client did not prove itself. `reason` is for the log; the caller is told nothing of it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class SecretPresented:
    client_id: str
    secret: str

    def __repr__(self) -> str:
        return "SecretPresented(…)"


@dataclass(frozen=True, slots=True)
class AssertionPresented:
    """`client_id`: what the assertion says of itself, believed only once its signature is."""

    client_id: str
    compact: Compact
    claims: dict[str, Any]

    def __repr__(self) -> str:
        return "AssertionPresented(…)"


Presented = SecretPresented | AssertionPresented


@dataclass(frozen=True, slots=True)
class Proved:
    """`cred`: which credential proved it, for the token to be bound to."""

    client: Client
    cred: str


def read_basic(authorization: str) -> SecretPresented:
    """What an `Authorization: Basic` header presents; both parts are form-encoded. Raises `InvalidClient`."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic" or len(encoded) > LONGEST_BASIC_CHARS:
        raise InvalidClient("not Basic, or oversize")
    try:
        decoded = base64.b64decode(encoded.strip(" "), validate=True).decode()
        client_id, colon, secret = decoded.partition(":")
        parts = unquote_plus(client_id, errors="strict"), unquote_plus(secret, errors="strict")
    except (binascii.Error, ValueError):
        raise InvalidClient("Basic is not base64 of UTF-8") from None
    if not colon or not all(parts):
        raise InvalidClient("Basic without an id or a secret")
    return SecretPresented(*parts)


def read_assertion(assertion: str) -> AssertionPresented:
    """What a `client_assertion` presents. Raises `InvalidClient`."""
    try:
        compact = read_compact(assertion.encode("utf-8", "replace"), members=_HEADER, longest=LONGEST_ASSERTION_BYTES)
        claims = compact.claims()
    except NotAToken as error:
        raise InvalidClient(f"assertion: {error}") from None
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject or claims.get("iss") != subject:
        raise InvalidClient("assertion: iss and sub are not one client")
    return AssertionPresented(subject, compact, claims)


def credential_of_key(kid: str) -> str:
    """The `cred` of a token issued for an assertion that the client's key `kid` signed."""
    return f"key:{kid}"


def credential_of_secret(secret_hash: str) -> str:
    """The `cred` of a token issued for the secret with this hash; it changes with the secret and reveals nothing."""
    digest = hashlib.sha256(b"ngsp-credential-v1\0" + secret_hash.encode()).digest()
    return "secret:" + base64.urlsafe_b64encode(digest[:12]).decode()


class ClientAuthenticator:
    """Checks what clients present; one for each gateway process. `audience`: the issuer. `digest`: of `Attempts`."""

    def __init__(self, engine: AsyncEngine, audience: str, digest: Callable[[bytes], bytes]) -> None:
        self.attempts = Attempts(digest)
        self._engine = engine
        self._audience = audience

    async def prove(self, presented: Presented, snapshot: Snapshot, address: str, now_s: float) -> Proved:
        """The client that proved itself. `address`: where the attempt is counted (`ngsp/api/address.py`).

        Raises `InvalidClient`; `TooManyAttempts` (429); `Overloaded` or `RegistryStale` (503).
        """
        who = presented.client_id
        with self.attempts.attempt(who, address, now_s) as delay_s:
            if delay_s:
                await asyncio.sleep(delay_s)
            try:
                proved = await self._prove(presented, snapshot, now_s)
            except (InvalidClient, asyncio.CancelledError):
                # Going away before the answer does not make a guess uncounted.
                self.attempts.failed(who, address, now_s)
                raise
        self.attempts.succeeded(who, address, now_s)
        return proved

    async def _prove(self, presented: Presented, snapshot: Snapshot, now_s: float) -> Proved:
        client = snapshot.clients.get(presented.client_id)
        if isinstance(presented, SecretPresented):
            secret_hash = client.secret_hash if client is not None else ""
            if not await verify_secret(secret_hash, presented.secret) or client is None:
                raise InvalidClient("unknown client or wrong secret")
            cred = credential_of_secret(secret_hash)
        else:
            key = _find_key(presented.compact, client, now_s)
            self._check_assertion(presented, key, now_s)
            if client is None or key is None:
                raise InvalidClient("assertion: unknown client or key")
            cred = credential_of_key(key.kid)
        member = snapshot.members.get(client.member)
        if not client.active or member is None or not member.in_force(day_of(datetime.fromtimestamp(now_s, UTC))):
            raise InvalidClient("client or its member is not active")
        if isinstance(presented, AssertionPresented):
            await self._use_once(client.id, presented.claims)
        return Proved(client, cred)

    def _check_assertion(self, presented: AssertionPresented, key: ClientKey | None, now_s: float) -> None:
        """Signature first, with a key of ours where there is none: an unknown client takes as long as a known one."""
        compact, claims = presented.compact, presented.claims
        algorithm = _ALGORITHMS.get(compact.header.get("alg"))
        if algorithm is None or compact.header.get("typ") not in _TYPES:
            raise InvalidClient("assertion: wrong alg or typ")
        # A key of another algorithm is no key: the header never chooses.
        jwk = key.jwk if key is not None and key.alg == algorithm else _nobodys_jwk(algorithm)
        try:
            public = verify_key(algorithm, jwk)
        except ValueError:
            raise InvalidClient("assertion: the registered key is not usable") from None
        if not compact.is_signed_by(public, algorithm):
            raise InvalidClient("assertion: bad signature")
        if claims.get("aud") != self._audience:
            raise InvalidClient("assertion: aud is not the issuer as one string")
        _check_times(claims, now_s)
        jti = claims.get("jti")
        if not isinstance(jti, str) or not 0 < len(jti) <= LONGEST_JTI_CHARS or not jti.isprintable():
            raise InvalidClient("assertion: jti missing or not of its form")

    async def _use_once(self, client_id: str, claims: dict[str, Any]) -> None:
        # Kept until no gateway's clock can take the assertion for fresh any more.
        expires_at = datetime.fromtimestamp(claims["exp"], UTC) + timedelta(seconds=4 * SKEW_S)
        row = {"client": client_id, "jti": claims["jti"], "expires_at": expires_at}
        statement = insert(used_assertions).values(row).on_conflict_do_nothing().returning(used_assertions.c.jti)
        try:
            async with self._engine.begin() as connection:
                fresh = (await connection.execute(statement)).first() is not None
        except DATABASE_LOST as error:
            raise RegistryStale(retry_after_s=1, reason=f"used_assertions: {type(error).__name__}") from None
        if not fresh:
            raise InvalidClient("assertion: used before")


def _find_key(compact: Compact, client: Client | None, now_s: float) -> ClientKey | None:
    """The client's key that the header names; without a name, the only one there is for the algorithm."""
    if client is None:
        return None
    now = datetime.fromtimestamp(now_s, UTC)
    in_force = [k for k in client.keys if k.valid_from <= now and (k.valid_to is None or now < k.valid_to)]
    kid = compact.header.get("kid")
    if kid is not None:
        return next((key for key in in_force if key.kid == kid), None)
    fitting = [key for key in in_force if key.alg == _ALGORITHMS.get(compact.header.get("alg"))]
    return fitting[0] if len(fitting) == 1 else None


def _check_times(claims: dict[str, Any], now_s: float) -> None:
    exp = claims.get("exp")
    if not _is_moment(exp) or exp <= now_s - SKEW_S or exp > now_s + LONGEST_ASSERTION_LIFE_S + SKEW_S:
        raise InvalidClient("assertion: exp missing, passed or too far ahead")
    for name in ("iat", "nbf"):
        if name in claims and (not _is_moment(claims[name]) or claims[name] > now_s + SKEW_S):
            raise InvalidClient(f"assertion: {name} is in the future")
    if "iat" in claims and exp - claims["iat"] > LONGEST_ASSERTION_LIFE_S:
        raise InvalidClient("assertion: lives longer than five minutes")


def _is_moment(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float)


@cache
def _nobodys_jwk(algorithm: Algorithm) -> dict[str, Any]:
    """A public key whose private half was never kept."""
    private = ECKey.generate_key("P-256") if algorithm == "ES256" else OKPKey.generate_key("Ed25519")
    return dict(private.as_dict(private=False))
