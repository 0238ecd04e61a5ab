"""`ngsp adapter new`: a folder to begin from, which passes its own contract test as it is written."""

from __future__ import annotations

import re
from pathlib import Path

from ngsp.adapter.manifest import ManifestError
from ngsp.text import tr

STARTERS = Path(__file__).with_name("starters")
COMMON = "common"
KINDS = tuple(sorted(folder.name for folder in STARTERS.iterdir() if folder.is_dir() and folder.name != COMMON))
"""Kinds of back end that there is a beginning for."""

_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_PROVIDER = re.compile(r"[A-Z]\d{2}(?:\.[0-9A-Z]+)*")
_LONGEST_NAME = 60


def begin(folder: Path, name: str, provider: str, kind: str) -> list[Path]:
    """Writes the folder; returns its files. ManifestError where the name will not do or the folder holds something.

    `provider`: the member's code; empty where `name` begins with it (`h14-land`: H14, service `land`).
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise ManifestError(
            tr(f"«{name}»: dùng chữ thường, số và gạch nối", f"'{name}': use small letters, digits and hyphens")
        )
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise ManifestError(tr(f"«{kind}»: phải là một trong {known}", f"'{kind}': must be one of {known}"))
    first, _, rest = name.partition("-")
    if not provider and _PROVIDER.fullmatch(first.upper()):
        provider, service = first.upper(), rest or "look-up"
    else:
        service = name
    if not _PROVIDER.fullmatch(provider):
        raise ManifestError(
            tr(
                "Chưa rõ mã cơ quan cung cấp: hãy thêm --provider, ví dụ --provider H14",
                "The provider's member code is not known: add --provider, such as --provider H14",
            )
        )
    if folder.exists() and any(folder.iterdir()):
        raise ManifestError(tr(f"{folder}: thư mục đã có nội dung", f"{folder}: the folder holds something already"))
    places = {
        "__NAME__": name,
        "__MODULE__": name.replace("-", "_"),
        "__PROVIDER__": provider,
        "__SERVICE__": service,
        "__VARIABLE__": "NGSP_" + re.sub(r"[^A-Z0-9]+", "_", name.upper()),
        "__FOLDER__": str(folder),
    }
    return [_write(source, folder, places) for source in _sources(kind)]


def _sources(kind: str) -> list[tuple[Path, Path]]:
    """Each file of the beginning and where it goes; a kind's own file stands in for the common one."""
    found = {
        file.relative_to(STARTERS / part): file
        for part in (COMMON, kind)
        for file in sorted((STARTERS / part).rglob("*"))
        if file.is_file()
    }
    return [(file, place) for place, file in found.items()]


def _write(source: tuple[Path, Path], folder: Path, places: dict[str, str]) -> Path:
    file, place = source
    text, name = file.read_text("utf-8"), place.name.removesuffix(".in")
    for mark, value in places.items():
        text, name = text.replace(mark, value), name.replace(mark, value)
    target = folder / place.with_name(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, "utf-8")
    return target
