"""`ngsp adapter …`, as an integrator types it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from aiohttp import web
from typer.testing import CliRunner

from ngsp.adapter.starter import KINDS
from ngsp.cli_adapter import adapter_app
from ngsp.local.child import signal_to
from ngsp.local.ports import free_port
from ngsp.local.postgres import LocalPostgres
from tests.support.gateway import Rig, running_gateway
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def _alone_and_in_english(monkeypatch: pytest.MonkeyPatch, own_logging: None, tmp_path: Path) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for module in [name for name in sys.modules if name.startswith(("h14_land", "h41_land"))]:
        monkeypatch.delitem(sys.modules, module)  # of another test, in another folder


def typed(*arguments: str, exits: int = 0) -> str:
    done = CliRunner().invoke(adapter_app, arguments)
    assert done.exit_code == exits, done.output
    return done.output


def begun(kind: str, name: str = "h14-land") -> Path:
    typed("new", name, "--backend", kind)
    return Path("adapters") / name.replace("-", "_")


def changed(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_what_new_writes_passes_at_once(kind: str) -> None:
    folder = begun(kind)
    assert "✓ H14/land/v1" in typed("check", str(folder))
    report = typed("test", str(folder), "--cases", "10")
    assert "✗" not in report
    assert "10 generated valid requests" in report
    lines = [line for line in (folder / "manifest.yaml").read_text("utf-8").splitlines() if line.strip()]
    assert len(lines) <= 25


def test_the_written_test_runs_by_itself(tmp_path: Path) -> None:
    folders = [begun("rest"), begun("python", "h41-land")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, folders)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("new", "H14_Land"), "small letters"),
        (("new", "h14-land", "--backend", "carrier-pigeon"), "must be one of"),
        (("new", "land"), "--provider"),
        (("test", "nowhere"), "nowhere"),
        (("check", "nowhere/at/all"), "nowhere/at/all"),
    ],
)
def test_what_cannot_be_done_says_what_to_do(arguments: tuple[str, ...], said: str) -> None:
    assert said in typed(*arguments, exits=2)


def test_new_leaves_what_is_there_alone() -> None:
    begun("python")
    assert "holds something already" in typed("new", "h14-land", exits=2)


def test_check_finds_mistakes_by_file_and_line() -> None:
    folder = begun("rest")
    manifest = folder / "manifest.yaml"
    changed(manifest, "{payload.ma}", "{payload.ma[}")
    line = next(n for n, text in enumerate(manifest.read_text("utf-8").splitlines(), 1) if "payload.ma[" in text)
    assert f"{manifest}:{line}: /services/0/call" in typed("check", str(folder), exits=2)
    changed(manifest, "{payload.ma[}", "{payload.ma}")
    changed(manifest, "      ten: body.TEN", "      tne: body.TEN")
    said = typed("check", str(folder), exits=1)
    assert "reply/tne: the reply schema has no such member" in said
    assert "reply/ten: the schema requires it" in said


def test_a_schema_file_that_is_none_is_named() -> None:
    folder = begun("rest")
    (folder / "schemas" / "reply.json").write_text("{", "utf-8")
    assert "reply.json" in typed("check", str(folder), exits=2)


def test_a_recording_that_no_longer_fits_fails_the_contract() -> None:
    folder = begun("rest")
    changed(folder / "recordings" / "1-found.json", '"TRANG_THAI": "4"', '"TRANG_THAI": "7"')
    said = typed("test", str(folder), "--cases", "1", exits=1)
    assert "1-found.json:1: was 'ok', is now 'failed off-contract'" in said
    (folder / "recordings" / "1-found.json").write_text("[]", "utf-8")
    assert "1-found.json:1: " in typed("test", str(folder), exits=2)
    for file in (folder / "recordings").iterdir():
        file.unlink()
    assert "--record" in typed("test", str(folder), exits=2)


def test_examples_that_do_not_hold_fail_the_contract() -> None:
    folder = begun("python")
    changed(folder / "schemas" / "examples" / "1-found.json", '"ten": "Cấp bản sao', '"ten": "Cấp lại bản sao')
    changed(folder / "schemas" / "examples" / "invalid" / "1-small-letters.json", "hs-0001", "HS-0001")
    said = typed("test", str(folder), "--cases", "1", exits=1)
    assert "the reply is not the example's" in said
    assert "1-small-letters.json:1: the schema takes it" in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('    return {"ma": code}', "the reply is off its schema at /"),
        ('    raise ValueError("x")', "'failed adapter-error' for a valid request"),
        ("    return 1 / (len(code) - len(code))", "'failed adapter-error' for a valid request"),
    ],
)
def test_an_adapter_that_breaks_its_contract_is_found_out(line: str, said: str) -> None:
    folder = begun("python")
    changed(folder / "adapter.py", "    if code not in DOSSIERS:\n", f"{line}\n    if code not in DOSSIERS:\n")
    assert said in typed("test", str(folder), "--cases", "5", exits=1)


# Against the provider's system


@asynccontextmanager
async def system(answer: Callable[[str], dict[str, Any]]) -> AsyncIterator[str]:
    """A system that answers `GET /ho-so/{ma}`; its address."""

    async def dossier(request: web.Request) -> web.Response:
        return web.json_response(answer(request.match_info["ma"]))

    app = web.Application()
    app.router.add_get("/ho-so/{ma}", dossier)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def as_it_was(code: str) -> dict[str, Any]:
    return {"MA": code, "TEN": "Hồ sơ", "TRANG_THAI": "9", "CAP_NHAT": "20261120093000"}


@pytest.fixture
def reachable(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    monkeypatch.setenv("NGSP_ADAPTER_ALLOWED_NETWORKS", "127.0.0.0/8")
    return lambda url: monkeypatch.setenv("NGSP_H14_LAND_URL", url)


async def test_record_then_drift(reachable: Callable[[str], None]) -> None:
    folder = await asyncio.to_thread(begun, "rest")
    for file in (folder / "recordings").iterdir():
        file.unlink()
    async with system(as_it_was) as url:
        reachable(url)
        said = await asyncio.to_thread(typed, "test", str(folder), "--record", "--cases", "5")
        assert "+ adapters/h14_land/recordings/land-v1-1.json" in said
        recorded = orjson.loads((folder / "recordings" / "land-v1-1.json").read_bytes())
        assert recorded["answer"]["body"] == as_it_was("HS-0001")
        assert recorded["expect"]["reply"]["trangThai"] == "da-xong"
        assert "Nothing has changed" in await asyncio.to_thread(typed, "drift", str(folder))
        live = await asyncio.to_thread(typed, "test", str(folder), "--live", "--cases", "5", exits=1)
        assert "the reply is not the example's" in live, "this system has another dossier under the example's code"
    async with system(lambda code: as_it_was(code) | {"TEN": {"VI": "Hồ sơ"}, "PHIEN_BAN": 2}) as url:
        reachable(url)
        said = await asyncio.to_thread(typed, "drift", str(folder), exits=1)
        assert "/PHIEN_BAN: – → number" in said
        assert "/TEN: string → object" in said
        assert "off its schema at /ten" in said
    assert "did not answer" in await asyncio.to_thread(typed, "drift", str(folder), exits=2)


# Against a gateway


@pytest.fixture(scope="module")
async def gateway(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with running_gateway(postgres, tmp_path_factory.mktemp("gateway")) as rig:
        yield rig


async def test_register_and_status(gateway: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NGSP_ADAPTER_GATEWAY_URL", gateway.base_url)
    monkeypatch.setenv("NGSP_ADAPTER_CLIENT_ID", "provider")
    monkeypatch.setenv("NGSP_ADAPTER_CLIENT_SECRET", gateway.secrets["provider"])
    folder = await asyncio.to_thread(begun, "rest", "h41-land")
    assert "not-found" in await asyncio.to_thread(typed, "status", "h41-land", exits=2)
    assert "Registered h41-land: H41/land/v1 active" in await asyncio.to_thread(typed, "register", str(folder))
    said = await asyncio.to_thread(typed, "status", str(folder))
    assert "h41-land  H41  silent" in said
    assert "H41/land/v1  active" in said
    assert "✓ H41/land/v1" in await asyncio.to_thread(typed, "check", str(folder))
    changed(folder / "schemas" / "request.json", '"required": ["ma"]', '"required": []')
    changed(folder / "schemas" / "reply.json", '"moi", ', "")
    changed(folder / "manifest.yaml", '"1": moi, ', "")
    changed(folder / "manifest.yaml", "    deadline_s: 5\n", "    deadline_s: 5\n    officer_required: true\n")
    refused = await asyncio.to_thread(typed, "register", str(folder), exits=2)
    assert "/services/0/officer_required" in refused
    assert "/officer_required: This promise never" in await asyncio.to_thread(typed, "check", str(folder), exits=1)
    monkeypatch.setenv("NGSP_ADAPTER_CLIENT_SECRET", "wrong")
    assert "NGSP_ADAPTER_CLIENT_ID" in await asyncio.to_thread(typed, "status", "h41-land", exits=2)
    monkeypatch.setenv("NGSP_ADAPTER_GATEWAY_URL", f"http://127.0.0.1:{free_port()}")
    assert "cannot be reached" in await asyncio.to_thread(typed, "register", str(folder), exits=2)


async def test_dev_shows_messages_and_reloads(tmp_path: Path) -> None:
    folder, port = await asyncio.to_thread(begun, "python"), free_port()
    url = f"http://127.0.0.1:{port}/v1/services/H14/land/v1"
    log = tmp_path / "dev.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ngsp", "adapter", "dev", str(folder), "--port", str(port)),
            stdout=out,
            stderr=out,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    try:
        async with httpx.AsyncClient() as client:

            async def answers(name: str) -> bool:
                try:
                    answer = await client.post(url, json={"ma": "HS-0001"})
                except httpx.HTTPError:
                    return False
                return bool(answer.json().get("ten") == name)

            async def first() -> bool:
                return await answers("Cấp bản sao trích lục hộ tịch")

            async def second() -> bool:
                return await answers("Cấp lại")

            await until(first, "the adapter to answer", 60)
            missing = await client.post(url, json={"ma": "HS-2"}, headers={"Accept-Language": "en"})
            assert (missing.status_code, missing.json()["code"]) == (404, "record-not-found")
            assert missing.json()["provider_code"] == "KHONG-CO"
            assert (await client.post(url, json={"ma": 1})).status_code == 422
            assert (await client.get(url)).status_code == 405
            changed(folder / "adapter.py", "Cấp bản sao trích lục hộ tịch", "Cấp lại")
            await until(second, "the changed adapter to answer", 60)
        shown = log.read_text("utf-8")
        assert '→ H14/land/v1 {"ma":"HS-2"}' in shown
        assert "← not-found KHONG-CO" in shown
        assert "starting anew" in shown
    finally:
        signal_to(process, signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0

    async def gone() -> bool:
        async with httpx.AsyncClient() as client:
            try:
                await client.get(url)
            except httpx.HTTPError:
                return True
            return False

    await until(gone, "the process that served to be gone")
