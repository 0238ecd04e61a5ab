"""How the tests are shared out where several processes run them (`make test`): by file, and a folder that shares costly
servers as one piece, the longest first.

Each process has servers of its own, so that what one test kills or fills is never another process's.
"""

from __future__ import annotations

from typing import Final

from xdist.scheduler import LoadScopeScheduling

TOGETHER: Final = {
    "tests/faults/": "servers to be killed",
    "tests/adapter/": "the broker",
    "tests/bus/": "the broker",
    "tests/docs/": "the demo",
}
"""Folder → what its tests share. In the order in which they begin: what is begun last should be short."""


def piece_of(nodeid: str) -> str:
    """What a test belongs to: all of it runs in one process."""
    file = nodeid.partition("::")[0]
    return next((shared for folder, shared in TOGETHER.items() if file.startswith(folder)), file)


def place_of(nodeid: str) -> int:
    """Sorts the tests so that the longest pieces come first and every piece is in one row."""
    pieces = list(dict.fromkeys(TOGETHER.values()))
    piece = piece_of(nodeid)
    return pieces.index(piece) if piece in pieces else len(pieces)


class ByPiece(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """A process that has nothing to do gets the next piece."""

    def _split_scope(self, nodeid: str) -> str:
        return piece_of(nodeid)
