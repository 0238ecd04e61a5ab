"""What the log is given: a transaction in work, an event, and how it all ended."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime

from ngsp.errors import NgspError
from ngsp.messages import TransactionMode
from ngsp.registry.model import Grant
from ngsp.vault import RecordKey


@dataclass(slots=True)
class Transaction:
    """One exchange in work (giao dịch).

    `call`: client, and officer, dossier, procedure, consent, trace where given, as the entry keeps them.
    `line`: what it is ordered by among the service's submissions, empty where by nothing. `claimant`: who holds the
    idempotency key, where not the client.
    `idempotency_key`: as sent, empty without. `stages_us`: what each stage took, in order, microseconds.
    """

    id: str
    at: datetime
    grant: Grant
    mode: TransactionMode
    call: dict[str, str]
    deadline: datetime
    body: bytes
    key: RecordKey
    idempotency_key: str = ""
    claimant: str = ""
    traceparent: str = ""
    subjects: list[str] = field(default_factory=list)
    line: bytes = b""
    stages_us: dict[str, int] = field(default_factory=dict)

    @property
    def deadline_ms(self) -> int:
        return int(self.deadline.timestamp() * 1000)

    @property
    def key_holder(self) -> str:
        return self.claimant or self.call["client"]

    def remaining_s(self) -> float:
        return self.deadline.timestamp() - time.time()


@dataclass(frozen=True, slots=True)
class Published:
    """An event as its provider gave it. `body`: the CloudEvent as JSON. `key`: what orders it, empty for nothing."""

    type: str
    body: bytes
    key: bytes = b""


@dataclass(frozen=True, slots=True)
class Delivered:
    """Which event goes to which subscription, in which of its runs. `line`: as the event's row has it, or empty."""

    subscription: str
    run: int
    xid: int
    seq: int
    publication: str
    type: str
    line: bytes = b""


@dataclass(frozen=True, slots=True)
class PutAside:
    """What goes to quarantine with a conclusion. `what`: reply, submission or outcome. `reason` holds no data."""

    what: str
    reason: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How a transaction ended. `kind`: of the entry. `error`: what the caller is told, None for success with `body`."""

    kind: int
    failure_class: str = ""
    error: NgspError | None = None
    body: bytes = b""
    provider_code: str = ""
    adapter: str = ""
    aside: PutAside | None = None

    @property
    def code(self) -> str:
        return self.error.code if self.error else ""

    def outcome(self) -> dict[str, str | int]:
        """The entry's member `outcome`."""
        members: dict[str, str | int] = {"status": self.error.status if self.error else 200}
        if self.error:
            members["code"] = self.error.code
            members["class"] = self.failure_class
        if self.provider_code:
            members["provider_code"] = self.provider_code
        if self.adapter:
            members["adapter"] = self.adapter
        return members
