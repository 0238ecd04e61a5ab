"""The other shared catalogues: provinces of before 1 July 2025, peoples, countries, members.

Sources: Resolution 202/2025/QH15 (which older province is part of which); the list of the 54 peoples of Decision
121-TCTK/PPCĐ of 1979; Unicode CLDR 48 (names of countries and territories, codes of ISO 3166-1); the node's own
declared members.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from adapters.g22_catalogue.units import Catalogue, fold
from ngsp.adapter import ManifestError

DATA = Path(__file__).with_name("data")
MERGED_ON = "2025-07-01"

Entry = dict[str, Any]


class List:
    """Entries by code and by name; `names` and `codes` give what an entry is found by. Made once, then only read."""

    def __init__(
        self,
        entries: Iterable[Entry],
        names: Callable[[Entry], Iterable[str]],
        codes: Callable[[Entry], Iterable[str]] = lambda entry: (entry["code"],),
    ) -> None:
        self._entries = list(entries)
        self._folded = [[fold(name) for name in names(entry)] for entry in self._entries]
        self._by_code = {code: entry for entry in self._entries for code in codes(entry)}

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, code: str) -> Entry | None:
        return self._by_code.get(code)

    def all(self) -> list[Entry]:
        return self._entries

    def search(self, name: str) -> list[Entry]:
        """Entries that have `name` in one of theirs, whatever the accents; those of just that name first."""
        wanted = fold(name)
        found = [
            (wanted not in folded, number)
            for number, folded in enumerate(self._folded)
            if wanted and any(wanted in each for each in folded)
        ]
        return [self._entries[number] for _, number in sorted(found)]


def _rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def older_provinces(units: Catalogue) -> List:
    """The 63 provinces of before 1 July 2025, each with the one it is part of now."""

    def entry(row: dict[str, str]) -> Entry:
        now = units.find(row["now"])
        if now is None:
            raise ValueError(f"no province {row['now']}")
        return {
            "code": row["code"],
            "name": row["name"],
            "validTo": MERGED_ON,
            "now": {"code": now.code, "name": now.name},
        }

    return List(map(entry, _rows("older_provinces.csv")), lambda entry: (entry["name"],))


def _named(row: dict[str, str]) -> Entry:
    return {"code": row["code"], "name": {"vi": row["vi"], "en": row["en"]}}


def peoples() -> List:
    return List(map(_named, _rows("peoples.csv")), lambda entry: (entry["name"]["vi"],))


def countries() -> List:
    return List(map(_named, _rows("countries.csv")), lambda entry: entry["name"].values())


def members(declared: Path) -> List:
    """Those that `declared` holds, the YAML that `ngsp registry apply` takes. ManifestError where it cannot be read."""
    try:
        documents = list(yaml.load_all(declared.read_text("utf-8"), yaml.BaseLoader))
        entries = [_member(document) for document in documents if document["kind"] == "member"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ManifestError(f"{declared}: {type(error).__name__}") from None

    def codes(entry: Entry) -> Iterable[str]:
        return [code for code in (entry["code"], entry["oldCode"]) if code]

    return List(entries, lambda entry: entry["name"].values(), codes)


def _member(document: Any) -> Entry:
    return {
        "code": document["code"],
        "oldCode": document.get("old_code") or None,
        "name": {"vi": document["name"]["vi"], "en": document["name"]["en"]},
        "validFrom": document["valid_from"],
        "validTo": document.get("valid_to") or None,
    }
