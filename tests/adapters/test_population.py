"""Synthetic citizens and their families; the population adapter at its door."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from itertools import pairwise

import orjson
import pytest
from vietnam_provinces import Province, Ward

from adapters.g01_population.adapter import adapter
from adapters.g01_population.citizens import LATEST_BIRTH, Citizen, communes, population
from adapters.g01_population.names import comparable
from adapters.g01_population.population_server.desk import Desk
from ngsp.adapter.trial import Trial, Tried, on_trial
from tests.adapters.door import example
from tests.adapters.numbers import assert_identity_number
from tests.adapters.stand_in import StandIn

CITIZENS = list(population().values())
DESK = Desk(population(), communes())
EXAMPLE = example("population-lookup", "1-head-of-household")
OFFICER = "canbo-0017"


@pytest.fixture(scope="module")
async def trial(tmp_path_factory: pytest.TempPathFactory, population_system: StandIn) -> AsyncIterator[Trial]:
    environment = population_system.environment("NGSP_G01_POPULATION")
    async with on_trial(adapter, tmp_path_factory.mktemp("population"), environment) as served:
        yield served


async def look_up(trial: Trial, payload: object, officer: str = OFFICER) -> Tried:
    tried = await trial.ask("population-lookup/v1", orjson.dumps(payload), officer=officer)
    assert tried.faults == ()
    return tried


def test_there_are_at_least_ten_thousand_and_they_are_always_the_same() -> None:
    assert len(CITIZENS) == 13_502
    # By this figure the data of another machine, or of a later version, are known to be the same.
    digest = hashlib.sha256(orjson.dumps([DESK.record(citizen) for citizen in CITIZENS])).hexdigest()
    assert digest == "0f34fefbea51fe427fbb2a8b5a2ba587450c76faf7b756185f57a6c85e20eaa0"


def test_identity_numbers_are_of_the_right_structure_and_of_nobody() -> None:
    for citizen in CITIZENS:
        assert_identity_number(citizen.id, citizen.male, citizen.born)
        assert citizen.id[1:3] == citizen.registered_in.commune.province_code
        assert int(citizen.id[6:]) < 500_000, "the rest is for children the civil registry registers"
        assert citizen.born <= LATEST_BIRTH


def test_addresses_are_of_real_units() -> None:
    provinces = {f"{found.code:02d}": found.name for found in Province.iter_all()}
    communes = {f"{found.code:05d}": (found.name, f"{found.province_code:02d}") for found in Ward.iter_all()}
    for citizen in CITIZENS:
        for address in (citizen.registered_in, citizen.origin, citizen.residence):
            place = address.commune
            assert communes[place.code] == (place.name, place.province_code)
            assert provinces[place.province_code] == place.province


async def test_every_kind_of_record_becomes_a_reply_of_the_schema_in_nfc(trial: Trial) -> None:
    for citizen in CITIZENS[::450]:
        asked = {"HoVaTen": citizen.name.full, "SoDinhDanh": citizen.id, "NgaySinh": citizen.born.isoformat()}
        tried = await look_up(trial, EXAMPLE["request"] | asked)
        assert tried.payload["SoDinhDanh"] == citizen.id
        assert tried.payload["DanToc"] == citizen.ethnicity
        assert tried.payload["ChuHo"]["QuanHe"] == citizen.relation
        assert unicodedata.is_normalized("NFC", tried.reply.body.decode())


def test_families_hold_together() -> None:
    people = population()
    for citizen in CITIZENS:
        if citizen.spouse:
            spouse = people[citizen.spouse]
            assert spouse.spouse == citizen.id
            assert spouse.male is not citizen.male
        for parent_id, male in ((citizen.father, True), (citizen.mother, False)):
            if parent_id:
                parent = people[parent_id]
                assert parent.male is male
                assert 18 <= citizen.born.year - parent.born.year <= 60
                assert parent.head == citizen.head
        if citizen.father and citizen.mother:
            assert people[citizen.father].spouse == citizen.mother
            assert people[citizen.father].name.surname == citizen.name.surname
        elif citizen.mother:
            assert people[citizen.mother].name.surname == citizen.name.surname


def test_households_have_one_head_one_home_and_brothers_and_sisters_apart() -> None:
    households: defaultdict[str, list[Citizen]] = defaultdict(list)
    for citizen in CITIZENS:
        households[citizen.head].append(citizen)
    for head, members in households.items():
        assert [member.id for member in members if member.relation == "Chủ hộ"] == [head]
        assert len({member.residence for member in members}) == 1
        born = sorted(member.born for member in members if member.father == members[0].id)
        assert all((later - earlier).days > 270 for earlier, later in pairwise(born))
    assert max(map(len, households.values())) <= 16


def test_names_are_in_vietnamese_order_and_as_common_as_names_are() -> None:
    for citizen in CITIZENS:
        record = DESK.record(citizen)["HoVaTen"]
        assert " ".join(filter(None, (record["Ho"], record["ChuDem"], record["Ten"]))) == citizen.name.full
        assert citizen.name.given not in citizen.name.middle.split()
    assert Counter(citizen.name.surname for citizen in CITIZENS).most_common(1)[0][0] == "Nguyễn"
    assert any(not citizen.name.middle for citizen in CITIZENS)


@pytest.mark.parametrize("name", ["1-head-of-household", "2-child-in-capitals"])
async def test_examples_are_what_the_adapter_answers(trial: Trial, name: str) -> None:
    shown = example("population-lookup", name)
    assert (await look_up(trial, shown["request"])).payload == shown["reply"]


async def test_the_example_of_nobody_is_nobody(trial: Trial) -> None:
    shown = example("population-lookup", "3-nobody")
    reply = (await look_up(trial, shown["request"])).reply
    assert (reply.status, reply.code) == (shown["outcome"], shown["code"])


@pytest.mark.parametrize(
    "spelt",
    [
        lambda name: unicodedata.normalize("NFD", name),
        str.upper,
        str.lower,
        lambda name: name.replace(" ", "  "),
    ],
    ids=["decomposed", "capitals", "small", "double-spaces"],
)
async def test_name_is_matched_whatever_its_form_and_case(trial: Trial, spelt: Callable[[str], str]) -> None:
    request = EXAMPLE["request"] | {"HoVaTen": spelt(EXAMPLE["request"]["HoVaTen"])}
    assert (await look_up(trial, request)).payload["SoDinhDanh"] == request["SoDinhDanh"]


def test_accents_and_order_count_in_names() -> None:
    assert comparable("Hồ Ngọc Cường") != comparable("Ho Ngoc Cuong")
    assert comparable("Hồ Ngọc Cường") != comparable("Cường Ngọc Hồ")
    assert comparable("ĐẶNG THỊ TUYẾT") == comparable("đặng thị tuyết")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("SoDinhDanh", "999099999999"),
        ("SoDinhDanh", "940199030942"),  # somebody else
        ("HoVaTen", "Hồ Ngọc Cương"),
        ("NgaySinh", "1993-05-20"),
    ],
)
async def test_what_does_not_fit_is_not_found_and_nothing_tells_why(trial: Trial, field: str, value: str) -> None:
    reply = (await look_up(trial, EXAMPLE["request"] | {field: value})).reply
    assert (reply.status, reply.code, reply.body) == ("not-found", "KHONG-CO-CONG-DAN", b"")


async def test_officer_of_the_body_must_be_the_one_the_bus_logged(trial: Trial) -> None:
    for officer in ("", "canbo-0018"):
        reply = (await look_up(trial, EXAMPLE["request"], officer)).reply
        assert (reply.status, reply.code) == ("refused", "SAI-CAN-BO")
