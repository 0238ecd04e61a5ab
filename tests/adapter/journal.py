"""A provider's journal of changes, a gateway's end of publishing, and a source between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ngsp.adapter import Adapter, Event, Found, Manifest
from ngsp.adapter.cursors import Cursors
from ngsp.adapter.events import Source
from ngsp.adapter.sources import EventRefused, Feed, NotPublished
from ngsp.client.publishing import NewEvent

CHANGED = "vn.h41.journal.changed"
MARK = "900123456789"
"""In every event's data, and in no line of a log."""
EVERY_S = 5.0
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"person": {"type": "string"}, "so": {"type": "integer"}}}


class Clock:
    """Unix seconds, moved by the test."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Journal:
    """`size` entries, given `page` at a time. `asked`: the cursors so far."""

    size: int = 3
    page: int = 100
    asked: list[str | None] = field(default_factory=list)

    async def changes(self, cursor: str | None) -> Found:
        self.asked.append(cursor)
        first = int(cursor or 0) + 1
        last = min(first + self.page - 1, self.size)
        events = [Event(CHANGED, {"person": MARK, "so": so}, str(so), f"H41-{so}") for so in range(first, last + 1)]
        return Found(events, str(last) if events else None, last < self.size)


@dataclass
class Bulletin:
    """What was published: `ids` in order, each once; `batches` as they came. `refuse`: ids that are refused whole, with
    the batch that they are in; `down`: nothing is taken."""

    ids: list[str] = field(default_factory=list)
    batches: list[list[str]] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)
    refuse: set[str] = field(default_factory=set)
    down: bool = False

    async def publish(self, service: str, events: Sequence[NewEvent]) -> object:
        if self.down:
            raise NotPublished("log-unavailable")
        ids = [event.id for event in events]
        if wrong := [index for index, id in enumerate(ids) if id in self.refuse]:
            raise EventRefused("schema-mismatch", [f"/{index}/data/person" for index in wrong])
        self.batches.append(ids)
        self.events += events
        self.ids += (id for id in ids if id not in self.ids)
        return None


def feed(journal: Journal, bulletin: Bulletin, cursors: Cursors, service: str = "H41/journal/v1") -> Feed:
    """The source of a journal in one process."""
    source = Source(service, EVERY_S, journal.changes)
    return Feed(source, source.changes, "/H41/h41-journal", cursors, bulletin.publish)


def events(name: str = "journal", **others: Any) -> dict[str, Any]:
    """A service of events as a manifest declares it."""
    text = {"vi": "Sổ", "en": "Journal"}
    return {
        "service": name,
        "version": "v1",
        "mode": "event",
        "deadline_s": 60,
        "title": text,
        "description": text,
        "events": {CHANGED: {"title": text, "schema": SCHEMA}},
    } | others


def adapter(*services: dict[str, Any], id: str = "h41-journal", **others: Any) -> Adapter:
    """An adapter of H41 that publishes; with `services` beside."""
    services = (events(), *services)
    return Adapter(Manifest.model_validate({"id": id, "provider": "H41", "services": [*services]} | others))
