"""Topics as an AsyncAPI 3.0 document: of one service, for who writes its adapter; of the whole node, for operators.

What travels is said in `docs/protocol.md`; here it is for programs. A document of one service is seen from its adapter
(it receives requests and answers them), that of the node from its gateways (they send requests and receive answers).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ngsp.config import Settings
from ngsp.messages import (
    GATEWAYS_GROUP,
    IDENTIFIER,
    MEMBER_CODE,
    OUTCOMES_TOPIC,
    REPLY_STATUSES,
    REPLY_TOPIC_PREFIX,
    TRACEPARENT,
    TRANSACTION_ID,
    group_of,
)
from ngsp.registry.model import Service
from ngsp.registry.problem_responses import Wording, worded
from ngsp.registry.schemas import of_what_is_left, rewrite_references
from ngsp.text import Text

JSON_SCHEMA = "application/schema+json;version=draft-2020-12"
BINDING_VERSION = "0.5.0"
NO_BODY = sorted(REPLY_STATUSES - {"ok"})
_SERVICE = r"[A-Z][0-9A-Z.]*/[a-z0-9-]+/v[0-9]+"
_TIME_MS = r"[1-9][0-9]{0,15}"


@dataclass(frozen=True, slots=True)
class MessageHeader:
    """A record header. `pattern`: of its value as text."""

    name: str
    pattern: str
    text: Text
    required: bool = True


_ID = MessageHeader(
    "ngsp-id", TRANSACTION_ID.pattern, Text("Giao dịch, cũng là thông điệp", "The transaction, and the message")
)
_NAMED = MessageHeader("ngsp-service", _SERVICE, Text("Dịch vụ", "The service"))
_ATTEMPT = MessageHeader("ngsp-attempt", r"[1-9][0-9]{0,8}", Text("Lần giao thứ mấy", "Which delivery this is"))

REQUEST_HEADERS = (
    _ID,
    _NAMED,
    MessageHeader("ngsp-deadline", _TIME_MS, Text("Hạn bắt đầu, mili giây Unix", "Deadline, Unix milliseconds")),
    MessageHeader("ngsp-purpose", IDENTIFIER.pattern, Text("Mục đích theo thỏa thuận", "A purpose of the agreement")),
    MessageHeader(
        "ngsp-fields",
        r"(?:(?:/[^\n]*)?(?:\n(?:/[^\n]*)?)*)",
        Text("Các trường được cấp, mỗi dòng một con trỏ JSON", "What is granted: JSON pointers, one a line"),
    ),
    MessageHeader(
        "ngsp-schema", r"[0-9a-f]{16}\.[0-9a-f]{16}", Text("Tóm lược hai lược đồ", "Digests of both schemas")
    ),
    MessageHeader(
        "ngsp-reply-to", r"ngsp\.outcomes|ngsp\.reply\.[0-9]{1,5}", Text("Nơi nhận trả lời", "Where the reply goes")
    ),
    _ATTEMPT,
    MessageHeader("ngsp-begin-by", _TIME_MS, Text("Sau lúc này không bắt đầu", "Not begun after this time"), False),
    MessageHeader("ngsp-order", r"[0-9a-f]{32}", Text("Cùng mã thì lần lượt", "With the same one, in turn"), False),
    MessageHeader("ngsp-consumer", MEMBER_CODE.pattern, Text("Cơ quan hỏi", "Who asks")),
    MessageHeader("ngsp-officer", r"[A-Za-z0-9._@-]{1,64}", Text("Cán bộ", "The officer"), False),
    MessageHeader("ngsp-dossier", r"[!-~]{1,64}", Text("Mã hồ sơ", "The dossier"), False),
    MessageHeader("traceparent", TRACEPARENT.pattern, Text("Theo vết W3C", "W3C Trace Context"), False),
    MessageHeader("ngsp-probe", "adapter|backend", Text("Phép thử của người vận hành", "An operator's probe"), False),
)
REPLY_HEADERS = (
    _ID,
    _NAMED,
    MessageHeader("ngsp-status", "|".join(sorted(REPLY_STATUSES)), Text("Kết quả", "How it went")),
    MessageHeader("ngsp-adapter", IDENTIFIER.pattern, Text("Bộ kết nối trả lời", "Who answers")),
    _ATTEMPT,
    MessageHeader(
        "ngsp-code", r"[A-Za-z0-9._/-]{1,64}", Text("Mã riêng của nơi cung cấp", "The provider's code"), False
    ),
    MessageHeader("ngsp-probe", "answer", Text("Trả lời một phép thử", "It answers a probe"), False),
)


def service_asyncapi(service: Service, wording: Wording) -> dict[str, Any]:
    """The document for the adapter that serves `service`; of a service of events, for those that receive them."""
    if service.mode == "event":
        return _of_events(service, wording)
    text = Text(
        "Bộ kết nối nhận yêu cầu từ một topic và trả lời tới topic mà yêu cầu nêu tên.",
        "The adapter receives requests from one topic and answers to the topic that each request names.",
    )
    parts = _Parts(wording)
    parts.add(service)
    parts.operations["serve"] = {
        "action": "receive",
        "channel": _to_channel(_request(service)),
        "summary": worded(service.title, wording),
        "bindings": _group(group_of(service.adapter)),
        "reply": _reply(service),
    }
    title = Text(f"{service.title.vi}: thông điệp trên trục", f"{service.title.en}: messages on the bus")
    description = f"{worded(service.description, wording)}\n\n{worded(text, wording)}"
    return parts.document(worded(title, wording), description, service.key.version)


def node_asyncapi(services: Iterable[Service], settings: Settings, version: str) -> dict[str, Any]:
    """The document of a node: every topic that its registry asks for, and where they are."""
    text = Text(
        "Cổng gửi yêu cầu tới topic của từng dịch vụ và nhận trả lời; mô tả đầy đủ ở docs/protocol.md.",
        "Gateways send requests to each service's topic and receive the answers; docs/protocol.md says it all.",
    )
    parts = _Parts("both", settings)
    called = (service for service in services if service.mode != "event")  # events travel on receivers' topics
    for service in sorted(called, key=lambda service: service.path):
        parts.add(service)
        parts.operations[f"ask.{_name(service)}"] = {
            "action": "send",
            "channel": _to_channel(_request(service)),
            "summary": worded(service.title, "both"),
            "reply": _reply(service),
        }
    for name, group in (("outcomes", GATEWAYS_GROUP), ("replies", "")):
        parts.operations[f"take-{name}"] = {
            "action": "receive",
            "channel": _to_channel(name),
            "summary": parts.channels[name]["summary"],
            **({"bindings": _group(group)} if group else {}),
        }
    title = Text("Các topic của nền tảng", "Topics of the node")
    found = parts.document(f"{settings.node}: {worded(title, 'both')}", worded(text, "both"), version)
    return found | _servers(settings)


def _of_events(service: Service, wording: Wording) -> dict[str, Any]:
    """A message for each type, as it reaches a receiving service; its topic is that of the receiver, not known here."""
    text = Text(
        "Dịch vụ sự kiện không có topic: mỗi sự kiện đến topic yêu cầu của dịch vụ nhận mà bên đăng ký nêu tên, hoặc "
        "đến webhook; data chỉ gồm các trường mà thỏa thuận cấp.",
        "A service of events has no topic: each event comes to the request topic of the receiving service that a "
        "subscription names, or to a webhook; of data there are the fields that the agreement grants.",
    )
    parts = _Parts(wording)
    parts.channels = {"received": parts.channel(None, text)}
    del parts.schemas["ReplyHeaders"]
    for name, event in service.events.items():
        parts.schemas[f"{name}.data"] = _payload(of_what_is_left(event.schema.document), f"{name}.data")
        envelope = service.request_schema.document
        data = {"$ref": f"#/components/schemas/{name}.data/schema"}
        typed = envelope | {"properties": envelope["properties"] | {"type": {"const": name}, "data": data}}
        parts.schemas[f"{name}.event"] = {"schemaFormat": JSON_SCHEMA, "schema": typed}
        payloads = [example["request"] for example in service.examples if example["request"]["type"] == name]
        parts.messages[name] = {
            "summary": worded(event.title, wording),
            "headers": {"$ref": "#/components/schemas/RequestHeaders"},
            "correlationId": {"location": "$message.header#/ngsp-id"},
            "payload": {"$ref": f"#/components/schemas/{name}.event"},
            "contentType": "application/json",
            **({"examples": [{"payload": payload} for payload in payloads]} if payloads else {}),
        }
        parts.channels["received"]["messages"][name] = _to_message(name)
    parts.operations["receive"] = {
        "action": "receive",
        "channel": _to_channel("received"),
        "summary": worded(service.title, wording),
    }
    description = f"{worded(service.description, wording)}\n\n{worded(text, wording)}"
    return parts.document(worded(service.title, wording), description, service.key.version)


class _Parts:
    """What a document is put together from. `settings`: how topics are made, where that is to be told."""

    def __init__(self, wording: Wording, settings: Settings | None = None) -> None:
        self._wording, self._settings = wording, settings
        self.operations: dict[str, Any] = {}
        self.messages: dict[str, Any] = {}
        self.schemas: dict[str, Any] = {
            "RequestHeaders": self._headers(REQUEST_HEADERS),
            "ReplyHeaders": self._headers(REPLY_HEADERS),
        }
        slot = {"slot": {"description": worded(Text("Số của cổng", "A gateway's number"), wording), "examples": ["7"]}}
        queries = Text("Trả lời truy vấn, mỗi cổng một topic", "Replies to queries, a topic for each gateway")
        submissions = Text("Trả lời hồ sơ gửi, chung cho các cổng", "Replies to submissions, shared by all gateways")
        either = Text("Nơi mà ngsp-reply-to nêu tên", "Where ngsp-reply-to says")
        self.channels: dict[str, Any] = {
            "replies": self.channel(REPLY_TOPIC_PREFIX + "{slot}", queries) | {"parameters": slot},
            "outcomes": self.channel(OUTCOMES_TOPIC, submissions) | self._topic(OUTCOMES_TOPIC),
            "reply": self.channel(None, either),
        }

    def add(self, service: Service) -> None:
        """The channel of the service's requests, and its messages on all channels."""
        name = _name(service)
        self.schemas[f"{name}.request"] = _payload(service.request_schema.document, f"{name}.request")
        self.schemas[f"{name}.reply"] = _payload(service.reply_schema.document, f"{name}.reply")
        requests = [example["request"] for example in service.examples]
        replies = [example["reply"] for example in service.examples if "reply" in example]
        self.messages[f"{name}.request"] = self._message(service, "RequestHeaders", {}, "request", requests)
        ok = self._message(service, "ReplyHeaders", {"ngsp-status": {"const": "ok"}}, "reply", replies)
        self.messages[f"{name}.ok"] = ok
        self.messages[f"{name}.no"] = self._message(service, "ReplyHeaders", {"ngsp-status": {"enum": NO_BODY}})
        request = self.channel(service.key.request_topic, service.title) | self._topic(service.key.request_topic)
        request["messages"] = {"request": _to_message(f"{name}.request")}
        self.channels[_request(service)] = request
        for channel in ("replies", "outcomes", "reply"):
            for kind in ("ok", "no"):
                self.channels[channel]["messages"][f"{name}.{kind}"] = _to_message(f"{name}.{kind}")

    def document(self, title: str, description: str, version: str) -> dict[str, Any]:
        return {
            "asyncapi": "3.0.0",
            "info": {
                "title": title,
                "version": version,
                "description": description,
                "license": {"name": "Apache-2.0"},
            },
            "defaultContentType": "application/json",
            "channels": self.channels,
            "operations": self.operations,
            "components": {"messages": self.messages, "schemas": self.schemas},
        }

    def _headers(self, headers: tuple[MessageHeader, ...]) -> dict[str, Any]:
        return {
            "type": "object",
            "required": [header.name for header in headers if header.required],
            "properties": {
                header.name: {
                    "type": "string",
                    "pattern": f"^(?:{header.pattern})$",
                    "description": worded(header.text, self._wording),
                }
                for header in headers
            },
        }

    def channel(self, address: str | None, text: Text) -> dict[str, Any]:
        return {"address": address, "summary": worded(text, self._wording), "messages": {}}

    def _topic(self, name: str) -> dict[str, Any]:
        settings = self._settings
        if settings is None:
            return {}
        kafka = {
            "topic": name,
            "partitions": settings.kafka_partitions,
            "replicas": settings.kafka_replication,
            "topicConfiguration": {"retention.ms": int(settings.kafka_retention_s * 1000)},
            "bindingVersion": BINDING_VERSION,
        }
        return {"bindings": {"kafka": kafka}}

    def _message(
        self,
        service: Service,
        headers: str,
        narrower: dict[str, Any],
        part: str = "",
        examples: list[Any] | None = None,
    ) -> dict[str, Any]:
        """`part`: of which schema the payload is; a message without has none. `narrower`: what its headers must be."""
        fixed = {"properties": {"ngsp-service": {"const": service.path}, **narrower}}
        found: dict[str, Any] = {
            "headers": {"allOf": [{"$ref": f"#/components/schemas/{headers}"}, fixed]},
            "correlationId": {"location": "$message.header#/ngsp-id"},
        }
        if part:
            found["payload"] = {"$ref": f"#/components/schemas/{_name(service)}.{part}"}
            found["contentType"] = "application/json"
            if examples:
                found["examples"] = [{"payload": example} for example in examples]
        return found


def _name(service: Service) -> str:
    return service.path.replace("/", ".")


def _request(service: Service) -> str:
    return f"request.{_name(service)}"


def _payload(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """A provider's schema as a component: its references led to their new place, its own address left out."""
    moved: dict[str, Any] = rewrite_references(schema, f"#/components/schemas/{name}/schema")
    kept = {word: value for word, value in moved.items() if word not in ("$id", "$schema")}
    return {"schemaFormat": JSON_SCHEMA, "schema": kept}


def _to_channel(name: str) -> dict[str, str]:
    return {"$ref": f"#/channels/{name}"}


def _to_message(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/messages/{name}"}


def _reply(service: Service) -> dict[str, Any]:
    messages = [{"$ref": f"#/channels/reply/messages/{_name(service)}.{kind}"} for kind in ("ok", "no")]
    return {
        "address": {"location": "$message.header#/ngsp-reply-to"},
        "channel": _to_channel("reply"),
        "messages": messages,
    }


def _group(name: str) -> dict[str, Any]:
    group = {"type": "string", "const": name}
    return {"kafka": {"groupId": group, "bindingVersion": BINDING_VERSION}}


def _servers(settings: Settings) -> dict[str, Any]:
    """Where the brokers are, never how to prove oneself to them; nothing for the bus inside the process."""
    if settings.bus == "embedded":
        return {}
    secure = settings.kafka_security_protocol != "PLAINTEXT"
    security = {"SASL_SSL": [{"type": "scramSha512"}], "SSL": [{"type": "X509"}]}.get(settings.kafka_security_protocol)
    hosts = [host.strip() for host in settings.kafka_bootstrap.split(",") if host.strip()]
    return {
        "servers": {
            f"kafka-{number}": {
                "host": host,
                "protocol": "kafka-secure" if secure else "kafka",
                **({"security": security} if security else {}),
            }
            for number, host in enumerate(hosts, 1)
        }
    }
