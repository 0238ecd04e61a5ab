"""What is no HTTP/1.1 gets a 400 problem below the application, however the bytes are cut into packets."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

import pytest

from tests.http.raw import assert_refused, caller, chunked, get, post

if TYPE_CHECKING:
    from tests.http.served import Served

HOST = b"Host: gateway\r\n"
GET = b"GET / HTTP/1.1\r\n"
POST = b"POST / HTTP/1.1\r\n"
MUTATIONS = 400
TE = b"Transfer-Encoding: chunked\r\n"

MALFORMED = {
    "length and coding": POST + HOST + b"Content-Length: 5\r\n" + TE + b"\r\n0\r\n\r\n",
    "coding and length": POST + HOST + TE + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "bare LF after the request line": b"GET / HTTP/1.1\nHost: gateway\r\n\r\n",
    "bare LF after a field": GET + b"Host: gateway\nX: y\r\n\r\n",
    "bare LF at the end of the head": GET + HOST + b"\n",
    "bare LF everywhere": b"GET / HTTP/1.1\nHost: gateway\n\n",
    "bare CR everywhere": b"GET / HTTP/1.1\rHost: gateway\r\r",
    "CR in a value": GET + HOST + b"X: a\rb\r\n\r\n",
    "LF in a value": GET + HOST + b"X: a\nb\r\n\r\n",
    "NUL in a value": GET + HOST + b"X: a\0b\r\n\r\n",
    "control character in a value": GET + HOST + b"X: a\x01b\r\n\r\n",
    "NUL in a name": GET + HOST + b"X\0: a\r\n\r\n",
    "space before the colon": GET + b"Host : gateway\r\n\r\n",
    "space before the first field": GET + b" Host: gateway\r\n\r\n",
    "no name": GET + HOST + b": a\r\n\r\n",
    "no colon": GET + HOST + b"abc\r\n\r\n",
    "folded field": GET + HOST + b"X: a\r\n b\r\n\r\n",
    "folded field with a tab": GET + HOST + b"X: a\r\n\tb\r\n\r\n",
    "two lengths": POST + HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "the same length twice": POST + HOST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "list of lengths": POST + HOST + b"Content-Length: 3, 3\r\n\r\nabc",
    "signed length": POST + HOST + b"Content-Length: +3\r\n\r\nabc",
    "negative length": POST + HOST + b"Content-Length: -3\r\n\r\nabc",
    "hexadecimal length": POST + HOST + b"Content-Length: 0x3\r\n\r\nabc",
    "empty length": POST + HOST + b"Content-Length: \r\n\r\n",
    "overflowing length": POST + HOST + b"Content-Length: 18446744073709551616\r\n\r\n",
    "no host": GET + b"X: y\r\n\r\n",
    "no fields": GET + b"\r\n",
    "two hosts": GET + HOST + b"Host: other\r\n\r\n",
    "the same host twice": GET + HOST + HOST + b"\r\n",
    "two hosts in HTTP/1.0": b"GET / HTTP/1.0\r\n" + HOST + HOST + b"\r\n",
    "host with a path": GET + b"Host: gateway/x\r\n\r\n",
    "host with a space": GET + b"Host: gate way\r\n\r\n",
    "host with user": GET + b"Host: a@gateway\r\n\r\n",
    "coding identity": POST + HOST + b"Transfer-Encoding: identity\r\n\r\n",
    "coding gzip": POST + HOST + b"Transfer-Encoding: gzip\r\n\r\n",
    "coding gzip, chunked": POST + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding chunked, gzip": POST + HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "coding chunked, chunked": POST + HOST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "coding chunked twice": POST + HOST + TE + TE + b"\r\n0\r\n\r\n",
    "coding xchunked": POST + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "coding with a parameter": POST + HOST + b"Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n",
    "coding with a vertical tab": POST + HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "empty coding": POST + HOST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n",
    "coding of a GET": GET + HOST + b"Transfer-Encoding: gzip\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\n" + TE + b"\r\n0\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/0.9 by name": b"GET / HTTP/0.9\r\n" + HOST + b"\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\n" + HOST + b"\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version in small letters": b"GET / http/1.1\r\n" + HOST + b"\r\n",
    "space after the version": b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n",
    "tab in the request line": b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "unknown method": b"FOO / HTTP/1.1\r\n" + HOST + b"\r\n",
    "method in small letters": b"get / HTTP/1.1\r\n" + HOST + b"\r\n",
    "upgrade without a host": GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "upgrade with two codings": POST + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + TE + TE + b"\r\n0\r\n\r\n",
    "upgrade with a fragment": b"GET /a#b HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "CONNECT": b"CONNECT other:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT to a path": b"CONNECT / HTTP/1.1\r\n" + HOST + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "control character in the target": b"GET /\x01 HTTP/1.1\r\n" + HOST + b"\r\n",
    "NUL in the target": b"GET /\0 HTTP/1.1\r\n" + HOST + b"\r\n",
    "bytes over 127 in the target": b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n",
    "fragment in the target": b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n",
    "relative target": b"GET a HTTP/1.1\r\n" + HOST + b"\r\n",
    "target with a port out of range": b"GET http://gateway:999999/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "target of another scheme": b"GET ftp://gateway/ HTTP/1.1\r\n" + HOST + b"\r\n",
}

MALFORMED_BODIES = {
    "chunk size with 0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "negative chunk size": b"-3\r\nabc\r\n0\r\n\r\n",
    "chunk size with a space": b"3 \r\nabc\r\n0\r\n\r\n",
    "overflowing chunk size": b"1ffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "bare LF after the chunk size": b"3\nabc\r\n0\r\n\r\n",
    "bare LF after the chunk": b"3\r\nabc\n0\r\n\r\n",
    "nothing after the chunk": b"3\r\nabc0\r\n\r\n",
    "bare LF in an extension": b"3;a\nabc\r\n0\r\n\r\n",
    "bare CR in an extension": b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "NUL in an extension": b"3;a\0\r\nabc\r\n0\r\n\r\n",
    "bare LF in a trailer": b"3\r\nabc\r\n0\r\nX: y\n\r\n",
    "length in a trailer": b"3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n",
    "coding in a trailer": b"3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_head_is_refused_and_the_application_never_called(server: Served, data: bytes) -> None:
    server.forget()
    with caller(server.port) as one_packet, caller(server.port) as many_packets:
        one_packet.send(data)
        many_packets.send_bytewise(data)
        for connection in (one_packet, many_packets):
            assert_refused(connection.answer(), 400, "malformed-http")
            assert connection.is_closed()
    assert server.refusals == [("malformed-http", "127.0.0.1")] * 2
    assert server.application.events.empty()


@pytest.mark.parametrize("body", MALFORMED_BODIES.values(), ids=MALFORMED_BODIES.keys())
@pytest.mark.parametrize("in_one_packet", [True, False])
def test_a_malformed_body_is_refused_and_the_application_sees_the_caller_leave(
    fresh_server: Served, body: bytes, in_one_packet: bool
) -> None:
    with caller(fresh_server.port) as connection:
        head = POST + HOST + TE + b"\r\n"
        if in_one_packet:
            connection.send(head + body)
        else:
            connection.send_bytewise(head + body)
        assert_refused(connection.answer(), 400, "malformed-http")
        assert connection.is_closed()
    assert [fresh_server.next_event(), fresh_server.next_event()] == ["POST /", "disconnect"]


def test_a_smuggled_request_is_not_served(server: Served) -> None:
    smuggled = get("/smuggled")
    server.forget()
    for framing in (
        b"Content-Length: 5\r\n" + TE,
        TE + b"Content-Length: 5\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
    ):
        with caller(server.port) as connection:
            connection.send(POST + HOST + framing + b"\r\n0\r\n\r\n" + smuggled)
            assert_refused(connection.answer(), 400, "malformed-http")
            assert connection.is_closed()
    assert server.application.events.empty()


def test_the_refusal_of_a_head_request_has_no_body(server: Served) -> None:
    with caller(server.port) as connection:
        connection.send(b"HEAD / HTTP/1.1\r\n\r\n")
        answer = connection.answer(to_head=True)
        assert (answer.status, answer.fields["content-type"]) == (400, "application/problem+json")
        assert connection.is_closed()


def test_what_was_asked_before_the_fault_is_answered_first(fresh_server: Served) -> None:
    with caller(fresh_server.port) as connection:
        connection.send(get("/held/1") + get("/held/2") + GET + b"\r\n")
        assert [fresh_server.next_event()] == ["GET /held/1"]
        assert fresh_server.refusals == [("malformed-http", "127.0.0.1")]
        fresh_server.release()
        assert [connection.answer().json()["path"] for _ in range(2)] == ["/held/1", "/held/2"]
        assert_refused(connection.answer(), 400, "malformed-http")
        assert connection.is_closed()


def test_a_fault_in_the_body_of_a_request_that_waits_is_told_in_its_turn(fresh_server: Served) -> None:
    with caller(fresh_server.port) as connection:
        connection.send(get("/held") + chunked(b"abc", path="/never", end=b"zz\r\n"))
        assert fresh_server.next_event() == "GET /held"
        fresh_server.release()
        assert connection.answer().json()["path"] == "/held"
        assert_refused(connection.answer(), 400, "malformed-http")
        assert connection.is_closed()
    assert fresh_server.application.events.empty()


def test_an_answer_that_has_begun_is_cut_off_rather_than_mixed_with_a_refusal(fresh_server: Served) -> None:
    with caller(fresh_server.port) as connection:
        connection.send(chunked(b"abc", path="/started", end=b""))
        assert fresh_server.next_event() == "POST /started"
        while connection.take_line():
            pass
        assert connection.take(10) == b"5\r\nbegun\r\n"
        connection.send(b"zz\r\n")
        assert connection.is_closed()
    assert fresh_server.next_event() == "disconnect"


def test_packets_may_be_cut_anywhere(server: Served) -> None:
    stream = (
        get("/1", "Expect: nothing")
        + post(b"b" * 300, "/2?q=1")
        + chunked(b"c" * 10, b"d" * 500, path="/3", end=b"0\r\nX-Trailer: 1\r\n\r\n")
        + post(b"e" * 40, "/4", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
        + get("/5")
    )
    expected = [("/1", 0), ("/2", 300), ("/3", 510), ("/4", 40), ("/5", 0)]
    random_cuts = random.Random(20_250_701)
    for _ in range(60):
        cuts = sorted(random_cuts.randrange(len(stream)) for _ in range(random_cuts.randint(0, 12)))
        parts = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        with caller(server.port) as connection:
            connection.send(*parts)
            answers = [connection.answer().json() for _ in expected]
        assert [(answer["path"], answer["length"]) for answer in answers] == expected
    server.forget()


def test_mutated_requests_crash_nothing(server: Served, caplog: pytest.LogCaptureFixture) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    whole = (
        get("/1?q=%20", "Expect: 100-continue", "Connection: keep-alive, Upgrade", "Upgrade: h2c")
        + post(b"b" * 30, "/2")
        + chunked(b"c" * 10, b"d", path="/3", end=b"0;x=y\r\nX-Trailer: 1\r\n\r\n")
        + b"OPTIONS http://gateway:80/4#f HTTP/1.0\r\nConnection: close\r\n\r\n"
    )
    pieces = [b"\r\n", b"\n", b"\r", b"\0", b":", b" ", b"0", b"chunked", b"Host", b"HTTP/1.0", b"\xff", b"[", b"%"]
    server.forget()
    for _ in range(MUTATIONS):
        data = whole
        for _ in range(chance.randint(1, 6)):
            start = chance.randrange(len(data) + 1)
            data = data[:start] + chance.choice([b"", *pieces]) + data[start + chance.choice([0, 0, 1, 1, 5, 40]) :]
        cut = chance.randrange(len(data) + 1)
        with caller(server.port) as connection, contextlib.suppress(OSError):  # reset, or closed already
            connection.send(data[:cut], data[cut:])
            connection.send_end()
            connection.end()
    assert {code for code, _ in server.refusals} <= {"malformed-http"}
    assert not caplog.records
    with caller(server.port) as connection:
        assert connection.call(get()).status == 200
    server.forget()
