"""What a subscription needs so that events are delivered to it, beside being active itself."""

from __future__ import annotations

from datetime import datetime

from ngsp.registry.model import Snapshot, Subscription
from ngsp.vntime import day_of


def waits_for(subscription: Subscription, snapshot: Snapshot, now: datetime) -> str:
    """Why nothing is delivered though it is active: the code of the first thing that is missing, empty for none.

    MUST be what `ngsp.access.authorise_delivery` goes by, so that what is told is what holds.
    """
    if reason := missing_party(subscription, snapshot, now):
        return reason
    service = snapshot.services.get(subscription.service)
    if service is None or service.state != "active":
        return f"service-{service.state if service is not None else 'retired'}"
    agreement = snapshot.in_force(subscription.agreement, now)
    if agreement is None:
        known = snapshot.agreements.get(subscription.agreement)
        return "agreement-suspended" if known is not None and known.state == "suspended" else "agreement-not-in-force"
    if subscription.purpose not in agreement.purposes:
        return "purpose-outside-agreement"
    if agreement.consent_required:
        return "consent-required"
    if subscription.receiver:
        receiver = snapshot.services.get(subscription.receiver)
        if receiver is None or receiver.state != "active":
            return f"receiver-{receiver.state if receiver is not None else 'retired'}"
    return ""


def missing_party(subscription: Subscription, snapshot: Snapshot, now: datetime) -> str:
    """Which of those between whom events go is not there: a member, or the subscriber's client. Empty for none."""
    today = day_of(now)
    for code in (subscription.member, subscription.service.partition("/")[0]):
        member = snapshot.members.get(code)
        if member is None or not member.in_force(today):
            return "member-not-in-force"
    client = snapshot.clients.get(subscription.client)
    if client is None or not client.active:
        return "client-inactive"
    return ""
