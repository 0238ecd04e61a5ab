"""The client's logic, once, without input or output: every method is a flow that yields steps to a driver."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast
from urllib.parse import quote

from ngsp.client.asking import Asking, Budget, Clock, retry_after_s
from ngsp.client.calls import (
    Defaults,
    Options,
    Prepared,
    Reply,
    Submission,
    call_headers,
    call_path,
    encoded,
    new_key,
    reply_of,
)
from ngsp.client.credentials import Credentials
from ngsp.client.errors import CallError, ConnectionLost, StillUnderWay
from ngsp.client.following import EventReader, Filters, Page, Transaction
from ngsp.client.publishing import NewEvent, Published, encoded_events, published_of
from ngsp.client.repeating import Kind, Retry, harmless
from ngsp.client.tokens import Tokens
from ngsp.client.wire import Answer, Emit, Flow, Pause, Read, Send, Step
from ngsp.text import Language

DEADLINE_S = 30.0
TRANSACTIONS = "/v1/transactions"
LONGEST_WAIT_S = 30
SILENCE_S = 45.0
"""The stream beats every 15 s: three beats missed, and the connection is taken for lost."""
MOST_ITEMS = 500
_DONE_AGAIN = frozenset(("GET", "PUT", "DELETE"))
"""Methods whose repeat changes nothing more (RFC 9110 §9.2.2)."""


class Core:
    """What one client is: how it proves itself, what it says by default, how patient it is."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        issuer: str,
        scope: str = "",
        language: Language = "vi",
        retry: Retry | None = None,
        sandbox: bool = False,
        defaults: Defaults | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._clock = clock
        self._asking = Asking(Tokens(credentials, issuer, scope, clock), retry or Retry(), language, sandbox)
        self._defaults: Defaults = defaults or {}

    def having(self, defaults: Defaults) -> Core:
        """The same client with further defaults; it shares the token."""
        found = object.__new__(Core)
        found.__dict__.update(self.__dict__, _defaults={**self._defaults, **defaults})
        return found

    # Calls

    def prepare(self, service: str, payload: object, options: Options) -> Prepared:
        call_path(service)
        chosen = self._chosen(options)
        return Prepared(service, encoded(payload), {**chosen, "key": chosen.get("key") or new_key()})

    def call(self, service: str, payload: object, options: Options) -> Flow[Reply]:
        """A query: its reply. Of a submission that has a key: its reply, once it is there."""
        chosen, body = self._chosen(options), encoded(payload)
        budget = self._budget(chosen)
        answer = yield from self._called(service, body, chosen, budget, asynchronously=False)
        if answer.status != 202:
            return reply_of(service, answer)
        return (yield from self._outcome(self._asking.transaction_of(answer), service, budget, None))

    def send(self, prepared: Prepared) -> Flow[Submission]:
        """A submission, or a query answered later: accepted durably, or the error that says why not."""
        service, options = prepared.service, prepared.options
        budget = self._budget(options)
        answer = yield from self._called(service, prepared.body, options, budget, asynchronously=True)
        reply = reply_of(service, answer) if answer.status == 200 else None
        return Submission(service, self._asking.transaction_of(answer), prepared.key, reply)

    def submit(self, service: str, payload: object, options: Options) -> Flow[Submission]:
        return (yield from self.send(self.prepare(service, payload, options)))

    def publish(
        self, service: str, events: NewEvent | Sequence[NewEvent], traceparent: str, deadline_s: float | None
    ) -> Flow[list[Published]]:
        """Events, which are durable then. Their source and id are what a key is to a submission: sent again, nothing is
        done twice."""
        several = [events] if isinstance(events, NewEvent) else list(events)
        path = call_path(service, "/v1/events/")
        kind, body = encoded_events(several)
        budget = self._budget({} if deadline_s is None else {"deadline_s": deadline_s})
        trace = traceparent or self._defaults.get("traceparent", "")
        headers = {"Content-Type": kind} | ({"traceparent": trace} if trace else {})

        def once() -> Flow[Answer]:
            return self._asking.authorised(Send("POST", path, budget.timeout_s(), headers, body=body), budget)

        answer = yield from self._asking.persistently(once, "keyed", budget)
        return self._asking.read(answer, lambda document: published_of(document, several))

    # Transactions

    def wait(
        self,
        submission: Submission | str,
        deadline_s: float | None,
        on_state: Callable[[Transaction], None] | None,
    ) -> Flow[Reply]:
        """The reply of a submission, once it is there; the error it ended with; `StillUnderWay` at the deadline."""
        if isinstance(submission, Submission) and submission.reply is not None:
            return submission.reply
        of = submission if isinstance(submission, Submission) else Submission("", submission, "")
        try:
            budget = self._budget({} if deadline_s is None else {"deadline_s": deadline_s})
            return (yield from self._outcome(of.transaction, of.service, budget, on_state))
        except CallError as error:
            error.transaction = error.transaction or of.transaction
            error.idempotency_key = error.idempotency_key or of.key
            raise

    def states(self, submission: Submission | str, deadline_s: float | None) -> Flow[None]:
        """Emits the transaction at each change of its state, the last time with its outcome."""
        id = submission.transaction if isinstance(submission, Submission) else submission
        budget = self._budget({} if deadline_s is None else {"deadline_s": deadline_s})
        yield from self._watched(id, budget)

    def transaction(self, id: str) -> Flow[Transaction]:
        answer = yield from self._asking.get(_address(id), self._budget({}))
        return self._asking.read(answer, Transaction.read)

    def reply(self, id: str) -> Flow[Reply]:
        """The stored reply; the error that the transaction ended with."""
        answer = yield from self._asking.get(f"{_address(id)}/reply", self._budget({}))
        return Reply("", id, answer.body)

    def page(self, filters: Filters | None, limit: int, cursor: str | None) -> Flow[Page]:
        parameters = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        parameters |= (filters or Filters()).parameters()
        answer = yield from self._asking.get(TRANSACTIONS, self._budget({}), parameters)
        return self._asking.read(answer, Page.read)

    def transactions(self, filters: Filters | None, limit: int) -> Flow[None]:
        """Emits them all, newest first, page by page."""
        cursor: str | None = None
        while True:
            page: Page = yield from self.page(filters, limit, cursor)
            for transaction in page.items:
                yield Emit(transaction)
            cursor = page.next
            if cursor is None:
                return

    def follow(
        self, filters: Filters | None, after: str, on_trouble: Callable[[CallError, float], None] | None = None
    ) -> Flow[None]:
        """Emits the events of the log after `after`, or from now on, for ever: a lost connection is resumed."""
        parameters = (filters or Filters()).parameters()
        reader, failures = EventReader(after), 0
        while True:
            before = reader.fed
            trouble: CallError | None = None  # every stream ends, with its token at the latest
            try:
                yield from self._listened(parameters, reader)
            except CallError as error:
                if not harmless(error, "read"):
                    raise
                trouble = error
            failures = 0 if reader.fed > before else failures + 1
            ended = trouble or ConnectionLost(language=self._asking.language)
            pause_s = self._asking.retry.pause_s(ended, min(failures, max(0, self._asking.retry.most - 1)))
            if pause_s is None:
                raise ended
            if trouble and on_trouble:
                on_trouble(trouble, pause_s)
            yield Pause(pause_s)

    # The catalogue, and whatever else the interface tells

    def service(self, service: str) -> Flow[dict[str, Any]]:
        """The service as the catalogue has it: schemas, mode, deadline, examples."""
        return self.get(call_path(service), {})

    def get(self, path: str, parameters: Mapping[str, str]) -> Flow[dict[str, Any]]:
        """The JSON object at `path`."""
        answer = yield from self._asking.get(path, self._budget({}), parameters)
        return self._asking.read(answer, dict)

    def ask(self, method: str, path: str, document: object) -> Flow[Answer]:
        """The good answer to any request of the interface, `document` as its JSON."""
        body = b"" if document is None else encoded(document)
        headers = {"Content-Type": "application/json"} if body else {}
        kind: Kind = "read" if method in _DONE_AGAIN else "plain"
        budget = self._budget({})

        def once() -> Flow[Answer]:
            return self._asking.authorised(Send(method, path, budget.timeout_s(), headers, body=body), budget)

        return (yield from self._asking.persistently(once, kind, budget))

    def items(self, path: str, parameters: Mapping[str, str]) -> Flow[None]:
        """Emits every item of the list at `path`, page by page."""
        parameters = {"limit": str(MOST_ITEMS), **parameters}
        while True:
            answer = yield from self._asking.get(path, self._budget({}), parameters)
            items, following = self._asking.read(answer, lambda document: (list(document["items"]), document["next"]))
            for item in items:
                yield Emit(item)
            if following is None:
                return
            parameters = {**parameters, "cursor": following}

    # How it is done

    def _chosen(self, options: Options) -> Options:
        return cast("Options", {**self._defaults, **options})

    def _budget(self, options: Options) -> Budget:
        wished_s = options.get("deadline_s", self._defaults.get("deadline_s", DEADLINE_S))
        return Budget(self._clock, self._clock() + wished_s)

    def _called(
        self, service: str, body: bytes, options: Options, budget: Budget, *, asynchronously: bool
    ) -> Flow[Answer]:
        path, key = call_path(service), options.get("key", "")

        def once() -> Flow[Answer]:
            headers = call_headers(options, asynchronously=asynchronously, remaining_s=budget.left_s())
            if self._asking.sandbox:
                headers["Ngsp-Sandbox"] = "true"
            return self._asking.authorised(Send("POST", path, budget.timeout_s(), headers, body=body), budget)

        try:
            return (yield from self._asking.persistently(once, "keyed" if key else "plain", budget, service))
        except CallError as error:
            error.idempotency_key = key
            raise

    def _outcome(
        self, id: str, service: str, budget: Budget, on_state: Callable[[Transaction], None] | None
    ) -> Flow[Reply]:
        yield from _telling(self._watched(id, budget), on_state)
        answer = yield from self._asking.get(f"{_address(id)}/reply", budget)
        return Reply(service, id, answer.body)

    def _watched(self, id: str, budget: Budget) -> Flow[None]:
        """Emits the transaction at each change of its state. The first look does not wait, later ones ever longer."""
        state, wait_s = "", 0
        while True:
            prefer = {"Prefer": f"wait={wait_s}"} if wait_s else {}
            try:
                answer = yield from self._asking.get(_address(id), budget, headers=prefer)
            except ConnectionLost as error:
                if budget.left_s() > 0:
                    raise
                raise StillUnderWay(id, state, language=self._asking.language) from error
            found = self._asking.read(answer, Transaction.read)
            if found.state != state:
                state = found.state
                yield Emit(found)
            if found.ended:
                return
            if budget.left_s() <= 0:
                raise StillUnderWay(id, state, language=self._asking.language)
            waited = not wait_s or "preference-applied" in answer.headers
            wait_s = min(LONGEST_WAIT_S, max(1, 2 * wait_s), int(budget.left_s()))
            if not wait_s or not waited:  # too little time, or the bus waits for as many as it can
                yield Pause(max(0.0, min(budget.left_s(), retry_after_s(answer) or 1.0)))

    def _listened(self, parameters: Mapping[str, str], reader: EventReader) -> Flow[None]:
        """One connection to the stream, to its end."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": reader.position} if reader.position else {})
        request = Send("GET", f"{TRANSACTIONS}/stream", SILENCE_S, headers, parameters)
        answer = yield from self._asking.authorised(request, self._budget({}), stream=True)
        if answer.status != 200:
            raise self._asking.error_of(answer)
        while data := (yield Read()):
            for event in reader.feed(data):
                yield Emit(event)


def _address(id: str) -> str:
    return f"{TRANSACTIONS}/{quote(id, safe='')}"


def _telling(flow: Flow[None], tell: Callable[[Transaction], None] | None) -> Flow[None]:
    """Runs `flow`; what it emits goes to `tell`, and everything else on to the driver."""
    result: Any = None
    failure: CallError | None = None
    while True:
        try:
            step: Step = flow.throw(failure) if failure else flow.send(result)
        except StopIteration:
            return
        result = failure = None
        if isinstance(step, Emit):
            if tell:
                tell(step.item)
            continue
        try:
            result = yield step
        except CallError as error:
            failure = error
