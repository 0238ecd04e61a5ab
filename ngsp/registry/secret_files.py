"""Secrets written to files for their owner alone, and taken away again where what they belong to did not happen."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from ngsp.errors import StateConflict
from ngsp.text import Text


class SecretFiles:
    """Files of mode 0600 that stay only if `keep()` is called before the end: the commit may still fail."""

    def __init__(self) -> None:
        self._written: list[Path] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._written:
            file.unlink(missing_ok=True)

    def keep(self) -> None:
        self._written.clear()

    def write(self, file: Path, secret: str, dry_run: bool) -> None:
        """`StateConflict` where the file is there already or cannot be made: no file is ever written over."""
        try:
            if dry_run:
                if file.exists():
                    raise FileExistsError(file)
                return
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            self._written.append(file)
            with os.fdopen(descriptor, "w", encoding="ascii") as opened:
                opened.write(secret + "\n")
                opened.flush()
                os.fsync(opened.fileno())
        except FileExistsError:
            raise StateConflict(
                Text(
                    f"Tệp {file} đã có trong khi chưa có bí mật nào: hãy xóa hoặc đổi tên tệp.",
                    f"The file {file} exists though there is no secret yet: delete or rename it.",
                ),
                reason="the secret's file exists",
            ) from None
        except OSError as error:
            raise StateConflict(
                Text(
                    f"Không ghi được tệp {file} ({error.strerror}).",
                    f"The file {file} cannot be written ({error.strerror}).",
                ),
                reason="the secret's file cannot be written",
            ) from error
