"""The bytes that go out."""

from __future__ import annotations

import pytest

from bench.plan import PreparedRequests, RequestPlan


def split(request: bytes) -> tuple[list[str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    return head.decode().split("\r\n"), body


def test_a_request_is_whole() -> None:
    plan = RequestPlan("POST", "/v1/x", {"Content-Type": "application/json"}, ('{"tên":"Nghệ An"}',))
    lines, body = split(PreparedRequests(plan, "127.0.0.1:80").next())
    assert lines == [
        "POST /v1/x HTTP/1.1",
        "Host: 127.0.0.1:80",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    assert body.decode() == '{"tên":"Nghệ An"}'


def test_bodies_take_turns() -> None:
    requests = PreparedRequests(RequestPlan("POST", "/", {}, ("a", "bb", "ccc")), "h")
    bodies = [split(requests.next())[1] for _ in range(7)]
    assert bodies == [b"a", b"bb", b"ccc", b"a", b"bb", b"ccc", b"a"]


def test_a_counter_is_one_number_in_one_request_and_another_in_the_next() -> None:
    plan = RequestPlan("POST", "/{counter}", {"Idempotency-Key": "k-{counter}"}, ("<{counter}>", "{counter}{counter}"))
    requests = PreparedRequests(plan, "h", first_number=41)
    number, following = "00000000000000000042", "00000000000000000043"
    lines, body = split(requests.next())
    assert lines[0] == f"POST /{number} HTTP/1.1"
    assert f"Idempotency-Key: k-{number}" in lines
    assert body.decode() == f"<{number}>"
    assert f"Content-Length: {len(body)}" in lines
    lines, body = split(requests.next())
    assert body.decode() == following * 2
    assert "Content-Length: 40" in lines


def test_two_runs_do_not_share_their_numbers() -> None:
    plan = RequestPlan("GET", "/{counter}")
    first, second = PreparedRequests(plan, "h"), PreparedRequests(plan, "h")
    sent = [requests.next() for requests in (first, second) for _ in range(100)]
    assert len(set(sent)) == 200


def test_a_plan_travels_as_json_and_may_have_one_body_or_none() -> None:
    plan = RequestPlan("POST", "/p", {"A": "b"}, ("x", "y"))
    assert RequestPlan.from_json(plan.to_json()) == plan
    assert RequestPlan.from_json('{"method": "POST", "path": "/", "body": "z"}').bodies == ("z",)
    assert RequestPlan.from_json('{"method": "GET", "path": "/"}').bodies == ("",)


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/ HTTP/1.1\r\nX: y", {}),
        ("GET\n", "/", {}),
        ("GET", "/", {"A\r": "b"}),
        ("GET", "/", {"A": "b\r\nC: d"}),
    ],
)
def test_no_line_breaks_in_a_head(method: str, path: str, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="line break"):
        RequestPlan(method, path, headers)


def test_a_plan_needs_a_body() -> None:
    with pytest.raises(ValueError, match="at least one body"):
        RequestPlan("GET", "/", {}, ())
