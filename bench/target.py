"""What is measured: anything that answers HTTP over the bench's PostgreSQL and Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.plan import RequestPlan
    from ngsp.local.kafka import LocalKafka
    from ngsp.local.postgres import LocalPostgres


class Target(Protocol):
    """One gateway process and its adapter, started once and measured many times.

    Started in turn with the other targets on the same servers: databases and topics bear the target's own name.
    """

    @property
    def name(self) -> str: ...

    async def start(self, postgres: LocalPostgres, kafka: LocalKafka) -> None:
        """Returns once a request would be answered. After a failure `stop` is called all the same."""

    async def request(self) -> tuple[int, RequestPlan]:
        """The gateway's port on 127.0.0.1 and what to send there, asked for before each run (a token may have aged)."""

    def processes(self) -> Mapping[str, int]:
        """The process ids whose processor time is told: `gateway`, `adapter`."""

    async def stop(self) -> None:
        """Ends the processes; does nothing where none were started."""
