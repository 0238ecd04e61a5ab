"""What is called and what comes back: plain values, the same for both clients."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict
from urllib.parse import quote

from ngsp.client.wire import Answer


class Defaults(TypedDict, total=False):
    """What a call says beside its payload; given with a call, or as a default of the client.

    `purpose` (mục đích): required, one of the agreement's. `agreement`: where several fit. `officer` (cán bộ),
    `dossier` (mã hồ sơ), `procedure` (mã thủ tục), `consent`: logged in the clear, never personal data. `traceparent`:
    W3C Trace Context. `deadline_s`: for all of it, repeats and the wait for a token too; of a query it is told to the
    bus as well. Empty text: as if it were not there, whatever the default.
    """

    purpose: str
    agreement: str
    officer: str
    dossier: str
    procedure: str
    consent: str
    traceparent: str
    deadline_s: float


class Options(Defaults, total=False):
    """The same and `key`, the idempotency key, which belongs to one call; `submit` makes one where there is none."""

    key: str


_HEADERS = {
    "purpose": "Ngsp-Purpose",
    "agreement": "Ngsp-Agreement",
    "officer": "Ngsp-Officer",
    "dossier": "Ngsp-Dossier",
    "procedure": "Ngsp-Procedure",
    "consent": "Ngsp-Consent",
    "traceparent": "traceparent",
    "key": "Idempotency-Key",
}
"""Option → header."""


def new_key() -> str:
    """An idempotency key (khóa chống lặp): random, one for each intended effect."""
    return str(uuid.uuid4())


def encoded(payload: object) -> bytes:
    """The bytes of a payload; bytes stay as they are, and reach the provider so. ValueError for NaN and the like."""
    if isinstance(payload, bytes):
        return payload
    return json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A submission that has its key and has not been sent: keep `key` and `body` with the dossier, then `send` it.

    Sent again, also by another run of the program that kept both, it is never done twice.
    """

    service: str
    body: bytes = field(repr=False)
    options: Options

    @property
    def key(self) -> str:
        return self.options["key"]


@dataclass(frozen=True, slots=True)
class Reply:
    """The provider's reply. `body`: the bytes as they came. `transaction`: what to quote when asking about it."""

    service: str
    transaction: str
    body: bytes = field(repr=False)

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission that was durably accepted. `reply`: where it had ended before, and this was a repeat."""

    service: str
    transaction: str
    key: str
    reply: Reply | None = None


def call_path(service: str, under: str = "/v1/services/") -> str:
    """The address of `provider/name/version`. ValueError where it cannot be one."""
    if service.count("/") != 2 or not all(service.split("/")):
        raise ValueError("a service is named provider/name/version")
    return under + quote(service, safe="/")


def call_headers(options: Mapping[str, object], *, asynchronously: bool, remaining_s: float) -> dict[str, str]:
    """The headers of a call; those without a value are left out."""
    found = {name: str(options[option]) for option, name in _HEADERS.items() if options.get(option)}
    found["Content-Type"] = "application/json"
    found["Prefer"] = "respond-async" if asynchronously else f"wait={min(9999, max(1, int(remaining_s)))}"
    return found


def reply_of(service: str, answer: Answer) -> Reply:
    return Reply(service, answer.headers.get("ngsp-transaction", ""), answer.body)
