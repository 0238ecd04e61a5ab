"""What the routes work with: put together in `ngsp/app.py`, found through the request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from starlette.requests import Request

if TYPE_CHECKING:
    from ngsp.config import Settings
    from ngsp.identity.tokens import Tokens
    from ngsp.registry.store import Registry


@dataclass(slots=True)
class Parts:
    """The running gateway's collaborators."""

    settings: Settings
    registry: Registry
    tokens: Tokens


def parts(request: Request) -> Parts:
    return cast("Parts", request.app.state.parts)
