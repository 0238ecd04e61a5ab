"""`ngsp adapter wsdl`: what a WSDL offers, and a WSDL at an address with all that it imports."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ngsp.adapter.backends.wsdl import Wsdl
from ngsp.cli_adapter import adapter_app
from tests.backends.scripted import Answer, Asked, Scripted, raw
from tests.backends.test_soap_calls import WSDL

ROOT, TYPES = (WSDL / "values.wsdl").read_bytes(), (WSDL / "types.xsd").read_bytes()


@pytest.fixture(autouse=True)
def _in_english_on_loopback(monkeypatch: pytest.MonkeyPatch, own_logging: None, tmp_path: Path) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")
    monkeypatch.setenv("NGSP_ADAPTER_ALLOWED_NETWORKS", "127.0.0.1/32")
    monkeypatch.chdir(tmp_path)


async def typed(*arguments: str, exits: int = 0) -> str:
    done = await asyncio.to_thread(CliRunner().invoke, adapter_app, ["wsdl", *arguments])
    assert done.exit_code == exits, done.output
    return done.output


def serving(files: dict[str, bytes]) -> Answer:
    """Path with query → file; 404 for anything else."""

    async def answered(asked: Asked, writer: asyncio.StreamWriter) -> None:
        found = files.get(asked.target)
        writer.write(raw("200 OK", found, Content_Type="text/xml") if found else raw("404 Not Found"))

    return answered


async def test_what_a_file_offers() -> None:
    told = await typed(str(WSDL / "values.wsdl"))
    assert "Desk/Eleven  Echo\n  headers: {Who: {app, key?}}\n  arguments: {text?," in told
    assert "Desk/Sums  Add\n  arguments: {a, b}\n  body: {sum}\n" in told
    assert "many[], two[], money?: {currency, _value_1}, part?: …" in told
    assert "open?: {known?, …}" in told


async def test_a_copy_is_whole_and_stands_alone(server: Scripted, tmp_path: Path) -> None:
    server.answer = serving(
        {
            "/ws/Desk.svc?wsdl": ROOT.replace(b'"types.xsd"', f'"{server.url}/ws/Desk.svc?xsd=xsd0"'.encode()),
            "/ws/Desk.svc?xsd=xsd0": TYPES.replace(
                b'elementFormDefault="qualified">',
                b'elementFormDefault="qualified"><xs:include schemaLocation="../common/types.xsd"/>',
            ),
            "/common/types.xsd": (
                b'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:test:types">'
                b'<xs:include schemaLocation="/ws/Desk.svc?xsd=xsd0"/></xs:schema>'
            ),
        }
    )
    told = await typed(f"{server.url}/ws/Desk.svc?wsdl", "--into", "adapters/desk")
    assert told.startswith("+ adapters/desk/Desk.wsdl\n+ adapters/desk/Desk-xsd0.xsd\n+ adapters/desk/types.xsd\n")
    assert len(server.asked) == 3, "each once, though they name each other"
    folder = tmp_path / "adapters" / "desk"
    assert b"http://127" not in (folder / "Desk.wsdl").read_bytes()
    assert Wsdl(folder / "Desk.wsdl", folder).binding("Desk", "Eleven").get("Echo") is not None


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "HTTP 404"),
        ({"/d?wsdl": b"<html>"}, "cannot be had"),
        ({"/d?wsdl": b'<!DOCTYPE d [<!ENTITY a "b">]>' + ROOT.partition(b"?>")[2].strip()}, "it has a DTD"),
        ({"/d?wsdl": ROOT.replace(b'"types.xsd"', b'"file:///etc/passwd"')}, "must be http(s)://"),
        ({"/d?wsdl": ROOT.replace(b'"types.xsd"', b'"http://127.0.0.2:9/types.xsd"')}, "cannot be had"),
        ({"/d?wsdl": ROOT + b" " * (9 << 20)}, "> 8 MiB"),
    ],
)
async def test_what_cannot_be_copied(server: Scripted, files: dict[str, bytes], said: str) -> None:
    server.answer = serving(files)
    assert said in await typed(f"{server.url}/d?wsdl", exits=2)


async def test_what_is_not_whole_is_named(server: Scripted) -> None:
    server.answer = serving({"/d?wsdl": ROOT.replace(b'schemaLocation="types.xsd"', b"")})
    told = (await typed(f"{server.url}/d?wsdl")).splitlines()
    assert "Desk/Sums  Add" in told
    assert told[-1].startswith("! ")
    assert "'{urn:test:wsdl}Values' contains an invalid part" in told[-1]


async def test_a_redirect_and_a_private_address(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    async def elsewhere(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(raw("302 Found", Location=f"{server.url}/x"))

    server.answer = elsewhere
    assert "HTTP 302" in await typed(f"{server.url}/d?wsdl", exits=2)
    monkeypatch.setenv("NGSP_ADAPTER_ALLOWED_NETWORKS", "10.0.0.0/8")
    asked = len(server.asked)
    await typed(f"{server.url}/d?wsdl", exits=2)
    assert len(server.asked) == asked == 1
