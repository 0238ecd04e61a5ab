"""`ngsp subscriptions` as a person types it: a program of its own against a running gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest

from ngsp.local.postgres import LocalPostgres
from tests.backends.scripted import always, raw, scripted
from tests.support.events import CHANGES, RECEIVER, Events, Subscriber, changes, event
from tests.support.gateway import running_gateway
from tests.support.waiting import until
from tests.transactions.test_cli_transactions import environment, projected, run_ngsp


@pytest.fixture(scope="module")
async def module_events(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Events]:
    subscriber = Subscriber(services=[changes()], terms={"changes": {"fields": [""]}})
    folder = tmp_path_factory.mktemp("gateway")
    async with running_gateway(postgres, folder, subscriber, webhook_allowed_networks="127.0.0.0/8") as rig:
        yield Events(rig, subscriber)


@pytest.fixture
def events(module_events: Events) -> Events:
    return module_events


async def run(events: Events, *arguments: str, by: str = "operator", language: str = "en") -> tuple[int, str, str]:
    return await run_ngsp("subscriptions", *arguments, env=environment(events.rig, by, language))


async def test_what_an_operator_sees_and_does(events: Events) -> None:
    assert await run(events, "list", language="vi") == (0, "Không có đăng ký nào.\n", "")
    async with scripted() as receiver:
        receiver.answer = always(raw("410 Gone"))
        own = await events.subscribe("own-service")
        hooked = await events.subscribe("hooked", url=receiver.url)
        (publication,) = await events.published(event())
        tx, refused = await events.delivery(own["id"], publication), await events.delivery(hooked["id"], publication)
        assert (await events.rig.outcome(refused))[-1] == "refused"
        assert (await events.rig.outcome(tx))[-1] == "succeeded"

        code, out, err = await run(events, "list")
        assert (code, err) == (0, "")
        first, second = sorted(out.splitlines()[1:])
        assert first.startswith("hooked") and receiver.url in first and "stopped: gone" in first
        assert second.startswith("own-service") and RECEIVER in second and CHANGES in second and "active" in second
        _, out, _ = await run(events, "list", "--json", by="caller")
        assert {found["id"] for found in map(orjson.loads, out.splitlines())} == {"own-service", "hooked"}

        code, out, _ = await run(events, "show", "hooked", language="vi")
        assert code == 0
        assert "đã dừng: gone" in out and receiver.url in out and "secret" not in out

        receiver.answer = always(raw("204 No Content"))
        code, out, _ = await run(events, "resume", "hooked", "--json")
        assert (code, orjson.loads(out)["state"]) == (0, "active")
        code, out, _ = await run(events, "replay", "hooked", "--from", "earliest", "--json")
        assert (code, orjson.loads(out)["run"]) == (0, 2)
        await until(lambda: len(receiver.asked) == 2, "the event again")
        _, again = await events.deliveries("hooked", publication)
        assert (await events.rig.outcome(again))[-1] == "succeeded"

    for one in (refused, again):
        await projected(events.rig, one)
    code, out, _ = await run(events, "deliveries", "hooked")
    assert code == 0
    newest, oldest = out.splitlines()[1:]
    assert again in newest and "succeeded" in newest and "204" in newest
    assert refused in oldest and "refused" in oldest and "410" in oldest
    _, out, _ = await run(events, "deliveries", "hooked", "--state", "refused", "--json")
    assert [found["transaction"] for found in map(orjson.loads, out.splitlines())] == [refused]
    _, out, _ = await run(events, "deliveries", "own-service", "--limit", "1", "--json")
    assert orjson.loads(out)["transaction"] == tx


async def test_what_is_wrong_is_told(events: Events) -> None:
    code, out, err = await run(events, "show", "..", by="caller")
    assert (code, out) == (1, "")
    assert "422 invalid-identifier" in err
    _, _, err = await run(events, "show", "nobody-s", by="caller", language="vi")
    assert "(404 not-found)" in err
    await events.subscribe("mine")
    code, _, err = await run(events, "replay", "mine", "--from", "tomorrow", by="caller")
    assert code == 1
    assert "422" in err
    code, _, err = await run(events, "resume", "mine", by="stranger")
    assert code == 1
    assert "403 scope-missing" in err
