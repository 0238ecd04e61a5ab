"""Manifests for tests of back ends, and adapters made of them."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ngsp.adapter import Adapter
from ngsp.adapter.addresses import VARIABLE
from tests.adapters.door import Door, door_to

LOCAL = {VARIABLE: "127.0.0.0/8"}
"""The tests' servers listen here, which no back end may without leave."""

_MANIFEST = """\
id: g12-test
provider: G12
backend:
{backend}
tables:
  forms: {{"01": tnhh, "03": co-phan}}
services:
  - service: test
    version: v1
    mode: {mode}
    effect: {effect}
    deadline_s: 60
    title: {{vi: Thử, en: Test}}
    description: {{vi: Thử, en: Test}}
    request_schema: {{type: object}}
    reply_schema: true_schema
{service}
"""


def manifest(backend: str, service: str, mode: str = "query", effect: str = "idempotent") -> str:
    """A manifest of one service; `backend` and `service` are YAML that goes in at its place."""
    return _MANIFEST.replace("true_schema", "{{}}").format(
        backend=textwrap.indent(textwrap.dedent(backend).strip(), "  "),
        service=textwrap.indent(textwrap.dedent(service).strip(), "    "),
        mode=mode,
        effect=effect,
    )


def load(folder: Path, text: str) -> Adapter:
    path = folder / "manifest.yaml"
    path.write_text(text, "utf-8")
    return Adapter.load(path)


@asynccontextmanager
async def served(folder: Path, text: str, **environment: str) -> AsyncIterator[Door]:
    """The adapter of the manifest `text`, served from a bus; `environment` is all that it sees."""
    async with door_to(load(folder, text), folder, (LOCAL | environment).get) as door:
        yield door
