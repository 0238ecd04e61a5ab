"""`POST /token`, as clients of existing platforms ask for a token: what it takes, and what it never gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.compatible.old_clients import partner_header
from tests.identity.side import GRANT, Side, assertion_form, basic, check, fresh_address, refused

if TYPE_CHECKING:
    import httpx

PATH = "/token"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def ask(side: Side, form: dict[str, str] | bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    return await side.ask(form, headers, path=PATH)


async def test_each_way_in_which_old_clients_prove_themselves(side: Side) -> None:
    client_id, secret = await side.client("exchange", "registry", "operator")
    post = {**GRANT, "client_id": client_id, "client_secret": secret}
    partner = {"lgspaccesstoken": partner_header(client_id, secret, "H41")}
    for form, headers in ((GRANT, basic(client_id, secret)), (post, None), (GRANT, partner)):
        answer = await ask(side, form, headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        found = answer.json()
        assert set(found) == {"access_token", "scope", "token_type", "expires_in"}
        assert (found["token_type"], found["expires_in"]) == ("Bearer", side.settings.token_ttl_s)
        assert found["scope"] == "exchange", "never more than calling takes, whatever the client may do otherwise"
        assert check(side, found["access_token"]).scopes == {"exchange"}


async def test_a_secret_in_the_form_is_taken_here_alone(side: Side) -> None:
    client_id, secret = await side.client()
    post = {**GRANT, "client_id": client_id, "client_secret": secret}
    refused(await side.ask(post), 401, "invalid_client")
    refused(await side.ask(GRANT, {"lgspaccesstoken": partner_header(client_id, secret, "H41")}), 401, "invalid_client")
    methods = (await side.http.get("/.well-known/oauth-authorization-server")).json()
    assert methods["token_endpoint_auth_methods_supported"] == ["client_secret_basic", "private_key_jwt"]


async def test_only_the_scope_of_calling(side: Side) -> None:
    client_id, secret = await side.client("exchange", "registry")
    assert (await ask(side, {**GRANT, "scope": "exchange"}, basic(client_id, secret))).json()["scope"] == "exchange"
    for scope in ("registry", "exchange registry", "operator", "default", "am_application_scope default"):
        refused(await ask(side, {**GRANT, "scope": scope}, basic(client_id, secret)), 400, "invalid_scope")
    without, its_secret = await side.client("registry")
    refused(await ask(side, GRANT, basic(without, its_secret)), 400, "invalid_scope")


async def test_one_way_at_a_time(side: Side) -> None:
    client_id, secret = await side.client()
    partner = {"lgspaccesstoken": partner_header(client_id, secret, "H41")}
    post = {**GRANT, "client_id": client_id, "client_secret": secret}
    for form, headers in (
        (post, basic(client_id, secret)),
        (post, partner),
        (GRANT, basic(client_id, secret) | partner),
    ):
        refused(await ask(side, form, headers), 400, "invalid_request")
    for form in ({**GRANT, "client_id": "another"}, assertion_form("x")):
        refused(await ask(side, form, basic(client_id, secret)), 400, "invalid_request")


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        (b"", 400, "invalid_request"),
        (b"grant_type=password&username=a&password=b", 400, "unsupported_grant_type"),
        (b"grant_type=client_credentials&grant_type=client_credentials", 400, "invalid_request"),
        (b"grant_type=client_credentials&client_id=a&client_id=a", 400, "invalid_request"),
        (b"grant_type=client_credentials&client_secret=%zz&client_id=a", 400, "invalid_request"),
        (b"grant_type=client_credentials&client_secret=%ff&client_id=a", 400, "invalid_request"),
        (b"grant_type=client_credentials", 401, "invalid_client"),
        (b"grant_type=client_credentials&client_id=a", 401, "invalid_client"),
        (b"grant_type=client_credentials&client_secret=a", 401, "invalid_client"),
        (b"grant_type=client_credentials&client_id=nobody&client_secret=a", 401, "invalid_client"),
        (b"grant_type=client_credentials&x=" + b"y" * 20_000, 413, "invalid_request"),
    ],
)
async def test_forms_that_are_refused(side: Side, form: bytes, status: int, error: str) -> None:
    refused(await ask(side, form, FORM), status, error)


async def test_another_content_type_and_a_query(side: Side) -> None:
    client_id, secret = await side.client()
    headers = {"Content-Type": "application/json"} | basic(client_id, secret)
    refused(await ask(side, b'{"grant_type":"client_credentials"}', headers), 415, "invalid_request")
    answer = await side.ask(b"", FORM | basic(client_id, secret), path=f"{PATH}?grant_type=client_credentials")
    refused(answer, 400, "invalid_request")
    assert (await side.http.get(PATH)).status_code == 405


async def test_guessing_is_counted_together_with_the_other_endpoint(side: Side) -> None:
    client_id, _ = await side.client()
    address = fresh_address()
    wrong = {**GRANT, "client_id": client_id, "client_secret": "ngsp_wrong"}
    answers = [await side.ask(wrong, address=address, path=PATH) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [401] * 5
    answers = [await side.ask(GRANT, basic(client_id, "ngsp_wrong"), address) for _ in range(2)]
    assert answers[-1].status_code == 429
    assert answers[-1].json()["code"] == "too-many-attempts"


async def test_neither_secret_nor_header_comes_into_the_log(side: Side) -> None:
    client_id, secret = await side.client()
    header = partner_header(client_id, secret, "G22")
    with capture_logs() as lines:
        refused(await ask(side, GRANT, {"lgspaccesstoken": header}), 401, "invalid_client")
        refused(await ask(side, {**GRANT, "client_id": secret, "client_secret": secret}), 401, "invalid_client")
        await ask(side, {**GRANT, "client_id": client_id, "client_secret": secret})
    said = repr(lines)
    assert "PartnerCode is not of the client's member" in said
    assert secret not in said
    assert header not in said
