"""A MariaDB server of the tests' own, from Debian's programs: no TCP, no password, a Unix socket in a closed folder.

Whoever runs the tests is its superuser, known by the socket. Its folder lies in the system's temporary folder, because
the account that it runs as where the tests are root's cannot reach theirs; it is deleted at the end.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import aiomysql
from pymysql.err import OperationalError

from ngsp.local.home import unprivileged_account
from ngsp.local.process import FolderLock, LocalServerError, ServerProcess, run_program, tail_of
from ngsp.text import Text

PREFIX = "ngsp-mariadb-"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
ABANDONED_S = 3600.0
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))
_SETTINGS = (
    *("--no-defaults", "--skip-networking", "--skip-name-resolve", "--skip-log-bin", "--skip-feedback"),
    *("--character-set-server=utf8mb4", "--collation-server=utf8mb4_unicode_ci"),
    *("--innodb-buffer-pool-size=64M", "--innodb-log-file-size=32M", "--max-connections=100"),
)


def missing_programs() -> list[str]:
    """MariaDB's programs that this machine lacks; scripts/ensure-mariadb installs them."""
    return [name for name in ("mariadbd", "mariadb-install-db") if shutil.which(name, path=_PATH) is None]


class LocalMariaDB:
    """`start` to have it, `remove` to be rid of it. LocalServerError where it does not start.

    `settings`: further ones of the server, as its command line takes them; paths in them may be in `folder`.
    """

    def __init__(self) -> None:
        self.settings: list[str] = []
        remove_abandoned()
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = FolderLock(self.folder / "owner.lock", "MariaDB")
        self._lock.acquire()
        self._run_as: tuple[int, int] | None = None
        self._process: ServerProcess | None = None
        self.user = pwd.getpwuid(os.geteuid()).pw_name

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.remove()

    @property
    def socket(self) -> Path:
        return self.folder / "socket"

    def url(self, database: str, user: str = "", password: str = "") -> str:
        """As the superuser, or as `user` with its password."""
        who = f"{quote(user, safe='')}:{quote(password, safe='')}" if user else quote(self.user, safe="")
        return f"mysql://{who}@localhost/{quote(database, safe='')}?unix_socket={quote(str(self.socket), safe='/')}"

    async def start(self) -> None:
        """Returns once it answers."""
        if not (self.folder / "data").exists():
            await asyncio.to_thread(self._make)
        log = self.folder / "server.log"
        places = (f"--datadir={self.folder / 'data'}", f"--socket={self.socket}", f"--pid-file={self.folder / 'pid'}")
        command = [str(shutil.which("mariadbd", path=_PATH)), *_SETTINGS, *self.settings, *places]
        self._process = ServerProcess(
            command, log=log, stop_signal=signal.SIGTERM, environment=None, folder=self.folder, run_as=self._run_as
        )
        end = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                await self.execute("SELECT 1")
            except OperationalError as error:
                if not self._process.running or time.monotonic() > end:
                    raise LocalServerError(
                        Text("MariaDB không khởi động được:\n{log}", "MariaDB does not start:\n{log}").format(
                            log=tail_of(log)
                        )
                    ) from error
                await asyncio.sleep(0.05)
            else:
                return

    async def stop(self) -> None:
        if self._process is not None:
            self._process.send(signal.SIGTERM)
            if not await self._process.wait(STOP_TIMEOUT_S):
                self._process.kill()
            self._process = None

    def kill(self) -> None:
        """SIGKILL, as a crash would; `start` recovers."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    async def remove(self) -> None:
        await self.stop()
        self._lock.release()
        await asyncio.to_thread(shutil.rmtree, self.folder)

    async def create_database(self, name: str) -> None:
        await self.execute(f"CREATE DATABASE {_identifier(name)}")

    async def drop_database(self, name: str) -> None:
        await self.execute(f"DROP DATABASE IF EXISTS {_identifier(name)}")

    async def execute(self, *statements: str, database: str = "mysql") -> list[tuple[Any, ...]]:
        """Runs statements as the superuser; the rows of the last."""
        connection = await aiomysql.connect(
            user=self.user, db=database, unix_socket=str(self.socket), autocommit=True, charset="utf8mb4"
        )
        try:
            async with connection.cursor() as cursor:
                for statement in statements:
                    await cursor.execute(statement)
                return list(await cursor.fetchall())
        finally:
            connection.close()

    def _make(self) -> None:
        if os.geteuid() == 0:
            account = unprivileged_account()
            self._run_as = (account.uid, account.gid)
            os.chown(self.folder, account.uid, account.gid)
        command = [
            str(shutil.which("mariadb-install-db", path=_PATH)),
            *("--no-defaults", f"--datadir={self.folder / 'data'}", "--skip-test-db", "--skip-name-resolve"),
            *("--auth-root-authentication-method=socket", f"--auth-root-socket-user={self.user}"),
            "--debug-no-sync",  # only while the tables of a new server are made, and only in tests
        ]
        environment = {"PATH": _PATH, "LC_ALL": "C"}
        status, output = run_program(command, folder=self.folder, environment=environment, run_as=self._run_as)
        if status != 0:
            raise LocalServerError(
                Text("Không tạo được MariaDB:\n{log}", "MariaDB cannot be made:\n{log}").format(log=output)
            )


def remove_abandoned() -> None:
    """Deletes the folders of servers whose tests were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        lock = FolderLock(folder / "owner.lock", "MariaDB")
        if time.time() - folder.stat().st_mtime < ABANDONED_S or os.geteuid() not in (0, folder.stat().st_uid):
            continue  # young: its owner may be about to lock it
        try:
            lock.acquire()
        except LocalServerError:
            continue  # in use
        shutil.rmtree(folder)
        lock.release()


def _identifier(name: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name):
        raise ValueError(f"not a name for a database: {name!r}")
    return f"`{name}`"
