"""`/v1/events`: a provider publishes what happened. Who is sent it is `subscriptions.py`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from ngsp import strictjson
from ngsp.api.caller import Caller, requires
from ngsp.api.names import member_code
from ngsp.api.parts import parts
from ngsp.api.strict import PROBLEMS, StrictRequest, StrictRoute, check_content_type, single_header
from ngsp.errors import Fault, SchemaMismatch, UnsupportedType
from ngsp.events.cloudevents import of_headers
from ngsp.events.publishing import Sent
from ngsp.gate import Gate
from ngsp.messages import TRACEPARENT, ServiceKey
from ngsp.registry.event_schemas import BATCH, BINARY, MOST_IN_BATCH, STRUCTURED
from ngsp.text import Text

LARGEST_BATCH_BYTES = 4 << 20


class EventRoute(StrictRoute):
    """A batch holds many events, each within the limit of its service."""

    max_body_bytes = LARGEST_BATCH_BYTES


router = APIRouter(prefix="/v1/events", route_class=EventRoute, tags=["events"])

_EVENT: dict[str, Any] = {"type": "object", "required": ["specversion", "id", "source", "type", "data"]}
_BODY = {
    "required": True,
    "content": {
        STRUCTURED: {"schema": _EVENT},
        BATCH: {"schema": {"type": "array", "items": _EVENT, "minItems": 1, "maxItems": MOST_IN_BATCH}},
        BINARY: {"schema": {}},
    },
}


class PublicationView(BaseModel):
    """That an event is durable. `id`: its own; `transaction`: the publication's. `repeated`: it was there before, and
    nothing was done."""

    id: str
    transaction: str
    repeated: bool


class Publications(BaseModel):
    """One for each event, in the order of the request."""

    items: list[PublicationView]


@router.post(
    "/{provider}/{service}/{version}",
    status_code=202,
    openapi_extra={"requestBody": _BODY, PROBLEMS: [403, 409, 410, 413, 415, 422, 429, 503]},
)
async def publish(
    request: Request,
    response: Response,
    provider: str,
    service: str,
    version: str,
    caller: Annotated[Caller, Depends(requires("adapter"))],
) -> Publications:
    """Công bố sự kiện (CloudEvents 1.0: structured, batch hoặc binary). 202: đã ghi bền vững và sẽ được gửi đến mọi bên
    đăng ký. Cùng source và id là cùng một sự kiện: gửi lại không thành hai.

    Publishes events (CloudEvents 1.0: structured, batch or binary). 202: durable, and will be sent to every subscriber.
    The same source and id are the same event: sent again it is not two.
    """
    path = ServiceKey.parse(f"{member_code(provider)}/{service}/{version}").path
    held, who = parts(request), caller.client.id
    if refusal := held.gate.refusal(who):
        raise refusal
    sent, alone = await _read(request)
    with _inside(held.gate, who, len(sent)):
        found = await held.publisher.publish(caller.client, path, sent, alone=alone, traceparent=_traceparent(request))
    if alone:
        response.headers["Ngsp-Transaction"] = found[0].transaction
        response.headers["Location"] = f"/v1/transactions/{found[0].transaction}"
    return Publications(
        items=[PublicationView(id=one.id, transaction=one.transaction, repeated=one.repeated) for one in found]
    )


@contextmanager
def _inside(gate: Gate, who: str, number: int) -> Iterator[None]:
    """Each event counts as an exchange: whoever publishes many leaves room for the calls of others."""
    for _ in range(number):
        gate.enter(who)
    try:
        yield
    finally:
        for _ in range(number):
            gate.leave(who)


async def _read(request: Request) -> tuple[Sent, bool]:
    """The events, and whether it is one alone rather than a batch."""
    assert isinstance(request, StrictRequest)
    kind = (single_header(request, "content-type") or "").partition(";")[0].strip().lower()
    if kind not in (STRUCTURED, BATCH, BINARY):
        raise UnsupportedType(
            Text(f"Nhận {STRUCTURED}, {BATCH} hoặc {BINARY}.", f"{STRUCTURED}, {BATCH} or {BINARY} is taken."),
            reason="no content type of an event",
        )
    check_content_type(request, kind)
    body = await request.body()
    value = strictjson.parse(body)
    if kind == STRUCTURED:
        return [(value, body)], True
    if kind == BINARY:
        return [(of_headers(_attributes(request), value), None)], True
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_IN_BATCH:
        many = Text(f"Cần từ 1 đến {MOST_IN_BATCH} sự kiện.", f"There must be 1 to {MOST_IN_BATCH} events.")
        raise SchemaMismatch(faults=(Fault("", many),), reason="no batch of events")
    return [(one, None) for one in value], False


def _attributes(request: Request) -> dict[str, str]:
    """The `ce-…` headers, each there once."""
    return {name: single_header(request, name) or "" for name in request.headers if name.startswith("ce-")}


def _traceparent(request: Request) -> str:
    """As sent; one that is none is as good as none (W3C Trace Context §4.3)."""
    found = request.headers.get("traceparent", "")
    return found if TRACEPARENT.fullmatch(found) else ""
