"""Which brokers cannot be reached: known once for all clients of a process, so that one of them tries and not each.

Left alone, every loop inside every aiokafka client calls a broker that is away ten times a second and says so in the
log. Here the calls to one broker are paced together: the first that is due is the scout, the others wait or are told
that it is away. The longest pause is short, because it is also how late the end of an outage is noticed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from aiokafka.client import AIOKafkaClient, ConnectionGroup

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0


@dataclass(slots=True)
class _Away:
    """A broker that could not be reached. `due_at`: when the next call may be made; infinite while one is."""

    pause_s: float
    due_at: float


class Reach:
    """How the brokers of one bus can be reached."""

    def __init__(self) -> None:
        self._away: dict[Hashable, _Away] = {}
        self._trouble = "not started"
        self._well = asyncio.Event()

    @property
    def trouble(self) -> str:
        """Why messages cannot travel now; empty while they can."""
        return self._trouble

    @trouble.setter
    def trouble(self, reason: str) -> None:
        self._trouble = reason
        if reason:
            self._well.clear()
        else:
            self._well.set()

    async def well(self) -> None:
        """Returns when messages can travel."""
        await self._well.wait()

    def guard(self, client: AIOKafkaClient) -> None:
        """Makes `client` call brokers at this pace."""
        client._get_conn = _Connecting(self._away, client)


class _Connecting:
    """In the place of a client's `_get_conn`: the connection to a broker, None where it cannot be reached."""

    def __init__(self, away: dict[Hashable, _Away], client: AIOKafkaClient) -> None:
        self._away, self._client, self._connect = away, client, client._get_conn

    async def __call__(self, node: Hashable, **options: Any) -> Any:
        away = self._away.get(node)
        if away is None:
            connection = await self._connect(node, **options)
            if connection is None:
                self._away.setdefault(node, _Away(FIRST_PAUSE_S, time.monotonic() + FIRST_PAUSE_S))
            return connection
        there = self._client._conns.get((node, options.get("group", ConnectionGroup.DEFAULT)))
        if there is not None and there.connected():
            return there
        if not self._others():
            # Nothing else can be asked: wait here, instead of in the loops of whoever asks.
            await asyncio.sleep(min(LONGEST_PAUSE_S, max(0.0, away.due_at - time.monotonic())))
        if self._away.get(node) is away and time.monotonic() < away.due_at:
            return None
        return await self._scout(node, away, **options)

    async def _scout(self, node: Hashable, away: _Away, **options: Any) -> Any:
        away.due_at = float("inf")
        try:
            connection = await self._connect(node, **options)
        finally:
            away.pause_s = min(LONGEST_PAUSE_S, away.pause_s * 2)
            away.due_at = time.monotonic() + away.pause_s * random.uniform(0.75, 1.0)
        if connection is not None:
            self._away.pop(node, None)
        return connection

    def _others(self) -> bool:
        """Whether the cluster has a broker that is not away."""
        return any(broker.nodeId not in self._away for broker in self._client.cluster.brokers())
