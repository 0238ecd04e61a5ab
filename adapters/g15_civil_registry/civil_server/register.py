"""The register of births (sổ đăng ký khai sinh): the synthetic citizens', the same each time, and those entered since.

Entries of one commune and year are numbered from 1; a book has 200 pages of one entry each, and the next book of the
year goes on with the numbers of the last.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from adapters.g01_population.citizens import Citizen, Commune, communes, identity_number, population
from adapters.g01_population.names import Draw

PAGES_IN_BOOK = 200
FIRST_SERIAL = 900_000
"""Last six digits of the first identity number given here: those of no citizen and of no other sample system."""


@dataclass(frozen=True, slots=True)
class Person:
    """A parent, as written in the entry. `id`: number of the identity paper."""

    name: str
    id: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One birth. `number`: within the commune and the year of `day`, the day of registration."""

    id: str
    name: str
    male: bool
    born: date
    origin: str
    ethnicity: str
    nationality: str
    father: Person | None
    mother: Person | None
    commune: Commune
    number: int
    day: date

    def place(self) -> dict[str, Any]:
        """Number, book, page and day, as every answer has them."""
        book, page = divmod(self.number - 1, PAGES_IN_BOOK)
        return {
            "soDangKy": f"{self.number:02d}/{self.day.year}",
            "quyenSo": f"{book + 1:02d}/{self.day.year}",
            "trangSo": str(page + 1),
            "ngayDangKy": f"{self.day:%d/%m/%Y}",
        }


class Register:
    """`by_person`: identity number → entry. Not safe for several threads at once."""

    def __init__(self) -> None:
        self.by_person: dict[str, Entry] = {}
        self.by_number: dict[tuple[str, str], Entry] = {}
        self._numbers: Counter[tuple[str, int]] = Counter()
        self._serials = itertools.count(FIRST_SERIAL)
        people = population()
        for citizen in sorted(people.values(), key=lambda citizen: (citizen.born, citizen.id)):
            self._enter_citizen(citizen, people)

    def _enter_citizen(self, citizen: Citizen, people: dict[str, Citizen]) -> None:
        def parent(id: str) -> Person | None:
            return Person(people[id].name.full, id) if id else None

        commune = citizen.registered_in.commune
        day = citizen.born + timedelta(days=Draw(f"khai sinh 1/{citizen.id}").between(1, 60))
        self._keep(
            Entry(
                id=citizen.id,
                name=citizen.name.full,
                male=citizen.male,
                born=citizen.born,
                origin=f"{citizen.origin.commune.name}, {citizen.origin.commune.province}",
                ethnicity=citizen.ethnicity,
                nationality="Việt Nam",
                father=parent(citizen.father),
                mother=parent(citizen.mother),
                commune=commune,
                number=self._next(commune.code, day.year),
                day=day,
            )
        )

    def enter(self, data: dict[str, Any], day: date) -> Entry:
        """Enters the birth of `data`, in the form of the interlinked procedures, and numbers the child."""

        def parent(who: str) -> Person | None:
            return Person(data[who]["HoTen"], data[who]["SoGiayToTuyThan"]) if who in data else None

        child, commune = data["nks"], communes()[data["noiDangKy"]]
        born, male = date.fromisoformat(child["NgaySinh"]), child["GioiTinh"] == 1
        entry = Entry(
            id=identity_number(commune.province_code, male, born, next(self._serials)),
            name=child["HoTen"],
            male=male,
            born=born,
            origin=child["QueQuan"],
            ethnicity=child["DanToc"],
            nationality=child["QuocTich"],
            father=parent("cha"),
            mother=parent("me"),
            commune=commune,
            number=self._next(commune.code, day.year),
            day=day,
        )
        self._keep(entry)
        return entry

    def _next(self, commune: str, year: int) -> int:
        self._numbers[commune, year] += 1
        return self._numbers[commune, year]

    def _keep(self, entry: Entry) -> None:
        self.by_person[entry.id] = entry
        self.by_number[entry.commune.code, str(entry.place()["soDangKy"])] = entry
