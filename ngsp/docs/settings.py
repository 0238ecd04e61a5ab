"""The table of settings in `docs/operations.md` from the settings class."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ngsp.config import Settings

BEGIN, END = "<!-- settings -->", "<!-- /settings -->"

SKELETON = f"""# Vận hành / Operations

## Cài đặt / Settings

{BEGIN}
{END}
"""


def with_settings(page: str) -> str:
    """`page` with the table between its markers. ValueError where they are not there once, in order."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after:
        raise ValueError(f"the page must hold {BEGIN} and {END} once")
    return f"{before}{BEGIN}\n{settings_table()}{END}{after}"


def settings_table() -> str:
    """One row for each setting: its variable, default, bounds and meaning."""
    prefix = Settings.model_config.get("env_prefix", "")
    rows = ["| Variable | Default | Bounds | Meaning |\n|---|---|---|---|\n"]
    for name, field in Settings.model_fields.items():
        cells = (f"`{prefix}{name.upper()}`", _default(field), _bounds(field), field.description or "")
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return "".join(rows)


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None:
        return "–"
    if isinstance(field.default, SecretStr):
        raise TypeError("a secret must not have a default")
    if field.default == "":
        return "empty"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return f"`{field.default}`"


def _bounds(field: FieldInfo) -> str:
    choices = _choices(field.annotation)
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    found: dict[str, Any] = {}
    for constraint in field.metadata:
        for name in ("ge", "gt", "le", "lt", "max_length", "pattern"):
            value = getattr(constraint, name, None)
            if value is not None:
                found[name] = value
    parts = []
    for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
        if name in found:
            parts.append(f"{sign} {found[name]:,}")
    if "max_length" in found:
        parts.append(f"at most {found['max_length']:,} characters")
    if "pattern" in found:
        parts.append(f"`{found['pattern']}`")
    return ", ".join(parts) or _kind(field.annotation)


def _choices(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _kind(annotation: Any) -> str:
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not type(None)]
    if get_origin(annotation) is Union and len(kinds) > 1:
        return "text"
    names = {Path: "path of a file", SecretStr: "secret", bool: "`true`, `false`", str: "text"}
    return names.get(kinds[0], "text")
