"""Events in the demo: a procedure is amended in its system, and those that subscribed to that are told, each its way.

procedures (stand-in) ─▶ source of G22's adapter ─▶ the log of events ─┬─▶ H41: adapter ─▶ one-stop shop (stand-in)
                                                                     └─▶ G12: webhook, here in the demo's process
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from ngsp.client import AsyncClient, webhooks
from ngsp.client.errors import WebhookError
from ngsp.text import tr

SERVICE = "G22/procedure-events/v1"
AMENDED = "vn.gov.vpcp.procedure.amended"
PROCEDURE = "2.001610"
ONE_STOP, PORTAL = "h41-thay-doi-thu-tuc", "g12-thay-doi-thu-tuc"
"""The subscriptions: of the one-stop shop, made with the registry; of the business portal, which makes it itself."""
ARRIVES_S = 60.0
POLL_S = 0.05
LARGEST_EVENT_BYTES = 1 << 20

Told = Callable[[str], dict[str, Any]]
"""What a stand-in tells of itself: url, client_id, secret_file."""


@dataclass
class Receiver:
    """A webhook of a subscriber. `secrets`: those that it accepts; `taken`: the events, by id."""

    url: str = ""
    secrets: list[str] = field(default_factory=list)
    taken: dict[str, webhooks.Event] = field(default_factory=dict)

    def take(self, headers: webhooks.Headers, body: bytes) -> int:
        """The status to answer with: an event is taken by its id, however often it comes."""
        try:
            event = webhooks.verify(self.secrets, headers, body)
        except (WebhookError, ValueError):  # the latter: no secret yet
            return 401
        self.taken.setdefault(event.id, event)
        return 204


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that listens on this machine until the context ends."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            body = self.rfile.read(min(length, LARGEST_EVENT_BYTES))
            self.close_connection = length > LARGEST_EVENT_BYTES  # the rest of it is not read
            self.send_response(401 if self.close_connection else receiver.take(self.headers, body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/ngsp"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


@asynccontextmanager
async def _inside(told: dict[str, Any]) -> AsyncIterator[httpx.AsyncClient]:
    """A stand-in as those who work in its agency reach it, past the bus."""
    secret = await asyncio.to_thread(Path(told["secret_file"]).read_text, "ascii")
    async with httpx.AsyncClient(base_url=told["url"], timeout=10.0) as system:
        form = {"grant_type": "client_credentials"}
        token = (await system.post("/token", data=form, auth=(told["client_id"], secret.strip()))).raise_for_status()
        system.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
        yield system


@dataclass(frozen=True, slots=True)
class Happened:
    """What came of one amendment. `transactions`: the publication and the two deliveries. `lines`: for people."""

    transactions: list[str]
    lines: list[str]


async def publish_and_deliver(
    portal: AsyncClient, operator: AsyncClient, told: Told, mark: str, must: Callable[[bool, str], None]
) -> Happened:
    """Amends a procedure, and follows that to both subscribers. `portal`: the client of G12. `must`: raises where
    what it is given is not so."""
    with receiving() as receiver:
        receiver.secrets += await _subscribe(portal, receiver.url)
        decision = f"{mark}/QĐ-VPCP"
        async with _inside(told("procedure")) as procedures:
            answer = await procedures.post(f"/thuTuc/{PROCEDURE}/phienBan", json={"quyetDinh": decision})
            amended = answer.raise_for_status().json()
        event = f"{amended['so']}-{decision}"
        await _until(lambda: _is_in(receiver.taken, event), must, "the webhook was not sent the event")
        got = receiver.taken[event]
        must((got.type, got.subject) == (AMENDED, PROCEDURE), "the webhook got another event")
        must(set(got.data) == {"so", "maThuTuc", "phienBan", "hieuLucTu"}, "the event was not cut to what is granted")
        ended: dict[str, dict[str, Any]] = {}

        async def delivered() -> bool:
            for subscription, seen_by in ((PORTAL, portal), (ONE_STOP, operator)):
                ended[subscription] = await _delivery(seen_by, subscription, ended.get(PORTAL, {}).get("event"), got)
            return all(found.get("state") == "succeeded" for found in ended.values())

        await _until(delivered, must, "the deliveries did not succeed")
        async with _inside(told("dossier")) as one_stop:
            found = (await one_stop.get("/ThayDoiTTHC", params={"maSuKien": event})).json()
        must(found["data"]["SoQuyetDinh"] == decision, "the one-stop shop has another decision")
    publication, by_webhook, by_adapter = (
        ended[PORTAL]["event"],
        ended[PORTAL]["transaction"],
        ended[ONE_STOP]["transaction"],
    )
    return Happened(
        [publication, by_adapter, by_webhook],
        [
            f"{PROCEDURE} " + tr("sửa đổi, phiên bản", "amended, version") + f" {amended['phienBan']} → {publication}",
            tr("H41, một cửa: đã nhận qua bộ kết nối", "H41, one-stop shop: taken by its adapter") + f" → {by_adapter}",
            tr("G12, webhook: đúng chữ ký, 4/6 trường", "G12, webhook: signature verified, 4 of 6 fields")
            + f" → {by_webhook}",
        ],
    )


async def _is_in(taken: dict[str, webhooks.Event], event: str) -> bool:
    return event in taken


async def _subscribe(portal: AsyncClient, url: str) -> list[str]:
    """Where the subscription was there before it gets this address and a new secret: the old one was shown then."""
    path = f"/v1/subscriptions/{PORTAL}"
    put = await portal.ask("PUT", path, {"service": SERVICE, "purpose": "procedure-lookup", "url": url})
    made = put.json()["secret"]
    if made is None:
        made = (await portal.ask("POST", f"{path}/secret", {"overlap_s": 0})).json()["secret"]
    return [made]


async def _delivery(
    system: AsyncClient, subscription: str, publication: str | None, got: webhooks.Event
) -> dict[str, Any]:
    """The delivery that is `got`, or of the same publication; empty while it is not there."""
    async for found in system.items(f"/v1/subscriptions/{subscription}/deliveries"):
        if found["transaction"] == got.transaction or found["event"] == publication:
            return found
    return {}


async def _until(condition: Callable[[], Awaitable[bool]], must: Callable[[bool, str], None], what: str) -> None:
    end = time.monotonic() + ARRIVES_S
    while not await condition():
        must(time.monotonic() < end, what)
        await asyncio.sleep(POLL_S)
