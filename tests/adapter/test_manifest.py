"""Manifests: what is wrong is named by file and place; what is right is served and registered as it was written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from ngsp.adapter import Adapter, Manifest, ManifestError, Request
from ngsp.adapter.runner import AdapterRunner
from ngsp.bus import EmbeddedBus
from ngsp.vault import Vault
from tests.adapter.office import KEY, manifest

SCHEMA = {"type": "object", "additionalProperties": False}


def service(**changes: Any) -> dict[str, Any]:
    found = {
        "service": "look-up",
        "version": "v1",
        "mode": "query",
        "effect": "idempotent",
        "deadline_s": 5,
        "max_body_bytes": 65_536,
        "title": {"vi": "Tra cứu", "en": "Look-up"},
        "description": {"vi": "Tra cứu", "en": "Look-up"},
        "request_schema": "schemas/request.json",
        "reply_schema": "schemas/reply.json",
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


def document(*services: Any, **changes: Any) -> dict[str, Any]:
    return {"id": "g22-office", "provider": "G22", "services": list(services) or [service()], **changes}


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    """Writes a manifest beside two good schemas and a folder with an example."""
    (tmp_path / "schemas" / "examples").mkdir(parents=True)
    for name in ("request", "reply"):
        (tmp_path / "schemas" / f"{name}.json").write_bytes(orjson.dumps(SCHEMA))
    (tmp_path / "schemas" / "examples" / "1.json").write_text('{"request": {}, "reply": {}}')

    def to_file(content: Any) -> Path:
        path = tmp_path / "manifest.yaml"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")
        return path

    return to_file


def complaint(path: Path) -> str:
    """What is wrong with the manifest at `path`, one line for each mistake, each with its line in the file."""
    with pytest.raises(ManifestError) as found:
        Manifest.load(path)
    message = str(found.value)
    assert all(re.match(re.escape(str(path)) + r":[0-9]+: ", line) for line in message.splitlines()), message
    return message


def test_what_is_right_is_loaded_with_its_schemas_and_examples(write: Callable[[Any], Path]) -> None:
    loaded = Manifest.load(write(document(service(examples="schemas/examples"))))
    (found,) = loaded.called
    assert (found.effect, found.max_body_bytes, found.request_schema) == ("idempotent", 65_536, SCHEMA)
    assert found.examples == [{"request": {}, "reply": {}}]


def test_the_providers_database_is_not_registered(write: Callable[[Any], Path]) -> None:
    loaded = Manifest.load(write(document(database_url_env="OFFICE_DATABASE_URL")))
    assert loaded.database_url_env == "OFFICE_DATABASE_URL"
    registered = loaded.registration()
    assert set(registered) == {"id", "provider", "services"}
    assert orjson.loads(orjson.dumps(registered)) == registered


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    assert "(No such file or directory)" in complaint(tmp_path / "manifest.yaml")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"id: [", r":1: Not valid YAML"),
        (b"id: g22\n  provider: G22\n", r":2: Not valid YAML"),
        (b"id: \xff\xfe", r":1: The file must be UTF-8"),
        (b"\na: !!python/object/apply:os.getcwd []", r":2: This YAML type"),
        (b"id: g22\nprovider: G22\nid: g22", r":3: 'id' twice: drop one"),
        (b"", r":1: Must hold exactly one document"),
        (b"id: g22\n---\nid: g23", r":1: Must hold exactly one document"),
        (b"- id: g22", r":1: Must hold exactly one document"),
        (b"just words", r":1: Must hold exactly one document"),
        (b"id: g22\nservices: words", r":2: /services: must be the list of services"),
        (b"id: g22", r":1: /services: must be the list of services"),
        (b"id: g22\nservices:\n  - words", r":3: /services/0: must map names to values"),
    ],
)
def test_a_file_that_is_no_manifest(write: Callable[[Any], Path], content: bytes, expected: str) -> None:
    assert re.search(expected, complaint(write(content)))


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (document(id="../up"), "/id"),
        (document(provider="g22"), "/provider"),
        (document(provider="G22.01; DROP"), "/provider"),
        (document(database_url_env="postgresql://user:secret@host/db"), "/database_url_env"),
        (document(unknown=1), "/unknown"),
        ({**document(), "services": []}, "/services"),
        (document(service(), service(version="v2", mode="push")), "/services/1/mode"),
        (document(service(effect="exactly-once")), "/services/0/effect"),
        (document(service(service="Look_Up")), "/services/0/service"),
        (document(service(version="1")), "/services/0/version"),
        (document(service(deadline_s=0)), "/services/0/deadline_s"),
        (document(service(deadline_s=None)), "/services/0/deadline_s"),
        (document(service(title={"vi": "Chỉ tiếng Việt"})), "/services/0/title/en"),
        (document(service(max_body_bytes=1 << 40)), "/services/0/max_body_bytes"),
        (document(service(request_schema=None)), "/services/0/request_schema"),
        (document(service(retries=3)), "/services/0/retries"),
    ],
)
def test_a_field_that_is_wrong(write: Callable[[Any], Path], content: Any, place: str) -> None:
    path = write(content)
    message = complaint(path)
    assert f": {place}: " in message
    if place.count("/") > 1 and content["services"][0].keys() >= {place.split("/")[-1]}:
        (line,) = (int(text.split(":")[1]) for text in message.splitlines())
        assert place.split("/")[-1] in path.read_text("utf-8").splitlines()[line - 1]
    assert "secret" not in message


@pytest.mark.parametrize("name", ["request_schema", "reply_schema"])
def test_a_schema_that_is_missing_or_no_json(write: Callable[[Any], Path], tmp_path: Path, name: str) -> None:
    second = service(version="v2", **{name: "schemas/none.json"})
    message = complaint(write(document(service(), second)))
    assert f": /services/1/{name}: " in message
    assert str(tmp_path / "schemas" / "none.json") in message
    (tmp_path / "schemas" / "none.json").write_text("{'single': 'quotes'}")
    assert f": /services/1/{name}: " in complaint(write(document(service(), second)))
    (tmp_path / "schemas" / "none.json").write_text("[]")
    assert "must hold a JSON object" in complaint(write(document(service(), second)))


def test_examples_that_are_missing_or_no_json(write: Callable[[Any], Path], tmp_path: Path) -> None:
    assert ": /services/0/examples: " in complaint(write(document(service(examples="schemas/none"))))
    (tmp_path / "schemas" / "examples" / "2.json").write_text("{")
    assert "2.json" in complaint(write(document(service(examples="schemas/examples"))))


def test_one_service_twice(write: Callable[[Any], Path]) -> None:
    message = complaint(write(document(service(), service(version="v2"), service())))
    assert "look-up/v1 is declared twice" in message


def test_a_function_for_a_service_that_is_not_declared() -> None:
    adapter = Adapter(manifest("idempotent", "some-office", "entry"))
    for name, version in (("other", "v1"), ("entry", "v2")):
        with pytest.raises(ManifestError, match=f"some-office declares no service H41/{name}/{version}"):
            adapter.service(name, version)


def test_two_functions_for_one_service() -> None:
    adapter = Adapter(manifest("idempotent", "some-office", "entry"))

    async def serve(request: Request) -> object:
        return {}

    adapter.service("entry", "v1")(serve)
    with pytest.raises(ManifestError, match="H41/entry/v1 is served twice"):
        adapter.service("entry", "v1")(serve)


async def test_a_declared_service_without_a_function_stops_the_start(tmp_path: Path) -> None:
    adapter = Adapter(manifest("idempotent", "some-office", "entry", "inquiry"))

    @adapter.service("entry", "v1")
    async def serve(request: Request) -> object:
        return {}

    runner = AdapterRunner(adapter, EmbeddedBus(), Vault(KEY), tmp_path)
    with pytest.raises(ManifestError, match="some-office: no function serves H41/inquiry/v1"):
        await runner.start()
