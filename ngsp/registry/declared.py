"""What a FILE or FOLDER declares: YAML documents → the same models that REST takes, in the order they can be applied.

    kind: member     code, and what `PUT /v1/members/{code}` takes
    kind: client     id, what `PUT /v1/clients/{id}` takes, `keys`; of the secret only `secret: generate` or
                     `secret_file: PATH`, never the secret
    kind: adapter    a manifest, with schemas in place or as paths; or `manifest: PATH`
    kind: service    service (its path), and what `PUT /v1/services/{path}/state` takes: what is decided of it
    kind: agreement  reference, what `POST /v1/agreements` takes, and `accepted: true`
    kind: compatible-route   id, and what `PUT /v1/compatible-routes/{id}` takes
    kind: subscription       id, member, and what `PUT /v1/subscriptions/{id}` takes; `secret_file: PATH` for the secret
                             of a webhook

Paths are relative to the file that names them. A file with `provider` and `services` and no `kind` is a manifest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from ngsp.registry.documents import (
    Bilingual,
    Document,
    Identifier,
    KeyDocument,
    MemberCode,
    MemberDocument,
    ProposalDocument,
    RouteDocument,
    StateDocument,
    check_sandbox_scopes,
)
from ngsp.registry.manifest_documents import ManifestDocument
from ngsp.registry.manifest_files import read_manifest, registered, whole
from ngsp.registry.model import Scope
from ngsp.registry.subscription_documents import SubscriptionDocument
from ngsp.registry.texts import Wrong, found_faults
from ngsp.registry.yamlfiles import DocumentError, Source, read_yaml
from ngsp.text import Text

KINDS = ("member", "client", "adapter", "service", "agreement", "compatible-route", "subscription")


class DeclaredMember(MemberDocument):
    """A member with its code."""

    kind: Literal["member"]
    code: MemberCode


class DeclaredClient(Document):
    """A client. Its secret is never in the file: made where it has none, and shown once or written to `secret_file`."""

    kind: Literal["client"]
    id: Identifier
    member: MemberCode
    name: Bilingual
    scopes: Annotated[list[Scope], Field(max_length=10)]
    active: bool = True
    keys: Annotated[list[KeyDocument], Field(max_length=20)] = []  # noqa: RUF012 - pydantic copies it
    secret: Literal["generate"] | None = None
    secret_file: Annotated[str, Field(min_length=1)] | None = None
    sandbox: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        check_sandbox_scopes(self.sandbox, self.scopes)
        if self.secret and self.secret_file:
            raise Wrong(Text("Chỉ dùng một: secret hoặc secret_file.", "Give secret or secret_file, not both."))
        return self


class DeclaredAdapter(ManifestDocument):
    """A manifest."""

    kind: Literal["adapter"]


class DeclaredService(StateDocument):
    """What is decided of a service. A maintenance that is over says nothing any more."""

    kind: Literal["service"]
    service: Annotated[str, Field(max_length=200)]


class DeclaredAgreement(ProposalDocument):
    """An agreement, known again by consumer and reference. `accepted`: both sides have accepted, says the operator."""

    kind: Literal["agreement"]
    reference: Identifier
    accepted: bool = False


class DeclaredRoute(RouteDocument):
    """A compatible route with its id."""

    kind: Literal["compatible-route"]
    id: Identifier


class DeclaredSubscription(SubscriptionDocument):
    """A subscription with its id. The secret of a webhook is made where it has none, and shown once or written to
    `secret_file`."""

    kind: Literal["subscription"]
    id: Identifier
    member: MemberCode
    client: Identifier
    secret_file: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _of_a_webhook(self) -> Self:
        if self.secret_file is not None and self.url is None:
            raise Wrong(Text("Chỉ webhook (url) có secret_file.", "Only a webhook (url) has a secret_file."))
        return self


Declared = (
    DeclaredMember
    | DeclaredClient
    | DeclaredAdapter
    | DeclaredService
    | DeclaredAgreement
    | DeclaredRoute
    | DeclaredSubscription
)
_MODELS: dict[str, type[Declared]] = {
    "member": DeclaredMember,
    "client": DeclaredClient,
    "adapter": DeclaredAdapter,
    "service": DeclaredService,
    "agreement": DeclaredAgreement,
    "compatible-route": DeclaredRoute,
    "subscription": DeclaredSubscription,
}


@dataclass(frozen=True, slots=True)
class Declaration:
    """One declared thing and where it stands."""

    source: Source
    document: Declared

    @property
    def name(self) -> str:
        if isinstance(self.document, DeclaredMember):
            return self.document.code
        if isinstance(self.document, DeclaredAgreement):
            return f"{self.document.consumer}/{self.document.reference}"
        if isinstance(self.document, DeclaredService):
            return self.document.service
        return self.document.id

    @property
    def place(self) -> str:
        return f"{self.source.file}:{self.source.line_of('')}"


def read_declarations(path: Path) -> tuple[list[Declaration], list[DocumentError]]:
    """Everything under `path` (a file, or a folder with its subfolders) and everything that is wrong there."""
    found: list[Declaration] = []
    errors: list[DocumentError] = []
    for file in _files(path, errors):
        try:
            sources = read_yaml(file)
        except DocumentError as error:
            errors.append(error)
            continue
        for source in sources:
            try:
                found.append(_declaration(source))
            except DocumentErrors as several:
                errors += several.errors
            except DocumentError as error:
                errors.append(error)
    found.sort(key=lambda declaration: KINDS.index(declaration.document.kind))
    return found, errors + _doubles(found)


def _files(path: Path, errors: list[DocumentError]) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    files = sorted(file for file in path.rglob("*") if file.suffix in (".yaml", ".yml") and file.is_file())
    if not files:
        errors.append(DocumentError(path, 1, Text("Không có tệp .yaml nào.", "There is no .yaml file in it.")))
    yield from files


class DocumentErrors(Exception):
    """Several at once, all of one document."""

    def __init__(self, errors: list[DocumentError]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = errors


def _declaration(source: Source) -> Declaration:
    if not isinstance(source.value, dict):
        raise source.wrong("", Text("Mỗi tài liệu là một bảng khóa – giá trị.", "A document maps names to values."))
    value = dict(source.value)
    kind = value.setdefault("kind", "adapter" if {"provider", "services"} <= value.keys() else None)
    if kind not in KINDS:
        expected = ", ".join(KINDS)
        raise source.wrong(
            "/kind", Text(f"«kind» phải là một trong: {expected}.", f"'kind' must be one of: {expected}.")
        )
    if kind == "adapter":
        source, value = _manifest(source, value)
    try:
        return Declaration(source, _MODELS[kind].model_validate(value))
    except ValidationError as error:
        faults = found_faults(error, names=True)
        raise DocumentErrors(
            [source.wrong(fault.pointer, _named(fault.pointer, fault.detail)) for fault in faults]
        ) from None


def _named(place: str, detail: Text) -> Text:
    return Text(vi=f"{place or '/'}: {detail.vi}", en=f"{place or '/'}: {detail.en}")


def _manifest(source: Source, value: dict[str, Any]) -> tuple[Source, dict[str, Any]]:
    """The manifest with its schemas and examples read in, and the file it stands in."""
    if "manifest" in value:
        if value.keys() != {"kind", "manifest"} or not isinstance(value["manifest"], str):
            raise source.wrong("/manifest", Text("Chỉ ghi kind và manifest.", "Give kind and manifest only."))
        source = read_manifest(source.file.parent / value["manifest"])
    else:
        source = whole(source)
    return source, {**registered(source.value), "kind": "adapter"}


def _doubles(found: list[Declaration]) -> list[DocumentError]:
    seen: dict[tuple[str, str], Declaration] = {}
    errors = []
    for declaration in found:
        first = seen.setdefault((declaration.document.kind, declaration.name), declaration)
        if first is not declaration:
            errors.append(
                declaration.source.wrong(
                    "",
                    Text(f"Đã khai báo ở {first.place}: hãy bỏ một.", f"Declared at {first.place} already: drop one."),
                )
            )
    return errors
