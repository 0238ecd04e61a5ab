"""SQL back ends whose database is slow, away, or not to be reached."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import orjson
import pytest

from ngsp.adapter import ManifestError
from ngsp.adapter.declared import FAIR_CALL_S
from ngsp.local.ports import free_port
from tests.backends.sql_office import BY_ID, ROW, SUBMISSION, Serve, case
from tests.support.providers import FILES, SERVERS, Provider
from tests.support.waiting import until

SLOW = {
    "postgresql": "SELECT 1 AS x FROM pg_sleep(60)",
    "mariadb": "SELECT SLEEP(60) AS x",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS x FROM n",
}
RUNNING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND state = 'active'"
    " AND pid <> pg_backend_pid()",
    "mariadb": "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%SLEEP(%'"
    " AND id <> CONNECTION_ID()",
}


async def given_up(register: Provider) -> None:
    """Returns when the server runs no slow statement any more: long before it would end."""

    async def over() -> bool:
        return not await register.value(RUNNING[register.kind])

    await until(over, "the server to give the statement up")


async def test_a_slow_database_is_given_up_and_gives_up_itself(register: Provider, serve: Serve) -> None:
    async with serve(register.url, {"sql": SLOW[register.kind]}, {"timeout_s": 0.5}) as office:
        began = time.monotonic()
        reply = await office.ask({})
        assert (reply.status, reply.code) == ("retry", "backend-timeout")
        assert time.monotonic() - began < 10
        if register.kind != "sqlite":
            await given_up(register)


async def test_the_requests_own_time_is_the_limit(register: Provider, serve: Serve) -> None:
    async with serve(register.url, {"sql": SLOW[register.kind]}) as office:
        began = time.monotonic()
        assert (await office.ask({}, deadline_s=FAIR_CALL_S)).status == "retry"
        assert time.monotonic() - began < 3 * FAIR_CALL_S


@pytest.mark.parametrize("provider", SERVERS, indirect=True)
async def test_a_slow_submission_leaves_nothing_and_comes_again(register: Provider, serve: Serve) -> None:
    call = {
        "sql": "INSERT INTO cases SELECT :id, :person, NULL, NULL FROM (SELECT 1) a WHERE "
        + ("CAST(pg_sleep(:s) AS text)" if register.kind == "postgresql" else "SLEEP(:s)")
        + " IS NOT NULL",
        "parameters": {"id": "id", "person": "payload.person", "s": "payload.seconds"},
    }
    async with serve(register.url, call, {"timeout_s": 0.5}, **SUBMISSION) as office:
        reply = await office.ask(case(seconds=60))
        assert (reply.status, reply.code) == ("retry", "backend-timeout")
        assert await register.value("SELECT count(*) FROM cases") == 0
        await given_up(register)


async def test_a_database_that_is_not_there(serve: Serve, tmp_path: Path) -> None:
    port = free_port()
    for url in (
        f"postgresql://u:p@127.0.0.1:{port}/x",
        f"mysql://u:p@127.0.0.1:{port}/x",
        f"sqlite:///{tmp_path}/none",
        f"mysql://u:p@localhost/x?unix_socket={tmp_path}/none",
        f"postgresql://u@/x?host={tmp_path}",
    ):
        async with serve(url, {"sql": "SELECT 1 AS x"}, allowed="127.0.0.0/8") as office:
            reply = await office.ask({})
            assert (reply.status, reply.code) == ("retry", "backend-down"), url


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_a_server_that_says_nothing(serve: Serve, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://u:p@127.0.0.1:{silent.getsockname()[1]}/x"
        began = time.monotonic()
        backend = {"connect_timeout_s": 0.2, "retry": {"attempts": 1}}
        async with serve(url, {"sql": "SELECT 1 AS x"}, backend, allowed="127.0.0.0/8") as office:
            reply = await office.ask({})
        assert (reply.status, reply.code) == ("retry", "backend-down")
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("provider", ["mariadb"], indirect=True)
async def test_a_user_who_is_not_let_in(register: Provider, serve: Serve) -> None:
    url = register.url.replace("mysql://root@", "mysql://stranger:wrong@")
    async with serve(url, {"sql": "SELECT 1 AS x"}) as office:
        assert (await office.ask({})).code == "backend-down"


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_only_to_allowed_addresses(serve: Serve, scheme: str) -> None:
    with pytest.raises(ManifestError, match="NGSP_ADAPTER_ALLOWED_NETWORKS"):
        async with serve(f"{scheme}://u:p@127.0.0.1/x", {"sql": "SELECT 1 AS x"}):
            raise AssertionError
    with socket.create_server(("127.0.0.1", 0)) as reached:
        url = f"{scheme}://u:p@localhost:{reached.getsockname()[1]}/x"
        async with serve(url, {"sql": "SELECT 1 AS x"}) as office:
            assert (await office.ask({})).code == "backend-address-refused"
        reached.setblocking(False)
        with pytest.raises(BlockingIOError):
            reached.accept()


@pytest.mark.parametrize("provider", FILES, indirect=True)
async def test_the_breaker_leaves_a_database_alone_and_finds_it_again(
    register: Provider, serve: Serve, tmp_path: Path
) -> None:
    """A database that appears: a file put in its place."""
    path = tmp_path / "late.sqlite3"
    breaker = {"breaker": {"failures": 2, "open_s": 1.5}, "retry": {"attempts": 1}}
    async with serve(f"sqlite:///{path}", {"sql": "SELECT 1 AS x"}, breaker) as office:
        codes = [(await office.ask({})).code for _ in range(3)]
        assert codes == ["backend-down", "backend-down", "backend-left-alone"]
        path.touch()

        async def found_again() -> bool:
            return (await office.ask({})).status == "ok"

        await until(found_again, "the breaker to let one through")


@pytest.mark.parametrize("provider", SERVERS, indirect=True)
async def test_a_session_that_died_in_the_pool_is_replaced(register: Provider, serve: Serve) -> None:
    async with serve(register.url, BY_ID, {"connections": 1, "retry": {"attempts": 1}}) as office:
        assert await office.answer({"id": ROW["id"]})
        if register.kind == "mariadb":
            ids = await register.rows(
                "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND command = 'Sleep'"
            )
            await register.run(*(f"KILL {row.id}" for row in ids))
        else:
            await register.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND datname = current_database()"
            )
        assert await office.answer({"id": ROW["id"]})


async def test_a_probe_asks_the_database(register: Provider, serve: Serve) -> None:
    async with serve(register.url, BY_ID) as office:
        found = orjson.loads((await office.ask({}, probe="backend")).body)["backend"]
        assert found["state"] == "ok"
    missing = register.url.replace("provider_", "missing_")
    async with serve(missing, BY_ID) as office:
        found = orjson.loads((await office.ask({}, probe="backend")).body)["backend"]
        assert (found["state"], found["code"]) == ("failed", "backend-down")
