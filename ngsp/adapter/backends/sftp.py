"""A folder on an SFTP server. Imported only where a manifest names one: its library takes a while to load."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import cast

import asyncssh

from ngsp.adapter.addresses import Addresses, AddressRefused
from ngsp.adapter.backends.stores import PRIVATE, Differs, Missing, Store, StoreDown, TooLarge


class SftpStore(Store):
    """A folder on an SFTP server, over one connection that is made anew when it is lost.

    `known_hosts`: the server's key, without which nobody is spoken to. `key`: the client's, or `password`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        folder: str,
        *,
        username: str,
        password: str,
        key: bytes,
        known_hosts: bytes,
        addresses: Addresses,
        connect_timeout_s: float,
        keep_s: float,
    ) -> None:
        super().__init__(keep_s)
        self._host, self._port, self._folder = host, port, folder.rstrip("/") or "."
        self._addresses, self._connect_timeout_s = addresses, connect_timeout_s
        trusted = asyncssh.import_known_hosts(known_hosts.decode())
        keys = [asyncssh.import_private_key(key)] if key else None
        self._options = asyncssh.SSHClientConnectionOptions(
            username=username,
            password=password or None,
            client_keys=keys,
            known_hosts=trusted,
            config=None,
            agent_path=None,
            keepalive_interval=15,
        )
        self._connecting = asyncio.Lock()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._client: asyncssh.SFTPClient | None = None

    async def open(self) -> None:
        return

    async def close(self) -> None:
        connection, self._connection, self._client = self._connection, None, None
        if connection is not None:
            connection.close()
            await connection.wait_closed()

    async def _connected(self) -> asyncssh.SFTPClient:
        async with self._connecting:
            if self._client is not None and self._connection is not None and not self._connection.is_closed():
                return self._client
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(self._connect_timeout_s):
                resolved = (await loop.getaddrinfo(self._host, self._port, type=1))[0]
                sock = self._addresses.socket(resolved)
                try:
                    sock.setblocking(False)
                    await loop.sock_connect(sock, resolved[4])
                    self._connection = await asyncssh.connect(
                        self._host, self._port, sock=sock, options=self._options, config=None
                    )
                except BaseException:
                    sock.close()
                    raise
                self._client = await self._connection.start_sftp_client()
            return self._client

    @contextlib.asynccontextmanager
    async def _sftp(self) -> AsyncIterator[asyncssh.SFTPClient]:
        """The connection, and what its errors mean."""
        try:
            yield await self._connected()
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath) as error:
            raise Missing from error
        except (asyncssh.SFTPFailure, asyncssh.SFTPPermissionDenied, asyncssh.SFTPNoSpaceOnFilesystem) as error:
            raise StoreDown(type(error).__name__) from error
        except (asyncssh.Error, AddressRefused, OSError, TimeoutError) as error:
            await self._drop()
            raise StoreDown(type(error).__name__) from error

    async def _drop(self) -> None:
        connection, self._connection, self._client = self._connection, None, None
        if connection is not None:
            connection.abort()

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    async def read(self, name: str, most: int) -> bytes:
        async with self._sftp() as sftp, sftp.open(self._path(name), "rb") as file:
            data = cast("bytes", await file.read(most + 1))  # opened for bytes, which its types do not tell
        if len(data) > most:
            raise TooLarge(name)
        return data

    async def exists(self, name: str) -> bool:
        async with self._sftp() as sftp:
            return await sftp.exists(self._path(name))

    async def write(self, name: str, data: bytes) -> None:
        path = self._path(name)
        async with self._sftp() as sftp:
            await sftp.makedirs(path.rpartition("/")[0], exist_ok=True)
            async with sftp.open(path, "wb") as file:
                await file.write(data)
                with contextlib.suppress(asyncssh.SFTPOpUnsupported):  # an extension that not every server has
                    await file.fsync()

    async def move(self, old: str, new: str) -> None:
        async with self._sftp() as sftp:
            await sftp.stat(self._path(old))
            await sftp.makedirs(self._path(new).rpartition("/")[0], exist_ok=True)
            if await sftp.exists(self._path(new)):
                raise Differs(new)
            await sftp.rename(self._path(old), self._path(new))

    async def purge(self, before_s: float) -> None:
        async with self._sftp() as sftp:
            if not await sftp.isdir(self._path(PRIVATE)):
                return
            for entry in await sftp.readdir(self._path(PRIVATE)):
                name, changed_s = str(entry.filename), entry.attrs.mtime
                if changed_s is not None and changed_s < before_s and name not in (".", ".."):
                    await sftp.remove(self._path(f"{PRIVATE}/{name}"))
