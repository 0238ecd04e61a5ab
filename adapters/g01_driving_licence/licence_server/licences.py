"""Synthetic driving licences, the same at every start: two in three grown citizens of the population hold one or two.

A licence's number begins with 99, which is no province's code, so that it is nobody's. Classes are those of Law
36/2024/QH15 where the test was passed from 2025 on, those of the law of 2008 where before. Issued until
28 February 2025 by a province's department of transport (Sở Giao thông vận tải), from 1 March 2025 on by its police
(Phòng Cảnh sát giao thông), when the Ministry of Public Security took licences over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from adapters.g01_population.citizens import Citizen, population
from adapters.g01_population.names import Draw

POLICE_SINCE = date(2025, 3, 1)
NEW_CLASSES_SINCE = date(2025, 1, 1)
LATEST_ISSUE = date(2025, 6, 30)
POINTS = 12
"""Of every licence since 1 January 2025 (Law 36/2024/QH15)."""
WITHOUT_END = frozenset(("A1", "A2", "A3", "A", "B1"))
YEARS = {"B": 10, "B2": 10, "C1": 10}
"""For how long a class is issued; 5 years where it is not named, for ever where it is `WITHOUT_END`."""

_SEED = "giấy phép lái xe 1"
_STEP, _SERIALS = 7_919, 10_000_000
_CARS = (("B2", "B"),) * 12 + (("B1", "B"),) * 3 + (("C", "C"),) * 3 + (("D", "D2"), ("E", "D"), ("FC", "CE"))
"""Class of before 2025 and its successor; as common here as they roughly are."""


@dataclass(frozen=True, slots=True)
class Class:
    """`until` None: it has no end."""

    code: str
    passed: date
    until: date | None


@dataclass(frozen=True, slots=True)
class Licence:
    """`status`: 01 valid, 02 expired, 03 suspended, 04 withdrawn; what it would be on `LATEST_ISSUE`."""

    number: str
    holder: Citizen
    issued: date
    province_code: str
    province: str
    status: str
    points: int
    classes: tuple[Class, ...]

    @property
    def authority(self) -> tuple[str, str]:
        """Code and name of who issued it."""
        if self.issued < POLICE_SINCE:
            return f"SGTVT-{self.province_code}", f"Sở Giao thông vận tải {self.province}"
        return f"CSGT-{self.province_code}", f"Phòng Cảnh sát giao thông, Công an {self.province}"


def licences() -> dict[str, Licence]:
    """Number → licence."""
    return {licence.number: licence for index, citizen in enumerate(_grown()) for licence in _held(index, citizen)}


def _grown() -> list[Citizen]:
    return [citizen for citizen in population().values() if citizen.born.year <= 2005]


def _held(index: int, citizen: Citizen) -> Iterator[Licence]:
    draw = Draw(f"{_SEED}/{index}")
    grown_up = citizen.born.year + 18
    if draw.below(10):
        passed = _day(draw, grown_up, LATEST_ISSUE.year)
        code = ("A1" if draw.below(8) else "A") if passed >= NEW_CLASSES_SINCE else ("A1" if draw.below(8) else "A2")
        yield _licence(draw, 2 * index, citizen, code, passed)
    if draw.below(10) < 4:
        passed = _day(draw, max(grown_up, 2014), LATEST_ISSUE.year)
        older, newer = draw.one_of(_CARS)
        yield _licence(draw, 2 * index + 1, citizen, newer if passed >= NEW_CLASSES_SINCE else older, passed)


def _day(draw: Draw, first_year: int, last_year: int) -> date:
    day = date(draw.between(first_year, max(first_year, last_year)), 1, 1) + timedelta(days=draw.below(365))
    return min(day, LATEST_ISSUE)


def _licence(draw: Draw, serial: int, citizen: Citizen, code: str, passed: date) -> Licence:
    place = citizen.residence.commune
    until = None if code in WITHOUT_END and not _is_car(code, passed) else _years_later(passed, YEARS.get(code, 5))
    lot = draw.below(60)
    status = "03" if lot == 0 else "04" if lot == 1 else "01"
    if status == "01" and until is not None and until < LATEST_ISSUE:
        status = "02"
    return Licence(
        number=f"99{0 if citizen.male else 1}{passed.year % 100:02d}{(serial + 1) * _STEP % _SERIALS:07d}",
        holder=citizen,
        issued=passed + timedelta(days=10),
        province_code=place.province_code,
        province=place.province,
        status=status,
        points=POINTS if draw.below(6) else draw.below(POINTS),
        classes=(Class(code, passed, until),),
    )


def _is_car(code: str, passed: date) -> bool:
    """B1 was a car's class before 2025 and is a three-wheeler's since."""
    return code == "B1" and passed < NEW_CLASSES_SINCE


def _years_later(day: date, years: int) -> date:
    return date(day.year + years, day.month, min(day.day, 28))
