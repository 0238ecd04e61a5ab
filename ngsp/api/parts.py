"""What the routes work with: put together in `ngsp/app.py`, found through the request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from starlette.requests import Request

if TYPE_CHECKING:
    import asyncpg

    from ngsp.config import Settings
    from ngsp.events.dispatch import Dispatcher
    from ngsp.events.publishing import Publisher
    from ngsp.gate import Gate
    from ngsp.identity.tokens import Tokens
    from ngsp.metrics import Metrics
    from ngsp.probing import Prober
    from ngsp.refusals import Refusals
    from ngsp.registry.store import Registry
    from ngsp.transactions.find import Finder
    from ngsp.transactions.statistics import Statistics


@dataclass(slots=True)
class Parts:
    """The running gateway's collaborators.

    `checks`: part → what is wrong with it now, empty while it is well (`/readyz`). `closing` is set at shutdown, so
    that streams and waits end by themselves.
    """

    settings: Settings
    registry: Registry
    tokens: Tokens
    finder: Finder
    statistics: Statistics
    pool: asyncpg.Pool
    metrics: Metrics
    refusals: Refusals
    gate: Gate
    prober: Prober
    publisher: Publisher
    dispatcher: Dispatcher
    checks: Mapping[str, Callable[[], str]]
    closing: asyncio.Event = field(default_factory=asyncio.Event)


def parts(request: Request) -> Parts:
    return cast("Parts", request.app.state.parts)
