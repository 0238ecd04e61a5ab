"""A WSDL at an address, with all that it imports → files of one folder that name each other.

Done once, by a person: an adapter itself fetches no WSDL, so that what it was tested with is what it runs with. Only
addresses that a back end may have are asked (`ngsp.adapter.addresses`), redirects are not followed, and what comes is
parsed without entities and DTD.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from lxml import etree

from ngsp.adapter.addresses import Addresses
from ngsp.adapter.backends.wsdl import LARGEST_WSDL_BYTES, MOST_FILES
from ngsp.adapter.manifest import ManifestError
from ngsp.text import tr

TIMEOUT_S = 30.0
_WSDL = "{http://schemas.xmlsoap.org/wsdl/}"
_XSD = "{http://www.w3.org/2001/XMLSchema}"
_LEADS = ((f"{_WSDL}import", "location"), *((f"{_XSD}{name}", "schemaLocation") for name in ("import", "include")))
_ODD = re.compile(r"[^A-Za-z0-9_-]+")


def copy_wsdl(url: str, folder: Path, addresses: Addresses) -> list[Path]:
    """Writes the files and returns them, the WSDL first. ManifestError where one cannot be had or is none."""
    documents = asyncio.run(_documents(url, addresses))
    names = _names(documents)
    for address, document in documents.items():
        for node, attribute, target in list(_leads(document, address)):
            node.set(attribute, names[target])
    folder.mkdir(parents=True, exist_ok=True)
    for address, document in documents.items():
        (folder / names[address]).write_bytes(etree.tostring(document, encoding="utf-8", xml_declaration=True) + b"\n")
    return [folder / names[address] for address in documents]


async def _documents(url: str, addresses: Addresses) -> dict[str, Any]:
    """Address → document, of the WSDL and of all that it leads to."""
    connector = aiohttp.TCPConnector(socket_factory=addresses.socket)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    documents: dict[str, Any] = {}
    left = LARGEST_WSDL_BYTES
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
        waiting = [url]
        while waiting:
            address = waiting.pop(0)
            if address in documents:
                continue
            if len(documents) == MOST_FILES:
                raise _refused(address, tr(f"quá {MOST_FILES} tệp", f"more than {MOST_FILES} files"))
            content = await _fetched(session, address, left)
            left -= len(content)
            documents[address] = _parsed(content, address)
            waiting += [target for _, _, target in _leads(documents[address], address)]
    return documents


async def _fetched(session: aiohttp.ClientSession, address: str, limit: int) -> bytes:
    if urlsplit(address).scheme not in ("http", "https"):
        raise _refused(address, tr("phải là http(s)://…", "must be http(s)://…"))
    try:
        async with session.get(address, allow_redirects=False, headers={"Accept-Encoding": "identity"}) as response:
            if response.status != 200:
                raise _refused(address, f"HTTP {response.status}")
            content = b""
            async for chunk in response.content.iter_any():
                content += chunk
                if len(content) > limit:
                    raise _refused(address, f"> {LARGEST_WSDL_BYTES >> 20} MiB")
            return content
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise _refused(address, str(error) or type(error).__name__) from None


def _parsed(content: bytes, address: str) -> Any:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise _refused(address, str(error)) from None
    if root.getroottree().docinfo.doctype:
        raise _refused(address, tr("có DTD", "it has a DTD"))
    return root


def _leads(document: Any, address: str) -> Iterator[tuple[Any, str, str]]:
    """(node, attribute, address) of all that the document imports."""
    for tag, attribute in _LEADS:
        for node in document.iter(tag):
            location = node.get(attribute)
            if location:
                yield node, attribute, urljoin(address, location)


def _names(documents: dict[str, Any]) -> dict[str, str]:
    """Address → a file name: `…/DanCu.svc?wsdl` is DanCu.wsdl, `…?xsd=xsd0` is DanCu-xsd0.xsd."""
    names: dict[str, str] = {}
    for address, document in documents.items():
        parts = urlsplit(address)
        stem = _ODD.sub("-", Path(parts.path).stem).strip("-") or "service"
        extra = _ODD.sub("-", parts.query.rpartition("=")[2]).strip("-").lower()
        stem += f"-{extra}" if extra not in ("", "wsdl", "singlewsdl") else ""
        ending = "xsd" if document.tag == f"{_XSD}schema" else "wsdl"
        name, number = f"{stem}.{ending}", 2
        while name in names.values():
            name, number = f"{stem}-{number}.{ending}", number + 1
        names[address] = name
    return names


def _refused(address: str, reason: str) -> ManifestError:
    return ManifestError(tr(f"{address}: không lấy được ({reason})", f"{address}: cannot be had ({reason})"))
