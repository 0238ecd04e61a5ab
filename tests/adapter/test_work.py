"""The runner at work: bounded, drained at the end, deaf to what is no request, patient with a database that is down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ngsp.adapter import Adapter, ManifestError, Request
from ngsp.adapter.databases import database_at
from ngsp.adapter.inbox import CONNECTIONS
from ngsp.adapter.runner import AdapterRunner
from ngsp.bus import Bus, EmbeddedBus, Topic
from ngsp.bus.kafka import KafkaBus
from ngsp.errors import BusUnavailable
from ngsp.local.postgres import LocalPostgres
from ngsp.messages import OUTCOMES_TOPIC, Effect, Headers, uuid7
from ngsp.vault import Vault
from tests.adapter.conftest import OfficeOf
from tests.adapter.desk import Desk, desk_at
from tests.adapter.office import DATABASE_VARIABLE, EFFECTS, KEY, Office, in_work, make_ledger, manifest
from tests.support.waiting import until


class Gated:
    """A service function that waits to be let, and counts how many wait at once."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self.gate = asyncio.Event()
        self.running = self.most = 0

    async def __call__(self, request: Request) -> object:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        return await self._office.enter(request)


@pytest.mark.parametrize("effect", EFFECTS)
async def test_work_at_once_is_bounded(bus: Bus, office_of: OfficeOf, effect: Effect) -> None:
    office = office_of(effect)
    office.work = gated = Gated(office)
    async with desk_at(bus, office.path, [office.topic]) as desk, office.serving(bus, max_in_work=3) as runner:
        envelopes = [desk.envelope() for _ in range(12)]
        for envelope in envelopes:
            await desk.deliver(envelope)
        await in_work(runner, 3)
        await until(lambda: gated.running == 3, "three in work")
        gated.gate.set()
        for envelope in envelopes:
            assert (await desk.answers(envelope.id))[0].status == "ok"
        assert gated.most == 3


async def test_effects_at_once_are_bounded_by_the_connections(embedded: EmbeddedBus, office_of: OfficeOf) -> None:
    """The other messages wait for their turn instead of failing for want of a connection."""
    office = office_of("transactional")
    office.work = gated = Gated(office)
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded) as runner:
        envelopes = [desk.envelope() for _ in range(3 * CONNECTIONS)]
        for envelope in envelopes:
            await desk.deliver(envelope)
        await in_work(runner, len(envelopes))
        await until(lambda: gated.running == CONNECTIONS, "all connections in use")
        gated.gate.set()
        for envelope in envelopes:
            assert (await desk.answers(envelope.id))[0].status == "ok"
        assert gated.most == CONNECTIONS


@pytest.mark.parametrize("effect", EFFECTS)
async def test_stop_finishes_what_is_in_hand_and_leaves_the_rest(bus: Bus, office_of: OfficeOf, effect: Effect) -> None:
    office = office_of(effect)
    office.work = gated = Gated(office)
    async with desk_at(bus, office.path, [office.topic]) as desk:
        runner = office.runner(bus, max_in_work=2)
        await runner.start()
        envelopes = [desk.envelope() for _ in range(6)]
        for envelope in envelopes:
            await desk.deliver(envelope)
        await until(lambda: gated.running == 2, "two in work")
        stopping = asyncio.create_task(runner.stop(30))
        await asyncio.sleep(0)
        gated.gate.set()
        await stopping
        await desk.settle()
        in_hand = {envelope.id for envelope in envelopes[:2]}
        assert desk.answered == in_hand == set(office.calls)
        async with office.serving(bus):
            for envelope in envelopes:
                assert [reply.status for reply in await desk.answers(envelope.id)] == ["ok"]
    assert sorted(office.calls) == sorted(envelope.id for envelope in envelopes)


@pytest.mark.parametrize(
    ("effect", "status", "entered"), [("transactional", "ok", 1), ("uncertain", "unknown", 0), ("idempotent", "ok", 1)]
)
async def test_work_that_does_not_end_is_cut_off_and_its_message_comes_again(
    bus: Bus, office_of: OfficeOf, effect: Effect, status: str, entered: int
) -> None:
    office = office_of(effect)
    office.work = gated = Gated(office)
    async with desk_at(bus, office.path, [office.topic]) as desk:
        runner = office.runner(bus)
        await runner.start()
        envelope = desk.envelope()
        await desk.deliver(envelope)
        await until(lambda: gated.running == 1, "it to begin")
        await runner.stop(0.05)
        assert gated.running == 0
        await desk.settle()
        assert desk.answered == set()
        gated.gate.set()
        async with office.serving(bus):
            (reply,) = await desk.answers(envelope.id)
    assert reply.status == status
    assert await office.entered(envelope.id) == entered


def without(desk: Desk, name: str) -> Headers:
    return [header for header in desk.envelope().headers() if header[0] != name]


def having(desk: Desk, **values: bytes | None) -> Headers:
    changed = {f"ngsp-{name.replace('_', '-')}": value for name, value in values.items()}
    return [*without_all(desk, changed), *changed.items()]  # type: ignore[list-item]  # a broker allows no value


def without_all(desk: Desk, names: dict[str, bytes | None]) -> Headers:
    return [header for header in desk.envelope().headers() if header[0] not in names]


REQUIRED = ("id", "service", "deadline", "purpose", "fields", "schema", "reply-to", "attempt", "consumer")
MALFORMED: dict[str, dict[str, bytes | None]] = {
    "an id that is no UUIDv7": {"id": b"01912345-0000-4000-8000-000000000000"},
    "an id with more behind it": {"id": uuid7().encode() + b"\n"},
    "an id of any length": {"id": b"a" * 10_000},
    "an empty id": {"id": b""},
    "bytes that are no UTF-8": {"service": b"H41/\xff\xfe/v1"},
    "a service without a value": {"service": None},
    "another adapter's service": {"service": b"G01.01/population-lookup/v1"},
    "a service that does not exist": {"service": b"H41/../v1"},
    "a deadline in words": {"deadline": b"tomorrow"},
    "a deadline without a value": {"deadline": None},
    "a negative deadline": {"deadline": b"-1"},
    "a deadline beyond any clock": {"deadline": b"9" * 400},
    "a deadline too long to read": {"deadline": b"9" * 5000},
    "a fraction of a millisecond": {"deadline": b"1e30"},
    "no attempt at all": {"attempt": b"0"},
    "an attempt beyond counting": {"attempt": b"9" * 30},
    "another service's request topic": {"reply_to": b"ngsp.request.G01.01.population-lookup.v1"},
    "no reply topic": {"reply_to": b""},
    "a prefix alone": {"reply_to": b"ngsp.reply."},
    "a slot with too many digits": {"reply_to": b"ngsp.reply.123456"},
    "a slot in other digits": {"reply_to": "ngsp.reply.٣".encode()},
    "a line feed behind a slot": {"reply_to": b"ngsp.reply.1\n"},
    "an outcome topic of another name": {"reply_to": b"ngsp.outcomes.mine"},
    "a topic of Kafka's own": {"reply_to": b"__consumer_offsets"},
}


class Watched(EmbeddedBus):
    """Remembers the topics that were sent to."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []

    async def post(self, topic: str, headers: Headers, value: bytes, key: bytes = b"") -> asyncio.Future[None]:
        self.sent.append(topic)
        return await super().post(topic, headers, value)


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    bus = Watched()
    await bus.start()
    yield bus
    await bus.stop()


@pytest.mark.parametrize(
    "values",
    [*({name: False} for name in REQUIRED), *MALFORMED.values()],
    ids=[*(f"without {name}" for name in REQUIRED), *MALFORMED],
)
async def test_what_is_no_request_is_dropped_and_the_next_is_served(
    watched: Watched, office_of: OfficeOf, values: dict[str, bytes | bool | None]
) -> None:
    office = office_of("uncertain")
    async with desk_at(watched, office.path, [office.topic]) as desk, office.serving(watched) as runner:
        (name, value), *_ = values.items()
        headers = without(desk, f"ngsp-{name}") if value is False else having(desk, **values)  # type: ignore[arg-type]
        with capture_logs() as logs:
            await desk.deliver_raw(headers, b'{"note": "900123456789"}')
            good = desk.envelope()
            assert (await desk.ask(good)).status == "ok"
        await in_work(runner, 0)
        assert office.calls == [good.id]
        assert watched.sent == [office.topic, office.topic, desk.reply_topic]
        dropped = [line for line in logs if line["log_level"] == "error"]
        assert len(dropped) == 1
        assert "900123456789" not in repr(dropped)


async def test_what_is_no_request_does_not_stop_the_group_on_a_broker(kafka_bus: KafkaBus, office_of: OfficeOf) -> None:
    """Header values without bytes exist there only."""
    office = office_of("idempotent")
    async with desk_at(kafka_bus, office.path, [office.topic]) as desk, office.serving(kafka_bus) as runner:
        await desk.deliver_raw([])
        for values in MALFORMED.values():
            await desk.deliver_raw(having(desk, **values))
        for name in REQUIRED:
            await desk.deliver_raw(without(desk, f"ngsp-{name}"))
        good = desk.envelope()
        assert (await desk.ask(good)).status == "ok"
        await in_work(runner, 0)
        await desk.settle()
        assert desk.answered == {good.id}
        assert office.calls == [good.id]


async def test_a_service_is_asked_on_its_own_topic_only(watched: Watched, tmp_path: Path) -> None:
    """Rights on the broker are given by topic: who may ask one service has not asked its neighbour thereby."""
    adapter = Adapter(manifest("idempotent", "two-services", "first", "second"))
    served: list[str] = []

    async def serve(request: Request) -> object:
        served.append(request.envelope.service)
        return {}

    for name in ("first", "second"):
        adapter.service(name, "v1")(serve)
    topics = [adapter.key(service).request_topic for service in adapter.manifest.services]
    async with desk_at(watched, "H41/first/v1", topics) as desk:
        runner = AdapterRunner(adapter, watched, Vault(KEY), tmp_path)
        await runner.start()
        await desk.deliver(desk.envelope(service="H41/second/v1"))
        assert (await desk.ask(desk.envelope())).status == "ok"
        await runner.stop()
    assert served == ["H41/first/v1"]


@pytest.mark.parametrize("effect", EFFECTS)
async def test_a_message_that_was_cut_short_on_the_bus_is_not_finished(
    embedded: EmbeddedBus, office_of: OfficeOf, effect: Effect
) -> None:
    """Outcomes that find no room are tried until there is some, without asking the provider anew; others are served."""
    office = office_of(effect)
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded) as runner:
        await desk.deliver(desk.submission())
        assert (await desk.ask(desk.envelope())).status == "ok"
        assert runner.handled == 1
        await embedded.ensure([Topic(OUTCOMES_TOPIC, 1, 60.0)])
        await until(lambda: runner.handled == 2, "the outcome to be sent")
        assert len(office.calls) == len(set(office.calls)) == 2


async def test_a_database_that_is_down_is_a_retry_and_its_return_is_noticed(
    embedded: EmbeddedBus, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """A crash of the provider's own server, not of the one that others use."""
    server = LocalPostgres(tmp_path_factory.mktemp("provider"), print)
    await server.start()
    try:
        await server.create_database("office")
        url = server.url("office")
        owner = database_at(url, connections=2)
        await make_ledger(owner.engine)
        office = Office("transactional", tmp_path, owner.engine, url)
        async with (
            desk_at(embedded, office.path, [office.topic], outcomes=True) as desk,
            office.serving(embedded),
        ):
            before, during = desk.submission(), desk.submission()
            assert (await desk.ask(before)).status == "ok"
            server.kill()
            for envelope in (before, during, desk.envelope()):
                reply = await desk.ask(envelope)
                assert (reply.status, reply.code) == ("retry", "inbox-unavailable")
            assert office.calls == [before.id]
            await server.start()
            assert (await desk.ask(during)).status == "ok"
            again = await desk.ask(before)
            assert (again.status, again.body) == ("ok", desk.replies(before.id)[0].body)
            assert [await office.entered(envelope.id) for envelope in (before, during)] == [1, 1]
        await owner.close()
    finally:
        await server.remove()


@pytest.mark.parametrize(
    ("url", "variable", "complaint"),
    [("", DATABASE_VARIABLE, DATABASE_VARIABLE), ("", None, "database_url_env")],
    ids=["the variable is not set", "the manifest names no variable"],
)
async def test_a_transactional_adapter_without_a_database_does_not_start(
    embedded: EmbeddedBus, tmp_path: Path, url: str, variable: str | None, complaint: str
) -> None:
    declared = manifest("transactional", "no-database").model_copy(update={"database_url_env": variable})
    adapter = Adapter(declared)

    @adapter.service("entry", "v1")
    async def entry(request: Request) -> object:
        return {}

    runner = AdapterRunner(adapter, embedded, Vault(KEY), tmp_path, environment={DATABASE_VARIABLE: url}.get)
    with pytest.raises(ManifestError, match=f"no-database.*{complaint}"):
        await runner.start()
    await runner.stop()


async def test_resources_are_open_while_serving_and_a_start_that_failed_leaves_nothing(
    embedded: EmbeddedBus, tmp_path: Path
) -> None:
    adapter = Adapter(manifest("uncertain", "with-resources"))
    events: list[str] = []

    @adapter.resources
    async def table() -> AsyncIterator[dict[str, str]]:
        events.append("opened")
        yield {"a": "1"}
        events.append("closed")

    @adapter.service("entry", "v1")
    async def entry(request: Request) -> object:
        assert events[-1] == "opened"
        return request.resources

    (service,) = adapter.manifest.services
    topic = adapter.key(service).request_topic
    runner = AdapterRunner(adapter, embedded, Vault(KEY), tmp_path)
    with pytest.raises(BusUnavailable):
        await runner.start()
    assert events == ["opened", "closed"]
    async with desk_at(embedded, "H41/entry/v1", [topic]) as desk:
        await runner.start()
        assert (await desk.ask(desk.envelope())).body == b'{"a":"1"}'
        await runner.stop()
    assert events == ["opened", "closed"] * 2
