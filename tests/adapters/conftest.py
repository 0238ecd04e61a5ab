"""What the adapters' tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.adapters.registry_process import RegistryProcess


@pytest.fixture(scope="session")
async def registry() -> AsyncIterator[RegistryProcess]:
    """One stand-in registry for the run; each test sets the fault it wants."""
    async with RegistryProcess() as process:
        yield process
