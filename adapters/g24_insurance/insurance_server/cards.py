"""Cards of the synthetic citizens, the same at every start: 15 characters, of which two letters for the group, a digit
for the benefit, two digits for the province and the ten of the insurance number.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

from adapters.g01_population.citizens import Citizen, population

TODAY = date(2026, 1, 1)
"""Cards run with the calendar year; this is the year that the data were made for."""
GROUPS = {"child": ("TE", "1"), "pupil": ("HS", "4"), "worker": ("DN", "4"), "elder": ("HT", "2")}
"""Group → its letters and the digit of its benefit."""

State = Literal["valid", "renewed", "replaced", "expired", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Card:
    """One card and its holder. `replaces`: the number of the card before it, empty where there was none."""

    number: str
    insurance_number: str
    holder: Citizen
    valid_from: date
    valid_to: date
    state: State
    replaces: str = ""


def holders() -> dict[str, Card]:
    """Identity number → card; one citizen in sixteen has none."""
    found = {}
    for serial, citizen in enumerate(sorted(population().values(), key=lambda citizen: citizen.id)):
        if serial % 16 != 7:
            found[citizen.id] = _card(citizen, serial)
    return found


def _card(citizen: Citizen, serial: int) -> Card:
    letters, benefit = GROUPS[_group(citizen)]
    insurance_number = f"9{serial * 7_919 % 1_000_000_000:09d}"
    province = citizen.residence.commune.province_code
    number = f"{letters}{benefit}{province}{insurance_number}"
    state: State = "valid"
    replaces = ""
    valid_from, valid_to = date(2026, 1, 1), date(2026, 12, 31)
    match serial % 20:
        case 1:  # the old one has run out, a new one is there
            state, replaces = "renewed", f"GD4{province}{insurance_number}"
        case 2:  # the old one would still hold, but another was given
            state, replaces = "replaced", f"CN3{province}{insurance_number}"
        case 3:
            state, valid_from, valid_to = "expired", date(2025, 1, 1), date(2025, 12, 31)
        case 4:
            state = "withdrawn"
    return Card(number, insurance_number, citizen, valid_from, valid_to, state, replaces)


def _group(citizen: Citizen) -> str:
    age = TODAY.year - citizen.born.year
    if age < 6:
        return "child"
    if age < 18:
        return "pupil"
    return "worker" if age < 60 else "elder"
