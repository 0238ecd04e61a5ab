"""What the tests of back ends share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.backends.scripted import Scripted, scripted


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as found:
        yield found
