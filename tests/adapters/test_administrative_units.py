"""The catalogue of administrative units: the real list, its search, and the adapter at its door."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vietnam_provinces import Province, Ward

from adapters.g22_catalogue.adapter import adapter
from adapters.g22_catalogue.units import ABOLISHED_PROVINCES, Catalogue, fold
from tests.adapters.door import Door, door_to, example

CATALOGUE = Catalogue()
NAMES = [*(found.name for found in Province.iter_all()), *(found.name for found in Ward.iter_all())]


@pytest.fixture(scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    folder: Path = tmp_path_factory.mktemp("catalogue")
    async with door_to(adapter, folder) as served:
        yield served


def test_the_country_has_34_provinces_and_3321_communes() -> None:
    assert len(CATALOGUE.provinces()) == 34
    assert sum(len(CATALOGUE.communes(province.code)) for province in CATALOGUE.provinces()) == 3321
    assert len(CATALOGUE) == 34 + 3321


def test_provinces_are_those_of_1_july_2025_and_29_are_no_more() -> None:
    codes = {province.code for province in CATALOGUE.provinces()}
    known = "01 04 08 11 12 14 15 19 20 22 24 25 31 33 37 38 40 42 44 46 48 51 52 56 66 68 75 79 80 82 86 91 92 96"
    assert " ".join(sorted(codes)) == known
    assert len(ABOLISHED_PROVINCES) == 63 - 34
    assert not codes & ABOLISHED_PROVINCES


def test_loading_is_quick() -> None:
    started_s = time.process_time()
    Catalogue()
    assert time.process_time() - started_s < 0.5


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Đắk Lắk", "dak lak"),
        ("ĐẮK  LẮK ", "dak lak"),
        ("Thừa Thiên – Huế", "thua thien - hue"),
        ("Ðồng Nai", "dong nai"),  # the letter eth of older fonts, not đ
        ("Ia H’Drai", "ia h'drai"),
        (unicodedata.normalize("NFD", "Nghệ An"), "nghe an"),
        ("Hoà Bình", "hoa binh"),
        ("\u0301", ""),
        ("ﬁ", "fi"),
    ],
)
def test_fold(text: str, folded: str) -> None:
    assert fold(text) == folded


@given(st.text(max_size=40))
def test_fold_is_stable_and_blind_to_form_and_case(text: str) -> None:
    folded = fold(text)
    assert fold(folded) == folded
    assert fold(unicodedata.normalize("NFD", text)) == folded
    assert not any(unicodedata.combining(letter) for letter in folded)


@given(st.sampled_from(NAMES), st.sampled_from(["NFC", "NFD"]), st.booleans(), st.booleans())
def test_every_unit_is_found_by_its_name_however_written(name: str, form: str, upper: bool, bare: bool) -> None:
    asked = unicodedata.normalize("NFC" if form == "NFC" else "NFD", name)
    asked = fold(asked) if bare else asked
    found = CATALOGUE.search(asked.upper() if upper else asked)
    assert name in [unit.name for unit in found]
    assert fold(found[0].name) == fold(name), "a whole name comes before names that only contain it"


@given(st.sampled_from(NAMES), st.data())
def test_every_unit_is_found_by_a_part_of_its_name(name: str, data: st.DataObject) -> None:
    bare = fold(name)
    first = data.draw(st.integers(0, len(bare) - 2))
    part = bare[first : data.draw(st.integers(first + 2, len(bare)))]
    if part.strip():
        assert name in [unit.name for unit in CATALOGUE.search(part)]


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ("nghe an", "40"),
        ("NGHỆ AN", "40"),
        ("ha noi", "01"),
        ("thanh pho hue", "46"),
        ("huế", "46"),
        ("đồng văn", "00721"),
        ("vinh hung", "00304"),
        ("vinh hưng", "17920"),
        ("con dao", "26732"),
    ],
)
def test_search_puts_the_closest_first(asked: str, first: str) -> None:
    assert CATALOGUE.search(asked)[0].code == first


def test_search_within_a_province() -> None:
    found = CATALOGUE.search("vinh hung", "40")
    assert [unit.code for unit in found] == ["17920"]
    assert CATALOGUE.search("vinh", "00") == []
    assert CATALOGUE.search(" \u0301") == []


@pytest.mark.parametrize("name", ["1-commune-by-code", "2-name-without-accents", "3-communes-of-a-province"])
async def test_examples_are_what_the_adapter_answers(door: Door, name: str) -> None:
    shown = example("administrative-units", name)
    assert await door.answer(shown["request"]) == shown["reply"]


async def test_communes_come_in_pages_that_make_the_whole(door: Door) -> None:
    codes: list[str] = []
    asked = {"list": "communes", "province": "40", "limit": 50}
    while True:
        page = await door.answer(asked)
        assert page["total"] == 130
        codes += [unit["code"] for unit in page["units"]]
        if page["next"] is None:
            break
        asked = asked | {"after": page["next"]}
    assert len(codes) == 130
    assert codes == sorted(set(codes))


async def test_provinces_come_at_once(door: Door) -> None:
    reply = await door.answer({"list": "provinces"})
    assert (len(reply["units"]), reply["total"], reply["next"]) == (34, 34, None)
    assert {unit["province"] for unit in reply["units"]} == {None}


async def test_name_of_nothing_is_an_empty_list_and_limit_holds(door: Door) -> None:
    assert await door.answer({"name": "xyzzy"}) == {"units": [], "total": 0, "next": None}
    reply = await door.answer({"name": "an", "limit": 3})
    assert len(reply["units"]) == 3 < reply["total"]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"code": "99999"}, "KHONG-CO-DON-VI"),
        ({"code": "30"}, "DA-SAP-NHAP-2025-07-01"),
        ({"list": "communes", "province": "00"}, "KHONG-CO-DON-VI"),
        ({"name": "vinh", "province": "27"}, "DA-SAP-NHAP-2025-07-01"),
    ],
)
async def test_unknown_codes_are_not_found(door: Door, asked: dict[str, str], code: str) -> None:
    reply = await door.ask(asked)
    assert (reply.status, reply.code, reply.body) == ("not-found", code, b"")
