"""The country's administrative units since 1 July 2025: 34 provinces and 3,321 communes, and how they are found.

Source: the package `vietnam-provinces` (General Statistics Office's list, retrieved 2025-10-18). Codes are text, of two
digits for a province and five for a commune, leading zeros kept.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

from vietnam_provinces import Province, Ward

ABOLISHED_PROVINCES = frozenset(
    f"{code:02d}"
    for code in (
        *(2, 6, 10, 17, 26, 27, 30, 34, 35, 36, 45, 49, 54, 58, 60),
        *(62, 64, 67, 70, 72, 74, 77, 83, 84, 87, 89, 93, 94, 95),
    )
)
"""Codes of provinces merged into others on 1 July 2025 (Resolution 202/2025/QH15); still inside older numbers."""

_LETTERS = str.maketrans({"đ": "d", "ð": "d", "ɖ": "d", "’": "'", "–": "-"})
"""đ is no accented d to Unicode; ð and ɖ are what older keyboards and fonts left in its place."""
_PREFIXES = ("thanh pho ", "tinh ", "phuong ", "xa ", "dac khu ")


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit. `province`: the unit above a commune, None for a province."""

    code: str
    name: str
    type: str
    province: Unit | None
    exact: str
    """The name with its accents, caseless: what an accented query is compared with first."""
    folded: str
    """The name without accents, caseless, as `fold` makes it."""

    def document(self) -> dict[str, Any]:
        above = self.province
        return {
            "code": self.code,
            "name": self.name,
            "level": "commune" if above else "province",
            "type": self.type,
            "province": {"code": above.code, "name": above.name} if above else None,
        }


def caseless(text: str) -> str:
    """NFC, caseless, single spaces: two spellings of one accented name become one."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def fold(text: str) -> str:
    """`text` without accents: NFC, caseless, đ as d, marks taken off, single spaces."""
    decomposed = unicodedata.normalize("NFD", caseless(text).translate(_LETTERS))
    bare = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return " ".join(bare.split())


class Catalogue:
    """All units, indexed. Made once (some 40 ms), then only read."""

    def __init__(self) -> None:
        provinces = {
            f"{found.code:02d}": _unit(f"{found.code:02d}", found.name, found.division_type.value, None)
            for found in Province.iter_all()
        }
        communes = [
            _unit(f"{found.code:05d}", found.name, found.division_type.value, provinces[f"{found.province_code:02d}"])
            for found in Ward.iter_all()
        ]
        communes.sort(key=lambda unit: unit.code)
        self._provinces = dict(sorted(provinces.items()))
        self._by_code = self._provinces | {unit.code: unit for unit in communes}
        self._communes: dict[str, list[Unit]] = {code: [] for code in self._provinces}
        for unit in communes:
            if unit.province:
                self._communes[unit.province.code].append(unit)

    def __len__(self) -> int:
        return len(self._by_code)

    def find(self, code: str) -> Unit | None:
        return self._by_code.get(code)

    def provinces(self) -> list[Unit]:
        """The 34 provinces by code."""
        return list(self._provinces.values())

    def communes(self, province: str) -> list[Unit]:
        """The communes of a province by code; empty for an unknown one."""
        return self._communes.get(province, [])

    def search(self, name: str, province: str | None = None) -> list[Unit]:
        """Units whose name holds `name`, whatever the accents; the closest first, then by code.

        A query that names no letter or digit finds nothing.
        """
        exact, folded = caseless(name), fold(name)
        if not folded:
            return []
        among = self._by_code.values() if province is None else self.communes(province)
        ranked = [(_distance(unit, exact, folded), unit.code, unit) for unit in among if folded in unit.folded]
        return [unit for _, _, unit in sorted(ranked, key=lambda found: found[:2])]


def _unit(code: str, name: str, type: str, province: Unit | None) -> Unit:
    return Unit(code, name, type, province, caseless(name), fold(name))


def _distance(unit: Unit, exact: str, folded: str) -> tuple[int, int]:
    """Smaller is closer: the whole name, the name less its kind, the beginning of either, a word's beginning,
    anywhere; then accents as written."""
    bare = unit.folded
    for prefix in _PREFIXES:
        bare = bare.removeprefix(prefix)
    if folded == unit.folded:
        place = 0
    elif folded == bare:
        place = 1
    elif bare.startswith(folded) or unit.folded.startswith(folded):
        place = 2
    else:
        place = 3 if f" {folded}" in unit.folded else 4
    return place, 0 if exact in unit.exact else 1
