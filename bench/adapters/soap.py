"""The SOAP back end, whole, and its messages alone: next to bare aiohttp with lxml, and to zeep's own clients.

64 calls at a time against the fast server. zeep's clients are there to show why it reads the WSDL and no messages: its
asynchronous one over httpx, and its plain one in 64 threads.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import orjson
import requests
import zeep
from lxml import etree
from zeep.helpers import serialize_object
from zeep.transports import AsyncTransport, Transport

from bench.adapters.figures import Figure, table
from bench.adapters.mapping import cpu_us_of
from bench.adapters.rest import Call, compared
from bench.adapters.soap_message import BODY, FOLDER, HEADER, MANIFEST, OPERATION, WSDL, answer
from bench.figures import median
from ngsp.adapter import Adapter, Request
from ngsp.adapter.addresses import VARIABLE
from ngsp.adapter.backends import envelope
from ngsp.adapter.backends.wsdl import Wsdl
from ngsp.messages import Envelope, uuid7
from ngsp.text import tr

AT_ONCE = 64
BINDING = "{urn:vn:bca:csdldc:tich-hop:1}CSDLDanCuSoap"
CALLS, REPETITIONS = 500, 9
HEADERS = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '""'}


@asynccontextmanager
async def bare_aiohttp(url: str) -> AsyncIterator[Call]:
    content = answer()
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

        async def call() -> None:
            async with session.post(url, data=content, headers=HEADERS, allow_redirects=False) as response:
                etree.fromstring(await response.read())

        yield call


@asynccontextmanager
async def zeep_httpx(url: str) -> AsyncIterator[Call]:
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    async with httpx.AsyncClient(limits=limits, timeout=60.0, trust_env=False) as http:
        client = zeep.AsyncClient(str(WSDL), transport=AsyncTransport(client=http))
        ask = client.create_service(BINDING, url)
        binding, options = ask._binding, ask._binding_options  # the proxy itself knows plain transports only

        async def call() -> None:
            body = {**BODY, "_soapheaders": HEADER}
            serialize_object(await binding.send_async(client, options, OPERATION, (), body), dict)

        yield call


@asynccontextmanager
async def zeep_threads(url: str) -> AsyncIterator[Call]:
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=AT_ONCE))
    client = zeep.Client(str(WSDL), transport=Transport(session=session))
    ask = client.create_service(BINDING, url)
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(AT_ONCE) as threads:

        def sent() -> None:
            serialize_object(ask[OPERATION](**BODY, _soapheaders=HEADER), dict)

        async def call() -> None:
            await loop.run_in_executor(threads, sent)

        yield call
    session.close()


@asynccontextmanager
async def back_end(url: str) -> AsyncIterator[Call]:
    with tempfile.TemporaryDirectory() as folder:
        for file in (WSDL, WSDL.with_suffix(".xsd")):
            shutil.copy(file, folder)
        path = Path(folder) / "manifest.yaml"
        path.write_bytes(orjson.dumps(MANIFEST))  # JSON is YAML
        adapter = Adapter.load(path)
    serve = adapter.function("G22/bench/v1")
    body = orjson.dumps({"header": HEADER, "body": BODY})
    async with adapter.open_resources({"URL": url, VARIABLE: "127.0.0.1"}.get):

        async def call() -> None:
            until = int(time.time() * 1000) + 30_000
            await serve(Request(Envelope(uuid7(), "G22/bench/v1", until, "bench", ("",), "", "", body)))

        yield call


SUBJECTS = {
    "aiohttp, lxml": bare_aiohttp,
    "zeep, httpx": zeep_httpx,
    f"zeep, {AT_ONCE} threads": zeep_threads,
    "SOAP": back_end,
}
"""The first is the reference."""


def messages() -> dict[str, Callable[[], Any]]:
    """Writing a request and reading the answer, by name; the first is the reference."""
    wsdl = Wsdl(WSDL, FOLDER)
    operation = wsdl.binding(None, None).get(OPERATION)
    parts = dict(operation.input.header.type.elements)
    write, read = wsdl.codec.writer(operation.input.body), wsdl.codec.reader(operation.output.body)
    block = wsdl.codec.writer(parts["ThongTinKetNoi"])
    content, soap = answer(), envelope.SOAP_11

    def put_header(parent: Any) -> None:
        block(parent, HEADER["ThongTinKetNoi"])

    def put_body(parent: Any) -> None:
        write(parent, BODY)

    def ours_read() -> Any:
        return read(envelope.body_of(envelope.parsed(content, "text/xml; charset=utf-8"), soap))

    def zeeps_write() -> bytes:
        return bytes(etree.tostring(operation.create(**BODY, _soapheaders=HEADER).content, encoding="utf-8"))

    def zeeps_read() -> Any:
        return serialize_object(operation.process_reply(etree.fromstring(content)), dict)

    return {
        tr("lxml phân tích trả lời", "lxml parses the answer"): lambda: etree.fromstring(content),
        tr("ghi yêu cầu", "a request written"): lambda: envelope.written(
            envelope.envelope(soap, [put_header], put_body)
        ),
        tr("đọc trả lời", "an answer read"): ours_read,
        tr("ghi yêu cầu bằng zeep", "written by zeep"): zeeps_write,
        tr("đọc trả lời bằng zeep", "read by zeep"): zeeps_read,
    }


async def measure(quick: bool) -> list[str]:
    """The lines of the report."""
    calls, parts = await compared("bench.adapters.soap_server", "/", SUBJECTS, quick), _messages(quick)
    head = tr(f"SOAP, {AT_ONCE} lời gọi một lúc:", f"SOAP, {AT_ONCE} calls at a time:")
    size = len(answer())
    second = tr(f"Thông điệp, trả lời {size} byte:", f"Messages, an answer of {size} bytes:")
    bare, soap = calls[0], calls[-1]
    assert bare.per_s is not None
    assert soap.per_s is not None
    last = (
        f"soap per_s={soap.per_s:.0f} to_aiohttp={soap.per_s / bare.per_s:.2f} per_core_s={1e6 / soap.cpu_us:.0f} "
        f"write_us={parts[1].cpu_us:.0f} read_us={parts[2].cpu_us:.0f}"
    )
    return [head, "", table(calls), "", second, "", table(parts), "", last]


def _messages(quick: bool) -> list[Figure]:
    measured = messages()
    taken: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(3 if quick else REPETITIONS):
        for name, call in measured.items():
            taken[name].append(cpu_us_of(call, CALLS // 10 if quick else CALLS))
    return [Figure(name, median(values)) for name, values in taken.items()]
