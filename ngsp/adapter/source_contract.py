"""The contract of a source, tried: what it gives fits the schemas, and is what it was when the answer was recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ngsp.adapter.definition import Adapter, AdapterError
from ngsp.adapter.event_types import EventTypes
from ngsp.adapter.events import Found
from ngsp.adapter.recordings import Recording
from ngsp.text import Text, tr

Look = Callable[[str | None], Found]
"""What a source gives for a cursor. May raise AdapterError."""


def given(adapter: Adapter, found: Found) -> dict[str, Any]:
    """What a source gave, as recordings have it. ValueError where an event can be none."""
    events = [event.to_publish(adapter.source_name).document() for event in found.events]
    return {"events": events, "cursor": found.cursor, "more": found.more}


def try_recorded(
    adapter: Adapter, path: str, look: Look, recordings: Sequence[tuple[Path, Recording]]
) -> tuple[Text, list[str]]:
    """What was tried, and what is wrong."""
    faults = [f"{file}:1: {fault}" for file, one in recordings for fault in _recorded(adapter, path, look, one)]
    number = len(recordings)
    return Text(f"nguồn: {number} câu trả lời ghi sẵn", f"source: {number} recorded answers"), faults


def _recorded(adapter: Adapter, path: str, look: Look, recording: Recording) -> Iterator[str]:
    found, faults = _looked(adapter, path, look, recording.request)
    yield from faults
    if found is not None and found != recording.expect.reply:
        yield "/expect/reply: " + tr("sự kiện đã khác", "the events have changed")


def try_live(adapter: Adapter, path: str, look: Look) -> tuple[Text, list[str]]:
    """One look from the beginning."""
    found, faults = _looked(adapter, path, look, None)
    number = len(found["events"]) if found else 0
    return Text(f"nguồn: {number} sự kiện", f"source: {number} events"), list(faults)


def _looked(adapter: Adapter, path: str, look: Look, cursor: str | None) -> tuple[dict[str, Any] | None, list[str]]:
    try:
        found = given(adapter, look(cursor))
    except AdapterError as error:
        said = f"{type(error).__name__} {error.code}".strip()
        return None, [tr(f"nguồn không cho sự kiện: {said}", f"the source gives no events: {said}")]
    types = EventTypes(adapter.published()[path].schemas)
    faults = [
        f"/{index}{fault.pointer}: {tr(fault.detail.vi, fault.detail.en)}"
        for index, event in enumerate(found["events"])
        for fault in types.faults(event)
    ]
    return found, faults
