"""Calls, submissions and waits through the client, over a real gateway."""

from __future__ import annotations

import asyncio

import pytest

from ngsp.adapter import RecordNotFound, Refused, Request
from ngsp.client import AsyncClient, Client, ClientSecret, Filters, Problem, Transaction, errors, new_key
from tests.client.hands import KIND, LOOK_UP, SEND, Hands, hands, states
from tests.support.gateway import Rig
from tests.support.waiting import until


async def test_a_query_gives_its_reply(rig: Rig, bus: Hands) -> None:
    reply = await bus.call(payload={"id": "900000000001"})
    assert reply.json() == {"did": "it", "id": "900000000001", "people": [{"name": "An"}]}
    assert (reply.service, await rig.kinds(reply.transaction)) == (LOOK_UP, ["accepted", "succeeded"])


async def test_bytes_reach_the_provider_as_they_are(rig: Rig, bus: Hands) -> None:
    await bus.call(payload=b'{ "do" :"\\u0061" }')
    await bus.call(payload={"do": "Điều", "n": 7})
    assert [request.body for request in rig.provider.seen] == [
        b'{ "do" :"\\u0061" }',
        '{"do":"Điều","n":7}'.encode(),
    ]


async def test_what_is_no_json_is_not_sent(bus: Hands) -> None:
    for payload in (float("nan"), {1, 2}):
        with pytest.raises((TypeError, ValueError)):
            await bus.call(payload=payload)
    for service in ("look-up", "H41/look-up", "H41/look-up/v1/more", "//"):
        with pytest.raises(ValueError, match="provider/name/version"):
            await bus.call(service)
    assert bus.requests.sent == []


async def test_options_come_with_the_call_or_as_defaults(rig: Rig, bus: Hands) -> None:
    trace = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
    dossier = "000.00.00.H41-261121-0001"
    counter = bus.having(officer="canbo-0017", purpose="more-testing", procedure="1.001193")
    reply = await counter.call("H41/guarded/v1", consent="dong-y/1", dossier=dossier, traceparent=trace)
    accepted, _ = await rig.entries(reply.transaction)
    assert accepted["grant"]["purpose"] == "more-testing"
    assert accepted["call"] == {
        "client": "caller",
        "consent": "dong-y/1",
        "dossier": dossier,
        "member": "G22",
        "officer": "canbo-0017",
        "procedure": "1.001193",
        "trace": trace[3:35],
    }
    reply = await counter.call(officer="canbo-0018", procedure="", agreement=await rig.agreement("look-up"))
    accepted, _ = await rig.entries(reply.transaction)
    assert (accepted["call"]["officer"], "procedure" in accepted["call"]) == ("canbo-0018", False)
    with pytest.raises(errors.MalformedHeader, match="Ngsp-Officer"):
        await bus.call("H41/officer/v1")
    assert bus.requests.count("/oauth2/token") == 1, "views of a client share its token"


async def test_the_deadline_is_told_to_the_bus(rig: Rig, bus: Hands) -> None:
    reply = await bus.call(deadline_s=2.5)
    accepted, _ = await rig.entries(reply.transaction)
    (request,) = rig.provider.seen
    assert bus.requests.headers[-1]["Prefer"] == "wait=2"
    assert 0 < request.remaining_s() < 2.5
    assert accepted["grant"]["mode"] == "query"


async def test_a_submission_is_accepted_followed_and_repeated(rig: Rig, bus: Hands) -> None:
    prepared = await bus.do("prepare", SEND, {"do": "register"}, officer="canbo-0017")
    assert bus.requests.sent == []
    submission = await bus.send(prepared)
    assert (submission.key, submission.reply) == (prepared.key, None)
    reply = await bus.wait(submission)
    assert (reply.transaction, reply.service) == (submission.transaction, SEND)
    again = await bus.send(prepared)
    assert again.transaction == submission.transaction
    assert again.reply is not None
    assert again.reply.body == reply.body
    assert await bus.wait(again) == again.reply
    assert await bus.do("reply", submission.transaction) == reply.__class__("", submission.transaction, reply.body)
    assert len(rig.provider.seen) == 1


async def test_each_submission_has_a_key_of_its_own_or_the_one_given(rig: Rig, bus: Hands) -> None:
    first, second = await bus.submit(), await bus.submit()
    assert len({first.key, second.key, first.transaction, second.transaction}) == 4
    key = new_key()
    third, fourth = await bus.submit(key=key), await bus.submit(key=key)
    assert (third.key, fourth.key, third.transaction) == (key, key, fourth.transaction)
    with pytest.raises(errors.IdempotencyMismatch) as raised:
        await bus.submit(payload={"do": "something else"}, key=key)
    assert raised.value.idempotency_key == key


async def test_a_query_may_be_answered_later(rig: Rig, bus: Hands) -> None:
    submission = await bus.submit(LOOK_UP)
    assert (await bus.wait(submission)).json()["did"] == "it"
    accepted, *_ = await rig.entries(submission.transaction)
    assert accepted["grant"]["mode"] == "submission"


async def test_a_submission_that_is_called_needs_a_key_and_is_waited_for(bus: Hands) -> None:
    with pytest.raises(errors.KeyRequired):
        await bus.call(SEND)
    reply = await bus.call(SEND, key=new_key())
    assert (reply.json()["did"], reply.service) == ("it", SEND)


async def test_states_are_told_as_they_change(rig: Rig, bus: Hands) -> None:
    may_go, heard = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def act(request: Request) -> object:
        await may_go.wait()
        return {"did": "at last"}

    def on_state(transaction: Transaction) -> None:
        told.append(transaction)
        loop.call_soon_threadsafe(heard.set)
        if transaction.state == "delivered":
            loop.call_soon_threadsafe(may_go.set)

    told: list[Transaction] = []
    rig.provider.act = act  # type: ignore[method-assign]
    submission = await bus.submit()
    assert (await bus.wait(submission, on_state=on_state)).json() == {"did": "at last"}
    assert heard.is_set()
    assert states(told)[-2:] == ["delivered", "succeeded"]
    found = await bus.items("states", submission)
    assert states(found) == ["succeeded"]
    assert (found[0].service, found[0].ended) == (SEND, True)


async def test_the_callers_own_deadline_leaves_the_submission_on_its_way(rig: Rig, bus: Hands) -> None:
    may_go = asyncio.Event()

    async def act(request: Request) -> object:
        await may_go.wait()
        return {"did": "late"}

    rig.provider.act = act  # type: ignore[method-assign]
    submission = await bus.submit()
    with pytest.raises(errors.StillUnderWay) as raised:
        await bus.wait(submission, deadline_s=0.3)
    assert (raised.value.transaction, raised.value.idempotency_key) == (submission.transaction, submission.key)
    with pytest.raises(errors.StillUnderWay):
        await bus.items("states", submission.transaction, deadline_s=0.1)
    may_go.set()
    assert (await bus.wait(raised.value.transaction)).json() == {"did": "late"}


@pytest.mark.parametrize(
    ("raised", "family", "kind_of_error"),
    [
        (RecordNotFound("KHONG-CO"), errors.ProviderAnswer, errors.RecordNotFound),
        (Refused("TU-CHOI"), errors.ProviderAnswer, errors.ProviderRefused),
    ],
)
async def test_the_providers_no_is_an_error_of_its_own(
    rig: Rig, bus: Hands, raised: Exception, family: type[Problem], kind_of_error: type[Problem]
) -> None:
    async def act(request: Request) -> object:
        raise raised

    rig.provider.act = act  # type: ignore[method-assign]
    with pytest.raises(family) as told:
        await bus.call()
    assert type(told.value) is kind_of_error
    assert told.value.provider_code == raised.args[0]
    assert (await rig.kinds(told.value.transaction))[-1] == "refused"
    submission = await bus.submit()
    with pytest.raises(kind_of_error) as told:
        await bus.wait(submission)
    assert (told.value.transaction, told.value.idempotency_key) == (submission.transaction, submission.key)
    with pytest.raises(kind_of_error):
        await bus.submit(key=submission.key)
    assert len(rig.provider.seen) == 2


async def test_a_refusal_says_why_and_what_to_do(rig: Rig, kind: KIND) -> None:
    async with hands(kind, rig, by="stranger", language="vi") as bus:
        with pytest.raises(errors.AccessDenied) as told:
            await bus.call()
    problem = told.value
    assert (problem.code, problem.status, problem.title) == ("access-denied", 403, "Không được phép gọi dịch vụ này")
    assert problem.remedy
    assert await rig.kinds(problem.transaction) == ["refused"]
    for part in (problem.code, problem.title, problem.detail, problem.remedy, problem.transaction):
        assert part in str(problem)


async def test_faults_name_their_places(bus: Hands) -> None:
    with pytest.raises(errors.SchemaMismatch) as told:
        await bus.call(payload={"do": 7, "other": 1})
    assert {fault.pointer for fault in told.value.faults} == {"", "/do"}
    assert all(fault.detail for fault in told.value.faults)


async def test_lists_go_on_by_cursor(rig: Rig, bus: Hands) -> None:
    officer = "list-" + new_key()[:8].translate(str.maketrans("0123456789", "abcdefghij"))
    made = [(await bus.call(officer=officer)).transaction for _ in range(5)]
    filters = Filters(service=LOOK_UP, officer=officer, outcome="succeeded")

    async def listed() -> bool:
        return len(await bus.items("transactions", filters)) == 5

    await until(listed, "the projection")
    assert [item.id for item in await bus.items("transactions", filters, page_size=2)] == made[::-1]
    page = await bus.do("page", filters, limit=3)
    rest = await bus.do("page", filters, limit=3, cursor=page.next)
    assert [item.id for item in (*page.items, *rest.items)] == made[::-1]
    first = await bus.do("transaction", made[0])
    assert (first.state, [entry["kind"] for entry in first.entries]) == ("succeeded", ["accepted", "succeeded"])
    assert first.accepted_at is not None
    assert (first.accepted_at.tzinfo, first.officer) != (None, None)
    since = Filters(since=first.accepted_at, officer=officer)
    assert len(await bus.items("transactions", since)) == 5
    assert await bus.items("transactions", Filters(until=first.accepted_at, officer=officer)) == []
    with pytest.raises(errors.NotFound):
        await bus.do("transaction", "0192b0c4-7d1e-7abc-8def-0123456789ab")


async def test_the_catalogue(bus: Hands) -> None:
    services = {item["path"]: item for item in await bus.items("services")}
    assert services[SEND]["mode"] == "submission"
    assert await bus.do("service", LOOK_UP) == services[LOOK_UP]
    with pytest.raises(errors.NotFound):
        await bus.do("service", "H41/no-such/v1")


async def test_the_rest_of_the_interface(bus: Hands) -> None:
    own = await bus.do("get", "/v1/clients/caller")
    assert (own["member"], own["scopes"]) == ("G22", ["exchange", "registry"])
    whole = await bus.items("items", "/v1/agreements")
    assert [each["id"] for each in await bus.items("items", "/v1/agreements", limit="2")] == [
        each["id"] for each in whole
    ]
    assert len(whole) == 7
    with pytest.raises(errors.NotFound):
        await bus.do("get", "/v1/clients/operator-of-another")


async def test_a_client_with_connections_of_its_own_closes_them(rig: Rig) -> None:
    secret = ClientSecret("caller", rig.secrets["caller"])
    async with AsyncClient(rig.base_url + "/", secret, purpose="testing") as found:
        assert (await found.call(LOOK_UP, {})).json()["did"] == "it"

    def blocking() -> str:
        with Client(rig.base_url, secret, purpose="testing") as client:
            return str(client.call(LOOK_UP, {}).json()["did"])

    assert await asyncio.to_thread(blocking) == "it"
