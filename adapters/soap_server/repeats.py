"""A request code is honoured once: a repeat gets the very answer of the first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from adapters.soap_server.messages import Call, Fault

SAME_CODE = "TRUNG_MA_YEU_CAU"


class Repeats:
    """Answers by request code. What was refused leaves no trace: its code may come again."""

    def __init__(self) -> None:
        self._done: dict[str, tuple[Call, Mapping[str, Any]]] = {}
        self._lock = threading.Lock()

    def once(self, code: str, call: Call, work: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """What `work` answers, or answered the first time. Fault where `code` came before with something else."""
        with self._lock:
            if code not in self._done:
                self._done[code] = (call, work())
            first, answer = self._done[code]
        if (first.operation, first.body) != (call.operation, call.body):
            raise Fault(SAME_CODE, "Mã yêu cầu đã dùng cho một yêu cầu khác")
        return answer

    def __len__(self) -> int:
        return len(self._done)
