"""Clients under whose load parts are killed: submissions sent until they are acknowledged, queries sent once.

A client does what the interface asks of it: whatever the answer that is not final (5xx, no connection, no answer in
time), it sends the same submission under the same key again. What it was told is kept, to be held against the log.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx

from tests.support.installation import Installation

SUBMISSIONS = ("H41/post-entry/v1", "H41/send-notice/v1")
QUERY = "H41/read-entry/v1"
QUERY_WAIT_S = 8
CALL_TIMEOUT_S = 12.0
PATIENCE_S = 120.0
"""How long a client goes on with one submission."""
RETRIED = frozenset(
    ("overloaded", "log-unavailable", "bus-unavailable", "registry-stale", "draining", "too-many-requests",
     "key-in-flight")
)  # fmt: skip
"""Refusals of a submission after which it is sent again."""
OUTCOMES = frozenset(("provider-refused", "outcome-unknown", "no-answer", "expired"))
"""Stored outcomes that a repeat of a submission may be told."""
QUERY_ANSWERS = RETRIED | {"no-answer", "outcome-unknown", "record-not-found", "provider-unavailable"}


@dataclass(slots=True)
class Submission:
    """One submission and what its client was told. `transactions`: every id it was acknowledged under."""

    key: str
    service: str
    body: dict[str, object]
    transactions: set[str] = field(default_factory=set)
    attempts: int = 0


@dataclass(slots=True)
class Told:
    """What the clients were told. `queries`: transaction → status. `unplanned`: answers that no fault explains."""

    submissions: list[Submission] = field(default_factory=list)
    queries: dict[str, int] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    unplanned: list[str] = field(default_factory=list)

    @property
    def acknowledged(self) -> list[Submission]:
        return [submission for submission in self.submissions if submission.transactions]


class Load:
    """`clients` at work until `stop` is set; each has a random generator of its own, made from `seed`."""

    def __init__(self, installation: Installation, seed: int, clients: int = 10, name: str = "load") -> None:
        self._installation, self._name = installation, name
        self._random = [random.Random(f"{seed}/{name}/{number}") for number in range(clients)]
        self._number = 0
        self.stop = asyncio.Event()
        self.told = Told()

    async def run(self) -> Told:
        """Returns when `stop` is set and every client has come to the end of what it was doing."""
        await asyncio.gather(*(self._client(chance) for chance in self._random))
        return self.told

    async def _client(self, chance: random.Random) -> None:
        while not self.stop.is_set():
            self._number += 1
            body: dict[str, object] = {
                "item": f"{self._name}-{self._number}",
                "delay_ms": chance.choice((0, 5, 20, 60, 200, 600)),
                "rule": chance.choices(("take", "refuse", "retry"), (80, 10, 10))[0],
            }
            if chance.random() < 0.4:
                await self._query(body, chance)
            else:
                await self._submission(body, chance)
            await asyncio.sleep(chance.uniform(0.0, 0.15))

    async def _query(self, body: dict[str, object], chance: random.Random) -> None:
        answer = await self._send(QUERY, body, chance)
        if answer is None:
            return
        if answer.status_code == 200 or _code(answer) in QUERY_ANSWERS:
            if transaction := answer.headers.get("Ngsp-Transaction"):
                self.told.queries[transaction] = answer.status_code
        else:
            self._unplanned(QUERY, answer)

    async def _submission(self, body: dict[str, object], chance: random.Random) -> None:
        submission = Submission(f"key-{body['item']}", chance.choice(SUBMISSIONS), body)
        self.told.submissions.append(submission)
        end = time.monotonic() + PATIENCE_S
        while not submission.transactions and time.monotonic() < end:
            await self._attempt(submission, chance)
            if not submission.transactions:
                await asyncio.sleep(chance.uniform(0.05, 0.5))
        if chance.random() < 0.2:  # the acknowledgement was not believed: the very same twice more, at once
            await asyncio.gather(self._attempt(submission, chance), self._attempt(submission, chance))

    async def _attempt(self, submission: Submission, chance: random.Random) -> None:
        submission.attempts += 1
        answer = await self._send(submission.service, submission.body, chance, submission.key)
        if answer is None or _code(answer) in RETRIED:
            return
        if answer.status_code in (200, 202) or _code(answer) in OUTCOMES:
            submission.transactions.add(answer.headers["Ngsp-Transaction"])
        else:
            self._unplanned(submission.service, answer)

    async def _send(
        self, service: str, body: dict[str, object], chance: random.Random, key: str = ""
    ) -> httpx.Response | None:
        gateway = chance.choice(self._installation.gateways)
        try:
            answer = await self._installation.call(
                service, body, gateway=gateway, key=key, timeout_s=CALL_TIMEOUT_S, Prefer=f"wait={QUERY_WAIT_S}"
            )
        except httpx.HTTPError as error:
            self.told.answers[type(error).__name__] += 1
            return None
        self.told.answers[_code(answer) or str(answer.status_code)] += 1
        return answer

    def _unplanned(self, service: str, answer: httpx.Response) -> None:
        self.told.unplanned.append(f"{service}: {answer.status_code} {answer.text[:200]}")


def _code(answer: httpx.Response) -> str:
    """The problem's code; empty for success."""
    return str(answer.json().get("code", "")) if answer.status_code >= 400 else ""
