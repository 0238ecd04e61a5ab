"""The office's side of the folder. Every file has its checksum beside it, and is moved into place when it is whole.

lo/2026-01-02.csv      the declarations of a day
den/{name}.json        what is left for the office: taken away once it was read
ket-qua/{name}.json    its answer
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import threading
from pathlib import Path
from typing import Any

from adapters.g12_customs.customs_office.declarations import batches
from adapters.g12_enterprise.registry_server.data import enterprises

CHECKSUM = ".sha256"


class Office:
    """Reads and writes `folder`. `taken`: how many files it has read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self.taken = 0
        for name in ("lo", "den", "ket-qua"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def lay_batches(self) -> None:
        """The batches of all days, where they are not there yet."""
        for day, rows in batches().items():
            target = self._folder / "lo" / f"{day.isoformat()}.csv"
            if not target.with_name(target.name + CHECKSUM).exists():
                out = io.StringIO(newline="")
                writer = csv.DictWriter(out, list(rows[0]), lineterminator="\r\n")
                writer.writeheader()
                writer.writerows(rows)
                _lay(target, b"\xef\xbb\xbf" + out.getvalue().encode())

    def look(self) -> None:
        """Answers what was left since the last look."""
        with self._lock:
            for file in sorted((self._folder / "den").glob("*.json")):
                checksum = file.with_name(file.name + CHECKSUM)
                if checksum.exists() and checksum.read_text("ascii")[:64] == _digest(file.read_bytes()):
                    self._answer(file)
                    checksum.unlink()
                    file.unlink()

    def _answer(self, file: Path) -> None:
        self.taken += 1
        target = self._folder / "ket-qua" / file.name
        if not target.exists():
            _lay(target, json.dumps(self._judge(json.loads(file.read_bytes())), ensure_ascii=False).encode())

    def _judge(self, declaration: dict[str, Any]) -> dict[str, Any]:
        if declaration.get("MA_SO_THUE") not in enterprises():
            return {"KET_QUA": "TU_CHOI", "MA_LOI": "MST_KHONG_HOAT_DONG"}
        count = len(list((self._folder / "ket-qua").glob("*.json")))
        channel = 1 if int(declaration["TRI_GIA"]) < 1_000_000_000 else 3
        return {"KET_QUA": "TIEP_NHAN", "SO_TK": f"8{count + 1:011d}", "LUONG": str(channel)}


def _lay(target: Path, data: bytes) -> None:
    for file, content in (
        (target, data),
        (target.with_name(target.name + CHECKSUM), f"{_digest(data)}  {target.name}\n".encode()),
    ):
        unfinished = file.with_name(f".{file.name}.tmp")
        unfinished.write_bytes(content)
        unfinished.rename(file)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
