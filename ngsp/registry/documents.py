"""The documents that describe members, clients, adapters, agreements and the like, as REST and YAML bring them.

Closed and strict: an unknown field, another type or a text with invisible characters is refused, never guessed at.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ngsp.messages import (
    IDENTIFIER,
    MEMBER_CODE,
    OLD_MEMBER_CODE,
    TRANSACTION_ID,
)
from ngsp.registry.model import Scope, Zone
from ngsp.registry.pointers import check_pointer
from ngsp.registry.routes import LONGEST_PATH, ROOTS, path_faults
from ngsp.registry.texts import Wrong, clean, read_day, read_moment, shaped
from ngsp.text import Text

LARGEST_QUOTA = 1_000_000_000
HEADER_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
SECRET_HEADERS = frozenset(("authorization", "cookie", "lgspaccesstoken", "proxy-authorization", "x-api-key"))
"""No expression may read these: what proves a caller must not come into a payload or a log."""

Day = Annotated[date, BeforeValidator(read_day)]
Moment = Annotated[datetime, BeforeValidator(read_moment)]
Name = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(clean)]
Basis = Annotated[str, Field(max_length=2000), AfterValidator(lambda text: text and clean(text, lines=True))]
Prose = Annotated[str, Field(min_length=1, max_length=4000), AfterValidator(lambda text: clean(text, lines=True))]


def _member_code(value: str) -> str:
    return shaped(value, MEMBER_CODE, Text("Mã cơ quan", "The member code"))


def _old_member_code(value: str) -> str:
    return value and shaped(value, OLD_MEMBER_CODE, Text("Mã theo QCVN 102", "The QCVN 102 code"))


def _identifier(value: str) -> str:
    return shaped(value, IDENTIFIER, Text("Định danh", "The identifier"))


def _path(value: str) -> str:
    if wrong := next(path_faults(value), None):
        raise Wrong(wrong)
    return value


def _header(value: str) -> str:
    shaped(value, HEADER_NAME, Text("Tên tiêu đề (chữ thường)", "The header's name, in lower case"))
    if value in SECRET_HEADERS:
        raise Wrong(Text("Tiêu đề này mang bí mật.", "This header carries a secret."))
    return value


def _agreement_name(value: str) -> str:
    consumer, slash, reference = value.partition("/")
    if slash:
        return f"{_member_code(consumer)}/{_identifier(reference)}"
    return shaped(value, TRANSACTION_ID, Text("Mã thỏa thuận", "The agreement's id"))


MemberCode = Annotated[str, Field(max_length=35), AfterValidator(_member_code)]
OldMemberCode = Annotated[str, Field(max_length=35), AfterValidator(_old_member_code)]
Identifier = Annotated[str, Field(max_length=64), AfterValidator(_identifier)]
AgreementName = Annotated[str, Field(max_length=110), AfterValidator(_agreement_name)]
Formula = Annotated[str, Field(min_length=1, max_length=2000)]
Pointer = Annotated[str, Field(max_length=500), AfterValidator(check_pointer)]


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class Bilingual(Document):
    """A short text in both languages."""

    vi: Name
    en: Name


class BilingualProse(Document):
    """A text of several lines in both languages."""

    vi: Prose
    en: Prose


def _not_backwards(valid_from: date | None, valid_to: date | None) -> None:
    if valid_from is not None and valid_to is not None and valid_to <= valid_from:
        raise Wrong(Text("valid_to phải sau valid_from.", "valid_to must be after valid_from."))


class MemberDocument(Document):
    """An organisation. Days begin at midnight in Viet Nam; `valid_to` is the first on which it is none any more."""

    name: Bilingual
    old_code: OldMemberCode = ""
    valid_from: Day
    valid_to: Day | None = None
    zone: Zone

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        _not_backwards(self.valid_from, self.valid_to)
        return self


def check_sandbox_scopes(sandbox: bool, scopes: list[Scope]) -> None:
    if sandbox and set(scopes) - {"exchange"}:
        raise Wrong(
            Text("Hệ thống thử nghiệm chỉ có quyền exchange.", "A client of the sandbox has the scope exchange only.")
        )


class ClientDocument(Document):
    """A member's system. `secret`: `generate` makes a new one, shown once; `none` removes it; `keep` leaves it.

    Where nothing is said a new client gets a secret and an existing one keeps what it has. `sandbox`: its calls are
    answered from examples; it may call and nothing else, and stays what it is.
    """

    member: MemberCode
    name: Bilingual
    scopes: Annotated[list[Scope], Field(max_length=10)]
    active: bool = True
    secret: Literal["generate", "none", "keep"] | None = None
    sandbox: bool = False

    @model_validator(mode="after")
    def _calls_only(self) -> Self:
        check_sandbox_scopes(self.sandbox, self.scopes)
        return self


class KeyDocument(Document):
    """A public key (JWK) for `private_key_jwt`. Without `kid` its RFC 7638 thumbprint is taken."""

    alg: Literal["ES256", "EdDSA"]
    jwk: dict[str, Any]
    kid: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")] | None = None
    valid_from: Moment | None = None
    valid_to: Moment | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        _not_backwards(self.valid_from, self.valid_to)
        return self


class HeartbeatDocument(Document):
    """An adapter's sign of life. `schemas`: service path → the schema version (both digests) it serves.

    Of the process that sends it: `breakers`, name → state of those before the systems behind it; `in_work`, requests
    taken and not answered; `paused`, services of which it takes no more for now; `troubles`, codes of what else is
    wrong with it. `process`: its name among the processes of the adapter; `probe`: it answers probes.
    """

    build: Annotated[str, Field(max_length=100), AfterValidator(clean)]
    schemas: dict[Annotated[str, Field(max_length=200)], Annotated[str, Field(pattern=r"^[0-9a-f]{16}\.[0-9a-f]{16}$")]]
    breakers: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")], Literal["closed", "open", "half-open"]],
        Field(max_length=50),
    ] = {}
    in_work: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    paused: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=200)] = []
    process: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}$")] = "-"
    probe: bool = False
    troubles: Annotated[list[Annotated[str, Field(pattern=r"^[a-z][a-z-]{0,39}$")]], Field(max_length=20)] = []

    @model_validator(mode="after")
    def _few(self) -> Self:
        paths = (*self.schemas, *self.paused)
        if len(self.schemas) > 200 or not all(path.isascii() and path.isprintable() for path in paths):
            raise Wrong(Text("Danh sách dịch vụ không hợp lệ.", "The list of services is not valid."))
        return self


class TermsDocument(Document):
    """What an agreement version grants. `fields`: pointers into the reply, `*` for every item, `""` for the whole.

    `valid_from`, `valid_to`: moments, or days for the midnights in Viet Nam that begin them; `valid_to` is exclusive.
    """

    purposes: Annotated[list[Identifier], Field(min_length=1, max_length=50)]
    legal_basis: Annotated[str, Field(max_length=2000), AfterValidator(lambda text: clean(text, lines=True))]
    fields: Annotated[list[Pointer], Field(min_length=1, max_length=200)]
    quota_per_minute: Annotated[int, Field(ge=1, le=LARGEST_QUOTA)] | None = None
    quota_per_day: Annotated[int, Field(ge=1, le=LARGEST_QUOTA)] | None = None
    valid_from: Moment | None = None
    valid_to: Moment | None = None
    consent_required: bool = False

    @model_validator(mode="after")
    def _whole(self) -> Self:
        _not_backwards(self.valid_from, self.valid_to)
        if len(set(self.fields)) != len(self.fields) or len(set(self.purposes)) != len(self.purposes):
            raise Wrong(Text("Có phần tử lặp lại.", "An item is given twice."))
        return self


class ProposalDocument(TermsDocument):
    """A new agreement. `service`: `provider/name/version`; `reference`: the consumer's own number for it."""

    consumer: MemberCode
    service: Annotated[str, Field(max_length=200)]
    reference: Identifier | None = None


class ReasonDocument(Document):
    """Why an agreement is suspended, resumed, withdrawn or revoked, or an adapter retired."""

    reason: Prose
    legal_basis: Basis = ""


class StateDocument(Document):
    """What is decided of a service. `from`, `until`: of a maintenance; it begins at once where nothing is said."""

    model_config = ConfigDict(**Document.model_config | {"populate_by_name": True})

    state: Literal["active", "disabled", "maintenance", "retired"]
    reason: Annotated[str, Field(max_length=4000), AfterValidator(lambda text: text and clean(text, lines=True))] = ""
    legal_basis: Basis = ""
    from_: Annotated[Moment | None, Field(alias="from")] = None
    until: Moment | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.state != "active" and not self.reason:
            raise Wrong(Text("Cần nêu lý do (reason).", "Give the reason."))
        if (self.until is not None) != (self.state == "maintenance") or (self.from_ is not None and self.until is None):
            raise Wrong(Text("Bảo trì, và chỉ bảo trì, có until.", "A maintenance, and nothing else, has until."))
        if self.from_ is not None and self.until is not None and self.until <= self.from_:
            raise Wrong(Text("until phải sau from.", "until must be after from."))
        return self


class ProbeDocument(Document):
    """How an adapter is probed. `service`: by whose topic, its first where none is given; `backend`: the system behind
    it is asked for something harmless too."""

    service: Annotated[str, Field(max_length=200)] = ""
    backend: bool = False
    timeout_s: Annotated[float, Field(ge=0.1, le=30)] = 5.0


class RefusalDocument(Document):
    """A refusal names its reason and its legal basis, in writing (NĐ 194/2025/NĐ-CP)."""

    reason: Prose
    legal_basis: Prose


class RouteDocument(Document):
    """A compatible route: an old address, its service, and JMESPath expressions from the old shape and back.

    Either `purpose` or `purpose_from`. `agreements`: ids, or `consumer/reference`; only for consumers with several that
    fit. `query`, `headers`: the names that are read; another query member is refused. The expressions and what they
    may name: `ngsp/registry/routes.py`.
    """

    title: Bilingual
    methods: Annotated[list[Literal["GET", "POST"]], Field(min_length=1, max_length=2)]
    path: Annotated[str, Field(max_length=LONGEST_PATH), AfterValidator(_path)]
    service: Annotated[str, Field(max_length=200)]
    agreements: Annotated[list[AgreementName], Field(max_length=100)] = []
    active: bool = True
    query: Annotated[list[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]], Field(max_length=50)] = []
    headers: Annotated[list[Annotated[str, AfterValidator(_header)]], Field(max_length=20)] = []
    purpose: Identifier | None = None
    purpose_from: Formula | None = None
    officer: Formula | None = None
    dossier: Formula | None = None
    procedure: Formula | None = None
    consent: Formula | None = None
    key: Formula | None = None
    request: Any = None
    reply: Any = None
    accepted: Any = None
    error: Any = None
    tables: dict[Identifier, dict[str, Any]] = {}

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.purpose is None) == (self.purpose_from is None):
            raise Wrong(
                Text("Ghi đúng một: purpose hoặc purpose_from.", "Give one of the two: purpose or purpose_from.")
            )
        for items in (self.methods, self.query, self.headers, self.agreements):
            if len(set(items)) != len(items):
                raise Wrong(Text("Có phần tử lặp lại.", "An item is given twice."))
        return self

    def terms(self) -> dict[str, Any]:
        """What is kept as one value: how requests are read and answers given; what was left out is left out."""
        names = ("query", "headers", "purpose", "tables", *ROOTS)
        return {name: value for name in names if (value := getattr(self, name)) not in (None, [], {})}
