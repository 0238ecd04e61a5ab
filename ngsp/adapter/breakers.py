"""The breakers of an adapter, under names: what its heartbeat tells and its log says of the systems behind it."""

from __future__ import annotations

import re
from collections.abc import Callable

import structlog

from ngsp.adapter.breaker import Breaker, BreakerState

MOST_BREAKERS = 50
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")

log = structlog.get_logger(__name__)


class Breakers(dict[str, Breaker]):
    """The breakers of an adapter by name: `adapter.breakers["registry"] = Breaker()`.

    What is in here is told with each heartbeat, and its changes of state stand in the log. A name is `a-z0-9-`, at most
    40 characters; ValueError for another, and for more than 50.
    """

    def __init__(self, adapter: Callable[[], str]) -> None:
        super().__init__()
        self._adapter = adapter

    def __setitem__(self, name: str, breaker: Breaker) -> None:
        if not _NAME.fullmatch(name) or (name not in self and len(self) >= MOST_BREAKERS):
            raise ValueError(f"{name!r} cannot be the name of a breaker, or there are {MOST_BREAKERS} already")

        def say(state: BreakerState) -> None:
            if self.get(name) is breaker:
                log.warning("a breaker has changed", adapter=self._adapter(), breaker=name, state=state)

        if self.get(name) is not breaker:
            super().__setitem__(name, breaker)
            breaker.listen(say)

    def states(self) -> dict[str, BreakerState]:
        return {name: breaker.state for name, breaker in self.items()}
