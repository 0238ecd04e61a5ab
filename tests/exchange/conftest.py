"""One gateway for all tests of a module; its provider is set back after each."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ngsp.local.postgres import LocalPostgres
from tests.support.gateway import Provider, Rig, running_gateway


@pytest.fixture(scope="module")
async def module_rig(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with running_gateway(postgres, tmp_path_factory.mktemp("gateway")) as found:
        yield found


@pytest.fixture
async def rig(module_rig: Rig) -> AsyncIterator[Rig]:
    module_rig.provider.seen.clear()
    yield module_rig
    module_rig.provider.act = Provider.act.__get__(module_rig.provider)  # type: ignore[method-assign]
