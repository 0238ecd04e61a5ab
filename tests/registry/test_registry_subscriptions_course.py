"""A subscription once it is there: its secrets, what it waits for, where it begins, what was stopped, replay."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text as sql
from structlog.testing import capture_logs

from ngsp.messages import uuid7
from ngsp.registry.model import webhook_secret_name
from ngsp.vault import Vault
from tests.registry.subscribing import OTHER, RECEIVER, SERVICE, URL, agreed, made, put, running_with_events, view
from tests.support.registry import CHANGED

if TYPE_CHECKING:
    import httpx

    from ngsp.local.postgres import LocalPostgres
    from tests.support.registry import Rig


@pytest.fixture(scope="module")
async def rig(postgres: LocalPostgres) -> AsyncIterator[Rig]:
    async with running_with_events(postgres) as running:
        yield running


async def test_the_secret_is_shown_once_and_kept_sealed(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    secret = (await put(rig, "secretive")).json()["secret"]
    raw = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    assert secret.startswith("whsec_")
    assert len(raw) == 32
    (sealed,) = rig.registry.snapshot.subscriptions["secretive"].secrets
    settings = rig.settings
    vault = Vault(settings.key_encryption_keys())
    assert vault.open_secret(webhook_secret_name("secretive"), sealed.sealed) == raw
    for answer in (
        await put(rig, "secretive", active=False),
        await rig.call("GET", "/v1/subscriptions/secretive", by="h41-registry"),
        await rig.call("GET", "/v1/subscriptions?limit=500", by="auditor-1"),
    ):
        assert "whsec_" not in answer.text
        assert base64.b64encode(raw).decode() not in answer.text
    assert "whsec_" not in capsys.readouterr().out


async def test_a_new_secret_leaves_the_one_before_valid_for_a_while(rig: Rig) -> None:
    id = await made(rig)
    (first,) = rig.registry.snapshot.subscriptions[id].secrets

    async def renew(**document: Any) -> httpx.Response:
        return await rig.call("POST", f"/v1/subscriptions/{id}/secret", json=document, by="h41-registry")

    answer = await renew(overlap_s=3600)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["secret"].startswith("whsec_")
    newest, older = rig.registry.snapshot.subscriptions[id].secrets
    assert (older.sealed, newest.valid_to) == (first.sealed, None)
    assert older.valid_to is not None
    await renew()
    latest, before = rig.registry.snapshot.subscriptions[id].secrets
    assert before.sealed == newest.sealed, "two at most: the first one is gone"
    await renew(overlap_s=0)
    (only,) = rig.registry.snapshot.subscriptions[id].secrets
    assert only.sealed not in (latest.sealed, before.sealed)
    assert (await renew(overlap_s=7 * 86_400 + 1)).status_code == 422
    received = await made(rig, url=..., receiver=RECEIVER)
    refused = await rig.call("POST", f"/v1/subscriptions/{received}/secret", json={}, by="h41-registry")
    assert (refused.status_code, refused.json()["code"]) == (409, "state-conflict")


async def test_a_receiver_takes_the_place_of_a_webhook_and_back(rig: Rig) -> None:
    id = await made(rig)
    answer = await put(rig, id, url=..., receiver=RECEIVER)
    assert (answer.json()["receiver"], answer.json()["url"], answer.json()["secret"]) == (RECEIVER, None, None)
    assert rig.registry.snapshot.subscriptions[id].secrets == ()
    back = await put(rig, id)
    assert back.json()["secret"].startswith("whsec_"), "a new one"


async def test_it_waits_for_what_is_not_in_force_and_says_for_what(rig: Rig) -> None:
    agreement = await agreed(rig, SERVICE, consumer="H14", purposes=["waiting"], reference="w-1")
    answer = await put(rig, "waiting", by="h14-registry", purpose="waiting")
    assert (answer.status_code, answer.json()["state"]) == (201, "active"), answer.text

    async def now() -> tuple[str, str | None]:
        shown = await view(rig, "waiting", by="h14-registry")
        return shown["state"], shown["reason"]

    async def step(action: str, by: str) -> None:
        done = await rig.call("POST", f"/v1/agreements/{agreement}/{action}", json={"reason": "x"}, by=by)
        assert done.status_code == 200, done.text

    await step("suspend", "g01-registry")
    assert await now() == ("waiting", "agreement-suspended")
    await step("resume", "g01-registry")
    assert await now() == ("active", None)
    for state in ("disabled", "active"):
        decided = await rig.call("PUT", f"/v1/services/{SERVICE}/state", json={"state": state, "reason": "x"})
        assert decided.status_code == 200
        assert await now() == (("waiting", "service-disabled") if state == "disabled" else ("active", None))
    refused = await rig.call("POST", f"/v1/agreements/{agreement}/revoke", json={"reason": "x", "legal_basis": "x"},
                             by="g01-registry")  # fmt: skip
    assert refused.status_code == 200, refused.text
    assert await now() == ("waiting", "agreement-not-in-force")
    kept = await put(rig, "waiting", by="h14-registry", purpose="waiting", active=False)
    assert kept.status_code == 200, "what rests on it already can be switched off"
    anew = await put(rig, "waiting-2", by="h14-registry", purpose="waiting", agreement=agreement)
    assert [fault["pointer"] for fault in anew.json()["errors"]] == ["/agreement"]


async def test_a_receiver_that_is_not_active(rig: Rig) -> None:
    id = await made(rig, url=..., receiver=RECEIVER)
    path = f"/v1/services/{RECEIVER}/state"
    await rig.call("PUT", path, json={"state": "disabled", "reason": "x"})
    shown = await view(rig, id)
    assert (shown["state"], shown["reason"]) == ("waiting", "receiver-disabled")
    refused = await put(rig, "received", url=..., receiver=RECEIVER)
    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/receiver"]
    assert (await put(rig, id, url=..., receiver=RECEIVER)).status_code == 200
    await rig.call("PUT", path, json={"state": "active", "reason": "x"})
    assert (await view(rig, id))["state"] == "active"


async def publish(rig: Rig, service: str, at: str, seq: int = 0) -> str:
    """A row of the log of events, as a publication leaves it; its cursor."""
    async with rig.engine.begin() as connection:
        found = await connection.execute(
            sql("""INSERT INTO events (service, seq, type, tx, at, body)
                VALUES (:service, :seq, :type, CAST(:tx AS uuid), CAST(CAST(:at AS text) AS timestamptz), '')
                RETURNING CAST(xid AS text)"""),
            {"service": service, "seq": seq, "type": CHANGED, "tx": uuid7(), "at": at},
        )
        return f"{found.scalar_one()}-{seq}"


def place(cursor: str) -> tuple[int, int]:
    xid, seq = cursor.split("-")
    return int(xid), int(seq)


async def test_where_it_begins(rig: Rig) -> None:
    days = ["2026-10-01", "2026-10-02", "2026-10-03"]
    first, second, third = [await publish(rig, SERVICE, f"{day}T01:00:00Z", seq=int(day == days[2])) for day in days]
    await publish(rig, OTHER, "2026-10-02T02:00:00Z")
    assert (await view(rig, await made(rig, **{"from": "earliest"})))["cursor"] == "0-0"
    assert (await view(rig, await made(rig, **{"from": second})))["cursor"] == second
    begun = (await view(rig, await made(rig, **{"from": "2026-10-02T01:00:00Z"})))["cursor"]
    assert place(first) < place(begun) < place(second)
    begun = (await view(rig, await made(rig, **{"from": "2026-10-03"})))["cursor"]
    assert place(second) < place(begun) < place(third), "a day begins at its midnight in Viet Nam"
    now = (await view(rig, await made(rig)))["cursor"]
    later = (await view(rig, await made(rig, **{"from": "2027-01-01"})))["cursor"]
    after = await publish(rig, SERVICE, "2026-10-04T01:00:00Z")
    for begun in (now, later):
        assert place(third) < place(begun) < place(after)


async def test_now_is_below_what_is_not_over(rig: Rig) -> None:
    """A publication that is not committed when the subscription is made is not missed."""
    async with rig.engine.connect() as connection:
        xid = (await connection.execute(sql("SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint)"))).scalar_one()
        begun = (await view(rig, await made(rig)))["cursor"]
        assert place(begun) < (xid, 0)
        later = await publish(rig, SERVICE, "2026-10-05T01:00:00Z")
        begun = (await view(rig, await made(rig, **{"from": "2026-10-05"})))["cursor"]
        assert place(begun) < (xid, 0) < place(later), "nor by whoever begins at a moment"


async def progress(rig: Rig, id: str, **values: Any) -> None:
    """What the dispatcher may have left."""
    named = ", ".join(f"{name} = :{name}" for name in values)
    async with rig.engine.begin() as connection:
        await connection.execute(
            sql(f"UPDATE subscription_progress SET {named} WHERE subscription = :id"),
            values | {"id": id},
        )


async def test_what_was_stopped_goes_on(rig: Rig) -> None:
    id = await made(rig)
    await progress(rig, id, stopped="webhook-gone")
    shown = await view(rig, id)
    assert (shown["state"], shown["reason"]) == ("stopped", "webhook-gone")
    await put(rig, id)
    assert (await view(rig, id))["state"] == "stopped", "nothing changed"
    await put(rig, id, url=f"{URL}/new")
    assert (await view(rig, id))["state"] == "active", "another address is another try"
    await progress(rig, id, stopped="webhook-gone")
    resumed = await rig.call("POST", f"/v1/subscriptions/{id}/resume", by="h41-registry")
    assert (resumed.status_code, resumed.json()["state"]) == (200, "active")
    await progress(rig, id, stopped="gap")
    shown = await view(rig, id)
    assert (shown["state"], shown["reason"]) == ("gap", "gap")
    await put(rig, id, url=f"{URL}/newer")
    assert (await view(rig, id))["state"] == "gap", "what is missing is not passed over by the way"
    resumed = await rig.call("POST", f"/v1/subscriptions/{id}/resume", by="h41-registry")
    assert resumed.json()["state"] == "active"


async def test_a_replay_sets_the_cursor_back_in_a_new_run(rig: Rig) -> None:
    at = await publish(rig, SERVICE, "2026-09-01T00:00:00Z")
    id = await made(rig)
    await progress(rig, id, stopped="webhook-gone")

    async def replay(start: str) -> dict[str, Any]:
        answer = await rig.call("POST", f"/v1/subscriptions/{id}/replay", json={"from": start}, by="h41-registry")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    replayed = await replay("earliest")
    assert (replayed["cursor"], replayed["run"], replayed["state"]) == ("0-0", 2, "active")
    assert await replay(at) | {"run": 3, "cursor": at} == await view(rig, id)
    assert place((await replay("2026-08-01"))["cursor"]) < place(at)
    for wrong in ({"from": "x"}, {}, {"from": "9223372036854775807-0"}, {"from": 1}, {"to": "now"}):
        refused = await rig.call("POST", f"/v1/subscriptions/{id}/replay", json=wrong, by="h41-registry")
        assert refused.status_code == 422, wrong
    for name in ("nobody", "Bad%20name"):
        missing = await rig.call("POST", f"/v1/subscriptions/{name}/resume", by="h41-registry")
        assert missing.status_code == (404 if name == "nobody" else 422)


async def test_replay_and_resume_say_who_and_heed_what_was_seen(rig: Rig) -> None:
    id = await made(rig)
    path, seen = f"/v1/subscriptions/{id}", {"If-Match": '"1"'}
    with capture_logs() as first:
        replayed = await rig.call("POST", f"{path}/replay", json={"from": "earliest"}, by="h41-registry", headers=seen)
    assert (replayed.status_code, replayed.headers["etag"]) == (200, '"2"'), replayed.text
    for action, document in (("replay", {"from": "now"}), ("resume", None)):
        lost = await rig.call("POST", f"{path}/{action}", json=document, by="h41-desk", headers=seen)
        assert (lost.status_code, lost.json()["code"]) == (412, "precondition-failed")
    shown = await view(rig, id)
    assert (shown["cursor"], shown["run"]) == ("0-0", 2)
    with capture_logs() as second:
        resumed = await rig.call("POST", f"{path}/resume", by="h41-desk", headers={"If-Match": '"2"'})
    assert (resumed.status_code, resumed.headers["etag"]) == (200, '"3"'), resumed.text
    told = [(line["event"], line["by"]) for line in first + second if line.get("subscription") == id]
    assert told == [("subscription.replayed", "h41-registry"), ("subscription.resumed", "h41-desk")]
