"""Guessing is slowed over all gateways: what one counts, the others know, without a write for each attempt."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from ngsp.errors import TooManyAttempts
from ngsp.identity import attempts as module
from ngsp.identity.attempts import FREE_ADDRESS, FREE_CLIENT, FREE_PAIR, Attempts
from ngsp.identity.sharing import KEPT_S, MOST_TOLD, Sharing
from ngsp.local.postgres import LocalPostgres
from tests.identity.side import GRANT, Side, basic, fresh_address, running_side
from tests.identity.test_attempts import attempt, sha256, waits_s
from tests.support.gateway import Rig, further_gateway, running_gateway
from tests.support.registry import temporary_database
from tests.support.waiting import until


@pytest.fixture(scope="module")
async def two(postgres: LocalPostgres) -> AsyncIterator[tuple[Side, Side]]:
    """Two gateways' identity sides; each shares when it is told to."""
    async with running_side(postgres) as one, running_side(postgres, one.url, kek=one.settings.kek) as other:
        yield one, other


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No penalty is over before the test is, however slow the machine."""
    monkeypatch.setattr(module, "FIRST_PENALTY_S", 120.0)


@pytest.fixture
async def rows(postgres: LocalPostgres) -> AsyncIterator[asyncpg.Pool]:
    async with temporary_database(postgres) as url, asyncpg.create_pool(url, min_size=1, max_size=2) as found:
        yield found


async def shared(*sides: Side) -> None:
    """All have told and heard all."""
    for side in (*sides, *sides):
        await side.sharing.step()


async def guess(side: Side, client_id: str, address: str, secret: str = "wrong") -> int:
    answer = await side.ask(GRANT, basic(client_id, secret), address)
    if answer.status_code == 429:
        assert answer.json()["code"] == "too-many-attempts"
        assert int(answer.headers["Retry-After"]) > 60
    return answer.status_code


async def test_a_guesser_is_refused_by_the_gateway_it_never_tried(two: tuple[Side, Side]) -> None:
    one, other = two
    (client_id, secret), address = await one.client(), fresh_address()
    await until(lambda: client_id in other.registry.snapshot.clients, "the other gateway to know the client")
    assert [await guess(one, client_id, address) for _ in range(FREE_PAIR)] == [401] * FREE_PAIR
    await shared(one, other)
    assert await guess(other, client_id, address) == 429
    assert await guess(other, client_id, address, secret) == 429, "not even with the right one"
    assert await guess(other, client_id, fresh_address(), secret) == 200, "from elsewhere it is itself"


async def test_failures_at_each_add_up(two: tuple[Side, Side]) -> None:
    one, other = two
    (client_id, _), address = await one.client(), fresh_address()
    for side, times in ((one, 2), (other, 2)):
        assert [await guess(side, client_id, address) for _ in range(times)] == [401] * times
        await shared(one, other)
    assert await guess(one, client_id, address) == 401
    await shared(one, other)
    assert [await guess(side, client_id, address) for side in two] == [429, 429]


async def test_an_address_that_tries_many_clients_is_stopped_everywhere_but_for_whom_it_is_known(
    two: tuple[Side, Side],
) -> None:
    one, other = two
    (client_id, secret), address = await one.client(), fresh_address()
    assert await guess(one, client_id, address, secret) == 200
    for number in range(FREE_ADDRESS):
        assert await guess(one, f"nobody-{number}", address) == 401
    await shared(one, other)
    assert await guess(other, "nobody-else", address) == 429
    await until(lambda: client_id in other.registry.snapshot.clients, "the other gateway to know the client")
    assert await guess(other, client_id, address, secret) == 200, "it had succeeded from there, at the first gateway"


async def test_a_success_begins_anew_everywhere(two: tuple[Side, Side]) -> None:
    one, other = two
    (client_id, secret), address = await one.client(), fresh_address()
    await until(lambda: client_id in other.registry.snapshot.clients, "the other gateway to know the client")
    for side in (one, other, one):
        for _ in range(FREE_PAIR - 1):
            assert await guess(side, client_id, address) == 401
        await shared(one, other)
        assert await guess(other, client_id, address, secret) == 200
        await shared(one, other)


async def test_the_table_shows_nothing_of_what_was_presented(two: tuple[Side, Side]) -> None:
    side, _ = two
    presented, address = "a-secret-in-the-wrong-field", fresh_address()
    for _ in range(3):
        assert await guess(side, presented, address, "another-secret") == 401
    await shared(side)
    connection = await asyncpg.connect(side.url)
    stored = str([tuple(row) for row in await connection.fetch("SELECT * FROM failed_attempts")])
    await connection.close()
    assert "pair" in stored
    for word in (presented, address, "another-secret", sha256(presented.encode()).hex()):
        assert word not in stored


# What it costs


async def test_a_second_costs_a_statement_of_bounded_size(rows: asyncpg.Pool) -> None:
    """The highest counts first; a botnet's single failures are not told at all, the client they were for is."""
    attempts = Attempts(sha256)
    one, other = Sharing(rows, attempts), Sharing(rows, Attempts(sha256))
    now_s = time.time()
    for number in range(1000):
        attempts.failed("c", f"single-{number}", now_s)
    await one.step()
    assert [row["kind"] for row in await rows.fetch("SELECT kind FROM failed_attempts")] == ["client"]
    for number in range(3 * MOST_TOLD):
        for _ in range(2 + number % 2):
            attempts.failed(f"c-{number}", f"double-{number}", now_s)
    for seconds in (1, 2, 3):
        await one.step()
        assert await rows.fetchval("SELECT count(*) FROM failed_attempts") == 1 + seconds * MOST_TOLD
        if seconds == 1:
            assert await rows.fetchval("SELECT min(failures) FROM failed_attempts") == 3
    await other.step()
    assert await rows.fetchval("SELECT max(failures) FROM failed_attempts") == 1000


async def test_a_client_tried_from_many_addresses_is_answered_later_everywhere(rows: asyncpg.Pool) -> None:
    tried, asked = Attempts(sha256), Attempts(sha256)
    for number in range(FREE_CLIENT + 10):
        attempt(tried, "c", f"a-{number}", time.time())
    assert attempt(asked, "c", "b", time.time()) == 0.0
    await Sharing(rows, tried).step()
    await Sharing(rows, asked).step()
    delay_s = attempt(asked, "c", "b", time.time())
    assert delay_s is not None
    assert delay_s >= 1.0


async def test_calm_fades_what_was_shared_and_at_last_deletes_it(rows: asyncpg.Pool) -> None:
    attempts, now_s = Attempts(sha256), time.time()
    for _ in range(4):
        attempts.failed("faded", "a", now_s)
        attempts.succeeded("good", "a", now_s)
    await Sharing(rows, attempts).step()
    ago = f"{KEPT_S + 60} seconds"
    await rows.execute(f"UPDATE failed_attempts SET failed_at = now() - '{ago}'::interval")
    attempts.failed("faded", "a", now_s)
    await Sharing(rows, attempts).step()
    assert await rows.fetchval("SELECT max(failures) FROM failed_attempts WHERE good_at IS NULL") == 1
    await rows.execute(f"UPDATE failed_attempts SET changed_at = now() - '{ago}'::interval")
    await Sharing(rows, Attempts(sha256)).step()
    assert [row["kind"] for row in await rows.fetch("SELECT kind FROM failed_attempts")] == ["pair"]
    fresh = Attempts(sha256)
    await Sharing(rows, fresh).step()
    assert fresh.is_known_good("good", "a", time.time()), "a gateway that starts knows who is known"


# Without the database


@asynccontextmanager
async def database_away(pool: asyncpg.Pool, server: LocalPostgres) -> AsyncIterator[None]:
    name = await pool.fetchval("SELECT current_database()")
    outside = await asyncpg.connect(server.url("postgres"))
    await outside.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    await outside.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", name)
    try:
        yield
    finally:
        await outside.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await outside.close()


async def test_without_the_database_each_slows_by_itself_and_tells_afterwards(
    rows: asyncpg.Pool, postgres: LocalPostgres
) -> None:
    one, other = Attempts(sha256), Attempts(sha256)
    sharing, hearing = Sharing(rows, one), Sharing(rows, other)
    await sharing.step()
    async with database_away(rows, postgres):
        for _ in range(FREE_PAIR):
            assert attempt(one, "c", "a", time.time()) == 0.0
            await sharing.step()
        assert waits_s(one, "c", "a", time.time()) > 60
        await hearing.step()
        assert waits_s(other, "c", "a", time.time()) == 0.0
    for step in (sharing.step, hearing.step):
        await step()
    assert waits_s(other, "c", "a", time.time()) > 60
    assert await rows.fetchval("SELECT failures FROM failed_attempts WHERE kind = 'pair'") == FREE_PAIR


# Whole gateways


async def test_two_gateways_share_by_themselves(postgres: LocalPostgres, tmp_path: Path) -> None:
    def knows(gateway: Rig) -> bool:
        try:
            with gateway.parts.tokens.clients.attempts.attempt("caller", "127.0.0.1", time.time()):
                return False
        except TooManyAttempts:
            return True

    async def asked(gateway: Rig, secret: str) -> int:
        answer = await gateway.http.post("/oauth2/token", data=GRANT, auth=("caller", secret))
        return answer.status_code

    async with running_gateway(postgres, tmp_path) as first, further_gateway(first, tmp_path / "second") as second:
        assert [await asked(first, "wrong") for _ in range(FREE_PAIR + 1)] == [401] * FREE_PAIR + [429]
        await until(lambda: knows(second), "the second gateway to hear of it")
        assert await asked(second, "wrong") == 429
        assert await asked(second, first.secrets["caller"]) == 429
        assert await asked(second, first.secrets["other"]) == 429
        answer = await second.http.post("/oauth2/token", data=GRANT, auth=("other", first.secrets["other"]))
        assert answer.status_code == 200, "another client behind the same address"
