"""Back ends by kind. Each is imported only where a manifest names it, with the libraries it needs."""

from __future__ import annotations

import importlib
from typing import Any

from ngsp.adapter.backends.base import Backend

KINDS = {"rest": "Rest", "soap": "Soap", "sql": "Sql", "file": "File"}
"""Kind → class, in the module `ngsp.adapter.backends.{kind}`."""


def backend_class(kind: str) -> type[Backend[Any, Any]]:
    """The class of a kind in `KINDS`."""
    found: type[Backend[Any, Any]] = getattr(importlib.import_module(f"ngsp.adapter.backends.{kind}"), KINDS[kind])
    return found
