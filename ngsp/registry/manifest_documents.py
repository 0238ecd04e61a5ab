"""The documents that describe what an adapter serves: its manifest, services that are called and services of events."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from ngsp.messages import EVENT_TYPE, SERVICE_NAME, VERSION_NAME, Effect
from ngsp.registry.documents import Bilingual, BilingualProse, Document, Identifier, MemberCode, Pointer
from ngsp.registry.pointers import check_pointer
from ngsp.registry.texts import CALLED_TAG, EVENTS_TAG, Wrong, shaped
from ngsp.text import Text

LONGEST_DEADLINE_S = 90 * 86_400.0
LONGEST_DELIVERY_S = 30 * 86_400.0
"""How long one event may be tried to be delivered."""
MOST_EVENT_TYPES = 50
LONGEST_EVENT_TYPE = 128


def _service_name(value: str) -> str:
    return shaped(value, SERVICE_NAME, Text("Tên dịch vụ", "The service's name"))


def _version_name(value: str) -> str:
    return shaped(value, VERSION_NAME, Text("Phiên bản dịch vụ", "The service's version"))


def _event_type(value: str) -> str:
    return shaped(value, EVENT_TYPE, Text("Loại sự kiện", "The type of event"))


def _order(value: str) -> str:
    if value in ("none", "dossier"):
        return value
    if not value.startswith("/") or "*" in check_pointer(value).split("/"):
        raise Wrong(
            Text(
                "Phải là none, dossier hoặc một con trỏ JSON.", "Must be none, dossier or a JSON pointer to one place."
            )
        )
    return value


def _mode(value: object) -> object:
    if value not in ("query", "submission"):
        raise Wrong(Text("Phải là query, submission hoặc event.", "Must be query, submission or event."))
    return value


ServiceName = Annotated[str, Field(max_length=64), AfterValidator(_service_name)]
VersionName = Annotated[str, AfterValidator(_version_name)]
EventTypeName = Annotated[str, Field(max_length=LONGEST_EVENT_TYPE), AfterValidator(_event_type)]


class ExampleDocument(Document):
    """A request that the service understands and, where it helps, what it is answered: the reply, or an `outcome`.

    `outcome`: another status than ok, as adapters answer it, with the provider's `code`.
    """

    title: Bilingual | None = None
    request: Any
    reply: Any = None
    outcome: Literal["not-found", "refused", "failed", "retry", "expired", "unknown"] | None = None
    code: Annotated[str, Field(pattern=r"^[A-Za-z0-9._/-]{0,64}$")] = ""

    @model_validator(mode="after")
    def _one_answer(self) -> Self:
        if self.outcome is not None and "reply" in self.model_fields_set:
            raise Wrong(Text("Chỉ dùng một: reply hoặc outcome.", "Give reply or outcome, not both."))
        if self.code and self.outcome is None:
            raise Wrong(Text("code đi cùng outcome.", "A code goes with an outcome."))
        return self


class ServiceDocument(Document):
    """One service of a manifest. `subjects`: pointers in the request to the identity numbers it is about. `order`:
    `none`, `dossier` or the pointer to what submissions are worked in order of."""

    service: ServiceName
    version: VersionName
    title: Bilingual
    description: BilingualProse
    mode: Annotated[Literal["query", "submission"], BeforeValidator(_mode)]
    effect: Effect
    deadline_s: Annotated[float, Field(gt=0, le=LONGEST_DEADLINE_S, allow_inf_nan=False)]
    max_body_bytes: Annotated[int, Field(ge=2, le=1 << 30)]
    request_schema: dict[str, Any]
    reply_schema: dict[str, Any]
    subjects: Annotated[list[Pointer], Field(max_length=20)] = []  # noqa: RUF012 - pydantic copies it
    officer_required: bool = False
    order: Annotated[str, Field(max_length=500), AfterValidator(_order)] = "none"
    examples: Annotated[list[ExampleDocument], Field(max_length=20)] = []  # noqa: RUF012 - pydantic copies it


class EventTypeDocument(Document):
    """One type of event. `schema`: of its `data`."""

    title: Bilingual
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class EventExampleDocument(Document):
    """A whole CloudEvent, as it is published."""

    title: Bilingual | None = None
    request: Any


class EventServiceDocument(Document):
    """One service of a manifest that is not called: its provider publishes events, of the types given, and subscribers
    are sent them. `deadline_s`: how long one delivery is tried. `subjects`: pointers in `data` to identity numbers."""

    service: ServiceName
    version: VersionName
    title: Bilingual
    description: BilingualProse
    mode: Literal["event"]
    deadline_s: Annotated[float, Field(gt=0, le=LONGEST_DELIVERY_S, allow_inf_nan=False)]
    max_body_bytes: Annotated[int, Field(ge=2, le=1 << 30)]
    events: Annotated[dict[EventTypeName, EventTypeDocument], Field(min_length=1, max_length=MOST_EVENT_TYPES)]
    subjects: Annotated[list[Pointer], Field(max_length=20)] = []  # noqa: RUF012 - pydantic copies it
    examples: Annotated[list[EventExampleDocument], Field(max_length=20)] = []  # noqa: RUF012 - pydantic copies it


def kind_of_service(value: object) -> str:
    """Which of the two kinds a service of a manifest is: the tag of its model, see `UNION_TAGS`."""
    mode = value.get("mode") if isinstance(value, dict) else getattr(value, "mode", "")
    return EVENTS_TAG if mode == "event" else CALLED_TAG


AnyServiceDocument = Annotated[
    Annotated[ServiceDocument, Tag(CALLED_TAG)] | Annotated[EventServiceDocument, Tag(EVENTS_TAG)],
    Discriminator(kind_of_service),
]


class ManifestDocument(Document):
    """What an adapter serves. A service that an earlier manifest had and this one lacks is retired."""

    id: Identifier
    provider: MemberCode
    services: Annotated[list[AnyServiceDocument], Field(min_length=1, max_length=200)]

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        if len({(service.service, service.version) for service in self.services}) != len(self.services):
            raise Wrong(Text("Một dịch vụ được khai báo hai lần.", "A service is declared twice."))
        return self
