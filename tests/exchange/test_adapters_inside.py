"""Adapters inside the gateway's process are shown like any others."""

from __future__ import annotations

from tests.support.gateway import Rig
from tests.support.waiting import until


async def test_an_adapter_inside_the_gateway_is_online(rig: Rig) -> None:
    async def online() -> bool:
        found = (await rig.get("/v1/adapters/h41-tests", by="operator")).json()
        return bool(found["state"] == "online")

    await until(online, "the adapter to be online")
    found = (await rig.get("/v1/adapters/h41-tests", by="operator")).json()
    assert found["degraded"] == [] and len(found["processes"]) == 1
    assert {service["state"] for service in found["services"]} == {"active"}
