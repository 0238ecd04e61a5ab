"""The functions of our own that expressions may call, beside JMESPath's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from jmespath import functions


def functions_with(tables: Mapping[str, Mapping[str, Any]]) -> functions.Functions:
    """JMESPath's functions and ours; `lookup` looks into `tables`."""

    class Ours(functions.Functions):
        @functions.signature({"types": ["string", "null"]}, {"types": ["string"]})
        def _func_iso_date(self, value: str | None, pattern: str) -> str | None:
            form = pattern.replace("yyyy", "%Y").replace("MM", "%m").replace("dd", "%d")
            return value and datetime.strptime(value, form).date().isoformat()  # noqa: DTZ007 - a date

        @functions.signature({"types": ["string"]}, {"types": []})
        def _func_lookup(self, table: str, key: Any) -> Any:
            return tables[table][key]

    return Ours()
