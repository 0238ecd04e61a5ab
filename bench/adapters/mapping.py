"""The mapping of a reply of 1 KB: by hand, as a manifest's expressions, and by `jmespath` itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jmespath
import orjson

from bench.adapters.figures import Figure, table
from bench.adapters.reply import MAPPING, PLAIN, RECORD, TABLES, by_hand
from bench.figures import median
from ngsp.mapping import Scope, Shape
from ngsp.text import tr

GOAL_US = 60.0
CALLS, REPETITIONS = 3_000, 9


def subjects() -> dict[str, Callable[[], Any]]:
    """What is measured, by name; the first is the reference."""
    root = {"status": 200, "body": {"KET_QUA": "OK", "DU_LIEU": RECORD}}
    scope = Scope(("status", "body"), TABLES)
    mapped, plain, library = Shape.compile(MAPPING, scope), Shape.compile(PLAIN, scope), jmespath.compile(PLAIN)
    assert mapped(root) == by_hand(root)
    assert plain(root) == library.search(root)
    return {
        tr("viết tay bằng Python", "by hand in Python"): lambda: by_hand(root),
        tr("biểu thức của bản khai", "a manifest's expressions"): lambda: mapped(root),
        tr("không có hàm riêng", "without functions of ours"): lambda: plain(root),
        tr("như trên, bằng jmespath", "the same by jmespath itself"): lambda: library.search(root),
    }


def measure(quick: bool) -> list[str]:
    """The lines of the report, the last with the goal."""
    measured = subjects()
    taken: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(3 if quick else REPETITIONS):
        for name, call in measured.items():
            taken[name].append(cpu_us_of(call, CALLS // 10 if quick else CALLS))
    figures = [Figure(name, median(values)) for name, values in taken.items()]
    size = len(orjson.dumps({"KET_QUA": "OK", "DU_LIEU": RECORD}))
    head = tr(f"Ánh xạ một trả lời {size} byte:", f"Mapping a reply of {size} bytes:")
    return [head, "", table(figures), "", f"mapping us={figures[1].cpu_us:.1f} goal={GOAL_US:.0f}"]


def cpu_us_of(call: Callable[[], Any], calls: int) -> float:
    """Processor time of one call, in µs."""
    begun = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - begun) / calls * 1e6
