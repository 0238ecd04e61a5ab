"""The tests' own MariaDB: closed to others, durable, and gone afterwards."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pymysql.err import OperationalError

from tests.support.mariadb import LocalMariaDB


async def test_what_was_committed_survives_a_kill(mariadb: LocalMariaDB) -> None:
    await mariadb.create_database("survives")
    await mariadb.execute("CREATE TABLE t (a INT)", "INSERT INTO t VALUES (7)", database="survives")
    mariadb.kill()
    await mariadb.start()
    assert await mariadb.execute("SELECT a FROM t", database="survives") == [(7,)]
    await mariadb.drop_database("survives")


async def test_nobody_else_reaches_it(mariadb: LocalMariaDB) -> None:
    assert stat.S_IMODE(mariadb.folder.stat().st_mode) == 0o700
    assert await mariadb.execute("SELECT @@skip_networking, @@innodb_flush_log_at_trx_commit") == [(1, 1)]
    (owner,) = await mariadb.execute("SELECT CURRENT_USER()")
    assert owner == (f"{mariadb.user}@localhost",)
    mariadb.user, known = "nobody-else", mariadb.user
    try:
        with pytest.raises(OperationalError, match="Access denied"):
            await mariadb.execute("SELECT 1")
    finally:
        mariadb.user = known


async def test_the_folder_is_gone_afterwards(mariadb: LocalMariaDB) -> None:
    other = LocalMariaDB()
    assert Path(other.folder).is_dir()
    await other.remove()
    assert not other.folder.exists()
