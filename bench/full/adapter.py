"""The full path's adapter: declared like any other, answers about 1 KB."""

from __future__ import annotations

from pathlib import Path

import orjson

from ngsp.adapter import Adapter, Request

REPLY = orjson.dumps({"status": "found", "citizen": {"id": "900000000001", "note": "r" * 940}})

adapter = Adapter.load(Path(__file__).with_name("manifest.yaml"))


@adapter.service("echo", "v1")
async def echo(request: Request) -> object:
    return REPLY
