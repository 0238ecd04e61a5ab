"""Refusals as an OpenAPI document describes them: one response for each status, with the codes it may carry."""

from __future__ import annotations

from itertools import groupby
from typing import Any, Literal

from ngsp.errors import ERRORS, NgspError
from ngsp.text import Language, Text

Wording = Language | Literal["both"]
"""The language of a document; `both` where one document is for all."""

PROBLEM = "application/problem+json"
PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457. `code` không bao giờ đổi / never changes.",
    "required": ["type", "title", "status", "detail", "code", "remedy", "instance"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "pattern": "^/errors/[a-z0-9-]+$"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "instance": {"type": "string", "format": "uri-reference"},
        "code": {"type": "string", "pattern": "^[a-z0-9-]+$"},
        "remedy": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {
                    "pointer": {"type": "string", "description": "JSON Pointer (RFC 6901)"},
                    "detail": {"type": "string"},
                },
            },
        },
        "provider_code": {"type": "string", "description": "Mã riêng của nơi cung cấp / The provider's own code"},
        "outcome_unknown": {"type": "boolean"},
        "safe_to_repeat": {"type": "boolean"},
        "agreements": {"type": "array", "items": {"type": "string", "format": "uuid"}},
        "examples": {
            "type": "array",
            "items": {"type": "object", "properties": {"vi": {"type": "string"}, "en": {"type": "string"}}},
        },
    },
}

_INSTANCE = "/v1/transactions/0193517b-8f00-7a11-9b22-0123456789ab"
_MEMBERS: dict[str, dict[str, Any]] = {
    "record-not-found": {"provider_code": "KHONG-CO"},
    "provider-refused": {"provider_code": "TU-CHOI"},
    "provider-failed": {"provider_code": "LOI-HE-THONG"},
    "agreement-ambiguous": {"agreements": ["0193517b-0000-7a11-9b22-0123456789ab"]},
    "no-answer": {"outcome_unknown": True, "safe_to_repeat": True},
    "expired": {"outcome_unknown": False, "safe_to_repeat": True},
    "outcome-unknown": {"outcome_unknown": True, "safe_to_repeat": False},
    "no-example": {"examples": [{"vi": "Một chủ hộ", "en": "A head of a household"}]},
    "schema-mismatch": {"errors": [{"pointer": "/code", "detail": "Không đúng dạng."}]},
}
SANDBOX = "Ngsp-Sandbox"
_WAITS = (408, 409, 429, 502, 503)
_HEADERS: dict[str, tuple[Text, dict[str, Any]]] = {
    "Content-Language": (Text("Ngôn ngữ của lời văn", "The language of the texts"), {"type": "string"}),
    "Ngsp-Transaction": (
        Text("Mã giao dịch, nếu thuộc về một giao dịch", "The transaction it belongs to, where there is one"),
        {"type": "string", "format": "uuid"},
    ),
    "Retry-After": (Text("Số giây nên chờ", "Seconds to wait"), {"type": "integer", "minimum": 1}),
    "WWW-Authenticate": (Text("Cách xác thực", "How to authenticate"), {"type": "string"}),
    SANDBOX: (Text("Trả lời từ ví dụ của dịch vụ", "From the service's examples"), {"type": "string", "const": "true"}),
}


def worded(text: Text, wording: Wording) -> str:
    return f"{text.vi} / {text.en}" if wording == "both" else text.in_(wording)


def header(name: str, wording: Wording) -> dict[str, Any]:
    """The header object of one that several responses have."""
    text, schema = _HEADERS[name]
    return {"description": worded(text, wording), "schema": schema}


def problem_responses(wording: Wording) -> dict[str, dict[str, Any]]:
    """`components.responses`: `Problem404` and so on, and `Problem` for whatever else there may be."""
    found: dict[str, dict[str, Any]] = {}
    errors = sorted(ERRORS.values(), key=lambda error: (error.status, error.code))
    for status, group in groupby(errors, key=lambda error: error.status):
        found[f"Problem{status}"] = _response(status, list(group), wording)
    other = Text("Mọi lỗi khác cũng là tài liệu như vậy", "Any other error is such a document too")
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    headers = {"Content-Language": header("Content-Language", wording)}
    return found | {"Problem": {"description": worded(other, wording), "headers": headers, "content": content}}


def problem_references(*statuses: int) -> dict[str, dict[str, str]]:
    """`responses` of an operation: these statuses, and any other by `default`."""
    found = {str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in sorted(statuses)}
    return found | {"default": {"$ref": "#/components/responses/Problem"}}


def _response(status: int, errors: list[type[NgspError]], wording: Wording) -> dict[str, Any]:
    names = ["Content-Language", "Ngsp-Transaction", SANDBOX]
    names += ["Retry-After"] if status in _WAITS else []
    names += ["WWW-Authenticate"] if status == 401 else []
    examples = {error.code: _example(error, wording) for error in errors}
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": "; ".join(f"`{error.code}`: {worded(error.text().title, wording)}" for error in errors),
        "headers": {name: header(name, wording) for name in names},
        "content": {PROBLEM: {"schema": schema, "examples": examples}},
    }


def _example(error: type[NgspError], wording: Wording) -> dict[str, Any]:
    language = "vi" if wording == "both" else wording
    value = error(members=_MEMBERS.get(error.code)).problem(language, _INSTANCE)
    return {"summary": worded(error.text().title, wording), "value": value}
