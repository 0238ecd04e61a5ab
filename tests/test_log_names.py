"""What our own source writes into the log is on the lists of `ngsp.redaction`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ngsp
from ngsp.redaction import HIDDEN, SHOWN


def calls_of_loggers() -> Iterator[tuple[str, ast.Call]]:
    folder = Path(ngsp.__file__).parent
    for file in [*folder.rglob("*.py"), *(folder.parent / "adapters").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("debug", "info", "warning", "error", "critical", "exception")
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in ("log", "logger")
            ):
                yield f"{file.relative_to(folder.parent)}:{node.lineno}", node


def test_what_our_own_source_logs_is_readable() -> None:
    """Every event is a literal; every name is on a list, so that nobody looks in vain for a value that is hidden."""
    found = list(calls_of_loggers())
    assert len(found) > 20
    for place, call in found:
        assert call.args, place
        assert isinstance(call.args[0], ast.Constant), f"{place}: the event is not a literal"
        names: set[Any] = {keyword.arg for keyword in call.keywords} - {None, "exc_info", "extra"}
        for keyword in call.keywords:
            if keyword.arg == "extra" and isinstance(keyword.value, ast.Dict):
                names |= {key.value for key in keyword.value.keys if isinstance(key, ast.Constant)}
        assert names <= SHOWN | HIDDEN, f"{place}: {names - SHOWN - HIDDEN} are not in ngsp.redaction.SHOWN"
