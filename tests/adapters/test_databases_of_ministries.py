"""Civil servants and land parcels: the same manifests on PostgreSQL and on MariaDB, over synthetic registers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from adapters.g01_population.citizens import population
from adapters.g09_civil_servants.adapter import adapter as civil_servants
from adapters.g09_civil_servants.register import data as people
from adapters.g10_land.adapter import adapter as land
from adapters.g10_land.register import data as parcels
from adapters.stand_in.database import fill
from ngsp.adapter import Adapter
from ngsp.adapter.contract import Effort, try_contract
from ngsp.adapter.databases import database_at
from ngsp.local.postgres import LocalPostgres
from tests.adapters.door import Door, door_to, example
from tests.support.mariadb import LocalMariaDB

PROJECT = Path(__file__).parents[2]
KINDS = [
    pytest.param("postgresql", marks=pytest.mark.postgres),
    pytest.param("mariadb", marks=pytest.mark.mariadb),
]
CIVIL_SERVANTS, LAND = "civil-servant-lookup", "land-parcel-lookup"
EXAMPLES = [
    (CIVIL_SERVANTS, "1-by-identity-number"),
    (CIVIL_SERVANTS, "2-retired-by-service-number"),
    (LAND, "1-by-sheet-and-number"),
    (LAND, "2-by-its-code"),
]
VIEW = "tra_cuu_thua_dat"
Urls = dict[str, str]


@pytest.fixture(scope="module")
async def on_postgres(postgres: LocalPostgres) -> Urls:
    """Service → the address that its adapter has; `owner`: of the land database."""
    names = {CIVIL_SERVANTS: "civil_servants", LAND: "land"}
    for service, filling in ((CIVIL_SERVANTS, people.FILLING), (LAND, parcels.FILLING)):
        await postgres.create_database(names[service])
        assert await fill(filling, postgres.url(names[service]))
        assert not await fill(filling, postgres.url(names[service])), "it is there already"
    return {
        CIVIL_SERVANTS: postgres.url("civil_servants"),
        LAND: postgres.url("land", parcels.READER),
        "owner": postgres.url("land"),
    }


@pytest.fixture(scope="module")
async def on_maria(mariadb: LocalMariaDB) -> AsyncIterator[Urls]:
    names = {CIVIL_SERVANTS: "civil_servants", LAND: "land"}
    for service, filling in ((CIVIL_SERVANTS, people.FILLING), (LAND, parcels.FILLING)):
        await mariadb.create_database(names[service])
        assert await fill(filling, mariadb.url(names[service]))
        assert not await fill(filling, mariadb.url(names[service])), "it is there already"
    password = secrets.token_urlsafe(12)
    await mariadb.execute(
        f"CREATE USER {parcels.READER}@localhost IDENTIFIED BY '{password}'",
        f"GRANT SELECT ON land.{VIEW} TO {parcels.READER}@localhost",
    )
    yield {
        CIVIL_SERVANTS: mariadb.url("civil_servants"),
        LAND: mariadb.url("land", parcels.READER, password),
        "owner": mariadb.url("land"),
    }
    await mariadb.execute(f"DROP USER {parcels.READER}@localhost")
    for name in names.values():
        await mariadb.drop_database(name)


@pytest.fixture(scope="module", params=KINDS)
def urls(request: pytest.FixtureRequest) -> Urls:
    found: Urls = request.getfixturevalue({"postgresql": "on_postgres", "mariadb": "on_maria"}[request.param])
    return found


def variables(urls: Urls) -> dict[str, str]:
    return {"NGSP_G09_DATABASE_URL": urls[CIVIL_SERVANTS], "NGSP_G10_DATABASE_URL": urls[LAND]}


@pytest.fixture(scope="module")
async def doors(urls: Urls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Door]]:
    folder = tmp_path_factory.mktemp("doors")
    async with (
        door_to(civil_servants, folder, variables(urls).get) as first,
        door_to(land, folder, variables(urls).get) as second,
    ):
        yield {CIVIL_SERVANTS: first, LAND: second}


@pytest.mark.parametrize(("service", "name"), EXAMPLES)
async def test_examples_are_answered_as_they_stand(doors: dict[str, Door], service: str, name: str) -> None:
    document = example(service, name)
    assert await doors[service].answer(document["request"]) == document["reply"]


@pytest.mark.parametrize(
    ("service", "payload", "code"),
    [
        (CIVIL_SERVANTS, {"soHieu": "VC99999999", "ngaySinh": "1978-06-21"}, "KHONG-CO-CAN-BO"),
        (CIVIL_SERVANTS, {"soDinhDanh": "940093023023", "ngaySinh": "1993-05-20"}, "KHONG-CO-CAN-BO"),
        (LAND, {"maThua": "179209999999"}, "KHONG-CO-THUA-DAT"),
        (LAND, {"maXa": "17920", "soTo": 1, "soThua": 99_999}, "KHONG-CO-THUA-DAT"),
    ],
)
async def test_none_is_a_no(doors: dict[str, Door], service: str, payload: Any, code: str) -> None:
    reply = await doors[service].ask(payload)
    assert (reply.status, reply.code) == ("not-found", code)


async def test_many_people_and_parcels_are_answered(doors: dict[str, Door]) -> None:
    """Every hundredth of them: no row of the register is off the schema."""
    for row in people.rows()["can_bo"][::100]:
        found = await doors[CIVIL_SERVANTS].answer({"soHieu": row[0], "ngaySinh": row[3].isoformat()})
        assert found["soDinhDanh"] == row[1]
        assert " ".join(filter(None, found["hoTen"].values())) == row[2]
    for row in parcels.rows()["thua_dat"][::100]:
        found = await doors[LAND].answer({"maThua": row[0]})
        assert found["ranhGioi"] == json.loads(row[10])
        assert sum(purpose["dienTich"] for purpose in found["mucDich"]) == pytest.approx(found["dienTich"])
        assert 1 <= len(found["nguoiSuDung"]) <= 2


@pytest.mark.parametrize("folder", [civil_servants.folder, land.folder], ids=lambda folder: folder.name)
async def test_the_contract_holds(urls: Urls, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables(urls).items():
        monkeypatch.setenv(name, value)
    adapter = Adapter.load(folder / "manifest.yaml")  # another than the one that is being served
    findings = await asyncio.to_thread(try_contract, adapter, folder, Effort(live=True, cases=20))
    assert [fault for finding in findings for fault in finding.faults] == []


async def test_the_reader_reads_the_view_and_nothing_else(urls: Urls) -> None:
    reader = database_at(urls[LAND], connections=1)  # as one who would write if they could
    try:
        async with reader.engine.connect() as connection:
            columns = (await connection.exec_driver_sql(f"SELECT * FROM {VIEW} LIMIT 1")).keys()
        assert not {"gia_tri", "dien_thoai"} & set(columns)
        for statement in (
            "SELECT ma_thua FROM thua_dat",
            "SELECT dien_thoai FROM nguoi_su_dung",
            f"DELETE FROM {VIEW}",
            "UPDATE thua_dat SET gia_tri = 0",
            "CREATE TABLE mine (a INT)",
        ):
            with pytest.raises(DBAPIError, match="denied"):
                async with reader.engine.connect() as connection:
                    await connection.exec_driver_sql(statement)
    finally:
        await reader.close()
    owner = database_at(urls["owner"], connections=1)
    async with owner.engine.connect() as connection:
        assert (await connection.exec_driver_sql("SELECT count(*) FROM thua_dat WHERE gia_tri > 0")).scalar() == 12_000
    await owner.close()


def test_the_civil_servants_are_synthetic_and_many() -> None:
    rows = people.rows()
    found = rows["can_bo"]
    assert len(found) == len({row[1] for row in found}) == people.PEOPLE
    citizens = population()
    known = [citizens[row[1]] for row in found if row[1] in citizens]
    assert len(known) == people.CITIZENS
    assert {row[2] for row in found if row[1] in citizens} == {citizen.name.full for citizen in known}
    for row in found:
        assert row[1][0] == "9"
        assert int(row[1][4:6]) == row[3].year % 100
        assert int(row[1][3]) % 2 == (0 if row[4] == 1 else 1)
    last = Counter(post[0] for post in rows["qua_trinh"] if post[3])
    assert set(last.values()) == {1}
    assert last.keys() == {row[0] for row in found}


def test_the_parcels_lie_side_by_side_and_are_as_large_as_they_say() -> None:
    found = parcels.rows()["thua_dat"]
    assert len(found) == len({row[0] for row in found}) == len({(row[1], row[3], row[4]) for row in found}) == 12_000
    for row in found:
        (ring,) = json.loads(row[10])["coordinates"]
        assert ring[0] == ring[-1]
        area = sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(ring)) / 2
        assert area > 0, "counter-clockwise (RFC 7946)"
        metres = area * 111_320**2 * math.cos(math.radians(ring[0][1]))
        assert metres == pytest.approx(float(row[6]), rel=0.02)


@pytest.mark.parametrize("module", ["adapters.g09_civil_servants.register.data", "adapters.g10_land.register.data"])
def test_the_rows_are_the_same_each_time(module: str) -> None:
    program = f"import hashlib, {module} as d; print(hashlib.sha256(repr(d.rows()).encode()).hexdigest())"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(PROJECT)}
    elsewhere = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()
    here = people if "civil" in module else parcels
    assert hashlib.sha256(repr(here.rows()).encode()).hexdigest() == elsewhere
