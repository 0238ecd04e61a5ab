"""A gateway's identity side for each test module: real PostgreSQL, real routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.identity.side import Side, running_side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ngsp.local.postgres import LocalPostgres


@pytest.fixture(scope="module")
async def side(postgres: LocalPostgres) -> AsyncIterator[Side]:
    async with running_side(postgres) as running:
        yield running
