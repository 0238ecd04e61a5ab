"""What the registry knows, as frozen values that the request path reads from memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import Any, Literal

import jsonschema_rs

from ngsp.errors import Fault
from ngsp.messages import Effect, Headers, Mode, ServiceKey, grant_headers
from ngsp.registry.routes import RouteTable
from ngsp.text import Text

Scope = Literal["exchange", "adapter", "registry", "operator", "auditor", "citizen"]
SCOPES: tuple[Scope, ...] = ("exchange", "adapter", "registry", "operator", "auditor", "citizen")
ServiceState = Literal["active", "disabled", "retired"]
Zone = Literal["national", "ministry", "province", "internet"]
AgreementState = Literal[
    "proposed", "accepted", "refused", "suspended", "revoked", "withdrawn", "superseded", "expired"
]

MOST_FAULTS = 20

PATTERNS = jsonschema_rs.RegexOptions(size_limit=1 << 20)
"""Patterns run in linear time and bounded memory, for schemas come from any provider. No look-around, no
back-references."""


@dataclass(frozen=True, slots=True)
class Member:
    """An organisation on the bus (cơ quan, đơn vị). `code`: QĐ 20/2020; `old_code`: QCVN 102, kept, never computed.

    `valid_from`, `valid_to`: days in Viet Nam, from midnight there; `valid_to` is the first day on which it is none.
    """

    code: str
    old_code: str
    name: Text
    valid_from: date
    valid_to: date | None
    zone: Zone

    def in_force(self, day: date) -> bool:
        """Whether it is a member on `day` in Viet Nam (`ngsp/vntime.py`)."""
        return self.valid_from <= day and (self.valid_to is None or day < self.valid_to)


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A client's public key (JWK, RFC 7517) for `private_key_jwt`. `alg`: ES256 or EdDSA, pinned for each key."""

    kid: str
    alg: Literal["ES256", "EdDSA"]
    jwk: dict[str, Any]
    valid_from: datetime
    valid_to: datetime | None


@dataclass(frozen=True, slots=True)
class Client:
    """A member's system that calls (hệ thống của cơ quan). `secret_hash`: argon2id, empty where it has only keys."""

    id: str
    member: str
    name: Text
    scopes: frozenset[str]
    active: bool
    secret_hash: str = field(default="", repr=False)
    keys: tuple[ClientKey, ...] = ()
    tokens_valid_from: datetime | None = None
    """Tokens issued earlier are refused: set when a secret or a key is revoked."""
    sandbox: bool = False
    """Its calls are answered from the services' examples and reach no adapter, ever."""


class Schema:
    """A JSON Schema (draft 2020-12), compiled once, and its digest. References outside the document are refused."""

    __slots__ = ("_names", "digest", "document", "validator")

    def __init__(self, document: dict[str, Any], digest: str) -> None:
        self.document = document
        self.digest = digest
        self.validator = jsonschema_rs.Draft202012Validator(
            document, validate_formats=True, pattern_options=PATTERNS, offline=True
        )
        self._names = frozenset(_property_names(document))

    def faults(self, value: Any) -> tuple[Fault, ...]:
        """What is wrong with `value`, at most 20 places; empty where it is valid. Never echoes the value."""
        if self.validator.is_valid(value):
            return ()
        found = []
        for error in self.validator.iter_errors(value):
            found.append(Fault(self._pointer(error.instance_path), describe_keyword(str(error.schema_path[-1]))))
            if len(found) == MOST_FAULTS:
                break
        return tuple(found)

    def _pointer(self, path: Sequence[str | int]) -> str:
        """Names the schema knows and indexes are shown; a name that came from the caller is `*`."""
        known = (step if isinstance(step, int) or step in self._names else "*" for step in path)
        return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in known)


def _property_names(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield from schema["properties"]
        for below in schema.values():
            yield from _property_names(below)
    elif isinstance(schema, list):
        for below in schema:
            yield from _property_names(below)


def describe_keyword(keyword: str) -> Text:
    """What a violated JSON Schema keyword means, without the value that violated it."""
    return _KEYWORDS.get(keyword, Text(vi=f"Không thỏa điều kiện «{keyword}».", en=f"Does not satisfy '{keyword}'."))


_KEYWORDS = {
    "required": Text("Thiếu trường bắt buộc.", "A required field is missing."),
    "additionalProperties": Text("Có trường không được khai báo.", "There is a field the schema does not know."),
    "unevaluatedProperties": Text("Có trường không được khai báo.", "There is a field the schema does not know."),
    "type": Text("Sai kiểu dữ liệu.", "Wrong type."),
    "pattern": Text("Không đúng dạng.", "Not of the required form."),
    "format": Text("Không đúng định dạng.", "Not of the required format."),
    "enum": Text("Không thuộc danh sách giá trị cho phép.", "Not one of the allowed values."),
    "const": Text("Không phải giá trị quy định.", "Not the required value."),
    "minLength": Text("Quá ngắn.", "Too short."),
    "maxLength": Text("Quá dài.", "Too long."),
    "minimum": Text("Nhỏ hơn giới hạn.", "Below the minimum."),
    "maximum": Text("Lớn hơn giới hạn.", "Above the maximum."),
    "minItems": Text("Quá ít phần tử.", "Too few items."),
    "maxItems": Text("Quá nhiều phần tử.", "Too many items."),
}


@dataclass(frozen=True, slots=True)
class Maintenance:
    """A time in which a service's system is away, announced: from `since` on, over at `until`."""

    since: datetime
    until: datetime

    def holds(self, now: datetime) -> bool:
        return self.since <= now < self.until


@dataclass(frozen=True, slots=True)
class EventType:
    """One type of event that a service publishes. `schema`: of the member `data`."""

    title: Text
    schema: Schema


@dataclass(frozen=True)
class Service:
    """What a provider offers (dịch vụ dữ liệu). `subjects`: JSON pointers in the request to identity numbers.

    `order`: `none`, `dossier`, or a JSON pointer in the request: submissions in which it is the same are worked one
    after the other, in the order of acceptance.
    `events`: of mode `event`, what its events are: type → schema of `data`. `request_schema` is then that of the whole
    CloudEvent but for `data`, and `subjects` are pointers in `data`.
    `reason`, `legal_basis`: of what was decided last of its state. `row_version`: its ETag.
    """

    key: ServiceKey
    title: Text
    description: Text
    mode: Mode
    effect: Effect
    deadline_s: float
    max_body_bytes: int
    request_schema: Schema
    reply_schema: Schema
    adapter: str
    subjects: tuple[str, ...] = ()
    officer_required: bool = False
    order: str = "none"
    state: ServiceState = "active"
    examples: tuple[dict[str, Any], ...] = ()
    maintenance: Maintenance | None = None
    reason: str = ""
    legal_basis: str = ""
    row_version: int = 1
    events: Mapping[str, EventType] = field(default_factory=dict)

    def away_until(self, now: datetime) -> datetime | None:
        """The end of the maintenance that `now` lies in, None where it lies in none."""
        return self.maintenance.until if self.maintenance is not None and self.maintenance.holds(now) else None

    def serves(self, now: datetime) -> bool:
        """Whether calls are passed on to it at `now`."""
        return self.state == "active" and self.away_until(now) is None

    @cached_property
    def path(self) -> str:
        return self.key.path

    @cached_property
    def schema_version(self) -> str:
        """Travels with each message: the first 16 hex digits of the digests of both schemas."""
        return f"{self.request_schema.digest[:16]}.{self.reply_schema.digest[:16]}"


@dataclass(frozen=True)
class Agreement:
    """One version of an agreement (thỏa thuận chia sẻ), immutable; amended by a further version.

    `fields`: JSON pointers into the reply, `*` for every item of an array, `("",)` for the whole.
    `quota_per_minute`, `quota_per_day`: calls, None for no limit. `valid_to` is exclusive.
    """

    id: str
    version: int
    consumer: str
    service: str
    purposes: frozenset[str]
    legal_basis: str
    fields: tuple[str, ...]
    quota_per_minute: int | None
    quota_per_day: int | None
    valid_from: datetime
    valid_to: datetime | None
    state: AgreementState
    consent_required: bool = False

    def in_force(self, now: datetime) -> bool:
        return self.state == "accepted" and self.valid_from <= now and (self.valid_to is None or now < self.valid_to)


NO_AGREEMENT = "sandbox"
"""Stands for the agreement where a call of the sandbox has none; no agreement's id looks so."""
OWN = "own"
"""Stands for the agreement where a member does with its own what needs none: publishes its events."""


@dataclass(frozen=True)
class Grant:
    """What a call may do: one service under one agreement version for one purpose. Shared by calls.

    `sandbox`: it is answered from the service's examples.
    """

    service: Service
    agreement: Agreement
    purpose: str
    sandbox: bool = False

    @cached_property
    def headers(self) -> Headers:
        return grant_headers(
            self.service.path, self.purpose, self.agreement.fields, self.service.schema_version, self.agreement.consumer
        )

    @cached_property
    def whole(self) -> bool:
        """True where the reply passes uncut, byte for byte."""
        return "" in self.agreement.fields


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """A secret that deliveries are signed with. `sealed`: its bytes (24 to 64, those that `whsec_…` writes in base64),
    sealed by the vault under `webhook_secret_name`. `valid_to`: until when it signs beside a newer one; None for the
    newest."""

    sealed: bytes = field(repr=False)
    valid_to: datetime | None = None


GAP = "gap"
"""Why a subscription is stopped that has not been sent all it was to be, for that is no longer kept: its owner says
where to go on from."""


def webhook_secret_name(subscription: str) -> str:
    """What a webhook's secret is bound to when it is sealed."""
    return f"webhook {subscription}"


@dataclass(frozen=True, slots=True)
class Subscription:
    """Who is sent the events of a service (đăng ký nhận sự kiện), under which agreement, and where to.

    `member`, `client`: whose it is. `types`: those wanted, empty for all. `receiver`: the service of the member's own
    that takes them (`provider/name/version`), empty where it is a webhook: then `url` has its address and `secrets`
    sign what is sent, newest first.
    """

    id: str
    member: str
    client: str
    service: str
    agreement: str
    purpose: str
    types: frozenset[str]
    receiver: str
    url: str
    secrets: tuple[WebhookSecret, ...]
    active: bool
    row_version: int = 1

    def wants(self, type: str) -> bool:
        return not self.types or type in self.types


@dataclass(frozen=True)
class Snapshot:
    """The whole registry at one revision; replaced, never changed.

    `agreements`: id → the version that governs: the newest that was ever accepted, else the newest.
    `by_consumer`: (member code, service path) → the agreements between them, whatever their state; of one agreement
    the governing version, and beside it the one before while that still holds. No two versions hold at one moment.
    """

    revision: int
    members: dict[str, Member]
    clients: dict[str, Client]
    services: dict[str, Service]
    agreements: dict[str, Agreement]
    by_consumer: dict[tuple[str, str], tuple[Agreement, ...]]
    routes: RouteTable = field(default_factory=RouteTable)
    subscriptions: Mapping[str, Subscription] = field(default_factory=dict)
    grants: dict[tuple[str, int, str], Grant] = field(default_factory=dict)

    def in_force(self, agreement_id: str, now: datetime) -> Agreement | None:
        """The version of the agreement that holds at `now`; None where it is suspended, ended, or not begun."""
        governing = self.agreements.get(agreement_id)
        if governing is None:
            return None
        versions = self.by_consumer.get((governing.consumer, governing.service), ())
        return next((version for version in versions if version.id == agreement_id and version.in_force(now)), None)

    def grant(self, service: Service, agreement: Agreement, purpose: str) -> Grant:
        key = (agreement.id, agreement.version, purpose)
        found = self.grants.get(key)
        if found is None:
            found = self.grants[key] = Grant(service, agreement, purpose)
        return found
