"""What a source gives: events, and where to go on from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ngsp.client.publishing import NewEvent

DEFAULT_EVERY_S = 5.0
LONGEST_EVERY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `type`: one of the service's; `data`: by that type's schema.

    `id`: names this event for ever: given again, it MUST be with the same content, and is published once. `subject`:
    what it is about. `partition_key`: events with the same one are delivered in their order; without it, those with
    the same `subject`. `time`: when it happened, aware. `source`: who says so; `/{provider}/{adapter id}` by itself.
    No identity number stands in any but `data`: all the others go to every subscriber, whatever is granted to it.
    """

    type: str
    data: Any = field(repr=False)
    id: str
    subject: str = field(default="", repr=False)
    time: datetime | None = None
    partition_key: str = field(default="", repr=False)
    source: str = ""

    def to_publish(self, source: str) -> NewEvent:
        """As it is published. `source`: where it has none. ValueError for a time without a zone."""
        return NewEvent(
            source=self.source or source,
            type=self.type,
            data=self.data,
            subject=self.subject,
            partition_key=self.partition_key,
            id=self.id,
            time=self.time,
        )


@dataclass(frozen=True, slots=True)
class Found:
    """What came after a cursor, in its order. `cursor`: what to go on from; None: from where it was. `more`: ask again
    at once."""

    events: Sequence[Event]
    cursor: str | None
    more: bool = False


Changes = Callable[[str | None], Awaitable[Found]]
"""What came after this cursor; None: from the beginning. MUST be the same each time that it is asked from there."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the events of one service come from. `service`: its path. `every_s`: seconds between two looks.

    `changes`: a `Changes`, or a function that takes the adapter's resources behind the cursor (`wants_resources`).
    """

    service: str
    every_s: float
    changes: Callable[..., Awaitable[Found]]
    wants_resources: bool = False

    def over(self, resources: Any) -> Changes:
        """The function, given the adapter's resources where it wants them."""
        if not self.wants_resources:
            return self.changes
        return lambda cursor: self.changes(cursor, resources)
