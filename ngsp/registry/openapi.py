"""One service as an OpenAPI 3.1 document: what its callers generate code from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ngsp.messages import IDENTIFIER
from ngsp.registry.event_openapi import event_openapi
from ngsp.registry.model import Service
from ngsp.registry.problem_responses import (
    PROBLEM_SCHEMA,
    SANDBOX,
    Wording,
    header,
    problem_references,
    problem_responses,
    worded,
)
from ngsp.registry.schemas import DIALECT, embedded, of_what_is_left
from ngsp.text import LANGUAGES, Language, Text

CALL_STATUSES = (400, 401, 403, 404, 406, 408, 409, 410, 413, 414, 415, 422, 428, 429, 431, 500, 502, 503, 504)
"""What a call may be refused with."""


@dataclass(frozen=True, slots=True)
class CallHeader:
    """A request header of a call. `pattern`: the form that the front door takes."""

    name: str
    text: Text
    example: str
    pattern: str = ""


CALL_HEADERS = (
    CallHeader(
        "Ngsp-Purpose",
        Text("Mục đích, theo thỏa thuận", "A purpose of the agreement"),
        "birth-registration",
        IDENTIFIER.pattern,
    ),
    CallHeader(
        "Ngsp-Agreement",
        Text("Khi có nhiều thỏa thuận phù hợp", "Where several agreements fit"),
        "0193517b-0000-7a11-9b22-0123456789ab",
        "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    ),
    CallHeader(
        "Ngsp-Officer", Text("Mã cán bộ yêu cầu", "The requesting officer"), "canbo-0017", "[A-Za-z0-9._@-]{1,64}"
    ),
    CallHeader(
        "Ngsp-Dossier",
        Text("Mã hồ sơ, được lưu cùng giao dịch", "The dossier, kept with the transaction"),
        "000.00.00.H41-261121-0001",
        r"[0-9A-Z.]{3,35}-\d{6}-\d{4,6}",
    ),
    CallHeader(
        "Ngsp-Procedure",
        Text("Mã thủ tục hành chính", "The administrative procedure"),
        "1.001193",
        r"\d\.\d{6}(?:\.[0-9A-Z.]{3,24})?",
    ),
    CallHeader(
        "Ngsp-Consent",
        Text(
            "Mã đồng ý của công dân, khi thỏa thuận yêu cầu", "The citizen's consent, where the agreement asks for it"
        ),
        "dong-y/2026/0001",
        "[A-Za-z0-9._:/-]{1,128}",
    ),
    CallHeader(
        "Idempotency-Key",
        Text("Khóa chống lặp: gửi lại thì không làm lại", "Makes a repeat safe: it is never done twice"),
        "5f0c6a1e-6f0e-4a57-9a0e-0c8a7b1d2e3f",
        r"[\x21-\x7e]{1,255}",
    ),
    CallHeader(
        "Prefer",
        Text("wait=N (giây) hoặc respond-async", "wait=N (seconds) or respond-async"),
        "wait=5",
    ),
    CallHeader(
        "traceparent",
        Text("Ngữ cảnh theo vết W3C", "W3C Trace Context"),
        "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
    ),
    CallHeader(
        "Ngsp-Sandbox",
        Text(
            "Nói rõ là gọi thử: hệ thống thật sẽ bị từ chối",
            "Says that the sandbox is meant: a client that is none of it is refused",
        ),
        "true",
        "true",
    ),
    CallHeader("Accept-Language", Text("vi hoặc en", "vi or en"), "vi"),
)


def service_openapi(service: Service, base_url: str, language: Language = "vi") -> dict[str, Any]:
    """The document for `POST /v1/services/{path}` of this service, with `base_url` as its server; of a service of
    events, for publishing them and for webhooks."""
    if service.mode == "event":
        return event_openapi(service, base_url, language)
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": DIALECT,
        "info": {
            "title": service.title.in_(language),
            "description": service.description.in_(language),
            "version": service.key.version,
        },
        "servers": [{"url": base_url}],
        "security": [{"ngsp": ["exchange"]}],
        "paths": {f"/v1/services/{service.path}": {"post": _operation(service, language)}},
        "components": {
            "securitySchemes": {
                "ngsp": {
                    "type": "oauth2",
                    "flows": {
                        "clientCredentials": {
                            "tokenUrl": f"{base_url}/oauth2/token",
                            "scopes": {"exchange": Text("Gọi dịch vụ", "Call services").in_(language)},
                        }
                    },
                }
            },
            "schemas": {
                "Request": embedded(service.request_schema.document, "Request"),
                "Reply": embedded(of_what_is_left(service.reply_schema.document), "Reply"),
                "Problem": PROBLEM_SCHEMA,
            },
            "responses": problem_responses(language),
        },
    }


def _operation(service: Service, language: Language) -> dict[str, Any]:
    submission = service.mode == "submission"
    requests = {
        f"example-{number}": _example(example, "request", language)
        for number, example in enumerate(service.examples, 1)
    }
    replies = {
        f"example-{number}": _example(example, "reply", language)
        for number, example in enumerate(service.examples, 1)
        if "reply" in example
    }
    answered = {
        "description": worded(_REPLY, language),
        "headers": _answer_headers("Ngsp-Transaction", wording=language),
        "content": {"application/json": _content("Reply", replies)},
    }
    # Of a submission: a repeat under the same key is answered with the stored outcome.
    successes = {"200": answered, "202": _accepted(language)}
    return {
        "operationId": f"{service.key.name}-{service.key.version}",
        "summary": service.title.in_(language),
        "x-ngsp-mode": service.mode,
        "x-ngsp-deadline-s": service.deadline_s,
        "x-ngsp-max-body-bytes": service.max_body_bytes,
        "parameters": _headers(submission, service.officer_required, language),
        "requestBody": {"required": True, "content": {"application/json": _content("Request", requests)}},
        "responses": successes | problem_references(*CALL_STATUSES),
    }


_REPLY = Text(
    "Câu trả lời, chỉ gồm các trường mà thỏa thuận cấp: trường nào cũng có thể vắng",
    "The reply, with the fields that the agreement grants: any of them may be missing",
)


def _accepted(wording: Wording) -> dict[str, Any]:
    text = Text("Đã tiếp nhận bền vững; theo dõi tại Location", "Durably accepted; followed up at Location")
    headers = _answer_headers("Ngsp-Transaction", "Location", "Retry-After", wording=wording)
    return {"description": worded(text, wording), "headers": headers}


_ANSWER_HEADERS: dict[str, tuple[Text, dict[str, Any]]] = {
    "Ngsp-Transaction": (Text("Mã giao dịch", "The transaction"), {"type": "string", "format": "uuid"}),
    "Location": (
        Text("Nơi theo dõi giao dịch", "Where the transaction is followed"),
        {"type": "string", "format": "uri-reference"},
    ),
    "Retry-After": (Text("Số giây nên chờ", "Seconds to wait"), {"type": "integer", "minimum": 1}),
}


def _answer_headers(*names: str, wording: Wording) -> dict[str, Any]:
    """Headers that a good answer always has, and the mark of one from the sandbox."""
    found = {
        name: {"description": worded(text, wording), "required": True, "schema": schema}
        for name, (text, schema) in _ANSWER_HEADERS.items()
        if name in names
    }
    return found | {SANDBOX: header(SANDBOX, wording)}


def _content(name: str, examples: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{name}"}}
    return content | ({"examples": examples} if examples else {})


def _example(example: dict[str, Any], part: str, language: Language) -> dict[str, Any]:
    title = example.get("title")
    summary = {"summary": title[language]} if isinstance(title, dict) else {}
    return {**summary, "value": example[part]}


def exchange_operation() -> dict[str, Any]:
    """The call of any service, for the document of the whole gateway; each service's own document is exact."""
    places = {"provider": "G22", "service": "administrative-units", "version": "v1"}
    path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "example": example}
        for name, example in places.items()
    ]
    request = {"schema": {}, "examples": {"unit": {"summary": "G22/administrative-units/v1", "value": _UNIT}}}
    reply = {"schema": {}, "examples": {"unit": {"summary": "G22/administrative-units/v1", "value": _UNITS}}}
    answered = {
        "description": worded(_REPLY, "both"),
        "headers": _answer_headers("Ngsp-Transaction", wording="both"),
        "content": {"application/json": reply},
    }
    return {
        "operationId": "call-service",
        "tags": ["exchange"],
        "summary": "Gọi dịch vụ / Call a service",
        "description": "Lược đồ của từng dịch vụ / Each service's schemas: `/v1/services/{p}/{s}/{v}/openapi.json`.",
        "security": [{"oauth2": ["exchange"]}],
        "parameters": [*path, *_headers(False, False, "both")],
        "requestBody": {"required": True, "content": {"application/json": request}},
        "responses": {"200": answered, "202": _accepted("both")} | problem_references(*CALL_STATUSES),
    }


_UNIT: dict[str, Any] = {"code": "17920"}
_UNITS: dict[str, Any] = {
    "units": [
        {
            "code": "17920",
            "name": "Phường Vinh Hưng",
            "level": "commune",
            "type": "phường",
            "province": {"code": "40", "name": "Nghệ An"},
        }
    ],
    "total": 1,
    "next": None,
}


def _headers(submission: bool, officer_required: bool, wording: Wording) -> list[dict[str, Any]]:
    required = {"Ngsp-Purpose": True, "Ngsp-Officer": officer_required, "Idempotency-Key": submission}
    found = []
    for each in CALL_HEADERS:
        schema: dict[str, Any] = {"type": "string"}
        if each.name == "Accept-Language":
            schema["enum"] = list(LANGUAGES)
        if each.pattern:
            schema["pattern"] = f"^(?:{each.pattern})$"
        found.append(
            {
                "name": each.name,
                "in": "header",
                "required": required.get(each.name, False),
                "description": worded(each.text, wording),
                "schema": schema,
                "example": each.example,
            }
        )
    return found
