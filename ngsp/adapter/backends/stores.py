"""Folders that files are exchanged through: a local one (a mounted share), or one on an SFTP server (`sftp.py`).

`put` makes a file appear whole or not at all, and once, also where the other side takes it away as soon as it is there:

    .ngsp/NAME.part    the bytes, flushed                    (may be left by a crash: written anew)
    .ngsp/NAME.sent    from here on it counts as sent        (kept for `keep_s`)
    NAME               the part, renamed                     (missing and the part gone: done, and fetched already)
    NAME.sha256        its checksum, as sha256sum writes it
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

Result = TypeVar("Result")

PRIVATE = ".ngsp"
"""Our folder beside the files; its name is hidden, and no template can make one that begins with a dot."""
CHECKSUM = ".sha256"
PURGE_EVERY_S = 3600.0
TURNS = 64
"""Files of one name go one after the other; of so many groups of names, all at once."""

log = structlog.get_logger(__name__)


class StoreDown(Exception):
    """The folder cannot be reached, or not written: nothing is half there because of it."""


class Missing(Exception):
    """There is no such file."""


class TooLarge(Exception):
    """The file is larger than what is read."""


class Differs(Exception):
    """There is a file of that name already, with other bytes."""


class Store(ABC):
    """One folder. Names are relative, with `/` between their parts. Every method may raise StoreDown."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._turns = [asyncio.Lock() for _ in range(TURNS)]
        self._purge_at = 0.0

    async def put(self, name: str, data: bytes, *, checksum: bool) -> None:
        """MUST return only when the file is there, or was there and has been fetched. Differs for other bytes."""
        async with self._turns[hash(name) % TURNS]:
            await self._put(name, data, checksum)
        await self._purge()

    async def _put(self, name: str, data: bytes, checksum: bool) -> None:
        digest = hashlib.sha256(data).hexdigest()
        part, sent, sums = (f"{PRIVATE}/{name.replace('/', '%2F')}.{kind}" for kind in ("part", "sent", "sum"))
        try:
            if (await self.read(sent, 1000)).decode() != digest:
                raise Differs(name)
        except Missing:
            if await self.exists(name):
                raise Differs(name) from None
            await self.write(part, data)
            await self.write(sent, digest.encode())
        with contextlib.suppress(Missing):  # it was moved before: by an earlier delivery that did not come to its end
            await self.move(part, name)
        if checksum and await self.exists(name) and not await self.exists(name + CHECKSUM):
            line = f"{digest}  {name.rpartition('/')[2]}\n".encode()
            await self.write(sums, line)
            await self.move(sums, name + CHECKSUM)

    async def _purge(self) -> None:
        now = time.time()
        if now < self._purge_at:
            return
        self._purge_at = now + PURGE_EVERY_S
        await self.purge(now - self._keep_s)

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def read(self, name: str, most: int) -> bytes:
        """The whole file. Missing, or TooLarge."""

    @abstractmethod
    async def exists(self, name: str) -> bool: ...

    @abstractmethod
    async def write(self, name: str, data: bytes) -> None:
        """Writes it anew and flushes it to disk, as far as the other side lets; folders are made."""

    @abstractmethod
    async def move(self, old: str, new: str) -> None:
        """In one step. Missing where there is no `old`; Differs where there is a `new`."""

    @abstractmethod
    async def purge(self, before_s: float) -> None:
        """Takes away what is of our own and was last changed before that time."""


class LocalStore(Store):
    """A folder of this machine."""

    def __init__(self, folder: Path, keep_s: float) -> None:
        super().__init__(keep_s)
        self._folder = folder

    async def open(self) -> None:
        return

    async def close(self) -> None:
        return

    async def _do(self, work: Callable[[], Result]) -> Result:
        try:
            return await asyncio.to_thread(work)
        except FileNotFoundError as error:
            raise Missing(str(error.filename)) from None
        except OSError as error:
            raise StoreDown(error.strerror or type(error).__name__) from error

    async def read(self, name: str, most: int) -> bytes:
        def work() -> bytes:
            with (self._folder / name).open("rb") as file:
                return file.read(most + 1)

        data = await self._do(work)
        if len(data) > most:
            raise TooLarge(name)
        return data

    async def exists(self, name: str) -> bool:
        return await self._do((self._folder / name).exists)

    async def write(self, name: str, data: bytes) -> None:
        target = self._folder / name

        def work() -> None:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _flush_folder(target.parent)

        await self._do(work)

    async def move(self, old: str, new: str) -> None:
        source, target = self._folder / old, self._folder / new

        def work() -> None:
            source.stat()
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                raise Differs(new)
            source.rename(target)
            _flush_folder(target.parent)

        await self._do(work)

    async def purge(self, before_s: float) -> None:
        def work() -> None:
            for file in (self._folder / PRIVATE).iterdir():
                if file.stat().st_mtime < before_s:
                    file.unlink(missing_ok=True)

        with contextlib.suppress(Missing):
            await self._do(work)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
