"""One registry behind REST for each test module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.registry import Rig, running_rig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ngsp.local.postgres import LocalPostgres


@pytest.fixture(scope="module")
async def rig(postgres: LocalPostgres) -> AsyncIterator[Rig]:
    async with running_rig(postgres) as running:
        yield running
