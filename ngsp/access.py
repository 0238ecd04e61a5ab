"""`authorise(...) -> Grant`: pure, deny by default. No input or output, no clock of its own.

Every refusal is the same `AccessDenied`, so that nobody can map what exists; the exact reason goes to the log.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson

from ngsp.errors import AccessDenied, AgreementAmbiguous, MalformedHeader
from ngsp.registry.model import NO_AGREEMENT, OWN, Agreement, Client, Grant, Service, Snapshot, Subscription
from ngsp.registry.waiting import waits_for
from ngsp.text import Text
from ngsp.vntime import day_of


def authorise(
    snapshot: Snapshot,
    client: Client,
    path: str,
    *,
    purpose: str,
    agreement_id: str,
    officer: str,
    consent: str,
    now: datetime,
) -> Grant:
    """The grant under which `client` may call the service at `path` for `purpose` at `now`.

    Raises `AccessDenied` (403) with the reason for operators, `AgreementAmbiguous` (422) with the caller's own
    agreement ids, `MalformedHeader` (400) where the service or agreement asks for a header that is missing.
    """
    if "exchange" not in client.scopes:
        raise AccessDenied(reason="client has no exchange scope")
    member = snapshot.members.get(client.member)
    today = day_of(now)
    if member is None or not member.in_force(today):
        raise AccessDenied(reason="consumer is not a member in force")
    service = snapshot.services.get(path)
    if service is None:
        raise AccessDenied(reason="unknown service")
    if service.state != "active":
        raise AccessDenied(reason=f"service is {service.state}")
    _check_called(service)
    provider = snapshot.members.get(service.key.provider)
    if provider is None or not provider.in_force(today):
        raise AccessDenied(reason="provider is not a member in force")
    agreements = snapshot.by_consumer.get((client.member, path), ())
    if agreement_id:
        agreements = tuple(a for a in agreements if a.id == agreement_id)
    if not agreements:
        raise AccessDenied(reason="no agreement")
    in_force = [a for a in agreements if a.in_force(now)]
    if not in_force:
        raise AccessDenied(reason="no agreement in force")
    fitting = [a for a in in_force if purpose in a.purposes]
    if not fitting:
        raise AccessDenied(reason="purpose outside the agreement")
    if len(fitting) > 1:
        raise AgreementAmbiguous(members={"agreements": [a.id for a in fitting]})
    agreement = fitting[0]
    _check_headers(service, agreement, officer, consent)
    return snapshot.grant(service, agreement, purpose)


def _check_called(service: Service) -> None:
    if service.mode == "event":
        raise AccessDenied(reason="a service of events is not called")


def _check_headers(service: Service, agreement: Agreement, officer: str, consent: str) -> None:
    if service.officer_required and not officer:
        raise MalformedHeader(
            Text("Dịch vụ này yêu cầu tiêu đề Ngsp-Officer.", "This service requires the Ngsp-Officer header."),
            reason="officer missing",
        )
    if agreement.consent_required and not consent:
        raise MalformedHeader(
            Text("Thỏa thuận yêu cầu tiêu đề Ngsp-Consent.", "The agreement requires the Ngsp-Consent header."),
            reason="consent missing",
        )


def try_out(
    snapshot: Snapshot, client: Client, path: str, *, purpose: str, agreement_id: str, officer: str, consent: str,
    now: datetime,
) -> Grant:  # fmt: skip
    """The grant under which a client of the sandbox gets answers from the examples of the service at `path`.

    No agreement is needed: the catalogue shows every client the examples anyway, and who is to agree on a service wants
    to have tried it. Where one fits, its terms hold, so that the answer is what will be answered one day. Raises as
    `authorise` does.
    """
    if "exchange" not in client.scopes:
        raise AccessDenied(reason="client has no exchange scope")
    member = snapshot.members.get(client.member)
    if member is None or not member.in_force(day_of(now)):
        raise AccessDenied(reason="consumer is not a member in force")
    service = snapshot.services.get(path)
    if service is None or service.state == "retired":
        raise AccessDenied(reason="unknown service" if service is None else "service is retired")
    _check_called(service)
    agreements = snapshot.by_consumer.get((client.member, path), ())
    fitting = [a for a in agreements if a.in_force(now) and purpose in a.purposes and agreement_id in ("", a.id)]
    if len(fitting) > 1:
        raise AgreementAmbiguous(members={"agreements": [a.id for a in fitting]})
    agreement = fitting[0] if fitting else _no_agreement(client.member, path, purpose, now)
    _check_headers(service, agreement, officer, consent)
    return Grant(service, agreement, purpose, sandbox=True)


def _no_agreement(consumer: str, path: str, purpose: str, now: datetime) -> Agreement:
    """As if everything had been granted, without a limit."""
    return Agreement(
        NO_AGREEMENT, 0, consumer, path, frozenset((purpose,)), "", ("",), None, None, now, None, "accepted"
    )


def authorise_publication(snapshot: Snapshot, client: Client, path: str, now: datetime) -> Grant:
    """The grant under which `client` may publish events of the service at `path`: its own member's. `AccessDenied`."""
    service = snapshot.services.get(path)
    if service is None or service.mode != "event":
        raise AccessDenied(reason="unknown service" if service is None else "no service of events")
    if service.key.provider != client.member:
        raise AccessDenied(reason="events of another member's service")
    if service.state != "active":
        raise AccessDenied(reason=f"service is {service.state}")
    member = snapshot.members.get(client.member)
    if member is None or not member.in_force(day_of(now)):
        raise AccessDenied(reason="provider is not a member in force")
    return Grant(service, own(client.member, path, now), "")


def authorise_delivery(snapshot: Snapshot, subscription: Subscription, now: datetime) -> Grant:
    """The grant under which events may be sent to `subscription` at `now`. `AccessDenied` with what is in the way."""
    if reason := waits_for(subscription, snapshot, now):
        raise AccessDenied(reason=reason)
    agreement = snapshot.in_force(subscription.agreement, now)
    if agreement is None or (agreement.consumer, agreement.service) != (subscription.member, subscription.service):
        raise AccessDenied(reason="the agreement is another's")
    return snapshot.grant(snapshot.services[subscription.service], agreement, subscription.purpose)


def own(member: str, path: str, now: datetime) -> Agreement:
    """What stands for the agreement where a member does something with its own."""
    return Agreement(OWN, 0, member, path, frozenset(), "", ("",), None, None, now, None, "accepted")


def covers(granted: tuple[str, ...], fields: tuple[str, ...]) -> bool:
    """Whether each of `fields` lies within something that is `granted`; an item of an array is within all of them."""

    def within(field: list[str], wider: list[str]) -> bool:
        return len(wider) <= len(field) and all(step in ("*", own) for step, own in zip(wider, field, strict=False))

    split = [pointer.split("/")[1:] for pointer in granted]
    return all(any(within(field.split("/")[1:], wider) for wider in split) for field in fields)


def is_entitled(snapshot: Snapshot, client: Client, path: str, now: datetime) -> bool:
    """Whether `client` has an agreement in force with the service at `path`: then it may know what the service is like.

    No grant: whether a call is allowed, for which purpose, is `authorise`'s to say. A client of the sandbox may know
    any: it gets nothing but examples.
    """
    if client.sandbox:
        return "exchange" in client.scopes
    agreements = snapshot.by_consumer.get((client.member, path), ())
    return "exchange" in client.scopes and any(agreement.in_force(now) for agreement in agreements)


def subjects_in(request: Any, service: Service) -> list[str]:
    """The identity numbers the request is about, found by the service's pointers; those absent are left out."""
    found: list[str] = []
    for pointer in service.subjects:
        found += [value for value in _values(request, pointer.split("/")[1:]) if isinstance(value, str) and value]
    return found


def line_of(request: Any, dossier: str, service: Service) -> bytes:
    """What submissions to `service` are ordered by, as bytes; empty where this one has nothing to be ordered by."""
    if service.order == "dossier":
        return dossier.encode()
    found = _values(request, service.order.split("/")[1:]) if service.order != "none" else []
    return orjson.dumps(found[0], option=orjson.OPT_SORT_KEYS) if found else b""


def _values(value: Any, steps: list[str]) -> list[Any]:
    for index, step in enumerate(steps):
        if isinstance(value, list):
            if step != "*":
                return []
            return [found for item in value for found in _values(item, steps[index + 1 :])]
        if not isinstance(value, dict):
            return []
        step = step.replace("~1", "/").replace("~0", "~")
        if step not in value:
            return []
        value = value[step]
    return [value]


_ALL = None
"""The key that marks a node of a pointer tree below which everything is granted; no JSON name can be it."""
_Tree = dict[str | None, Any]


def cut(reply: Any, pointers: tuple[str, ...]) -> Any:
    """A copy of `reply` that holds what the pointers grant and nothing else; the shape around it stays."""
    tree: _Tree = {}
    for pointer in pointers:
        node = tree
        for step in pointer.split("/")[1:]:
            node = node.setdefault(step.replace("~1", "/").replace("~0", "~"), {})
        node[_ALL] = True
    return _cut(reply, tree)


def _cut(value: Any, tree: _Tree) -> Any:
    if _ALL in tree:
        return value
    if isinstance(value, dict):
        granted = ((name, below) for name, below in tree.items() if name in value)
        return {name: _cut(value[name], below) for name, below in granted if _reaches(value[name], below)}
    if isinstance(value, list) and "*" in tree:
        return [_cut(item, tree["*"]) for item in value if _reaches(item, tree["*"])]
    return None


def _reaches(value: Any, tree: _Tree) -> bool:
    """False where a scalar stands and the grant names something inside it: then nothing of it is granted."""
    return _ALL in tree or isinstance(value, dict) or (isinstance(value, list) and "*" in tree)
