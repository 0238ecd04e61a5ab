"""A service of events as an OpenAPI 3.1 document: how its provider publishes, and what a webhook is sent.

Adapters and receivers behind them are told of by AsyncAPI; publishing and webhooks are HTTP.
"""

from __future__ import annotations

from typing import Any

from ngsp.registry.event_schemas import BATCH, BINARY, MOST_IN_BATCH, STRUCTURED
from ngsp.registry.model import Service
from ngsp.registry.problem_responses import PROBLEM_SCHEMA, problem_references, problem_responses, worded
from ngsp.registry.schemas import DIALECT, embedded, of_what_is_left
from ngsp.text import LANGUAGES, Language, Text

PUBLISH_STATUSES = (400, 401, 403, 406, 408, 409, 410, 413, 414, 415, 422, 429, 431, 500, 503)
"""What publishing may be refused with."""
_ATTRIBUTES = {
    "ce-specversion": ("1.0", True),
    "ce-id": ("5f0c6a1e", True),
    "ce-source": ("/h41/so-ho-tich", True),
    "ce-type": ("", True),
    "ce-subject": ("H41.05.10-261122-0017", False),
    "ce-time": ("2026-11-22T01:02:03Z", False),
    "ce-partitionkey": ("H41.05.10-261122-0017", False),
}


def event_openapi(service: Service, base_url: str, language: Language) -> dict[str, Any]:
    """The document for `POST /v1/events/{path}` of this service, and for the webhooks of its subscribers."""
    published = {f"Data.{name}": embedded(event.schema.document, f"Data.{name}")
                 for name, event in service.events.items()}  # fmt: skip
    sent = {f"Granted.{name}": embedded(of_what_is_left(event.schema.document), f"Granted.{name}")
            for name, event in service.events.items()}  # fmt: skip
    events = {f"Event.{name}": _event(name, f"Data.{name}") for name in service.events}
    delivered = {f"Delivered.{name}": _event(name, f"Granted.{name}") for name in service.events}
    any_event = {"oneOf": [_to(name) for name in events]}
    scopes = {"adapter": Text("Đăng ký và công bố", "Register and publish").in_(language)}
    flow = {"clientCredentials": {"tokenUrl": f"{base_url}/oauth2/token", "scopes": scopes}}
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": DIALECT,
        "info": {
            "title": service.title.in_(language),
            "description": f"{service.description.in_(language)}\n\n{_ABOUT.in_(language)}",
            "version": service.key.version,
        },
        "servers": [{"url": base_url}],
        "security": [{"ngsp": ["adapter"]}],
        "paths": {f"/v1/events/{service.path}": {"post": _publish(service, language)}},
        "webhooks": {name: {"post": _webhook(service, name, language)} for name in service.events},
        "components": {
            "securitySchemes": {"ngsp": {"type": "oauth2", "flows": flow}},
            "schemas": {
                "Envelope": embedded(service.request_schema.document, "Envelope"),
                "Event": any_event,
                **events,
                **published,
                **delivered,
                **sent,
                "Publications": _PUBLICATIONS,
                "Problem": PROBLEM_SCHEMA,
            },
            "responses": problem_responses(language),
        },
    }


_ABOUT = Text(
    "Bên cung cấp công bố sự kiện (CloudEvents 1.0); mỗi bên đăng ký nhận chúng qua webhook hoặc qua một dịch vụ nhận "
    "của mình, chỉ gồm các trường mà thỏa thuận cấp.",
    "The provider publishes events (CloudEvents 1.0); each subscriber is sent them, to a webhook or to a receiving "
    "service of its own, with the fields that its agreement grants.",
)


def _to(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _event(type: str, data: str) -> dict[str, Any]:
    """A CloudEvent of `type`; `data`: the component that its data is of."""
    return {"allOf": [_to("Envelope"), {"properties": {"type": {"const": type}, "data": _to(data)}}]}


def _publish(service: Service, language: Language) -> dict[str, Any]:
    examples = _examples(service, language)
    bodies: dict[str, Any] = {
        STRUCTURED: {"schema": _to("Event"), **({"examples": examples} if examples else {})},
        BATCH: {"schema": {"type": "array", "items": _to("Event"), "minItems": 1, "maxItems": MOST_IN_BATCH}},
        BINARY: {"schema": {"anyOf": [_to(f"Data.{name}") for name in service.events]}},
    }
    accepted = Text(
        "Đã ghi bền vững, mỗi sự kiện một mục; cùng source và id là cùng một sự kiện",
        "Durable, an item for each event; the same source and id are the same event",
    )
    return {
        "operationId": f"publish-{service.key.name}-{service.key.version}",
        "summary": service.title.in_(language),
        "x-ngsp-mode": service.mode,
        "x-ngsp-deadline-s": service.deadline_s,
        "x-ngsp-max-body-bytes": service.max_body_bytes,
        "parameters": _publishing_headers(service, language),
        "requestBody": {"required": True, "content": bodies},
        "responses": {
            "202": {
                "description": accepted.in_(language),
                "content": {"application/json": {"schema": _to("Publications")}},
            }
        }
        | problem_references(*PUBLISH_STATUSES),
    }


def _examples(service: Service, language: Language, type: str | None = None) -> dict[str, Any]:
    """The examples of the service; of one `type` only, where it is given."""
    found = {}
    for number, example in enumerate(service.examples, 1):
        if type in (None, example["request"]["type"]):
            title = example.get("title")
            summary = {"summary": title[language]} if isinstance(title, dict) else {}
            found[f"example-{number}"] = {**summary, "value": example["request"]}
    return found


def _publishing_headers(service: Service, language: Language) -> list[dict[str, Any]]:
    binary = Text("Ở kiểu binary", "In binary mode")
    always = Text("Ở kiểu binary, bắt buộc", "In binary mode, required")
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "header",
            "required": False,
            "description": worded(always if required else binary, language),
            "schema": {"type": "string", **({"enum": sorted(service.events)} if name == "ce-type" else {})},
            "example": example or min(service.events),
        }
        for name, (example, required) in _ATTRIBUTES.items()
    ]
    wanted = Text("vi hoặc en", "vi or en").in_(language)
    return [
        *found,
        {
            "name": "Accept-Language",
            "in": "header",
            "required": False,
            "description": wanted,
            "schema": {"type": "string", "enum": list(LANGUAGES)},
            "example": "vi",
        },
    ]


_SIGNED: dict[str, tuple[Text, str]] = {
    "webhook-id": (
        Text(
            "Mã của sự kiện (giao dịch công bố), như nhau ở mọi lần gửi: dùng để nhận ra lần lặp",
            "The event's id (of the publication), the same at each attempt: tells a repeat",
        ),
        "0193517b-8f00-7a11-9b22-0123456789ab",
    ),
    "webhook-timestamp": (Text("Giây Unix của lần gửi này", "Unix seconds of this attempt"), "1795309323"),
    "webhook-signature": (
        Text(
            "v1, và base64 của HMAC-SHA-256 trên «id.timestamp.nội dung»; cách nhau bằng khoảng trắng khi có hai khóa",
            "v1, and base64 of HMAC-SHA-256 over 'id.timestamp.body'; separated by a space where there are two secrets",
        ),
        "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    ),
    "Ngsp-Transaction": (Text("Giao dịch của lần giao", "The delivery's transaction"),
                         "0193517b-8f00-7a11-9b22-0123456789ac"),
}  # fmt: skip


def _webhook(service: Service, type: str, language: Language) -> dict[str, Any]:
    examples = _examples(service, language, type)
    content = {"schema": _to(f"Delivered.{type}"), **({"examples": examples} if examples else {})}
    answers = {
        "2XX": Text("Đã nhận", "It was taken"),
        "410": Text("Không nhận nữa: đăng ký bị dừng", "It wants no more: the subscription is stopped"),
        "default": Text("Gửi lại sau, cho đến hạn", "Sent again later, until the deadline"),
    }
    return {
        "operationId": f"receive-{type}",
        "summary": service.events[type].title.in_(language),
        "security": [],
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": True,
                "description": text.in_(language),
                "schema": {"type": "string"},
                "example": example,
            }
            for name, (text, example) in _SIGNED.items()
        ],
        "requestBody": {"required": True, "content": {STRUCTURED: content}},
        "responses": {status: {"description": text.in_(language)} for status, text in answers.items()},
    }


_PUBLICATIONS: dict[str, Any] = {
    "type": "object",
    "required": ["items"],
    "properties": {
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "transaction", "repeated"],
                "properties": {
                    "id": {"type": "string"},
                    "transaction": {"type": "string", "format": "uuid"},
                    "repeated": {"type": "boolean"},
                },
            },
        }
    },
}
