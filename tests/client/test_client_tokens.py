"""Tokens: fetched once, renewed in time, proved by secret or by key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey

from ngsp.client import ClientSecret, PrivateKey, errors
from ngsp.identity.credentials import SecretPresented, read_basic
from ngsp.local.postgres import LocalPostgres
from tests.client.hands import KIND, LOOK_UP, Hands, Noted, hands
from tests.support.gateway import Rig, running_gateway
from tests.support.waiting import until

ISSUER = "https://bus.example.gov.vn"


@pytest.fixture(scope="module")
async def module_rig(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with running_gateway(postgres, tmp_path_factory.mktemp("gateway"), issuer=ISSUER) as rig:
        yield rig


async def put_client(rig: Rig, id: str, **others: Any) -> dict[str, Any]:
    document = {"member": "G22", "name": {"vi": id, "en": id}, "scopes": ["exchange"]} | others
    answer = await rig.http.put(f"/v1/clients/{id}", json=document, headers=await rig.headers("operator"))
    assert answer.status_code in (200, 201), answer.text
    found: dict[str, Any] = answer.json()
    return found


async def add_key(rig: Rig, id: str, key: ECKey | OKPKey) -> str:
    """The kid of the key's public half, registered for the client."""
    document = {"alg": "ES256" if isinstance(key, ECKey) else "EdDSA", "jwk": dict(key.as_dict(private=False))}
    answer = await rig.post(f"/v1/clients/{id}/keys", by="operator", json=document)
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["kid"]
    return found


async def test_many_calls_at_once_take_one_token(bus: Hands) -> None:
    await asyncio.gather(*(bus.call() for _ in range(8)))
    assert bus.requests.count("/oauth2/token") == 1
    bearers = {headers["Authorization"] for headers in bus.requests.headers if "Ngsp-Purpose" in headers}
    assert len(bearers) == 1


@pytest.mark.parametrize("form", ["pem", "jwk"])
@pytest.mark.parametrize("key", [ECKey.generate_key("P-256"), OKPKey.generate_key("Ed25519")], ids=["ES256", "EdDSA"])
async def test_a_private_key_proves_the_client(rig: Rig, kind: KIND, key: ECKey | OKPKey, form: str) -> None:
    id = f"keyed-{kind}-{form}-{key.curve_name.lower()}"
    await put_client(rig, id, secret="none")
    kid = await add_key(rig, id, key)
    given: Any = key.as_pem(private=True) if form == "pem" else key.as_dict(private=True)
    for named in ("", kid):
        async with Noted(kind, rig.base_url, PrivateKey(id, given, named), issuer=ISSUER) as bus:
            assert (await bus.call()).json()["did"] == "it"


@pytest.mark.parametrize(
    "key",
    [
        ECKey.generate_key("P-384").as_pem(private=True),
        OKPKey.generate_key("X25519").as_dict(private=True),
        RSAKey.generate_key(2048, auto_kid=False).as_pem(private=True),
        ECKey.generate_key("P-256").as_pem(private=False),
        ECKey.generate_key("P-256").as_dict(private=False),
        OKPKey.generate_key("Ed25519").as_dict(private=False),
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "",
        {"kty": "EC"},
    ],
    ids=["P-384", "X25519", "RSA", "public PEM", "public P-256", "public Ed25519", "PEM of nothing", "empty", "no key"],
)
def test_a_key_of_another_kind_is_none(key: Any) -> None:
    with pytest.raises(ValueError, match="not a private key on P-256 or Ed25519"):
        PrivateKey("client", key)


def test_a_client_and_its_secret_are_needed() -> None:
    for id, secret in (("", "secret"), ("client", "")):
        with pytest.raises(ValueError, match="needed"):
            ClientSecret(id, secret)
    with pytest.raises(ValueError, match="needed"):
        PrivateKey("", ECKey.generate_key("P-256").as_pem(private=True))


async def test_a_wrong_secret_is_refused_once(rig: Rig, kind: KIND) -> None:
    id = f"wrong-{kind}"
    await put_client(rig, id)
    async with Noted(kind, rig.base_url, ClientSecret(id, "not it: a+b%2F")) as bus:
        with pytest.raises(errors.TokenRefused) as told:
            await bus.submit()
        assert (told.value.error, len(bus.requests.sent)) == ("invalid_client", 1)


def test_a_secret_of_any_characters() -> None:
    """Both parts are form-encoded (RFC 6749 §2.3.1): a colon, a plus or a letter of Vietnamese changes nothing."""
    headers, _ = ClientSecret("client:1", "Điều+một%20/=").proof(ISSUER)
    assert read_basic(headers["Authorization"]) == SecretPresented("client:1", "Điều+một%20/=")


async def test_a_token_that_is_not_taken_any_more_is_replaced_once(rig: Rig, kind: KIND) -> None:
    id = f"rotated-{kind}"
    await put_client(rig, id, secret="none")
    old, new = ECKey.generate_key("P-256"), ECKey.generate_key("P-256")
    old_kid, new_kid = await add_key(rig, id, old), await add_key(rig, id, new)
    credentials = PrivateKey(id, new.as_pem(private=True), new_kid)
    async with Noted(kind, rig.base_url, credentials, issuer=ISSUER) as bus:
        await bus.call()
        path = f"/v1/clients/{id}/keys/{old_kid}"
        assert (await rig.http.delete(path, headers=await rig.headers("operator"))).status_code == 204
        await until_refused(rig, bus)
        assert (await bus.call()).json()["did"] == "it"
        assert bus.requests.count("/oauth2/token") == 2
        path = f"/v1/clients/{id}/keys/{new_kid}"
        assert (await rig.http.delete(path, headers=await rig.headers("operator"))).status_code == 204
        await until_refused(rig, bus)
        with pytest.raises(errors.TokenRefused):
            await bus.call()
        assert bus.requests.count("/oauth2/token") == 3


async def until_refused(rig: Rig, bus: Hands) -> None:
    """Until the gateway takes the token that `bus` holds no more."""
    headers = {"Authorization": bus.requests.headers[-1]["Authorization"]}

    async def refused() -> bool:
        return (await rig.http.get("/v1/services", headers=headers)).status_code == 401

    await until(refused, "the revocation")


async def test_the_scope_that_is_asked_for(rig: Rig, kind: KIND) -> None:
    async with hands(kind, rig, scope="registry") as bus:
        with pytest.raises(errors.ScopeMissing):
            await bus.call(LOOK_UP)
    async with hands(kind, rig, scope="operator") as bus:
        with pytest.raises(errors.TokenRefused, match="invalid_scope"):
            await bus.call(LOOK_UP)


def test_nothing_shows_what_it_holds() -> None:
    pem = ECKey.generate_key("P-256").as_pem(private=True)
    assert repr(ClientSecret("client", "hidden")) == "ClientSecret('client', …)"
    assert repr(PrivateKey("client", pem)) == "PrivateKey('client', …)"
