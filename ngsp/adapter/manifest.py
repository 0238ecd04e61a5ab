"""The manifest of an adapter: which services it serves, with schemas, mode, effect and deadline.

As a file it is YAML with paths to schemas; as `PUT /v1/adapters/{id}` takes it, it is JSON with the schemas in it. With
`backend`, `call` and `reply` it is the whole adapter: see `ngsp.adapter.declaring`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from ngsp.adapter.events import DEFAULT_EVERY_S, LONGEST_EVERY_S
from ngsp.adapter.models import PART, Part, mistake, mistakes
from ngsp.errors import InvalidRegistration
from ngsp.registry.manifest_documents import LONGEST_DELIVERY_S, MOST_EVENT_TYPES, ManifestDocument, kind_of_service
from ngsp.registry.manifest_files import DEFAULTS, read_manifest, registered
from ngsp.registry.manifests import check_manifest
from ngsp.registry.texts import CALLED_TAG, EVENTS_TAG, Wrong, read_document
from ngsp.registry.yamlfiles import DocumentError, Source
from ngsp.text import Text

LARGEST_BODY_BYTES = 16 << 20


class ManifestError(ValueError):
    """The manifest cannot be used; the message names file, line and place, and says what to do.

    `mistakes`: each of them, where they are in a file; the message is one line for each.
    """

    def __init__(self, message: str = "", mistakes: Iterable[DocumentError] = ()) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__(message or "\n".join(map(str, self.mistakes)))


class Bilingual(Part):
    vi: Annotated[str, Field(min_length=1, max_length=2000)]
    en: Annotated[str, Field(min_length=1, max_length=2000)]


class ServiceManifest(Part):
    """One service as the adapter's author declares it. `deadline_s`: how long a call or submission may wait.

    `order`: `none`, `dossier` or a JSON pointer in the request: submissions with the same one are worked one after the
    other. `max_in_work`: requests for this service in work at once in one process, within the process's own bound.
    `cache_s`: seconds for which a reply may be given again to the same request, an expression.
    `call`, `reply`, `outcomes`: what the back end is asked, and what its answer means, as written; read by
    `ngsp.adapter.declaring`.
    """

    service: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=64)]
    version: Annotated[str, Field(pattern=r"^v[1-9]\d{0,3}$")]
    mode: Literal["query", "submission"] = DEFAULTS["mode"]
    effect: Literal["transactional", "idempotent", "uncertain"] = DEFAULTS["effect"]
    deadline_s: Annotated[float, Field(gt=0, le=86_400 * 90)]
    max_body_bytes: Annotated[int, Field(ge=2, le=LARGEST_BODY_BYTES)] = DEFAULTS["max_body_bytes"]
    title: Bilingual
    description: Bilingual
    request_schema: dict[str, Any]
    reply_schema: dict[str, Any]
    examples: list[dict[str, Any]] = Field(default_factory=list)
    subjects: list[str] = Field(default_factory=list)
    officer_required: bool = False
    order: Annotated[str, Field(max_length=500)] = "none"
    max_in_work: Annotated[int | None, Field(ge=1, le=10_000)] = None
    call: dict[str, Any] | None = None
    reply: Any = None
    outcomes: list[dict[str, Any]] = Field(default_factory=list)
    cache_s: str | None = None

    @property
    def declares(self) -> bool:
        """Whether something of its function is declared here."""
        return bool({"call", "reply", "outcomes", "cache_s"} & self.model_fields_set)


class EventTypeManifest(Part):
    """One type of event. `schema`: of its `data`; in a file, a path to it, or FOLDER/events/TYPE.json where the service
    has `schemas: FOLDER`."""

    model_config = ConfigDict(**PART | {"serialize_by_alias": True})

    title: Bilingual
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class SourceManifest(Part):
    """Where events come from: what the back end is asked every `every_s` seconds, and what its answer means.

    `items`: the list of what changed; `event`: what each becomes; `cursor`: what to go on from; `more`: whether there
    is more already. All but `every_s` as written; read by `ngsp.adapter.declaring`.
    """

    every_s: Annotated[float, Field(gt=0, le=LONGEST_EVERY_S)] = DEFAULT_EVERY_S
    call: dict[str, Any]
    outcomes: list[dict[str, Any]] = Field(default_factory=list)
    items: str
    event: dict[str, Any]
    cursor: str
    more: str | None = None


class EventServiceManifest(Part):
    """One service of events as the adapter's author declares it: nothing serves it, its provider publishes.

    `events`: type → what it is. `deadline_s`: how long one delivery to a subscriber is tried. `subjects`: pointers in
    `data`. `examples`: whole CloudEvents.
    """

    service: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=64)]
    version: Annotated[str, Field(pattern=r"^v[1-9]\d{0,3}$")]
    mode: Literal["event"]
    deadline_s: Annotated[float, Field(gt=0, le=LONGEST_DELIVERY_S)]
    max_body_bytes: Annotated[int, Field(ge=2, le=LARGEST_BODY_BYTES)] = DEFAULTS["max_body_bytes"]
    title: Bilingual
    description: Bilingual
    events: Annotated[dict[str, EventTypeManifest], Field(min_length=1, max_length=MOST_EVENT_TYPES)]
    examples: list[dict[str, Any]] = Field(default_factory=list)
    subjects: list[str] = Field(default_factory=list)
    source: SourceManifest | None = None

    @property
    def declares(self) -> bool:
        """Whether the back end is asked for them."""
        return self.source is not None

    @property
    def schemas(self) -> dict[str, dict[str, Any]]:
        """Type → the schema of its `data`."""
        return {name: event.schema_ for name, event in self.events.items()}


AnyServiceManifest = Annotated[
    Annotated[ServiceManifest, Tag(CALLED_TAG)] | Annotated[EventServiceManifest, Tag(EVENTS_TAG)],
    Discriminator(kind_of_service),
]


class Manifest(Part):
    """An adapter. `database_url_env` names the variable that holds the provider's database; never a value.

    `backend`: the provider's system, as written. `tables`: for the function `lookup`, by name. `outcomes`: rules for
    the answers of every service, after its own.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    provider: Annotated[str, Field(pattern=r"^[A-Z]\d{2}(\.[0-9A-Z]+)*$", max_length=35)]
    services: Annotated[list[AnyServiceManifest], Field(min_length=1, max_length=200)]
    database_url_env: Annotated[str | None, Field(pattern=r"^[A-Z][A-Z0-9_]+$")] = None
    backend: dict[str, Any] | None = None
    tables: dict[str, dict[str, Any]] = Field(default_factory=dict)
    outcomes: list[dict[str, Any]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        names = [f"{service.service}/{service.version}" for service in self.services]
        for name in names:
            if names.count(name) > 1:
                raise Wrong(Text(f"{name} được khai báo hai lần: hãy bỏ một.", f"{name} is declared twice: drop one."))
        return self

    @property
    def called(self) -> list[ServiceManifest]:
        """The services that its process serves: all but those of events."""
        return [service for service in self.services if isinstance(service, ServiceManifest)]

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read `path` and the schemas and examples it points to. ManifestError with every mistake and its remedy."""
        return load_manifest(path)[0]

    def registration(self) -> dict[str, Any]:
        """The JSON that `PUT /v1/adapters/{id}` takes: what concerns only the adapter's own process stays out."""
        return registered(self.model_dump(mode="json"))


def load_manifest(path: Path) -> tuple[Manifest, Source]:
    """The manifest and the file it stands in, whose lines tell where a mistake is."""
    try:
        source = read_manifest(path)
    except DocumentError as error:
        raise ManifestError(mistakes=[error]) from None
    return checked(source), source


def checked(source: Source) -> Manifest:
    """The manifest in `source`, schemas in place, fit to be registered. ManifestError with every mistake."""
    try:
        manifest = Manifest.model_validate(source.value)
    except ValidationError as error:
        raise ManifestError(mistakes=mistakes(source, "", error, source.value)) from None
    try:
        document = read_document(ManifestDocument, registered(source.value))
        check_manifest(manifest.id, document, LARGEST_BODY_BYTES)
    except InvalidRegistration as error:
        raise ManifestError(mistakes=[mistake(source, fault.pointer, fault.detail) for fault in error.faults]) from None
    return manifest
