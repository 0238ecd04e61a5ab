"""Unmodified old clients get their token and their answer; the log knows all that it knows of any call."""

from __future__ import annotations

import orjson

from ngsp.adapter import RecordNotFound, Request
from ngsp.messages import TRANSACTION_ID
from tests.compatible.conftest import CODED, ECHO, LOOK_UP, OFFICER, PLACES, SEND, TWICE, WHOLE
from tests.compatible.old_clients import NationalClient, ProvincialClient, partner_header
from tests.support.gateway import Rig
from tests.support.waiting import until


async def test_a_national_client_gets_its_token(rig: Rig, national: NationalClient) -> None:
    found = await national.get_token()
    assert set(found) == {"access_token", "scope", "token_type", "expires_in"}
    assert (found["token_type"], found["scope"]) == ("Bearer", "exchange"), "only what calling takes"
    assert found["expires_in"] == rig.settings.token_ttl_s == 600, "as long as it lives, and no longer"


async def test_a_national_client_looks_up_by_path(rig: Rig, national: NationalClient) -> None:
    answer = await national.get(LOOK_UP, so="900000000001")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert answer.json() == {
        "MainInformation": {"SO": "900000000001", "TEN": "An"},
        "DataCount": 1,
        "Status": "1",
        "Message": "success",
    }
    assert orjson.loads(rig.provider.seen[0].body) == {"id": "900000000001", "do": "it"}
    tx = answer.headers["Ngsp-Transaction"]
    assert TRANSACTION_ID.fullmatch(tx)
    accepted, ended = await rig.entries(tx)
    assert accepted["call"] == {"client": "caller", "member": "G22", "route": "look-up"}
    grant = accepted["grant"]
    assert (grant["purpose"], grant["consumer"], grant["service"]) == ("testing", "G22", "look-up")
    assert grant["agreement"] == await rig.agreement("look-up")
    assert accepted["request"]["bytes"] == len(rig.provider.seen[0].body), "what the provider got"
    assert (ended["kind"], ended["outcome"]["status"]) == ("succeeded", 200)
    assert b"900000000001" not in await rig.rows.fetchval("SELECT string_agg(body, '') FROM entries WHERE tx = $1", tx)


async def test_the_reply_is_cut_before_it_takes_the_old_shape(rig: Rig, national: NationalClient) -> None:
    answer = await national.get(LOOK_UP, so="900000000001")
    assert "kept back" not in answer.text


async def test_a_body_passes_as_it_is_where_the_route_says_nothing(rig: Rig, national: NationalClient) -> None:
    odd = b'{ "note" : "\\u004e\\u0067h\xe1\xbb\x87 An", "do":"x"  }'
    reply = b'{  "did":"\\u0065", "people": [ ]  }'

    async def act(request: Request) -> object:
        return reply

    rig.provider.act = act  # type: ignore[method-assign]
    await national.get_token()
    headers = {"Authorization": f"Bearer {national.token}", "Content-Type": "application/json; charset=UTF-8"}
    answer = await rig.http.post(WHOLE, content=odd, headers=headers)
    assert (answer.status_code, answer.content) == (200, reply)
    assert rig.provider.seen[0].body == odd


async def test_the_old_shape_may_repeat_what_was_asked(rig: Rig, national: NationalClient) -> None:
    assert (await national.post(ECHO, {"do": "việc"})).json() == {"DaNhan": "việc", "KetQua": "it"}
    assert rig.provider.seen[0].payload == {"do": "việc"}


async def test_codes_through_a_table(rig: Rig, national: NationalClient) -> None:
    assert (await national.get(CODED, ma="1")).status_code == 200
    assert rig.provider.seen[0].payload == {"do": "it"}
    unknown = await national.get(CODED, ma="zqmarkerzq")
    assert (unknown.status_code, unknown.json()["code"]) == (422, "schema-mismatch")
    assert "zqmarkerzq" not in unknown.text


async def test_what_stands_in_the_body_comes_into_the_log(rig: Rig, national: NationalClient) -> None:
    body = {
        "maCanBo": "canbo-0017",
        "maHoSo": "000.00.00.H41-261121-0001",
        "maTTHC": "1.004194",
        "viec": "it",
        "soLuong": "3",
    }
    answer = await national.post(OFFICER, body, X_Muc_Dich="more-testing")
    assert answer.status_code == 200, answer.text
    request = rig.provider.seen[0]
    assert (request.officer, request.dossier, request.purpose) == (body["maCanBo"], body["maHoSo"], "more-testing")
    assert request.payload == {"do": "it", "n": 3}
    call = (await rig.entries(request.id))[0]["call"]
    assert (call["officer"], call["dossier"], call["procedure"]) == (body["maCanBo"], body["maHoSo"], body["maTTHC"])


async def test_a_place_in_the_path_is_a_value(rig: Rig, national: NationalClient) -> None:
    answer = await national.get(PLACES.format(so="900000000001"))
    assert answer.json() == {"did": "it", "id": "900000000001", "people": [{"name": "An"}]}
    assert (await national.get(PLACES.format(so="%39" + "0" * 10 + "1"))).json()["id"] == "900000000001"


async def test_the_route_says_which_of_two_agreements(rig: Rig, national: NationalClient) -> None:
    assert (await rig.call("twice")).json()["code"] == "agreement-ambiguous"
    answer = await national.post(TWICE, {})
    assert answer.status_code == 400, "this one reads no body"
    answer = await rig.http.post(TWICE, headers={"Authorization": f"Bearer {national.token}"})
    assert answer.status_code == 200, answer.text
    second = await rig.rows.fetchval("SELECT id::text FROM agreements WHERE reference = 'second'")
    assert (await rig.entries(answer.headers["Ngsp-Transaction"]))[0]["grant"]["agreement"] == second


async def test_a_submission_is_known_again_by_the_request_s_own_code(rig: Rig, national: NationalClient) -> None:
    body = {"maYeuCau": "YC-0001", "viec": "it"}
    accepted = await national.post(SEND, body)
    assert accepted.status_code == 202
    tx = accepted.headers["Ngsp-Transaction"]
    assert accepted.json() == {"Status": "1", "MaGiaoDich": tx, "TheoDoi": f"/v1/transactions/{tx}"}
    assert accepted.headers["Location"] == f"/v1/transactions/{tx}"

    async def ended() -> bool:
        return "succeeded" in await rig.kinds(tx)

    await until(ended, "the submission has its outcome")
    again = await national.post(SEND, body)
    assert (again.status_code, again.headers["Ngsp-Transaction"]) == (200, tx)
    assert again.json() == {"Status": "1", "KetQua": "it"}
    other = await national.post(SEND, {**body, "viec": "other"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-mismatch")
    without = await national.post(SEND, {"viec": "it"})
    assert (without.status_code, without.json()["code"]) == (428, "key-required")
    assert len(rig.provider.seen) == 1


async def test_the_provider_s_no_has_its_code(rig: Rig, national: NationalClient) -> None:
    async def act(request: Request) -> object:
        raise RecordNotFound("KHONG-CO")

    rig.provider.act = act  # type: ignore[method-assign]
    answer = await national.get(LOOK_UP, so="900000000001")
    assert answer.status_code == 404
    tx = answer.headers["Ngsp-Transaction"]
    assert answer.json() == {
        "Status": "0",
        "Message": answer.json()["Message"],
        "Code": "record-not-found",
        "MaGiaoDich": tx,
    }
    plain = await national.get(PLACES.format(so="900000000001"))
    assert set(plain.json()) == {"code", "message", "description", "transaction"}
    assert (plain.headers["Content-Language"], plain.headers["Content-Type"]) == (
        "vi",
        "application/json; charset=utf-8",
    )


async def test_provincial_clients(rig: Rig) -> None:
    for unit in ("G22", "000.00.00.G22"):
        client = ProvincialClient(rig.http, partner_header("caller", rig.secrets["caller"], unit))
        token = await client.get_token()
        assert token.json()["scope"] == "exchange"
        sent = await client.send(WHOLE, {"do": "it"})
        assert sent.status_code == 200, sent.text
        for look_up in (client.look_up, client.look_up_otherwise):
            found = await look_up(LOOK_UP, so="900000000001")
            assert found.json()["MainInformation"]["SO"] == "900000000001"
            accepted = (await rig.entries(found.headers["Ngsp-Transaction"]))[0]
            assert accepted["call"] == {"client": "caller", "member": "G22", "route": "look-up"}


async def test_the_interface_s_own_description_says_so(rig: Rig) -> None:
    document = (await rig.http.get("/openapi.json")).json()
    assert {"/token", "/v1/compatible-routes", "/v1/compatible-routes/{id}"} <= document["paths"].keys()
    (tag,) = [tag for tag in document["tags"] if tag["name"] == "compatible"]
    assert "lgspaccesstoken" in tag["description"]
    asked = document["paths"]["/token"]["post"]
    assert asked["tags"][-1] == "compatible"
    form = asked["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
    assert {"grant_type", "client_id", "client_secret"} <= form["properties"].keys()
