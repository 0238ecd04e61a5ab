"""Where a back end may be, and that nothing else is connected to."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ngsp.adapter import ManifestError
from ngsp.adapter.addresses import VARIABLE, Addresses, AddressRefused
from tests.backends.declaring import load, manifest, served
from tests.backends.scripted import Scripted

BACKEND, CALL = "kind: rest\nurl: {env: URL}\nretry: {attempts: 1}", "call: {path: /a}"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "172.16.3.4",
        "192.168.1.1",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "::127.0.0.1",
        "::ffff:0:7f00:1",
        "64:ff9b:1::a9fe:a9fe",
        "2001:0:7f00:1::",
        "192.0.0.192",
        "198.18.0.1",
        "fec0::1",
        "3fff::1",
    ],
)
def test_what_is_not_public_needs_leave(address: str) -> None:
    assert not Addresses(None).allows(address)
    assert not Addresses("203.113.0.0/16, 2402:800::/32").allows(address)


@pytest.mark.parametrize("address", ["203.113.131.1", "2402:800::1", "64:ff9b::cb71:8301"])
def test_what_is_public_needs_none(address: str) -> None:
    assert Addresses("").allows(address)


def test_leave_is_for_a_network() -> None:
    rule = Addresses("10.1.0.0/16, ::1/128,127.0.0.1")
    assert rule.allows("10.1.255.255")
    assert rule.allows("::1")
    assert rule.allows("127.0.0.1")
    assert rule.allows("::ffff:10.1.2.3")
    assert not rule.allows("10.2.0.0")
    assert not rule.allows("127.0.0.2")


@pytest.mark.parametrize("value", ["everything", "10.1.0.0/33", "10.1.2.3/16", "10.0.0.0/8;127.0.0.1"])
def test_a_list_that_is_none(value: str) -> None:
    with pytest.raises(ManifestError, match=VARIABLE):
        Addresses(value)


def test_a_resolved_address_is_looked_at_before_its_socket_is_made() -> None:
    resolved = socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
    for each in resolved:
        with pytest.raises(AddressRefused):
            Addresses(None).socket(each)
        Addresses("127.0.0.0/8,::1/128").socket(each).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]"])
async def test_a_private_address_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")
    adapter = load(tmp_path, manifest(BACKEND, CALL))
    with pytest.raises(ManifestError, match=f"is not public: add its network to {VARIABLE}"):
        async with adapter.open_resources({"URL": f"http://{host}:8080"}.get):
            pass


async def test_a_name_that_leads_inside_is_not_connected_to(server: Scripted, tmp_path: Path) -> None:
    """What a name resolves to is known when it is connected to, and only then."""
    url = f"http://localhost:{server.port}"
    async with served(tmp_path, manifest(BACKEND, CALL), URL=url, **{VARIABLE: "203.113.0.0/16"}) as door:
        reply = await door.ask({})
    assert (reply.status, reply.code) == ("retry", "backend-address-refused")
    assert server.connections == 0
    async with served(tmp_path, manifest(BACKEND, CALL), URL=url) as door:
        await door.answer({})
    assert server.connections == 1
