"""How much is tried of what is drawn at random: all in `make test-all`, a third of it in `make test`."""

from __future__ import annotations

SHARE = 3

_quick = False


def be_quick(quick: bool) -> None:
    """Said once, before the tests are collected."""
    global _quick
    _quick = quick


def examples(number: int) -> int:
    """How many of `number` examples this run tries."""
    return max(1, number // SHARE) if _quick else number
