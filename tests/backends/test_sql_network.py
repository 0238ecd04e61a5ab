"""SQL back ends over TCP, and TLS to MariaDB: a door stands before the tests' servers, which have Unix sockets only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.backends.certificates import Certificates
from tests.backends.sql_office import BY_ID, INSERT, ROW, SUBMISSION, Serve, case
from tests.support.mariadb import LocalMariaDB
from tests.support.providers import SERVERS, Provider
from tests.support.servers import need_mariadb

LOCAL = "127.0.0.0/8"


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while part := await reader.read(65_536):
            writer.write(part)
            await writer.drain()
    except ConnectionError:
        pass  # the other end is gone, and so is this one
    finally:
        writer.close()


@asynccontextmanager
async def door_before(socket: Path) -> AsyncIterator[int]:
    """A port of loopback that leads to a Unix socket."""
    pumps: set[asyncio.Task[None]] = set()

    async def entered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(str(socket))
        for ends in ((reader, inner_writer), (inner_reader, writer)):
            task = asyncio.create_task(_pump(*ends))
            pumps.add(task)
            task.add_done_callback(pumps.discard)

    server = await asyncio.start_server(entered, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for task in list(pumps):
        task.cancel()
    await asyncio.gather(*pumps, return_exceptions=True)


def socket_of(provider: Provider) -> Path:
    query = parse_qs(urlsplit(provider.url).query)
    if provider.kind == "mariadb":
        return Path(query["unix_socket"][0])
    return Path(query["host"][0]) / f".s.PGSQL.{query['port'][0]}"


def by_tcp(provider: Provider, port: int) -> str:
    parts = urlsplit(provider.url)
    return f"{parts.scheme}://{parts.username}@127.0.0.1:{port}{parts.path}"


@pytest.mark.parametrize("provider", SERVERS, indirect=True)
async def test_a_database_over_the_network(register: Provider, serve: Serve) -> None:
    async with door_before(socket_of(register)) as port:
        url = by_tcp(register, port)
        async with serve(url, BY_ID, allowed=LOCAL) as office:
            assert (await office.answer({"id": ROW["id"]}))["name"] == ROW["name"]
        async with serve(url, INSERT, allowed=LOCAL, **SUBMISSION) as office:
            assert (await office.ask(case())).status == "ok"
        named = url.replace("127.0.0.1", "localhost")
        async with serve(named, BY_ID, allowed=f"{LOCAL}, ::1/128") as office:
            assert (await office.answer({"id": ROW["id"]}))["id"] == ROW["id"]


@pytest.mark.parametrize("provider", SERVERS, indirect=True)
async def test_a_submission_keeps_to_the_allowed_addresses_too(register: Provider, serve: Serve) -> None:
    async with door_before(socket_of(register)) as port:
        url = by_tcp(register, port).replace("127.0.0.1", "localhost")
        with pytest.raises(OSError, match="address not allowed"):
            async with serve(url, INSERT, allowed="192.0.2.0/24", **SUBMISSION):
                raise AssertionError


@pytest.fixture(scope="module")
async def secure(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[LocalMariaDB, Path]]:
    """A MariaDB that speaks TLS, and the certificate of its authority."""
    need_mariadb()
    server = LocalMariaDB()
    folder = server.folder / "tls"
    folder.mkdir(mode=0o755)
    certificates = Certificates.make(folder)
    certificates.issue("server")
    server.settings = [f"--ssl-cert={folder}/server.pem", f"--ssl-key={folder}/server.key"]
    async with server:
        await server.create_database("office")
        yield server, folder / "ca.pem"


@pytest.mark.mariadb
async def test_tls_with_the_authority_that_is_told(
    secure: tuple[LocalMariaDB, Path], serve: Serve, tmp_path: Path
) -> None:
    server, authority = secure
    other = tmp_path / "other"
    other.mkdir()
    Certificates.make(other)
    cipher = {
        "sql": "SELECT variable_value AS x FROM information_schema.session_status WHERE variable_name = 'SSL_CIPHER'"
    }
    async with door_before(server.socket) as port:
        url = f"mysql://{server.user}@127.0.0.1:{port}/office"
        async with serve(f"{url}?ssl_ca={authority}", cipher, allowed=LOCAL) as office:
            assert (await office.answer({}))["x"].startswith("TLS_")
        async with serve(url, cipher, allowed=LOCAL) as office:
            assert await office.answer({}) == {"x": ""}
        async with serve(f"{url}?ssl_ca={other}/ca.pem", cipher, {"retry": {"attempts": 1}}, allowed=LOCAL) as office:
            assert (await office.ask({})).code == "backend-down"
        named = url.replace("127.0.0.1", "localhost")
        async with serve(f"{named}?ssl_ca={authority}", cipher, {"retry": {"attempts": 1}}, allowed=LOCAL) as office:
            assert (await office.ask({})).code == "backend-down", "the certificate is another name's"


@pytest.mark.parametrize("provider", SERVERS[1:], indirect=True)
async def test_no_tls_where_tls_is_wanted_is_no_connection(register: Provider, serve: Serve, tmp_path: Path) -> None:
    Certificates.make(tmp_path)
    async with door_before(socket_of(register)) as port:
        url = f"{by_tcp(register, port)}?ssl_ca={tmp_path}/ca.pem"
        async with serve(url, BY_ID, {"retry": {"attempts": 1}}, allowed=LOCAL) as office:
            assert (await office.ask({"id": ROW["id"]})).code == "backend-down"
