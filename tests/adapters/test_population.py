"""Synthetic citizens and their families; the population adapter at its door."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from itertools import pairwise

import orjson
import pytest
from vietnam_provinces import Province, Ward

from adapters.g01_population.adapter import adapter
from adapters.g01_population.citizens import LATEST_BIRTH, Citizen, document, population
from adapters.g01_population.names import comparable
from ngsp.registry.model import Schema
from tests.adapters.door import Door, door_to, example
from tests.adapters.numbers import assert_identity_number

CITIZENS = list(population().values())
OFFICER = "canbo-0017"


@pytest.fixture(scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    async with door_to(adapter, tmp_path_factory.mktemp("population")) as served:
        yield served


def test_there_are_at_least_ten_thousand_and_they_are_always_the_same() -> None:
    assert len(CITIZENS) == 13_502
    # By this figure the data of another machine, or of a later version, are known to be the same.
    digest = hashlib.sha256(orjson.dumps([document(citizen) for citizen in CITIZENS])).hexdigest()
    assert digest == "c374cf2011b413ff129980de6576bb38029dfa0bb230029fe0e0d086a6505ae4"


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


def test_every_record_is_of_the_reply_schema_and_in_nfc() -> None:
    (service,) = adapter.manifest.services
    schema = Schema(service.reply_schema, "digest")
    for citizen in CITIZENS:
        record = document(citizen)
        assert schema.faults(record) == ()
        text = orjson.dumps(record).decode()
        assert unicodedata.is_normalized("NFC", text)


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
        record = document(citizen)["HoVaTen"]
        assert " ".join(filter(None, (record["Ho"], record["ChuDem"], record["Ten"]))) == citizen.name.full
        assert citizen.name.given not in citizen.name.middle.split()
    assert Counter(citizen.name.surname for citizen in CITIZENS).most_common(1)[0][0] == "Nguyễn"
    assert any(not citizen.name.middle for citizen in CITIZENS)


@pytest.mark.parametrize("name", ["1-head-of-household", "2-child-in-capitals"])
async def test_examples_are_what_the_adapter_answers(door: Door, name: str) -> None:
    shown = example("population-lookup", name)
    assert await door.answer(shown["request"], officer=OFFICER) == shown["reply"]


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
async def test_name_is_matched_whatever_its_form_and_case(door: Door, spelt: object) -> None:
    assert callable(spelt)
    request = example("population-lookup", "1-head-of-household")["request"]
    request["HoVaTen"] = spelt(request["HoVaTen"])
    assert (await door.answer(request, officer=OFFICER))["SoDinhDanh"] == request["SoDinhDanh"]


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
async def test_what_does_not_fit_is_not_found_and_nothing_tells_why(door: Door, field: str, value: str) -> None:
    request = example("population-lookup", "1-head-of-household")["request"]
    reply = await door.ask(request | {field: value}, officer=OFFICER)
    assert (reply.status, reply.code, reply.body) == ("not-found", "KHONG-CO-CONG-DAN", b"")


async def test_officer_of_the_body_must_be_the_one_the_bus_logged(door: Door) -> None:
    request = example("population-lookup", "1-head-of-household")["request"]
    for officer in ("", "canbo-0018"):
        reply = await door.ask(request, officer=officer)
        assert (reply.status, reply.code) == ("refused", "SAI-CAN-BO")
