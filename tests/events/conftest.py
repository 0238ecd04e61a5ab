"""A receiver of webhooks, and what sends to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.backends.scripted import Scripted, always, raw, scripted
from tests.events.sending import Sender, sender


@pytest.fixture
async def receiver() -> AsyncIterator[Scripted]:
    async with scripted() as found:
        found.answer = always(raw("204 No Content"))
        yield found


@pytest.fixture
async def sending() -> AsyncIterator[Sender]:
    async with sender() as found:
        yield found
