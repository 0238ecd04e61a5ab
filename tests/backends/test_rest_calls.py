"""What a REST back end is asked, and how its answers become replies and outcomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from ngsp.adapter import Failed, ManifestError, RecordNotFound, Request, Unavailable
from ngsp.adapter.backends.base import Answer
from tests.adapters.door import door_to
from tests.backends.declaring import LOCAL, load, served
from tests.backends.declaring import manifest as made
from tests.backends.scripted import Asked, Scripted, always, in_turn, json_answer, never, raw

BACKEND = """
kind: rest
url: {env: URL}
timeout_s: 1
retry: {attempts: 1}
"""


def manifest(service: str, mode: str = "query", effect: str = "idempotent", backend: str = BACKEND) -> str:
    return made(backend, service, mode, effect)


async def asked(server: Scripted, folder: Path, service: str, payload: Any, **how: str) -> Asked:
    """The request that the server saw."""
    async with served(folder, manifest(service), URL=server.url) as door:
        await door.answer(payload, **how)
    (found,) = server.asked
    return found


async def test_path_and_query_are_made_of_the_request(server: Scripted, tmp_path: Path) -> None:
    service = """
    call:
      path: /v2/{payload.place}/citizens/{payload.number}
      query: {full: payload.full, code: payload.codes, none: payload.none, at: "vn_time(deadline, 'yyyyMMdd')"}
    """
    payload = {"place": "Nghệ An/40?", "number": 912, "full": True, "codes": ["a b", "c&d=e"], "none": None}
    found = await asked(server, tmp_path, service, payload)
    assert (found.method, found.path) == ("GET", "/v2/Nghệ An/40?/citizens/912")
    assert found.target.startswith("/v2/Ngh%E1%BB%87%20An%2F40%3F/citizens/912?")
    assert found.query[:3] == [("full", "true"), ("code", "a b"), ("code", "c&d=e")]
    assert [name for name, _ in found.query] == ["full", "code", "code", "at"]


@pytest.mark.parametrize("value", ["", ".", "..", None, {"a": 1}, ["x"], True])
async def test_a_value_that_is_no_segment_asks_nothing(server: Scripted, tmp_path: Path, value: Any) -> None:
    async with served(tmp_path, manifest("call: {path: '/a/{payload.x}/b'}"), URL=server.url) as door:
        reply = await door.ask({"x": value})
    assert (reply.status, reply.code, server.asked) == ("failed", "no-call", [])


async def test_headers_carry_who_asks(server: Scripted, tmp_path: Path) -> None:
    service = "call: {path: /a, headers: {X-Id: id, X-Officer: officer, X-Dossier: dossier, X-Why: purpose}}"
    found = await asked(server, tmp_path, service, {}, officer="canbo-17", dossier="H41.1-2")
    seen = {name: found.headers[name] for name in ("x-officer", "x-dossier", "x-why")}
    assert seen == {"x-officer": "canbo-17", "x-dossier": "H41.1-2", "x-why": "test"}
    assert len(found.headers["x-id"]) == 36
    assert (found.headers["accept"], found.headers["accept-encoding"]) == ("application/json", "identity")


async def test_a_line_break_in_a_header_asks_nothing(server: Scripted, tmp_path: Path) -> None:
    service = "call: {path: /a, headers: {X-Name: payload.name}}"
    async with served(tmp_path, manifest(service), URL=server.url) as door:
        reply = await door.ask({"name": "a\r\nX-Admin: yes"})
    assert (reply.status, reply.code, server.asked) == ("failed", "no-call", [])


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_body_is_a_shape(server: Scripted, tmp_path: Path, method: str) -> None:
    service = f"""
    call:
      method: {method}
      path: /records
      json: {{id: id, name: name_parts(payload.name), fixed: "'LTKS'", count: 3, deep: {{all: "payload.items[*].x"}}}}
    """
    payload = {"name": "Nguyễn Thị Minh Khai", "items": [{"x": 1}, {"x": 2}]}
    found = await asked(server, tmp_path, service, payload)
    assert (found.method, found.headers["content-type"]) == (method, "application/json")
    document = orjson.loads(found.body)
    assert document.pop("id")
    assert document == {
        "name": {"Ho": "Nguyễn", "ChuDem": "Thị Minh", "Ten": "Khai"},
        "fixed": "LTKS",
        "count": 3,
        "deep": {"all": [1, 2]},
    }


async def test_a_large_body_is_sent_whole(server: Scripted, tmp_path: Path) -> None:
    text = "ă" * 700_000
    found = await asked(server, tmp_path, "call: {method: POST, path: /a, json: payload}", {"x": text})
    assert orjson.loads(found.body) == {"x": text}


async def test_a_form(server: Scripted, tmp_path: Path) -> None:
    service = "call: {method: POST, path: /a, form: {name: payload.name, none: payload.none}}"
    found = await asked(server, tmp_path, service, {"name": "Đặng & con"})
    assert (found.headers["content-type"], found.body) == (
        "application/x-www-form-urlencoded",
        b"name=%C4%90%E1%BA%B7ng+%26+con",
    )


async def test_without_reply_the_body_is_the_reply(server: Scripted, tmp_path: Path) -> None:
    server.answer = always(json_answer({"a": [1, {"b": None}]}))
    async with served(tmp_path, manifest("call: {path: /a}"), URL=server.url) as door:
        assert await door.answer({}) == {"a": [1, {"b": None}]}


async def test_a_reply_is_mapped(server: Scripted, tmp_path: Path) -> None:
    service = """
    call: {path: /a}
    reply:
      code: body.MA
      form: lookup('forms', body.LOAI)
      day: iso_date(body.NGAY, 'dd/MM/yyyy')
      page: to_number(headers."x-page")
      asked: payload.q
      known: status == `200`
    """
    server.answer = always(json_answer({"MA": "1", "LOAI": "03", "NGAY": "09/11/2025"}, X_Page="7"))
    async with served(tmp_path, manifest(service), URL=server.url) as door:
        assert await door.answer({"q": "x"}) == {
            "code": "1",
            "form": "co-phan",
            "day": "2025-11-09",
            "page": 7,
            "asked": "x",
            "known": True,
        }
        server.answer = always(json_answer({"MA": "1", "LOAI": "99", "NGAY": "09/11/2025"}))
        unknown = await door.ask({"q": "x"})
        assert (unknown.status, unknown.code) == ("failed", "off-contract")


OUTCOMES = """
call: {method: POST, path: /a, headers: {Idempotency-Key: id}}
outcomes:
  - {when: "status == `404` && body.KET_QUA == 'KHONG_CO'", outcome: not-found, code: KHONG-CO}
  - {when: "status == `409`", outcome: ok}
  - {when: body.LOI, outcome: refused, code: "LOI-{body.LOI}"}
  - {when: "body.CHO", outcome: retry, code: CHO}
  - {when: "body.HONG", outcome: failed, code: HONG}
  - {when: "body.KHONG_RO", outcome: unknown, code: KHONG-RO}
"""


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (json_answer({"KET_QUA": "KHONG_CO"}, "404 Not Found"), ("not-found", "KHONG-CO")),
        (json_answer({"KET_QUA": "?"}, "404 Not Found"), ("failed", "backend-status-404")),
        (raw("404 Not Found", b"<p>", Content_Type="text/html"), ("failed", "backend-status-404")),
        (json_answer({}, "409 Conflict"), ("ok", "")),
        (json_answer({"LOI": 17}), ("refused", "LOI-17")),
        (json_answer({"LOI": {"x": 1}}), ("failed", "off-contract")),
        (json_answer({"CHO": True}), ("retry", "CHO")),
        (json_answer({"HONG": 1}), ("failed", "HONG")),
        (json_answer({"KHONG_RO": 1}), ("retry", "KHONG-RO")),
        (json_answer({}), ("ok", "")),
        (raw("204 No Content"), ("ok", "")),
        (json_answer({}, "400 Bad Request"), ("failed", "backend-status-400")),
        (json_answer({}, "401 Unauthorized"), ("retry", "backend-status-401")),
        (json_answer({}, "429 Too Many Requests"), ("retry", "backend-status-429")),
        (json_answer({}, "500 Internal Server Error"), ("failed", "backend-status-500")),
        (json_answer({}, "502 Bad Gateway"), ("retry", "backend-status-502")),
        (json_answer({}, "503 Service Unavailable"), ("retry", "backend-status-503")),
    ],
)
async def test_outcomes(server: Scripted, tmp_path: Path, answer: bytes, expected: tuple[str, str]) -> None:
    """A submission that may be sent again: what may have been done is asked again, never told to be unknown."""
    server.answer = always(answer)
    async with served(tmp_path, manifest(OUTCOMES, "submission"), URL=server.url) as door:
        reply = await door.ask({})
        assert (reply.status, reply.code) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (json_answer({"KHONG_RO": 1}), ("unknown", "KHONG-RO")),
        (json_answer({}, "502 Bad Gateway"), ("unknown", "backend-status-502")),
        (json_answer({}, "504 Gateway Timeout"), ("unknown", "backend-status-504")),
        (json_answer({}, "503 Service Unavailable"), ("retry", "backend-status-503")),
        (json_answer({}, "500 Internal Server Error"), ("failed", "backend-status-500")),
        (raw("200 OK", b"<p>Sorry", Content_Type="text/html"), ("unknown", "backend-not-json")),
        (json_answer({"LOI": {"x": 1}}), ("unknown", "off-contract")),
    ],
)
async def test_what_may_have_been_done_is_unknown_where_it_must_not_be_repeated(
    server: Scripted, tmp_path: Path, answer: bytes, expected: tuple[str, str]
) -> None:
    server.answer = always(answer)
    text = manifest(OUTCOMES, "submission", "uncertain", BACKEND.replace("attempts: 1", "attempts: 5"))
    async with served(tmp_path, text, URL=server.url) as door:
        reply = await door.ask({})
    assert (reply.status, reply.code) == expected
    assert len(server.asked) == (5 if expected[0] == "retry" else 1)


@pytest.mark.parametrize(
    ("mode", "effect", "expected"),
    [
        ("query", "idempotent", "retry"),
        ("submission", "idempotent", "retry"),
        ("submission", "uncertain", "unknown"),
    ],
)
@pytest.mark.parametrize("fault", ["silent", "cut off"])
async def test_an_answer_that_does_not_come(
    server: Scripted, tmp_path: Path, mode: str, effect: str, expected: str, fault: str
) -> None:
    server.answer = never if fault == "silent" else always(b"HTTP/1.1 200 OK\r\nContent-Le", then_close=True)
    service = "call: {method: POST, path: /a, headers: {Idempotency-Key: id}}"
    async with served(tmp_path, manifest(service, mode, effect), URL=server.url) as door:
        reply = await door.ask({})
    code = "backend-timeout" if fault == "silent" else "backend-cut-off"
    assert (reply.status, reply.code, len(server.asked)) == (expected, code, 1)


async def test_tried_again_within_the_deadline(server: Scripted, tmp_path: Path) -> None:
    backend = BACKEND.replace("attempts: 1", "attempts: 3, wait_s: 0.01")
    server.answer = in_turn(json_answer({}, "503 Service Unavailable"), json_answer({}, "429 Slow"), json_answer([1]))
    async with served(tmp_path, manifest("call: {path: /a}", backend=backend), URL=server.url) as door:
        assert await door.answer({}) == [1]
        assert len(server.asked) == 3
        server.answer = always(json_answer({}, "503 Service Unavailable"))
        assert (await door.ask({}, deadline_s=0.9)).status == "retry"
        assert len(server.asked) == 4, "there was no time for a second try"


async def test_the_breaker_leaves_a_failing_system_alone(server: Scripted, tmp_path: Path) -> None:
    backend = BACKEND + "breaker: {failures: 3, open_s: 600}\n"
    server.answer = always(json_answer({}, "500 Broken"))
    async with served(tmp_path, manifest("call: {path: /a}", backend=backend), URL=server.url) as door:
        for _ in range(3):
            assert (await door.ask({})).code == "backend-status-500"
        left_alone = await door.ask({})
        assert (left_alone.status, left_alone.code) == ("retry", "backend-left-alone")
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("answer", "opens"),
    [
        (json_answer({"CHO": True}), False),
        (json_answer({"CHO": True}, "404 Not Found"), False),
        (json_answer({"CHO": True}, "401 Unauthorized"), True),
        (json_answer({"CHO": True}, "429 Too Many Requests"), True),
        (json_answer({"CHO": True}, "500 Internal Server Error"), True),
        (json_answer({"CHO": True}, "503 Service Unavailable"), True),
        (json_answer({}, "503 Service Unavailable"), True),
    ],
)
async def test_a_not_yet_by_a_rule_is_no_failure_of_a_system_that_is_well(
    server: Scripted, tmp_path: Path, answer: bytes, opens: bool
) -> None:
    backend = BACKEND + "breaker: {failures: 2, open_s: 600}\n"
    server.answer = always(answer)
    async with served(tmp_path, manifest(OUTCOMES, "submission", backend=backend), URL=server.url) as door:
        replies = [await door.ask({}) for _ in range(4)]
    assert {reply.status for reply in replies} == {"retry"}
    assert ("backend-left-alone" in {reply.code for reply in replies}) == opens
    assert len(server.asked) == (2 if opens else 4)


async def test_a_not_yet_makes_good_what_failed_before(server: Scripted, tmp_path: Path) -> None:
    backend = BACKEND + "breaker: {failures: 2, open_s: 600}\n"
    broken, not_yet = json_answer({}, "500 Broken"), json_answer({"CHO": True})
    server.answer = in_turn(broken, not_yet, broken, not_yet)
    async with served(tmp_path, manifest(OUTCOMES, "submission", backend=backend), URL=server.url) as door:
        assert [(await door.ask({})).code for _ in range(4)] == ["backend-status-500", "CHO"] * 2


async def test_a_no_of_the_system_is_no_failure_of_it(server: Scripted, tmp_path: Path) -> None:
    backend = BACKEND + "breaker: {failures: 2, open_s: 600}\n"
    service = """
    call: {path: /a}
    outcomes: [{when: "status == `404`", outcome: not-found}]
    """
    broken, missing = json_answer({}, "500 Broken"), json_answer({}, "404 None")
    server.answer = in_turn(broken, missing, broken, missing, broken, missing)
    async with served(tmp_path, manifest(service, backend=backend), URL=server.url) as door:
        statuses = [(await door.ask({})).status for _ in range(6)]
    assert statuses == ["failed", "not-found"] * 3


async def test_a_reply_made_by_a_function(server: Scripted, tmp_path: Path) -> None:
    """What is harder than expressions: the call is declared, the reply is Python."""
    adapter = load(tmp_path, manifest("call: {path: /a, query: {n: payload.n}}"))

    @adapter.reply("test", "v1")
    def total(answer: Answer, request: Request) -> object:
        if not answer.body:
            raise RecordNotFound("TRONG")
        return {"total": sum(answer.body), "asked": request.payload["n"]}

    server.answer = in_turn(json_answer([1, 2, 3]), json_answer([]), json_answer({}, "503 Busy"))
    async with door_to(adapter, tmp_path, (LOCAL | {"URL": server.url}).get) as door:
        assert await door.answer({"n": 5}) == {"total": 6, "asked": 5}
        assert (await door.ask({"n": 5})).code == "TRONG"
        assert (await door.ask({"n": 5})).code == "backend-status-503"


@pytest.mark.parametrize("service", ["call: {path: /a}\nreply: body", "officer_required: true"])
def test_a_function_for_the_reply_needs_a_call_alone(tmp_path: Path, service: str) -> None:
    adapter = load(tmp_path, manifest(service))
    with pytest.raises(ManifestError, match="G12/test/v1"):
        adapter.reply("test", "v1")


async def test_a_probe_asks_what_the_manifest_says(server: Scripted, tmp_path: Path) -> None:
    async def probed(backend: str) -> str:
        adapter = load(tmp_path, made(backend, "call: {path: /a}"))
        async with adapter.open_resources((LOCAL | {"URL": server.url}).get):
            assert adapter.backend
            await adapter.backend.probe()
        return f"{server.asked[-1].method} {server.asked[-1].target}"

    server.answer = always(raw("404 Not Found"))
    assert await probed(BACKEND) == "HEAD /"
    assert await probed(BACKEND + "probe: {path: /health}") == "GET /health"
    server.answer = always(raw("500 Broken"))
    with pytest.raises(Failed):
        await probed(BACKEND)
    server.answer = never
    with pytest.raises(Unavailable):
        await probed(BACKEND)
