"""Who is calling, once that is proved."""

from __future__ import annotations

from dataclasses import dataclass

from ngsp.registry.model import Client


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated client. `scopes`: those the token asks for and the client has now."""

    client: Client
    scopes: frozenset[str]

    def __repr__(self) -> str:
        return f"Caller({self.client.id}, {sorted(self.scopes)})"

    def has_any(self, scopes: frozenset[str]) -> bool:
        return not self.scopes.isdisjoint(scopes)
