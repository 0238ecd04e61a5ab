"""Answering a probe: an operator asks whether messages come through, end to end, and nobody's data is touched."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import structlog

from ngsp import __version__
from ngsp.adapter.definition import Adapter, AdapterError
from ngsp.messages import Envelope, Reply

log = structlog.get_logger(__name__)

ANSWER_MARGIN_S = 0.1
"""Left of the probe's time for the answer to travel back."""


async def answer_probe(adapter: Adapter, envelope: Envelope) -> Reply:
    """`ok` with the build and what it took, `expired` where it came too late. No inbox, no function of the author.

    A probe of the back end also asks that for something harmless of its own; the provider's records stay untouched.
    """
    began_ns = time.perf_counter_ns()
    left_s = envelope.deadline_ms / 1000 - time.time()
    if left_s <= 0:
        return Reply(envelope.id, envelope.service, "expired", probe=True)
    found: dict[str, Any] = {"build": __version__}
    if envelope.probe == "backend":
        found["backend"] = await _ask_backend(adapter, left_s - ANSWER_MARGIN_S)
    found["took_us"] = (time.perf_counter_ns() - began_ns) // 1000
    return Reply(envelope.id, envelope.service, "ok", orjson.dumps(found), probe=True)


async def _ask_backend(adapter: Adapter, limit_s: float) -> dict[str, Any]:
    """`state`: ok, failed (with the code of why) or none, where the adapter has no back end that can be probed."""
    if adapter.backend is None:
        return {"state": "none"}
    began_ns = time.perf_counter_ns()
    code = ""
    try:
        async with asyncio.timeout(max(0.0, limit_s)):
            await adapter.backend.probe()
    except TimeoutError:
        code = "backend-timeout"
    except AdapterError as error:
        code = error.code or "backend-failed"
    except Exception as error:  # noqa: BLE001  # whatever it is, the operator is told that it failed
        log.error("a probe of a back end failed", adapter=adapter.id, error=type(error).__name__)
        code = "adapter-error"
    took_us = (time.perf_counter_ns() - began_ns) // 1000
    return {"state": "failed" if code else "ok", "took_us": took_us} | ({"code": code} if code else {})
