"""A source in an adapter's own process, over a real broker and a real gateway: killed at the worst moment."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from ngsp.local.kafka import LocalKafka
from ngsp.local.postgres import LocalPostgres
from tests.adapter.adapter_process import AdapterProcess
from tests.adapter.journal import CHANGED, events
from tests.adapter.office import KEY
from tests.support.gateway import Rig, running_gateway
from tests.support.waiting import until

pytestmark = pytest.mark.kafka
PATH = "H41/journal/v1"
ADAPTER = f"""
import asyncio
from pathlib import Path

from ngsp.adapter import Adapter, Event, Found

FOLDER = Path(__file__).parent
adapter = Adapter.load(FOLDER / "manifest.yaml")


@adapter.source("journal", "v1", every_s=0.1)
async def changes(cursor: str | None) -> Found:
    (FOLDER / "asked").touch()
    while not (FOLDER / "gate").exists():
        await asyncio.sleep(0.01)
    lines = (FOLDER / "journal.txt").read_text().splitlines()
    new = lines[int(cursor or 0):]
    return Found([Event("{CHANGED}", {{"so": int(line)}}, line) for line in new], str(len(lines)))
"""


@pytest.fixture
async def rig(postgres: LocalPostgres, tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_gateway(postgres, tmp_path) as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The adapter's: its events are the lines of journal.txt, given once there is the file `gate`."""
    found = tmp_path / "h41_journal"
    found.mkdir()
    manifest = {"id": "h41-journal", "provider": "H41", "services": [events()]}
    (found / "manifest.yaml").write_bytes(orjson.dumps(manifest))
    (found / "adapter.py").write_text(ADAPTER, "utf-8")
    (found / "journal.txt").write_text("1\n2\n3\n")
    return found


def variables(folder: Path, kafka: LocalKafka, gateway_url: str) -> dict[str, str]:
    (folder / "key").write_bytes(base64.b64encode(KEY))
    return {
        "PATH": os.environ["PATH"],
        "NGSP_LANGUAGE": "en",
        "NGSP_ADAPTER_KAFKA_BOOTSTRAP": kafka.bootstrap,
        "NGSP_ADAPTER_KEY_FILE": str(folder / "key"),
        "NGSP_ADAPTER_FOLDER": str(folder),
        "NGSP_ADAPTER_GATEWAY_URL": gateway_url,
        "NGSP_ADAPTER_CLIENT_ID": "provider",
        "NGSP_ADAPTER_CLIENT_SECRET_FILE": str(folder.parent / "provider.secret"),
    }


async def published(rig: Rig) -> list[str]:
    """The publications, in order."""
    rows = await rig.rows.fetch("SELECT tx::text AS tx FROM events WHERE service = $1 ORDER BY xid, seq", PATH)
    return [row["tx"] for row in rows]


async def all_published(rig: Rig, number: int) -> list[str]:
    async def there() -> bool:
        return len(await published(rig)) >= number

    await until(there, f"{number} events", 40)
    return await published(rig)


async def test_killed_between_the_publication_and_its_cursor(rig: Rig, folder: Path, kafka: LocalKafka) -> None:
    """The file of cursors is held by another meanwhile, so that the cursor cannot be kept before the end comes."""
    told = variables(folder, kafka, rig.base_url)
    file, gate = folder / "h41-journal-sources.sqlite3", folder / "gate"
    async with AdapterProcess(told, folder / "first.log", str(folder)) as process:
        await until((folder / "asked").exists, "the look", 40)
        held = sqlite3.connect(file, isolation_level=None)
        held.execute("BEGIN IMMEDIATE")
        gate.touch()
        before = await all_published(rig, 3)
        assert await process.end(signal.SIGKILL) == -signal.SIGKILL
    assert held.execute("SELECT place FROM ngsp_sources").fetchone() == (None,)
    held.execute("UPDATE ngsp_sources SET until_ms = 0")  # as once its turn has run out
    held.execute("COMMIT")
    held.close()
    (folder / "journal.txt").write_text("1\n2\n3\n4\n")
    async with AdapterProcess(told, folder / "second.log", str(folder)) as process:
        assert len(await all_published(rig, 4)) == 4
        await process.serving()
        assert await process.end(signal.SIGTERM) == 0
    assert (await published(rig))[:3] == before, "each once"
    for tx in await published(rig):
        accepted, _ = await rig.entries(tx)
        assert accepted["call"] == {"client": "provider", "member": "H41"}
    kept = sqlite3.connect(file)
    assert kept.execute("SELECT place, holder FROM ngsp_sources").fetchone() == ("4", "")
    kept.close()


async def test_a_source_needs_a_gateway_to_publish_to(folder: Path, kafka: LocalKafka) -> None:
    async with AdapterProcess(variables(folder, kafka, ""), folder / "alone.log", str(folder)) as process:
        assert await process.ended() == 2
    said = await asyncio.to_thread(process.log.read_text, "utf-8")
    assert "set NGSP_ADAPTER_GATEWAY_URL" in said
