"""The client's logic without a network: what it repeats, how long it waits, when it renews its token."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from ngsp.client import NEVER, Event, Options, Retry, errors
from ngsp.client.errors import ConnectionLost, Unreachable
from ngsp.client.following import EventReader
from ngsp.client.repeating import Kind, harmless
from tests.client.script import TRANSACTION, Play, answer, bearers, play, problem, token

SERVICE = "H41/look-up/v1"
CALL = f"/v1/services/{SERVICE}"
QUERY = answer(200, {"mode": "query", "effect": "idempotent"})
IN_DOUBT = {"outcome_unknown": True, "safe_to_repeat": True}
NEVER_AGAIN = {"outcome_unknown": True, "safe_to_repeat": False}


def called(scene: Play, retry: Retry | None = None, **options: Any) -> Any:
    return scene.run(scene.core(retry).call(SERVICE, {}, cast("Options", {"purpose": "testing", **options})))


@pytest.mark.parametrize(
    ("code", "status", "members", "read", "keyed", "plain"),
    [
        ("quota-exhausted", 429, {}, True, True, True),
        ("too-many-requests", 429, {}, True, True, True),
        ("overloaded", 503, {}, True, True, True),
        ("draining", 503, {}, True, True, True),
        ("bus-unavailable", 503, {}, True, True, True),
        ("registry-stale", 503, {}, True, True, True),
        ("log-unavailable", 503, {}, True, True, True),
        ("log-unavailable", 503, IN_DOUBT, True, True, None),
        ("log-unavailable", 503, NEVER_AGAIN, False, True, False),
        ("request-timeout", 408, {}, True, True, True),
        ("key-in-flight", 409, {}, True, True, True),
        ("provider-unavailable", 502, {}, True, False, True),
        ("provider-failed", 502, {}, False, False, False),
        ("bad-reply", 502, {}, False, False, False),
        ("no-answer", 504, {"outcome_unknown": True, "safe_to_repeat": True}, True, False, True),
        ("no-answer", 504, NEVER_AGAIN, False, False, False),
        ("no-answer", 504, {}, False, False, False),
        ("expired", 504, {"outcome_unknown": False, "safe_to_repeat": True}, True, False, True),
        ("outcome-unknown", 504, NEVER_AGAIN, False, False, False),
        ("record-not-found", 404, {}, False, False, False),
        ("provider-refused", 409, {}, False, False, False),
        ("access-denied", 403, {}, False, False, False),
        ("schema-mismatch", 422, {}, False, False, False),
        ("key-expired", 410, {}, False, False, False),
        ("internal", 500, {}, False, False, False),
        ("of-a-newer-gateway", 503, {}, True, True, True),
        ("of-a-newer-gateway", 400, {}, False, False, False),
    ],
)
def test_what_a_problem_lets_be_repeated(
    code: str, status: int, members: dict[str, Any], read: bool, keyed: bool, plain: bool | None
) -> None:
    error = errors.problem_of({"code": code, **members}, status)
    kinds: tuple[Kind, ...] = ("read", "keyed", "plain")
    assert [harmless(error, kind) for kind in kinds] == [read if read is not None else None, keyed, plain]


def test_the_bus_says_how_long_to_wait() -> None:
    scene = play(token(), problem("quota-exhausted", 429, 7), problem("overloaded", 503, 1), answer(200, {"did": "it"}))
    assert called(scene).json() == {"did": "it"}
    first, second = scene.pauses_s
    assert 7 <= first <= 8
    assert 1 <= second <= 1.2
    assert scene.paths == ["/oauth2/token", CALL, CALL, CALL]


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    scene = play(token(), problem("quota-exhausted", 429, 7))
    with pytest.raises(errors.QuotaExhausted) as told:
        called(scene, deadline_s=7.0)
    assert (told.value.retry_after_s, told.value.transaction, scene.pauses_s) == (7, TRANSACTION, [])


def test_pauses_double_up_to_a_bound_and_are_not_in_step() -> None:
    retry = Retry(most=6, first_s=1, longest_s=8)
    scene = play(token(), *[problem("overloaded", 503)] * 7)
    with pytest.raises(errors.Overloaded):
        called(scene, retry, deadline_s=100.0)
    assert len(scene.pauses_s) == 6
    for pause_s, most_s in zip(scene.pauses_s, (1, 2, 4, 8, 8, 8), strict=True):
        assert most_s / 2 <= pause_s <= most_s
    other = play(token(), *[problem("overloaded", 503)] * 7)
    with pytest.raises(errors.Overloaded):
        called(other, retry, deadline_s=100.0)
    assert other.pauses_s != scene.pauses_s


def test_whoever_wants_no_repeats_gets_none() -> None:
    scene = play(token(), problem("overloaded", 503, 1))
    with pytest.raises(errors.Overloaded):
        called(scene, NEVER)


def test_a_key_in_flight_is_waited_for_as_long_as_there_is_time() -> None:
    scene = play(token(), *[problem("key-in-flight", 409, 1)] * 12, answer(200, {"did": "it"}))
    assert called(scene, key="k").json() == {"did": "it"}
    assert len(scene.pauses_s) == 12


def test_the_effect_is_asked_for_once_and_only_in_doubt() -> None:
    scene = play(token(), ConnectionLost(), QUERY, ConnectionLost(), answer(200, {}))
    called(scene)
    assert scene.paths == ["/oauth2/token", CALL, CALL, CALL, CALL]
    assert [request.method for request in scene.sent[1:]] == ["POST", "GET", "POST", "POST"]


@pytest.mark.parametrize(
    "catalogue",
    [
        answer(200, {"mode": "query", "effect": "uncertain"}),
        answer(200, {"mode": "submission", "effect": "idempotent"}),
        answer(200, []),
        problem("not-found", 404),
    ],
)
def test_in_doubt_nothing_is_repeated(catalogue: Any) -> None:
    scene = play(token(), ConnectionLost(), catalogue)
    with pytest.raises(ConnectionLost):
        called(scene)


def test_a_log_in_doubt_is_repeated_under_the_key() -> None:
    scene = play(token(), problem("log-unavailable", 503, 2, **IN_DOUBT), answer(202))
    submission = scene.run(scene.core().submit(SERVICE, {}, {"purpose": "testing"}))
    sent = [request.headers["Idempotency-Key"] for request in scene.sent[1:]]
    assert sent == [submission.key] * 2
    assert submission.transaction == TRANSACTION


def test_an_answer_without_its_transaction_is_not_understood() -> None:
    accepted = answer(202)
    scene = play(token(), type(accepted)(202, {}, b""))
    with pytest.raises(errors.NotUnderstood):
        scene.run(scene.core().submit(SERVICE, {}, {"purpose": "testing"}))


def test_a_token_is_renewed_before_it_ends() -> None:
    scene = play(
        token("one", 600), answer(200, {}), answer(200, {}), token("two", 20), answer(200, {}), answer(200, {})
    )
    core = scene.core()
    for passed_s in (0, 539, 2, 14):
        scene.now_s += passed_s
        scene.run(core.call(SERVICE, {}, {"purpose": "testing"}))
    calls = [request for request in scene.sent if request.path == CALL]
    assert bearers(calls) == ["Bearer one", "Bearer one", "Bearer two", "Bearer two"]
    assert (scene.paths[3], scene.alone) == ("/oauth2/token", 2)


def test_an_old_token_serves_while_no_new_one_can_be_had() -> None:
    scene = play(
        *(token("one", 600), answer(200, {})),
        *(Unreachable(), answer(200, {})),
        answer(200, {}),
        *(problem("registry-stale", 503, 1), answer(200, {})),
        *(Unreachable(), Unreachable(), token("two"), answer(200, {})),
    )
    core = scene.core()
    for passed_s in (0, 541, 1, 5, 60):
        scene.now_s += passed_s
        scene.run(core.call(SERVICE, {}, {"purpose": "testing"}))
    calls = [request for request in scene.sent if request.path == CALL]
    assert bearers(calls) == ["Bearer one"] * 4 + ["Bearer two"]


def test_a_lost_token_answer_leaves_the_call_unsent() -> None:
    scene = play(ConnectionLost(), problem("too-many-attempts", 429, 60))
    with pytest.raises(errors.TooManyAttempts):
        called(scene)
    scene = play(*[ConnectionLost()] * 5)
    with pytest.raises(Unreachable):
        called(scene)
    assert set(scene.paths) == {"/oauth2/token"}


def test_a_token_that_is_no_token() -> None:
    numbers, words = {"access_token": 1, "expires_in": 1}, {"access_token": "x", "expires_in": "soon"}
    documents: list[object] = [{}, [], numbers, words]
    for document in documents:
        scene = play(answer(200, document))
        with pytest.raises(errors.TokenRefused):
            called(scene)


def test_a_token_is_replaced_once_for_a_401() -> None:
    scene = play(token("one"), problem("unauthenticated", 401), token("two"), problem("unauthenticated", 401))
    with pytest.raises(errors.Unauthenticated):
        called(scene)
    assert bearers(scene.sent)[1::2] == ["Bearer one", "Bearer two"]


def transaction(state: str) -> dict[str, Any]:
    return {"id": TRANSACTION, "state": state, "service": SERVICE, "a member of": "a newer gateway"}


def test_a_wait_grows_and_keeps_the_deadline() -> None:
    waited = answer(200, transaction("accepted"), preference_applied="yes")
    scene = play(token(), *[waited] * 20, each_s=0.5)
    with pytest.raises(errors.StillUnderWay) as told:
        scene.run(scene.core().wait(TRANSACTION, 8.0, None))
    assert (told.value.state, told.value.transaction) == ("accepted", TRANSACTION)
    preferred = [request.headers.get("Prefer") for request in scene.sent[1:]]
    assert preferred[:5] == [None, "wait=1", "wait=2", "wait=4", "wait=5"]
    assert scene.now_s <= 1_008.5


def test_an_answer_that_comes_too_late_for_the_caller_is_a_deadline_too() -> None:
    scene = play(token(), ConnectionLost(), each_s=5.0)
    with pytest.raises(errors.StillUnderWay) as told:
        scene.run(scene.core().wait(TRANSACTION, 8.0, None))
    assert (told.value.transaction, told.value.state) == (TRANSACTION, "")
    scene = play(token(), *[ConnectionLost()] * 5, each_s=0.5)
    with pytest.raises(ConnectionLost):
        scene.run(scene.core().wait(TRANSACTION, 60.0, None))


def test_a_bus_that_does_not_wait_is_not_asked_without_pause() -> None:
    states = [answer(200, transaction(state), retry_after="1") for state in ("accepted", "delivered", "delivered")]
    scene = play(token(), *states, answer(200, transaction("succeeded")), answer(200, {"did": "it"}))
    told: list[Any] = []
    assert scene.run(scene.core().wait(TRANSACTION, 20.0, told.append)).json() == {"did": "it"}
    assert [each.state for each in told] == ["accepted", "delivered", "succeeded"]
    assert scene.pauses_s == [1.0, 1.0]
    assert scene.paths[-1].endswith("/reply")


def test_what_ended_badly_is_raised_as_it_was_told() -> None:
    ended = answer(200, transaction("refused"))
    scene = play(token(), ended, problem("provider-refused", 409, provider_code="TU-CHOI"))
    with pytest.raises(errors.ProviderRefused) as raised:
        scene.run(scene.core().wait(TRANSACTION, 20.0, None))
    assert raised.value.provider_code == "TU-CHOI"


def event(position: str, state: str = "succeeded") -> bytes:
    data = {"kind": state, "at": "2026-11-22T01:02:03.045678Z", "transaction": transaction(state)}
    return f"id: {position}\nevent: {state}\ndata: {json.dumps(data)}\n\n".encode()


def test_the_stream_is_read_however_it_is_cut_into_pieces() -> None:
    stream = ": ngsp – chào\nid: 7-1\n\n".encode() + event("7-2") + b": heartbeat\nid: 8-0\n\n" + event("9-1", "failed")
    for size in (1, 2, 3, 7, len(stream)):
        reader = EventReader()
        found: list[Event] = []
        for at in range(0, len(stream), size):
            found += reader.feed(stream[at : at + size])
        assert [(each.position, each.kind) for each in found] == [("7-2", "succeeded"), ("9-1", "failed")]
        assert (reader.position, reader.fed) == ("9-1", len(stream))
    crlf = EventReader()
    (one,) = crlf.feed(event("1-1").replace(b"\n", b"\r\n"))
    assert one.position == "1-1"


def test_the_stream_resumes_after_the_last_position_heartbeats_included() -> None:
    scene = play(
        *(token(), answer(200), b": ngsp\nid: 7-0\n\n", event("7-2"), b": heartbeat\nid: 8-0\n\n", b""),
        *(Unreachable(), answer(200), event("9-1"), ConnectionLost()),
        *(problem("too-many-requests", 429, 10), answer(200), event("9-2")),
    )
    scene.run(scene.core().follow(None, ""), most=3)
    assert [each.position for each in scene.emitted] == ["7-2", "9-1", "9-2"]
    assert [request.headers.get("Last-Event-ID") for request in scene.sent[1:]] == [None, "8-0", "8-0", "9-1", "9-1"]
    assert scene.pauses_s[-1] >= 10
    assert all(request.headers["Accept"] == "text/event-stream" for request in scene.sent[1:])


def test_a_follower_tells_of_each_break_and_not_of_a_stream_s_end() -> None:
    scene = play(
        token(), answer(200), event("7-2"), b"", Unreachable(), problem("draining", 503), answer(200), event("9")
    )
    told: list[tuple[str, float]] = []
    follow = scene.core().follow(None, "", lambda error, pause_s: told.append((type(error).__name__, pause_s)))
    scene.run(follow, most=2)
    assert [name for name, _ in told] == ["Unreachable", "Draining"]
    assert [pause_s for _, pause_s in told] == scene.pauses_s[1:]
    assert scene.emitted[0].document["transaction"]["a member of"] == "a newer gateway"


def asked(scene: Play, method: str) -> Any:
    return scene.run(scene.core().ask(method, "/v1/anything", {"a": "ấ"}))


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_what_changes_nothing_more_is_asked_again(method: str) -> None:
    scene = play(token(), ConnectionLost(), problem("draining", 503, 1), answer(201, {"did": "it"}))
    found = asked(scene, method)
    assert (found.status, found.json(), len(scene.pauses_s)) == (201, {"did": "it"}, 2)
    assert [(request.method, request.body) for request in scene.sent[1:]] == [(method, '{"a":"ấ"}'.encode())] * 3
    assert scene.sent[1].headers["Content-Type"] == "application/json"


def test_a_post_is_asked_again_only_where_nothing_was_done() -> None:
    scene = play(token(), Unreachable(), problem("overloaded", 503, 1), answer(200, {}))
    assert asked(scene, "POST").json() == {}
    for answered in (ConnectionLost(), problem("log-unavailable", 503, **IN_DOUBT), answer(502)):
        scene = play(token(), answered)
        with pytest.raises(errors.CallError):
            asked(scene, "POST")


def test_a_follower_outlasts_any_number_of_failures_unless_told_otherwise() -> None:
    scene = play(token(), *[Unreachable()] * 50, answer(200), event("9-1"))
    scene.run(scene.core().follow(None, "7-0"), most=1)
    assert len(scene.pauses_s) == 50
    assert max(scene.pauses_s) <= 5
    scene = play(token(), Unreachable())
    with pytest.raises(Unreachable):
        scene.run(scene.core(NEVER).follow(None, "7-0"))


def test_events_that_are_none() -> None:
    scene = play(token(), answer(200), b"data: {}\n\n")
    with pytest.raises(errors.NotUnderstood):
        scene.run(scene.core().follow(None, ""))
