"""What the models of a manifest's parts have in common."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ngsp.registry.texts import detail_of, pointer
from ngsp.registry.yamlfiles import DocumentError, Source
from ngsp.text import Text, Wrong

PART = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, arbitrary_types_allowed=True)


class Part(BaseModel):
    """A part of a manifest: closed, frozen, and helpful about a key that it does not know."""

    model_config = PART

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if isinstance(value, dict):
            known = {field.alias or name: None for name, field in cls.model_fields.items()}
            for key in value:
                if key not in known:
                    close = get_close_matches(str(key), known, 1)
                    raise PydanticCustomError(
                        "unknown_key", "unknown key", {"key": str(key), "known": ", ".join(close or known)}
                    )
        return value


def mistake(source: Source, place: str, text: Text) -> DocumentError:
    """`text` about `place` (a JSON pointer) in `source`; the place stands in the message too."""
    shown = place or "/"
    return source.wrong(place, Text(f"{shown}: {text.vi}", f"{shown}: {text.en}"))


def mistakes(source: Source, place: str, error: ValidationError, value: Any) -> Iterator[DocumentError]:
    """What pydantic found in `value`, which stands at `place` in `source`."""
    for found in error.errors(include_url=False, include_input=False):
        context = found.get("ctx", {})
        path = list(_path(value, found["loc"], found["type"]))
        if found["type"] == "unknown_key":
            path.append(context["key"])
        elif isinstance(context.get("error"), Wrong):
            path += context["error"].path
        yield mistake(source, place + pointer(path), detail_of(found["type"], context))


def _path(value: Any, steps: tuple[str | int, ...], kind: str) -> Iterator[str | int]:
    """`steps` without those that are not in the document: pydantic names the member of a union it tried."""
    for number, step in enumerate(steps):
        inside, value = _below(value, step)
        if inside or (kind == "missing" and number == len(steps) - 1):
            yield step


def _below(value: Any, step: str | int) -> tuple[bool, Any]:
    if isinstance(value, dict) and step in value:
        return True, value[step]
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return True, value[step]
    return False, value
