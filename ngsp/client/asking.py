"""One request of the interface: with a token, within a time, repeated where that is harmless, its errors told apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ngsp import __version__
from ngsp.client.calls import call_path
from ngsp.client.errors import CallError, FromTheSandbox, NotUnderstood, problem_of
from ngsp.client.repeating import Kind, Retry, harmless
from ngsp.client.tokens import TOKEN_PATH, Form, Tokens, refusal_of
from ngsp.client.wire import Answer, Flow, Open, Pause, Send
from ngsp.text import Language

_LEAST_S = 0.05

Clock = Callable[[], float]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Budget:
    """The time that one operation has, repeats and pauses and tokens included."""

    clock: Clock
    until_s: float

    def left_s(self) -> float:
        return self.until_s - self.clock()

    def timeout_s(self) -> float:
        """For one request: what is left, and never nothing, so that a first try is made whatever the deadline."""
        return max(_LEAST_S, self.left_s())


class Asking:
    """How requests are made for one client."""

    def __init__(self, tokens: Tokens, retry: Retry, language: Language, sandbox: bool) -> None:
        self._tokens, self.retry, self.sandbox = tokens, retry, sandbox
        self.language: Language = language
        self._effects: dict[str, str] = {}

    def get(
        self,
        path: str,
        budget: Budget,
        parameters: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Flow[Answer]:
        """A good answer to a GET. Raises what went wrong."""

        def once() -> Flow[Answer]:
            return self.authorised(Send("GET", path, budget.timeout_s(), headers or {}, parameters or {}), budget)

        return (yield from self.persistently(once, "read", budget))

    def persistently(
        self, once: Callable[[], Flow[Answer]], kind: Kind, budget: Budget, service: str = ""
    ) -> Flow[Answer]:
        """The good answer of `once`, which is done again while that is harmless and there is time. Raises the last
        error."""
        repeats = 0
        while True:
            try:
                answer = yield from once()
                if answer.status in (200, 201, 202):
                    return answer
                raise self.error_of(answer)
            except CallError as error:
                pause_s = self.retry.pause_s(error, repeats)
                if pause_s is None or pause_s >= budget.left_s():
                    raise
                may = harmless(error, kind)
                if may is None and service:
                    may = yield from self._is_idempotent(service, budget)
                if not may:
                    raise
            repeats += 1
            yield Pause(pause_s)

    def _is_idempotent(self, service: str, budget: Budget) -> Flow[bool]:
        """Whether the service is a query that may be repeated whatever came of the first time; False if in doubt."""
        if service not in self._effects:
            try:
                answer = yield from self.get(call_path(service), budget)
                self._effects[service] = self.read(answer, lambda found: f"{found['mode']} {found['effect']}")
            except CallError:
                return False
        return self._effects[service] == "query idempotent"

    def authorised(self, request: Send, budget: Budget, *, stream: bool = False) -> Flow[Answer]:
        """With the client's token; with a new one, once, where the bus does not take the old."""

        def ask(form: Form) -> Flow[Answer]:
            return self._asked_for_token(form, budget)

        renewed = False
        while True:
            value = yield from self._tokens.bearer(ask, self.language)
            headers = {**self._common(), **request.headers, "Authorization": f"Bearer {value}"}
            sent = replace(request, headers=headers)
            answer: Answer = yield Open(sent) if stream else sent
            if answer.status != 401 or renewed:
                self._check_mark(answer)
                return answer
            self._tokens.forget(value)
            renewed = True

    def _check_mark(self, answer: Answer) -> None:
        """An example is never taken for the truth by a program that was not told to expect one."""
        if "ngsp-sandbox" in answer.headers and not self.sandbox:
            error = FromTheSandbox(language=self.language)
            error.transaction = answer.headers.get("ngsp-transaction", "")
            raise error

    def _asked_for_token(self, form: Form, budget: Budget) -> Flow[Answer]:
        headers, body = form
        answer: Answer = yield Send("POST", TOKEN_PATH, budget.timeout_s(), {**self._common(), **headers}, body=body)
        if answer.status != 200:
            raise refusal_of(answer, self.language) or self.error_of(answer)
        return answer

    def _common(self) -> dict[str, str]:
        return {"Accept-Language": self.language, "User-Agent": f"ngsp-client/{__version__}"}

    def error_of(self, answer: Answer) -> CallError:
        """What an answer says that is no success."""
        error: CallError = NotUnderstood(answer.status, language=self.language)
        if answer.headers.get("content-type", "").startswith("application/problem+json"):
            error = self.read(answer, lambda found: problem_of(found, answer.status))
        error.transaction = answer.headers.get("ngsp-transaction", "")
        error.retry_after_s = retry_after_s(answer)
        return error

    def transaction_of(self, answer: Answer) -> str:
        """The transaction that an answer belongs to. `NotUnderstood` where it names none."""
        id = answer.headers.get("ngsp-transaction", "")
        if not id:
            raise NotUnderstood(answer.status, language=self.language)
        return id

    def read(self, answer: Answer, shape: Callable[[dict[str, Any]], T]) -> T:
        """What `shape` makes of the JSON object that an answer carries. `NotUnderstood` where it cannot."""
        try:
            found = json.loads(answer.body)
            return shape(found)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise NotUnderstood(answer.status, language=self.language) from None


def retry_after_s(answer: Answer) -> float | None:
    """`Retry-After` in seconds; the bus gives no dates."""
    said = answer.headers.get("retry-after", "")
    return float(said) if said.isascii() and said.isdigit() else None
