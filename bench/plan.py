"""The bytes a load generator sends, made once: a plan (what to send) and its prepared form (the bytes, in turn)."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from itertools import cycle

COUNTER = "{counter}"
"""Stands in a path, a header's value or a body for a number that no other request of the run has."""

COUNTER_DIGITS = 20


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """One HTTP/1.1 request with any number of alternative bodies, sent in turn.

    `COUNTER` in `path`, in a value of `headers` or in a body is replaced, in each request, by 20 decimal digits of
    its own. `Host` and `Content-Length` are added; everything else that the server needs stands in `headers`.
    """

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    bodies: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        if not self.bodies:
            raise ValueError("a plan needs at least one body (an empty text for none)")
        for value in (self.method, self.path, *self.headers, *self.headers.values()):
            if "\r" in value or "\n" in value:
                raise ValueError("a line break in the method, the path or a header")

    def to_json(self) -> str:
        return json.dumps(
            {"method": self.method, "path": self.path, "headers": self.headers, "bodies": list(self.bodies)}
        )

    @classmethod
    def from_json(cls, text: str) -> RequestPlan:
        """The plan that `to_json` wrote; `body` (one text) is understood in place of `bodies`."""
        fields = json.loads(text)
        bodies = fields["bodies"] if "bodies" in fields else [fields.get("body", "")]
        return cls(fields["method"], fields["path"], dict(fields.get("headers", {})), tuple(bodies))


class PreparedRequests:
    """The plan's requests as bytes, endlessly: `next()` costs an iterator step, and a join where a counter stands."""

    def __init__(self, plan: RequestPlan, host: str, first_number: int | None = None) -> None:
        self._turn = cycle([_prepare(plan, body, host).split(COUNTER.encode()) for body in plan.bodies])
        self._number = time.time_ns() if first_number is None else first_number

    def next(self) -> bytes:
        parts = next(self._turn)
        if len(parts) == 1:
            return parts[0]
        self._number += 1
        return (b"%0*d" % (COUNTER_DIGITS, self._number)).join(parts)


def _prepare(plan: RequestPlan, body: str, host: str) -> bytes:
    content = body.encode()
    grown_by = (COUNTER_DIGITS - len(COUNTER)) * content.count(COUNTER.encode())
    lines = [f"{plan.method} {plan.path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in plan.headers.items()]
    lines += [f"Content-Length: {len(content) + grown_by}", "", ""]
    return "\r\n".join(lines).encode() + content
