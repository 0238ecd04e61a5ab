"""Every service of the catalogue that the portal has an agreement for, asked with its first example."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ngsp.client import AsyncClient, Options, errors
from ngsp.text import tr

REGISTRY = Path(__file__).parent / "registry"
CONSUMER = "G22"
OFFICER = "canbo-0017"
OUTCOME_TIMEOUT_S = 60.0


def purposes() -> dict[str, str]:
    """Service path → a purpose for which the demo's agreements let the portal call it."""
    return {
        agreement["service"]: agreement["purposes"][0]
        for agreement in _declared("agreement")
        if agreement["consumer"] == CONSUMER
    }


def _declared(kind: str) -> Iterator[dict[str, Any]]:
    for file in sorted(REGISTRY.glob("*.yaml")):
        for document in yaml.load_all(file.read_text("utf-8"), yaml.BaseLoader):
            if document["kind"] == kind:
                yield document


async def ask_every_service(portal: AsyncClient, mark: str) -> list[str]:
    """A line for each service: what it answered and how long it took.

    Queries one after the other, then all submissions, which are answered when they are done. A disabled service is not
    asked: its line says what it waits for. A provider's no is an answer: an example's birth is registered once only.
    Anything else that is no reply is raised.
    `mark`: makes the keys of submissions those of this run.
    """
    lines: dict[str, str] = {}
    submissions: list[dict[str, Any]] = []
    allowed = purposes()

    async def ask(service: dict[str, Any]) -> None:
        path, begun = service["path"], time.perf_counter()
        told = await _asked(portal, service, service["examples"][0]["request"], allowed[path], mark)
        lines[path] = f"{told:<28} {(time.perf_counter() - begun) * 1000:>5.0f} ms"

    async for service in portal.services():
        path = service["path"]
        lines[path] = "– " + tr("không có thỏa thuận", "no agreement")
        if service["state"] == "disabled":
            lines[path] = "– " + tr("chưa mở: ", "disabled: ") + service["reason"]
        elif service["mode"] == "event":
            lines[path] = "– " + tr("sự kiện: ", "events: ") + ", ".join(service["events"])
        elif path in allowed and service["examples"]:
            if service["mode"] == "query":
                await ask(service)
            else:
                submissions.append(service)
    await asyncio.gather(*(ask(service) for service in submissions))
    return [f"{path:<38} {line}" for path, line in lines.items()]


async def _asked(portal: AsyncClient, service: dict[str, Any], request: Any, purpose: str, mark: str) -> str:
    path: str = service["path"]
    options: Options = {"purpose": purpose, "officer": OFFICER}
    try:
        if service["mode"] == "query":
            await portal.call(path, request, **options)
            return tr("trả lời", "reply")
        options["key"] = f"demo-{mark}-{service['service']}"
        sent = await portal.submit(path, request, **options)
        await portal.wait(sent, deadline_s=OUTCOME_TIMEOUT_S)
        return tr("nhận, rồi trả lời", "accepted, then reply")
    except errors.ProviderAnswer as no:
        return f"{no.status} {no.provider_code or no.code}"
