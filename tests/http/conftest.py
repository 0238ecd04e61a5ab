"""Servers for the tests of the HTTP edge: on uvloop, as in production, and on asyncio's own loop."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from ngsp.api.edge import Limits
from tests.http.served import LOOPS, Served, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Serve = Callable[[Limits], Served]


@pytest.fixture(params=list(LOOPS))
def loop_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def serve_with(loop_name: str) -> Iterator[Serve]:
    """Starts a server with the given limits; it is stopped after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda limits: stack.enter_context(served(loop_name, limits))


@pytest.fixture
def fresh_server(serve_with: Serve) -> Served:
    """One server with the default limits for one test."""
    return serve_with(Limits())


@pytest.fixture(scope="module", params=list(LOOPS))
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    """One server with the default limits for a whole file."""
    with served(str(request.param), Limits()) as running:
        yield running
