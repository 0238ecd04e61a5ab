"""What a back end answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """`status`: the back end's own (HTTP status, SOAP fault code, number of rows); `body`: JSON-like.

    `headers`: of the answer, names in lower case.
    """

    status: int | str
    body: Any
    headers: Mapping[str, str]
