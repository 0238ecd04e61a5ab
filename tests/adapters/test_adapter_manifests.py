"""Every sample adapter's manifest, schemas and examples, as the registry would take them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from ngsp.adapter import Manifest
from ngsp.adapter.event_types import EventTypes
from ngsp.adapter.manifest import EventServiceManifest, ServiceManifest
from ngsp.demo.systems import ADAPTERS, WAITING
from ngsp.registry.manifest_documents import ManifestDocument
from ngsp.registry.manifests import check_manifest
from ngsp.registry.model import Schema
from ngsp.registry.schemas import subschemas

PROJECT = Path(__file__).parents[2]
MANIFESTS = sorted((PROJECT / "adapters").glob("*/manifest.yaml"))
INVALID = sorted((PROJECT / "schemas").glob("*/v1/examples/invalid/*.json"))


def _named(path: Path) -> str:
    return path.parent.name if path.name == "manifest.yaml" else f"{path.parts[-5]}:{path.stem}"


def test_the_demo_runs_each_of_them_but_those_that_wait() -> None:
    assert sorted(Manifest.load(path).id for path in MANIFESTS) == sorted([*ADAPTERS, *WAITING])


@pytest.mark.parametrize("path", MANIFESTS, ids=_named)
def test_registry_takes_the_manifest_with_its_examples(path: Path) -> None:
    manifest = Manifest.load(path)
    document = ManifestDocument.model_validate(manifest.registration())
    for service in check_manifest(manifest.id, document, 1 << 20):
        assert len(service.document.examples) >= 2
        for example in service.document.examples:
            if service.events:
                continue
            assert example.model_fields_set in ({"title", "request", "reply"}, {"title", "request", "outcome", "code"})


def _schemas(service: ServiceManifest | EventServiceManifest) -> list[dict[str, Any]]:
    if isinstance(service, EventServiceManifest):
        return list(service.schemas.values())
    return [service.request_schema, service.reply_schema]


@pytest.mark.parametrize("path", MANIFESTS, ids=_named)
def test_requests_are_closed_and_every_field_is_named_in_both_languages(path: Path) -> None:
    for service in Manifest.load(path).services:
        for schema in _schemas(service):
            for place, below in subschemas(schema):
                if isinstance(below, dict) and "object" in _types(below):
                    assert below.get("additionalProperties") is False, place
            for name, field in _fields(schema):
                title = field.get("title") or schema["$defs"][field["$ref"].removeprefix("#/$defs/")].get("title", "")
                assert re.search(r"\S / \S", title), name


def _types(schema: dict[str, Any]) -> list[str]:
    stated = schema.get("type", [])
    return [stated] if isinstance(stated, str) else stated


def _fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, below in subschemas(schema):
        if isinstance(below, dict) and len(place) >= 2 and place[-2] == "properties" and "oneOf" not in place:
            yield "/".join(map(str, place)), below


@pytest.mark.parametrize("path", INVALID, ids=_named)
def test_invalid_requests_are_refused_at_the_right_place(path: Path) -> None:
    folder, document = path.parents[2], orjson.loads(path.read_bytes())
    if (folder / "events").is_dir():
        types = {file.stem: orjson.loads(file.read_bytes()) for file in (folder / "events").iterdir()}
        faults = EventTypes(types).faults(document["request"])
    else:
        faults = Schema(orjson.loads((folder / "request.json").read_bytes()), "digest").faults(document["request"])
    assert {fault.pointer for fault in faults} == set(document["pointers"])


def test_each_service_shows_at_least_three_invalid_requests() -> None:
    for service in (PROJECT / "schemas").iterdir():
        assert len([path for path in INVALID if path.parts[-5] == service.name]) >= 3, service.name
