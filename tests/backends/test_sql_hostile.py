"""SQL back ends and what callers may send: nothing is injected, nothing breaks."""

from __future__ import annotations

import random

import pytest

from tests.backends.sql_office import INSERT, SUBMISSION, Serve, case
from tests.support.providers import SERVERS, Provider

HOSTILE = (
    "'",
    "''",
    '"',
    "`",
    "\\",
    "\\'",
    "'; DROP TABLE people; --",
    "' OR '1'='1",
    '" OR ""="',
    "x' UNION SELECT id, note FROM people --",
    "/* */ -- #",
    "%",
    "%s %(id)s %%",
    ":x ::text \\:y",
    "{payload.id} ${x} $1 ?",
    "\n\r\t\x1a\x08",
    "Nguyễn Thị Nghĩa 🇻🇳 \u202e",
    "\x7f\u0080\uffff",
    "¿' 縗' 뽜'",
    "=cmd|' /C calc'!A0",
)


READ = {
    "sql": "SELECT note, slot FROM cases WHERE note = :note AND slot = :slot AND '%\\:x' <> :note",
    "parameters": {"note": "payload.note", "slot": "payload.slot"},
}


def texts() -> list[str]:
    """The list above, and as many of letters drawn from all planes but the surrogates'."""
    draw = random.Random(20251128)
    letters = [
        lambda: draw.randrange(1, 128),
        lambda: draw.randrange(160, 55_000),
        lambda: draw.randrange(65_536, 70_000),
    ]
    return [*HOSTILE, *("".join(chr(draw.choice(letters)()) for _ in range(20)) for _ in HOSTILE)]


async def in_and_out(register: Provider, serve: Serve) -> None:
    wanted = [{"note": text, "slot": f"{number}{text}"[:90]} for number, text in enumerate(texts())]
    async with serve(register.url, INSERT, **SUBMISSION) as office:
        for each in wanted:
            await office.answer(case(**each))
    assert await register.value("SELECT count(*) FROM people") == 1
    assert {row.note for row in await register.rows("SELECT note FROM cases")} == set(texts())
    async with serve(register.url, READ) as office:
        for each in wanted:
            assert await office.answer(each) == each
        assert (await office.ask({"note": "' OR ''='", "slot": "' OR ''='"})).status == "not-found"


async def test_nothing_is_injected_and_nothing_breaks(register: Provider, serve: Serve) -> None:
    await in_and_out(register, serve)


@pytest.mark.parametrize("provider", SERVERS[1:], indirect=True)
async def test_nor_where_the_server_reads_backslashes_and_quotes_otherwise(register: Provider, serve: Serve) -> None:
    (mode,) = (await register.rows("SELECT @@GLOBAL.sql_mode"))[0]
    try:
        await register.run("SET GLOBAL sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES,PIPES_AS_CONCAT'")
        await in_and_out(register, serve)
    finally:
        await register.execute("SET GLOBAL sql_mode = :mode", mode=mode)


async def test_a_nul_is_kept_or_refused(register: Provider, serve: Serve) -> None:
    async with serve(register.url, INSERT, **SUBMISSION) as office:
        reply = await office.ask(case(note="a\0b'"))
        if register.kind == "postgresql":
            assert (reply.status, reply.code) == ("refused", "sqlstate-22021")
        else:
            assert reply.status == "ok"
            assert await register.value("SELECT note FROM cases") == "a\0b'"
        assert (await office.ask(case())).status == "ok"


@pytest.mark.parametrize("provider", SERVERS, indirect=True)
async def test_what_does_not_fit_is_refused_not_cut(register: Provider, serve: Serve) -> None:
    async with serve(register.url, INSERT, **SUBMISSION) as office:
        assert (await office.ask(case(slot="a" * 101))).code == "sqlstate-22001"
        assert await register.value("SELECT count(*) FROM cases") == 0
