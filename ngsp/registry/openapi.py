"""One service as an OpenAPI 3.1 document: what its callers generate code from."""

from __future__ import annotations

from typing import Any

from ngsp.registry.model import Service
from ngsp.registry.schemas import DIALECT, rewrite_references
from ngsp.text import LANGUAGES, Language, Text

_PROBLEMS = {
    "400": Text("Yêu cầu không đúng dạng", "Not a well-formed request"),
    "401": Text("Chưa xác thực", "Not authenticated"),
    "403": Text("Không được phép", "Not allowed"),
    "404": Text("Nơi cung cấp không có bản ghi này", "The provider has no such record"),
    "409": Text("Nơi cung cấp từ chối, hoặc khóa đang được xử lý", "Refused by the provider, or the key is in flight"),
    "410": Text("Câu trả lời đã được xóa", "The reply was erased"),
    "413": Text("Nội dung quá lớn", "The body is too large"),
    "415": Text("Sai kiểu nội dung", "Another content type"),
    "422": Text("Nội dung không đúng lược đồ", "The body does not fit the schema"),
    "428": Text("Thiếu Idempotency-Key", "The Idempotency-Key is missing"),
    "429": Text("Quá hạn mức", "Over the limit"),
    "500": Text("Lỗi của nền tảng", "An error of the bus"),
    "502": Text("Hệ thống cung cấp gặp lỗi", "The provider's system failed"),
    "503": Text("Nền tảng đang bận, hoặc dịch vụ đang bảo trì", "The bus is busy, or the service in maintenance"),
    "504": Text("Quá thời hạn", "No answer by the deadline"),
}

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "code": {"type": "string"},
        "remedy": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}


def service_openapi(service: Service, base_url: str, language: Language = "vi") -> dict[str, Any]:
    """The document for `POST /v1/services/{path}` of this service, with `base_url` as its server."""
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
                "Request": _embedded(service.request_schema.document, "Request"),
                "Reply": _embedded(service.reply_schema.document, "Reply"),
                "Problem": PROBLEM_SCHEMA,
            },
        },
    }


def _embedded(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """The schema as a component: its references led to their new place, its own address left out."""
    found: dict[str, Any] = rewrite_references(schema, f"#/components/schemas/{name}")
    return {word: value for word, value in found.items() if word not in ("$id", "$schema")}


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
    accepted = {
        "description": Text("Đã tiếp nhận; theo dõi tại Location", "Accepted; followed up at Location").in_(language),
        "headers": {name: {"schema": {"type": "string"}} for name in ("Location", "Retry-After", "Ngsp-Transaction")},
    }
    answered = {
        "description": Text("Câu trả lời", "The reply").in_(language),
        "headers": {"Ngsp-Transaction": {"schema": {"type": "string", "format": "uuid"}}},
        "content": {"application/json": _content("Reply", replies)},
    }
    successes = {"202": accepted} if submission else {"200": answered, "202": accepted}
    return {
        "operationId": f"{service.key.name}-{service.key.version}",
        "summary": service.title.in_(language),
        "x-ngsp-mode": service.mode,
        "x-ngsp-deadline-s": service.deadline_s,
        "x-ngsp-max-body-bytes": service.max_body_bytes,
        "parameters": _headers(submission, service.officer_required, language),
        "requestBody": {"required": True, "content": {"application/json": _content("Request", requests)}},
        "responses": successes | {status: _problem(text, language) for status, text in _PROBLEMS.items()},
    }


def _content(name: str, examples: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{name}"}}
    return content | ({"examples": examples} if examples else {})


def _example(example: dict[str, Any], part: str, language: Language) -> dict[str, Any]:
    title = example.get("title")
    summary = {"summary": title[language]} if isinstance(title, dict) else {}
    return {**summary, "value": example[part]}


def _problem(text: Text, language: Language) -> dict[str, Any]:
    return {
        "description": text.in_(language),
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def exchange_operation() -> dict[str, Any]:
    """The call of any service, for the document of the whole gateway; each service's own document is exact."""
    names = ("provider", "service", "version")
    path = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    anything: dict[str, Any] = {"application/json": {"schema": {}}}
    transaction = {"Ngsp-Transaction": {"schema": {"type": "string", "format": "uuid"}}}
    problem = {"description": "RFC 9457", "content": {"application/problem+json": {"schema": PROBLEM_SCHEMA}}}
    return {
        "operationId": "call-service",
        "tags": ["exchange"],
        "summary": "Gọi dịch vụ / Call a service",
        "description": "Lược đồ của từng dịch vụ / Each service's schemas: `/v1/services/{p}/{s}/{v}/openapi.json`.",
        "security": [{"oauth2": ["exchange"]}],
        "parameters": [*path, *_headers(False, False, "en")],
        "requestBody": {"required": True, "content": anything},
        "responses": {
            "200": {"description": "The reply", "headers": transaction, "content": anything},
            "202": {"description": "Accepted; see Location", "headers": transaction},
        }
        | dict.fromkeys(_PROBLEMS, problem),
    }


def _headers(submission: bool, officer_required: bool, language: Language) -> list[dict[str, Any]]:
    headers = (
        ("Ngsp-Purpose", True, Text("Mục đích, theo thỏa thuận", "A purpose of the agreement")),
        ("Ngsp-Agreement", False, Text("Khi có nhiều thỏa thuận phù hợp", "Where several agreements fit")),
        ("Ngsp-Officer", officer_required, Text("Mã cán bộ yêu cầu", "The requesting officer")),
        ("Ngsp-Dossier", False, Text("Mã hồ sơ", "The dossier")),
        ("Ngsp-Procedure", False, Text("Mã thủ tục hành chính", "The administrative procedure")),
        ("Ngsp-Consent", False, Text("Khi thỏa thuận yêu cầu", "Where the agreement asks for it")),
        ("Idempotency-Key", submission, Text("Khóa chống gửi trùng", "Makes a repeat safe")),
        ("Prefer", False, Text("wait=N hoặc respond-async", "wait=N or respond-async")),
        ("traceparent", False, Text("Ngữ cảnh theo vết W3C", "W3C trace context")),
        ("Accept-Language", False, Text("vi hoặc en", "vi or en")),
    )
    return [
        {
            "name": name,
            "in": "header",
            "required": required,
            "description": text.in_(language),
            "schema": {"type": "string", **({"enum": list(LANGUAGES)} if name == "Accept-Language" else {})},
        }
        for name, required, text in headers
    ]
