"""A declared source: what the back end is asked for changes, and what it answers → events.

cursor ─▶ call (expressions) ─▶ back end ─▶ items: the changes ─▶ event (expressions), for each
                                        └─▶ cursor, more: how to go on
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ngsp.adapter.declared import Declared, answered
from ngsp.adapter.definition import Failed, Request
from ngsp.adapter.events import Event, Found
from ngsp.adapter.manifest import EventServiceManifest, ServiceManifest, SourceManifest
from ngsp.adapter.models import Part
from ngsp.adapter.outcomes import Rule
from ngsp.adapter.sources import LOOK_S
from ngsp.mapping import Expression, MappingError, Root, Shape
from ngsp.messages import Envelope, uuid7

SOURCE_CALL_ROOT = ("cursor",)
"""What expressions in the `call` of a source may name. `cursor`: text, or null the first time."""
SOURCE_ANSWER_ROOT = ("status", "body", "headers", "cursor")
"""What its `items`, `cursor`, `more` and `outcomes` may name; on a database, `rows` is the same as `body`."""
EVENT_ROOT = ("item", "body")
"""What `event` may name. `item`: one of `items`."""
ROWS = "rows"
_ATTRIBUTES = ("subject", "partitionkey", "source")


class SourceAnswering(Part):
    """How the answer is read, but for its items."""

    outcomes: tuple[Rule, ...] = ()
    items: Expression
    cursor: Expression
    more: Expression | None = None


class EventShape(Part):
    """What an item becomes: the attributes of a CloudEvent, each an expression, and `data`, a shape."""

    id: Expression
    type: Expression
    subject: Expression | None = None
    time: Expression | None = None
    partitionkey: Expression | None = None
    source: Expression | None = None
    data: Shape


def as_query(service: EventServiceManifest, call: Mapping[str, Any]) -> ServiceManifest:
    """What the back end is asked for changes is a query, by its rules."""
    declared = service.model_dump(include={"service", "version", "deadline_s", "title", "description"})
    empty: dict[str, Any] = {"request_schema": {}, "reply_schema": {}}
    return ServiceManifest.model_validate(declared | empty | {"mode": "query", "call": dict(call)})


def written_call(source: SourceManifest, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The call of `source`; many rows where the back end's calls (their `fields`) give rows."""
    return {ROWS: "many", **source.call} if ROWS in fields else source.call


@dataclass(frozen=True, slots=True)
class DeclaredSource:
    """A `Changes` over one back end. `path`: of the service."""

    path: str
    asking: Declared
    answering: SourceAnswering
    event: EventShape

    async def __call__(self, cursor: str | None) -> Found:
        """Raises as a service with `call` does: Unavailable, Failed, RecordNotFound, Refused."""
        asking = {"cursor": cursor}
        answer = await self.asking.asked(self._request(), asking)
        root = answered(answer, asking) | {ROWS: answer.body}
        items = _read(self.answering.items, root, "items")
        if not isinstance(items, list):
            raise Failed("source-items")
        events = [self._event({"item": item, "body": answer.body, ROWS: answer.body}) for item in items]
        after = _text(_read(self.answering.cursor, root, "cursor"), "cursor") or None
        more = self.answering.more is not None and bool(_read(self.answering.more, root, "more"))
        return Found(events, after, more)

    def _request(self) -> Request:
        """What stands for the request: nobody has sent one, but it has an id and a deadline."""
        deadline_ms = int((time.time() + LOOK_S) * 1000)
        return Request(Envelope(uuid7(), self.path, deadline_ms, "", (), "", "", b"null"))

    def _event(self, root: Root) -> Event:
        shape = self.event
        id, type = _text(_read(shape.id, root, "id"), "id"), _text(_read(shape.type, root, "type"), "type")
        if not id or not type:
            raise Failed("source-event-without-id" if not id else "source-event-without-type")
        subject, partition_key, source = (_text(_read(getattr(shape, name), root, name), name) for name in _ATTRIBUTES)
        time = _time(_read(shape.time, root, "time"))
        return Event(type, _read(shape.data, root, "data"), id, subject, time, partition_key, source)


def _read(expression: Expression | Shape | None, root: Root, name: str) -> Any:
    if expression is None:
        return None
    try:
        return expression(root)
    except MappingError:
        raise Failed(f"source-{name}") from None


def _text(value: Any, name: str) -> str:
    """Of a text or a whole number; empty for nothing."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Failed(f"source-{name}")
    return str(value)


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise Failed("source-time") from None
    if found.tzinfo is None:
        raise Failed("source-time")
    return found
