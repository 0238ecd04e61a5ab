"""Sizes and times of heads and bodies."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from ngsp.api.edge import Limits
from tests.http.raw import assert_refused, caller, chunked, get, post, seconds_since

if TYPE_CHECKING:
    from tests.http.conftest import Serve
    from tests.http.served import Served

MAX_HEAD = 65_536
MAX_TARGET = 8_192
MAX_FIELDS = 100


def head_of(size: int, tail: str = "") -> bytes:
    """A GET whose head has exactly `size` bytes, in fields of a thousand."""
    head = "GET / HTTP/1.1\r\nHost: gateway\r\n" + tail
    while size - len(head) - 2 > 2_000:
        head += "X-Field: " + "y" * 989 + "\r\n"
    return (head + "X-Last: " + "z" * (size - len(head) - 12) + "\r\n\r\n").encode()


def in_parts(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("packet", [MAX_HEAD, 10_007, 999])
def test_a_head_of_just_the_limit_is_served(server: Served, packet: int) -> None:
    head = head_of(MAX_HEAD)
    assert len(head) == MAX_HEAD
    with caller(server.port) as connection:
        for _ in range(2):
            assert connection.call(*in_parts(head, packet)).status == 200


@pytest.mark.parametrize("size", [MAX_HEAD + 1, 200_000, 1_000_000])
@pytest.mark.parametrize("packet", [1_000_000, 10_007])
def test_a_larger_head_is_431_in_one_packet_or_in_many(server: Served, size: int, packet: int) -> None:
    with caller(server.port) as connection:
        connection.send(*in_parts(b"GET / HTTP/1.1\r\nHost: gateway\r\nX: " + b"y" * (size - 38) + b"\r\n\r\n", packet))
        assert_refused(connection.answer(), 431, "headers-too-large")
        assert connection.is_closed()


def test_a_head_that_never_ends_is_431(fresh_server: Served) -> None:
    with caller(fresh_server.port) as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: gateway\r\n", *[b"X: " + b"y" * 995 + b"\r\n"] * 70)
        assert_refused(connection.answer(), 431, "headers-too-large")
    assert fresh_server.refusals == [("headers-too-large", "127.0.0.1")]


def test_the_limit_of_a_head_is_none_for_the_body_behind_it(server: Served) -> None:
    head = head_of(60_000, "Content-Length: 500000\r\n").replace(b"GET", b"PUT")
    with caller(server.port) as connection:
        for packet in (600_000, 61_000, 50_000):
            assert connection.call(*in_parts(head + b"x" * 500_000, packet)).json()["length"] == 500_000


def test_a_large_head_may_follow_a_large_body_in_one_packet(server: Served) -> None:
    head = head_of(40_000)
    with caller(server.port) as connection:
        connection.send(post(b"x" * 50_000) + head + post(b"x" * 30_000) + head + head)
        assert [connection.answer().json()["length"] for _ in range(5)] == [50_000, 0, 30_000, 0, 0]


@pytest.mark.parametrize("packet", [MAX_HEAD, 1_000])
def test_the_target_has_a_limit_of_its_own(server: Served, packet: int) -> None:
    with caller(server.port) as connection:
        longest = connection.call(*in_parts(get("/" + "a" * (MAX_TARGET - 1)), packet))
        assert len(longest.json()["path"]) == MAX_TARGET
        connection.send(*in_parts(get("/" + "a" * MAX_TARGET), packet))
        assert_refused(connection.answer(), 414, "uri-too-long")
        assert connection.is_closed()


@pytest.mark.parametrize("size", [20_000, 500_000])
def test_a_target_that_never_ends_is_414(server: Served, size: int) -> None:
    with caller(server.port) as connection:
        connection.send(b"GET /" + b"a" * size)
        assert_refused(connection.answer(), 414, "uri-too-long")


@pytest.mark.parametrize("packet", [MAX_HEAD, 100])
def test_the_number_of_fields_is_limited(server: Served, packet: int) -> None:
    fields = [f"X-{number}: {number}" for number in range(MAX_FIELDS)]
    with caller(server.port) as connection:
        most = connection.call(*in_parts(get("/", *fields[1:]), packet))
        assert len(most.json()["fields"]) == MAX_FIELDS
        connection.send(*in_parts(get("/", *fields), packet))
        assert_refused(connection.answer(), 431, "headers-too-large")


def test_a_thousand_fields_without_an_end_are_refused_at_once(server: Served) -> None:
    with caller(server.port) as connection:
        connection.send(b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 1_000)
        assert_refused(connection.answer(), 431, "headers-too-large")


def test_a_head_that_stops_half_way_is_408(serve_with: Serve) -> None:
    server = serve_with(Limits(header_timeout_s=0.2))
    with caller(server.port) as connection:
        start_s = time.monotonic()
        connection.send(get()[:-3])
        assert_refused(connection.answer(), 408, "request-timeout")
        assert seconds_since(start_s) >= 0.2
        assert connection.is_closed()
    assert server.refusals == [("request-timeout", "127.0.0.1")]


@pytest.mark.parametrize("requests_before", [0, 2])
def test_a_head_of_a_byte_at_a_time_is_408_and_bytes_win_no_time(serve_with: Serve, requests_before: int) -> None:
    server = serve_with(Limits(header_timeout_s=0.3))
    with caller(server.port) as connection:
        for _ in range(requests_before):
            assert connection.call(get()).status == 200
        start_s = time.monotonic()
        sent = connection.dribble(head_of(2_000), 0.01)
        assert 0.3 <= seconds_since(start_s) < 3
        assert 10 < sent < 300
        assert_refused(connection.answer(), 408, "request-timeout")


def test_a_slow_head_within_its_time_is_served(serve_with: Serve) -> None:
    server = serve_with(Limits(header_timeout_s=5.0))
    with caller(server.port) as connection:
        assert connection.dribble(get(), 0.002) == len(get())
        assert connection.answer().status == 200


@pytest.mark.parametrize("requests_before", [0, 1])
def test_an_idle_connection_is_closed_without_a_word(serve_with: Serve, requests_before: int) -> None:
    server = serve_with(Limits(keep_alive_s=0.2))
    with caller(server.port) as connection:
        for _ in range(requests_before):
            assert connection.call(get()).status == 200
        start_s = time.monotonic()
        assert connection.is_closed()
        assert seconds_since(start_s) >= 0.15
    assert server.refusals == []


def test_a_request_may_take_longer_than_any_time_limit_of_the_connection(serve_with: Serve) -> None:
    server = serve_with(Limits(keep_alive_s=0.1, header_timeout_s=0.1, body_timeout_s=0.1))
    with caller(server.port) as connection:
        connection.send(post(b"abc", "/held"))
        assert not connection.has_input(0.5)
        server.release()
        assert connection.answer().json()["length"] == 3


@pytest.mark.parametrize("request_bytes", [post(b"x" * 100)[:-50], chunked(b"x" * 50, end=b"")])
def test_a_body_that_stops_half_way_is_408_and_the_application_sees_the_caller_leave(
    serve_with: Serve, request_bytes: bytes
) -> None:
    server = serve_with(Limits(body_timeout_s=0.2))
    with caller(server.port) as connection:
        connection.send(request_bytes)
        assert_refused(connection.answer(), 408, "request-timeout")
        assert connection.is_closed()
    assert [server.next_event(), server.next_event()] == ["POST /", "disconnect"]
    assert server.refusals == [("request-timeout", "127.0.0.1")]


def test_a_body_of_a_byte_at_a_time_is_408(serve_with: Serve) -> None:
    server = serve_with(Limits(body_timeout_s=0.3))
    with caller(server.port) as connection:
        connection.send(post(b"x" * 1_000)[:-1_000])
        start_s = time.monotonic()
        assert connection.dribble(b"x" * 1_000, 0.01) < 500
        assert 0.25 <= seconds_since(start_s) < 3
        assert_refused(connection.answer(), 408, "request-timeout")


def test_a_body_that_keeps_up_the_least_speed_has_its_time(serve_with: Serve) -> None:
    server = serve_with(Limits(body_timeout_s=0.2, body_min_bytes_per_s=20))
    with caller(server.port) as connection:
        connection.send(post(b"x" * 60)[:-60])
        start_s = time.monotonic()
        assert connection.dribble(b"x" * 60, 0.01) == 60
        assert seconds_since(start_s) > 0.4
        assert connection.answer().json()["length"] == 60
        connection.send(post(b"x" * 60)[:-60])
        assert_refused(connection.answer(), 408, "request-timeout")


def test_a_caller_is_not_blamed_for_an_application_that_does_not_read(serve_with: Serve) -> None:
    server = serve_with(Limits(body_timeout_s=0.1))
    with caller(server.port) as connection:
        connection.send(b"POST /lazy HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 900_000)
        assert not connection.has_input(0.5)
        server.release()
        connection.send(b"x" * 100_000)
        assert connection.answer().json()["length"] == 1_000_000
    assert server.refusals == []


def test_an_answer_that_has_begun_is_cut_off_when_the_body_stops(serve_with: Serve) -> None:
    server = serve_with(Limits(body_timeout_s=0.2))
    with caller(server.port) as connection:
        connection.send(chunked(b"abc", path="/started", end=b""))
        assert connection.end().endswith(b"5\r\nbegun\r\n")
    assert [server.next_event(), server.next_event()] == ["POST /started", "disconnect"]


def test_limits_are_positive() -> None:
    assert Limits(max_connections_per_address=0, body_min_bytes_per_s=0).look_s == 0.5
    for wrong in ({"max_connections": 0}, {"header_timeout_s": 0.0}, {"linger_s": -1.0}, {"body_min_bytes_per_s": -1}):
        with pytest.raises(ValueError, match="must be positive"):
            Limits(**wrong)
