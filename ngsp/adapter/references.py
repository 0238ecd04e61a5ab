"""Secrets and addresses by reference: a manifest says where a value is found, never what it is.

{env: NGSP_G12_ID}               the variable's value
{file: secrets/g12.secret}       what the file holds, relative to the manifest
{file_env: NGSP_G12_SECRET_FILE} what the file holds that the variable names
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from ngsp.adapter.manifest import ManifestError
from ngsp.adapter.models import Part
from ngsp.registry.texts import Wrong
from ngsp.text import Text, tr

LARGEST_VALUE_BYTES = 64 * 1024

_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]{0,99}$"


def _no_literal(value: Any) -> Any:
    if not isinstance(value, dict):
        raise Wrong(
            Text(
                "Không ghi giá trị vào bản khai: hãy viết {env: TÊN}, {file: ĐƯỜNG_DẪN} hoặc {file_env: TÊN}.",
                "No value in a manifest: write {env: NAME}, {file: PATH} or {file_env: NAME}.",
            )
        )
    return value


class _Reference(Part):
    env: Annotated[str, Field(pattern=_VARIABLE)] | None = None
    file: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    file_env: Annotated[str, Field(pattern=_VARIABLE)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise Wrong(Text("Dùng đúng một: env, file hoặc file_env.", "Give exactly one: env, file or file_env."))
        return self


Reference = Annotated[_Reference, BeforeValidator(_no_literal)]
"""Where a value is found; a value in its place is refused."""


def _text_or_reference(value: Any) -> Any:
    if isinstance(value, str) and value:
        return value
    return _Reference.model_validate(_no_literal(value))


Plain = Annotated[str | _Reference, PlainValidator(_text_or_reference)]
"""What is no secret (a user's or an application's name): the text itself, or where it is found."""


@dataclass(frozen=True)
class Surroundings:
    """What the values of references are taken from. `folder`: of the manifest."""

    folder: Path
    environment: Callable[[str], str | None] = os.environ.get

    def value(self, reference: _Reference) -> str:
        """What `reference` leads to. ManifestError with what is missing; the value is never in the message."""
        if reference.env is not None:
            return self._variable(reference.env)
        return self.path(reference).read_text("utf-8").strip()

    def plain(self, given: str | _Reference) -> str:
        """The text, or what the reference leads to."""
        return given if isinstance(given, str) else self.value(given)

    def path(self, reference: _Reference) -> Path:
        """The file that `reference` leads to, itself. ManifestError where it cannot be read."""
        name = reference.file_env or reference.env
        path = self.folder / (self._variable(name) if name else reference.file or "")
        try:
            with path.open("rb") as file:
                if len(file.read(LARGEST_VALUE_BYTES + 1)) > LARGEST_VALUE_BYTES:
                    raise ManifestError(tr(f"{path}: tệp lớn hơn 64 KiB", f"{path}: the file is larger than 64 KiB"))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            origin = f" ({name})" if name else ""
            raise ManifestError(
                tr(
                    f"{path}{origin}: không đọc được ({reason}): hãy tạo tệp",
                    f"{path}{origin}: cannot be read ({reason}): make the file",
                )
            ) from None
        return path

    def _variable(self, name: str) -> str:
        value = self.environment(name)
        if not value:
            raise ManifestError(tr(f"Chưa đặt biến môi trường {name}", f"The variable {name} is not set"))
        return value.strip()
