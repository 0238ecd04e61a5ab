"""Stands between a client and PostgreSQL, and cuts the connection at the worst moment: around the commit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, quote, urlsplit

Moment = Literal["before", "after"]
"""`before`: the commit never reaches the server. `after`: it is done, but its answer never comes back."""

_COPY_DONE = b"c\x00\x00\x00\x04"
_COMMIT = b"COMMIT\x00"


class Cut:
    """Passes everything on until `at` is set: then the next commit (or COPY on its own) is cut off, once.

    `stays_away`: from then on nobody gets through until it is set to False.
    """

    def __init__(self) -> None:
        self.at: Moment | None = None
        self.stays_away = False
        self.cuts = 0
        self._in_transaction = False

    def _commits(self, data: bytes) -> bool:
        if b"BEGIN\x00" in data:
            self._in_transaction = True
        if _COMMIT in data:
            self._in_transaction = False
            return True
        return data.endswith(_COPY_DONE) and not self._in_transaction

    async def serve(self, server_path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.stays_away and self.cuts:
            writer.transport.abort()
            return
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(server_path)
        silent = asyncio.Event()
        answering = asyncio.create_task(_answers(upstream_reader, writer, silent))
        try:
            while data := await reader.read(1 << 16):
                if self.at is not None and self._commits(data):
                    moment, self.at = self.at, None
                    self.cuts += 1
                    if moment == "after":
                        silent.set()
                        upstream_writer.write(data)
                        await upstream_writer.drain()
                        await answering  # the server has answered: it is committed
                    break
                upstream_writer.write(data)
                await upstream_writer.drain()
        finally:
            answering.cancel()
            for end in (upstream_writer, writer):
                end.transport.abort()


async def _answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: asyncio.Event) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            if silent.is_set():
                return
            writer.write(data)
            await writer.drain()
    writer.close()  # the server has gone, so the client's side ends too


@asynccontextmanager
async def cutting(url: str, folder: Path) -> AsyncIterator[tuple[str, Cut]]:
    """`url` through a `Cut` whose socket lies in `folder`; to be used by one connection at a time."""
    parts = urlsplit(url)
    real = parse_qs(parts.query)["host"][0]
    cut = Cut()
    server = await asyncio.start_unix_server(
        lambda reader, writer: cut.serve(f"{real}/.s.PGSQL.5432", reader, writer), folder / ".s.PGSQL.5432"
    )
    async with server:
        yield url.replace(parts.query, f"host={quote(str(folder), safe='/')}&port=5432"), cut
