"""The sandbox: answers from examples, marked, apart from everything real; and no way from there to an adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest

from ngsp.client import AsyncClient, ClientSecret, errors
from ngsp.local.postgres import LocalPostgres
from ngsp.messages import uuid7
from ngsp.registry.model import NO_AGREEMENT
from ngsp.sandbox import rehearse, shape
from tests.support.gateway import Provider, Rig, running_gateway, service
from tests.support.problems import MARKER, NUMBER, problem, unseen
from tests.support.waiting import until

IT: dict[str, Any] = {"do": "it", "id": "900000000001"}
REPLY: dict[str, Any] = {
    "did": "it",
    "id": "900000000001",
    "secret": "kept back",
    "people": [{"name": "An", "id": "900000000002"}],
}
TITLE = {"vi": "Một người", "en": "One person"}
EXAMPLES: list[dict[str, Any]] = [
    {"title": TITLE, "request": IT, "reply": REPLY},
    {"request": {"do": "other", "n": 7}, "reply": {"did": "other"}},
    {"request": {"do": "nobody"}, "outcome": "not-found", "code": "KHONG-CO"},
    {"request": {"do": "no", "n": 1}, "outcome": "refused", "code": "TU-CHOI"},
    {"request": {"do": "lost", "list": [1]}, "outcome": "unknown"},
    {"request": {"do": "down", "list": ["x"]}, "outcome": "retry"},
    {"request": {"note": "only asked"}},
]
EVERYTHING = REPLY
GRANTED = {"did": "it", "id": "900000000001", "people": [{"name": "An"}]}


@pytest.fixture(scope="module")
async def module_rig(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    services = [
        service("look-up", examples=EXAMPLES),
        service("send", mode="submission", deadline_s=60, examples=EXAMPLES),
        service("officer", officer_required=True, examples=EXAMPLES),
        service("guarded", examples=EXAMPLES),
        service("few", examples=EXAMPLES),
        service("bare"),
    ]
    provider = Provider(services=services, terms={"guarded": {"consent_required": True}, "few": {"quota_per_day": 1}})
    async with running_gateway(postgres, tmp_path_factory.mktemp("gateway"), provider, project_s=0.05) as rig:
        for id, member in (("trial", "G22"), ("trial-14", "H14"), ("trial-41", "H41")):
            await put(rig, id, 201, member=member)
        yield rig


@pytest.fixture
async def rig(module_rig: Rig) -> AsyncIterator[Rig]:
    module_rig.provider.seen.clear()
    yield module_rig
    assert module_rig.provider.seen == [], "nothing of the sandbox reaches an adapter"
    assert await module_rig.rows.fetchval("SELECT count(*) FROM outbox") == 0
    assert await module_rig.rows.fetchval("SELECT count(*) FROM subjects") == 0


async def put(rig: Rig, id: str, status: int, by: str = "operator", **others: Any) -> httpx.Response:
    """Puts a client of the sandbox; its secret, where it has a new one, is kept."""
    document = {"member": "G22", "name": {"vi": id, "en": id}, "scopes": ["exchange"], "sandbox": True} | others
    answer = await rig.http.put(f"/v1/clients/{id}", json=document, headers=await rig.headers(by))
    assert answer.status_code == status, answer.text
    if status == 201:
        rig.secrets[id] = answer.json()["secret"]
    return answer


async def tried(rig: Rig, body: object, name: str = "look-up", by: str = "trial", **headers: Any) -> httpx.Response:
    answer = await rig.call(name, body, by=by, **headers)
    assert answer.headers["Ngsp-Sandbox"] == "true"
    return answer


async def test_the_example_with_this_request_answers_by_the_terms_of_the_agreement(rig: Rig) -> None:
    answer = await tried(rig, IT)
    assert (answer.status_code, answer.json()) == (200, GRANTED)
    accepted, ended = await rig.entries(answer.headers["Ngsp-Transaction"])
    assert (accepted["kind"], ended["kind"]) == ("accepted", "succeeded")
    assert accepted["call"] == {"client": "trial", "member": "G22", "sandbox": "1"}
    assert accepted["grant"]["agreement"] == await rig.agreement("look-up")
    assert "adapter" not in ended["outcome"]


async def test_without_an_agreement_the_whole_example_answers(rig: Rig) -> None:
    for by, headers in (("trial-14", {}), ("trial", {"Ngsp_Purpose": "marketing"})):
        answer = await tried(rig, IT, by=by, **headers)
        assert (answer.status_code, answer.json()) == (200, EVERYTHING)
        grant = (await rig.entries(answer.headers["Ngsp-Transaction"]))[0]["grant"]
        assert (grant["agreement"], grant["agreement_version"], grant["fields"]) == (NO_AGREEMENT, 0, [""])


async def test_another_request_of_the_shape_of_an_example_is_answered_by_that(rig: Rig) -> None:
    assert (await tried(rig, IT | {"id": NUMBER})).json() == GRANTED
    assert (await tried(rig, {"n": 99, "do": "whatever"})).json() == {"did": "other"}


async def test_a_request_of_no_examples_shape_is_told_which_there_are(rig: Rig) -> None:
    answer = await tried(rig, {"do": MARKER, "id": NUMBER, "n": 1})
    told = problem(answer, 404, "no-example")
    assert told["examples"][:2] == [TITLE, {"vi": "Ví dụ 2", "en": "Example 2"}]
    assert len(told["examples"]) == 6, "an example that says no answer cannot answer"
    (found,) = await rig.entries(answer.headers["Ngsp-Transaction"])
    assert (found["kind"], found["call"]["sandbox"], found["outcome"]["code"]) == ("refused", "1", "no-example")
    assert problem(await tried(rig, {"note": "only asked"}), 404, "no-example")
    assert problem(await tried(rig, IT, "bare"), 404, "no-example")["examples"] == []


@pytest.mark.parametrize(
    ("body", "status", "code", "kind"),
    [
        ({"do": "nobody"}, 404, "record-not-found", "refused"),
        ({"do": "no", "n": 1}, 409, "provider-refused", "refused"),
        ({"do": "lost", "list": [1]}, 504, "outcome-unknown", "unknown"),
        ({"do": "down", "list": ["x"]}, 502, "provider-unavailable", "failed"),
    ],
)
async def test_examples_may_be_errors(rig: Rig, body: dict[str, Any], status: int, code: str, kind: str) -> None:
    answer = await tried(rig, body)
    told = problem(answer, status, code)
    assert told.get("provider_code", "") == next(e.get("code", "") for e in EXAMPLES if e["request"] == body)
    assert await rig.kinds(answer.headers["Ngsp-Transaction"]) == ["accepted", kind]


async def test_a_submission_is_accepted_and_has_its_outcome_at_once(rig: Rig) -> None:
    async with AsyncClient(rig.base_url, ClientSecret("trial", rig.secrets["trial"]), sandbox=True) as bus:
        bus = bus.having(purpose="testing")
        submission = await bus.submit("H41/send/v1", IT)
        assert submission.reply is None
        states = [transaction.state async for transaction in bus.states(submission)]
        assert states == ["succeeded"]
        reply = await bus.wait(submission)
        assert reply.json() == EVERYTHING
        again = await bus.submit("H41/send/v1", IT, key=submission.key)
        assert again.reply is not None
        assert (again.transaction, again.reply.body) == (submission.transaction, reply.body)
        refused = await bus.submit("H41/send/v1", {"do": "no", "n": 1})
        with pytest.raises(errors.ProviderRefused):
            await bus.wait(refused)
        with pytest.raises(errors.IdempotencyMismatch):
            await bus.submit("H41/send/v1", {"do": "nobody"}, key=submission.key)
        assert await rig.kinds(submission.transaction) == ["accepted", "succeeded"]
        found = await bus.submit("H41/look-up/v1", IT)
        assert (await bus.wait(found)).json() == GRANTED


async def test_a_keyed_query_is_answered_again_byte_for_byte(rig: Rig) -> None:
    first, second = [await tried(rig, IT, Idempotency_Key="sandbox-key") for _ in range(2)]
    assert (first.content, first.headers["Ngsp-Transaction"]) == (second.content, second.headers["Ngsp-Transaction"])
    problem(await tried(rig, {"do": "nobody"}, Idempotency_Key="sandbox-key"), 422, "idempotency-mismatch")


@pytest.mark.parametrize(
    ("name", "headers", "body", "status", "code"),
    [
        ("look-up", {}, {"do": 7}, 422, "schema-mismatch"),
        ("look-up", {"Ngsp_Purpose": ""}, IT, 400, "malformed-header"),
        ("look-up", {"Ngsp_Officer": "a b"}, IT, 400, "malformed-header"),
        ("look-up", {"Ngsp_Sandbox": "yes"}, IT, 400, "malformed-header"),
        ("officer", {}, IT, 400, "malformed-header"),
        ("guarded", {}, IT, 400, "malformed-header"),
        ("send", {}, IT, 428, "key-required"),
        ("no-such", {}, IT, 403, "access-denied"),
    ],
)
async def test_what_is_wrong_is_refused_as_ever(
    rig: Rig, name: str, headers: dict[str, str], body: dict[str, Any], status: int, code: str
) -> None:
    problem(await tried(rig, body, name, **headers), status, code)


async def test_no_quota_is_spent_and_no_bus_is_needed(rig: Rig) -> None:
    for _ in range(3):
        assert (await tried(rig, IT, "few")).status_code == 200
    assert await rig.rows.fetchval("SELECT count(*) FROM quotas") == 0


async def test_who_says_sandbox_and_is_none_is_refused(rig: Rig) -> None:
    answer = await rig.call("look-up", IT, Ngsp_Sandbox="true")
    problem(answer, 400, "malformed-header")
    assert "Ngsp-Sandbox" not in answer.headers
    assert (await tried(rig, IT, Ngsp_Sandbox="true")).status_code == 200


async def test_lists_streams_and_statistics_leave_it_out(rig: Rig) -> None:
    """Unless asked for; and a client of the sandbox sees nothing else."""
    tx = (await tried(rig, IT, Ngsp_Officer="canbo-trial", Ngsp_Dossier="000.00.00.H41-261121-0001")).headers[
        "Ngsp-Transaction"
    ]
    await tried(rig, {"do": MARKER, "id": NUMBER, "n": 1})

    async def listed(by: str, **parameters: str) -> list[dict[str, Any]]:
        found = await rig.http.get("/v1/transactions", params=parameters, headers=await rig.headers(by))
        assert found.status_code == 200, found.text
        items: list[dict[str, Any]] = found.json()["items"]
        return items

    async def projected() -> bool:
        return any(item["id"] == tx for item in await listed("operator", sandbox="true"))

    await until(projected, "the projection")
    for by in ("caller", "operator", "provider"):
        assert not any(item["sandbox"] for item in await listed(by))
        assert await listed(by, officer="canbo-trial") == []
    for by in ("caller", "operator", "trial"):
        (found,) = await listed(by, officer="canbo-trial", sandbox="true")
        assert (found["id"], found["sandbox"], found["consumer"]) == (tx, True, "G22")
        assert found["agreement"] == {"id": await rig.agreement("look-up"), "version": 1}
    assert {item["sandbox"] for item in await listed("trial")} == {True}
    for by in ("provider", "stranger", "trial-14"):
        assert tx not in {item["id"] for item in await listed(by, sandbox="true")}
    for by in ("trial-14", "trial-41", "provider"):
        assert (await rig.get(f"/v1/transactions/{tx}", by=by)).status_code == 404
    assert (await rig.get(f"/v1/transactions/{tx}", by="caller")).json()["sandbox"] is True
    counted = await rig.rows.fetchval("SELECT coalesce(sum(count), 0) FROM statistics WHERE span = 'hour'")
    assert counted == await rig.rows.fetchval("SELECT count(*) FROM transactions WHERE NOT sandbox")
    assert await rig.rows.fetchval("SELECT count(*) FROM transactions WHERE sandbox") > 2
    assert await rig.rows.fetchval("SELECT count(*) FROM statistics_dossiers") == 0
    problem(await rig.get("/v1/statistics", by="trial"), 403, "scope-missing")


async def test_a_client_of_the_sandbox_sees_nothing_real(rig: Rig) -> None:
    real = await rig.call("look-up", {"do": 7})
    assert (real.status_code, "Ngsp-Sandbox" in real.headers) == (422, False)
    tx = real.headers["Ngsp-Transaction"]
    assert (await rig.get(f"/v1/transactions/{tx}")).status_code == 200
    for path in (f"/v1/transactions/{tx}", f"/v1/transactions/{tx}/reply"):
        problem(await rig.get(path, by="trial"), 404, "not-found")


async def test_the_stream_of_a_client_of_the_sandbox(rig: Rig) -> None:
    async with (
        AsyncClient(rig.base_url, ClientSecret("trial", rig.secrets["trial"])) as trial,
        AsyncClient(rig.base_url, ClientSecret("caller", rig.secrets["caller"])) as caller,
    ):
        tx = (await tried(rig, IT)).headers["Ngsp-Transaction"]
        async for event in trial.follow(after="0-0"):
            assert event.transaction.sandbox
            if event.transaction.id == tx:
                break
        page = await caller.page()
        assert not [item for item in page.items if item.sandbox]


async def test_what_a_client_of_the_sandbox_may_be(rig: Rig) -> None:
    for scopes in (["exchange", "registry"], ["operator"], ["adapter"]):
        told = problem(await put(rig, "trial-more", 422, scopes=scopes), 422, "schema-mismatch")
        assert told["errors"]
    told = problem(await put(rig, "trial", 422, sandbox=False), 422, "invalid-registration")
    assert told["errors"][0]["pointer"] == "/sandbox"
    problem(await put(rig, "other", 422), 422, "invalid-registration")
    assert (await put(rig, "trial", 200)).json()["sandbox"] is True
    await put(rig, "made-by-its-member", 201, by="caller")


async def test_nothing_of_it_is_kept_in_the_clear(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    answer = await tried(rig, IT | {"id": NUMBER}, Idempotency_Key=f"trial-{MARKER}")
    assert answer.status_code == 200
    for table in ("entries", "transactions", "replies", "idempotency_keys"):
        rows = await rig.rows.fetch(f"SELECT t::text AS row FROM {table} t")
        unseen(*(row["row"].encode() for row in rows))
    unseen(capsys.readouterr().err.encode())


async def test_the_client_says_what_it_means(rig: Rig) -> None:
    """A program that is not meant for the sandbox does not take an example for the truth, nor the other way round."""
    trial, caller = (ClientSecret(id, rig.secrets[id]) for id in ("trial", "caller"))
    async with AsyncClient(rig.base_url, trial, purpose="testing") as unaware:
        with pytest.raises(errors.FromTheSandbox) as told:
            await unaware.call("H41/look-up/v1", IT)
        assert told.value.transaction
        with pytest.raises(errors.FromTheSandbox):
            await unaware.submit("H41/send/v1", IT)
    async with AsyncClient(rig.base_url, caller, purpose="testing", sandbox=True) as mistaken:
        with pytest.raises(errors.MalformedHeader):
            await mistaken.call("H41/look-up/v1", IT)
    async with AsyncClient(rig.base_url, trial, purpose="testing", sandbox=True) as bus:
        assert (await bus.call("H41/look-up/v1", IT)).json() == GRANTED


def test_shapes() -> None:
    same = [
        ({"a": 1, "b": "x"}, {"b": "y", "a": 2.5}),
        ({"a": [1, 2]}, {"a": [3]}),
        ([{"a": 1}], [{"a": 2}, {"a": 3}]),
        (None, None),
    ]
    for one, other in same:
        assert shape(one) == shape(other)
    different: list[tuple[Any, Any]] = [
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"a": 1, "b": 1}),
        ({"a": True}, {"a": 1}),
        ({"a": None}, {"a": 1}),
        ([], [1]),
        ({"a": {"b": 1}}, {"a": {"c": 1}}),
    ]
    for one, other in different:
        assert shape(one) != shape(other), (one, other)


def test_what_adapters_would_have_said() -> None:
    from tests.interface.test_service_snapshots import service as some_service

    found = some_service()
    reply = rehearse(found, {"do": "it"}, uuid7())
    assert (reply.status, orjson.loads(reply.body), reply.service) == ("ok", {"did": "it"}, "H41/register/v2")
