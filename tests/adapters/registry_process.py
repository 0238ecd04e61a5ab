"""The stand-in registry of enterprises as a process of the tests' own."""

from __future__ import annotations

from pathlib import Path

from tests.adapters.stand_in import PROJECT as PROJECT
from tests.adapters.stand_in import StandIn


class RegistryProcess(StandIn):
    """Runs while the context is open."""

    def __init__(self, ready_file: Path | None = None) -> None:
        ready = ["--ready-file", str(ready_file)] if ready_file else []
        super().__init__("adapters.g12_enterprise.registry_server", *ready)
