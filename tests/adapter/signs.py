"""How a test and the adapter in another process speak to each other: variables and files."""

from __future__ import annotations

from pathlib import Path

EFFECT_VARIABLE, NAME_VARIABLE, FOLDER_VARIABLE = "SAMPLE_EFFECT", "SAMPLE_NAME", "SAMPLE_FOLDER"


def begun_file(folder: Path, message: str) -> Path:
    """There once the effect of `message` was left."""
    return folder / f"{message}.begun"


def gate_file(folder: Path) -> Path:
    """While it is not there, no call ends."""
    return folder / "gate"
