"""Requests byte for byte, for what no HTTP library would send."""

from __future__ import annotations

import asyncio

import httpx

from tests.support.gateway import Rig

TIMEOUT_S = 10.0


async def head(rig: Rig, *fields: str, path: str = "/v1/services/H41/look-up/v1") -> bytes:
    headers = {"Host": "gateway", "Content-Type": "application/json"} | await rig.headers()
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, *fields, "", ""]).encode()


async def exchanged(rig: Rig, *parts: bytes) -> httpx.Response:
    """The answer to exactly these bytes, sent part by part on a connection of their own."""
    url = httpx.URL(rig.base_url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            for part in parts:
                writer.write(part)
                await writer.drain()
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).rstrip().split(b"\r\n")
            fields = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
            answer = httpx.Response(int(first.split()[1]), headers=fields)
            body = await reader.readexactly(int(answer.headers["Content-Length"]))
    finally:
        writer.close()
    return httpx.Response(answer.status_code, headers=fields, content=body)
