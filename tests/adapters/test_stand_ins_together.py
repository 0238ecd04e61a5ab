"""Several stand-ins in one process: each as it is alone, with an address and a secret of its own."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from adapters.g09_civil_servants.register import data as people
from adapters.g10_land.register import data as parcels
from adapters.stand_in.database import fill
from ngsp.demo.systems import DATABASES, PROGRAMS
from ngsp.local.postgres import LocalPostgres
from tests.adapters.stand_in import PROJECT, START_LIMIT_S
from tests.support.installation import own_database
from tests.support.waiting import until


def told(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads((folder / f"{name}.json").read_bytes())
    return found


@pytest.fixture(scope="module")
async def together(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """All systems of the demo, listening."""
    folder = tmp_path_factory.mktemp("systems")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapters.stand_in", "--folder", str(folder)),
        *(f"{program.name}={program.module}" for program in PROGRAMS),
        stdout=DEVNULL,
        cwd=PROJECT,
    )
    last = folder / f"{PROGRAMS[-1].name}.json"
    await until(last.exists, "all systems to listen", START_LIMIT_S)
    yield folder
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), START_LIMIT_S) == 0


async def test_whoever_asks_before_the_records_are_there_waits(together: Path) -> None:
    """The last one's are made last; this is asked as soon as it listens."""
    system = told(together, "dossier")
    secret = Path(system["secret_file"]).read_text("ascii")
    async with httpx.AsyncClient(base_url=system["url"], timeout=START_LIMIT_S) as client:
        assert (await client.get("/tinhTrang")).status_code == 200
        asked = {"grant_type": "client_credentials"}
        assert (await client.post("/token", data=asked, auth=(system["client_id"], secret))).status_code == 200
        other = Path(told(together, "tax")["secret_file"]).read_text("ascii")
        assert (await client.post("/token", data=asked, auth=(system["client_id"], other))).status_code == 401


async def test_each_tells_what_its_adapter_must_know(together: Path) -> None:
    await until((together / "systems.json").exists, "all records to be there", START_LIMIT_S)
    subjects = orjson.loads((together / "systems.json").read_bytes())
    assert subjects.keys() == {program.name for program in PROGRAMS}
    assert all(count >= 1_000 for count in subjects.values())
    systems = {program.name: told(together, program.name) for program in PROGRAMS}
    for program in PROGRAMS:
        assert set(program.variables.values()) <= systems[program.name].keys()
    urls = [system["url"] for system in systems.values() if "url" in system]
    assert len(set(urls)) == len(urls) == len(PROGRAMS) - 1
    secrets = [path.read_text("ascii") for path in together.glob("*.secret")]
    secrets += [path.read_text("ascii") for path in together.glob("*.password")]
    assert len(set(secrets)) == len(secrets) == len(urls)
    assert len(list((together / "customs.d" / "lo").glob("*.csv"))) == 60


async def test_databases_are_filled_by_one_process(postgres: LocalPostgres) -> None:
    filled = [database for database in DATABASES if database.filled_by]
    urls = {database.variable: await own_database(postgres, database.name) for database in filled}
    for _ in range(2):  # the second time there is nothing to do
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "adapters.stand_in.databases"),
            *(f"{database.filled_by}={database.variable}" for database in filled),
            env=urls,
            cwd=PROJECT,
        )
        assert await asyncio.wait_for(process.wait(), START_LIMIT_S) == 0
    for database, filling in zip(filled, (people.FILLING, parcels.FILLING), strict=True):
        assert not await fill(filling, urls[database.variable]), "it is there already"
