"""How the tests are shared out where several processes run them (`make test`): by file, and the files that share a
costly server as one piece, the longest first, so that the processes end together.

Each process has servers of its own, so that what one test kills or fills is never another process's.
"""

from __future__ import annotations

from typing import Final

from xdist.scheduler import LoadScopeScheduling

TOGETHER: Final = {
    "tests/docs/": "the demo",
    "tests/bus/": "the broker",
    "tests/bench/test_bench_adapters.py": "the broker",
    "tests/bench/test_bench_floor.py": "the broker",
} | {
    f"tests/adapter/test_{name}.py": "the broker"
    for name in ("deadline", "effects", "outcomes", "probe", "process", "protocol_page", "room", "source_process",
                 "turns", "work")
}  # fmt: skip
"""Beginning of a path → what its tests share. None of these should be more than an eighth of the whole."""

LONGEST: Final = (
    "tests/faults/test_kills.py",
    "tests/faults/test_drain.py",
    "the broker",
    "the demo",
    "tests/faults/test_delivery_faults.py",
    "tests/faults/test_disk_full.py",
    "tests/faults/",
    "tests/adapter/",
    "tests/adapters/",
    "tests/local/",
    "tests/exchange/",
    "tests/transactions/",
)
"""Pieces that take more than some ten seconds, and folders with more than one of them, in the order in which they
begin: what is begun last should be short."""


def piece_of(nodeid: str) -> str:
    """What a test belongs to: all of it runs in one process."""
    file = nodeid.partition("::")[0]
    return next((shared for path, shared in TOGETHER.items() if file.startswith(path)), file)


def place_of(nodeid: str) -> tuple[int, str]:
    """Sorts the tests so that the longest pieces come first and every piece is in one row."""
    piece = piece_of(nodeid)
    place = next((number for number, begins in enumerate(LONGEST) if piece.startswith(begins)), len(LONGEST))
    return place, piece


class ByPiece(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """A process that has nothing to do gets the next piece."""

    def _split_scope(self, nodeid: str) -> str:
        return piece_of(nodeid)
