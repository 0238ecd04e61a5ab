"""The life of agreements over REST, as both sides and the gateways see it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ngsp.access import authorise
from ngsp.errors import AccessDenied
from ngsp.registry.life import STEPS, Step
from tests.support.registry import manifest, proposal, running_rig, terms

if TYPE_CHECKING:
    from ngsp.local.postgres import LocalPostgres
    from tests.support.registry import Rig

SERVICE = "G01.01/population-lookup/v1"
CONSUMER, PROVIDER = "h41-registry", "g01-registry"
REFUSAL = {"reason": "Mục đích chưa rõ", "legal_basis": "Nghị định 194/2025/NĐ-CP"}


@pytest.fixture(scope="module")
async def rig(postgres: LocalPostgres) -> AsyncIterator[Rig]:
    async with running_rig(postgres) as running:
        await running.call("PUT", "/v1/adapters/g01-population", json=manifest(), by="g01-registry")
        yield running


async def propose(rig: Rig, **others: Any) -> dict[str, Any]:
    found = await rig.call("POST", "/v1/agreements", json=proposal(**others), by=CONSUMER)
    assert found.status_code == 201, found.text
    assert found.headers["location"] == f"/v1/agreements/{found.json()['id']}"
    body: dict[str, Any] = found.json()
    return body


async def do(rig: Rig, agreement: dict[str, Any], action: str, by: str, **options: Any) -> Any:
    return await rig.call("POST", f"/v1/agreements/{agreement['id']}/{action}", by=by, **options)


def may_call(rig: Rig, purpose: str, at: datetime | None = None) -> int | None:
    """The agreement version under which the consumer may call for `purpose` at this moment; None where it may not."""
    snapshot = rig.registry.snapshot
    try:
        grant = authorise(
            snapshot,
            snapshot.clients[CONSUMER],
            SERVICE,
            purpose=purpose,
            agreement_id="",
            officer="x",
            consent="",
            now=at or datetime.now(UTC),
        )
    except AccessDenied:
        return None
    return grant.agreement.version


async def test_from_proposal_to_revocation(rig: Rig) -> None:
    agreement = await propose(rig, purposes=["whole-life"], reference="life-1")
    assert (agreement["state"], agreement["version"], agreement["reference"]) == ("proposed", 1, "life-1")
    assert may_call(rig, "whole-life") is None
    for action, by, state in (
        ("accept", PROVIDER, "accepted"),
        ("suspend", PROVIDER, "suspended"),
        ("resume", PROVIDER, "accepted"),
        ("suspend", CONSUMER, "suspended"),
        ("resume", CONSUMER, "accepted"),
        ("revoke", CONSUMER, "revoked"),
    ):
        found = await do(rig, agreement, action, by, **({} if action == "accept" else {"json": {"reason": "Rà soát"}}))
        assert (found.status_code, found.json()["state"]) == (200, state)
        assert may_call(rig, "whole-life") == (1 if state == "accepted" else None), "at once, where it was written"
    events = found.json()["events"]
    assert [event["event"] for event in events] == [
        *("proposed", "accepted", "suspended", "resumed", "suspended", "resumed", "revoked")
    ]
    assert {(event["client"], event["member"]) for event in events} == {(CONSUMER, "H41"), (PROVIDER, "G01.01")}
    assert events[-1]["reason"] == "Rà soát"


async def test_refusal_names_reason_and_legal_basis(rig: Rig) -> None:
    agreement = await propose(rig, purposes=["refused"])
    for body in ({}, {"reason": "Không"}, {"reason": "Không", "legal_basis": " "}, {"reason": "", "legal_basis": "x"}):
        assert (await do(rig, agreement, "refuse", PROVIDER, json=body)).status_code == 422
    assert (await do(rig, agreement, "refuse", CONSUMER, json=REFUSAL)).status_code == 403
    refused = await do(rig, agreement, "refuse", PROVIDER, json=REFUSAL)
    assert refused.json()["state"] == "refused"
    assert refused.json()["events"][-1] | REFUSAL == refused.json()["events"][-1]
    assert may_call(rig, "refused") is None


async def test_illegal_steps_are_conflicts(rig: Rig) -> None:
    """Every action in every state that a version can be led to: those of the table work, all others are 409."""
    ways: dict[str, list[str]] = {
        "proposed": [],
        "accepted": ["accept"],
        "refused": ["refuse"],
        "withdrawn": ["withdraw"],
        "suspended": ["accept", "suspend"],
        "revoked": ["accept", "revoke"],
    }
    table: dict[tuple[str, str], Step] = dict(STEPS.items())
    for state, way in ways.items():
        for action in ("accept", "refuse", "withdraw", "suspend", "resume", "revoke"):
            agreement = await propose(rig, purposes=["table"])
            for step in way:
                await do(rig, agreement, step, "operator-1", json=REFUSAL)
            found = await do(rig, agreement, action, "operator-1", json=REFUSAL)
            legal = table.get((state, action))
            if legal is None:
                assert (found.status_code, found.json()["code"], found.json()["state"]) == (
                    409,
                    "state-conflict",
                    state,
                )
            else:
                assert (found.status_code, found.json()["state"]) == (200, legal.to)
            await do(rig, agreement, "revoke", "operator-1", json=REFUSAL)


async def test_each_side_does_only_its_own(rig: Rig) -> None:
    agreement = await propose(rig, purposes=["sides"])
    assert (await do(rig, agreement, "accept", CONSUMER)).status_code == 403
    assert (await do(rig, agreement, "withdraw", PROVIDER)).status_code == 403
    for action in ("accept", "withdraw", "suspend", "revoke"):
        assert (await do(rig, agreement, action, "h14-registry")).status_code == 404, "who has no part sees nothing"
    await do(rig, agreement, "accept", PROVIDER)
    await do(rig, agreement, "suspend", PROVIDER)
    assert (await do(rig, agreement, "resume", CONSUMER)).status_code == 403
    foreign = await rig.call("POST", "/v1/agreements", json=proposal(), by="h14-registry")
    assert foreign.status_code == 403
    unscoped = await rig.call("POST", "/v1/agreements", json=proposal(), by="auditor-1")
    assert (unscoped.status_code, unscoped.json()["code"]) == (403, "scope-missing")


async def test_amendment_takes_over_when_it_is_accepted(rig: Rig) -> None:
    agreement = await propose(rig, purposes=["amended"])
    await do(rig, agreement, "accept", PROVIDER)
    wider = terms(purposes=["amended"], fields=["/id", "/name", "/children/*/id"])
    amended = await do(rig, agreement, "versions", CONSUMER, json=wider)
    assert amended.status_code == 201
    assert [version["state"] for version in amended.json()["versions"]] == ["accepted", "proposed"]
    assert may_call(rig, "amended") == 1, "the first holds until the second is accepted"
    assert (await do(rig, agreement, "versions", CONSUMER, json=wider)).status_code == 409
    accepted = await do(rig, agreement, "accept", PROVIDER)
    assert (accepted.json()["version"], accepted.json()["state"]) == (2, "accepted")
    assert [version["state"] for version in accepted.json()["versions"]] == ["superseded", "accepted"]
    assert accepted.json()["versions"][0]["fields"] == ["/id", "/name/last"], "versions are kept as they were"
    assert may_call(rig, "amended") == 2
    refused = await do(rig, agreement, "versions", PROVIDER, json=terms(purposes=["amended"], fields=["/id"]))
    assert refused.json()["versions"][2]["proposed_by"] == "G01.01"
    assert (await do(rig, agreement, "accept", PROVIDER)).status_code == 403, "the consumer answers now"
    await do(rig, agreement, "refuse", CONSUMER, json=REFUSAL)
    assert may_call(rig, "amended") == 2


async def test_amendment_that_begins_later(rig: Rig) -> None:
    agreement = await propose(rig, purposes=["later"])
    await do(rig, agreement, "accept", PROVIDER)
    begin = datetime.now(UTC) + timedelta(days=10)
    await do(rig, agreement, "versions", CONSUMER, json=terms(purposes=["later"], valid_from=begin.isoformat()))
    accepted = await do(rig, agreement, "accept", PROVIDER)
    assert [version["state"] for version in accepted.json()["versions"]] == ["accepted", "accepted"]
    assert may_call(rig, "later") == 1
    assert may_call(rig, "later", begin - timedelta(seconds=1)) == 1
    assert may_call(rig, "later", begin) == 2
    for at, number in ((datetime.now(UTC), 1), (begin, 2)):
        held = rig.registry.snapshot.in_force(agreement["id"], at)
        assert held is not None
        assert held.version == number
    await do(rig, agreement, "suspend", PROVIDER)
    assert may_call(rig, "later") is None
    assert may_call(rig, "later", begin) is None
    await do(rig, agreement, "resume", PROVIDER)
    await do(rig, agreement, "revoke", PROVIDER)
    assert may_call(rig, "later") is None
    assert may_call(rig, "later", begin) is None


async def test_suspension_is_not_ended_by_an_amendment(rig: Rig) -> None:
    agreement = await propose(rig, purposes=["held"])
    await do(rig, agreement, "accept", PROVIDER)
    await do(rig, agreement, "versions", CONSUMER, json=terms(purposes=["held"]))
    await do(rig, agreement, "suspend", PROVIDER)
    assert (await do(rig, agreement, "accept", PROVIDER)).status_code == 409
    assert may_call(rig, "held") is None
    revoked = await do(rig, agreement, "revoke", PROVIDER)
    assert [version["state"] for version in revoked.json()["versions"]] == ["revoked", "withdrawn"]
    assert (await do(rig, agreement, "versions", CONSUMER, json=terms(purposes=["held"]))).status_code == 409


async def test_agreement_expires_by_its_date(rig: Rig) -> None:
    until = datetime.now(UTC) + timedelta(seconds=1.5)
    agreement = await propose(rig, purposes=["brief"], valid_to=until.isoformat())
    await do(rig, agreement, "accept", PROVIDER)
    assert may_call(rig, "brief") == 1
    assert may_call(rig, "brief", until) is None
    while datetime.now(UTC) < until:
        await rig.call("GET", f"/v1/agreements/{agreement['id']}")
    assert (await rig.call("GET", f"/v1/agreements/{agreement['id']}")).json()["state"] == "expired"
    assert (await do(rig, agreement, "suspend", PROVIDER)).json()["state"] == "expired"
    renewed = await do(rig, agreement, "versions", CONSUMER, json=terms(purposes=["brief"]))
    assert renewed.status_code == 201


async def test_plain_days_begin_at_midnight_in_viet_nam(rig: Rig) -> None:
    agreement = await propose(rig, purposes=["by-day"], valid_from="2030-01-01", valid_to="2031-01-01")
    (version,) = agreement["versions"]
    assert (version["valid_from"], version["valid_to"]) == ("2029-12-31T17:00:00Z", "2030-12-31T17:00:00Z")
    await do(rig, agreement, "accept", PROVIDER)
    found = [
        may_call(rig, "by-day", datetime.fromisoformat(at))
        for at in (
            "2029-12-31T23:59:59.999999+07:00",
            "2030-01-01T00:00:00+07:00",
            "2030-12-31T23:59:59+07:00",
            "2030-12-31T17:00:00Z",
        )
    ]
    assert found == [None, 1, 1, None]


async def test_lost_update_is_refused(rig: Rig) -> None:
    agreement = await propose(rig, purposes=["raced"])
    seen = (await rig.call("GET", f"/v1/agreements/{agreement['id']}", by=PROVIDER)).headers["etag"]
    await do(rig, agreement, "accept", PROVIDER, headers={"If-Match": seen})
    late = await do(rig, agreement, "revoke", PROVIDER, headers={"If-Match": seen})
    assert (late.status_code, late.json()["code"]) == (412, "precondition-failed")
    assert may_call(rig, "raced") == 1


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"consumer": "X99"}, None),
        ({"service": "G01.01/no-such-service/v1"}, "/service"),
        ({"service": "../../etc/passwd"}, "/service"),
        ({"fields": ["/nobody"]}, "/fields/0"),
        ({"fields": ["/id", "/name/middle"]}, "/fields/1"),
        ({"fields": ["/id/inside"]}, "/fields/0"),
        ({"fields": ["/children/0/id"]}, "/fields/0"),
        ({"fields": ["/children/id"]}, "/fields/0"),
        ({"fields": ["id"]}, "/fields/0"),
        ({"fields": ["/i~d"]}, "/fields/0"),
        ({"fields": ["/id\n/name"]}, "/fields/0"),
        ({"fields": ["/id", "/id"]}, ""),
        ({"fields": []}, "/fields"),
        ({"purposes": ["Khai sinh"]}, "/purposes/0"),
        ({"purposes": ["a..b"]}, "/purposes/0"),
        ({"purposes": []}, "/purposes"),
        ({"legal_basis": " "}, "/legal_basis"),
        ({"legal_basis": "Nghị định\u202e"}, "/legal_basis"),
        ({"quota_per_minute": 0}, "/quota_per_minute"),
        ({"quota_per_day": 1.5}, "/quota_per_day"),
        ({"valid_from": "2026-02-30"}, "/valid_from"),
        ({"valid_from": "0001-01-01"}, "/valid_from"),
        ({"valid_from": "2026-01-01T00:00:00"}, "/valid_from"),
        ({"valid_to": "2020-01-01"}, "/valid_to"),
        ({"valid_from": "2030-01-01", "valid_to": "2029-12-31T17:00:00Z"}, ""),
        ({"valid_to": "2020-01-01T00:00:00Z"}, "/valid_to"),
        ({"valid_from": "2030-01-01T00:00:00Z", "valid_to": "2029-01-01T00:00:00Z"}, ""),
        ({"valid_to": "9999-12-31T23:59:59-14:00"}, "/valid_to"),
    ],
)
async def test_proposals_that_are_refused(rig: Rig, change: dict[str, Any], pointer: str | None) -> None:
    by = "operator-1" if "consumer" in change else CONSUMER
    found = await rig.call("POST", "/v1/agreements", json=proposal(**change), by=by)
    assert found.status_code == 422, found.text
    pointers = [fault["pointer"] for fault in found.json()["errors"]]
    assert pointers == ["/consumer" if pointer is None else pointer]


@pytest.mark.parametrize("fields", [[""], ["/children/*"], ["/children/*/id"], ["/name"]])
async def test_fields_that_the_schema_has_room_for(rig: Rig, fields: list[str]) -> None:
    agreement = await propose(rig, purposes=["roomy"], fields=fields)
    assert agreement["versions"][0]["fields"] == fields
    await do(rig, agreement, "withdraw", CONSUMER)


async def test_reference_is_the_consumers_own(rig: Rig) -> None:
    await propose(rig, purposes=["numbered"], reference="so-12")
    again = await rig.call("POST", "/v1/agreements", json=proposal(reference="so-12"), by=CONSUMER)
    assert (again.status_code, again.json()["code"]) == (409, "state-conflict")
    other = proposal(consumer="H14", reference="so-12")
    assert (await rig.call("POST", "/v1/agreements", json=other, by="h14-registry")).status_code == 201


async def test_lists_show_only_the_own_agreements(rig: Rig) -> None:
    mine = await rig.call("POST", "/v1/agreements", json=proposal(consumer="H14"), by="h14-registry")
    for by, consumers in (("h14-registry", {"H14"}), (CONSUMER, {"H41"}), (PROVIDER, {"H14", "H41"})):
        items = (await rig.call("GET", "/v1/agreements?limit=500", by=by)).json()["items"]
        assert {agreement["consumer"] for agreement in items} == consumers
        assert [agreement["id"] for agreement in items] == sorted(agreement["id"] for agreement in items)
    path = f"/v1/agreements/{mine.json()['id']}"
    assert (await rig.call("GET", path, by=CONSUMER)).status_code == 404
    for by in ("h14-registry", PROVIDER, "operator-1", "auditor-1"):
        assert (await rig.call("GET", path, by=by)).status_code == 200


async def test_pages_by_cursor(rig: Rig) -> None:
    for number in range(5):
        await propose(rig, purposes=[f"page-{number}"])
    every = (await rig.call("GET", "/v1/agreements?limit=500", by=CONSUMER)).json()["items"]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        parameters = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = (await rig.call("GET", "/v1/agreements", params=parameters, by=CONSUMER)).json()
        seen += [agreement["id"] for agreement in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [agreement["id"] for agreement in every]
    # ["agreements","a"]: of this list, and no agreement's id.
    forged = await rig.call("GET", "/v1/agreements?cursor=WyJhZ3JlZW1lbnRzIiwiYSJd", by=CONSUMER)
    assert (forged.status_code, forged.json()["code"]) == (400, "malformed-parameter")


@pytest.mark.parametrize("agreement_id", ["1", "..%2F..%2Fx", "0192aaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "' OR 1=1"])
async def test_odd_ids_are_refused(rig: Rig, agreement_id: str) -> None:
    found = await rig.call("GET", f"/v1/agreements/{agreement_id}")
    assert (found.status_code, found.json()["code"]) == (422, "invalid-identifier")
    found = await rig.call("POST", f"/v1/agreements/{agreement_id}/accept")
    assert (found.status_code, found.json()["code"]) == (422, "invalid-identifier")


async def test_unknown_agreement_is_not_found(rig: Rig) -> None:
    found = await rig.call("GET", "/v1/agreements/01920000-0000-7000-8000-000000000000")
    assert (found.status_code, found.json()["code"]) == (404, "not-found")
