"""The documents that describe subscriptions to events, as REST and YAML bring them."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from ngsp.registry.cursors import read_start
from ngsp.registry.documents import Document, Identifier, MemberCode
from ngsp.registry.manifest_documents import MOST_EVENT_TYPES, EventTypeName
from ngsp.registry.texts import Wrong
from ngsp.text import Text

LONGEST_URL = 2000
LONGEST_OVERLAP_S = 7 * 86_400

ServicePath = Annotated[str, Field(max_length=200)]
StartName = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(lambda text: read_start(text) and text)]


class SubscriptionDocument(Document):
    """A subscription of a member to the events of a service.

    `member`: whose it is, for operators to say. `agreement`: the id or the member's own reference; the one that fits
    where it is left out. `types`: those wanted, none for all. Either `receiver`, a service of the member's own (mode
    submission, whose request is the CloudEvent), or `url`, a webhook's. `client`: whose the deliveries are, the
    caller's own where nothing is said. `from`: `now`, `earliest`, a moment or a cursor; read only when it is made.
    """

    service: ServicePath
    purpose: Identifier
    member: MemberCode | None = None
    agreement: Identifier | None = None
    types: Annotated[list[EventTypeName], Field(max_length=MOST_EVENT_TYPES)] = []  # noqa: RUF012 - pydantic copies it
    receiver: ServicePath | None = None
    url: Annotated[str, Field(min_length=1, max_length=LONGEST_URL)] | None = None
    client: Identifier | None = None
    from_: Annotated[StartName, Field(alias="from")] = "now"
    active: bool = True

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.receiver is None) == (self.url is None):
            raise Wrong(Text("Ghi đúng một: receiver hoặc url.", "Give one of the two: receiver or url."))
        if len(set(self.types)) != len(self.types):
            raise Wrong(Text("Có loại sự kiện lặp lại.", "A type of event is given twice."))
        return self


class NewSecretDocument(Document):
    """A new secret of a webhook. `overlap_s`: for how long the one before signs beside it."""

    overlap_s: Annotated[int, Field(ge=0, le=LONGEST_OVERLAP_S)] = 86_400


class ReplayDocument(Document):
    """Where a subscription begins anew: `now`, `earliest`, a moment or a cursor."""

    from_: Annotated[StartName, Field(alias="from")]
