"""From an adapter's reply to how the transaction ends: checked against the schema, cut to the granted fields."""

from __future__ import annotations

import orjson

from ngsp.access import cut
from ngsp.errors import (
    BadReply,
    Expired,
    NgspError,
    NoAnswer,
    OutcomeUnknown,
    ProviderFailed,
    ProviderRefused,
    ProviderUnavailable,
    RecordNotFound,
)
from ngsp.messages import Reply
from ngsp.registry.model import Grant, Service
from ngsp.strictjson import parse
from ngsp.transactions import entry
from ngsp.transactions.work import Conclusion, PutAside

UNAVAILABLE_RETRY_S = 5.0


def conclude(grant: Grant, reply: Reply) -> Conclusion:
    """How the transaction ends that `reply` answers. A reply off its schema goes to quarantine, never to the caller."""
    if reply.service != grant.service.path:
        return _bad(reply, "the reply names another service")
    if reply.status != "ok":
        return _without_body(grant.service, reply)
    try:
        value = parse(reply.body)
    except NgspError as error:
        return _bad(reply, error.reason)
    if faults := grant.service.reply_schema.faults(value):
        return _bad(reply, "off its schema at " + ", ".join(fault.pointer or "/" for fault in faults[:5]))
    body = reply.body if grant.whole else orjson.dumps(cut(value, grant.agreement.fields))
    return Conclusion(entry.SUCCEEDED, body=body, adapter=reply.adapter)


def _bad(reply: Reply, reason: str) -> Conclusion:
    aside = PutAside("reply", reason, reply.body)
    return Conclusion(entry.FAILED, "bad-reply", BadReply(reason=reason), adapter=reply.adapter, aside=aside)


def _without_body(service: Service, reply: Reply) -> Conclusion:
    members: dict[str, str | bool] = {"provider_code": reply.code} if reply.code else {}
    kind, failure_class = entry.FAILED, "provider"
    error: NgspError
    match reply.status:
        case "not-found":
            kind, failure_class = entry.REFUSED, "provider-no"
            error = RecordNotFound(members=members)
        case "refused":
            kind, failure_class = entry.REFUSED, "provider-no"
            error = ProviderRefused(members=members)
        case "retry":
            failure_class = "provider-unavailable"
            error = ProviderUnavailable(members=members, retry_after_s=UNAVAILABLE_RETRY_S)
        case "expired":
            kind, failure_class = entry.EXPIRED, "deadline"
            error = Expired(members=members | {"outcome_unknown": False, "safe_to_repeat": True})
        case "unknown":
            kind, failure_class = entry.UNKNOWN, "interrupted"
            error = OutcomeUnknown(members=members | {"outcome_unknown": True, "safe_to_repeat": False})
        case _:
            error = ProviderFailed(members=members)
    return Conclusion(kind, failure_class, error, provider_code=reply.code, adapter=reply.adapter)


def no_answer(service: Service | None) -> Conclusion:
    """The deadline passed with the message on the bus: *unknown*, which a late reply may resolve. `service`: None where
    the registry does not know it any more."""
    safe = service is not None and service.mode == "query" and service.effect == "idempotent"
    error = NoAnswer(members={"outcome_unknown": True, "safe_to_repeat": safe})
    return Conclusion(entry.UNKNOWN, "deadline", error)
