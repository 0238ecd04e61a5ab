"""Who may not: one and the same answer to every caller, the exact reason in the log; and it bites within a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from ngsp import database
from ngsp.identity.keys import Keyring
from ngsp.local.postgres import LocalPostgres
from ngsp.vault import Vault
from ngsp.vntime import day_of
from tests.identity.side import parts_of
from tests.identity.test_token_forgeries import FORGERIES, claims_with
from tests.support.gateway import Provider, Rig, agreement, running_gateway, service
from tests.support.problems import MARKER, NUMBER, problem
from tests.support.waiting import until
from tests.support.wire import exchanged, head

REVOKED_WITHIN_S = 1.0
SERVICES = ("open", "ended", "future", "suspended", "revoked", "retired", "disabled", "twice", "consent", "officer")


@pytest.fixture(scope="module")
async def module_rig(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A service for each state in which an agreement or a service may be."""
    provider = Provider(
        services=[service(name, officer_required=name == "officer") for name in SERVICES],
        terms={
            "future": {"valid_from": "2100-01-01T00:00:00Z"},
            "consent": {"consent_required": True},
        },
        documents=[
            agreement("twice", "test-twice-again", purposes=["testing"]),
            agreement("twice", "others-twice", consumer="H14"),
        ],
    )
    async with running_gateway(postgres, tmp_path_factory.mktemp("gateway"), provider) as rig:
        for name, action in (("suspended", "suspend"), ("revoked", "revoke")):
            await act(rig, name, action)
        for state in ("retired", "disabled"):
            await changed(rig, "services", f"state = '{state}'", f"path = 'H41/{state}/v1'")
        id = await rig.agreement("ended")
        await rig.rows.execute("UPDATE agreement_versions SET valid_to = now() WHERE agreement = $1", id)
        await changed(rig, "agreements", "updated_at = now()", f"id = '{id}'")

        async def set_up() -> bool:
            answers = [await rig.call(name) for name in ("suspended", "revoked", "retired", "disabled", "ended")]
            return all(answer.status_code == 403 for answer in answers)

        await until(set_up, "agreements and services to be in their states", 30)
        yield rig


async def act(rig: Rig, name: str, action: str, by: str = "provider") -> None:
    answer = await rig.post(
        f"/v1/agreements/{await rig.agreement(name)}/{action}", by=by, json={"reason": "theo yêu cầu"}
    )
    assert answer.status_code == 200, answer.text


async def changed(rig: Rig, table: str, what: str, where: str) -> None:
    """A change of the registry that no call makes by itself: time passes, an operator's hand."""
    async with rig.rows.transaction():
        revision = await rig.rows.fetchval("UPDATE registry_revision SET revision = revision + 1 RETURNING revision")
        await rig.rows.execute(f"UPDATE {table} SET {what}, revision = {revision} WHERE {where}")


DENIED: dict[str, tuple[str, dict[str, Any], str]] = {
    "an unknown service": ("nothing", {}, "unknown service"),
    "another consumer": ("open", {"by": "stranger"}, "no agreement"),
    "a purpose outside": ("open", {"Ngsp_Purpose": "tax"}, "purpose outside the agreement"),
    "an agreement of another": ("open", {"Ngsp_Agreement": "01920000-0000-7000-8000-000000000000"}, "no agreement"),
    "ended": ("ended", {}, "no agreement in force"),
    "not begun": ("future", {}, "no agreement in force"),
    "suspended": ("suspended", {}, "no agreement in force"),
    "revoked": ("revoked", {}, "no agreement in force"),
    "a retired service": ("retired", {}, "service is retired"),
    "a disabled service": ("disabled", {}, "service is disabled"),
}


async def test_every_denial_is_the_same_answer_with_its_reason_in_the_log(rig: Rig) -> None:
    bodies, heads = set(), set()
    for case, (name, how, reason) in DENIED.items():
        answer = await rig.call(name, "not an object", **how)
        problem(answer, 403, "access-denied")
        tx = answer.headers["Ngsp-Transaction"]
        bodies.add(answer.content.replace(tx.encode(), b""))
        fields = {key.lower(): value for key, value in answer.headers.items() if key.lower() != "date"}
        heads.add(repr(sorted(fields.items())).replace(tx, ""))
        (found,) = await rig.entries(tx)
        assert (found["outcome"]["reason"], found["outcome"]["status"]) == (reason, 403), case
        assert found["call"] == {
            "client": how.get("by", "caller"),
            "member": "H14" if how.get("by") == "stranger" else "G22",
        }
        assert found["asked"]["service"] == f"H41/{name}/v1"
    assert len(bodies) == len(heads) == 1
    assert rig.provider.seen == []


async def test_the_reason_is_for_operators_only(rig: Rig) -> None:
    answer = await rig.call("open", by="stranger")
    tx = answer.headers["Ngsp-Transaction"]

    async def listed() -> bool:
        return (await rig.get(f"/v1/transactions/{tx}", by="operator")).status_code == 200

    await until(listed, "the refusal to be shown")
    theirs = (await rig.get(f"/v1/transactions/{tx}", by="stranger")).json()["entries"][0]
    assert "reason" not in theirs["outcome"] and "canonical" not in theirs
    operators = (await rig.get(f"/v1/transactions/{tx}", by="operator")).json()["entries"][0]
    assert operators["outcome"]["reason"] == "no agreement"
    for outsider in ("provider", "caller"):
        problem(await rig.get(f"/v1/transactions/{tx}", by=outsider), 404, "not-found")


async def test_several_agreements_that_fit(rig: Rig) -> None:
    answer = await rig.call("twice")
    own = [
        row["id"]
        for row in await rig.rows.fetch(
            "SELECT id::text FROM agreements WHERE service = 'H41/twice/v1' AND consumer = 'G22' ORDER BY id"
        )
    ]
    document = problem(answer, 422, "agreement-ambiguous")
    assert sorted(document["agreements"]) == own and len(own) == 2
    assert await rig.kinds(answer.headers["Ngsp-Transaction"]) == ["refused"]
    for id in own:
        answer = await rig.call("twice", Ngsp_Agreement=id)
        assert answer.status_code == 200
        accepted = (await rig.entries(answer.headers["Ngsp-Transaction"]))[0]
        assert accepted["grant"]["agreement"] == id
    assert (await rig.call("twice", Ngsp_Purpose="more-testing")).status_code == 200, "only one has that purpose"
    assert (await rig.call("twice", by="stranger")).status_code == 200
    theirs = await rig.agreement("twice", consumer="H14")
    problem(await rig.call("twice", Ngsp_Agreement=theirs), 403, "access-denied")


@pytest.mark.parametrize(
    ("name", "headers"), [("officer", {"Ngsp_Officer": "canbo-0017"}), ("consent", {"Ngsp_Consent": "consent-1"})]
)
async def test_what_the_service_or_agreement_asks_for(rig: Rig, name: str, headers: dict[str, Any]) -> None:
    answer = await rig.call(name)
    document = problem(answer, 400, "malformed-header")
    ((header, value),) = headers.items()
    assert header.replace("_", "-") in document["detail"]
    (found,) = await rig.entries(answer.headers["Ngsp-Transaction"])
    assert found["outcome"]["reason"] == f"{name} missing"
    assert rig.provider.seen == []
    answer = await rig.call(name, **headers)
    assert answer.status_code == 200
    assert (await rig.entries(answer.headers["Ngsp-Transaction"]))[0]["call"][name] == value


async def test_a_token_without_the_scope(rig: Rig) -> None:
    """Told before anything of the service is: the same for one that is there and one that is not."""
    answer = await rig.http.post(
        "/oauth2/token",
        data={"grant_type": "client_credentials", "scope": "registry"},
        auth=("caller", rig.secrets["caller"]),
    )
    narrow = f"Bearer {answer.json()['access_token']}"
    for authorization in (narrow, f"Bearer {await rig.token('operator')}"):
        for name in ("open", "nothing"):
            answer = await rig.call(name, Ngsp_Purpose="", Authorization=authorization)
            problem(answer, 403, "scope-missing")
            assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
            (found,) = await rig.entries(answer.headers["Ngsp-Transaction"])
            assert found["outcome"]["reason"] == "the token has no exchange scope"
    assert rig.provider.seen == []


async def _bites(rig: Rig, by: str, status: int) -> float:
    """Seconds of calling until the first refusal, which must have `status`."""
    began = time.monotonic()
    while (answer := await rig.call("open", by=by)).status_code == 200:
        assert time.monotonic() - began < 10
        await asyncio.sleep(0.01)
    assert answer.status_code == status
    return time.monotonic() - began


async def test_suspension_bites_within_a_second_and_ends_as_soon(rig: Rig) -> None:
    assert (await rig.call("open")).status_code == 200
    await act(rig, "open", "suspend")
    assert await _bites(rig, "caller", 403) < REVOKED_WITHIN_S
    began = time.monotonic()
    await act(rig, "open", "resume")

    async def resumed() -> bool:
        return (await rig.call("open")).status_code == 200

    await until(resumed, "the agreement to hold again")
    assert time.monotonic() - began < REVOKED_WITHIN_S


async def test_a_member_that_is_none_any_more(rig: Rig) -> None:
    """First the consumer's token is refused; the provider's services are denied as if they were not there."""
    assert (await rig.call("twice", by="stranger")).status_code == 200
    for code in ("H14", "H41"):
        document = {
            "name": {"vi": f"Cơ quan {code}", "en": f"Member {code}"},
            "valid_from": "2020-01-01",
            "zone": "national",
        }
        gone = document | {"valid_to": day_of(datetime.now(UTC)).isoformat()}
        path, headers = f"/v1/members/{code}", await rig.headers("operator")
        assert (await rig.http.put(path, headers=headers, json=gone)).status_code == 200
        if code == "H14":
            assert await _called_until(rig, "stranger", "twice", 401) < REVOKED_WITHIN_S
        else:
            assert await _called_until(rig, "caller", "open", 403) < REVOKED_WITHIN_S
            answer = await rig.call("open")
            problem(answer, 403, "access-denied")
            (found,) = await rig.entries(answer.headers["Ngsp-Transaction"])
            assert found["outcome"]["reason"] == "provider is not a member in force"
        assert (await rig.http.put(path, headers=headers, json=document)).status_code == 200
    assert await _called_until(rig, "caller", "open", 200) < REVOKED_WITHIN_S


async def _called_until(rig: Rig, by: str, name: str, status: int) -> float:
    began = time.monotonic()

    async def reached() -> bool:
        return (await rig.call(name, by=by)).status_code == status

    await until(reached, f"a {status}")
    return time.monotonic() - began


async def test_a_client_that_was_stopped(rig: Rig) -> None:
    assert (await rig.call("open", by="other")).status_code == 200
    document = {"member": "G22", "name": {"vi": "other", "en": "other"}, "scopes": ["exchange"], "active": False}
    answer = await rig.http.put("/v1/clients/other", headers=await rig.headers("operator"), json=document)
    assert answer.status_code == 200, answer.text
    assert await _bites(rig, "other", 401) < REVOKED_WITHIN_S


async def test_revocation_bites_within_a_second_and_for_good(rig: Rig) -> None:
    assert (await rig.call("open")).status_code == 200
    await act(rig, "open", "revoke")
    assert await _bites(rig, "caller", 403) < REVOKED_WITHIN_S
    rig.provider.seen.clear()
    for answer in await asyncio.gather(*(rig.call("open") for _ in range(20))):
        problem(answer, 403, "access-denied")
    assert rig.provider.seen == []


async def test_forged_tokens_are_refused_alike_and_counted(rig: Rig) -> None:
    good = await rig.token("caller")
    header, claims = parts_of(good)
    engine = database.engine(rig.settings.database_url.get_secret_value(), pool_size=1)
    keys = Keyring(engine, Vault(rig.settings.key_encryption_keys()), key_days=30)
    await keys.open()
    await engine.dispose()
    private = keys.signer(time.time())[1]
    forgeries = FORGERIES | {"member another": claims_with(member="H41")}
    entries = await rig.rows.fetchval("SELECT count(*) FROM entries")
    bodies = set()
    for name, forge in forgeries.items():
        token = forge(header, claims, private, good)
        assert token != good
        start = await head(rig, "Content-Length: 2", path=f"/v1/services/{MARKER}/{NUMBER}/v1")
        answer = await exchanged(rig, start.replace(good.encode(), token.encode()), b"{}")
        assert answer.status_code == 401, name
        bodies.add(_without_instance(answer))
    for scheme in (f"Basic {good}", good, f"DPoP {good}", "Bearer", f"Bearer  {good}"):
        start = await head(rig, "Content-Length: 2", path="/v1/services/H41/twice/v1")
        answer = await exchanged(rig, start.replace(f"Bearer {good}".encode(), scheme.encode()), b"{}")
        assert answer.status_code == 401, scheme
        bodies.add(_without_instance(answer))
    problem(await rig.call("twice", Authorization=""), 401, "unauthenticated")
    assert len(bodies) == 1
    assert await rig.rows.fetchval("SELECT count(*) FROM entries") == entries

    async def counted() -> bool:
        return await rig.counted("unauthenticated") >= len(forgeries) + 6

    await until(counted, "the counts in the table")
    assert (await rig.call("twice", Ngsp_Purpose="more-testing")).status_code == 200, "no forgery hurt the good token"


def _without_instance(answer: httpx.Response) -> bytes:
    document = problem(answer, 401, "unauthenticated")
    return answer.content.replace(document["instance"].encode(), b"")
