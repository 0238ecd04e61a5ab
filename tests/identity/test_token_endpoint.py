"""The token endpoint: secrets, every malformed request, guessing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import pytest
from structlog.testing import capture_logs

from ngsp.api.oauth import MAX_FORM_BYTES
from tests.identity.side import (
    GRANT,
    Side,
    basic,
    fresh_address,
    refused,
)

if TYPE_CHECKING:
    pass


async def test_a_secret_gets_a_token(side: Side) -> None:
    client_id, secret = await side.client("exchange", "registry")
    answer = await side.ask(GRANT, basic(client_id, secret))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json()
    assert set(document) == {"access_token", "token_type", "expires_in", "scope"}
    assert (document["token_type"], document["expires_in"]) == ("Bearer", side.settings.token_ttl_s)
    assert document["scope"] == "exchange registry"


async def test_basic_parts_are_form_encoded(side: Side) -> None:
    client_id, secret = await side.client()
    encoded = "".join(f"%{byte:02X}" for byte in secret.encode())
    for form in (encoded, secret.replace("_", "%5f"), quote(secret)):
        assert (await side.ask(GRANT, basic(client_id, form))).status_code == 200


@pytest.mark.parametrize(
    ("scope", "given"),
    [("exchange", "exchange"), ("registry exchange", "exchange registry"), ("", "exchange registry")],
)
async def test_scope_may_be_narrowed(side: Side, scope: str, given: str) -> None:
    client_id, secret = await side.client("exchange", "registry")
    answer = await side.ask({**GRANT, "scope": scope}, basic(client_id, secret))
    assert answer.json()["scope"] == given


@pytest.mark.parametrize("scope", ["operator", "exchange operator", "nonsense", "exchange  registry", " exchange", '"'])
async def test_scope_is_never_widened(side: Side, scope: str) -> None:
    client_id, secret = await side.client("exchange", "registry")
    refused(await side.ask({**GRANT, "scope": scope}, basic(client_id, secret)), 400, "invalid_scope")


FORM = "application/x-www-form-urlencoded"
GOOD = b"grant_type=client_credentials"
MALFORMED: list[tuple[bytes, dict[str, str], int, str]] = [
    (b"", {}, 400, "invalid_request"),
    (b"scope=exchange", {}, 400, "invalid_request"),
    (b"grant_type=", {}, 400, "invalid_request"),
    (b"grant_type=password", {}, 400, "unsupported_grant_type"),
    (b"grant_type=authorization_code&code=x", {}, 400, "unsupported_grant_type"),
    (GOOD + b"&" + GOOD, {}, 400, "invalid_request"),
    (GOOD + b"&scope=exchange&scope=registry", {}, 400, "invalid_request"),
    (GOOD + b"&scope=exchange&scop%65=registry", {}, 400, "invalid_request"),
    (GOOD + b"&x=%ff", {}, 400, "invalid_request"),
    (GOOD + b"&x=%zz", {}, 400, "invalid_request"),
    (GOOD + b"&x=%e", {}, 400, "invalid_request"),
    (GOOD + b"\xff\xfe", {}, 400, "invalid_request"),
    (GOOD + b"&a=1" * 60, {}, 400, "invalid_request"),
    (GOOD + b"&client_id=another", {}, 400, "invalid_request"),
    (GOOD + b"&client_secret=x", {}, 400, "invalid_request"),
    (GOOD + b"&client_assertion=x", {}, 400, "invalid_request"),
    (GOOD + b"&client_assertion_type=x", {}, 400, "invalid_request"),
    (GOOD + b"&x=" + b"a" * MAX_FORM_BYTES, {}, 413, "invalid_request"),
    (GOOD, {"Content-Type": "application/json"}, 415, "invalid_request"),
    (GOOD, {"Content-Type": ""}, 415, "invalid_request"),
    (GOOD, {"Content-Type": FORM + "; charset=utf-16"}, 415, "invalid_request"),
    (GOOD, {"Content-Encoding": "gzip"}, 415, "invalid_request"),
    (b"\x1f\x8b" + b"\0" * 100, {"Content-Encoding": "gzip"}, 415, "invalid_request"),
]


@pytest.mark.parametrize(("body", "headers", "status", "error"), MALFORMED)
async def test_malformed_requests(side: Side, body: bytes, headers: dict[str, str], status: int, error: str) -> None:
    client_id, secret = "client-that-is-not-asked-for", "ngsp_x"
    sent = {"Content-Type": FORM, **basic(client_id, secret), **headers}
    refused(await side.ask(body, sent), status, error)


async def test_a_charset_is_welcome_and_an_unknown_parameter_is_ignored(side: Side) -> None:
    client_id, secret = await side.client()
    headers = {"Content-Type": FORM + "; charset=UTF-8", **basic(client_id, secret)}
    assert (await side.ask(GOOD + b"&audience=x&resource=", headers)).status_code == 200


async def test_credentials_in_the_address_are_refused(side: Side) -> None:
    client_id, secret = await side.client()
    query = urlencode({"client_id": client_id, "client_secret": secret})
    answer = await side.http.post(f"/oauth2/token?{query}", data=GRANT, headers=basic(client_id, secret))
    refused(answer, 400, "invalid_request")
    assert secret not in answer.text


async def test_a_get_is_not_allowed(side: Side) -> None:
    answer = await side.http.get("/oauth2/token")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


BAD_BASIC = {
    "not base64": "Basic !!!!",
    "no colon": "Basic YWJj",
    "no secret": "Basic YTo=",
    "no id": "Basic OmI=",
    "not UTF-8": "Basic //86/w==",
    "malformed percent": "Basic JWZmOiVmZg==",
    "another scheme": "Bearer abc",
    "overlong": "Basic " + "QUFB" * 1000,
    "empty": "Basic ",
}


@pytest.mark.parametrize("name", BAD_BASIC)
async def test_bad_basic(side: Side, name: str) -> None:
    refused(await side.ask(GRANT, {"Authorization": BAD_BASIC[name]}), 401, "invalid_client")


async def test_no_client_authentication(side: Side) -> None:
    refused(await side.ask(GRANT), 401, "invalid_client")
    refused(await side.ask({**GRANT, "client_id": "x", "client_secret": "y"}), 401, "invalid_client")


async def test_all_wrong_credentials_are_told_the_same(side: Side) -> None:
    client_id, secret = await side.client()
    keyed, _ = await side.client(secret="none")
    inactive, its_secret = await side.client()
    await side.client(id=inactive, active=False)
    answers = [
        await side.ask(GRANT, basic(*pair))
        for pair in (
            (client_id, "wrong"),
            (client_id, secret + "x"),
            (client_id, secret[:-1]),
            (client_id.upper(), secret),
            ("nobody", "wrong"),
            ("nobody", secret),
            ("' OR 1=1 --", secret),
            ("x" * 200, "y" * 300),
            (keyed, "wrong"),
            (inactive, its_secret),
        )
    ]
    for answer in answers:
        refused(answer, 401, "invalid_client")
        assert answer.content == answers[0].content
        assert answer.headers == answers[0].headers


async def test_an_unknown_client_costs_as_much_as_a_wrong_secret(side: Side) -> None:
    client_id, _ = await side.client()
    keyed, _ = await side.client(secret="none")

    async def asked(name: str) -> float:
        began_s = time.perf_counter()
        await side.ask(GRANT, basic(name, "wrong"))
        return time.perf_counter() - began_s

    # Without the hash an answer takes a tenth of the time. The fastest of each counts, in turns, as often as a busy
    # machine needs.
    names = (client_id, "nobody", keyed)
    fastest = dict.fromkeys(names, float("inf"))
    for turn in range(30):
        for name in names:
            fastest[name] = min(fastest[name], await asked(name))
        if turn >= 5 and all(0.5 < fastest[name] / fastest[client_id] < 2.0 for name in names):
            break
    else:
        raise AssertionError(fastest)


# --- guessing -------------------------------------------------------------------------------------------------------


async def test_guessing_is_slowed_and_locks_nobody_else_out(side: Side) -> None:
    client_id, secret = await side.client()
    attacker, home = fresh_address(), fresh_address()
    statuses = [(await side.ask(GRANT, basic(client_id, f"guess-{n}"), attacker)).status_code for n in range(12)]
    assert statuses[:5] == [401] * 5
    assert statuses[-1] == 429
    throttled = await side.ask(GRANT, basic(client_id, secret), attacker)
    assert throttled.status_code == 429, "even the right secret waits there"
    assert throttled.json()["code"] == "too-many-attempts"
    assert int(throttled.headers["retry-after"]) >= 1
    assert throttled.headers["content-type"] == "application/problem+json"
    assert (await side.ask(GRANT, basic(client_id, secret), home)).status_code == 200


async def test_an_address_that_tries_many_clients_is_slowed(side: Side) -> None:
    attacker = fresh_address()
    statuses = [(await side.ask(GRANT, basic(f"client-{n}", "x"), attacker)).status_code for n in range(25)]
    assert 429 in statuses
    client_id, secret = await side.client()
    assert (await side.ask(GRANT, basic(client_id, secret), attacker)).status_code == 429
    assert (await side.ask(GRANT, basic(client_id, secret))).status_code == 200


async def test_a_neighbour_behind_the_same_address_does_no_harm_to_one_who_succeeded_before(side: Side) -> None:
    shared = fresh_address()
    client_id, secret = await side.client()
    assert (await side.ask(GRANT, basic(client_id, secret), shared)).status_code == 200
    for number in range(25):
        await side.ask(GRANT, basic(f"client-{number}", "x"), shared)
    assert (await side.ask(GRANT, basic(client_id, secret), shared)).status_code == 200


async def test_unknown_clients_are_slowed_like_known_ones(side: Side) -> None:
    known, _ = await side.client()
    seen = []
    for name in (known, "nobody-at-all"):
        address = fresh_address()
        seen.append([(await side.ask(GRANT, basic(name, "x"), address)).status_code for _ in range(8)])
    assert seen[0] == seen[1]


async def test_strangers_are_counted_and_do_not_fill_the_log(side: Side) -> None:
    pending = side.refusals.pending
    address = fresh_address()
    with capture_logs() as logged:
        for number in range(30):
            await side.ask(GRANT, basic(f"stranger-{number}", "x"), address)
        await side.ask(b"nonsense", None, address)
    assert logged == []
    assert side.refusals.pending == pending + 3, "unauthenticated, too-many-attempts and malformed-parameter"


async def test_nothing_secret_reaches_the_log(side: Side) -> None:
    client_id, secret = await side.client()
    kid, key = await side.key(client_id)
    assertion = side.assertion(client_id, kid, key)
    with capture_logs() as logged:
        token = await side.token(client_id, secret)
        await side.ask_with(assertion)
        await side.ask_with(assertion)
        await side.ask(GRANT, basic(secret, client_id))
        await side.ask(GRANT, basic(client_id, secret + "x"))
        await side.probe(token + "x")
    assert {"token.issued", "token.refused"} <= {line["event"] for line in logged}
    text = repr(logged)
    for unseen in (secret, token, token.split(".")[2], assertion, assertion.split(".")[1]):
        assert unseen not in text
