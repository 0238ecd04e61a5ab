"""Bad input at the door of a running gateway: its own clear answer, nothing published, one entry in the log."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.gateway import Rig
from tests.support.problems import MARKER, NUMBER, problem, refused, unseen
from tests.support.waiting import until
from tests.support.wire import exchanged, head

LIMIT_BYTES = 65_536
SIZES = {"small": 0, "middle": 30_000, "near-the-limit": LIMIT_BYTES}

MANY_MEMBERS = b",".join(b'"%d":0' % number for number in range(9_998))
JSON_CASES: dict[str, tuple[bytes, int, str]] = {
    "a key twice": (b'{"note":"@","do":"zqmarkerzq","do":"b"}', 400, "malformed-json"),
    "a key twice, once by escapes": (b'{"note":"@","do":"zqmarkerzq","\\u0064o":"b"}', 400, "malformed-json"),
    "a key twice, deep inside": (b'{"note":"@","list":[[{"zqmarkerzq":1,"zqmarkerzq":1}]]}', 400, "malformed-json"),
    "a key twice, far apart": (b'{"do":"b","note":"@","do":"zqmarkerzq"}', 400, "malformed-json"),
    "NaN": (b'{"note":"@","n":NaN}', 400, "malformed-json"),
    "Infinity": (b'{"note":"@","n":Infinity}', 400, "malformed-json"),
    "minus Infinity": (b'{"note":"@","n":-Infinity}', 400, "malformed-json"),
    "1e400": (b'{"note":"@","n":1e400}', 400, "malformed-json"),
    "-1e400": (b'{"note":"@","list":[-1e400]}', 400, "malformed-json"),
    "invalid UTF-8": (b'{"note":"@","do":"zqmarkerzq\xff"}', 400, "malformed-json"),
    "overlong UTF-8": (b'{"note":"@","do":"zqmarkerzq\xc0\xaf"}', 400, "malformed-json"),
    "a surrogate in UTF-8": (b'{"note":"@","do":"zqmarkerzq\xed\xa0\x80"}', 400, "malformed-json"),
    "a lone surrogate by escape": (b'{"note":"@","do":"zqmarkerzq\\ud800"}', 400, "malformed-json"),
    "a lone surrogate in a key": (b'{"note":"@","\\udc00zqmarkerzq":1}', 400, "malformed-json"),
    "a byte order mark": (b'\xef\xbb\xbf{"note":"@"}', 400, "malformed-json"),
    "an integer of 5,000 digits": (b'{"note":"@","n":%s}' % (b"9" * 5000), 400, "malformed-json"),
    "two documents": (b'{"note":"@"}{"do":"zqmarkerzq"}', 400, "malformed-json"),
    "text behind": (b'{"note":"@"} zqmarkerzq', 400, "malformed-json"),
    "a trailing comma": (b'{"note":"@","do":"zqmarkerzq",}', 400, "malformed-json"),
    "a comment": (b'{"note":"@" /* zqmarkerzq */}', 400, "malformed-json"),
    "single quotes": (b"{'note':'@zqmarkerzq'}", 400, "malformed-json"),
    "cut short": (b'{"note":"@","do":"zqmarkerzq', 400, "malformed-json"),
    "a control character": (b'{"note":"@","do":"zqmarkerzq\n"}', 400, "malformed-json"),
    "a zero byte": (b'{"note":"@","do":"zqmarkerzq\x00"}', 400, "malformed-json"),
    "a leading zero": (b'{"note":"@","n":01}', 400, "malformed-json"),
    "a plus sign": (b'{"note":"@","n":+1}', 400, "malformed-json"),
    "nesting of 33": (b'{"note":"@","list":%s%s}' % (b"[" * 32, b"]" * 32), 400, "malformed-json"),
    "nesting of 5,000": (b'{"note":"@","list":%s%s}' % (b"[" * 5000, b"]" * 5000), 400, "malformed-json"),
    "10,001 items": (b'{"note":"@","list":[0%s]}' % (b",0" * 9_998), 413, "body-too-large"),
    "10,001 members": (b'{"note":"@","list":[{%s}]}' % MANY_MEMBERS, 413, "body-too-large"),
    "an integer beyond 2^53": (b'{"note":"@","list":[9007199254740993]}', 422, "schema-mismatch"),
    "an integer below -2^53": (b'{"note":"@","list":[-9007199254740993]}', 422, "schema-mismatch"),
    "an unknown field": (b'{"note":"@","zqmarkerzq":"900199912345"}', 422, "schema-mismatch"),
    "a wrong type": (b'{"note":"@","do":["zqmarkerzq"]}', 422, "schema-mismatch"),
    "off its pattern": (b'{"note":"@","id":"zqmarkerzq"}', 422, "schema-mismatch"),
    "not an object": (b'["@zqmarkerzq"]', 422, "schema-mismatch"),
}

GOOD_JSON: dict[str, bytes] = {
    "nesting of 32": b'{"note":"@","list":%s%s}' % (b"[" * 31, b"]" * 31),
    "10,000 items": b'{"note":"@","list":[0%s]}' % (b",0" * 9_997),
    "2^53 - 1": b'{"note":"@","n":9007199254740991}',
    "space all about": b' \r\n\t{ "note" : "@" , "do" : "x" }\n',
    "a pair of surrogates": b'{"note":"@","do":"\\ud83d\\ude00"}',
    "brackets in a text": b'{"note":"@%s"}' % (b"[{,\\\"" * 1_000),
    "the same key in two objects": b'{"note":"@","list":[{"a":1},{"a":1}]}',
}  # fmt: skip


def filled(template: bytes, size: int) -> bytes:
    """`template` with its `@` drawn out so that the whole has about `size` bytes, at most the limit."""
    return template.replace(b"@", b"p" * max(0, size - len(template)))


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("case", JSON_CASES)
async def test_bodies_that_are_not_what_they_must_be(
    rig: Rig, capsys: pytest.CaptureFixture[str], case: str, size: int
) -> None:
    template, status, code = JSON_CASES[case]
    answer = await rig.call(content=filled(template, size))
    await refused(rig, capsys, answer, status, code)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("case", GOOD_JSON)
async def test_bodies_just_within_what_is_allowed(rig: Rig, case: str, size: int) -> None:
    body = filled(GOOD_JSON[case], size)
    answer = await rig.call(content=body)
    assert answer.status_code == 200, answer.text
    assert rig.provider.seen[0].body == body


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
async def test_other_encodings(rig: Rig, capsys: pytest.CaptureFixture[str], encoding: str, size: int) -> None:
    text = filled(b'{"note":"@","do":"zqmarkerzq"}', size // 5).decode()
    await refused(rig, capsys, await rig.call(content=text.encode(encoding)), 400, "malformed-json")


@pytest.mark.parametrize("body", [b"", b" ", b" \r\n\t " * 8_000, b"\x00", b"zqmarkerzq=1&b=2"])
async def test_bodies_without_json(rig: Rig, capsys: pytest.CaptureFixture[str], body: bytes) -> None:
    await refused(rig, capsys, await rig.call(content=body), 400, "malformed-json")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "text/plain",
        "text/json",
        "application/xml",
        "application/jsonx",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=zqmarkerzq",
        "application/json; charset=utf-16",
        "application/json; charset=iso-8859-1",
        "application/json; charset=zqmarkerzq",
        "application/json, text/plain",
    ],
)
async def test_wrong_content_types(rig: Rig, capsys: pytest.CaptureFixture[str], value: str) -> None:
    await refused(rig, capsys, await rig.call(Content_Type=value), 415, "unsupported-type")


@pytest.mark.parametrize("value", ["application/json; charset=UTF-8", 'APPLICATION/JSON;charset="utf-8"'])
async def test_content_types_that_say_the_same(rig: Rig, value: str) -> None:
    assert (await rig.call(Content_Type=value)).status_code == 200


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "deflate", "identity, gzip", "zqmarkerzq"])
async def test_content_codings_are_not_undone(rig: Rig, capsys: pytest.CaptureFixture[str], coding: str) -> None:
    bomb = gzip.compress(b'{"note":"' + b" " * 30_000_000 + b'"}')
    assert len(bomb) < LIMIT_BYTES
    await refused(rig, capsys, await rig.call(content=bomb, Content_Encoding=coding), 415, "unsupported-type")


async def test_an_answer_that_the_caller_would_not_take(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    await refused(rig, capsys, await rig.call(Accept="text/html"), 406, "not-acceptable")


# Headers

MALFORMED: dict[str, list[bytes]] = {
    "Ngsp-Purpose": [
        b"", b"Zqmarkerzq", b"zq markerzq", b"../zqmarkerzq", b"zqmarkerzq-", b"z" * 65, b"testing,zqmarkerzq",
        b"900199912345", b"cccd-900199912345", "việc-zqmarkerzq".encode(), b"zqmarkerzq\xff",
    ],
    "Ngsp-Agreement": [
        b"zqmarkerzq", b"' OR 1=1--", b"01920000-0000-7000-8000-ZQMARKERZQ00", b"{01920000-0000-7000-8000-00000000}",
    ],
    "Ngsp-Officer": [
        b"", b"zqmarkerzq 0017", b"z" * 65, b"900199912345", b"canbo-900199912345", "Nguyễn.zqmarkerzq".encode(),
    ],
    "Ngsp-Dossier": [
        b"zqmarkerzq", b"000.00.00.h41-261121-0001", b"900199912345-261121-0001", b"000.00.00.H41-261121-1",
    ],
    "Ngsp-Procedure": [b"zqmarkerzq", b"1.00419", b"1.004194.900199912345", "1.००4194".encode()],
    "Ngsp-Consent": [b"", b"zqmarkerzq zq", b"z" * 129, b"cccd:900199912345", b"zqmarkerzq\x80"],
    "Idempotency-Key": [b"", b"zqmarkerzq zq", b"z" * 256, "khoá-zqmarkerzq".encode(), b"zqmarkerzq\xfe"],
}  # fmt: skip


def _bytes(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


async def send(rig: Rig, *headers: tuple[str, bytes], leave_out: str = "") -> httpx.Response:
    """The usual call with further headers, in bytes; those of the same name are there twice."""
    usual = {"Content-Type": "application/json"} | await rig.headers()
    usual.pop(leave_out, None)
    given = [(name.encode(), value) for name, value in headers]
    return await rig.http.post("/v1/services/H41/look-up/v1", content=b"{}", headers=[*_bytes(usual), *given])


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_headers(rig: Rig, capsys: pytest.CaptureFixture[str], name: str) -> None:
    for value in MALFORMED[name]:
        answer = await send(rig, (name, value), leave_out=name)
        found = await refused(rig, capsys, answer, 400, "malformed-header")
        assert found["outcome"]["reason"] == f"malformed {name.lower()}"
        if name != "Ngsp-Purpose":
            assert name in answer.json()["detail"] or name.lower() in answer.json()["detail"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Ngsp-Purpose", b"testing"),
        ("Ngsp-Agreement", b"01920000-0000-7000-8000-000000000000"),
        ("Ngsp-Officer", b"canbo-0017"),
        ("Ngsp-Dossier", b"000.00.00.H41-261121-0001"),
        ("Ngsp-Procedure", b"1.004194"),
        ("Ngsp-Consent", b"consent-1"),
        ("Idempotency-Key", b"one"),
    ],
)
async def test_headers_that_are_there_twice(
    rig: Rig, capsys: pytest.CaptureFixture[str], name: str, value: bytes
) -> None:
    answer = await send(rig, (name, value), (name, value), leave_out=name)
    await refused(rig, capsys, answer, 400, "malformed-header")


async def test_a_missing_purpose(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    answer = await send(rig, leave_out="Ngsp-Purpose")
    found = await refused(rig, capsys, answer, 400, "malformed-header")
    assert found["outcome"]["reason"] == "no purpose"


async def test_headers_that_are_only_hints_are_passed_over(rig: Rig) -> None:
    """A malformed traceparent is as good as none (W3C Trace Context), and so is an unknown preference (RFC 7240)."""
    for name, value in (
        ("traceparent", b"zqmarkerzq"),
        ("traceparent", b"\xff" * 55),
        ("Prefer", b"wait=zqmarkerzq"),
        ("Prefer", b"wait=99999999999999999999"),
        ("Accept-Language", b"\xff;q=zqmarkerzq,;;;,q=nan"),
        ("Ngsp-Unheard-Of", b"zqmarkerzq"),
    ):
        answer = await send(rig, (name, value))
        assert answer.status_code == 200
        unseen(*[body for (body,) in await rig.rows.fetch("SELECT body FROM entries")])


# Paths


async def at(rig: Rig, path: str) -> httpx.Response:
    """`POST` to exactly this path."""
    return await exchanged(rig, await head(rig, "Content-Length: 2", path=path), b"{}")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "H41",
        "H41/look-up",
        "H41/look-up/",
        "H41/look-up/v1/",
        "H41/look-up/v1/zqmarkerzq",
        "H41//v1",
        "/look-up/v1",
        "../../v1/services/H41/look-up/v1",
        "H41/../look-up/v1",
        "H41/./v1",
        "H41/%2e%2e/v1",
        "H41%2Flook-up/v1",
        "H41/look-up/v1%3Fa",
        "H41/%6cook-up/v1",
        "H41/..%5czqmarkerzq/v1",
        "H41/look-up%00/v1",
        "H41/look%E2%80%8Bup/v1",
        "H41/look-up%E2%80%AE/v1",
        "H41/%EF%BD%8Cook-up/v1",
        "H41/l%D0%BEok-up/v1",
        "H41/%ff%fe/v1",
        "H41/LOOK-UP/v1",
        "H41/Zqmarkerzq/v1",
        "h41/look-up/v1",
        "900199912345/look-up/v1",
        "H41/900199912345/v1",
        "H41/a900199912345/v1",
        "H41.900199912345/look-up/v1",
        "H41/look_up/v1",
        "H41/look-up/1",
        "H41/look-up/v0",
        "H41/look-up/v01",
        "H41/look-up/v1.0",
        "H41/look-up/v99999",
        "H41/look-up';DROP%20TABLE%20entries--/v1",
        "H41/" + "z" * 65 + "/v1",
        "H41/" + "z" * 5_000 + "/v1",
        "H" + "41." * 12 + "00/look-up/v1",
    ],
)
async def test_odd_paths(rig: Rig, capsys: pytest.CaptureFixture[str], path: str) -> None:
    answer = await at(rig, "/v1/services/" + path)
    found = await refused(rig, capsys, answer, *_EXPECTED.get(path, (422, "invalid-identifier")))
    service = found["asked"].get("service", "")
    assert service.isascii() and service.isprintable()


_EXPECTED = {"H41/a900199912345/v1": (403, "access-denied"), "H41.900199912345/look-up/v1": (403, "access-denied")}
"""Well-formed, if odd."""


@pytest.mark.parametrize("path", ["H41/look-up/v2", "H41/nothing/v1", "H14/look-up/v1", "Z99/look-up/v1"])
async def test_what_does_not_exist(rig: Rig, capsys: pytest.CaptureFixture[str], path: str) -> None:
    found = await refused(rig, capsys, await at(rig, f"/v1/services/{path}"), 403, "access-denied")
    assert found["asked"] == {"purpose": "testing", "service": path}


async def test_other_paths_and_methods(rig: Rig) -> None:
    problem(await at(rig, "/v1/zqmarkerzq"), 404, "not-found")
    problem(await at(rig, "/v1/services"), 405, "method-not-allowed")
    for method in ("PUT", "PATCH", "DELETE"):
        answer = await rig.http.request(method, "/v1/services/H41/look-up/v1", headers=await rig.headers())
        problem(answer, 405, "method-not-allowed")


async def test_entries_of_odd_calls_can_be_projected_and_listed(rig: Rig) -> None:
    answer = await at(rig, "/v1/services/H41/look-up%00/v1")
    tx = answer.headers["Ngsp-Transaction"]

    async def listed() -> bool:
        found = await rig.get("/v1/transactions?limit=500", by="operator")
        return any(item["id"] == tx for item in found.json()["items"])

    await until(listed, "the refusal to be listed")
    assert await rig.rows.fetchval("SELECT count(*) FROM quarantine") == 0


# Bodies that are too large: refused while they are read


@pytest.mark.parametrize("size", [LIMIT_BYTES + 1, 10**9, 10**18])
async def test_a_declared_length_over_the_limit_is_refused_unread(
    rig: Rig, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    answer = await exchanged(rig, await head(rig, f"Content-Length: {size}"))
    await refused(rig, capsys, answer, 413, "body-too-large")


async def test_a_chunked_body_is_counted_while_it_is_read(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    chunks = [b"1000\r\n" + b" " * 4096 + b"\r\n"] * (LIMIT_BYTES // 4096 + 1)  # a little too many, and no end
    answer = await exchanged(rig, await head(rig, "Transfer-Encoding: chunked"), *chunks)
    await refused(rig, capsys, answer, 413, "body-too-large")


async def test_bodies_at_the_limit_in_one_piece_and_in_many(rig: Rig) -> None:
    body = filled(b'{"note":"@"}', LIMIT_BYTES + 1)
    assert len(body) == LIMIT_BYTES

    async def dribbled(whole: bytes) -> AsyncIterator[bytes]:
        for begin in range(0, len(whole), 5_000):
            yield whole[begin : begin + 5_000]

    for content, status in ((body, 200), (dribbled(body), 200), (body + b" ", 413), (dribbled(body + b" "), 413)):
        headers = {"Content-Type": "application/json"} | await rig.headers()
        answer = await rig.http.post("/v1/services/H41/look-up/v1", content=content, headers=headers)
        assert answer.status_code == status
    assert len(rig.provider.seen) == 2


# Before anybody is known


async def test_refusals_before_authentication_are_counted_not_logged(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = await rig.rows.fetchval("SELECT count(*) FROM entries")
    for token in (MARKER, f"{MARKER}.{MARKER}.{MARKER}", NUMBER):
        answer = await rig.http.post(
            f"/v1/services/{MARKER}/{NUMBER}/v1",
            content=b'{"zqmarkerzq',
            headers={"Authorization": f"Bearer {token}", "Ngsp-Purpose": f"{MARKER} {NUMBER}"},
        )
        problem(answer, 401, "unauthenticated")
    good = f"Bearer {await rig.token('caller')}".encode()
    for first, second in ((good, b"Bearer x"), (b"Bearer x", good), (good, good)):
        answer = await send(rig, ("Authorization", first), ("Authorization", second), leave_out="Authorization")
        problem(answer, 401, "unauthenticated")
    for field, status in (("Transfer-Encoding: chunked", 400), (f"Ngsp-Padding: {'z' * 70_000}", 431)):
        assert (await exchanged(rig, await head(rig, "Content-Length: 2", field))).status_code == status

    async def counted() -> bool:
        rows = await rig.rows.fetch("SELECT code, sum(count) AS count FROM refusals GROUP BY code")
        counts = {row["code"]: row["count"] for row in rows}
        return counts.items() >= {"unauthenticated": 6, "malformed-http": 1, "headers-too-large": 1}.items()

    await until(counted, "the counts in the table")
    assert await rig.rows.fetchval("SELECT count(*) FROM entries") == entries
    assert rig.provider.seen == []
    unseen(capsys.readouterr().err.encode())
    unseen(*[row["whole"].encode() for row in await rig.rows.fetch("SELECT r::text AS whole FROM refusals r")])
