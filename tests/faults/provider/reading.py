"""A query: it changes nothing and may be repeated."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ngsp.adapter import Adapter, RecordNotFound, Request

adapter = Adapter.load(Path(__file__).with_name("reading.yaml"))


@adapter.service("read-entry", "v1")
async def read_entry(request: Request) -> object:
    order = request.payload
    print("begun", request.id, flush=True)  # stands in the log of the process
    await asyncio.sleep(order["delay_ms"] / 1000)
    if order["rule"] == "refuse":
        raise RecordNotFound
    return {"tx": request.id, "item": order["item"], "kept_back": "not granted"}
