"""The floor does the work it is said to do: over real servers, two durable rows and two messages a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest
from aiokafka.errors import TopicAlreadyExistsError

from bench.figures import LoadResult
from bench.floor.kafka import start_consumer
from bench.floor.target import DATABASE, REPLY_TOPIC, REQUEST_TOPIC, FloorTarget
from bench.machine import postgres_version
from bench.measure import CLOSED_16, OPEN_1000, Effort, Level, measure, run_load_process
from bench.topics import create_topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ngsp.local.kafka import LocalKafka
    from ngsp.local.postgres import LocalPostgres


@pytest.fixture(scope="module")
async def floor(postgres: LocalPostgres, kafka: LocalKafka) -> AsyncIterator[FloorTarget]:
    target = FloorTarget()
    try:
        await target.start(postgres, kafka)
        yield target
    finally:
        await target.stop()
        await postgres.drop_database(DATABASE)


async def count_rows(postgres: LocalPostgres) -> tuple[int, int, int]:
    """Requests, rows, and requests that do not have exactly one row of each kind, the acceptance committed first."""
    connection = await asyncpg.connect(postgres.url(DATABASE))
    try:
        found = await connection.fetchrow(
            """
            SELECT count(*), coalesce(sum(rows), 0)::bigint, count(*) FILTER (WHERE NOT whole)
            FROM (SELECT count(*) AS rows, array_agg(kind ORDER BY xid::text::bigint, kind) = '{1,2}'
                         AND count(DISTINCT xid) = 2 AND bool_and(length(entry) = 600) AS whole
                  FROM entries GROUP BY id) AS requests
            """
        )
        return found[0], found[1], found[2]
    finally:
        await connection.close()


async def count_messages(kafka: LocalKafka, topic: str) -> int:
    consumer = await start_consumer(kafka.bootstrap, topic)
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        return sum(ends.values())
    finally:
        await consumer.stop()


async def test_every_request_is_two_commits_and_a_way_there_and_back(
    floor: FloorTarget, postgres: LocalPostgres, kafka: LocalKafka
) -> None:
    requests_before, rows_before, _ = await count_rows(postgres)
    messages_before = [await count_messages(kafka, topic) for topic in (REQUEST_TOPIC, REPLY_TOPIC)]
    port, plan = await floor.request()
    result = await run_load_process(port, plan, Level(8), 0.5, 0.0)
    assert result.errors.total == 0
    assert result.answered > 0
    requests, rows, broken = await count_rows(postgres)
    assert requests - requests_before == result.answered_in_all
    assert rows - rows_before == 2 * result.answered_in_all
    assert broken == 0
    for topic, before in zip((REQUEST_TOPIC, REPLY_TOPIC), messages_before, strict=True):
        assert await count_messages(kafka, topic) - before == result.answered_in_all


async def test_the_whole_bench_over_the_floor(floor: FloorTarget, postgres: LocalPostgres, kafka: LocalKafka) -> None:
    assert postgres.pid is not None
    assert kafka.pid is not None
    effort = Effort(window_s=0.3, warmup_s=0.0, repetitions=1, first_warmup_s=0.2)
    servers = {"kafka": kafka.pid, "postgres": postgres.pid}
    samples = [sample async for sample in measure([floor], servers, effort)]
    assert [sample.level.rate_per_s for sample in samples] == [None, None, None, 1000]
    for sample in samples:
        assert sample.target == "floor"
        assert isinstance(sample.load, LoadResult)
        assert sample.load.errors.total == 0
        assert set(sample.processor_us) == {"gateway", "adapter", "kafka", "postgres", "load"}
        assert sample.processor_us["load"] > 0
        assert 0 <= sample.others_share <= 1
    assert samples[0].level == CLOSED_16
    assert samples[-1].level == OPEN_1000


async def test_topics_are_not_made_twice(floor: FloorTarget, kafka: LocalKafka) -> None:
    with pytest.raises(TopicAlreadyExistsError, match=r"bench\.floor\.requests"):
        await create_topics(kafka.bootstrap, REQUEST_TOPIC)


async def test_the_database_names_its_version(postgres: LocalPostgres) -> None:
    assert (await postgres_version(postgres)).startswith("PostgreSQL 18")
