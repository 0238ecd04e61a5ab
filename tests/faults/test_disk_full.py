"""The log's disk is full: 503 and nothing passed on; room again: everything goes on, without a restart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from ngsp.local.kafka import LocalKafka
from ngsp.local.postgres import LocalPostgres
from ngsp.transactions import entry
from tests.faults.kills import open_or_projecting, until_settled
from tests.faults.load import Submission, Told
from tests.faults.reconcile import open_work, reconcile
from tests.faults.world import POST, READ, World
from tests.support.registry import migrated_database
from tests.support.waiting import until

pytestmark = [pytest.mark.postgres, pytest.mark.mount]

SIZE_MB = 16
CALLS_UNTIL_FULL = 4_000


@pytest.fixture
async def small_disk(own_postgres: LocalPostgres) -> AsyncIterator[Path]:
    """A file system of its own of 16 MB, in the hands of the server's account; skips where none can be mounted."""
    home = own_postgres.home
    folder = home.base / f"small-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(folder)],
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        pytest.skip("DISK-FULL TEST NOT RUN: there is no mount program")
    if done.returncode != 0:
        folder.rmdir()
        reason = f"DISK-FULL TEST NOT RUN: a file system cannot be mounted here: {done.stderr.strip()}"
        if os.geteuid() == 0 and os.environ.get("CI", "").lower() in {"true", "1"}:
            pytest.fail(f"CI=true and root, but {reason}", pytrace=False)
        pytest.skip(reason)
    try:
        home.hand_over(folder)
        yield folder
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", str(folder)], check=True)
        folder.rmdir()


@pytest.fixture
async def world(
    small_disk: Path, own_postgres: LocalPostgres, own_kafka: LocalKafka, tmp_path: Path
) -> AsyncIterator[World]:
    """An installation whose log lies on the small disk: table, indexes and what is kept out of line."""
    world = await World.make(tmp_path, own_postgres, own_kafka)
    installation = world.installation
    installation.database_url = await migrated_database(own_postgres)
    tablespace = f"small_{uuid.uuid4().hex[:8]}"
    database = installation.database_url.split("/")[3].partition("?")[0]
    connection = await asyncpg.connect(own_postgres.url("postgres"))
    try:
        await connection.execute(f"CREATE TABLESPACE {tablespace} LOCATION '{small_disk}'")
        # The gateway makes the partitions at its first start.
        await connection.execute(f"ALTER DATABASE {database} SET default_tablespace = {tablespace}")
        async with installation:
            yield world
        await own_postgres.drop_database(database)
        await connection.execute(f"DROP TABLESPACE {tablespace}")
    finally:
        await connection.close()


def fill(disk: Path) -> Path:
    """Takes all the room there is; the file that holds it."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
            file.flush()
    assert os.statvfs(disk).f_bavail < 16
    return ballast


class Caller:
    """Calls, and keeps what it was told for the reconciliation."""

    def __init__(self, world: World) -> None:
        self.world, self.told = world, Told()
        self._keys: dict[str, Submission] = {}

    async def read(self) -> httpx.Response:
        answer = await self.world.installation.call(READ, self.world.body())
        if transaction := answer.headers.get("Ngsp-Transaction"):
            self.told.queries[transaction] = answer.status_code
        return answer

    async def post(self, key: str) -> httpx.Response:
        submission = self._keys.get(key)
        if submission is None:
            submission = self._keys[key] = Submission(key, POST, self.world.body())
            self.told.submissions.append(submission)
        answer = await self.world.installation.call(POST, submission.body, key=key)
        if answer.status_code in (200, 202):
            submission.transactions.add(answer.headers["Ngsp-Transaction"])
        return answer


def says_log_unavailable(answer: httpx.Response) -> bool:
    return answer.status_code == 503 and answer.json()["code"] == "log-unavailable"


async def test_a_full_disk_is_503_and_room_is_all_it_needs(world: World, small_disk: Path) -> None:
    installation, caller = world.installation, Caller(world)
    process = installation.programs.running["gateway-1"].pid
    assert [(await caller.read()).status_code for _ in range(5)] == [200] * 5
    assert [(await caller.post(f"before-{number}")).status_code for number in range(5)] == [202] * 5

    assert await until_settled(lambda: open_work(installation), 40.0) == 0
    ballast = await asyncio.to_thread(fill, small_disk)
    calls = 0
    while True:
        answers = await asyncio.gather(*(caller.read() for _ in range(16)))
        calls += len(answers)
        if any(says_log_unavailable(answer) for answer in answers):
            break
        assert calls < CALLS_UNTIL_FULL, "the disk does not get full"
    readiness = await installation.request("GET", "/readyz")
    assert (readiness.status_code, readiness.json()["parts"]["log"]) == (503, "log-unavailable")

    # What was accepted has been passed on; nothing else may be.
    async def all_begun() -> bool:
        accepted = await installation.value(f"""SELECT count(*) FROM entries WHERE kind = {entry.ACCEPTED}
            AND convert_from(body, 'UTF8')::jsonb->'grant'->>'service' = 'read-entry'""")
        return world.logged("begun", "reading") >= int(accepted)

    await until(all_begun, "the adapter to begin what was accepted")
    begun, rows = world.logged("begun", "reading"), await world.ledger_size()
    refused = [await caller.read() for _ in range(20)]
    refused += [await caller.post(f"during-{number}") for number in range(20)]
    for answer in refused:
        assert says_log_unavailable(answer), answer.text
        assert int(answer.headers["Retry-After"]) >= 1
    assert (world.logged("begun", "reading"), await world.ledger_size()) == (begun, rows)

    ballast.unlink()

    async def works() -> bool:
        return (await caller.read()).status_code == 200

    await until(works, "calls to work again")
    assert await installation.ready("gateway-1")
    for number in range(20):  # as Retry-After said: the same again, under the same key
        assert (await caller.post(f"during-{number}")).status_code == 202
    assert await until_settled(lambda: open_or_projecting(installation), 40.0) == 0
    assert installation.programs.running["gateway-1"].pid == process
    account = await reconcile(installation, caller.told, world.ledger_url, installation.folder / "notices")
    assert account.faults == []
    assert await world.ledger_size() == rows + 20
    tables = await installation.rows("""SELECT DISTINCT coalesce(spcname, 'default') AS name FROM pg_class c
        LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace WHERE relname LIKE 'entries_p%'""")
    assert [row["name"].startswith("small_") for row in tables] == [True]
