"""The events of a service as a gateway checks them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ngsp.errors import Fault
from ngsp.registry.event_schemas import envelope_schema, event_faults
from ngsp.registry.schemas import compiled


class EventTypes:
    """The types of one service: name → schema of `data`."""

    def __init__(self, schemas: Mapping[str, dict[str, Any]]) -> None:
        self._envelope = compiled(envelope_schema(schemas))
        self._types = {name: compiled(schema) for name, schema in schemas.items()}

    def faults(self, event: Any) -> tuple[Fault, ...]:
        """What is wrong with a whole CloudEvent; never echoes it."""
        return event_faults(event, self._envelope, self._types)
