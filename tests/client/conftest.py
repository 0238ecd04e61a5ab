"""One gateway for all tests of a module, with a quick relay; its provider is set back after each. Both clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from ngsp.local.postgres import LocalPostgres
from tests.client.between import Between, between
from tests.client.hands import KIND, Hands, hands
from tests.support.gateway import Provider, Rig, running_gateway, service
from tests.support.waiting import until


@pytest.fixture(scope="module")
async def module_rig(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    provider = Provider(
        services=[
            service("look-up"),
            service("officer", officer_required=True),
            service("guarded"),
            service("few"),
            service("slow", deadline_s=0.4),
            service("uncertain", effect="uncertain"),
            service("send", mode="submission", deadline_s=60),
        ],
        terms={"guarded": {"consent_required": True}, "few": {"quota_per_day": 1}},
    )
    quick: dict[str, Any] = {"retry_min_s": 0.02, "retry_max_s": 0.1, "relay_poll_s": 0.02, "project_s": 0.05}
    async with running_gateway(postgres, tmp_path_factory.mktemp("gateway"), provider, **quick) as rig:
        yield rig


@pytest.fixture
async def rig(module_rig: Rig) -> AsyncIterator[Rig]:
    module_rig.provider.seen.clear()
    yield module_rig
    module_rig.provider.act = Provider.act.__get__(module_rig.provider)  # type: ignore[method-assign]

    async def all_ended() -> bool:
        return not await module_rig.rows.fetchval("SELECT count(*) FROM outbox WHERE state = 'open'")

    await until(all_ended, "every submission of the test to end")


@pytest.fixture(params=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> KIND:
    return cast("KIND", request.param)


@pytest.fixture
async def bus(rig: Rig, kind: KIND) -> AsyncIterator[Hands]:
    async with hands(kind, rig) as found:
        yield found


@pytest.fixture
async def proxy(rig: Rig) -> AsyncIterator[Between]:
    async with between(rig.base_url) as found:
        yield found
