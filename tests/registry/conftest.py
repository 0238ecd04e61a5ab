"""A migrated database for a test, and one registry behind REST for each test module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.registry import Rig, running_rig, temporary_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ngsp.local.postgres import LocalPostgres


@pytest.fixture
async def url(postgres: LocalPostgres) -> AsyncIterator[str]:
    """A migrated database for one test."""
    async with temporary_database(postgres) as address:
        yield address


@pytest.fixture(scope="module")
async def rig(postgres: LocalPostgres) -> AsyncIterator[Rig]:
    async with running_rig(postgres) as running:
        yield running
