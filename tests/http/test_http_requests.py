"""What is well-formed, however rare, reaches the application whole and is answered in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ngsp.api.edge import Limits
from tests.http.raw import Answer, assert_refused, caller, chunked, get, post

if TYPE_CHECKING:
    from tests.http.conftest import Serve
    from tests.http.served import Served


def fields_of(answer: Answer) -> dict[str, str]:
    return dict(answer.json()["fields"])


@pytest.mark.parametrize(
    ("request_line", "path", "raw_path", "query"),
    [
        ("GET /a/b?c=d&e HTTP/1.1", "/a/b", "/a/b", "c=d&e"),
        ("GET /a?b?c HTTP/1.1", "/a", "/a", "b?c"),
        ("GET /? HTTP/1.1", "/", "/", ""),
        ("GET /%C4%91%E1%BA%A5t HTTP/1.1", "/đất", "/%C4%91%E1%BA%A5t", ""),
        ("GET //x:99999/y HTTP/1.1", "//x:99999/y", "//x:99999/y", ""),
        ("GET http://gateway/a?b HTTP/1.1", "/a", "/a", "b"),
        ("GET http://gateway HTTP/1.1", "/", "/", ""),
        ("GET https://gateway?b HTTP/1.1", "/", "/", "b"),
        ("OPTIONS * HTTP/1.1", "*", "*", ""),
        ("TRACE /a HTTP/1.1", "/a", "/a", ""),
        ("DELETE /a HTTP/1.1", "/a", "/a", ""),
    ],
)
def test_forms_of_the_request_line(server: Served, request_line: str, path: str, raw_path: str, query: str) -> None:
    with caller(server.port) as connection:
        answer = connection.call(f"{request_line}\r\nHost: gateway\r\n\r\n".encode()).json()
    assert (answer["path"], answer["raw_path"], answer["query"]) == (path, raw_path, query)
    assert answer["method"] == request_line.split()[0]


@pytest.mark.parametrize("host", ["", "gateway", "gateway:8080", "127.0.0.1:80", "[::1]:8080", "a.b-c.gov.vn."])
def test_forms_of_the_host(server: Served, host: str) -> None:
    with caller(server.port) as connection:
        for _ in range(2):
            answer = connection.call(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert fields_of(answer)["host"] == host


def test_http_1_0_needs_no_host_and_ends_the_connection(server: Served) -> None:
    with caller(server.port) as connection:
        answer = connection.call(b"GET / HTTP/1.0\r\n\r\n")
        assert (answer.status, answer.json()["version"], answer.fields["connection"]) == (200, "1.0", "close")
        assert connection.is_closed()


def test_values_come_without_the_space_around_them_and_names_in_small_letters(server: Served) -> None:
    with caller(server.port) as connection:
        answer = connection.call(get("/", "X-One:   a b \t ", "X-TWO:", "X-Three: \xe9\t!"))
    assert fields_of(answer) == {"host": "gateway", "x-one": "a b", "x-two": "", "x-three": "\xe9\t!"}


def test_head_and_body_of_an_answer_come_in_one_packet(server: Served) -> None:
    with caller(server.port) as connection:
        for _ in range(20):
            connection.send(get())
            assert b"\r\n\r\n{" in connection.socket.recv(65_536)


def test_a_head_does_not_wait_for_a_body_that_is_long_in_coming(fresh_server: Served) -> None:
    with caller(fresh_server.port) as connection:
        connection.send(get("/headfirst"))
        while line := connection.take_line():
            assert line
        fresh_server.release()
        assert connection.take(4) == b"body"


def test_an_answer_to_head_has_no_body(server: Served) -> None:
    with caller(server.port) as connection:
        for _ in range(2):
            connection.send(b"HEAD / HTTP/1.1\r\nHost: gateway\r\n\r\n")
            assert int(connection.answer(to_head=True).fields["content-length"]) > 0
        connection.send(b"HEAD / HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
        connection.answer(to_head=True)
        assert connection.is_closed()


def test_a_refusal_comes_after_the_answer_to_head_before_it(server: Served) -> None:
    with caller(server.port) as connection:
        connection.send(b"HEAD / HTTP/1.1\r\nHost: gateway\r\n\r\nGET / HTTP/1.1\r\n\r\n")
        assert connection.answer(to_head=True).status == 200
        assert_refused(connection.answer(), 400, "malformed-http")


def test_the_answer_names_the_date_and_no_server(server: Served) -> None:
    with caller(server.port) as connection:
        answer = connection.call(get())
    assert answer.fields["date"].endswith(" GMT")
    assert "server" not in answer.fields


def test_a_connection_serves_one_request_after_the_other(server: Served) -> None:
    with caller(server.port) as connection:
        for length in (0, 1, 70_000, 5, 300_000, 0):
            answer = connection.call(post(b"x" * length))
            assert (answer.json()["length"], answer.fields.get("connection")) == (length, None)


@pytest.mark.parametrize("size", [1, 100, 70_000])
def test_chunked_bodies(server: Served, size: int) -> None:
    with caller(server.port) as connection:
        for _ in range(2):
            answer = connection.call(chunked(*[b"x" * size] * 10))
            assert answer.json()["length"] == 10 * size


def test_chunks_of_a_byte_are_no_abuse(server: Served) -> None:
    with caller(server.port) as connection:
        assert connection.call(chunked(*[b"x"] * 20_000)).json()["length"] == 20_000


def test_short_chunk_extensions_and_leading_zeros_pass(server: Served) -> None:
    with caller(server.port) as connection:
        connection.send(chunked(end=b'0003;name=value;other="quoted"\r\nabc\r\n0\r\n\r\n'))
        assert connection.answer().json()["length"] == 3


def test_trailers_are_dropped(fresh_server: Served) -> None:
    with caller(fresh_server.port) as connection:
        connection.send(chunked(b"abc", path="/held", end=b""))
        assert fresh_server.next_event() == "POST /held"
        connection.send(b"0\r\nAuthorization: Bearer x\r\nHost: other\r\nExpect: 100-continue\r\n\r\n")
        fresh_server.release()
        fields = fields_of(connection.answer())
        assert fields == {"host": "gateway", "transfer-encoding": "chunked"}
        assert connection.call(get("/next")).json()["path"] == "/next"


def test_a_trailer_that_closes_the_connection_is_obeyed(fresh_server: Served) -> None:
    with caller(fresh_server.port) as connection:
        answer = connection.call(chunked(b"abc", end=b"0\r\nConnection: close\r\n\r\n"))
        assert (answer.json()["length"], answer.fields["connection"]) == (3, "close")
        assert connection.is_closed()


def test_endless_trailers_are_refused(server: Served) -> None:
    with caller(server.port) as connection:
        connection.send(chunked(b"abc", end=b"0\r\n"), *[b"X-Trailer: " + b"y" * 1_000 + b"\r\n"] * 100)
        assert_refused(connection.answer(), 400, "malformed-http")


@pytest.mark.parametrize("start", [b"3;", b"0"], ids=["extension", "zeros"])
def test_an_endless_chunk_size_is_refused(server: Served, start: bytes) -> None:
    with caller(server.port) as connection:
        connection.send(chunked(b"abc", end=b""), start, *[b"0" * 1_000] * 100)
        assert_refused(connection.answer(), 400, "malformed-http")


@pytest.mark.parametrize("in_one_packet", [True, False])
@pytest.mark.parametrize(
    "asking",
    [
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
        ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    ],
    ids=["h2c", "websocket"],
)
def test_an_upgrade_is_ignored_and_the_body_kept(
    fresh_server: Served, asking: tuple[str, ...], in_one_packet: bool
) -> None:
    """Java's HttpClient asks for h2c with its first request, body included."""
    body = get("/smuggled")
    whole = post(body, "/a", *asking)
    parts = [whole] if in_one_packet else [whole[: -len(body)], body]
    with caller(fresh_server.port) as connection:
        for _ in range(2):
            connection.send(parts[0])
            if not in_one_packet:
                assert fresh_server.next_event() == "POST /a"
            connection.send(*parts[1:])
            answer = connection.answer()
            assert (answer.json()["path"], answer.json()["length"]) == ("/a", len(body))
            assert not {"upgrade", "http2-settings"} & fields_of(answer).keys()
            assert "Upgrade" not in fields_of(answer).get("connection", "")
        assert connection.call(chunked(b"abc", path="/b")).json()["length"] == 3
        assert connection.call(get("/c", *asking)).json()["path"] == "/c"


def test_an_upgrade_may_wait_in_the_pipeline(server: Served) -> None:
    with caller(server.port) as connection:
        connection.send(get("/1") + post(b"abc", "/2", "Connection: Upgrade", "Upgrade: h2c") + get("/3"))
        assert [connection.answer().json()["path"] for _ in range(3)] == ["/1", "/2", "/3"]


def test_expect_continue_is_answered_when_the_application_reads(server: Served) -> None:
    with caller(server.port) as connection:
        connection.send(b"POST / HTTP/1.1\r\nHost: gateway\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\n")
        assert connection.answer().status == 100
        connection.send(b"abc")
        assert connection.answer().json()["length"] == 3


def test_a_refusal_instead_of_continue_ends_the_connection(server: Served) -> None:
    with caller(server.port) as connection:
        head = b"POST /early HTTP/1.1\r\nHost: gateway\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        answer = connection.call(head)
        assert (answer.status, answer.fields["connection"]) == (413, "close")
        assert connection.is_closed()


def test_an_answer_before_the_body_arrives_though_the_caller_still_sends(server: Served) -> None:
    with caller(server.port) as connection:
        connection.send(b"POST /early HTTP/1.1\r\nHost: gateway\r\nContent-Length: 3000000\r\n\r\n")
        connection.send(*[b"x" * 50_000] * 60)
        answer = connection.answer()
        assert (answer.status, answer.body, answer.fields["connection"]) == (413, b"too much", "close")
        assert connection.is_closed()


def test_an_early_answer_to_a_whole_request_keeps_the_connection(server: Served) -> None:
    with caller(server.port) as connection:
        for _ in range(2):
            answer = connection.call(post(b"x" * 1_000, "/early"))
            assert (answer.status, answer.fields.get("connection")) == (413, None)


def test_pipelined_requests_are_answered_in_order(fresh_server: Served) -> None:
    with caller(fresh_server.port) as connection:
        connection.send(get("/held") + b"".join(post(b"x" * n, f"/{n}") for n in range(20)))
        assert fresh_server.next_event() == "GET /held"
        fresh_server.release()
        assert connection.answer().json()["path"] == "/held"
        answers = [connection.answer().json() for _ in range(20)]
        assert [(answer["path"], answer["length"]) for answer in answers] == [(f"/{n}", n) for n in range(20)]
        assert connection.call(get("/after")).json()["path"] == "/after"


def test_too_many_pipelined_requests_get_503_after_those_that_had_room(serve_with: Serve) -> None:
    server = serve_with(Limits(max_pipelined=3))
    with caller(server.port) as connection:
        connection.send(get("/held") + b"".join(get(f"/{n}") for n in range(1_000)))
        assert server.next_event() == "GET /held"
        server.release()
        assert [connection.answer().json()["path"] for _ in range(4)] == ["/held", "/0", "/1", "/2"]
        assert_refused(connection.answer(), 503, "overloaded")
        assert connection.is_closed()
    assert server.refusals == [("overloaded", "127.0.0.1")]


def test_a_caller_that_leaves_is_told_to_the_request_at_work_though_others_wait(fresh_server: Served) -> None:
    with caller(fresh_server.port) as connection:
        connection.send(chunked(b"abc", path="/echo", end=b""))
        assert fresh_server.next_event() == "POST /echo"
    assert fresh_server.next_event() == "disconnect"
    with caller(fresh_server.port) as connection:
        connection.send(get("/endless") + get("/never") + get("/never"))
        assert fresh_server.next_event() == "GET /endless"
        connection.take(100)
    assert fresh_server.next_event().startswith("gone after")
    assert fresh_server.application.events.empty()


def test_a_crash_of_the_application_is_a_problem_too(server: Served) -> None:
    with caller(server.port) as connection:
        assert_refused(connection.call(get("/crash")), 500, "internal")
        assert connection.is_closed()
