"""A submission whose effect cannot be taken back nor tied to the inbox: a line in a file, written through to disk."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from ngsp.adapter import Adapter, Refused, Request, Unavailable

adapter = Adapter.load(Path(__file__).with_name("notice.yaml"))


@adapter.service("send-notice", "v1")
async def send_notice(request: Request) -> object:
    order = request.payload
    if order["rule"] == "refuse":
        raise Refused("NOT-BY-THE-RULES")
    if order["rule"] == "retry" and request.envelope.attempt == 1:
        raise Unavailable("LATER")
    await asyncio.sleep(order["delay_ms"] / 2000)
    await asyncio.to_thread(_append, os.environ["NGSP_TEST_NOTICE_FILE"], f"{request.id}\n".encode())
    await asyncio.sleep(order["delay_ms"] / 2000)
    return {"tx": request.id, "item": order["item"]}


def _append(path: str, line: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
