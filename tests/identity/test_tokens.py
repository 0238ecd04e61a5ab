"""Access tokens: what is accepted, and what bites a token that was good."""

from __future__ import annotations

import time
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from ngsp.errors import Unauthenticated
from ngsp.identity import tokens as tokens_module
from ngsp.identity.credentials import InvalidClient, SecretPresented, credential_of_secret
from ngsp.identity.tokens import UnknownKey
from ngsp.registry.documents import ClientDocument, MemberDocument
from tests.identity.side import EVIL, OPERATOR, Side, basic, check, fresh_address, good, parts_of, signed
from tests.support.registry import client_document, member_document

if TYPE_CHECKING:
    pass


async def test_a_good_token_carries_client_member_and_scopes(side: Side) -> None:
    client_id, token = await good(side, "exchange", "adapter")
    answer = await side.probe(token)
    assert answer.status_code == 200
    assert answer.json() == {"client": client_id, "member": "H41", "scopes": ["adapter", "exchange"]}
    header, claims = parts_of(token)
    assert header == {"alg": "ES256", "typ": "at+jwt", "kid": side.tokens.keys.signer(time.time())[0].kid}
    assert claims["sub"] == claims["client_id"] == client_id
    assert claims["iss"] == claims["aud"] == side.settings.issuer
    assert claims["exp"] - claims["iat"] == side.settings.token_ttl_s
    assert claims["scope"] == "exchange adapter"


async def test_the_scheme_is_read_in_any_case(side: Side) -> None:
    _, token = await good(side)
    for scheme in ("bearer", "BEARER"):
        assert (await side.http.get("/probe/any", headers={"Authorization": f"{scheme} {token}"})).status_code == 200


@pytest.mark.parametrize("value", ["", "Bearer", "Basic YTpi", "Bearer\t", "Token abc", "Bearer " + "\x7f" * 20])
async def test_other_authorizations_are_refused(side: Side, value: str) -> None:
    assert (await side.http.get("/probe/any", headers={"Authorization": value})).status_code == 401


async def test_no_authorization_and_a_repeated_one_are_refused(side: Side) -> None:
    assert (await side.http.get("/probe/any")).status_code == 401
    _, token = await good(side)
    twice = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
    answer = await side.http.get("/probe/any", headers=twice)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed-header")


async def test_times_at_their_borders(side: Side) -> None:
    _, token = await good(side)
    _, claims = parts_of(token)
    iat, exp = claims["iat"], claims["exp"]
    for now_s, accepted in ((iat - 31, False), (iat - 30, True), (exp - 0.001, True), (exp, False), (exp + 1, False)):
        if accepted:
            check(side, token, now_s)
        else:
            with pytest.raises(Unauthenticated):
                check(side, token, now_s)


async def test_a_cached_token_dies_with_its_client(side: Side) -> None:
    client_id, token = await good(side)
    assert (await side.probe(token)).status_code == 200
    document = ClientDocument.model_validate(client_document("H41", "exchange", active=False))
    await side.registry.put_client(OPERATOR, client_id, document)
    assert (await side.probe(token)).status_code == 401


async def test_a_client_that_was_stopped_for_a_while_must_fetch_a_new_token(side: Side) -> None:
    client_id, secret = await side.client()
    old = await side.token(client_id, secret)
    for active in (False, True):
        await side.client(id=client_id, active=active)
    assert (await side.probe(old)).status_code == 401
    assert (await side.probe(await side.token(client_id, secret))).status_code == 200, "good in the same second"


async def test_a_cached_token_loses_the_scope_its_client_lost(side: Side) -> None:
    client_id, token = await good(side, "exchange", "registry")
    assert (await side.probe(token)).json()["scopes"] == ["exchange", "registry"]
    document = ClientDocument.model_validate(client_document("H41", "exchange", "operator"))
    await side.registry.put_client(OPERATOR, client_id, document)
    assert (await side.probe(token)).json()["scopes"] == ["exchange"], "and gains none it was not issued for"


async def test_a_new_secret_ends_the_old_ones_tokens_and_its_own_are_good_at_once(side: Side) -> None:
    client_id, secret = await side.client()
    old = await side.token(client_id, secret)
    _, fresh = await side.client(id=client_id, secret="generate")
    assert (await side.probe(old)).status_code == 401
    assert (await side.ask({"grant_type": "client_credentials"}, basic(client_id, secret))).status_code == 401
    assert (await side.probe(await side.token(client_id, fresh))).status_code == 200


async def test_a_revoked_key_ends_its_tokens(side: Side) -> None:
    client_id, _ = await side.client(secret="none")
    kid, key = await side.key(client_id)
    token = (await side.ask_with(side.assertion(client_id, kid, key))).json()["access_token"]
    assert (await side.probe(token)).status_code == 200
    await side.registry.revoke_key(OPERATOR, client_id, kid)
    assert (await side.probe(token)).status_code == 401


async def test_a_token_issued_by_a_stale_gateway_for_a_revoked_key_is_refused(side: Side) -> None:
    """`tokens_valid_from` alone would let it live: it was issued after that moment."""
    client_id, _ = await side.client(secret="none")
    kid, _ = await side.key(client_id)
    stale = side.registry.snapshot.clients[client_id]
    await side.registry.revoke_key(OPERATOR, client_id, kid)
    late = side.tokens.issue(stale, stale.scopes, f"key:{kid}", time.time() + 2)
    assert (await side.probe(late.access_token)).status_code == 401


async def test_a_token_dies_when_its_clients_key_ends(side: Side) -> None:
    client_id, _ = await side.client(secret="none")
    ends_s = time.time() + 300
    valid_to = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends_s))
    kid, key = await side.key(client_id, valid_to=valid_to)
    token = (await side.ask_with(side.assertion(client_id, kid, key))).json()["access_token"]
    check(side, token, ends_s - 2)
    with pytest.raises(Unauthenticated):
        check(side, token, ends_s)


async def test_a_token_dies_with_its_member(side: Side) -> None:
    await side.registry.put_member(OPERATOR, "H99", MemberDocument.model_validate(member_document()))
    client_id, secret = await side.client(member="H99")
    token = await side.token(client_id, secret)
    assert (await side.probe(token)).status_code == 200
    ended = MemberDocument.model_validate(member_document(valid_to="2024-01-01"))
    await side.registry.put_member(OPERATOR, "H99", ended)
    assert (await side.probe(token)).status_code == 401
    answer = await side.ask({"grant_type": "client_credentials"}, basic(client_id, secret))
    assert answer.json()["error"] == "invalid_client"


async def test_a_members_days_begin_at_midnight_in_viet_nam(side: Side) -> None:
    """Its systems get tokens from that moment on, and what they have ends with its last day, not seven hours later."""
    first, none_any_more = datetime.now(UTC).date() + timedelta(days=2), datetime.now(UTC).date() + timedelta(days=4)
    document = member_document(valid_from=first.isoformat(), valid_to=none_any_more.isoformat())
    await side.registry.put_member(OPERATOR, "H98", MemberDocument.model_validate(document))
    client_id, secret = await side.client(member="H98")
    client = side.registry.snapshot.clients[client_id]
    cred = credential_of_secret(client.secret_hash)
    begins_s, ends_s = (
        datetime.combine(day, datetime.min.time(), UTC).timestamp() - 7 * 3600 for day in (first, none_any_more)
    )
    for around_s, before, after in ((begins_s, False, True), (ends_s, True, False)):
        token = side.tokens.issue(client, client.scopes, cred, around_s - 20).access_token
        for now_s, good_then in ((around_s - 1, before), (around_s, after), (around_s + 1, after)):
            presented, address = SecretPresented(client_id, secret), fresh_address()
            with nullcontext() if good_then else pytest.raises(InvalidClient, match="member is not active"):
                await side.tokens.clients.prove(presented, side.registry.snapshot, address, now_s)
            with nullcontext() if good_then else pytest.raises(Unauthenticated):
                check(side, token, now_s)


async def test_scopes_decide_before_the_body_is_read(side: Side) -> None:
    _, token = await good(side, "exchange")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "text/plain"}
    refused = await side.http.post("/probe/registry", content=b"\xff", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "scope-missing")
    assert refused.headers["www-authenticate"] == 'Bearer realm="ngsp", error="insufficient_scope"'
    assert (await side.http.post("/probe/registry", content=b"\xff")).status_code == 401


async def test_cached_tokens_are_bounded(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_module, "MOST_CACHED", 5)
    side.tokens._cache.clear()
    client_id, _ = await side.client()
    client = side.registry.snapshot.clients[client_id]
    cred = credential_of_secret(client.secret_hash)
    for _ in range(20):
        issued = side.tokens.issue(client, client.scopes, cred, time.time())
        check(side, issued.access_token)
        assert side.tokens.holder(b"Bearer " + issued.access_token.encode()) == client_id
    assert len(side.tokens._cache) <= 5
    assert side.tokens.holder(b"Bearer x") == side.tokens.holder(b"") == ""


async def test_invented_kids_cost_at_most_a_read_a_second(side: Side) -> None:
    statements = 0

    def count(*_: Any) -> None:
        nonlocal statements
        statements += 1

    _, token = await good(side)
    header, claims = parts_of(token)
    await side.tokens.stop()
    event.listen(side.engine.sync_engine, "before_cursor_execute", count)
    try:
        began_s = time.monotonic()
        for number in range(200):
            forged = signed({**header, "kid": f"invented-{number}"}, claims, EVIL)
            with pytest.raises(UnknownKey):
                await side.tokens.authenticate_fresh(f"Bearer {forged}", side.registry.snapshot, time.time())
        assert statements <= 2 + (time.monotonic() - began_s)
    finally:
        event.remove(side.engine.sync_engine, "before_cursor_execute", count)
        await side.tokens.start()


async def test_issuing_never_gives_more_than_the_client_has(side: Side) -> None:
    client_id, _ = await side.client("exchange")
    client = side.registry.snapshot.clients[client_id]
    issued = side.tokens.issue(client, frozenset(("exchange", "operator")), "key:none", time.time())
    assert issued.scope == "exchange"
