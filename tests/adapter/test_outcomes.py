"""What becomes of whatever a service function does: answers, the four errors, exceptions, cancellations."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from ngsp.adapter import AdapterError, Failed, Interrupted, RecordNotFound, Refused, Request, Unavailable
from ngsp.adapter.runner import LARGEST_REPLY_BYTES
from ngsp.bus import Bus, EmbeddedBus
from ngsp.messages import Effect, ReplyStatus
from tests.adapter.conftest import OfficeOf
from tests.adapter.desk import desk_at
from tests.adapter.office import EFFECTS, GUARDED, in_work

MARK = "900123456789"
"""Planted in requests, answers and exceptions; may be in no log."""


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RecordNotFound("KHONG-CO"), "not-found", "KHONG-CO"),
        (RecordNotFound(), "not-found", ""),
        (Refused("MÃ LỖI\r\nX: 1 "), "refused", "MLIX1"),
        (Refused("E" * 100), "refused", "E" * 64),
        (Failed("E-500"), "failed", "E-500"),
        (AdapterError("bare"), "failed", "bare"),
        (Interrupted("CAT-NGANG"), "unknown", "CAT-NGANG"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_an_error_of_the_adapters_own_is_final(
    embedded: EmbeddedBus, office_of: OfficeOf, effect: Effect, error: AdapterError, status: str, code: str
) -> None:
    """It is told again to every repeat; what a transactional service wrote before it is undone."""
    office = office_of(effect)

    async def enter_and_raise(request: Request) -> object:
        await office.enter(request)
        raise error

    office.work = enter_and_raise
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        envelope = desk.envelope()
        replies = [await desk.ask(envelope) for _ in range(3)]
    assert {(reply.status, reply.code, reply.body) for reply in replies} == {(status, code, b"")}
    assert len(office.calls) == (3 if effect == "idempotent" else 1)
    assert await office.entered(envelope.id) == (0 if effect == "transactional" else len(office.calls))


@pytest.mark.parametrize("effect", EFFECTS)
async def test_unavailable_is_tried_again_by_the_next_delivery(
    embedded: EmbeddedBus, office_of: OfficeOf, effect: Effect
) -> None:
    office = office_of(effect)

    async def unavailable(request: Request) -> object:
        raise Unavailable("TAM-DUNG")

    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        envelope = desk.envelope()
        office.work = unavailable
        for _ in range(2):
            reply = await desk.ask(envelope)
            assert (reply.status, reply.code) == ("retry", "TAM-DUNG")
        office.work = office.enter
        done = await desk.ask(envelope)
        again = await desk.ask(envelope)
    assert (done.status, again.status) == ("ok", "ok")
    if effect != "idempotent":
        assert done.body == again.body
        assert await office.entered(envelope.id) == 1
        assert len(office.calls) == 3


def broken(effect: Effect) -> ReplyStatus:
    """How a fault of the function itself ends: what it did before is undone, or repeatable, or nobody knows."""
    return "unknown" if effect == "uncertain" else "failed"


@pytest.mark.parametrize("effect", EFFECTS)
async def test_an_exception_ends_the_message_and_says_nothing_of_the_citizen(
    embedded: EmbeddedBus, office_of: OfficeOf, effect: Effect
) -> None:
    office = office_of(effect)

    async def fails(request: Request) -> object:
        await office.enter(request)
        raise ValueError(f"no such person: {request.payload['note']}")

    office.work = fails
    with capture_logs() as logs:
        async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
            envelope = desk.envelope({"note": MARK})
            replies = [await desk.ask(envelope) for _ in range(2)]
    assert {(reply.status, reply.code, reply.body) for reply in replies} == {(broken(effect), "adapter-error", b"")}
    assert len(office.calls) == (2 if effect == "idempotent" else 1)
    assert await office.entered(envelope.id) == (0 if effect == "transactional" else len(office.calls))
    (line, *_) = [line for line in logs if line["log_level"] == "error"]
    assert line["transaction"] == envelope.id
    assert (line["error"], line["place"].split(":")[0]) == ("ValueError", "test_outcomes.py")
    assert MARK not in repr(logs)
    assert not any("exc_info" in line for line in logs), "a trace may hold the data"


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("result", [{1, 2}, {"day": object()}, {1: {2: float}}], ids=["set", "object", "type"])
async def test_an_answer_that_is_no_json(
    embedded: EmbeddedBus, office_of: OfficeOf, effect: Effect, result: object
) -> None:
    office = office_of(effect)

    async def answers_nonsense(request: Request) -> object:
        await office.enter(request)
        return result

    office.work = answers_nonsense
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        reply = await desk.ask(desk.envelope())
        assert (reply.status, reply.code) == (broken(effect), "adapter-error")
        assert await office.entered(reply.id) == (0 if effect == "transactional" else 1)
        office.work = office.enter
        assert (await desk.ask(desk.envelope())).status == "ok"


async def test_bytes_pass_as_they_are(embedded: EmbeddedBus, office_of: OfficeOf) -> None:
    office = office_of("uncertain")
    own_form = b'{"b": 1.0,\n "a":"\xc4\x90\xc4\x83ng"}'

    async def answers_bytes(request: Request) -> object:
        return own_form

    office.work = answers_bytes
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        envelope = desk.envelope()
        assert [(await desk.ask(envelope)).body for _ in range(2)] == [own_form] * 2


@pytest.mark.parametrize("effect", EFFECTS)
async def test_the_largest_reply_travels_and_a_larger_one_ends_the_message(
    bus: Bus, office_of: OfficeOf, effect: Effect
) -> None:
    """A reply that no bus takes would otherwise come again for ever."""
    office = office_of(effect)

    async def answers_much(request: Request) -> object:
        await office.enter(request)
        return b"1" * request.payload["size"]

    office.work = answers_much
    async with desk_at(bus, office.path, [office.topic], outcomes=True) as desk, office.serving(bus):
        fits = await desk.ask(desk.submission({"size": LARGEST_REPLY_BYTES}))
        assert (fits.status, len(fits.body)) == ("ok", LARGEST_REPLY_BYTES)
        over = await desk.ask(desk.submission({"size": LARGEST_REPLY_BYTES + 1}))
        assert (over.status, over.code, over.body) == (broken(effect), "reply-too-large", b"")
    assert await office.entered(over.id) == (0 if effect == "transactional" else 1)


@pytest.mark.parametrize("effect", EFFECTS)
async def test_a_cancellation_from_within_is_a_fault_like_another(
    bus: Bus, office_of: OfficeOf, effect: Effect
) -> None:
    """Something the function waited for was cancelled; the message itself was not."""
    office = office_of(effect)

    async def waits_for_what_is_cancelled(request: Request) -> object:
        other: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        other.cancel()
        return await other

    office.work = waits_for_what_is_cancelled
    async with desk_at(bus, office.path, [office.topic]) as desk, office.serving(bus):
        reply = await desk.ask(desk.envelope())
    assert (reply.status, reply.code) == (broken(effect), "adapter-error")


async def test_a_broken_constraint_that_is_found_at_the_commit_is_final(
    embedded: EmbeddedBus, office_of: OfficeOf
) -> None:
    office = office_of("transactional")
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        assert (await desk.ask(desk.envelope({"once": MARK}))).status == "ok"
        with capture_logs() as logs:
            envelope = desk.envelope({"once": MARK})
            replies = [await desk.ask(envelope) for _ in range(2)]
    assert {(reply.status, reply.code) for reply in replies} == {("failed", "adapter-error")}
    assert office.calls.count(envelope.id) == 1
    assert await office.entered(envelope.id) == 0
    assert MARK not in repr(logs)


async def test_an_error_of_the_database_that_the_function_kept_to_itself_is_final(
    embedded: EmbeddedBus, office_of: OfficeOf
) -> None:
    """Its transaction cannot commit any more; *ok* would be a lie."""
    office = office_of("transactional")

    async def keeps_it_to_itself(request: Request) -> object:
        await office.enter(request)
        with pytest.raises(IntegrityError):
            await request.transaction().execute(text("INSERT INTO ledger VALUES (NULL, '', NULL)"))
        return {"number": "none"}

    office.work = keeps_it_to_itself
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        envelope = desk.envelope()
        replies = [await desk.ask(envelope) for _ in range(2)]
    assert {(reply.status, reply.code) for reply in replies} == {("failed", "adapter-error")}
    assert len(office.calls) == 1
    assert await office.entered(envelope.id) == 0


async def test_a_function_that_rolls_back_is_not_ok(embedded: EmbeddedBus, office_of: OfficeOf) -> None:
    office = office_of("transactional")

    async def rolls_back(request: Request) -> object:
        await office.enter(request)
        await request.transaction().rollback()
        return {"number": "none"}

    office.work = rolls_back
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        envelope = desk.envelope()
        replies = [await desk.ask(envelope) for _ in range(2)]
    assert {(reply.status, reply.code) for reply in replies} == {("failed", "adapter-error")}
    assert (len(office.calls), await office.entered(envelope.id)) == (1, 0)


async def test_a_function_that_commits_itself_has_its_effect_once(embedded: EmbeddedBus, office_of: OfficeOf) -> None:
    """It gives up one commit for both; what it leaves half done ends as unknown, never done twice."""
    office = office_of("transactional")

    async def commits(request: Request) -> object:
        await office.enter(request)
        await request.transaction().commit()
        if request.payload.get("then") == "fails":
            raise RuntimeError
        return {"number": request.id}

    office.work = commits
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        whole, half = desk.envelope(), desk.envelope({"then": "fails"})
        assert {(await desk.ask(whole)).status for _ in range(3)} == {"ok"}
        assert {(await desk.ask(half)).status for _ in range(3)} == {"unknown"}
    assert (await office.entered(whole.id), await office.entered(half.id)) == (1, 1)
    assert sorted(office.calls) == sorted((whole.id, half.id))


async def test_a_deadlock_in_the_providers_database_passes(
    embedded: EmbeddedBus, office_of: OfficeOf, database: AsyncEngine
) -> None:
    """Two messages that lock two rows crosswise: PostgreSQL ends one of them, and its next delivery does it."""
    office = office_of("transactional")
    locked: list[str] = []
    both = asyncio.Event()

    async def crosswise(request: Request) -> object:
        first, second = request.payload["locks"]
        lock = text("SELECT pg_advisory_xact_lock(:key)")
        await request.transaction().execute(lock, {"key": first})
        locked.append(request.id)
        if len(locked) >= 2:
            both.set()
        await both.wait()
        await request.transaction().execute(lock, {"key": second})
        return await office.enter(request)

    office.work = crosswise
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        envelopes = [desk.envelope({"locks": locks}) for locks in ([1, 2], [2, 1])]
        replies = await asyncio.gather(*(desk.ask(envelope) for envelope in envelopes))
        assert sorted((reply.status, reply.code) for reply in replies) == [
            ("ok", ""),
            ("retry", "database-unavailable"),
        ]
        again = [await desk.ask(envelope) for envelope in envelopes]
    assert [reply.status for reply in again] == ["ok", "ok"]
    assert [await office.entered(envelope.id) for envelope in envelopes] == [1, 1]


@pytest.mark.parametrize("outcome", [False, True], ids=["query", "submission"])
async def test_a_connection_lost_in_the_middle(
    embedded: EmbeddedBus, office_of: OfficeOf, database: AsyncEngine, outcome: bool
) -> None:
    """Before the commit nothing was done: *retry*, and the next delivery does it."""
    office, started, gate = office_of("transactional"), asyncio.Event(), asyncio.Event()
    sessions: list[int] = []

    async def waits(request: Request) -> object:
        sessions.append((await request.transaction().execute(text("SELECT pg_backend_pid()"))).scalar_one())
        started.set()
        await gate.wait()
        return await office.enter(request)

    office.work = waits
    async with (
        desk_at(embedded, office.path, [office.topic], outcomes=outcome) as desk,
        office.serving(embedded) as runner,
    ):
        envelope = desk.submission() if outcome else desk.envelope()
        await desk.deliver(envelope)
        await in_work(runner, 1)
        await asyncio.wait_for(started.wait(), 20)
        async with database.begin() as owner:
            await owner.execute(text("SELECT pg_terminate_backend(:session)"), {"session": sessions[0]})
        gate.set()
        (reply,) = await desk.answers(envelope.id)
        assert (reply.status, reply.code) == ("retry", "database-unavailable")
        office.work = office.enter
        assert (await desk.ask(envelope)).status == "ok"
    assert await office.entered(envelope.id) == 1


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [(False, "unknown", "inbox-unavailable"), (True, "retry", "effect-in-doubt")],
    ids=["query", "submission"],
)
async def test_a_connection_lost_before_the_commit_is_known(
    embedded: EmbeddedBus, office_of: OfficeOf, database: AsyncEngine, outcome: bool, status: str, code: str
) -> None:
    """Done or not? A submission comes again and finds out; a query does not, and must not be told that it is not."""
    office = office_of("transactional")

    async def loses_its_connection(request: Request) -> object:
        done = await office.enter(request)
        session = (await request.transaction().execute(text("SELECT pg_backend_pid()"))).scalar_one()
        async with database.begin() as owner:
            await owner.execute(text("SELECT pg_terminate_backend(:session)"), {"session": session})
        return done

    office.work = loses_its_connection
    async with desk_at(embedded, office.path, [office.topic], outcomes=outcome) as desk, office.serving(embedded):
        envelope = desk.submission() if outcome else desk.envelope()
        reply = await desk.ask(envelope)
        assert (reply.status, reply.code) == (status, code)
        office.work = office.enter
        assert (await desk.ask(envelope)).status == "ok"
    assert await office.entered(envelope.id) == 1


@pytest.mark.parametrize("effect", GUARDED)
async def test_only_a_transactional_service_has_a_connection(
    embedded: EmbeddedBus, office_of: OfficeOf, effect: Effect
) -> None:
    office = office_of(effect)

    async def asks_for_it(request: Request) -> object:
        request.transaction()
        return {"has": True}

    office.work = asks_for_it
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        reply = await desk.ask(desk.envelope())
    assert (reply.status == "ok") is (effect == "transactional")
