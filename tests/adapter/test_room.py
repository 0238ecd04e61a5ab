"""A service whose back end hangs, beside others of the same adapter."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

from ngsp.adapter import Adapter, Manifest, Request
from ngsp.adapter.runner import AdapterRunner
from ngsp.bus import Bus
from ngsp.vault import Vault
from tests.adapter.desk import desk_at
from tests.adapter.office import KEY, in_work, manifest
from tests.support.waiting import until


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
