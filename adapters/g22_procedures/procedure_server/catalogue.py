"""What the database answers: the version in force on a day, and what changed since a number.

GET /thuTuc/{maThuTuc}?ngay=dd/MM/yyyy   200 {…, luuTamGiay}, 404 {maLoi}; the code with an organ's suffix too
GET /thayDoi?sau=…&toiDa=…               200 {danhSach: […], cuoi, conNua}, 409 {maLoi} for a number yet to come
POST /thuTuc/{maThuTuc}/phienBan {quyetDinh}
                                         201 {so, maThuTuc, phienBan, hieuLucTu}, 404, 409 {maLoi}: amends it

`luuTamGiay`: for how many seconds the answer may be kept: an hour, or until the version ends. `sau` left out: behind
what the database was filled with at its opening, so that who follows its changes gets those that are its own.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any

from adapters.g01_population.names import Draw
from adapters.g22_procedures.procedure_server.procedures import COMMUNE, MINISTRY, Version, procedures
from adapters.rest_server.server import Asked

STATE_PATH = "/tinhTrang"
HOLDS_S = 3_600
MOST_CHANGES = 500
NOTICE_DAYS = 15
_VIETNAM = timezone(timedelta(hours=7))
_CODE = re.compile(r"([12]\.[0-9]{6})(?:\.000\.00\.00\.([GH][0-9]{2}))?")
_LEVELS = {COMMUNE: "Cấp xã", "TINH": "Cấp tỉnh", MINISTRY: "Cấp bộ"}


@dataclass(frozen=True, slots=True)
class Event:
    """What is told of a change. `kind`: BAN_HANH the first version, SUA_DOI a later one, BAI_BO the end."""

    day: date
    code: str
    version: int
    kind: str
    decision: str
    since: date


class Catalogue:
    """Procedures and the log of their changes, numbered from 1. `clock`: what time it is, aware. `kept`: the file that
    holds the amendments, one JSON object a line; without it they last as long as the process."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC), kept: Path | None = None) -> None:
        self._clock, self._kept = clock, kept
        self._lock = threading.Lock()
        self.procedures = procedures()
        self.events = sorted(
            (event for code, versions in self.procedures.items() for event in _events(code, versions)),
            key=lambda event: (event.day, event.code, event.version, event.kind),
        )
        self._filled_with = len(self.events)
        for line in kept.read_text("utf-8").splitlines() if kept and kept.exists() else ():
            amended = json.loads(line)
            self._amend(amended["maThuTuc"], amended["quyetDinh"], date.fromisoformat(amended["ngayCongBo"]))

    def answer(self, asked: Asked) -> tuple[int, object]:
        if asked.path == STATE_PATH:
            return 200, {"trangThai": "OK"}
        try:
            match asked.method, asked.path.removeprefix("/").split("/"):
                case "GET", ["thuTuc", code]:
                    return self._version(next(iter(self.procedures)) if asked.other else code, asked.query.get("ngay"))
                case "GET", ["thayDoi"]:
                    after = int(asked.query.get("sau", self._filled_with))
                    return self._changes(after, int(asked.query.get("toiDa", "100")))
                case "POST", ["thuTuc", code, "phienBan"]:
                    return self._amended(code, asked.json()["quyetDinh"])
        except (KeyError, TypeError, ValueError):
            return 400, {"maLoi": "THAM_SO_SAI"}
        return 404, {"maLoi": "KHONG_CO_DICH_VU"}

    def _version(self, wanted: str, day: str | None) -> tuple[int, object]:
        code = _CODE.fullmatch(wanted)
        if code is None or code[1] not in self.procedures:
            return 404, {"maLoi": "KHONG_CO_THU_TUC"}
        now = self._clock().astimezone(_VIETNAM)
        on = datetime.strptime(day, "%d/%m/%Y").date() if day else now.date()  # noqa: DTZ007 - a date
        versions = self.procedures[code[1]]
        version = next(
            (each for each in versions if each.since <= on and (each.until is None or on <= each.until)), None
        )
        if version is None:
            return 404, {"maLoi": "KHONG_CO_HIEU_LUC"}
        holds_s = HOLDS_S
        if not day and version.until is not None:
            end = datetime.combine(version.until + timedelta(days=1), time(), _VIETNAM)
            holds_s = min(HOLDS_S, int((end - now).total_seconds()))
        return 200, _shown(wanted, code[2] or "", version, versions) | {"luuTamGiay": holds_s}

    def _amended(self, code: str, decision: str) -> tuple[int, object]:
        today = self._clock().astimezone(_VIETNAM).date()
        with self._lock:
            if code not in self.procedures:
                return 404, {"maLoi": "KHONG_CO_THU_TUC"}
            if self.procedures[code][-1].until is not None:
                return 409, {"maLoi": "DA_BAI_BO"}
            if self._kept:
                line = {"maThuTuc": code, "quyetDinh": decision, "ngayCongBo": today.isoformat()}
                with self._kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
            event = self._amend(code, decision, today)
            told = {"so": len(self.events), "maThuTuc": code, "phienBan": event.version}
            return 201, told | {"hieuLucTu": f"{event.since:%d/%m/%Y}"}

    def _amend(self, code: str, decision: str, day: date) -> Event:
        """The next version, in force from some days after it was published and after the one before it."""
        *older, last = self.procedures[code]
        since = max(day, last.since) + timedelta(days=NOTICE_DAYS)
        new = replace(last, number=last.number + 1, decision=decision, published=day, since=since)
        self.procedures[code] = (*older, replace(last, until=since - timedelta(days=1)), new)
        self.events.append(Event(day, code, new.number, "SUA_DOI", decision, since))
        return self.events[-1]

    def _changes(self, after: int, most: int) -> tuple[int, object]:
        if after < 0 or not 1 <= most <= MOST_CHANGES:
            raise ValueError("out of range")
        if after > len(self.events):
            return 409, {"maLoi": "SO_CHUA_CO"}
        found = self.events[after : after + most]
        return 200, {
            "danhSach": [
                {
                    "so": number,
                    "maThuTuc": event.code,
                    "phienBan": event.version,
                    "loai": event.kind,
                    "quyetDinh": event.decision,
                    "ngayCongBo": f"{event.day:%d/%m/%Y}",
                    "hieuLucTu": f"{event.since:%d/%m/%Y}",
                }
                for number, event in enumerate(found, after + 1)
            ],
            "cuoi": after + len(found),
            "conNua": after + len(found) < len(self.events),
        }


def _events(code: str, versions: tuple[Version, ...]) -> list[Event]:
    events = [
        Event(
            each.published, code, each.number, "BAN_HANH" if each.number == 1 else "SUA_DOI", each.decision, each.since
        )
        for each in versions
    ]
    last = versions[-1]
    if last.until is not None:
        ended = last.until + timedelta(days=1)
        events.append(Event(ended, code, last.number, "BAI_BO", last.decision, ended))
    return events


def _shown(wanted: str, organ: str, version: Version, versions: tuple[Version, ...]) -> dict[str, Any]:
    """An organ may have promised to be quicker than the procedure asks."""
    quicker = Draw(f"rút ngắn 1/{wanted}").below(1 + version.days // 3) if organ else 0
    return {
        "maThuTuc": wanted,
        "coQuan": organ,
        "ten": version.name,
        "linhVuc": version.field,
        "cap": _LEVELS[version.level],
        "thoiHan": str(version.days - quicker),
        "phi": str(version.fee),
        "thanhPhan": [
            {
                "ten": part.name,
                "banChinh": part.originals,
                "banSao": part.copies,
                "batBuoc": "1" if part.required else "0",
            }
            for part in version.parts
        ],
        "lienQuan": list(version.related),
        "phienBan": version.number,
        "cacPhienBan": [
            {
                "phienBan": each.number,
                "quyetDinh": each.decision,
                "hieuLucTu": f"{each.since:%d/%m/%Y}",
                "hieuLucDen": f"{each.until:%d/%m/%Y}" if each.until else "",
            }
            for each in versions
        ],
    }
