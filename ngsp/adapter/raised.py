"""Where something was raised: what may be told of an error whose message may hold data."""

from __future__ import annotations

from pathlib import Path


def place_of(error: BaseException) -> str:
    """File and line where `error` was raised, without its message."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
