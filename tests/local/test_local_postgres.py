"""The PostgreSQL of the demo and the tests, as a person's machine meets it."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import psutil
import pytest

from ngsp.local.home import remove_abandoned
from ngsp.local.postgres import LocalPostgres
from ngsp.local.process import LocalServerError, processes_with, until
from tests.support.servers import thrown_away

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.postgres
PROJECT = Path(__file__).parents[2]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LocalPostgres]:
    """A server of the test's own, to be killed."""
    server = LocalPostgres(tmp_path / "data")
    await server.start()
    yield server
    await thrown_away(server)


async def _value(server: LocalPostgres, statement: str, database: str = "postgres") -> object:
    connection = await asyncpg.connect(server.url(database))
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_is_postgresql_18_durable_and_utf8(postgres: LocalPostgres) -> None:
    assert str(await _value(postgres, "SHOW server_version")).startswith("18.")
    for setting, wanted in {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "server_encoding": "UTF8",
        "data_checksums": "on",
        "TimeZone": "UTC",
    }.items():
        assert await _value(postgres, f"SHOW {setting}") == wanted, setting
    assert await _value(postgres, "SELECT upper('đường')") == "ĐƯỜNG"


async def test_listens_on_no_tcp_port_and_its_socket_is_closed_to_others(postgres: LocalPostgres) -> None:
    assert await _value(postgres, "SHOW listen_addresses") == ""
    ours = processes_with(postgres.home.mark, "postgres")
    assert postgres.pid in ours
    assert [connection for connection in psutil.net_connections("inet") if connection.pid in ours] == []
    assert postgres.home.socket.stat().st_mode & 0o777 == 0o700
    assert postgres.home.data.stat().st_mode & 0o777 == 0o700


async def test_lets_in_its_owner_only_and_without_a_password(postgres: LocalPostgres) -> None:
    assert await _value(postgres, "SELECT current_user") == "ngsp"
    rules = await _value(postgres, "SELECT array_agg(type || ' ' || auth_method) FROM pg_hba_file_rules")
    assert rules == ["local peer"]
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await asyncpg.connect(postgres.url("postgres").replace("ngsp@", "postgres@"))


@pytest.mark.skipif(os.geteuid() != 0, reason="concerns root only")
async def test_started_by_root_it_runs_unprivileged_in_a_folder_of_its_own(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    lines: list[str] = []
    server = LocalPostgres(closed / "data", lines.append)
    async with server:
        assert server.pid is not None
        account = psutil.Process(server.pid).username()
        assert account in {"postgres", "nobody"}
        assert psutil.Process(server.pid).gids().effective != 0
        assert psutil.Process(server.pid).uids().saved == pwd.getpwnam(account).pw_uid
        assert server.home.data.stat().st_uid == pwd.getpwnam(account).pw_uid
        assert server.home.base.stat().st_uid == 0
        assert closed.stat().st_mode & 0o777 == 0o700
        assert any(account in line and str(server.home.base) in line for line in lines)
    await server.remove()
    assert not server.home.base.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="concerns root only")
async def test_what_root_left_is_removed_only_when_the_wanted_folder_is_gone(tmp_path: Path) -> None:
    kept, left = LocalPostgres(tmp_path / "kept"), LocalPostgres(tmp_path / "left")
    async with kept, left:
        shutil.rmtree(left.folder)
        assert remove_abandoned(below=tmp_path) == []
    assert remove_abandoned(below=tmp_path) == [left.home.base]
    assert kept.home.base.exists()
    await kept.remove()


async def test_a_killed_server_comes_back_with_what_was_committed(server: LocalPostgres) -> None:
    await server.create_database("ledger")
    connection = await asyncpg.connect(server.url("ledger"))
    await connection.execute("CREATE TABLE entry (id integer PRIMARY KEY)")
    await connection.executemany("INSERT INTO entry VALUES ($1)", [(number,) for number in range(500)])
    killed = server.pid
    assert killed is not None
    server.kill()
    assert await until(lambda: not processes_with(server.home.mark, "postgres"), 5)
    connection.terminate()
    await server.start()
    assert server.pid not in {None, killed}
    assert await _value(server, "SELECT count(*) FROM entry", "ledger") == 500


async def test_a_folder_has_one_owner(server: LocalPostgres) -> None:
    with pytest.raises(LocalServerError) as refusal:
        await LocalPostgres(server.folder).start()
    assert str(os.getpid()) in refusal.value.text.vi
    assert "đang được tiến trình khác dùng" in refusal.value.text.vi
    assert "in use" in refusal.value.text.en
    assert await _value(server, "SELECT 1") == 1


_OWNER_WHO_DIES = """
import asyncio, os, signal, sys
from pathlib import Path
from ngsp.local.postgres import LocalPostgres

async def main():
    server = LocalPostgres(Path(sys.argv[1]))
    await server.start()
    if sys.argv[2] == "without-guard":
        server._process._guard.kill()
    print(server.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def _owner_dies(folder: Path, how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _OWNER_WHO_DIES, str(folder), how],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return int(done.stdout.split()[-1])


async def test_a_server_whose_owner_was_killed_ends_by_itself(tmp_path: Path) -> None:
    orphan = _owner_dies(tmp_path, "with-guard")
    assert await until(lambda: not psutil.pid_exists(orphan), 10)
    server = LocalPostgres(tmp_path)
    await server.start()
    await server.remove()


async def test_a_server_that_outlived_its_owner_is_replaced(tmp_path: Path) -> None:
    orphan = _owner_dies(tmp_path, "without-guard")
    assert psutil.pid_exists(orphan)
    async with LocalPostgres(tmp_path) as server:
        assert server.pid != orphan
        assert await until(lambda: not psutil.pid_exists(orphan), 5)
        assert await _value(server, "SELECT 1") == 1
        assert processes_with(server.home.mark, "postgres").count(orphan) == 0
    await server.remove()


async def test_databases_are_made_from_a_template_and_dropped_under_their_sessions(server: LocalPostgres) -> None:
    await server.create_database("original")
    connection = await asyncpg.connect(server.url("original"))
    await connection.execute("CREATE TABLE kept (word text); INSERT INTO kept VALUES ('xin chào')")
    await connection.close()
    await server.create_database("copied", template="original")
    await server.create_database("copied", template="original")
    assert await _value(server, "SELECT word FROM kept", "copied") == "xin chào"
    session = await asyncpg.connect(server.url("copied"))
    for name in ("copied", "copied", "original"):
        await server.drop_database(name)
    session.terminate()
    assert await _value(server, "SELECT count(*) FROM pg_database WHERE datname IN ('copied', 'original')") == 0


async def test_a_name_that_would_need_quoting_is_refused(postgres: LocalPostgres) -> None:
    with pytest.raises(ValueError, match=re.escape('a"; DROP')):
        await postgres.create_database('a"; DROP DATABASE postgres; --')


async def test_a_path_too_long_for_a_socket_still_works(tmp_path: Path) -> None:
    server = LocalPostgres(tmp_path / ("x" * 100) / "data")
    async with server:
        assert len(str(server.home.socket)) < 90
        assert await _value(server, "SELECT 1") == 1
    await server.remove()
    assert not server.home.socket.exists()


async def test_a_setting_that_cannot_be_ends_in_the_servers_own_words(tmp_path: Path) -> None:
    server = LocalPostgres(tmp_path, settings={"shared_buffers": "no"})
    with pytest.raises(LocalServerError) as refusal:
        await server.start()
    assert "shared_buffers" in refusal.value.text.vi
    assert "shared_buffers" in refusal.value.text.en
    await server.remove()
