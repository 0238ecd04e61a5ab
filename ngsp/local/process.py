"""Server processes of our own: start them apart from the terminal, find the ones a dead predecessor left, end them.

A server started here outlives Ctrl+C (its owner stops it in order), but not its owner: a guard, a shell that waits for
the end of a pipe only the owner holds, stops the server when the owner is gone, however it went.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ngsp.text import Text, language_of_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_LOG_LIMIT_BYTES = 20_000_000
_POLL_S = 0.02


class LocalServerError(RuntimeError):
    """A local server cannot be started or reached; `text` says why and what to do, in both languages."""

    def __init__(self, text: Text) -> None:
        super().__init__(text.in_(language_of_terminal()))
        self.text = text


class FolderLock:
    """One owner at a time for a folder. Held by the process, so the system frees it however the owner ends."""

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def acquire(self) -> None:
        """Takes the lock or raises LocalServerError at once, naming the process that holds it where that is known."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 32).decode("ascii", "replace").strip() or "?"
            os.close(descriptor)
            raise LocalServerError(
                Text(
                    vi="Thư mục {folder} đang được tiến trình khác dùng cho {what} (mã tiến trình {owner}). "
                    "Hãy dừng tiến trình đó hoặc chọn thư mục khác.",
                    en="Folder {folder} is in use for {what} by another process (process id {owner}). "
                    "Stop that process or choose another folder.",
                ).format(folder=self._path.parent, what=self._what, owner=owner)
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode("ascii"))
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class ServerProcess:
    """One running server and its guard.

    `stop_signal` is what the guard sends when the owner is gone. Output goes to `log`, started anew when it has grown
    past 20 MB. `environment` None hands on our own. `run_as` (user id, group id) drops root's rights before the program
    starts.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        stop_signal: signal.Signals,
        environment: Mapping[str, str] | None,
        folder: Path,
        run_as: tuple[int, int] | None = None,
    ) -> None:
        too_long = log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if too_long else os.O_APPEND)
        with os.fdopen(os.open(log, flags, 0o600), "ab") as output:
            self._server = subprocess.Popen(  # noqa: S603 - the program and its arguments are ours
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=environment,
                start_new_session=True,
                user=run_as[0] if run_as else None,
                group=run_as[1] if run_as else None,
                extra_groups=[] if run_as else None,
            )
        # The server leads a process group of its own, so that a reused process id is not hit by mistake.
        script = f'while read -r _; do :; done; kill -s {stop_signal.name.removeprefix("SIG")} -- "-$1"'
        self._guard = subprocess.Popen(  # noqa: S603 - as above
            ["/bin/sh", "-c", script, "guard", str(self._server.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._server.pid

    @property
    def running(self) -> bool:
        return self._server.poll() is None

    def send(self, number: signal.Signals) -> None:
        self._server.send_signal(number)

    async def wait(self, timeout_s: float) -> bool:
        """True once the server has ended and the guard is put away; False when `timeout_s` passed before."""
        if not await until(lambda: not self.running, timeout_s):
            return False
        self._dismiss_guard()
        return True

    def kill(self) -> None:
        """SIGKILL to server and guard, then reaps both: no chance to tidy up."""
        self._dismiss_guard()
        self._server.kill()
        self._server.wait()

    def _dismiss_guard(self) -> None:
        self._guard.kill()
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard.wait()


def run_program(
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    run_as: tuple[int, int] | None = None,
    timeout_s: float = 120.0,
) -> tuple[int, str]:
    """Runs a program to its end, without input: its exit status and all it wrote. Exit status -1: it took too long."""
    try:
        done = subprocess.run(  # noqa: S603 - the program and its arguments are ours
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            user=run_as[0] if run_as else None,
            group=run_as[1] if run_as else None,
            extra_groups=[] if run_as else None,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        return -1, f"{(expired.output or b'').decode('utf-8', 'replace')}\n> {timeout_s:.0f} s"
    return done.returncode, done.stdout.decode("utf-8", "replace")


async def until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Waits for `condition` and returns whether it came true within `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= end:
            return False
        await asyncio.sleep(_POLL_S)
    return True


def processes_with(marker: str, program: str) -> list[int]:
    """Ids of running processes whose program's name starts with `program` and whose command line holds `marker`.

    The command line is all that may be read of another account's process, so that is where servers carry their mark.
    """
    return [
        pid
        for pid, words in _command_lines()
        if any(marker in word for word in words) and Path(words[0]).name.startswith(program) and pid != os.getpid()
    ]


def _command_lines() -> Iterator[tuple[int, list[str]]]:
    proc = Path("/proc")
    if (proc / "self" / "cmdline").exists():
        for entry in proc.iterdir():
            if entry.name.isdigit():
                try:
                    raw = (entry / "cmdline").read_bytes()
                except (FileNotFoundError, ProcessLookupError, PermissionError):
                    continue  # ended meanwhile, or hidden from us: then it is not ours
                yield int(entry.name), raw.decode("utf-8", "replace").split("\0")
        return
    listing = subprocess.run(["/bin/ps", "-axo", "pid=,command="], capture_output=True, text=True, check=True)
    for line in listing.stdout.splitlines():
        pid, _, command = line.strip().partition(" ")
        yield int(pid), command.split()


def send_all(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue  # ended meanwhile, which is what is wanted


async def end_all(find: Callable[[], list[int]], steps: Sequence[tuple[signal.Signals, float]]) -> bool:
    """Ends what `find` finds by signals, each given its time in seconds; True when nothing is left."""
    for number, timeout_s in steps:
        send_all(find(), number)
        if await until(lambda: not find(), timeout_s):
            return True
    return False


def tail_of(log: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message; empty where there is none."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-lines:])
