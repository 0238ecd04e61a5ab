"""A service whose back end hangs, beside others of the same adapter."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

from ngsp.adapter import Adapter, Manifest, Request
from ngsp.adapter.inbox import CONNECTIONS
from ngsp.adapter.runner import AdapterRunner
from ngsp.bus import Bus, EmbeddedBus
from ngsp.vault import Vault
from tests.adapter.desk import desk_at
from tests.adapter.office import DATABASE_VARIABLE, KEY, in_work, manifest
from tests.support.waiting import until


async def test_a_transactional_service_that_hangs_leaves_connections_to_the_others(
    embedded: EmbeddedBus, database_url: str, tmp_path: Path
) -> None:
    name = uuid.uuid4().hex[:12]
    hangs, quick = f"hangs-{name}", f"quick-{name}"
    declared = manifest("transactional", f"office-{name}", hangs, quick)
    adapter = Adapter(declared)
    gate, running = asyncio.Event(), [0]

    async def waits(request: Request) -> object:
        running[0] += 1
        await gate.wait()
        return {}

    async def answers(request: Request) -> object:
        return {}

    adapter.service(hangs, "v1")(waits)
    adapter.service(quick, "v1")(answers)
    topics = [adapter.key(service).request_topic for service in declared.services]
    async with desk_at(embedded, f"H41/{quick}/v1", [topics[1], topics[0]]) as desk:
        runner = AdapterRunner(
            adapter, embedded, Vault(KEY), tmp_path, environment={DATABASE_VARIABLE: database_url}.get
        )
        await runner.start()
        held = [desk.envelope(service=f"H41/{hangs}/v1") for _ in range(3 * CONNECTIONS)]
        for envelope in held:
            await embedded.send(topics[0], envelope.headers(), envelope.body)
        await until(lambda: running[0] == CONNECTIONS - CONNECTIONS // 4, "all connections it may have")
        for _ in range(5):
            assert (await desk.ask(desk.envelope())).status == "ok"
        gate.set()
        for envelope in held:
            assert (await desk.answers(envelope.id))[0].status == "ok"
        await runner.stop()


async def test_a_service_whose_back_end_hangs_holds_up_no_other(bus: Bus, tmp_path: Path) -> None:
    name = uuid.uuid4().hex[:12]
    hangs, narrow, quick = f"hangs-{name}", f"narrow-{name}", f"quick-{name}"
    document = manifest("idempotent", f"office-{name}", hangs, narrow, quick).model_dump()
    document["services"][1]["max_in_work"] = 1
    declared = Manifest.model_validate(document)
    adapter = Adapter(declared)
    gate, running = asyncio.Event(), {hangs: 0, narrow: 0}

    async def waits(request: Request) -> object:
        name = request.envelope.service.split("/")[1]
        running[name] += 1
        await gate.wait()
        return {}

    async def answers(request: Request) -> object:
        return {}

    for service, serve in ((hangs, waits), (narrow, waits), (quick, answers)):
        adapter.service(service, "v1")(serve)
    topics = [adapter.key(service).request_topic for service in declared.services]
    path = f"H41/{quick}/v1"
    async with desk_at(bus, path, [topics[2], topics[0], topics[1]]) as desk:
        runner = AdapterRunner(adapter, bus, Vault(KEY), tmp_path, max_in_work=12)
        await runner.start()
        held = []
        for topic, service in ((topics[0], hangs), (topics[1], narrow)):
            for _ in range(20):
                envelope = desk.envelope(service=f"H41/{service}/v1")
                held.append(envelope.id)
                await bus.send(topic, envelope.headers(), envelope.body)
        # Of twelve places six are shared out: the one that hangs leaves two to the quick one, the narrow one needs one.
        await until(lambda: running == {hangs: 9, narrow: 1}, "all that may hang")
        await in_work(runner, 10)
        for _ in range(20):
            assert (await desk.ask(desk.envelope())).status == "ok"
        assert runner.paused == [f"H41/{hangs}/v1", f"H41/{narrow}/v1"]
        assert desk.answered.isdisjoint(held)
        gate.set()
        for id in held:
            assert (await desk.answers(id))[0].status == "ok"
        assert runner.paused == []
        await runner.stop()
