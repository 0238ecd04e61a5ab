"""Synthetic citizens in families, the same at every start.

Identity numbers have the structure of Circular 59/2021/TT-BCA and NĐ 137/2015 – province of birth registration, century
and sex, year, six digits – but a province code of 900 or above (900 + the province's two digits), which no real number
has. The last six digits stay below 500,000; those of children registered by the sample civil registry do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import NamedTuple

from vietnam_provinces import Province, Ward

from adapters.g01_population.names import Draw, Name, draw_name

HOUSEHOLDS = 3_000
MOST_IN_HOUSEHOLD = 16
LATEST_BIRTH = date(2025, 6, 30)

_SEED = "dân cư tổng hợp 1"
_SERIAL_STEP, _SERIALS = 7_919, 500_000
"""A prime that shares no factor with 500,000: stepping by it gives every citizen other last digits, in no order."""
_FIRST_SOUTHERN = "75"
"""From this province code on, a hamlet is an ấp."""
_ETHNICITIES = ("Kinh",) * 17 + ("Tày", "Thái", "Mường", "Nùng", "Mông", "Khơ-me", "Hoa", "Thổ")
_STREETS = ("Quang Trung", "Lê Lợi", "Trần Phú", "Phan Chu Trinh", "Hồ Tùng Mậu", "Nguyễn Thị Minh Khai", "Trường Thi")


class Commune(NamedTuple):
    code: str
    name: str
    province_code: str
    province: str


@dataclass(frozen=True, slots=True)
class Address:
    commune: Commune
    detail: str


@dataclass(frozen=True, slots=True)
class Citizen:
    """One person. `father`, `mother`, `spouse`, `head` are identity numbers of others in the same household, empty
    where there is none or none is recorded; `relation`: to the head of the household (chủ hộ)."""

    id: str
    name: Name
    male: bool
    born: date
    ethnicity: str
    registered_in: Address
    origin: Address
    residence: Address
    head: str
    relation: str
    father: str = ""
    mother: str = ""
    spouse: str = ""


@dataclass(slots=True)
class _Person:
    """A citizen in the making: relatives are places in the household's list, -1 for none."""

    name: Name
    male: bool
    born: date
    relation: str
    birthplace: Commune
    origin: Commune
    father: int = -1
    mother: int = -1
    spouse: int = -1


@cache
def population() -> dict[str, Citizen]:
    """Identity number → citizen, all of them: made at first use, about 0.3 s."""
    everywhere = tuple(sorted(communes().values()))
    return {citizen.id: citizen for number in range(HOUSEHOLDS) for citizen in household(number, everywhere)}


def household(number: int, communes: tuple[Commune, ...]) -> Iterator[Citizen]:
    """The citizens of household `number`, its head first; drawn from the number alone."""
    draw = _draw_of(number)
    home = draw.one_of(communes)
    residence = Address(home, _detail(draw, home))
    ethnicity = draw.one_of(_ETHNICITIES)
    people = _family(draw, home, communes, kind=draw.below(10))
    numbers = [
        identity_number(person.birthplace.province_code, person.male, person.born, _serial(number, place))
        for place, person in enumerate(people)
    ]

    def number_of(place: int) -> str:
        return numbers[place] if place >= 0 else ""

    for id, person in zip(numbers, people, strict=True):
        yield Citizen(
            id=id,
            name=person.name,
            male=person.male,
            born=person.born,
            ethnicity=ethnicity,
            registered_in=Address(person.birthplace, ""),
            origin=Address(person.origin, ""),
            residence=residence,
            head=numbers[0],
            relation=person.relation,
            father=number_of(person.father),
            mother=number_of(person.mother),
            spouse=number_of(person.spouse),
        )


def _draw_of(number: int) -> Draw:
    return Draw(f"{_SEED}/{number}")


@cache
def communes() -> dict[str, Commune]:
    """Code → commune, as of 1 July 2025."""
    provinces = {int(found.code): found.name for found in Province.iter_all()}
    return {
        f"{ward.code:05d}": Commune(
            f"{ward.code:05d}", ward.name, f"{ward.province_code:02d}", provinces[int(ward.province_code)]
        )
        for ward in Ward.iter_all()
    }


def _detail(draw: Draw, commune: Commune) -> str:
    if commune.name.startswith("Phường"):
        return f"Số {draw.between(1, 250)} đường {draw.one_of(_STREETS)}"
    kinds = ("Ấp",) if commune.province_code >= _FIRST_SOUTHERN else ("Thôn", "Xóm", "Bản")
    return f"{draw.one_of(kinds)} {draw.between(1, 15)}"


def identity_number(province_code: str, male: bool, born: date, serial: int) -> str:
    """The number of a person whose birth is registered in that province, with `serial` as its last six digits."""
    century = 2 * (born.year // 100 - 19) + (0 if male else 1)
    return f"9{province_code}{century}{born.year % 100:02d}{serial:06d}"


def _serial(number: int, place: int) -> int:
    return (1 + number * MOST_IN_HOUSEHOLD + place) * _SERIAL_STEP % _SERIALS


def _day(draw: Draw, first_year: int, last_year: int) -> date:
    return date(draw.between(first_year, last_year), 1, 1) + timedelta(days=draw.below(365))


def _family(draw: Draw, home: Commune, communes: tuple[Commune, ...], kind: int) -> list[_Person]:
    """Of ten: seven a couple with children, two with the man's parents as well, one a mother alone with children."""
    if kind == 0:
        return _mother_alone(draw, home)
    people: list[_Person] = []
    elders = kind >= 8
    man_born = _day(draw, 1972, 1996)
    if elders:
        elder_born = _day(draw, man_born.year - 34, man_born.year - 24)
        people += _couple(draw, home, elder_born, None, home, ("Chủ hộ", "Vợ"))
    father = len(people)
    surname = people[0].name.surname if elders else None
    wife_home = draw.one_of(communes) if draw.below(3) == 0 else home
    relations = ("Con", "Con dâu") if elders else ("Chủ hộ", "Vợ")
    people += _couple(draw, home, man_born, surname, wife_home, relations)
    if elders:
        people[father].father, people[father].mother = 0, 1
    people += _children(draw, people, father, father + 1, "Cháu" if elders else "Con")
    return people


def _couple(
    draw: Draw, home: Commune, man_born: date, surname: str | None, wife_home: Commune, relations: tuple[str, str]
) -> list[_Person]:
    """A husband and his wife, up to six years younger. Places in the list are set by where they are put."""
    man = _Person(draw_name(draw, True, surname), True, man_born, relations[0], home, home)
    wife_born = _day(draw, man_born.year, man_born.year + 6)
    wife = _Person(draw_name(draw, False), False, wife_born, relations[1], wife_home, wife_home)
    at = 0 if relations[0] == "Chủ hộ" else 2
    man.spouse, wife.spouse = at + 1, at
    return [man, wife]


def _mother_alone(draw: Draw, home: Commune) -> list[_Person]:
    mother = _Person(draw_name(draw, False), False, _day(draw, 1970, 1998), "Chủ hộ", home, home)
    return [mother, *_children(draw, [mother], -1, 0, "Con")]


def _children(draw: Draw, people: list[_Person], father: int, mother: int, relation: str) -> list[_Person]:
    """Up to four, born from the mother's twentieth to her forty-second year, at least a year apart, none yet to come;
    the father's surname and place of origin, or the mother's where she is alone."""
    parent, woman = people[father if father >= 0 else mother], people[mother]
    children: list[_Person] = []
    year = woman.born.year + 20 + draw.below(8)
    for _ in range(draw.between(1, 4)):
        born = _day(draw, year, year)
        if born > LATEST_BIRTH or year > woman.born.year + 42:
            break
        male = draw.below(2) == 0
        name = draw_name(draw, male, parent.name.surname)
        children.append(
            _Person(name, male, born, relation, parent.birthplace, parent.origin, father=father, mother=mother)
        )
        year += draw.between(2, 5)
    return children
