"""Plays a flow against answers written down: what it sends and how long it pauses, without a network or a wait."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ngsp.client.core import Core
from ngsp.client.credentials import ClientSecret
from ngsp.client.failures import CallError
from ngsp.client.repeating import Retry
from ngsp.client.wire import Alone, Answer, Emit, Ended, Flow, Open, Pause, Read, Running, Send

TRANSACTION = "0192b0c4-7d1e-7abc-8def-0123456789ab"


def answer(status: int = 200, document: object = None, **headers: str) -> Answer:
    """With headers by their names with `_` for `-`; it belongs to a transaction."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    kind = "application/json" if status < 400 else "application/problem+json"
    return Answer(
        status, {"content-type": kind, "ngsp-transaction": TRANSACTION} | named, json.dumps(document).encode()
    )


def problem(code: str, status: int, retry_after_s: int | None = None, **members: object) -> Answer:
    waiting = {} if retry_after_s is None else {"retry_after": str(retry_after_s)}
    return answer(status, {"code": code, "status": status, "title": "T", **members}, **waiting)


def token(value: str = "t", life_s: float = 600) -> Answer:
    return answer(200, {"access_token": value, "token_type": "Bearer", "expires_in": life_s})


Scripted = Answer | CallError | bytes


@dataclass
class Play:
    """`answers` are given in turn. Time passes only by pauses, and by `each_s` for every request."""

    answers: Iterator[Scripted]
    each_s: float = 0.0
    now_s: float = 1_000.0
    sent: list[Send] = field(default_factory=list)
    pauses_s: list[float] = field(default_factory=list)
    emitted: list[Any] = field(default_factory=list)
    alone: int = 0

    def core(self, retry: Retry | None = None) -> Core:
        return Core(ClientSecret("id", "secret"), issuer="https://bus", retry=retry, clock=lambda: self.now_s)

    def run(self, flow: Flow[Any], most: int = 0) -> Any:
        """What the flow ends with; None once it has emitted `most` items."""
        running = Running(flow)
        while True:
            step = running.step()
            match step:
                case Ended():
                    return step.result
                case Emit():
                    self.emitted.append(step.item)
                    if len(self.emitted) == most:
                        return None
                case Pause():
                    self.pauses_s.append(step.seconds)
                    self.now_s += step.seconds
                case Alone():
                    self.alone += 1
                    try:
                        running.result = self.run(step.flow())
                    except CallError as error:
                        running.failure = error
                case Send() | Open() | Read():
                    self._next(step, running)

    def _next(self, step: Send | Open | Read, running: Running[Any]) -> None:
        if not isinstance(step, Read):
            self.sent.append(step.request if isinstance(step, Open) else step)
        self.now_s += self.each_s
        found = next(self.answers)
        if isinstance(found, CallError):
            running.failure = found
        else:
            running.result = found

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.sent]


def play(*answers: Scripted, **others: Any) -> Play:
    return Play(iter(answers), **others)


def bearers(sent: Iterable[Send]) -> list[str]:
    return [request.headers.get("Authorization", "") for request in sent]
