"""What a comparison of two schemas is about at one place, and what it finds there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ngsp.registry.schema_parts import Node, Parts
from ngsp.registry.schemas import Path

Pairs = frozenset[tuple[frozenset[object], object]]


@dataclass(frozen=True, slots=True)
class Finding:
    """What does not follow: what `word` of the wider schema asks. `told`: the names, kinds or values that it excludes.

    `narrower`, `wider`: the places in both documents that were compared.
    """

    word: str
    narrower: Path
    wider: Path
    told: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """What holds for a value, and the schema that should follow from it. `at`: its place in the narrower document."""

    parts: Parts
    wider: Node
    at: Path
    assumed: Pairs

    def finding(self, word: str, *told: Any) -> Finding:
        at = next((node.path for node in self.parts.maps if word in node.schema), self.at)
        return Finding(word, at, self.wider.path, told)


Check = Callable[[Pair, str, Any], Iterable[Finding]]
"""What a word of the wider schema, stated so, finds."""
