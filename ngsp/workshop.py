"""`ngsp adapter dev`: one adapter on an embedded bus behind a small HTTP door, each message shown in the terminal.

    curl http://127.0.0.1:8090/v1/services/{provider}/{service}/{version} -d '{…}'

The door answers as a gateway does (status, problem document, provider's code), without tokens and agreements. For a
developer's own machine and synthetic data: what passes is shown.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import uvicorn

from ngsp.adapter import Adapter
from ngsp.adapter.event_types import EventTypes
from ngsp.adapter.sources import Publish
from ngsp.adapter.trial import NoReply, Offer, Trial, Tried, on_trial
from ngsp.api.problems import render
from ngsp.client.publishing import NewEvent
from ngsp.conclusion import conclude, no_answer
from ngsp.errors import MethodNotAllowed, NgspError, NotFound
from ngsp.messages import uuid7
from ngsp.registry.model import Agreement, Grant, Service
from ngsp.text import Text, language_of, tr
from ngsp.transactions import entry

PREFIX = "/v1/services/"
LONGEST_SHOWN = 2_000
LARGEST_BODY_BYTES = 16 << 20
POLL_S = 0.3
HOST = "127.0.0.1"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Door:
    """A plain ASGI application: `POST /v1/services/{provider}/{service}/{version}`."""

    trial: Trial
    say: Say

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        id = uuid7()
        try:
            if not scope["path"].startswith(PREFIX):
                raise NotFound
            if scope["method"] != "POST":
                raise MethodNotAllowed
            body = await self._ask(scope["path"][len(PREFIX) :], await _body(receive), headers, id)
        except NgspError as error:
            self.say(f"← {error.status} {error.code}" + "".join(f"\n  {f.pointer or '/'}" for f in error.faults))
            status, answered, body = render(error, language_of(headers.get("accept-language")))
        else:
            status, answered = 200, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": answered})
        await send({"type": "http.response.body", "body": body})

    async def _ask(self, path: str, body: bytes, headers: dict[str, str], id: str) -> bytes:
        offer = self.trial.offer(path)
        self.say(f"→ {offer.path} {_shown(body)}")
        officer, dossier = headers.get("ngsp-officer", ""), headers.get("ngsp-dossier", "")
        try:
            tried = await self.trial.ask(offer.path, body, id=id, officer=officer, dossier=dossier)
        except NoReply:
            raise no_answer(_service(offer)).error or NotFound from None
        self._tell(tried)
        conclusion = conclude(_grant(offer), tried.reply)
        if conclusion.error is not None:
            raise conclusion.error
        return conclusion.body

    def _tell(self, tried: Tried) -> None:
        reply = tried.reply
        self.say(f"← {reply.status} {reply.code} {tried.took_s * 1000:.0f} ms {_shown(reply.body)}")
        for fault in tried.faults:
            self.say(f"  ! {fault.pointer or '/'}: {tr(fault.detail.vi, fault.detail.en)}")


async def _body(receive: Any) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body") or sum(map(len, parts)) > LARGEST_BODY_BYTES:
            return b"".join(parts)


def _shown(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "…"


def _service(offer: Offer) -> Service:
    service = offer.manifest
    return Service(
        key=offer.key,
        title=Text(service.title.vi, service.title.en),
        description=Text(service.description.vi, service.description.en),
        mode=service.mode,
        effect=service.effect,
        deadline_s=service.deadline_s,
        max_body_bytes=service.max_body_bytes,
        request_schema=offer.request_schema,
        reply_schema=offer.reply_schema,
        adapter="",
    )


def _grant(offer: Offer) -> Grant:
    """Everything, to whoever asks: there is no registry here."""
    terms = Agreement(
        id="",
        version=1,
        consumer="",
        service=offer.path,
        purposes=frozenset(("test",)),
        legal_basis="",
        fields=("",),
        quota_per_minute=None,
        quota_per_day=None,
        valid_from=entry.now(),
        valid_to=None,
        state="accepted",
    )
    return Grant(_service(offer), terms, "test")


def _showing(adapter: Adapter, say: Say) -> Publish:
    """What sources give is shown, with what a gateway would say of it; it counts as published."""
    events_of = {path: EventTypes(events.schemas) for path, events in adapter.published().items()}

    async def publish(service: str, events: Sequence[NewEvent]) -> object:
        for event in events:
            document = event.document()
            say(f"⇒ {service} {_shown(orjson.dumps(document))}")
            for fault in events_of[service].faults(document):
                say(f"  ! {fault.pointer or '/'}: {tr(fault.detail.vi, fault.detail.en)}")
        return None

    return publish


async def serve_adapter(adapter: Adapter, port: int, say: Say) -> None:
    """Serves until SIGTERM or SIGINT. ManifestError where the adapter cannot be opened."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ngsp-dev-"))
        trial = await stack.enter_async_context(on_trial(adapter, Path(folder), publish=_showing(adapter, say)))
        for path, offer in trial.offers.items():
            example = offer.manifest.examples[0]["request"] if offer.manifest.examples else {}
            say(f"curl http://{HOST}:{port}{PREFIX}{path} -d '{orjson.dumps(example).decode()}'")
        for path, events in adapter.published().items():
            say(tr(f"{path}: sự kiện", f"{path}: events") + f" {', '.join(events.events)}")
        config = uvicorn.Config(Door(trial, say), host=HOST, port=port, log_config=None, lifespan="off")
        await uvicorn.Server(config).serve()


def serve_again_on_change(target: str, folder: Path, port: int, say: Say) -> None:
    """Runs `ngsp adapter dev --once` as a process and starts it anew whenever a file of `folder` was saved."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # or the process that serves would be left behind
    command = [sys.executable, "-m", "ngsp", "adapter", "dev", target, "--port", str(port), "--once"]
    while True:
        before = _state(folder)
        with subprocess.Popen(command) as process:  # noqa: S603 - our own command again
            try:
                while _state(folder) == before:
                    time.sleep(POLL_S)
            finally:
                process.terminate()
        say(tr("Tệp đã đổi: nạp lại …", "A file was saved: starting anew …"))


def _state(folder: Path) -> frozenset[tuple[str, int]]:
    return frozenset(
        (str(file), file.stat().st_mtime_ns)
        for file in folder.rglob("*")
        if file.suffix in (".yaml", ".yml", ".json", ".py", ".wsdl", ".xsd", ".sql") and file.is_file()
    )
