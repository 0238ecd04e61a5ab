"""A new key-encryption key is put in front: repeats and subjects from before are found, and nothing is taken twice."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from ngsp.adapter import Request
from ngsp.local.postgres import LocalPostgres
from ngsp.registry.model import webhook_secret_name
from ngsp.vault import Vault
from tests.support.events import Events, Subscriber
from tests.support.gateway import Rig, further_gateway, running_gateway
from tests.support.problems import NUMBER, problem
from tests.support.registry import OPERATOR
from tests.support.waiting import until

OLD, NEW = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))
FIRST_STEP, SECOND_STEP = f"{OLD}\n{NEW}", f"{NEW}\n{OLD}"
"""The file with the keys: the new one is made known everywhere, then it is put in front."""


@pytest.fixture(scope="module")
async def module_rig(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A gateway in the first step; others come with the keys in another order."""
    async with running_gateway(postgres, tmp_path_factory.mktemp("gateway"), kek=FIRST_STEP) as rig:
        yield rig


@pytest.fixture
async def second(rig: Rig, tmp_path: Path) -> AsyncIterator[Rig]:
    """A gateway that is a step further."""
    async with further_gateway(rig, tmp_path, "gateway-2", kek=SecretStr(SECOND_STEP)) as found:
        yield found


async def names_of(rig: Rig, tx: str) -> int:
    return int(await rig.rows.fetchval("SELECT count(*) FROM idempotency_keys WHERE tx = $1", tx))


async def test_a_repeat_of_what_was_taken_under_the_older_key_is_found(rig: Rig, tmp_path: Path) -> None:
    async with further_gateway(rig, tmp_path / "old", "gateway-old", kek=SecretStr(OLD)) as old:
        answered = await old.call("whole", {"do": "x"}, Idempotency_Key="from-before")
        submitted = await old.call("send", {"do": "y"}, Idempotency_Key="sent-before")
        assert (answered.status_code, submitted.status_code) == (200, 202)
        query, submission = (answer.headers["Ngsp-Transaction"] for answer in (answered, submitted))

        async def ended() -> bool:
            return "succeeded" in await rig.kinds(submission)

        await until(ended, "the submission to end")
    assert (await names_of(rig, query), await names_of(rig, submission)) == (1, 1)
    seen = len(rig.provider.seen)
    async with further_gateway(rig, tmp_path / "new", "gateway-2", kek=SecretStr(SECOND_STEP)) as new:
        for gateway in (new, rig, new):
            again = await gateway.call("whole", {"do": "x"}, Idempotency_Key="from-before")
            assert (again.status_code, again.content) == (200, answered.content)
            assert again.headers["Ngsp-Transaction"] == query
            again = await gateway.call("send", {"do": "y"}, Idempotency_Key="sent-before")
            assert (again.status_code, again.headers["Ngsp-Transaction"]) == (200, submission)
            problem(
                await gateway.call("whole", {"do": "z"}, Idempotency_Key="from-before"), 422, "idempotency-mismatch"
            )
        elsewhere = await new.call("whole", {"do": "x"}, by="other", Idempotency_Key="from-before")
        assert elsewhere.headers["Ngsp-Transaction"] != query
    assert len(rig.provider.seen) == seen + 1
    assert (await names_of(rig, query), await names_of(rig, submission)) == (1, 1), "a repeat leaves nothing behind"


async def test_what_was_taken_under_the_newer_key_is_found_by_who_has_it_behind(rig: Rig, second: Rig) -> None:
    first = await second.call("whole", {"do": "x"}, Idempotency_Key="newer")
    assert first.status_code == 200
    for gateway in (rig, second):
        again = await gateway.call("whole", {"do": "x"}, Idempotency_Key="newer")
        assert (again.status_code, again.content) == (200, first.content)
        assert again.headers["Ngsp-Transaction"] == first.headers["Ngsp-Transaction"]
    assert len(rig.provider.seen) == 1


@pytest.mark.parametrize(
    ("one_holds", "other_holds"),
    [(FIRST_STEP, SECOND_STEP), (FIRST_STEP, OLD), (SECOND_STEP, OLD)],
    ids=["another order", "one has not heard of the new one", "the step between was left out"],
)
async def test_of_many_firsts_at_once_one_is_taken_whatever_key_is_in_front(
    rig: Rig, tmp_path: Path, one_holds: str, other_holds: str
) -> None:
    async with (
        further_gateway(rig, tmp_path / "one", "gateway-one", kek=SecretStr(one_holds)) as one,
        further_gateway(rig, tmp_path / "other", "gateway-other", kek=SecretStr(other_holds)) as other,
    ):
        for number in range(8):
            rig.provider.seen.clear()
            key = f"at-once-{number}-{len(one_holds)}-{len(other_holds)}-{one_holds[:6]}"
            answers = await asyncio.gather(*((one, other)[turn % 2].call(Idempotency_Key=key) for turn in range(10)))
            answers += [await gateway.call(Idempotency_Key=key) for gateway in (one, other)]
            (executed,) = (request.id for request in rig.provider.seen)
            for answer in answers:
                assert answer.headers["Ngsp-Transaction"] == executed, answer.text
                # Who does not hold the key in front cannot read the reply, and executes nothing all the same.
                assert answer.status_code == 200 or answer.json()["code"] in ("key-in-flight", "reply-erased")
            if NEW in other_holds:
                assert [answer.status_code for answer in answers[-2:]] == [200, 200]


async def test_who_loses_a_claim_leaves_no_name_of_its_own(rig: Rig, second: Rig) -> None:
    held = asyncio.Event()

    async def act(request: Request) -> object:
        await held.wait()
        return {"did": "it"}

    rig.provider.act = act  # type: ignore[method-assign]
    first = asyncio.create_task(rig.call(Idempotency_Key="held"))
    await until(lambda: bool(rig.provider.seen), "the first to be under way")
    for gateway in (second, rig, second):
        answer = await gateway.call(Idempotency_Key="held")
        problem(answer, 409, "key-in-flight")
        assert answer.headers["Ngsp-Transaction"] == rig.provider.seen[0].id
    held.set()
    assert (await first).status_code == 200
    assert await names_of(rig, rig.provider.seen[0].id) == 2
    assert (await second.call(Idempotency_Key="held")).content == (await first).content


async def test_a_subject_is_found_before_and_after(rig: Rig, second: Rig) -> None:
    """By every hash that a gateway with both keys knows, whichever gateway wrote it."""
    before = await rig.call("whole", {"id": NUMBER})
    after = await second.call("whole", {"id": NUMBER})
    elsewhere = await second.call("whole", {"id": "900000000009"})
    expected = {answer.headers["Ngsp-Transaction"] for answer in (before, after)}
    for gateway in (rig, second):
        vault = Vault(gateway.settings.key_encryption_keys())
        rows = await rig.rows.fetch(
            "SELECT tx::text FROM subjects WHERE subject = ANY($1::bytea[])", vault.subject_hashes(NUMBER)
        )
        found = {row["tx"] for row in rows}
        assert found >= expected
        assert elsewhere.headers["Ngsp-Transaction"] not in found


async def test_secrets_of_webhooks_are_sealed_under_the_new_key(postgres: LocalPostgres, tmp_path: Path) -> None:
    """By the upkeep of a gateway that has it in front, before the old one is taken out."""
    async with running_gateway(postgres, tmp_path, Subscriber(), kek=FIRST_STEP) as rig:
        made = await Events(rig, Subscriber()).subscribe("hooked", url="https://hooks.example.vn/")

        async def sealed() -> bytes:
            found = await rig.rows.fetchval("SELECT secrets FROM subscriptions WHERE id = 'hooked'")
            return base64.b64decode(json.loads(found)[0]["sealed"])

        old, new = (Vault(base64.b64decode(key)) for key in (OLD, NEW))
        both = Vault([base64.b64decode(key) for key in SECOND_STEP.split()])
        assert old.is_first(await sealed())
        registry = rig.parts.registry
        assert [await registry.reseal_secrets(OPERATOR, vault) for vault in (old, both, both)] == [0, 1, 0]
        secret = new.open_secret(webhook_secret_name("hooked"), await sealed())
        assert made["secret"] == "whsec_" + base64.b64encode(secret).decode()
        assert registry.snapshot.subscriptions["hooked"].secrets[0].sealed == await sealed()
