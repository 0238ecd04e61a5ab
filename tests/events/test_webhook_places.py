"""Where webhooks may lead, and whom they are sent to: addresses, names, ports, certificates."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.backends.certificates import Certificates
from tests.backends.scripted import Scripted, always, raw, scripted
from tests.events.sending import Sender, sender, told

REFUSED = (None, "refused-address", False)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates.make(tmp_path_factory.mktemp("authority"))
    made.issue("receiver")
    return made


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names that resolve to what a test says, to a new answer each time where there are several; others as ever."""
    answers: dict[str, list[str]] = {}
    ask = socket.getaddrinfo

    def resolved(host: Any, port: Any, *given: Any, **options: Any) -> list[Any]:
        known = answers.get(host)
        if known is None:
            return ask(host, port, *given, **options)
        found = known.pop(0) if len(known) > 1 else known[0]
        return [each for address in found.split() for each in ask(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    return answers


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
        "100.100.100.200",
        "192.168.1.1",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "localhost",
        "LOCALHOST",
    ],
)
async def test_what_is_inside_is_not_connected_to(receiver: Scripted, host: str) -> None:
    async with sender(allowed="") as sending:
        assert told(await sending.to(f"http://{host}:{receiver.port}/hook")) == REFUSED
    assert receiver.connections == 0


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "127.1", "0177.0.0.1", "127.0.0.1.", "localhost.", "%31%32%37.0.0.1"]
)
async def test_loopback_in_disguise(receiver: Scripted, host: str) -> None:
    """Names of numbers that only some resolvers know: never connected to, whatever they are called."""
    async with sender(allowed="") as sending:
        attempt = await sending.to(f"http://{host}:{receiver.port}")
    assert (attempt.status, attempt.sent) == (None, False)
    assert attempt.problem in ("refused-address", "url", "dns")
    assert receiver.connections == 0


async def test_leave_is_for_a_network(receiver: Scripted) -> None:
    async with sender(allowed="10.8.0.0/16, 127.0.0.1/32") as sending:
        assert (await sending.to(receiver.url)).accepted
        assert told(await sending.to(f"http://127.0.0.2:{receiver.port}")) == REFUSED


@pytest.mark.parametrize("answer", ["203.113.131.1 127.0.0.1", "127.0.0.1 203.113.131.1", "127.0.0.1 10.0.0.1"])
async def test_a_name_that_leads_inside_besides(
    receiver: Scripted, sending: Sender, names: dict[str, list[str]], answer: str
) -> None:
    """One of its addresses may be connected to in each case, if it were alone."""
    names["two-faced.example"] = [answer]
    async with sender(allowed="127.0.0.1/32" if "10." in answer else "") as strict:
        assert told(await strict.to(f"http://two-faced.example:{receiver.port}")) == REFUSED
    assert receiver.connections == 0
    names["honest.example"] = ["127.0.0.1"]
    assert (await sending.to(f"http://honest.example:{receiver.port}")).accepted


async def test_a_name_that_changes_its_mind(receiver: Scripted, names: dict[str, list[str]]) -> None:
    """Each answer is looked at, and what is connected to is the address that was looked at."""
    names["turning.example"] = ["127.0.0.1", "127.0.0.2"]
    receiver.answer = always(raw("200 OK", Connection="close"))
    async with sender(allowed="127.0.0.1/32") as sending:
        assert (await sending.to(f"http://turning.example:{receiver.port}")).accepted
        assert (await sending.to(f"http://turning.example:{receiver.port}")).accepted, "remembered for a moment"
        sending.forget_names()
        assert told(await sending.to(f"http://turning.example:{receiver.port}")) == REFUSED
    assert receiver.connections == 2


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h41.example/hook",
        "/hook",
        "ftp://h41.example/",
        "file:///etc/passwd",
        "unix:///run/postgresql/.s.PGSQL.5432",
        "http://",
        "http:///hook",
        "http://h41.example:99999/",
        "http://h41.example:-1/",
        "http://h41.example:http/",
        "http://[::1/",
        "http://điều.example/",
        "ws://127.0.0.1/",
    ],
)
async def test_what_is_no_address_of_http(sending: Sender, url: str) -> None:
    assert told(await sending.to(url)) == (None, "url", False)


@pytest.mark.parametrize("host", ["no-such-host.invalid", f"{'a' * 64}.example", "a..example", ".", "-"])
async def test_a_name_without_an_address(sending: Sender, host: str) -> None:
    attempt = await sending.to(f"http://{host}/hook")
    assert (attempt.status, attempt.sent) == (None, False)
    assert attempt.problem in ("dns", "url")


async def test_a_line_break_in_an_address_stays_there(receiver: Scripted, sending: Sender) -> None:
    for end in ("\r\nX-Of: mine", "\nX-Of: mine", " HTTP/1.0\r\n\r\n", "\tb", "\x7f", " b"):
        assert told(await sending.to(f"{receiver.url}/a{end}")) == (None, "url", False)
    assert receiver.connections == 0


async def test_a_closed_port(sending: Sender) -> None:
    async with scripted() as gone:
        url = gone.url
    assert told(await sending.to(url)) == (None, "connect", False)


async def test_one_that_never_shakes_hands() -> None:
    """The time to connect ends before the attempt's whole time does: surely nothing was sent."""
    met = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server, sender(timeout_s=0.6) as sending:
        port = server.sockets[0].getsockname()[1]
        assert told(await sending.to(f"https://127.0.0.1:{port}")) == (None, "timeout", False)
    assert met.is_set()


async def test_certificates(certificates: Certificates) -> None:
    """The name must be the receiver's and the authority a known one."""
    own, ca_file = certificates.server("receiver", wants_client=False), certificates.folder / "ca.pem"
    async with scripted(own) as receiver, sender() as stranger, sender(ca_file=ca_file) as sending:
        receiver.answer = always(raw("204 No Content"))
        assert told(await stranger.to(receiver.url)) == (None, "tls", False), "an authority that nobody knows"
        by_name = f"https://localhost:{receiver.port}"
        assert told(await sending.to(by_name)) == (None, "tls", False), "the certificate is of 127.0.0.1"
        assert receiver.asked == []
        assert (await sending.to(receiver.url)).accepted
        connections = receiver.connections
        assert (await sending.to(receiver.url)).accepted
        assert (receiver.connections, len(receiver.asked)) == (connections, 2)


async def test_old_tls_and_none_at_all(certificates: Certificates) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw("400 This is no TLS", Connection="close"))
        await reader.read()
        writer.close()

    old = certificates.server("receiver", wants_client=False)
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with scripted(old) as before, sender(ca_file=certificates.folder / "ca.pem") as sending:
        attempt = await sending.to(before.url)
        assert (attempt.problem in ("tls", "connect"), attempt.sent) == (True, False)
        async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            assert told(await sending.to(f"https://127.0.0.1:{port}")) == (None, "tls", False)
    assert before.asked == []


async def test_a_receiver_that_wants_to_know_us(certificates: Certificates) -> None:
    own = certificates.server("receiver", wants_client=True)
    async with scripted(own) as receiver, sender(ca_file=certificates.folder / "ca.pem") as sending:
        assert not (await sending.to(receiver.url)).accepted
        assert receiver.asked == []


async def test_authorities_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing of the kind")
    for name, error in (("ca.pem", ssl.SSLError), ("gone.pem", FileNotFoundError)):
        with pytest.raises(error):
            async with sender(ca_file=tmp_path / name):
                pass
