"""SQL back ends write: one statement in the transaction of the inbox, and what a database says no to."""

from __future__ import annotations

import asyncio
import secrets
from urllib.parse import urlsplit

import orjson
import pytest

from tests.backends.sql_office import BY_ID, INSERT, ROW, SUBMISSION, Serve, case
from tests.support.providers import FILES, SERVERS, Provider


async def test_a_submission_is_entered_once_and_answers_alike(register: Provider, serve: Serve) -> None:
    returning = dict(INSERT, sql=INSERT["sql"] + " RETURNING id, note")
    async with serve(register.url, returning, reply={"number": "body.id", "note": "body.note"}, **SUBMISSION) as office:
        id = "01912345-0000-7000-8000-000000000001"
        first = await office.ask(case(note="x"), id=id)
        repeats = await asyncio.gather(*(office.ask(case(note="x"), id=id) for _ in range(4)))
        assert orjson.loads(first.body) == {"number": id, "note": "x"}
        assert {reply.body for reply in repeats} == {first.body}
    assert await register.value("SELECT count(*) FROM cases") == 1
    assert await register.value("SELECT count(*) FROM ngsp_inbox WHERE id = :id AND status = 'ok'", id=id) == 1


async def test_a_statement_without_rows_answers_with_their_number(register: Provider, serve: Serve) -> None:
    call = {"sql": "UPDATE cases SET note = 'seen' WHERE slot = :slot", "parameters": {"slot": "payload.slot"}}
    await register.execute("INSERT INTO cases VALUES ('a', :id, 's', 'seen')", id=ROW["id"])
    async with serve(register.url, call, reply={"rows": "status"}, **SUBMISSION) as office:
        assert await office.answer({"slot": "s"}) == {"rows": 1}, "a row that is as it shall be counts"
        assert await office.answer({"slot": "none"}) == {"rows": 0}


CONSTRAINTS = {
    "unique": (case(slot="s"), "23505", {"sqlite": "cases.slot"}, "cases_slot"),
    "foreign key": (case(person="999999999999"), "23503", {"sqlite": ""}, "cases_person"),
    "not null": (case(person=None), "23502", {"postgresql": "", "mariadb": "", "sqlite": "cases.person"}, ""),
}


@pytest.mark.parametrize("broken", CONSTRAINTS)
async def test_a_broken_constraint_is_a_no_with_its_name(register: Provider, serve: Serve, broken: str) -> None:
    payload, state, names, common = CONSTRAINTS[broken]
    name = names.get(register.kind, common)
    rule = {
        "when": f"status == '{state}' && body.constraint == '{name}'",
        "outcome": "refused",
        "code": "DA-CO",
    }
    await register.execute("INSERT INTO cases VALUES ('a', :id, 's', NULL)", id=ROW["id"])
    async with serve(register.url, INSERT, outcomes=[rule], **SUBMISSION) as office:
        reply = await office.ask(payload)
        assert (reply.status, reply.code) == ("refused", "DA-CO")
    async with serve(register.url, INSERT, **SUBMISSION) as office:
        for _ in range(8):
            reply = await office.ask(payload)
            assert (reply.status, reply.code) == ("refused", f"sqlstate-{state}")
        assert (await office.ask(case(slot="free"))).status == "ok", "no breaker opens because of a no"
    assert await register.value("SELECT count(*) FROM cases") == 2


async def test_a_check_has_its_name_on_each(register: Provider, serve: Serve) -> None:
    call = {
        "sql": "UPDATE people SET fee = :fee WHERE id = :id",
        "parameters": {"fee": "payload.fee", "id": "payload.id"},
    }
    rule = {"when": "status == '23514'", "outcome": "refused", "code": "{body.constraint}"}
    async with serve(register.url, call, outcomes=[rule], **SUBMISSION) as office:
        assert (await office.ask({"id": ROW["id"], "fee": -1})).code == "fee_is_paid"
    assert await register.value("SELECT count(*) FROM people WHERE fee > 0") == 1


async def test_a_no_may_count_as_done(register: Provider, serve: Serve) -> None:
    """A rule turns *it is there already* into ok: the rest of the transaction is still good for a commit."""
    rule = {"when": "status == '23505'", "outcome": "ok"}
    async with serve(register.url, INSERT, outcomes=[rule], reply={"there": "id"}, **SUBMISSION) as office:
        assert (await office.ask(case(slot="s"))).status == "ok"
        id = "01912345-0000-7000-8000-000000000002"
        first, again = [await office.ask(case(slot="s"), id=id) for _ in range(2)]
        assert (first.status, first.body) == (again.status, again.body) == ("ok", orjson.dumps({"there": id}))
    assert await register.value("SELECT count(*) FROM cases") == 1


PROCEDURES = {
    "postgresql": """CREATE OR REPLACE PROCEDURE book(case_id text, person text, wanted text, INOUT number bigint)
        LANGUAGE plpgsql AS $$ BEGIN
            IF wanted = 'closed' THEN RAISE EXCEPTION 'DA-DONG' USING ERRCODE = '45000'; END IF;
            INSERT INTO cases VALUES (case_id, person, wanted, NULL);
            SELECT count(*) INTO number FROM cases;
        END $$""",
    "mariadb": """CREATE OR REPLACE PROCEDURE book(case_id varchar(36), person char(12), wanted varchar(100))
        BEGIN
            IF wanted = 'closed' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'DA-DONG'; END IF;
            INSERT INTO cases VALUES (case_id, person, wanted, NULL);
            SELECT count(*) AS number FROM cases;
        END""",
}


@pytest.mark.parametrize("provider", SERVERS, indirect=True)
async def test_a_submission_may_call_a_procedure(register: Provider, serve: Serve) -> None:
    await register.run(PROCEDURES[register.kind])
    out = ", NULL" if register.kind == "postgresql" else ""
    call = {
        "sql": f"CALL book(:id, :person, :slot{out})",
        "parameters": {"id": "id", "person": "payload.person", "slot": "payload.slot"},
    }
    rules = [
        {"when": "status == '45000'", "outcome": "refused", "code": "{body.message}"},
        {"when": "status == '23505'", "outcome": "refused", "code": "DA-CO-NGUOI"},
    ]
    async with serve(register.url, call, outcomes=rules, reply={"number": "body.number"}, **SUBMISSION) as office:
        assert await office.answer(case(slot="8:00")) == {"number": 1}
        assert (await office.ask(case(slot="8:00"))).code == "DA-CO-NGUOI"
        assert (await office.ask(case(slot="closed"))).code == "DA-DONG"
        assert await office.answer(case(slot="9:00")) == {"number": 2}
    assert await register.value("SELECT count(*) FROM cases") == 2


@pytest.mark.parametrize("provider", FILES, indirect=True)
async def test_what_a_trigger_raises_is_its_word(register: Provider, serve: Serve) -> None:
    await register.run(
        "CREATE TRIGGER closed BEFORE INSERT ON cases WHEN NEW.slot = 'closed'"
        " BEGIN SELECT RAISE(ABORT, 'DA-DONG'); END"
    )
    rule = {"when": "status == '45000'", "outcome": "refused", "code": "{body.message}"}
    async with serve(register.url, INSERT, outcomes=[rule], **SUBMISSION) as office:
        assert (await office.ask(case(slot="closed"))).code == "DA-DONG"
    await register.run("DROP TRIGGER closed")


async def test_no_message_of_the_database_is_told(register: Provider, serve: Serve) -> None:
    """They quote rows, and rows hold personal data."""
    rule = {"when": "status == '23505'", "outcome": "refused", "code": "{body.message}."}
    async with serve(register.url, INSERT, outcomes=[rule], **SUBMISSION) as office:
        assert (await office.ask(case(slot="s"))).status == "ok"
        assert (await office.ask(case(slot="s"))).code == "."


ENDS = {
    "postgresql": "SELECT pg_terminate_backend(pg_backend_pid()) AS x",
    "mariadb": "CALL end_here()",
}


@pytest.mark.parametrize("provider", SERVERS, indirect=True)
async def test_a_session_that_ends_under_a_submission_leaves_nothing(register: Provider, serve: Serve) -> None:
    if register.kind == "mariadb":
        await register.run("CREATE OR REPLACE PROCEDURE end_here() KILL CONNECTION_ID()")
    id = "01912345-0000-7000-8000-000000000003"
    async with serve(register.url, {"sql": ENDS[register.kind]}, **SUBMISSION) as office:
        reply = await office.ask(case(), id=id)
        assert (reply.status, reply.code) == ("retry", "backend-down")
    async with serve(register.url, INSERT, reply={"there": "id"}, **SUBMISSION) as office:
        assert await office.answer(case(), id=id) == {"there": id}
    assert await register.value("SELECT count(*) FROM cases") == 1


@pytest.mark.parametrize("provider", SERVERS, indirect=True)
async def test_an_account_that_makes_no_tables_uses_those_that_are_there(register: Provider, serve: Serve) -> None:
    async with serve(register.url, INSERT, **SUBMISSION):
        pass  # the owner's start makes the inbox
    rights = "SELECT, INSERT, UPDATE, DELETE"
    if register.kind == "mariadb":
        password = secrets.token_urlsafe(12)
        await register.run(
            f"CREATE OR REPLACE USER clerk@localhost IDENTIFIED BY '{password}'",
            f"GRANT {rights} ON ngsp_inbox TO clerk@localhost",
            "GRANT INSERT ON cases TO clerk@localhost",
        )
        url = register.url.replace(f"://{urlsplit(register.url).username}@", f"://clerk:{password}@")
    else:
        await register.run(
            "CREATE ROLE clerk LOGIN", f"GRANT {rights} ON ngsp_inbox TO clerk", "GRANT INSERT ON cases TO clerk"
        )
        url = register.url.replace(f"://{urlsplit(register.url).username}@", "://clerk@")
    try:
        async with serve(url, INSERT, reply={"there": "id"}, **SUBMISSION) as office:
            assert (await office.ask(case(slot="s"))).status == "ok"
            assert (await office.ask(case(slot="s"))).code == "sqlstate-23505"
        async with serve(url, BY_ID) as office:
            assert (await office.ask({"id": ROW["id"]})).code in ("sqlstate-42501", "sqlstate-42000")
    finally:
        if register.kind == "mariadb":
            await register.run("DROP USER clerk@localhost")
        else:
            await register.run("DROP OWNED BY clerk", "DROP ROLE clerk")
