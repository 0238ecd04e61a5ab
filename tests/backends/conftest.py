"""What the tests of back ends share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.backends.scripted import Scripted, scripted
from tests.backends.sql_office import Serve, furnish, serve_from
from tests.support.providers import Provider


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as found:
        yield found


@pytest.fixture
async def register(provider: Provider) -> Provider:
    """A provider whose database holds the tables of `sql_office`."""
    await furnish(provider)
    return provider


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    return serve_from(tmp_path)
