"""What a provider publishes (công bố sự kiện): events as CloudEvents 1.0, and what the bus says of them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

MOST_AT_ONCE = 100
_ONE = "application/cloudevents+json"
_SEVERAL = "application/cloudevents-batch+json"


def _new_id() -> str:
    return str(uuid.uuid4())


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to be published. `source` and `id` name it: whoever publishes it again, also in another run of a program
    that kept both, changes nothing. Where `id` is not given it is a new one.

    `type`: one of the service's. `data`: JSON, by the type's schema. `subject`: what it is about. `partition_key`:
    events with the same one are delivered in their order; without it, those with the same `subject`. `time`: aware, or
    None where it is not known: what is published again must be the same.
    """

    source: str
    type: str
    data: Any = field(repr=False)
    subject: str = field(default="", repr=False)
    partition_key: str = field(default="", repr=False)
    id: str = field(default_factory=_new_id)
    time: datetime | None = field(default_factory=_now)

    def __post_init__(self) -> None:
        if self.time is not None and self.time.tzinfo is None:
            raise ValueError("time: a time needs its zone")

    def document(self) -> dict[str, Any]:
        """The event in the JSON format of CloudEvents."""
        found = {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "time": self.time and self.time.isoformat().replace("+00:00", "Z"),
            "subject": self.subject,
            "partitionkey": self.partition_key,
            "datacontenttype": "application/json",
        }
        return {name: value for name, value in found.items() if value} | {"data": self.data}


@dataclass(frozen=True, slots=True)
class Published:
    """That an event is durable and will be delivered. `id`: the event's own. `transaction`: of its publication.
    `repeated`: it was there before, and nothing was done."""

    id: str
    transaction: str
    repeated: bool


def encoded_events(events: Sequence[NewEvent]) -> tuple[str, bytes]:
    """Content type and body. ValueError where there are too many, two are the same, or data are no JSON."""
    if not 1 <= len(events) <= MOST_AT_ONCE:
        raise ValueError(f"1 to {MOST_AT_ONCE} events are published at once")
    if len({(event.source, event.id) for event in events}) < len(events):
        raise ValueError("two events have the same source and id")
    documents = [event.document() for event in events]
    kind, found = (_ONE, documents[0]) if len(documents) == 1 else (_SEVERAL, documents)
    return kind, json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def published_of(document: dict[str, Any], events: Sequence[NewEvent]) -> list[Published]:
    """What the bus says of `events`, in their order. ValueError where it says something else."""
    found = [Published(str(item["id"]), str(item["transaction"]), bool(item["repeated"])) for item in document["items"]]
    if [item.id for item in found] != [event.id for event in events]:
        raise ValueError("not what was published")
    return found
