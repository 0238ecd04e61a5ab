"""What heartbeats say of an adapter: online, degraded, silent; of several processes the worst."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.support.registry import manifest, service_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from tests.support.registry import Rig

ADAPTER = "/v1/adapters/g01-beating"
PATH, OTHER = "G01.01/beats/v1", "G01.01/beats/v2"


@pytest.fixture
async def rows(rig: Rig) -> AsyncIterator[asyncpg.Connection]:
    """The adapter is registered and nothing was heard of it."""
    document = manifest(
        service_document(service="beats"), service_document(service="beats", version="v2"), id="g01-beating"
    )
    assert (await rig.call("PUT", ADAPTER, json=document)).status_code in (200, 201)
    connection = await asyncpg.connect(rig.url)
    await connection.execute("DELETE FROM adapter_processes; UPDATE adapters SET seen_at = NULL")
    yield connection
    await connection.close()


async def beat(rig: Rig, process: str = "one", by: str = "g01-registry", **others: Any) -> httpx.Response:
    services = rig.registry.snapshot.services
    sign = {
        "process": process,
        "build": "1.2.3",
        "schemas": {path: services[path].schema_version for path in (PATH, OTHER)},
        "breakers": {"backend": "closed"},
        **others,
    }
    return await rig.call("POST", f"{ADAPTER}/heartbeat", json=sign, by=by)


async def view(rig: Rig, by: str = "g01-registry") -> dict[str, Any]:
    found: dict[str, Any] = (await rig.call("GET", ADAPTER, by=by)).json()
    return found


async def test_a_heartbeat_makes_an_adapter_online_and_moves_no_revision(rig: Rig, rows: asyncpg.Connection) -> None:
    assert ((await view(rig))["state"], (await view(rig))["processes"]) == ("silent", [])
    revision = rig.registry.snapshot.revision
    answer = await beat(rig, in_work=3, paused=[PATH])
    assert (answer.status_code, answer.json()) == (200, {"state": "online", "differing": []})
    found = await view(rig)
    assert (found["state"], found["build"], found["degraded"]) == ("online", "1.2.3", [])
    (process,) = found["processes"]
    assert process == {
        "process": "one", "seen_at": process["seen_at"], "build": "1.2.3", "breakers": {"backend": "closed"},
        "in_work": 3, "paused": [PATH], "degraded": [],
    }  # fmt: skip
    assert found["services"] == [
        {"path": PATH, "state": "active", "paused": True}, {"path": OTHER, "state": "active", "paused": False},
    ]  # fmt: skip
    assert rig.registry.snapshot.revision == revision


async def test_what_degrades_an_adapter(rig: Rig, rows: asyncpg.Connection) -> None:
    stale = {PATH: "0" * 16 + "." + "0" * 16, "G01.01/nobody-knows/v1": "1" * 16 + "." + "1" * 16}
    for others, complaints in (
        ({"breakers": {"backend": "open", "cache": "closed"}}, [("breaker", "backend")]),
        ({"breakers": {"backend": "half-open"}}, [("breaker", "backend")]),
        ({"schemas": stale}, [("schemas", path) for path in (PATH, OTHER, "G01.01/nobody-knows/v1")]),
        ({"troubles": ["clock-off"]}, [("trouble", "clock-off")]),
        ({"paused": [PATH, OTHER]}, []),
    ):
        answer = await beat(rig, **others)
        found = await view(rig)
        assert found["state"] == answer.json()["state"] == ("degraded" if complaints else "online"), others
        assert [(complaint["what"], complaint["name"]) for complaint in found["degraded"]] == complaints
        assert answer.json()["differing"] == [name for what, name in complaints if what == "schemas"]


async def test_one_process_that_is_not_well_is_seen_among_many(rig: Rig, rows: asyncpg.Connection) -> None:
    for process in ("one", "two", "three"):
        await beat(rig, process, breakers={"backend": "open" if process == "two" else "closed"})
    found = await view(rig)
    assert found["state"] == "degraded"
    assert [(one["process"], bool(one["degraded"])) for one in found["processes"]] == [
        ("one", False), ("three", False), ("two", True),
    ]  # fmt: skip
    await rows.execute("UPDATE adapter_processes SET seen_at = now() - interval '31 s' WHERE process = 'two'")
    assert (await view(rig))["state"] == "online", "it ended, and the others are well"
    await rows.execute("UPDATE adapter_processes SET seen_at = now() - interval '31 s'")
    assert (await view(rig))["state"] == "silent"
    await rows.execute("UPDATE adapter_processes SET seen_at = now() - interval '2 hours' WHERE process <> 'one'")
    await beat(rig, "one")
    assert await rows.fetchval("SELECT count(*) FROM adapter_processes WHERE adapter = 'g01-beating'") == 1


async def test_an_upgrade_makes_processes_of_the_old_build_differ(rig: Rig) -> None:
    address, path = "/v1/adapters/g01-upgraded", "G01.01/upgraded/v1"
    service = service_document(service="upgraded", examples=[])
    assert (await rig.call("PUT", address, json=manifest(service, id="g01-upgraded"))).status_code == 201
    sign = {"build": "1", "schemas": {path: rig.registry.snapshot.services[path].schema_version}}
    assert (await rig.call("POST", f"{address}/heartbeat", json=sign)).json()["state"] == "online"
    wider = {**service, "request_schema": {**service["request_schema"], "required": []}}
    assert (await rig.call("PUT", address, json=manifest(wider, id="g01-upgraded"))).status_code == 200
    found = (await rig.call("GET", address)).json()
    assert (found["state"], found["degraded"]) == ("degraded", [{"what": "schemas", "name": path}])
    await rig.call("PUT", f"/v1/services/{path}/state", json={"state": "retired", "reason": "x"})
    found = (await rig.call("GET", address)).json()
    assert found["degraded"] == [{"what": "schemas", "name": path}], "still served there"


async def test_a_sign_of_the_release_before_is_understood(rig: Rig, rows: asyncpg.Connection) -> None:
    versions = {path: rig.registry.snapshot.services[path].schema_version for path in (PATH,)}
    answer = await rig.call("POST", f"{ADAPTER}/heartbeat", json={"build": "0.1.0", "schemas": versions})
    assert answer.status_code == 200
    assert [process["process"] for process in (await view(rig))["processes"]] == ["-"]


@pytest.mark.parametrize(
    "others",
    [
        {"process": ""},
        {"process": "x" * 81},
        {"process": "a b"},
        {"breakers": {"backend": "broken"}},
        {"breakers": {f"b{n}": "closed" for n in range(51)}},
        {"in_work": -1},
        {"paused": ["a\nb"]},
        {"probe": "yes"},
        {"surprise": 1},
    ],
)
async def test_signs_that_are_refused(rig: Rig, rows: asyncpg.Connection, others: dict[str, Any]) -> None:
    answer = await beat(rig, **others)
    assert (answer.status_code, answer.json()["code"]) == (422, "schema-mismatch")
    assert (await view(rig))["state"] == "silent"


async def test_whose_adapter_it_is(rig: Rig, rows: asyncpg.Connection) -> None:
    assert (await beat(rig, by="h14-registry")).status_code == 404
    assert (await rig.call("GET", ADAPTER, by="h41-registry")).status_code == 404
    assert (await rig.call("GET", "/v1/adapters", by="h41-registry")).json()["items"] == []
    assert (await beat(rig, by="h41-registry")).json()["code"] == "scope-missing"
