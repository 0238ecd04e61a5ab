"""The civil registry's adapter on a real PostgreSQL: once for each message, numbers without gaps, the refusals."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from copy import deepcopy
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Row, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from adapters.h41_civil_registry.adapter import adapter, birth_registration, check, today
from adapters.h41_civil_registry.book import Entry, books, child_identity, enter, register, set_up
from ngsp.adapter import ManifestError, Refused, Request, Unavailable
from ngsp.database import engine
from ngsp.local.postgres import LocalPostgres
from ngsp.messages import Envelope, uuid7
from tests.adapters.door import Door, door_to, example
from tests.adapters.numbers import assert_identity_number

pytestmark = pytest.mark.postgres
VARIABLE = adapter.manifest.database_url_env or ""
EXAMPLES = ("1-both-parents", "2-mother-alone")


@pytest.fixture(scope="module")
async def database_url(postgres: LocalPostgres) -> str:
    await postgres.create_database("h41")
    return postgres.url("h41")


@pytest.fixture(scope="module")
async def database(database_url: str) -> AsyncIterator[AsyncEngine]:
    """The register as its owner sees it, past the adapter."""
    owner = engine(database_url, pool_size=2)
    yield owner
    await owner.dispose()


@pytest.fixture(scope="module")
async def served(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, database_url)
        async with door_to(adapter, tmp_path_factory.mktemp("registry")) as opened:
            yield opened


@pytest.fixture
async def door(served: Door, database: AsyncEngine) -> Door:
    """The adapter with its register empty."""
    async with database.begin() as connection:
        await connection.execute(text("TRUNCATE so_dang_ky_khai_sinh, quyen_khai_sinh"))
    return served


def application(name: str = EXAMPLES[0], **changes: Any) -> dict[str, Any]:
    """An example's request with a birth certificate of its own."""
    asked: dict[str, Any] = deepcopy(example("birth-registration", name)["request"])
    return asked | {"maGCS": f"GCS-{uuid7()}".upper()} | changes


async def rows(database: AsyncEngine) -> list[Row[Any]]:
    async with database.connect() as connection:
        return list(await connection.execute(select(register).order_by(register.c.noi_dang_ky, register.c.so)))


@pytest.mark.parametrize("name", EXAMPLES)
async def test_examples_are_entered(door: Door, database: AsyncEngine, name: str) -> None:
    asked = example("birth-registration", name)["request"]
    reply = await door.answer(asked, dossier="000.00.01.H41-250812-0001")
    (row,) = await rows(database)
    assert reply == Entry(row.so, row.ngay_dang_ky, row.so_dinh_danh).document()
    assert set(reply) == set(example("birth-registration", name)["reply"])
    assert (row.ma_gcs, row.ma_ho_so, row.ho_so) == (asked["maGCS"], "000.00.01.H41-250812-0001", asked)
    assert (row.so, row.nam) == (1, row.ngay_dang_ky.year)
    child = asked["nks"]
    assert_identity_number(row.so_dinh_danh, child["GioiTinh"] == 1, date.fromisoformat(child["NgaySinh"]))


async def test_one_message_is_entered_once_however_often_it_comes(door: Door, database: AsyncEngine) -> None:
    asked, message = application(), uuid7()
    first = await door.ask(asked, id=message)
    repeats = await asyncio.gather(*(door.ask(asked, id=message) for _ in range(5)))
    assert {(reply.status, reply.body) for reply in repeats} == {("ok", first.body)}
    assert len(await rows(database)) == 1


async def test_one_message_delivered_many_times_at_once_is_entered_once(door: Door, database: AsyncEngine) -> None:
    asked, message = application(), uuid7()
    replies = await asyncio.gather(*(door.ask(asked, id=message) for _ in range(8)))
    assert len({(reply.status, reply.body) for reply in replies}) == 1
    assert len(await rows(database)) == 1


async def test_message_is_entered_once_even_when_the_inbox_has_forgotten_it(door: Door, database: AsyncEngine) -> None:
    asked, message = application(), uuid7()
    first = await door.ask(asked, id=message)
    async with database.begin() as connection:
        await connection.execute(text("DELETE FROM ngsp_inbox"))
    again = await door.ask(asked, id=message)
    assert (again.status, again.body) == ("ok", first.body)
    assert len(await rows(database)) == 1


async def test_certificate_is_registered_once(door: Door, database: AsyncEngine) -> None:
    asked = application()
    await door.answer(asked)
    second = await door.ask(asked)
    assert (second.status, second.code) == ("refused", "DA-DANG-KY")
    elsewhere = await door.ask(asked | {"noiDangKy": "16681"})
    assert (elsewhere.status, elsewhere.code) == ("refused", "DA-DANG-KY")
    assert len(await rows(database)) == 1
    after = await door.answer(application())
    assert after["soDangKy"].startswith("02/"), "a refusal takes no number"


async def test_refusal_is_repeated_to_a_repeated_message(door: Door) -> None:
    asked, message = application(), uuid7()
    await door.answer(asked)
    assert {(await door.ask(asked, id=message)).code for _ in range(2)} == {"DA-DANG-KY"}


async def test_numbers_have_no_gaps_whatever_happens_at_once(door: Door, database: AsyncEngine) -> None:
    draw = random.Random(7)
    places = ("17920", "16681", "16690")
    asked = [application(noiDangKy=draw.choice(places)) for _ in range(60)]
    asked += [one | {"noiDangKy": draw.choice(places)} for one in asked[:20]]  # the same certificates once more
    asked += [application(noiDangKy="00070") for _ in range(10)]  # another province's commune
    draw.shuffle(asked)
    replies = await asyncio.gather(*(door.ask(one) for one in asked))
    codes = [reply.code for reply in replies if reply.status == "refused"]
    assert sorted(codes) == ["DA-DANG-KY"] * 20 + ["NGOAI-DIA-BAN"] * 10
    entered = await rows(database)
    assert len(entered) == 60 == sum(reply.status == "ok" for reply in replies)
    for place in places:
        numbers = [row.so for row in entered if row.noi_dang_ky == place]
        assert numbers == list(range(1, len(numbers) + 1))
    assert len({row.so_dinh_danh for row in entered}) == 60
    async with database.connect() as connection:
        last = (await connection.execute(select(func.sum(books.c.so_cuoi)))).scalar_one()
    assert last == 60


async def test_number_of_an_entry_that_was_rolled_back_is_given_again(door: Door, database: AsyncEngine) -> None:
    await door.answer(application())
    async with database.connect() as connection:
        lost = await enter(connection, uuid7(), "", today(), application())
        await connection.rollback()
    kept = await door.answer(application())
    assert lost.document()["soDangKy"] == kept["soDangKy"]


async def test_a_book_has_200_pages_and_the_year_goes_on_in_the_next(door: Door, database: AsyncEngine) -> None:
    await door.answer(application())
    async with database.begin() as connection:
        await connection.execute(update(books).values(so_cuoi=199))
    last = await door.answer(application())
    first = await door.answer(application())
    year = last["ngayDangKy"][:4]
    assert (last["soDangKy"], last["quyenSo"], last["trangSo"]) == (f"200/{year}", f"01/{year}", 200)
    assert (first["soDangKy"], first["quyenSo"], first["trangSo"]) == (f"201/{year}", f"02/{year}", 1)


async def test_lock_that_cannot_be_had_is_a_retry_not_a_failure(
    door: Door, database: AsyncEngine, database_url: str
) -> None:
    """The database's own trouble must not end a submission for good."""
    await door.answer(application())
    async with database.begin() as owner:
        await owner.execute(text("ALTER DATABASE h41 SET lock_timeout = '200ms'"))
    try:
        impatient = engine(database_url, pool_size=1)
        async with database.connect() as holder, impatient.connect() as connection:
            await holder.execute(select(books).with_for_update())
            envelope = Envelope(uuid7(), door.path, 0, "p", ("",), "s", "r", orjson.dumps(application()))
            with pytest.raises(Unavailable):
                await birth_registration(Request(envelope, frozenset(("17920",)), connection))
            await connection.rollback()
        await impatient.dispose()
    finally:
        async with database.begin() as owner:
            await owner.execute(text("ALTER DATABASE h41 RESET lock_timeout"))


async def test_set_up_is_safe_from_several_processes_at_once(postgres: LocalPostgres) -> None:
    await postgres.create_database("h41_fresh")
    owner = engine(postgres.url("h41_fresh"), pool_size=6)

    async def one() -> None:
        async with owner.begin() as connection:
            await set_up(connection)

    await asyncio.gather(*(one() for _ in range(6)))
    await owner.dispose()


async def test_start_without_an_address_says_which_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ManifestError, match=VARIABLE):
        async with door_to(adapter, tmp_path):
            pass


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"noiDangKy": "00070"}, "NGOAI-DIA-BAN"),
        ({"ngayCapGCS": "2025-08-09"}, "GCS-TRUOC-NGAY-SINH"),
        ({"ngayCapGCS": "2025-09-02"}, "NGAY-TUONG-LAI"),
        ({"nks": {"NgaySinh": "2025-09-02"}}, "NGAY-TUONG-LAI"),
        ({"me": {"NgaySinh": "2025-08-10"}}, "CHA-ME-SINH-SAU-CON"),
        ({"cha": {"NgaySinh": "2030-01-01"}}, "CHA-ME-SINH-SAU-CON"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], code: str) -> None:
    asked = application()
    for name, change in changes.items():
        asked[name] = asked[name] | change if isinstance(change, dict) else change
    with pytest.raises(Refused) as refused:
        check(asked, date(2025, 9, 1), frozenset(("17920",)))
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("born", "sex", "start"), [("2025-08-10", 1, "940225"), ("2025-08-10", 2, "940325"), ("1999-12-31", 2, "940199")]
)
def test_child_gets_a_synthetic_number(born: str, sex: int, start: str) -> None:
    assert child_identity({"NgaySinh": born, "GioiTinh": sex}, 500_001) == f"{start}500001"
