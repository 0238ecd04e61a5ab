"""Every snippet of docs/adapters.md runs as it is written."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import orjson
import pytest

from ngsp.adapter.process import AdapterSettings
from ngsp.adapter.runner import AdapterRunner
from ngsp.bus import EmbeddedBus, Topic
from ngsp.local.postgres import LocalPostgres
from ngsp.messages import OUTCOMES_TOPIC, Envelope, Reply, uuid7
from ngsp.registry.declared import DeclaredAdapter, read_declarations
from ngsp.registry.manifests import check_manifest
from ngsp.vault import Vault
from tests.docs.pages import PROJECT, blocks, named_files, prose
from tests.support.waiting import until

GUIDE = PROJECT / "docs" / "adapters.md"
BOOKING = "H14/desk-booking/v1"
BOOKING_TOPIC = "ngsp.request.H14.desk-booking.v1"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the guide's files, where `adapters` is a package of its own."""
    folder = tmp_path_factory.mktemp("guide")
    files = named_files(GUIDE)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    for package in {(folder / name).parent for name in files} | {folder / "adapters"}:
        (package / "__init__.py").touch()
    return folder


def _python(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_snippet_is_a_file_that_the_tests_know(written: Path) -> None:
    assert len(blocks(GUIDE, "python")) == len([name for name in named_files(GUIDE) if name.endswith(".py")])
    assert {path.relative_to(written).as_posix() for path in written.rglob("*.py") if path.stat().st_size} == {
        "adapters/h14_desk/adapter.py",
        "adapters/h14_desk/test_adapter.py",
        "adapters/h14_desk/resources.py",
        "adapters/h14_booking/adapter.py",
        "adapters/h14_hours/adapter.py",
        "adapters/g12_balance/adapter.py",
        "adapters/h41_parcels/adapter.py",
    }


def test_the_first_adapter_is_as_short_as_promised() -> None:
    files = named_files(GUIDE)
    code = [line for line in files["adapters/h14_desk/adapter.py"].splitlines() if line and not line.startswith("#")]
    assert len(code) <= 15
    assert len(files["adapters/h14_desk/manifest.yaml"].splitlines()) <= 25


def test_the_registry_takes_the_manifests_of_the_guide_from_their_files(written: Path) -> None:
    declared, errors = read_declarations(written / "adapters")
    assert [str(error) for error in errors] == []
    names = {"h14-desk", "h14-booking", "g12-registry", "g12-balance", "h41-plots", "h41-parcels"}
    assert {declaration.name for declaration in declared} == names
    for declaration in declared:
        assert isinstance(declaration.document, DeclaredAdapter)
        assert len(check_manifest(declaration.name, declaration.document, 1 << 20)) == 1


def test_the_subscription_of_the_operations_page_is_read(tmp_path: Path) -> None:
    (shown,) = (block for block in blocks(GUIDE.parent / "operations.md", "yaml") if "kind: subscription" in block.text)
    (tmp_path / "subscription.yaml").write_text(shown.text, "utf-8")
    declared, errors = read_declarations(tmp_path)
    assert errors == []
    assert [declaration.document.kind for declaration in declared] == ["subscription"]


def test_the_contract_test_of_the_guide_passes(written: Path) -> None:
    assert "2 passed" in _python(written, "-m", "pytest", "-q", "-p", "no:cacheprovider", "adapters/h14_desk")


def test_the_resources_of_the_guide_open_and_close(written: Path) -> None:
    program = (
        "import asyncio\n"
        "from adapters.h14_desk import resources\n"
        "async def main():\n"
        "    async with resources.adapter.open_resources() as client:\n"
        "        assert not client.is_closed\n"
        "    assert client.is_closed\n"
        "asyncio.run(main())\n"
    )
    _python(written, "-W", "error", "-c", program)


async def test_the_booking_of_the_guide_happens_once(
    written: Path, postgres: LocalPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are loaded under another package name, since `adapters` is the project's own here."""
    await postgres.create_database("guide")
    url = postgres.url("guide")
    connection = await asyncpg.connect(url)
    await connection.execute(
        "CREATE TABLE bookings (number integer GENERATED ALWAYS AS IDENTITY, slot text UNIQUE, dossier text)"
    )
    monkeypatch.syspath_prepend(written / "adapters")
    from h14_booking.adapter import adapter  # type: ignore[import-not-found]

    bus, replies = EmbeddedBus(), list[Reply]()
    await bus.start()
    await bus.ensure([Topic(BOOKING_TOPIC, 1, 60.0), Topic(OUTCOMES_TOPIC, 1, 60.0)])
    await bus.tail(OUTCOMES_TOPIC, lambda message: replies.append(Reply.read(message.headers, message.value)))
    runner = AdapterRunner(
        adapter, bus, Vault(os.urandom(32)), tmp_path, environment={"NGSP_H14_DATABASE_URL": url}.get
    )
    await runner.start()
    first = uuid7()
    try:
        for number, id in enumerate((first, first, uuid7()), 1):
            request = Envelope(
                id=id,
                service=BOOKING,
                deadline_ms=int(time.time() * 1000) + 30_000,
                purpose="test",
                fields=("",),
                schema="",
                reply_to=OUTCOMES_TOPIC,
                body=orjson.dumps({"slot": "2026-11-23T08:00"}),
                dossier="000.00.00.H14-261122-0001",
            )
            await bus.send(BOOKING_TOPIC, request.headers(), request.body)
            await until(lambda wanted=number: len(replies) == wanted, "a reply")  # type: ignore[misc]
        assert [(reply.status, reply.code) for reply in replies] == [("ok", ""), ("ok", ""), ("refused", "DA-CO-NGUOI")]
        assert replies[0].body == replies[1].body
        assert await connection.fetchval("SELECT count(*) FROM bookings") == 1
    finally:
        await runner.stop()
        await bus.stop()
        await connection.close()


def test_every_setting_of_an_adapter_stands_in_the_guide() -> None:
    text = prose(GUIDE)
    for name in AdapterSettings.model_fields:
        assert f"`NGSP_ADAPTER_{name.upper()}`" in text, name
