"""Adapter of the one-stop shop of Nghệ An: what its manifest declares."""

from __future__ import annotations

from pathlib import Path

from ngsp.adapter import Adapter

adapter = Adapter.load(Path(__file__).with_name("manifest.yaml"))
