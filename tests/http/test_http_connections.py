"""Many connections at once, and callers that do not take their answers."""

from __future__ import annotations

import contextlib
import resource
import threading
import time
from typing import TYPE_CHECKING

from ngsp.api.edge import MAX_LINGERING_SURPLUS, Limits
from tests.http.raw import Caller, assert_refused, caller, get, post, seconds_since
from tests.http.served import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.http.conftest import Serve

QUICKLY_S = 0.02
"""Within this the surplus is refused (the figure S7 of the goals)."""


@contextlib.contextmanager
def callers(port: int, number: int) -> Iterator[list[Caller]]:
    connections: list[Caller] = []
    try:
        for _ in range(number):
            connections.append(Caller(port))
        yield connections
    finally:
        for connection in connections:
            connection.close()


def allow_open_files(number: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(number, hard), hard))


def test_a_thousand_idle_and_a_thousand_half_sent_connections_leave_the_others_served(serve_with: Serve) -> None:
    allow_open_files(6_000)
    server = serve_with(Limits(max_connections=2_500))
    with callers(server.port, 1_000), callers(server.port, 1_000) as half_sent, caller(server.port) as working:
        for connection in half_sent:
            connection.send(get()[:-2])
        for length in range(200):
            assert working.call(post(b"x" * length)).json()["length"] == length
        half_sent[-1].send(b"\r\n")
        assert half_sent[-1].answer().status == 200


def test_slow_heads_are_cleared_away_together(serve_with: Serve) -> None:
    allow_open_files(4_000)
    server = serve_with(Limits(header_timeout_s=0.5))
    with callers(server.port, 500) as slow, caller(server.port) as working:
        for connection in slow:
            connection.send(get()[:-2])
        for connection in slow:
            assert_refused(connection.answer(), 408, "request-timeout")
        assert working.call(get()).status == 200
    assert server.refusals == [("request-timeout", "127.0.0.1")] * 500


def test_the_surplus_gets_503_quickly_and_a_place_that_is_free_is_given(serve_with: Serve) -> None:
    server = serve_with(Limits(max_connections=5, retry_after_s=7))
    with callers(server.port, 5) as admitted:
        for connection in admitted:
            assert connection.call(get()).status == 200
        times_s = []
        for _ in range(10):
            start_s = time.monotonic()
            with caller(server.port) as surplus:
                answer = surplus.answer()  # without a byte sent
                times_s.append(seconds_since(start_s))
                assert_refused(answer, 503, "overloaded")
                assert answer.fields["retry-after"] == "7"
                assert surplus.is_closed()
        assert sorted(times_s)[len(times_s) // 2] < QUICKLY_S
        with caller(server.port) as surplus:
            surplus.send(post(b"x" * 100_000))
            assert_refused(surplus.answer(), 503, "overloaded")
        for connection in admitted:
            assert connection.call(get()).status == 200
        assert server.refusals == [("overloaded", "127.0.0.1")] * 11
        admitted[0].close()
        assert served_within(server.port, seconds=5)


def served_within(port: int, seconds: float) -> bool:
    """Whether a new connection is admitted, the server having been told of an old one's end in the meantime."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        with caller(port) as connection, contextlib.suppress(ConnectionError):
            if connection.call(get()).status == 200:
                return True
    return False


def test_a_flood_of_surplus_connections_is_not_kept(serve_with: Serve) -> None:
    allow_open_files(6_000)
    server = serve_with(Limits(max_connections=1, linger_s=60.0))
    number = MAX_LINGERING_SURPLUS + 200
    with caller(server.port) as admitted:
        assert admitted.call(get()).status == 200
        with callers(server.port, number) as flood:
            for connection in flood:
                assert_refused(connection.answer(), 503, "overloaded")
                assert connection.is_closed()
            assert admitted.call(get()).status == 200
        assert len(server.refusals) == number
    assert served_within(server.port, seconds=5)


def test_a_refused_caller_that_stays_is_cut_off(serve_with: Serve) -> None:
    server = serve_with(Limits(linger_s=0.2))
    with caller(server.port) as connection:
        connection.send(b"GET / HTTP/1.1\r\n\r\n")
        assert_refused(connection.answer(), 400, "malformed-http")
        assert connection.dribble(b"x", 10.0) == 0  # the end of the stream
        assert wait_for_reset(connection)


def test_connections_of_one_address_are_limited_where_asked_for(serve_with: Serve) -> None:
    server = serve_with(Limits(max_connections_per_address=2))
    with callers(server.port, 2) as admitted, caller(server.port) as surplus:
        assert [connection.call(get()).status for connection in admitted] == [200, 200]
        assert_refused(surplus.answer(), 503, "overloaded")
        with caller(server.port, source="127.0.0.2") as other:
            assert other.call(get()).status == 200
    assert served_within(server.port, seconds=5)


def test_a_caller_that_does_not_read_grows_no_memory_and_is_cut_off(serve_with: Serve) -> None:
    server = serve_with(Limits(write_stall_timeout_s=0.5))
    with caller(server.port, receive_buffer=65_536) as connection:
        connection.send(get("/endless"))
        assert server.next_event() == "GET /endless"
        blocks = int(server.next_event().removeprefix("gone after "))
        assert blocks * len(BLOCK) < 16 << 20  # what the two sockets' buffers hold, and one block


def test_a_caller_that_does_not_read_a_large_answer_is_cut_off(serve_with: Serve) -> None:
    server = serve_with(Limits(write_stall_timeout_s=0.3, keep_alive_s=0.3))
    for fields in ((), ("Connection: close",)):
        with caller(server.port, receive_buffer=65_536) as connection:
            connection.send(get("/large", *fields))
            assert server.next_event() == "GET /large"
            assert wait_for_reset(connection)


def wait_for_reset(connection: Caller) -> bool:
    """Whether the server ends the connection while nothing is read: then it answers a further byte with a reset."""
    end_s = time.monotonic() + 10
    while time.monotonic() < end_s:
        try:
            connection.send(b"x")
        except (ConnectionResetError, BrokenPipeError):
            return True
        threading.Event().wait(0.02)
    return False


def test_a_caller_that_reads_slowly_gets_all_of_it(serve_with: Serve) -> None:
    server = serve_with(Limits(write_stall_timeout_s=0.3, keep_alive_s=0.3, linger_s=0.3))
    with caller(server.port, receive_buffer=65_536) as connection:
        connection.send(get("/large", "Connection: close"))
        start_s = time.monotonic()
        while connection.take_line():
            pass
        for _ in range(128):
            assert connection.take(len(BLOCK)) == BLOCK
            threading.Event().wait(0.008)
        assert seconds_since(start_s) > 0.9
        assert connection.is_closed()
