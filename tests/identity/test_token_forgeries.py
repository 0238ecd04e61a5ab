"""Every forged access token is refused, alike, and nothing in it is ever fetched."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey, RSAKey

from ngsp.errors import Unauthenticated
from ngsp.identity.tokens import Issued
from tests.identity.side import EVIL, Side, b64, check, good, parts_of, signed
from tests.support.effort import examples
from tests.support.waiting import until

Forge = Callable[[dict[str, Any], dict[str, Any], ECKey, str], str]
"""Header and claims of a good token, the gateway's own private key, the good token → a forged one."""


def header_with(**changes: Any) -> Forge:
    return lambda header, claims, key, _: signed(without_none({**header, **changes}), claims, key)


def claims_with(**changes: Any) -> Forge:
    return lambda header, claims, key, _: signed(header, without_none({**claims, **changes}), key)


def without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def alg_none(name: str, signature: str) -> Forge:
    return lambda header, claims, _key, _: f"{b64({**header, 'alg': name})}.{b64(claims)}.{signature}"


def hmac_with_public_key(form: str) -> Forge:
    def forge(header: dict[str, Any], claims: dict[str, Any], key: ECKey, _: str) -> str:
        public = key.as_pem(private=False) if form == "pem" else json.dumps(key.as_dict(private=False)).encode()
        signing_input = f"{b64({**header, 'alg': 'HS256'})}.{b64(claims)}"
        return f"{signing_input}.{b64(hmac.digest(public, signing_input.encode(), hashlib.sha256))}"

    return forge


def rs256(header: dict[str, Any], claims: dict[str, Any], _key: ECKey, _: str) -> str:
    return signed({**header, "alg": "RS256"}, claims, RSAKey.generate_key(2048), "RS256")  # type: ignore[arg-type]


def evil_embedded(header: dict[str, Any], claims: dict[str, Any], _key: ECKey, _: str) -> str:
    return signed({**header, "jwk": EVIL.as_dict(private=False)}, claims, EVIL)


def evil_kid_and_jwk(header: dict[str, Any], claims: dict[str, Any], _key: ECKey, _: str) -> str:
    return signed({**header, "kid": EVIL.thumbprint(), "jwk": EVIL.as_dict(private=False)}, claims, EVIL)


def duplicate_header(header: dict[str, Any], claims: dict[str, Any], key: ECKey, _: str) -> str:
    raw = json.dumps(header).replace("{", '{"alg":"none",', 1)
    return signed(raw.encode(), claims, key)


def duplicate_claim(header: dict[str, Any], claims: dict[str, Any], key: ECKey, _: str) -> str:
    return signed(header, json.dumps(claims).replace("{", '{"scope":"operator",', 1).encode(), key)


def stray_bits(_header: dict[str, Any], _claims: dict[str, Any], _key: ECKey, token: str) -> str:
    """The same signature, its last character's unused bits set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


FORGERIES: dict[str, Forge] = {
    "alg none, no signature": alg_none("none", ""),
    "alg None, no signature": alg_none("None", ""),
    "alg none with a signature": alg_none("none", "A" * 86),
    "alg missing": header_with(alg=None),
    "alg in lower case": header_with(alg="es256"),
    "alg HS256 over the public key as PEM": hmac_with_public_key("pem"),
    "alg HS256 over the public key as JWK": hmac_with_public_key("jwk"),
    "alg RS256": rs256,
    "alg HS256 in the header of an ES256 signature": header_with(alg="HS256"),
    "alg ES384": header_with(alg="ES384"),
    "alg not text": header_with(alg=["ES256"]),
    "kid unknown": header_with(kid="A" * 43),
    "kid a path": header_with(kid="../../../../etc/passwd"),
    "kid /dev/null": header_with(kid="/dev/null"),
    "kid SQL": header_with(kid="x' UNION SELECT 'key' --"),
    "kid with a NUL": header_with(kid="a\0b"),
    "kid empty": header_with(kid=""),
    "kid overlong": header_with(kid="k" * 129),
    "kid a number": header_with(kid=1),
    "kid missing": header_with(kid=None),
    "jku": header_with(jku="https://evil.example/jwks.json"),
    "x5u": header_with(x5u="https://evil.example/cert.pem"),
    "x5c": header_with(x5c=["MIIB"]),
    "an embedded key": evil_embedded,
    "an embedded key with its own kid": evil_kid_and_jwk,
    "crit": header_with(crit=["exp"]),
    "crit empty": header_with(crit=[]),
    "b64 false": header_with(b64=False, crit=["b64"]),
    "zip": header_with(zip="DEF"),
    "cty": header_with(cty="JWT"),
    "typ JWT": header_with(typ="JWT"),
    "typ missing": header_with(typ=None),
    "typ with another case": header_with(typ="AT+JWT"),
    "header twice the same member": duplicate_header,
    "header not an object": lambda _header, claims, key, _: signed([], claims, key),
    "header not JSON": lambda _header, claims, key, _: signed(b"{", claims, key),
    "header too deep": lambda _header, claims, key, _: signed(b'{"alg":' + b"[" * 200, claims, key),
    "header overlong": header_with(extra="x" * 600),
    "another's key under our kid": lambda header, claims, _key, _: signed(header, claims, EVIL),
    "expired": claims_with(iat=int(time.time()) - 700, exp=int(time.time()) - 1),
    "from the future": claims_with(iat=int(time.time()) + 4000, exp=int(time.time()) + 4600),
    "lives too long": claims_with(exp=int(time.time()) + 100_000),
    "ends before it begins": claims_with(exp=1),
    "exp missing": claims_with(exp=None),
    "exp text": claims_with(exp="99999999999"),
    "exp true": claims_with(exp=True),
    "exp a float": claims_with(exp=time.time() + 60.5),
    "iat missing": claims_with(iat=None),
    "iss another": claims_with(iss="https://evil.example"),
    "iss missing": claims_with(iss=None),
    "aud another": claims_with(aud="https://evil.example"),
    "aud a list": claims_with(aud=["http://127.0.0.1:8080", "https://evil.example"]),
    "aud missing": claims_with(aud=None),
    "sub another": claims_with(sub="operator-1"),
    "client unknown": claims_with(sub="nobody", client_id="nobody"),
    "client not text": claims_with(sub=1, client_id=1),
    "member another": claims_with(member="G22"),
    "cred missing": claims_with(cred=None),
    "cred another": claims_with(cred="secret:AAAAAAAAAAAAAAAA"),
    "cred of a key there is not": claims_with(cred="key:none"),
    "scope missing": claims_with(scope=None),
    "claims twice the same": duplicate_claim,
    "claims not an object": lambda header, _claims, key, _: signed(header, ["x"], key),
    "claims not JSON": lambda header, _claims, key, _: signed(header, b"\xff\xfe", key),
    "stray bits": stray_bits,
    "padding": lambda _header, _claims, _key, token: token + "==",
    "no signature": lambda _header, _claims, _key, token: token.rsplit(".", 1)[0] + ".",
    "two parts": lambda _header, _claims, _key, token: token.rsplit(".", 1)[0],
    "five parts": lambda _header, _claims, _key, token: token + ".AAAA.AAAA",
    "signature all zero": lambda _header, _claims, _key, token: token.rsplit(".", 1)[0] + "." + "A" * 86,
    "signature in DER": lambda _header, _claims, _key, token: token.rsplit(".", 1)[0] + "." + "A" * 96,
    "truncated": lambda _header, _claims, _key, token: token[:-7],
    "oversize": lambda _header, _claims, _key, token: token + "A" * 5000,
    "trailing space": lambda _header, _claims, _key, token: token + " x",
    "JSON serialization": lambda *_: '{"payload":"e30","signatures":[]}',
    "empty": lambda *_: "",
}


@pytest.fixture(scope="module")
async def original(side: Side) -> str:
    """A good token to forge others from."""
    return (await good(side))[1]


@pytest.mark.parametrize("name", FORGERIES)
async def test_forgeries_are_all_refused_alike(side: Side, original: str, name: str) -> None:
    token = original
    header, claims = parts_of(token)
    forged = FORGERIES[name](header, claims, side.tokens.keys.signer(time.time())[1], token)
    assert forged != token
    answer = await side.http.get("/probe/any", headers={"Authorization": f"Bearer {forged}"})
    assert answer.status_code == 401, name
    document = answer.json()
    assert document.pop("instance").startswith("urn:uuid:")
    assert document == Unauthenticated().problem("vi")
    assert answer.headers["www-authenticate"] == 'Bearer realm="ngsp", error="invalid_token"'
    assert answer.headers["content-type"] == "application/problem+json"
    again = await side.http.get("/probe/any", headers={"Authorization": f"Bearer {forged}"})
    assert again.status_code == 401, "a refusal is not remembered as good"
    assert (await side.probe(token)).status_code == 200, "and hurts no good token"


async def test_addresses_in_a_header_are_never_fetched(side: Side) -> None:
    connections = 0

    async def connected(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with listener:
        address = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/keys"
        _, token = await good(side)
        header, claims = parts_of(token)
        for member in ("jku", "x5u"):
            forged = signed({**header, "kid": "unheard-of", member: address}, claims, EVIL)
            assert (await side.probe(forged)).status_code == 401
        # A connection made on purpose comes after any that was made by mistake.
        _, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        await until(lambda: connections > 0, "the listener hears")
        writer.close()
    assert connections == 1


@settings(max_examples=examples(300), deadline=None)
@given(at=st.integers(0, 10_000), to=st.integers(0, 255), cut=st.integers(0, 3))
def test_no_mutation_of_a_token_is_accepted(side: Side, at: int, to: int, cut: int) -> None:
    issued = _issue_offline(side)
    token = bytearray(issued.access_token.encode())
    at %= len(token)
    if cut == 0:
        token[at] = to
    elif cut == 1:
        del token[at]
    elif cut == 2:
        token.insert(at, to)
    else:
        del token[at:]
    if bytes(token) != issued.access_token.encode():
        with pytest.raises(Unauthenticated):
            check(side, bytes(token))


@settings(max_examples=examples(300), deadline=None)
@given(data=st.binary(max_size=200))
def test_no_noise_is_accepted_or_does_harm(side: Side, data: bytes) -> None:
    with pytest.raises(Unauthenticated):
        side.tokens.authenticate(data, side.registry.snapshot, time.time())
    with pytest.raises(Unauthenticated):
        check(side, data)


_offline: dict[int, Issued] = {}


def _issue_offline(side: Side) -> Issued:
    """One token, issued without the endpoint, for tests that are not asynchronous."""
    if id(side) not in _offline:
        client = next(iter(side.registry.snapshot.clients.values()))
        _offline[id(side)] = side.tokens.issue(client, client.scopes, "key:none", time.time())
    return _offline[id(side)]
