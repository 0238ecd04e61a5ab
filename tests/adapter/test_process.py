"""Adapters as processes over a real broker: killed inside the service function, stopped in order, misconfigured."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import orjson
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from ngsp.bus.kafka import KafkaBus
from ngsp.local.child import signal_to
from ngsp.local.kafka import LocalKafka
from ngsp.messages import Effect
from tests.adapter.adapter_process import AdapterProcess, environment
from tests.adapter.desk import Desk, desk_at
from tests.adapter.office import DATABASE_VARIABLE, EFFECTS, Office
from tests.adapter.signs import begun_file, gate_file
from tests.support.waiting import until

pytestmark = pytest.mark.kafka
MARK = "900123456789"
IN_THE_MIDDLE: dict[Effect, tuple[str, int]] = {
    "transactional": ("ok", 1),
    "uncertain": ("unknown", 1),
    "idempotent": ("ok", 2),
}
"""After a kill between effect and reply: what the next process answers, and how many effects there are then."""


class Branch:
    """An office whose adapter runs as a process of its own."""

    def __init__(self, office: Office, desk: Desk, variables: dict[str, str]) -> None:
        self.office, self.desk, self._variables = office, desk, variables
        self._starts = 0

    @asynccontextmanager
    async def process(self, **changes: str) -> AsyncIterator[AdapterProcess]:
        self._starts += 1
        log = self.office.folder / f"process-{self._starts}.log"
        async with AdapterProcess(self._variables | changes, log) as process:
            yield process

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[AdapterProcess]:
        async with self.process() as process:
            await process.serving()
            yield process

    async def begun(self, message: str) -> None:
        await until(begun_file(self.office.folder, message).exists, "the effect")

    def let(self) -> None:
        gate_file(self.office.folder).touch()

    def hold(self) -> None:
        gate_file(self.office.folder).unlink()


BranchOf = Callable[[Effect], AbstractAsyncContextManager[Branch]]


@pytest.fixture
def branch_of(
    kafka: LocalKafka, kafka_bus: KafkaBus, database: AsyncEngine, database_url: str, tmp_path: Path
) -> BranchOf:
    """Opens a branch whose adapter has the wanted effect; several of them may be open at once."""

    @asynccontextmanager
    async def open_branch(effect: Effect) -> AsyncIterator[Branch]:
        folder = tmp_path / effect
        folder.mkdir()
        transactional = effect == "transactional"
        office = Office(effect, folder, database if transactional else None, database_url)
        variables = environment(office, kafka.bootstrap, database_url)
        async with desk_at(kafka_bus, office.path, [office.topic], outcomes=True) as desk:
            yield Branch(office, desk, variables)

    return open_branch


async def killed_in_the_middle(branch: Branch) -> None:
    desk, office = branch.desk, branch.office
    before = [desk.submission({"note": str(number)}) for number in range(10)]
    cut_off = desk.submission()
    branch.let()
    async with branch.serving() as process:
        for envelope in before:
            await desk.deliver(envelope)
        for envelope in before:
            await desk.answers(envelope.id)
        branch.hold()
        await desk.deliver(cut_off)
        await branch.begun(cut_off.id)
        assert await process.end(signal.SIGKILL) == -signal.SIGKILL
    assert desk.replies(cut_off.id) == []
    assert await office.entered(cut_off.id) == (0 if office.effect == "transactional" else 1)
    branch.let()
    async with branch.serving():
        (reply,) = await desk.answers(cut_off.id)
        assert (reply.status, await office.entered(cut_off.id)) == IN_THE_MIDDLE[office.effect]
        for envelope in (*before, cut_off):
            await desk.ask(envelope)
        if office.effect == "idempotent":
            return
        for envelope in before:
            assert {reply.status for reply in desk.replies(envelope.id)} == {"ok"}
            assert len({reply.body for reply in desk.replies(envelope.id)}) == 1
            assert await office.entered(envelope.id) == 1
        assert {(reply.status, reply.body) for reply in desk.replies(cut_off.id)} == {(reply.status, reply.body)}
        assert await office.entered(cut_off.id) == 1


@pytest.mark.long
async def test_killed_in_the_middle_of_the_work(branch_of: BranchOf) -> None:
    """The next process: does it, once; does not know, and leaves it; does it again.

    All three at once, for the broker takes ten seconds to notice that a member of a group is gone.
    """

    async def one(effect: Effect) -> None:
        async with branch_of(effect) as branch:
            await killed_in_the_middle(branch)

    await asyncio.gather(*(one(effect) for effect in EFFECTS))


@pytest.mark.parametrize(
    ("effect", "number"),
    [*((effect, signal.SIGTERM) for effect in EFFECTS), ("uncertain", signal.SIGINT)],
    ids=[*EFFECTS, "by SIGINT"],
)
async def test_a_stop_in_order_finishes_what_is_in_hand(
    branch_of: BranchOf, effect: Effect, number: signal.Signals
) -> None:
    async with branch_of(effect) as branch:
        desk, office = branch.desk, branch.office
        query, submission = desk.envelope(), desk.submission()
        async with branch.serving() as process:
            for envelope in (query, submission):
                await desk.deliver(envelope)
                await branch.begun(envelope.id)
            signal_to(process.process, number)
            branch.let()
            assert await process.ended() == 0
            for envelope in (query, submission):
                (reply,) = await desk.answers(envelope.id)
                assert reply.status == "ok"
            assert process.said("adapter stopped")
        async with branch.serving():
            last = desk.envelope()
            assert (await desk.ask(last)).status == "ok"
        for envelope in (query, submission, last):
            assert await office.entered(envelope.id) == 1, "nothing of it came again"


async def test_the_log_holds_nothing_of_the_citizen(branch_of: BranchOf) -> None:
    async with branch_of("uncertain") as branch:
        desk = branch.desk
        branch.let()
        async with branch.serving() as process:
            envelope = desk.envelope({"note": MARK, "then": "fails"}, officer=MARK, dossier=MARK)
            assert (await desk.ask(envelope)).code == "adapter-error"
            await desk.deliver_raw([("ngsp-id", MARK.encode())], MARK.encode())
            await desk.ask(desk.envelope())
            await process.end(signal.SIGTERM)
            text = process.log.read_text("utf-8")
    assert MARK not in text
    lines = [orjson.loads(line) for line in text.splitlines()]
    (failed,) = [line for line in lines if line["event"] == "a service function failed"]
    assert failed["transaction"] == envelope.id
    assert (failed["error"], failed["place"].split(":")[0]) == ("ValueError", "sample.py")


@pytest.mark.parametrize("missing", ["NGSP_ADAPTER_KAFKA_BOOTSTRAP", DATABASE_VARIABLE])
async def test_what_is_not_up_yet_is_waited_for(branch_of: BranchOf, missing: str) -> None:
    """It says so and goes on trying, and ends in order when it is told to."""
    nobody = {
        "NGSP_ADAPTER_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        DATABASE_VARIABLE: "postgresql://ngsp@/office?host=/nowhere&port=5432",
    }
    async with branch_of("transactional") as branch, branch.process(**{missing: nobody[missing]}) as process:
        await until(lambda: process.said("not ready to serve"), "a line that says so", 40)
        assert await process.end(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [({"NGSP_ADAPTER_KEY_FILE": "none/such"}, "none/such"), ({DATABASE_VARIABLE: ""}, DATABASE_VARIABLE)],
    ids=["no key", "no database"],
)
async def test_what_it_cannot_start_without_is_said_in_one_line(
    branch_of: BranchOf, changes: dict[str, str], complaint: str
) -> None:
    async with branch_of("transactional") as branch, branch.process(**changes) as process:
        assert await process.ended() == 2
        text = process.log.read_text("utf-8")
    assert complaint in text.splitlines()[-1]
    assert "Traceback" not in text
