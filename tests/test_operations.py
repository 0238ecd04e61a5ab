"""`/livez`, `/readyz` and `/metrics` over a real server, with a real database behind one of the parts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import asyncpg
import httpx
import pytest
import structlog
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from ngsp.api import operations
from ngsp.api.server import running
from ngsp.database import migrate
from ngsp.errors import LogUnavailable
from ngsp.local.postgres import LocalPostgres
from ngsp.metrics import Metrics
from ngsp.quota import Quotas
from ngsp.registry.model import Agreement
from ngsp.transactions.gateways import DATABASE_TROUBLE

if TYPE_CHECKING:
    from pathlib import Path

NOW_S = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
HOST = "kafka-3.internal.example:9092"


@dataclass
class Held:
    """What these routes take of the gateway's parts."""

    troubles: dict[str, str] = field(default_factory=lambda: dict.fromkeys(("log", "bus", "registry", "draining"), ""))
    checks: dict[str, Callable[[], str]] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        for name in self.troubles:
            self.checks[name] = partial(self.troubles.__getitem__, name)


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
async def client(held: Held) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(operations.router)
    app.state.parts = held
    # uvicorn's types of an application are narrower than Starlette's
    async with running(cast("Any", app)) as url, httpx.AsyncClient(base_url=url) as found:
        yield found


async def test_alive_whatever_is_wrong(client: httpx.AsyncClient, held: Held) -> None:
    held.troubles["log"] = "broken"
    answer = await client.get("/livez")
    assert (answer.status_code, answer.json()) == (200, {"live": True})
    assert answer.headers["cache-control"] == "no-store"


async def test_ready_when_every_part_is(client: httpx.AsyncClient) -> None:
    answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "parts": {"log": "ok", "bus": "ok", "registry": "ok", "draining": "ok"}}


@pytest.mark.parametrize(
    ("part", "code"),
    [("log", "log-unavailable"), ("bus", "bus-unavailable"), ("registry", "registry-stale"), ("draining", "draining")],
)
async def test_not_ready_says_which_part_in_both_languages(
    client: httpx.AsyncClient, held: Held, part: str, code: str
) -> None:
    held.troubles[part] = f"no connection to {HOST} as ngsp:hunter2"
    vietnamese = await client.get("/readyz")
    english = await client.get("/readyz", headers={"accept-language": "en"})
    for answer in (vietnamese, english):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        document = answer.json()
        assert document["ready"] is False
        assert document["parts"] == {**dict.fromkeys(held.troubles, "ok"), part: code}
        assert list(document["reasons"]) == [part]
        assert HOST not in answer.text
        assert "hunter2" not in answer.text
    assert vietnamese.json()["reasons"] != english.json()["reasons"]
    assert (vietnamese.headers["content-language"], english.headers["content-language"]) == ("vi", "en")
    held.troubles[part] = ""
    assert (await client.get("/readyz")).status_code == 200


async def test_a_check_that_fails_is_a_part_that_is_not_well(client: httpx.AsyncClient, held: Held) -> None:
    held.checks["something new"] = lambda: str(1 / 0)
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["parts"]["something new"] == "not-ready"


async def test_each_change_is_logged_once(client: httpx.AsyncClient, held: Held) -> None:
    with structlog.testing.capture_logs() as logged:
        for trouble in ("", "down", "still down", "", ""):
            held.troubles["bus"] = trouble
            await client.get("/readyz")
    assert [(line["event"], line.get("reason")) for line in logged] == [
        ("a part is not ready", "down"),
        ("a part is ready again", None),
    ]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_head_is_get_without_its_body(client: httpx.AsyncClient, held: Held, path: str) -> None:
    held.troubles["bus"] = "down"
    get, head = await client.get(path), await client.head(path)
    assert head.status_code == get.status_code
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]
    assert (await client.post(path)).status_code == 405


async def test_metrics_are_in_the_form_prometheus_reads(client: httpx.AsyncClient, held: Held) -> None:
    held.metrics.exchange("G01.01/population-lookup/v1", "succeeded", "", {"admit": 300, "bus": 4_000})
    held.metrics.refused("quota-exhausted")
    held.metrics.gauge("ngsp_in_flight", lambda: 3)
    answer = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert families["ngsp_exchanges"].samples[0].value == 1
    assert families["ngsp_in_flight"].samples[0].value == 3
    assert families["ngsp_refusals"].samples[0].labels == {"code": "quota-exhausted"}


async def test_a_lost_database_is_shown_and_its_return_too(
    client: httpx.AsyncClient, held: Held, tmp_path: Path
) -> None:
    async with LocalPostgres(tmp_path) as server:
        await server.create_database("operations")
        await migrate(server.url("operations"))
        async with asyncpg.create_pool(server.url("operations"), min_size=1, max_size=2) as pool:
            quotas, agreement = Quotas(pool, lambda: 1), _agreement()
            held.checks["database"] = quotas.trouble
            await quotas.charge(agreement, NOW_S)
            assert (await client.get("/readyz")).status_code == 200
            server.kill()
            with pytest.raises(LogUnavailable):
                await quotas.charge(agreement, NOW_S)
            answer = await client.get("/readyz")
            assert answer.status_code == 503
            assert answer.json()["parts"]["database"] == "database-unavailable"
            await server.start()
            async with asyncio.timeout(10):
                while quotas.trouble():
                    with contextlib.suppress(*DATABASE_TROUBLE):
                        await quotas.step()
                    await asyncio.sleep(0.02)
            assert (await client.get("/readyz")).status_code == 200


def _agreement() -> Agreement:
    return Agreement(
        id="0192f0c1-0000-7000-8000-000000000001",
        version=1,
        consumer="H41",
        service="G01.01/population-lookup/v1",
        purposes=frozenset(("birth-registration",)),
        legal_basis="",
        fields=("",),
        quota_per_minute=50,
        quota_per_day=None,
        valid_from=datetime(2026, 1, 1, tzinfo=UTC),
        valid_to=None,
        state="accepted",
    )
