"""Publishing through a gateway, by the client for callers: what sources of an adapter's own process give to."""

from __future__ import annotations

from collections.abc import Sequence

from ngsp.adapter.sources import EventRefused, NotPublished, Publish
from ngsp.client import AsyncClient
from ngsp.client.errors import CallError, Forbidden, MalformedRequest, Missing, Problem, TooLarge, Unprocessable
from ngsp.client.publishing import NewEvent

_REFUSALS = (Forbidden, MalformedRequest, Missing, TooLarge, Unprocessable)
"""What the same events would be answered again."""


def through(gateway: AsyncClient) -> Publish:
    """Publishes as the client of `gateway`."""

    async def publish(service: str, events: Sequence[NewEvent]) -> object:
        try:
            return await gateway.publish(service, events)
        except _REFUSALS as refused:
            at = "/0" if len(events) == 1 else ""  # one alone is no list
            raise EventRefused(refused.code, (at + fault.pointer for fault in refused.faults)) from None
        except Problem as problem:
            raise NotPublished(problem.code) from None
        except CallError as error:
            raise NotPublished(type(error).__name__) from None

    return publish
