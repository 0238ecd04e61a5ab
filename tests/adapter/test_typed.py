"""Adapters without a manifest's file: a function with type hints is a service."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, model_validator

from ngsp.adapter import Adapter, Failed, Interrupted, ManifestError, Refused, Request, Unavailable
from ngsp.registry.manifest_documents import ManifestDocument
from ngsp.registry.manifests import check_manifest
from tests.adapter import typed_desk
from tests.adapters.door import door_to

TITLE = ("Tra cứu", "Look-up")


def test_a_whole_adapter_is_fifteen_lines() -> None:
    source = inspect.getsource(typed_desk).split('"""', 2)[2]
    assert len([line for line in source.splitlines() if line.strip()]) <= 15


async def test_it_serves_and_raises_what_it_means(tmp_path: Path) -> None:
    async with door_to(typed_desk.adapter, tmp_path) as door:
        assert await door.answer({"commune": "01273"}) == {"hours": "7:30–11:30"}
        missing = await door.ask({"commune": "1"})
    assert (missing.status, missing.code) == ("not-found", "KHONG-CO-XA")


def test_its_registration_is_closed_and_what_the_registry_takes() -> None:
    registration = typed_desk.adapter.manifest.registration()
    (service,) = registration["services"]
    texts = {"vi": "Tra cứu bộ phận một cửa", "en": "One-stop desk look-up"}
    assert service["request_schema"]["properties"]["commune"]["type"] == "string"
    assert service["request_schema"]["additionalProperties"] is False
    assert service["reply_schema"]["required"] == ["hours"]
    assert (service["mode"], service["effect"], service["deadline_s"]) == ("query", "idempotent", 5.0)
    assert service["title"] == service["description"] == texts
    check_manifest("h14-desk", ManifestDocument.model_validate(registration), 1 << 20)


class Person(BaseModel):
    name: str = Field(alias="hoTen")
    born: date


@dataclass
class Family:
    people: list[Person]
    note: str | None = None


@dataclass
class Count:
    people: int
    first: str


class Span(BaseModel):
    start: date
    end: date

    @model_validator(mode="after")
    def _in_order(self) -> Span:
        if self.end < self.start:
            raise ValueError("not in order")
        return self


def made(function: Callable[..., Any], **promise: Any) -> Adapter:
    adapter = Adapter.named("h14-test", "H14")
    adapter.service("test", "v1", **({"title": TITLE} | promise))(function)
    return adapter


async def test_dataclasses_and_the_request(tmp_path: Path) -> None:
    async def count(family: Family, request: Request) -> Count:
        return Count(len(family.people), f"{family.people[0].born.year} {request.officer}")

    payload = {"people": [{"hoTen": "Lê Lợi", "born": "1985-05-17"}]}
    async with door_to(made(count), tmp_path) as door:
        assert await door.answer(payload, officer="canbo-1") == {"people": 1, "first": "1985 canbo-1"}


async def test_the_answer_is_written_as_its_type_says(tmp_path: Path) -> None:
    async def echo(person: Person) -> Person:
        return person

    async with door_to(made(echo), tmp_path) as door:
        payload = {"hoTen": "Đỗ Mười Một", "born": "2001-01-02"}
        assert await door.answer(payload) == payload


async def test_an_answer_of_another_type_is_a_fault_of_the_adapter(tmp_path: Path) -> None:
    async def wrong(family: Family) -> Count:
        found: Any = {"people": "many"}
        answer: Count = found
        return answer

    async with door_to(made(wrong), tmp_path) as door:
        reply = await door.ask({"people": []})
    assert (reply.status, reply.code) == ("failed", "adapter-error")


async def test_a_rule_that_no_schema_can_say_is_a_refusal(tmp_path: Path) -> None:
    async def days(span: Span) -> int:
        return (span.end - span.start).days

    async with door_to(made(days), tmp_path) as door:
        assert await door.answer({"start": "2025-07-01", "end": "2025-07-11"}) == 10
        reply = await door.ask({"start": "2025-07-11", "end": "2025-07-01"})
    assert (reply.status, reply.code) == ("refused", "invalid-request")


@pytest.mark.parametrize(
    ("error", "status"),
    [(Refused("A"), "refused"), (Unavailable("A"), "retry"), (Failed("A"), "failed"), (Interrupted("A"), "unknown")],
)
async def test_each_error_has_its_outcome(tmp_path: Path, error: Exception, status: str) -> None:
    async def fails(family: Family) -> Count:
        raise error

    async with door_to(made(fails), tmp_path) as door:
        reply = await door.ask({"people": []})
    assert (reply.status, reply.code) == (status, "A")


async def test_schemas_in_the_decorator(tmp_path: Path) -> None:
    async def serve(request: Request) -> object:
        return {"asked": request.payload, "id": request.id}

    adapter = made(
        serve,
        request_schema={"type": "object"},
        reply_schema={"type": "object"},
        mode="submission",
        effect="uncertain",
        deadline_s=86_400,
        description=("Mô tả", "Description"),
        officer_required=True,
    )
    (service,) = adapter.manifest.called
    assert (service.mode, service.effect, service.officer_required) == ("submission", "uncertain", True)
    assert service.description.vi == "Mô tả"
    async with door_to(adapter, tmp_path) as door:
        assert (await door.answer({"a": 1}))["asked"] == {"a": 1}


def test_several_services_of_one_adapter() -> None:
    adapter = made(typed_desk.one_stop_desk)
    adapter.service("test", "v2", title=TITLE, deadline_s=9)(typed_desk.one_stop_desk)
    assert {path: service.deadline_s for path, service in adapter.declared().items()} == {
        "H14/test/v1": 5.0,
        "H14/test/v2": 9.0,
    }


async def no_hints(asked, request):  # type: ignore[no-untyped-def]
    return None


async def the_request_alone(request: Request) -> Count:
    raise NotImplementedError


async def no_result(asked: Family):  # type: ignore[no-untyped-def]
    return None


async def no_such_name(asked: Nowhere) -> Count:  # type: ignore[name-defined]  # noqa: F821
    raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "promise", "told"),
    [
        (no_hints, {}, "Needs the types of argument and result"),
        (the_request_alone, {}, "Needs the types of argument and result"),
        (no_result, {}, "Needs the types of argument and result"),
        (no_such_name, {}, "Needs the types of argument and result"),
        (typed_desk.one_stop_desk, {"title": None}, "Give title=(Vietnamese, English)."),
        (typed_desk.one_stop_desk, {"title": ("Một",)}, "/services/0/title/en: A required field is missing."),
        (typed_desk.one_stop_desk, {"reply_schema": {}}, "Give both schemas, or neither."),
        (typed_desk.one_stop_desk, {"mode": "push"}, "/services/0/mode: Must be one of: 'query' or 'submission'."),
        (typed_desk.one_stop_desk, {"retries": 3}, "/services/0/retries: There is no key 'retries'"),
        (typed_desk.one_stop_desk, {"subjects": ["/nobody"]}, "/services/0/subjects/0: The request schema has no such"),
    ],
)
def test_what_is_wrong_is_told_with_the_function_s_line(
    monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any], promise: dict[str, Any], told: str
) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")
    adapter = Adapter.named("h14-test", "H14")
    given = {name: value for name, value in ({"title": TITLE} | promise).items() if value is not None}
    with pytest.raises(ManifestError) as found:
        adapter.service("test", "v1", **given)(function)
    mistake = found.value.mistakes[0]
    assert str(mistake.file) == inspect.getsourcefile(function)
    assert mistake.line == inspect.getsourcelines(function)[1]
    assert told in str(found.value)


def test_an_id_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")
    with pytest.raises(ManifestError, match="/id: Must be of the form"):
        Adapter.named("../up", "H14").service("test", "v1", title=TITLE)(typed_desk.one_stop_desk)


def test_a_manifest_is_not_promised_twice(tmp_path: Path) -> None:
    adapter = Adapter(typed_desk.adapter.manifest)
    with pytest.raises(ManifestError, match="h14-desk"):
        adapter.service("one-stop-desk", "v1", title=TITLE)
