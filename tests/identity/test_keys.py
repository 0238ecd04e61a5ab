"""Signing keys: one at first, rotation with overlap, several gateways, age, loss, and the database that holds them."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from sqlalchemy import select, text

from ngsp import database
from ngsp.config import Settings
from ngsp.database import ConfigurationError
from ngsp.errors import RegistryStale, Unauthenticated
from ngsp.identity.keys import LONGEST_TOKEN_S, PUBLISH_AHEAD_S
from ngsp.identity.tables import signing_keys
from ngsp.identity.tokens import Tokens
from ngsp.vault import Vault
from tests.identity.side import Side, running_side
from tests.support.registry import migrated_database, settings_for
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ngsp.local.postgres import LocalPostgres


@pytest.fixture
async def pair(postgres: LocalPostgres) -> AsyncIterator[tuple[Side, Side]]:
    """Two gateways over one database, with one key-encryption key."""
    async with (
        running_side(postgres) as first,
        running_side(postgres, first.url, kek=first.settings.kek) as second,
    ):
        yield first, second


async def token_of(side: Side) -> str:
    client_id, secret = await side.client()
    return await side.token(client_id, secret)


async def seen(side: Side, token: str) -> None:
    """Waits until this gateway's registry knows the token's client."""

    async def accepted() -> bool:
        return (await side.probe(token)).status_code == 200

    await until(accepted, "the other gateway takes the token", 2.0)


async def published(side: Side) -> list[str]:
    answer = await side.http.get("/.well-known/jwks.json")
    assert answer.headers["cache-control"] == "public, max-age=60"
    return [key["kid"] for key in answer.json()["keys"]]


async def shift_keys(side: Side, seconds: float) -> None:
    """Makes all keys older, as if time had passed."""
    async with side.engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE signing_keys SET created_at = created_at - :by, signs_from = signs_from - :by, "
                "signs_until = signs_until - :by, verifies_until = verifies_until - :by"
            ).bindparams(by=timedelta(seconds=seconds))
        )
    await side.tokens.keys.reload()


async def test_many_gateways_on_a_new_database_make_one_key(postgres: LocalPostgres) -> None:
    url = await migrated_database(postgres)
    settings = settings_for(url)
    engines = [database.engine(url, pool_size=2) for _ in range(6)]
    gateways = [Tokens(settings, engine, Vault(settings.key_encryption_keys())) for engine in engines]
    try:
        await asyncio.gather(*(gateway.keys.open() for gateway in gateways))
        kids = {gateway.keys.signer(time.time())[0].kid for gateway in gateways}
        assert len(kids) == 1
    finally:
        for engine in engines:
            await engine.dispose()


async def test_a_stranger_verifies_a_token_with_the_published_keys(pair: tuple[Side, Side]) -> None:
    first, _ = pair
    token = await token_of(first)
    document = (await first.http.get("/.well-known/jwks.json")).json()
    assert all(set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"} for key in document["keys"])
    decoded = jwt.decode(token, KeySet.import_key_set(document), algorithms=["ES256"])
    assert decoded.claims["iss"] == first.settings.issuer
    metadata = (await first.http.get("/.well-known/oauth-authorization-server")).json()
    assert metadata["issuer"] == first.settings.issuer
    assert metadata["token_endpoint"] == f"{first.settings.issuer}/oauth2/token"
    assert metadata["jwks_uri"] == f"{first.settings.issuer}/.well-known/jwks.json"
    assert metadata["token_endpoint_auth_methods_supported"] == ["client_secret_basic", "private_key_jwt"]
    assert metadata["response_types_supported"] == []


async def test_planned_rotation_overlaps(pair: tuple[Side, Side]) -> None:
    first, second = pair
    (old,) = await published(first)
    before = await token_of(first)
    new = await first.tokens.keys.rotate("planned")
    assert new is not None
    assert await first.tokens.keys.rotate("planned") is None, "one is on its way already"

    async def both_know() -> bool:
        return await published(second) == [old, new]

    await until(both_know, "the other gateway publishes the new key", 1.5)
    assert first.tokens.keys.signer(time.time())[0].kid == old, "published, and not yet signing"
    later_s = time.time() + PUBLISH_AHEAD_S + 1
    assert first.tokens.keys.signer(later_s)[0].kid == new
    assert second.tokens.keys.signer(later_s)[0].kid == new

    await shift_keys(first, PUBLISH_AHEAD_S + 1)
    await second.tokens.keys.reload()
    after = await token_of(first)
    for side in pair:
        await seen(side, after)
        assert (await side.probe(before)).status_code == 200, "the old key's tokens live on"
    await shift_keys(first, LONGEST_TOKEN_S + 120)
    assert await published(first) == [new]
    assert (await first.probe(before)).status_code == 401, "and end with the key"


async def test_rotation_at_once_ends_every_token_everywhere_within_a_second(pair: tuple[Side, Side]) -> None:
    first, second = pair
    before = await token_of(first)
    await seen(second, before)
    new = await first.tokens.keys.rotate("at-once")

    async def refused() -> bool:
        return (await second.probe(before)).status_code == 401

    assert (await first.probe(before)).status_code == 401
    await until(refused, "the other gateway refuses the old key", 1.0)
    assert await published(first) == await published(second) == [new]
    assert (await first.probe(await token_of(first))).status_code == 200


async def test_a_key_not_seen_yet_is_read_when_its_first_token_comes(pair: tuple[Side, Side]) -> None:
    first, second = pair
    await second.tokens.stop()
    try:
        await first.tokens.keys.rotate("at-once")
        token = await token_of(first)
        await until(
            lambda: len(second.registry.snapshot.clients) == len(first.registry.snapshot.clients), "same clients"
        )
        with pytest.raises(Unauthenticated):
            second.tokens.authenticate(f"Bearer {token}", second.registry.snapshot, time.time())
        assert (await second.probe(token)).status_code == 200
    finally:
        await second.tokens.start()


async def test_keys_change_by_age_and_old_ones_are_deleted(pair: tuple[Side, Side]) -> None:
    first, second = pair
    (old,) = await published(first)
    await first.tokens.upkeep()
    assert await published(first) == [old]
    await shift_keys(first, first.settings.signing_key_days * 86_400)
    await second.tokens.keys.reload()
    await asyncio.gather(*(side.tokens.upkeep() for side in (first, second, first, second)))
    kids = await published(first)
    assert len(kids) == 2
    assert kids[0] == old, "several gateways made one new key"
    await shift_keys(first, PUBLISH_AHEAD_S + LONGEST_TOKEN_S + 90_000)
    await first.tokens.keys.rotate("planned")
    async with first.engine.connect() as connection:
        stored = (await connection.execute(select(signing_keys.c.kid))).scalars().all()
    assert old not in stored
    assert kids[1] in stored


async def test_no_private_key_in_plain_in_the_database(pair: tuple[Side, Side]) -> None:
    first, _ = pair
    kid, private = first.tokens.keys.signer(time.time())
    secret = str(private.as_dict(private=True)["d"])
    async with first.engine.connect() as connection:
        rows: Any = (await connection.execute(select(signing_keys))).mappings().all()
    for row in rows:
        assert secret.encode() not in bytes(row["private_sealed"])
        assert secret not in json.dumps(row["public_jwk"])
        assert set(row["public_jwk"]) == {"kty", "crv", "x", "y"}
    assert secret not in repr(kid)


async def test_another_key_encryption_key_stops_the_start(pair: tuple[Side, Side]) -> None:
    first, _ = pair
    settings: Settings = settings_for(first.url)
    stranger = Tokens(settings, first.engine, Vault(settings.key_encryption_keys()))
    with pytest.raises(ConfigurationError):
        await stranger.start()


async def test_no_key_to_sign_is_503_and_no_defect(pair: tuple[Side, Side]) -> None:
    first, _ = pair
    with pytest.raises(RegistryStale):
        first.tokens.keys.signer(0.0)
