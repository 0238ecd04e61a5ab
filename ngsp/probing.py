"""Probes: whether messages come through to an adapter and back, and how long each part of the way takes.

A probe goes the way of a query, with a header that marks it and without a body; the runner answers it, and no function
of the author, no inbox and none of the provider's records is touched (`ngsp/adapter/probing.py`). It is in the log as
what it is, before it is sent and again before it is answered: entries of kinds of their own, under nobody's agreement,
counted nowhere as a call.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

import orjson

from ngsp.asking import Asker
from ngsp.errors import BusUnavailable, Fault, InvalidRegistration, LogUnavailable, StateConflict
from ngsp.messages import Envelope, Probe, Reply, ServiceKey, uuid7
from ngsp.registry.adapters import AdapterRecord
from ngsp.registry.change import Actor
from ngsp.registry.store import Registry
from ngsp.text import Text
from ngsp.transactions.log import TransactionLog

PURPOSE: Final = "probe"
Outcome = Literal["ok", "no-answer", "failed"]


@dataclass(slots=True)
class Probed:
    """How a probe went. `what`: as far as it went. `code`: why it is not `ok`, empty where it is.

    `build`, `backend`: what the runner told of itself and of the system behind it. `timings_us`: `sent`, until the bus
    had it; `adapter`, within the runner, of which `backend` asking the system; `bus`, there and back; `total`.
    """

    id: str
    service: str
    what: Probe
    outcome: Outcome = "ok"
    code: str = ""
    build: str = ""
    backend: dict[str, Any] | None = None
    timings_us: dict[str, int] = field(default_factory=dict)


class Prober:
    """Probes from one gateway. `node`: its code, which stands where a call has its consumer."""

    def __init__(self, registry: Registry, asker: Asker, log: TransactionLog, node: str) -> None:
        self._registry, self._asker, self._log, self._node = registry, asker, log, node

    async def probe(self, actor: Actor, adapter: AdapterRecord, service: str, what: Probe, timeout_s: float) -> Probed:
        """Asks one process of the adapter, by the topic of `service` (empty: its first), and waits `timeout_s` at most.

        422 where the adapter has no such service, 409 where no process is known to answer probes, 503 where the log or
        the bus is away: nothing is sent then. 503 too where it cannot be logged how it went.
        """
        path = _service(adapter, service)
        if trouble := self._log.writer.trouble():
            raise LogUnavailable(retry_after_s=2, reason=trouble)
        if trouble := self._asker.trouble():
            raise BusUnavailable(retry_after_s=2, reason=trouble)
        probed = Probed(uuid7(), path, what)
        call = {"client": actor.client, "member": actor.member}
        asked = {"adapter": adapter.id, "service": path, "what": what}
        await self._log.probing(probed.id, call, asked)
        await self._ask(probed, timeout_s)
        await self._log.probed(probed.id, call, asked, probed.code, probed.timings_us)
        return probed

    async def _ask(self, probed: Probed, timeout_s: float) -> None:
        began_ns = time.perf_counter_ns()

        def sent(done: asyncio.Future[None]) -> None:
            probed.timings_us["sent"] = (time.perf_counter_ns() - began_ns) // 1000

        envelope = Envelope(
            id=probed.id,
            service=probed.service,
            deadline_ms=int((time.time() + timeout_s) * 1000),
            purpose=PURPOSE,
            fields=("",),
            schema=self._registry.snapshot.services[probed.service].schema_version,
            reply_to=self._asker.reply_topic,
            body=b"",
            consumer=self._node,
            probe=probed.what,
        )
        topic = ServiceKey.parse(probed.service).request_topic
        try:
            reply = await self._asker.ask(probed.id, topic, envelope.headers(), b"", timeout_s, on_sent=sent)
        except BusUnavailable:
            reply = None
            probed.outcome, probed.code = "failed", BusUnavailable.code
        else:
            _read(probed, reply)
        probed.timings_us["total"] = (time.perf_counter_ns() - began_ns) // 1000
        if reply is not None and "adapter" in probed.timings_us:
            probed.timings_us["bus"] = max(0, probed.timings_us["total"] - probed.timings_us["adapter"])


def _service(adapter: AdapterRecord, wanted: str) -> str:
    """The service by whose topic the adapter is asked; see `Prober.probe` for what is raised."""
    served = adapter.served
    if wanted and wanted not in served:
        unknown = Text("Bộ kết nối này không có dịch vụ này.", "This adapter has no such service.")
        raise InvalidRegistration(faults=(Fault("/service", unknown),), reason="not a service of the adapter")
    processes = adapter.alive(datetime.now(UTC)) or adapter.processes
    if not served or not processes or not all(process.probe for process in processes):
        raise StateConflict(
            Text(
                "Bộ kết nối chưa cho biết là nó trả lời được phép thử, nên không gửi: nó có thể coi đó là một yêu cầu.",
                "The adapter has not said that it answers probes, so none is sent: it might take one for a request.",
            ),
            reason="no process that answers probes",
        )
    return wanted or served[0]


def _read(probed: Probed, reply: Reply | None) -> None:
    """What the answer says; one that is none of a probe is a failure, not ours to understand."""
    if reply is None:
        probed.outcome, probed.code = "no-answer", "no-answer"
        return
    try:
        told = orjson.loads(reply.body) if reply.body else {}
        build, took_us, backend = str(told["build"]), int(told["took_us"]), told.get("backend")
        backend_us = int(backend.get("took_us", 0)) if backend is not None else 0
        state = str(backend["state"]) if backend is not None else "none"
    except (AttributeError, KeyError, TypeError, ValueError):
        probed.outcome, probed.code = "failed", reply.status if reply.status != "ok" else "bad-reply"
        return
    probed.build = build[:100]
    probed.timings_us["adapter"] = took_us
    if backend is not None:
        probed.backend = {"state": state[:20], "code": str(backend.get("code", ""))[:64]}
        probed.timings_us["backend"] = backend_us
        if state == "failed":
            probed.outcome, probed.code = "failed", "provider-unavailable"
