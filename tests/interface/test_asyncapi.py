"""The AsyncAPI documents: valid by AsyncAPI's own schema, and true to what travels."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from ngsp import __version__
from ngsp.bus.base import Topic
from ngsp.config import Settings
from ngsp.local.postgres import LocalPostgres
from ngsp.messages import REPLY_STATUSES, REPLY_TOPIC_PREFIX, Envelope, Reply, uuid7
from ngsp.registry.asyncapi import REPLY_HEADERS, REQUEST_HEADERS, node_asyncapi, service_asyncapi
from ngsp.registry.model import Service, Snapshot
from ngsp.registry.pointers import resolve
from ngsp.serving import describe_bus
from ngsp.text import Language
from ngsp.topics import all_topics, working_groups
from tests.interface.test_service_snapshots import WRITTEN, events
from tests.support.gateway import running_gateway
from tests.support.registry import settings_for

VALIDATOR = jsonschema_rs.Draft7Validator(
    json.loads((Path(__file__).parent / "asyncapi" / "3.0.0.json").read_bytes()), validate_formats=True
)
PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")
WIDE = {
    "bus": "kafka",
    "kafka_bootstrap": "k1:9092, k2:9092",
    "kafka_partitions": 6,
    "kafka_replication": 3,
    "kafka_retention_s": 3600.0,
}


def check(document: dict[str, Any]) -> None:
    """By AsyncAPI's own JSON Schema; and what no schema can say: every reference leads somewhere, examples fit."""
    faults = [
        f"{'/'.join(map(str, error.instance_path))}: {error.message}" for error in VALIDATOR.iter_errors(document)
    ]
    assert faults == []
    for reference in references(document):
        resolve(document, reference)
    for name, message in document["components"]["messages"].items():
        headers = validator(document, f"#/components/messages/{name}/headers")
        assert not headers.is_valid({}), name
        if "payload" in message:
            payload = validator(document, f"{message['payload']['$ref']}/schema")
            for example in message.get("examples", ()):
                assert payload.is_valid(example["payload"]), name


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for below in value.values():
            yield from references(below)
    elif isinstance(value, list):
        for below in value:
            yield from references(below)


def validator(document: dict[str, Any], place: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({"$ref": place, **document})


def settings(**others: Any) -> Settings:
    return settings_for("postgresql://ngsp@/ngsp", **others)


async def test_every_service_of_the_catalogue(catalogue: dict[str, Service]) -> None:
    assert len(catalogue) > 10
    for path, service in catalogue.items():
        for wording in ("vi", "en"):
            document = service_asyncapi(service, "vi" if wording == "vi" else "en")
            check(document)
        if service.mode == "event":
            assert document["channels"].keys() == {"received"}
            continue
        name = path.replace("/", ".")
        serve = document["operations"]["serve"]
        assert serve["action"] == "receive"
        assert serve["bindings"]["kafka"]["groupId"]["const"] == f"ngsp.adapter.{service.adapter}"
        assert document["channels"][f"request.{name}"]["address"] == service.key.request_topic
        assert document["channels"]["reply"]["address"] is None
        assert serve["reply"]["address"] == {"location": "$message.header#/ngsp-reply-to"}
        payload = validator(document, f"#/components/schemas/{name}.reply/schema")
        for example in service.examples:
            if "reply" in example:
                assert payload.is_valid(example["reply"])
        assert not payload.is_valid(7)


@pytest.mark.parametrize("wording", ["vi", "en"])
def test_a_service_of_events_is_described_for_those_that_receive_them(wording: Language) -> None:
    service = events()
    document = service_asyncapi(service, wording)
    check(document)
    assert document["channels"].keys() == {"received"}
    assert document["channels"]["received"]["address"] is None, "the topic is that of the receiving service"
    assert document["channels"]["received"]["messages"].keys() == service.events.keys()
    payload = validator(document, f"#/components/schemas/{WRITTEN['type']}.event/schema")
    assert payload.is_valid(WRITTEN)
    assert payload.is_valid(WRITTEN | {"data": {}}), "an agreement may grant less"
    assert not payload.is_valid(WRITTEN | {"data": {"id": 1}})
    assert not payload.is_valid(WRITTEN | {"type": "vn.gov.h41.book.moved"})
    node = node_asyncapi([service], settings(), __version__)
    check(node)
    assert not any(service.path in name for name in node["operations"])


@pytest.mark.parametrize("embedded", [True, False])
async def test_the_node_names_every_topic_and_no_other(catalogue: dict[str, Service], embedded: bool) -> None:
    chosen = settings() if embedded else settings(**WIDE)
    document = node_asyncapi(catalogue.values(), chosen, __version__)
    check(document)
    snapshot = Snapshot(1, {}, {}, catalogue, {}, {})
    told = [
        Topic(kafka["topic"], kafka["partitions"], kafka["topicConfiguration"]["retention.ms"] / 1000)
        for kafka in (
            channel["bindings"]["kafka"] for channel in document["channels"].values() if "bindings" in channel
        )
    ]
    assert sorted(told, key=lambda topic: topic.name) == sorted(
        all_topics(snapshot, chosen), key=lambda topic: topic.name
    )
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert addresses == {topic.name for topic in told} | {REPLY_TOPIC_PREFIX + "{slot}", None}
    asked = {name for name, operation in document["operations"].items() if operation["action"] == "send"}
    assert asked == {f"ask.{path.replace('/', '.')}" for path, service in catalogue.items() if service.mode != "event"}
    taken = document["operations"]["take-outcomes"]["bindings"]["kafka"]["groupId"]["const"]
    assert taken == working_groups(snapshot)["ngsp.outcomes"]
    if embedded:
        assert "servers" not in document
    else:
        assert [server["host"] for server in document["servers"].values()] == ["k1:9092", "k2:9092"]
        replicas = document["channels"]["outcomes"]["bindings"]["kafka"]["replicas"]
        assert replicas == 3


@pytest.mark.parametrize(
    ("protocol", "told", "security"),
    [
        ("PLAINTEXT", "kafka", None),
        ("SSL", "kafka-secure", [{"type": "X509"}]),
        ("SASL_SSL", "kafka-secure", [{"type": "scramSha512"}]),
    ],
)
def test_brokers_are_told_and_no_secret(protocol: str, told: str, security: object) -> None:
    chosen = settings(**WIDE, kafka_security_protocol=protocol, kafka_username="bus", kafka_password="hidden")
    document = node_asyncapi([], chosen, __version__)
    check(document)
    server = document["servers"]["kafka-1"]
    assert (server["protocol"], server.get("security")) == (told, security)
    assert "hidden" not in json.dumps(document)
    assert "bus" not in json.dumps(document["servers"])


ENVELOPE = Envelope(
    id=uuid7(),
    service="G01.01/population-lookup/v1",
    deadline_ms=1_772_323_200_000,
    purpose="birth-registration",
    fields=("/SoDinhDanh", "/HoVaTen/*/Ten"),
    schema="0123456789abcdef.fedcba9876543210",
    reply_to="ngsp.reply.7",
    body=b"{}",
    attempt=2,
    consumer="G01.01",
    officer="canbo-0017",
    dossier="000.00.00.H41-261121-0001",
    traceparent="00-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
    begin_by_ms=1_772_323_100_000,
    order="0123456789abcdef" * 2,
)


def text_of(message: Envelope | Reply) -> dict[str, str]:
    return {name: value.decode() for name, value in message.headers()}


async def test_what_travels_has_the_headers_that_are_described(catalogue: dict[str, Service]) -> None:
    service = catalogue[ENVELOPE.service]
    document = service_asyncapi(service, "en")
    name = service.path.replace("/", ".")
    request = validator(document, f"#/components/messages/{name}.request/headers")
    whole = text_of(ENVELOPE)
    assert request.is_valid(whole)
    assert whole.keys() | {"ngsp-probe"} == {header.name for header in REQUEST_HEADERS}
    least = Envelope(ENVELOPE.id, service.path, 1, "p", ("",), ENVELOPE.schema, "ngsp.outcomes", b"", consumer="H41")
    assert request.is_valid(text_of(least))
    assert text_of(least).keys() == {header.name for header in REQUEST_HEADERS if header.required}
    for header in REQUEST_HEADERS:
        if header.name in whole and header.name != "ngsp-fields":
            assert not request.is_valid(whole | {header.name: "not of its form, ever!"}), header.name
            assert request.is_valid({n: v for n, v in whole.items() if n != header.name}) != header.required
    assert not request.is_valid(whole | {"ngsp-service": "H41/another/v1"})
    ok = validator(document, f"#/components/messages/{name}.ok/headers")
    no = validator(document, f"#/components/messages/{name}.no/headers")
    sample = text_of(Reply(ENVELOPE.id, service.path, "ok", code="A/b-1", adapter="g01"))
    for status in REPLY_STATUSES:
        reply = sample | {"ngsp-status": status}
        assert (ok.is_valid(reply), no.is_valid(reply)) == (status == "ok", status != "ok")
        assert reply.keys() | {"ngsp-probe"} == {header.name for header in REPLY_HEADERS}


def test_the_page_of_the_protocol_names_the_same_headers() -> None:
    for section, headers in (("A request", REQUEST_HEADERS), ("A reply", REPLY_HEADERS)):
        rows = re.findall(
            r"^\| `([a-z-]+)` \| ([^|]+) \|", PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0], re.MULTILINE
        )
        told = {name: "optional" not in form for name, form in rows if name in {h.name for h in headers}}
        assert told == {header.name: header.required for header in headers}


async def test_the_document_is_served(postgres: LocalPostgres, tmp_path: Path) -> None:
    async with running_gateway(postgres, tmp_path) as rig:
        answer = await rig.get("/asyncapi.json", by="operator")
        assert answer.status_code == 200, answer.text
        check(answer.json())
        assert (await rig.get("/asyncapi.json", by="caller")).status_code == 403
        assert (await rig.http.get("/asyncapi.json")).status_code == 401
        for language in ("vi", "en"):
            path = "/v1/services/H41/look-up/v1/asyncapi.json"
            answer = await rig.get(path, by="stranger", Accept_Language=language)
            check(answer.json())
            assert answer.json()["info"]["title"].startswith("Dịch vụ" if language == "vi" else "Service")
        assert (await rig.get("/v1/services/H41/nothing/v1/asyncapi.json")).status_code == 404


async def test_the_command_prints_it(catalogue_url: str) -> None:
    chosen = settings_for(catalogue_url)
    node = await describe_bus(chosen)
    assert node is not None
    check(node)
    assert await describe_bus(chosen, "G22/no-such/v1") is None
    assert chosen.kek is not None
    variables = {"NGSP_DATABASE_URL": catalogue_url, "NGSP_KEK": chosen.kek.get_secret_value(), "NGSP_LANGUAGE": "en"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ngsp", "bus", "describe", "G22/administrative-units/v1"),
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    check(json.loads(output))
    assert json.loads(output)["info"]["title"].endswith("messages on the bus")
