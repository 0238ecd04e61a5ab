"""Services of events in a manifest: read from files, registered as written, shown by every command, served by none."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from ngsp.adapter import Adapter, Manifest, ManifestError
from ngsp.adapter.runner import AdapterRunner
from ngsp.bus import EmbeddedBus
from ngsp.cli_adapter import adapter_app
from ngsp.local.ports import free_port
from ngsp.local.postgres import LocalPostgres
from ngsp.vault import Vault
from tests.adapter.office import KEY
from tests.support.gateway import Rig, running_gateway
from tests.support.waiting import until

ADDED, MOVED = "vn.gov.h41.land.added", "vn.gov.h41.land.moved"
PLOT = {"type": "object", "required": ["plot"], "properties": {"plot": {"type": "string"}}}
EVENT = {"specversion": "1.0", "id": "1", "source": "/h41/land", "type": ADDED, "data": {"plot": "17"}}
TITLE = {"vi": "Thửa đất", "en": "Plots"}


def service(**changes: Any) -> dict[str, Any]:
    found = {
        "service": "land-events",
        "version": "v1",
        "mode": "event",
        "deadline_s": 86_400,
        "title": TITLE,
        "description": TITLE,
        "schemas": "land",
        "events": {ADDED: {"title": TITLE}, MOVED: {"title": TITLE, "schema": "moved.json"}},
        **changes,
    }
    return {name: value for name, value in found.items() if value is not ...}


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch, own_logging: None) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "land" / "events").mkdir(parents=True)
    (tmp_path / "land" / "examples").mkdir()
    (tmp_path / "land" / "events" / f"{ADDED}.json").write_bytes(orjson.dumps(PLOT))
    (tmp_path / "moved.json").write_bytes(orjson.dumps({"type": "object"}))
    (tmp_path / "land" / "examples" / "1.json").write_bytes(orjson.dumps({"request": EVENT}))
    return tmp_path


def write(folder: Path, *services: dict[str, Any], **others: Any) -> Path:
    path = folder / "manifest.yaml"
    document = {"id": "h41-land", "provider": "H41", "services": list(services) or [service()], **others}
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))  # which is YAML
    return path


def typed(*arguments: str, exits: int = 0) -> str:
    done = CliRunner().invoke(adapter_app, arguments)
    assert done.exit_code == exits, done.output
    return done.output


def test_schemas_and_examples_are_read_from_their_folder(folder: Path) -> None:
    adapter = Adapter.load(write(folder))
    (found,) = adapter.published().values()
    assert adapter.published().keys() == {"H41/land-events/v1"}
    assert adapter.declared() == {}
    assert found.schemas == {ADDED: PLOT, MOVED: {"type": "object"}}
    (registered,) = adapter.manifest.registration()["services"]
    assert registered == {
        "service": "land-events",
        "version": "v1",
        "mode": "event",
        "deadline_s": 86_400,
        "max_body_bytes": 65_536,
        "title": TITLE,
        "description": TITLE,
        "events": {ADDED: {"title": TITLE, "schema": PLOT}, MOVED: {"title": TITLE, "schema": {"type": "object"}}},
        "examples": [{"request": EVENT}],
        "subjects": [],
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"effect": "idempotent"}, "/services/0/effect: There is no key 'effect'"),
        ({"request_schema": {}}, "/services/0/request_schema: There is no key"),
        ({"call": {}}, "/services/0/call: There is no key"),
        ({"deadline_s": ...}, "/services/0/deadline_s: A required field is missing."),
        ({"deadline_s": 31 * 86_400}, "/services/0/deadline_s: Must be at most"),
        ({"events": ...}, "/services/0/events: A required field is missing."),
        ({"events": {}, "schemas": ...}, "/services/0/events: Needs at least 1"),
        ({"events": {"Bad": {"title": TITLE, "schema": {}}}, "schemas": ..., "examples": []}, "/services/0/events/"),
        ({"events": {ADDED: {"schema": {}}}}, f"/services/0/events/{ADDED}/title: A required field is missing."),
        ({"events": {ADDED: {"title": TITLE, "schema": "none.json"}}}, f"/services/0/events/{ADDED}/schema: "),
        ({"events": {MOVED: {"title": TITLE}}}, f"/services/0/events/{MOVED}/schema: "),
        ({"events": {MOVED: {"title": TITLE, "schema": {}}}}, f"/services/0/schemas: .*{ADDED}.json: events has no"),
        ({"events": {ADDED: {"title": TITLE, "schema": {"type": "odd"}}}}, f"/services/0/events/{ADDED}/schema/type: "),
        ({"events": "all"}, "/services/0/events: "),
        ({"schemas": 7}, "/services/0/schemas: must be the path of a folder"),
        ({"examples": [{"request": EVENT | {"data": {}}}]}, "/services/0/examples/0/request/data"),
        ({"subjects": ["/nothing"], "events": {ADDED: {"title": TITLE, "schema": {"properties": {}}}}}, "/subjects/0"),
    ],
)
def test_mistakes_are_told_by_place(folder: Path, change: dict[str, Any], said: str) -> None:
    path = write(folder, service(**change))
    with pytest.raises(ManifestError, match=said) as found:
        Manifest.load(path)
    assert str(found.value).startswith(f"{path}:")


def test_check_and_test_show_it_and_ask_for_nothing(folder: Path) -> None:
    write(folder)
    said = typed("check", str(folder))
    assert f"✓ H41/land-events/v1  event, {ADDED}, {MOVED}" in said
    assert "✓ H41/land-events/v1  events: schemas and examples are valid" in typed("test", str(folder))
    write(folder, service(examples=[]))
    assert "H41/land-events/v1: no example" in typed("check", str(folder), exits=1)


async def test_its_process_serves_what_is_called_beside_it_or_nothing(folder: Path, tmp_path: Path) -> None:
    runner = AdapterRunner(Adapter.load(write(folder)), EmbeddedBus(), Vault(KEY), tmp_path)
    await runner.start()
    try:
        assert runner.sign_of_life()["schemas"].keys() == {"H41/land-events/v1"}
        assert (runner.in_work, runner.paused) == (0, [])
    finally:
        await runner.stop()


@pytest.fixture(scope="module")
async def gateway(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with running_gateway(postgres, tmp_path_factory.mktemp("gateway")) as rig:
        yield rig


async def test_register_status_and_compare(gateway: Rig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NGSP_ADAPTER_GATEWAY_URL", gateway.base_url)
    monkeypatch.setenv("NGSP_ADAPTER_CLIENT_ID", "provider")
    monkeypatch.setenv("NGSP_ADAPTER_CLIENT_SECRET", gateway.secrets["provider"])
    write(folder)
    said = await asyncio.to_thread(typed, "register", str(folder))
    assert "Registered h41-land: H41/land-events/v1 active" in said
    said = await asyncio.to_thread(typed, "status", str(folder))
    assert "h41-land  H41  online" in said, "nothing is waited for where nothing is served"
    assert "H41/land-events/v1  active" in said
    assert "✓ H41/land-events/v1" in await asyncio.to_thread(typed, "check", str(folder))
    denied = await gateway.call("land-events")
    assert (denied.status_code, denied.json()["code"]) == (403, "access-denied"), "it is not called"
    (folder / "land" / "events" / f"{ADDED}.json").write_bytes(orjson.dumps(PLOT | {"required": []}))
    said = await asyncio.to_thread(typed, "check", str(folder), exits=1)
    assert f"H41/land-events/v1: /events/{ADDED}/schema/required: Is not certain to be there any more: plot." in said
    refused = await asyncio.to_thread(typed, "register", str(folder), exits=2)
    assert f"/services/0/events/{ADDED}/schema/required" in refused


async def test_dev_names_what_is_published(folder: Path) -> None:
    write(folder)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ngsp", "adapter", "dev", str(folder), "--once", "--port", str(free_port())),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    lines: list[str] = []
    reading = asyncio.create_task(_read(process.stdout, lines))
    try:
        await until(lambda: any(ADDED in line for line in lines), "the types to be named", 60)
        assert any(f"H41/land-events/v1: events {ADDED}, {MOVED}" in line for line in lines)
        assert not any("curl" in line for line in lines)
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) in (0, -signal.SIGTERM)
        await reading


async def _read(stream: asyncio.StreamReader, lines: list[str]) -> None:
    async for line in stream:
        lines.append(line.decode())
