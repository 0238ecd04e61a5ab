"""Whatever is wrong at the compatible door has its clear answer there too: nothing is published, one entry says why."""

from __future__ import annotations

import gzip
from typing import Any

import httpx
import pytest

from tests.compatible.conftest import LOOK_UP, OFFICER, PLACES, SEND, STRANGE, WHOLE
from tests.compatible.old_clients import NationalClient, partner_header
from tests.support.gateway import Rig
from tests.support.problems import MARKER, NUMBER, unseen
from tests.support.waiting import until
from tests.support.wire import exchanged

UNKNOWN = "/apiCSDLThu/1.0/khongCo"


async def refused(
    rig: Rig, output: pytest.CaptureFixture[str], answer: httpx.Response, status: int, code: str
) -> dict[str, Any]:
    """Checks the answer of a route without an error shape of its own, and that one entry says why; gives the entry."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    tx = answer.headers["Ngsp-Transaction"]
    assert answer.json()["transaction"] == tx
    assert rig.provider.seen == []
    (found,) = await rig.entries(tx)
    assert (found["kind"], found["call"]["client"]) == ("refused", "caller")
    outcome = found["outcome"]
    assert (outcome["class"], outcome["code"], outcome["status"]) == ("refused-call", code, status)
    assert outcome["reason"]
    unseen(answer.content, repr(answer.headers.raw).encode())
    unseen(await rig.rows.fetchval("SELECT body FROM entries WHERE tx = $1", tx), output.readouterr().err.encode())
    return found


def unknown(answer: httpx.Response) -> None:
    """The answer to a path that nobody knows: the same for every reason, and no transaction."""
    assert answer.status_code == 404, answer.text
    document = answer.json()
    assert (document.pop("code"), answer.headers["Content-Type"]) == ("not-found", "application/problem+json")
    assert document.pop("instance").startswith("urn:uuid:")
    assert "Ngsp-Transaction" not in answer.headers
    assert "Allow" not in answer.headers


async def raw(rig: Rig, method: str, target: str, *fields: str, body: bytes = b"") -> httpx.Response:
    """The answer to a request with exactly this target."""
    bearer = f"Authorization: Bearer {await rig.token('caller')}"
    lines = [f"{method} {target} HTTP/1.1", "Host: gateway", bearer, *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return await exchanged(rig, "\r\n".join([*lines, "", ""]).encode("latin-1") + body)


# Who calls


async def test_nobody_gets_401_in_the_old_shape_and_is_counted(rig: Rig) -> None:
    before = await rig.counted("unauthenticated")
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic Y2FsbGVyOng="}):
        answer = await rig.http.get(LOOK_UP, params={"so": NUMBER}, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["Code"] == "unauthenticated"
        assert answer.json()["MaGiaoDich"] == answer.headers["Ngsp-Transaction"]
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        assert await rig.entries(answer.headers["Ngsp-Transaction"]) == []
        unseen(answer.content)
    plain = await rig.http.post(WHOLE, json={})
    assert plain.json()["code"] == "unauthenticated"

    async def counted() -> bool:
        return await rig.counted("unauthenticated") >= before + 4

    await until(counted, "the refusals are counted")


async def test_no_agreement_is_403_and_says_why_to_operators_only(
    rig: Rig, capsys: pytest.CaptureFixture[str], national: NationalClient
) -> None:
    entry = await refused(rig, capsys, await national.get(STRANGE), 403, "access-denied")
    assert entry["outcome"]["reason"] == "no agreement"
    assert entry["asked"] == {"purpose": "testing", "service": "H41/nobody/v1"}
    stranger = NationalClient(rig.http, "stranger", rig.secrets["stranger"])
    answer = await stranger.post(WHOLE, {"note": MARKER})
    assert (answer.status_code, answer.json()["code"]) == (403, "access-denied")
    assert (await stranger.post(WHOLE, "x" * 100_000)).status_code == 403, "before anything of the body is read"


async def test_a_purpose_outside_the_agreement(
    rig: Rig, capsys: pytest.CaptureFixture[str], national: NationalClient
) -> None:
    entry = await refused(
        rig, capsys, await national.post(OFFICER, {"viec": "it"}, X_Muc_Dich="marketing"), 403, "access-denied"
    )
    assert entry["outcome"]["reason"] == "purpose outside the agreement"


async def test_a_client_without_the_scope(rig: Rig) -> None:
    token = await rig.token("operator")
    answer = await rig.http.post(WHOLE, json={}, headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "scope-missing")
    secret = rig.secrets["operator"]
    answer = await rig.http.post("/token", data={"grant_type": "client_credentials"}, auth=("operator", secret))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


# Path and method


@pytest.mark.parametrize(
    "target",
    [
        UNKNOWN,
        "/apiCSDLThu/1.0/dong",
        "/apiCSDLThu/1.0/traCuu/",
        "//apiCSDLThu/1.0/traCuu",
        "/apiCSDLThu//1.0/traCuu",
        "/apiCSDLThu/1.0/../1.0/traCuu",
        "/apiCSDLThu/1.0/x/../traCuu",
        "/apiCSDLThu/1.0/%2e%2e/1.0/traCuu",
        "/apiCSDLThu/1.0/./traCuu",
        "/apiCSDLThu/1.0%2ftraCuu",
        "/apiCSDLThu%2F1.0%2FtraCuu",
        "/apiCSDLThu/1.0/%74raCuu",
        "/apiCSDLThu/1.0/traCuu;jsessionid=1",
        "/apiCSDLThu;x/1.0/traCuu",
        "/apiCSDLThu/1.0/traCuu%00",
        "/apiCSDLThu/1.0/traCuu%20",
        "/apiCSDLThu/1.0/traCuu.json",
        "/apicsdlthu/1.0/tracuu",
        "/apiCSDLThu/1.0/hoSo/",
        "/apiCSDLThu/1.0/hoSo//chiTiet",
        "/apiCSDLThu/1.0/hoSo/../chiTiet",
        "/apiCSDLThu/1.0/hoSo/%2e%2e/chiTiet",
        "/apiCSDLThu/1.0/hoSo/%2E/chiTiet",
        "/apiCSDLThu/1.0/hoSo/a%2fb/chiTiet",
        "/apiCSDLThu/1.0/hoSo/a%5cb/chiTiet",
        "/apiCSDLThu/1.0/hoSo/a;b/chiTiet",
        "/apiCSDLThu/1.0/hoSo/a%3bb/chiTiet",
        "/apiCSDLThu/1.0/hoSo/a%00b/chiTiet",
        "/apiCSDLThu/1.0/hoSo/%ff/chiTiet",
        "/apiCSDLThu/1.0/hoSo/%c0%af/chiTiet",
        "/apiCSDLThu/1.0/hoSo/%E2%80%AEx/chiTiet",
        "/apiCSDLThu/1.0/hoSo/%E2%80%8Bx/chiTiet",
        "/apiCSDLThu/1.0/hoSo/100%/chiTiet",
        "/apiCSDLThu/1.0/hoSo/" + "9" * 257 + "/chiTiet",
        "/apiCSDLThu/1.0/hoSo/900000000001/chiTiet/x",
    ],
)
async def test_paths_that_are_no_route_s_are_all_the_same(rig: Rig, target: str) -> None:
    for method in ("GET", "POST"):
        unknown(await raw(rig, method, target))
    assert rig.provider.seen == []


async def test_a_full_address_as_target_is_the_same_path(rig: Rig) -> None:
    answer = await raw(rig, "GET", "http://elsewhere.example" + PLACES.format(so="900000000001"))
    assert answer.status_code == 200, "the path is the route's, and nothing leaves for that host"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY"])
async def test_another_method_is_told_to_who_is_entitled(rig: Rig, method: str) -> None:
    answer = await rig.http.request(method, LOOK_UP, headers={"Authorization": f"Bearer {await rig.token('caller')}"})
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")
    assert answer.json()["Code"] == "method-not-allowed"
    (found,) = await rig.entries(answer.headers["Ngsp-Transaction"])
    assert (found["kind"], found["outcome"]["code"]) == ("refused", "method-not-allowed")


async def test_another_method_is_an_unknown_path_to_everybody_else(rig: Rig) -> None:
    stranger = {"Authorization": f"Bearer {await rig.token('stranger')}"}
    wrong = {"lgspaccesstoken": partner_header("caller", rig.secrets["caller"], "H41")}
    for headers in ({}, stranger, {"Authorization": "Bearer x"}, wrong):
        unknown(await rig.http.post(LOOK_UP, json={}, headers=headers))
        unknown(await rig.http.request("PUT", WHOLE, json={}, headers=headers))
    head = await rig.http.head(LOOK_UP)
    assert (head.status_code, head.content) == (404, b"")


# What is sent


@pytest.mark.parametrize(
    "query",
    [
        "so=900000000001&so=900000000001",
        "so=1&s%6F=2",
        f"so=1&{MARKER}=1",
        "so",
        "so=%ff",
        "so=%c0%af",
        "so=%0a",
        "so=%00",
        "so=100%",
        "so=%zz",
        "&",
        "so=1&" + "&".join(f"x{number}=1" for number in range(101)),
    ],
)
async def test_queries(rig: Rig, query: str) -> None:
    answer = await raw(rig, "GET", f"{LOOK_UP}?{query}")
    code = answer.json()["Code"]
    if query == "so":
        assert (answer.status_code, code) == (422, "schema-mismatch"), "empty, as a text"
    else:
        assert (answer.status_code, code) == (400, "malformed-parameter")
    unseen(answer.content)
    assert rig.provider.seen == []
    (found,) = await rig.entries(answer.headers["Ngsp-Transaction"])
    assert found["outcome"]["code"] == code


async def test_a_get_has_no_body(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    path = PLACES.format(so="900000000001")
    await refused(rig, capsys, await raw(rig, "GET", path, body=MARKER.encode()), 400, "malformed-http")
    chunked = await raw(rig, "GET", path, "Transfer-Encoding: chunked")
    await refused(rig, capsys, chunked, 400, "malformed-http")
    assert (await raw(rig, "GET", path, "Content-Length: 0", "Content-Type: application/json")).status_code == 200


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/xml", "application/x-www-form-urlencoded", "application/json; charset=utf-16",
     "application/json, application/json", "multipart/form-data"],
)  # fmt: skip
async def test_content_types(rig: Rig, capsys: pytest.CaptureFixture[str], content_type: str) -> None:
    fields = [f"Content-Type: {content_type}"] if content_type else []
    answer = await raw(rig, "POST", WHOLE, *fields, body=b'{"note":"%s"}' % MARKER.encode())
    await refused(rig, capsys, answer, 415, "unsupported-type")


async def test_a_content_coding(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    body = gzip.compress(b"{}")
    fields = ("Content-Type: application/json", "Content-Encoding: gzip")
    await refused(rig, capsys, await raw(rig, "POST", WHOLE, *fields, body=body), 415, "unsupported-type")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed-json"),
        (b'{"note":"zqmarkerzq","note":"b"}', 400, "malformed-json"),
        (b'{"n":NaN}', 400, "malformed-json"),
        (b'{"n":1e400}', 400, "malformed-json"),
        (b'{"note":"zqmarkerzq\xff"}', 400, "malformed-json"),
        (b"\xff\xfe{\x00}\x00", 400, "malformed-json"),
        (b'{"list":' + b"[" * 40 + b"]" * 40 + b"}", 400, "malformed-json"),
        (b'{"list":[0' + b",0" * 10_001 + b"]}", 413, "body-too-large"),
        (b'{"note":"' + b"z" * 70_000 + b'"}', 413, "body-too-large"),
        (b'{"n":9007199254740993}', 422, "schema-mismatch"),
        (b'{"zqmarkerzq":"900199912345"}', 422, "schema-mismatch"),
        (b'["zqmarkerzq"]', 422, "schema-mismatch"),
    ],
)
async def test_bodies(rig: Rig, capsys: pytest.CaptureFixture[str], body: bytes, status: int, code: str) -> None:
    """The same where the body is passed on as it is, and where it is looked into first."""
    for path in (WHOLE, OFFICER):
        if path == OFFICER and code == "schema-mismatch" and MARKER.encode() in body:
            continue  # what is not looked at there is not passed on
        fields = ("Content-Type: application/json", "X-Muc-Dich: testing", *(() if body else ("Content-Length: 0",)))
        await refused(rig, capsys, await raw(rig, "POST", path, *fields, body=body), status, code)


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        ({"viec": "it"}, {}, "malformed-parameter"),
        ({"viec": "it", "maCanBo": NUMBER}, {"X_Muc_Dich": "testing"}, "malformed-parameter"),
        ({"viec": "it", "maCanBo": f"cb {MARKER}"}, {"X_Muc_Dich": "testing"}, "malformed-parameter"),
        ({"viec": "it", "maCanBo": ["x"]}, {"X_Muc_Dich": "testing"}, "malformed-parameter"),
        ({"viec": "it", "maCanBo": True}, {"X_Muc_Dich": "testing"}, "malformed-parameter"),
        ({"viec": "it", "maCanBo": "cb", "maHoSo": MARKER}, {"X_Muc_Dich": "testing"}, "malformed-parameter"),
        ({"viec": "it", "maCanBo": "cb", "maTTHC": MARKER}, {"X_Muc_Dich": "testing"}, "malformed-parameter"),
        ({"viec": "it", "maCanBo": "cb"}, {"X_Muc_Dich": "Zqmarkerzq !"}, "malformed-parameter"),
        ({"viec": "it", "maCanBo": "cb"}, {}, "malformed-parameter"),
        ({"viec": "it"}, {"X_Muc_Dich": "testing"}, "malformed-header"),
    ],
)
async def test_fields_off_their_form(
    rig: Rig,
    capsys: pytest.CaptureFixture[str],
    national: NationalClient,
    body: dict[str, Any],
    headers: dict[str, str],
    code: str,
) -> None:
    await refused(rig, capsys, await national.post(OFFICER, body, **headers), 400, code)


async def test_a_header_that_is_read_comes_once(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    body = b'{"viec":"it","maCanBo":"cb"}'
    for fields in (("X-Muc-Dich: testing", "X-Muc-Dich: testing"), ("X-Muc-Dich: testing\xff",)):
        answer = await raw(rig, "POST", OFFICER, "Content-Type: application/json", *fields, body=body)
        await refused(rig, capsys, answer, 400, "malformed-header")


@pytest.mark.parametrize("code", ["", "é" + MARKER, f"a {MARKER}", "x" * 181, ["x"], {"a": 1}, None, 1.5])
async def test_a_submission_needs_its_own_code(
    rig: Rig, capsys: pytest.CaptureFixture[str], national: NationalClient, code: Any
) -> None:
    answer = await national.post(SEND, {"viec": "it", "maYeuCau": code})
    if code in ("", None):
        await refused(rig, capsys, answer, 428, "key-required")
    else:
        await refused(rig, capsys, answer, 400, "malformed-parameter")


async def test_what_cannot_be_worked_out_is_no_defect(
    rig: Rig, capsys: pytest.CaptureFixture[str], national: NationalClient
) -> None:
    body = {"viec": MARKER, "maCanBo": "cb", "soLuong": {"a": [MARKER]}}
    answer = await national.post(OFFICER, body, X_Muc_Dich="testing")
    await refused(rig, capsys, answer, 422, "schema-mismatch")


async def test_an_answer_that_the_caller_would_not_take(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    answer = await raw(rig, "GET", PLACES.format(so="900000000001"), "Accept: text/html")
    await refused(rig, capsys, answer, 406, "not-acceptable")


async def test_heads_that_are_too_large(rig: Rig) -> None:
    answer = await raw(rig, "GET", LOOK_UP, f"lgspaccesstoken: {'A' * 70_000}")
    assert answer.status_code == 431
    answer = await raw(rig, "GET", f"{LOOK_UP}?so={'9' * 9_000}")
    assert answer.status_code == 414
