"""SQL back ends read: rows as JSON within their limits, parameters bound, nothing written."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.backends.sql_office import BY_ID, ROW, Serve
from tests.support.providers import SERVERS, Provider


async def test_a_row_is_json(register: Provider, serve: Serve) -> None:
    expected = ROW if register.kind == "postgresql" else ROW | {"active": 1}
    async with serve(register.url, BY_ID) as office:
        assert await office.answer({"id": ROW["id"]}) == expected


async def test_no_row_is_not_found_and_a_rule_may_name_it(register: Provider, serve: Serve) -> None:
    async with serve(register.url, BY_ID) as office:
        reply = await office.ask({"id": "none"})
        assert (reply.status, reply.code) == ("not-found", "")
    rule = {"when": "status == `0`", "outcome": "not-found", "code": "KHONG-CO"}
    async with serve(register.url, BY_ID, outcomes=[rule]) as office:
        assert (await office.ask({"id": "none"})).code == "KHONG-CO"


def numbers(count: int) -> str:
    return f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) SELECT i FROM n"


async def test_many_rows_are_a_list_within_its_limit(register: Provider, serve: Serve) -> None:
    call = {"sql": f"{numbers(300)} WHERE i <= :most", "parameters": {"most": "payload.most"}, "rows": "many"}
    async with serve(register.url, call | {"max_rows": 250}) as office:
        assert await office.answer({"most": 3}) == [{"i": 1}, {"i": 2}, {"i": 3}]
        assert await office.answer({"most": 0}) == []
        assert len(await office.answer({"most": 250})) == 250
        reply = await office.ask({"most": 251})
        assert (reply.status, reply.code) == ("failed", "backend-too-many-rows")
        assert await office.answer({"most": 1}) == [{"i": 1}]


async def test_one_row_must_be_one(register: Provider, serve: Serve) -> None:
    async with serve(register.url, {"sql": numbers(2)}) as office:
        assert (await office.ask({})).code == "backend-too-many-rows"


async def test_what_is_too_large_is_not_read_on(register: Provider, serve: Serve) -> None:
    """Nothing of a million rows stays in memory, and the time they would take is not waited for."""
    wide = "a" * 200
    call = {"sql": f"SELECT '{wide}' AS x, n.i FROM ({numbers(900)}) n, ({numbers(900)}) m", "rows": "many"}
    async with serve(register.url, call | {"max_rows": 10_000}, {"max_answer_bytes": 100_000}) as office:
        began = time.monotonic()
        reply = await office.ask({})
        assert (reply.status, reply.code) == ("failed", "backend-too-large")
        assert time.monotonic() - began < 10


async def test_columns_must_differ(register: Provider, serve: Serve) -> None:
    async with serve(register.url, {"sql": "SELECT 1 AS a, 2 AS a"}) as office:
        reply = await office.ask({})
        assert (reply.status, reply.code) == ("failed", "backend-columns-alike")


async def test_what_shall_be_json_must_be(register: Provider, serve: Serve) -> None:
    async with serve(register.url, {"sql": "SELECT 'not json' AS file", "json": ["file"]}) as office:
        assert (await office.ask({})).code == "backend-not-json"
    async with serve(register.url, {"sql": "SELECT 1 AS x", "json": ["file"]}) as office:
        assert (await office.ask({})).code == "backend-no-such-column"


@pytest.mark.parametrize("provider", SERVERS, indirect=True)
async def test_a_number_that_json_would_change_is_a_failure(register: Provider, serve: Serve) -> None:
    exact = "CAST('12345678901234567.25' AS decimal(30,2))"
    async with serve(register.url, {"sql": f"SELECT {exact} AS x"}) as office:
        assert (await office.ask({})).code == "backend-number"
    async with serve(register.url, {"sql": f"SELECT CAST({exact} AS char(20)) AS x"}) as office:
        assert await office.answer({}) == {"x": "12345678901234567.25"}


@pytest.mark.parametrize("provider", SERVERS, indirect=True)
@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("CAST(12 AS decimal(10,2))", 12),
        ("CAST('0.10' AS decimal(10,2))", 0.1),
        ("CAST('-9007199254740991' AS decimal(20,0))", -9007199254740991),
        ("CAST('2025-07-01' AS date)", "2025-07-01"),
        ("CAST(NULL AS date)", None),
    ],
)
async def test_values_stay_what_they_are(register: Provider, serve: Serve, column: str, expected: object) -> None:
    async with serve(register.url, {"sql": f"SELECT {column} AS x"}) as office:
        assert await office.answer({}) == {"x": expected}


@pytest.mark.parametrize(
    ("column", "expected"), [("'100%'", "100%"), ("7 % 4", 3), ("'a\\:b'", "a:b"), ("'it''s'", "it's")]
)
async def test_signs_in_the_statement_stay(register: Provider, serve: Serve, column: str, expected: object) -> None:
    async with serve(register.url, {"sql": f"SELECT {column} AS x"}) as office:
        assert await office.answer({}) == {"x": expected}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("born", "1999-12-31"),
        ("fee", 1250000.5),
        ("name", "Nguyễn Thị Dấu"),
        ("opens", "07:30:00"),
        ("id", "900099000001"),
    ],
)
async def test_parameters_take_the_type_of_their_place(
    register: Provider, serve: Serve, column: str, value: object
) -> None:
    call = {"sql": f"SELECT id FROM people WHERE {column} = :value", "parameters": {"value": "payload.value"}}
    async with serve(register.url, call) as office:
        assert await office.answer({"value": value}) == {"id": ROW["id"]}
        assert (await office.ask({"value": None})).status == "not-found"


async def test_objects_and_lists_are_bound_as_json(register: Provider, serve: Serve) -> None:
    kind = "jsonb" if register.kind == "postgresql" else "char"
    call = {"sql": f"SELECT CAST(:x AS {kind}) AS x", "parameters": {"x": "payload.x"}, "json": ["x"]}
    async with serve(register.url, call) as office:
        for value in ({"a": [1, "'"]}, [], [[0.5, None]]):
            assert await office.answer({"x": value}) == {"x": value}


async def test_more_queries_at_once_than_connections_wait_for_their_turn(register: Provider, serve: Serve) -> None:
    async with serve(register.url, BY_ID, {"connections": 2}) as office:
        found = await asyncio.gather(*(office.answer({"id": ROW["id"]}) for _ in range(40)))
    assert {row["id"] for row in found} == {ROW["id"]}


WRITES = {
    "postgresql": "WITH gone AS (DELETE FROM people RETURNING id) SELECT count(*) AS n FROM gone",
    "mariadb": "CALL forget()",
}


@pytest.mark.parametrize("provider", SERVERS, indirect=True)
async def test_a_query_writes_nothing(register: Provider, serve: Serve) -> None:
    if register.kind == "mariadb":
        await register.run("DROP PROCEDURE IF EXISTS forget", "CREATE PROCEDURE forget() DELETE FROM people")
    async with serve(register.url, {"sql": WRITES[register.kind]}) as office:
        reply = await office.ask({})
    assert (reply.status, reply.code) == ("failed", "sqlstate-25006")
    assert await register.value("SELECT count(*) FROM people") == 1


@pytest.mark.parametrize("provider", SERVERS, indirect=True)
async def test_a_procedure_answers_a_query(register: Provider, serve: Serve) -> None:
    if register.kind == "mariadb":
        await register.run(
            "DROP PROCEDURE IF EXISTS find_one",
            "CREATE PROCEDURE find_one(wanted char(12)) SELECT name FROM people WHERE id = wanted",
        )
        sql = "CALL find_one(:id)"
    else:
        await register.run(
            "CREATE OR REPLACE FUNCTION find_one(wanted text) RETURNS TABLE (name text) LANGUAGE sql STABLE AS"
            " 'SELECT name FROM people WHERE id = wanted'"
        )
        sql = "SELECT name FROM find_one(:id)"
    async with serve(register.url, {"sql": sql, "parameters": {"id": "payload.id"}}) as office:
        assert await office.answer({"id": ROW["id"]}) == {"name": ROW["name"]}
        assert (await office.ask({"id": "none"})).status == "not-found"
        assert await office.answer({"id": ROW["id"]}) == {"name": ROW["name"]}
