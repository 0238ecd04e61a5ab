"""Client assertions (RFC 7523): what is accepted, every forgery that is not, and replays."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert, select

from ngsp import database
from ngsp.errors import RegistryStale
from ngsp.identity.credentials import ClientAuthenticator, read_assertion
from ngsp.identity.tables import used_assertions
from tests.identity.side import OPERATOR, Side, assertion_form, basic, refused, running_side, signed

if TYPE_CHECKING:
    from pathlib import Path

    from ngsp.local.postgres import LocalPostgres


@pytest.mark.parametrize(("alg", "written"), [("ES256", "ES256"), ("EdDSA", "EdDSA"), ("EdDSA", "Ed25519")])
async def test_an_assertion_gets_a_token(side: Side, alg: str, written: str) -> None:
    client_id, _ = await side.client("exchange", "adapter", secret="none")
    kid, key = await side.key(client_id, alg)
    answer = await side.ask_with(side.assertion(client_id, kid, key, written), scope="adapter")
    assert answer.status_code == 200, answer.text
    assert answer.json()["scope"] == "adapter"
    assert (await side.probe(answer.json()["access_token"])).status_code == 200


async def test_an_assertion_without_a_kid_means_the_only_key(side: Side) -> None:
    client_id, _ = await side.client(secret="none")
    _, key = await side.key(client_id)
    now_s = int(time.time())
    claims = {"iss": client_id, "sub": client_id, "aud": side.settings.issuer, "exp": now_s + 60}
    for typ in ({}, {"typ": "JWT"}, {"typ": "client-authentication+jwt"}):
        assertion = signed({"alg": "ES256", **typ}, {**claims, "jti": uuid.uuid4().hex}, key)
        assert (await side.ask_with(assertion)).status_code == 200
    await side.key(client_id)
    assertion = signed({"alg": "ES256"}, {**claims, "jti": uuid.uuid4().hex}, key)
    refused(await side.ask_with(assertion), 401, "invalid_client")


def at(offset_s: float) -> int:
    return int(time.time() + offset_s)


class In(int):
    """Seconds from the moment of the test, not from that of its collection."""


BAD_CLAIMS: dict[str, dict[str, Any]] = {
    "aud the token endpoint": {"aud": "http://127.0.0.1:8080/oauth2/token"},
    "aud a list of one": {"aud": ["http://127.0.0.1:8080"]},
    "aud with a slash": {"aud": "http://127.0.0.1:8080/"},
    "aud another": {"aud": "https://evil.example"},
    "aud missing": {"aud": None},
    "iss another": {"iss": "operator-1"},
    "iss missing": {"iss": None},
    "sub missing": {"sub": None},
    "jti missing": {"jti": None},
    "jti empty": {"jti": ""},
    "jti a number": {"jti": 7},
    "jti overlong": {"jti": "j" * 129},
    "jti with a NUL": {"jti": "a\0b"},
    "exp missing": {"exp": None},
    "exp passed": {"exp": In(-60), "iat": In(-120)},
    "exp too far ahead": {"exp": In(400), "iat": None},
    "exp centuries ahead": {"exp": 9_007_199_254_740_991, "iat": None},
    "exp text": {"exp": "9999999999"},
    "exp true": {"exp": True},
    "exp a list": {"exp": [1]},
    "iat in the future": {"iat": In(60), "exp": In(120)},
    "iat text": {"iat": "1"},
    "nbf in the future": {"nbf": In(60)},
    "lives too long": {"iat": In(-280), "exp": In(100)},
}


@pytest.mark.parametrize("name", BAD_CLAIMS)
async def test_bad_assertions_are_refused(side: Side, name: str) -> None:
    client_id, _ = await side.client(secret="none")
    kid, key = await side.key(client_id)
    claims: dict[str, Any] = {
        claim: at(value) if isinstance(value, In) else value for claim, value in BAD_CLAIMS[name].items()
    }
    refused(await side.ask_with(side.assertion(client_id, kid, key, **claims)), 401, "invalid_client")
    assert (await side.ask_with(side.assertion(client_id, kid, key))).status_code == 200


async def test_clocks_may_differ_by_half_a_minute(side: Side) -> None:
    client_id, _ = await side.client(secret="none")
    kid, key = await side.key(client_id)
    off: list[dict[str, Any]] = [{"iat": at(25), "exp": at(300)}, {"iat": at(-100), "exp": at(-20)}, {"nbf": at(25)}]
    for claims in off:
        answer = await side.ask_with(side.assertion(client_id, kid, key, **claims))
        assert answer.status_code == 200, claims


async def test_the_algorithm_is_the_keys_and_not_the_headers(side: Side) -> None:
    client_id, _ = await side.client(secret="none")
    es_kid, es_key = await side.key(client_id, "ES256")
    ed_kid, ed_key = await side.key(client_id, "EdDSA")
    for assertion in (
        side.assertion(client_id, es_kid, ed_key, "EdDSA"),
        side.assertion(client_id, es_kid, ed_key, "ES256", "EdDSA"),
        side.assertion(client_id, ed_kid, es_key, "ES256"),
        side.assertion(client_id, es_kid, es_key, "none", "ES256"),
        side.assertion(client_id, es_kid, es_key, "HS256", "ES256"),
        side.assertion(client_id, "unknown", es_key),
        side.assertion("operator-1", es_kid, es_key),
        side.assertion("nobody", es_kid, es_key),
        "x.y.z",
    ):
        refused(await side.ask_with(assertion), 401, "invalid_client")


async def test_keys_count_only_while_they_are_in_force(side: Side) -> None:
    client_id, _ = await side.client(secret="none")

    def moment(days: int) -> str:
        return (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")

    future_kid, future_key = await side.key(client_id, valid_from=moment(1))
    past_kid, past_key = await side.key(client_id, valid_from=moment(-2), valid_to=moment(-1))
    revoked_kid, revoked_key = await side.key(client_id)
    await side.registry.revoke_key(OPERATOR, client_id, revoked_kid)
    for kid, key in ((future_kid, future_key), (past_kid, past_key), (revoked_kid, revoked_key)):
        refused(await side.ask_with(side.assertion(client_id, kid, key)), 401, "invalid_client")


async def test_an_access_token_is_no_assertion(side: Side) -> None:
    client_id, secret = await side.client()
    refused(await side.ask_with(await side.token(client_id, secret)), 401, "invalid_client")


async def test_two_authentications_at_once_are_refused(side: Side) -> None:
    client_id, secret = await side.client()
    kid, key = await side.key(client_id)
    form = assertion_form(side.assertion(client_id, kid, key))
    refused(await side.ask(form, basic(client_id, secret)), 400, "invalid_request")
    refused(await side.ask({**form, "client_secret": secret}), 400, "invalid_request")
    refused(await side.ask({**form, "client_assertion_type": "urn:saml"}), 401, "invalid_client")
    refused(await side.ask({**form, "client_id": "another"}), 400, "invalid_request")
    assert (await side.ask({**form, "client_id": client_id})).status_code == 200


async def test_an_assertion_is_good_once_on_all_gateways(side: Side, postgres: LocalPostgres) -> None:
    client_id, _ = await side.client(secret="none")
    kid, key = await side.key(client_id)
    async with running_side(postgres, side.url, kek=side.settings.kek) as other:
        for _ in range(3):
            assertion = side.assertion(client_id, kid, key)
            asked = [gateway.ask_with(assertion) for gateway in (side, other) * 5]
            statuses = Counter(answer.status_code for answer in await asyncio.gather(*asked))
            assert statuses == {200: 1, 401: 9}


async def test_a_replay_that_cannot_be_looked_up_is_503_and_no_token(side: Side, tmp_path: Path) -> None:
    client_id, _ = await side.client(secret="none")
    kid, key = await side.key(client_id)
    engine = database.engine(f"postgresql://nobody@/none?host={tmp_path}")
    cut_off = ClientAuthenticator(engine, side.settings.issuer, bytes)
    presented = read_assertion(side.assertion(client_id, kid, key))
    with pytest.raises(RegistryStale):
        await cut_off.prove(presented, side.registry.snapshot, "10.0.0.1", time.time())
    await engine.dispose()


async def test_the_same_jti_of_two_clients_is_two(side: Side) -> None:
    for _ in range(2):
        client_id, _ = await side.client(secret="none")
        kid, key = await side.key(client_id)
        assert (await side.ask_with(side.assertion(client_id, kid, key, jti="the-same"))).status_code == 200


async def test_used_assertions_are_forgotten_once_expired(side: Side) -> None:
    client_id, _ = await side.client(secret="none")
    kid, key = await side.key(client_id)
    assert (await side.ask_with(side.assertion(client_id, kid, key, jti="still-fresh"))).status_code == 200
    gone = {"client": client_id, "jti": "long-gone", "expires_at": datetime.now(UTC) - timedelta(seconds=1)}
    async with side.engine.begin() as connection:
        await connection.execute(insert(used_assertions).values(gone))
    await side.tokens.upkeep()
    async with side.engine.connect() as connection:
        mine = select(used_assertions.c.jti).where(used_assertions.c.client == client_id)
        assert (await connection.execute(mine)).scalars().all() == ["still-fresh"]
