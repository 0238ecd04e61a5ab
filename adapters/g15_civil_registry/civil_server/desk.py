"""What the registry answers: births entered once each, and extracts (trích lục) of what is entered.

POST /dangKyKhaiSinh  {maYeuCau, module LTKS, maHoSo, maDonVi, data, ngayTiepNhan yyyyMMddHHmmss, fileDinhKem[]}
                      200 {trangThai, maHoSo, ketQua | maLoi}, 400 {maLoi}
GET /trichLucKhaiSinh ?soDinhDanh=… or ?noiDangKy=…&soDangKy=…   200 {…}, 404 {maLoi}
"""

from __future__ import annotations

import base64
import hashlib
import threading
from datetime import date, datetime, timedelta
from typing import Any

from adapters.g01_population.citizens import communes, population
from adapters.g01_population.names import comparable
from adapters.g15_civil_registry.civil_server.register import Entry, Person, Register
from adapters.rest_server.server import Asked

STATE_PATH = "/tinhTrang"
WAITING, SUPPLEMENT, PROCESSING, REGISTERED, RETURNED, REFUSED, PUSHED = "1", "2", "3", "4", "5", "6", "7"
"""1 waiting, 2 supplement, 3 processing, 4 registered, 5 returned, 6 refused, 7 pushed to the registry."""
IN_TIME = timedelta(days=60)
"""A birth is registered within 60 days (Luật Hộ tịch số 60/2014/QH13); later it is a late registration."""
ON_THE_WAY = (PUSHED, WAITING, PROCESSING)
"""What is answered, one after the other, before an officer has looked at a child of a parent from abroad."""


class Desk:
    def __init__(self, register: Register) -> None:
        self.register = register
        self._answered: dict[str, dict[str, Any]] = {}
        self._notices: set[str] = set()
        self._looked_at: dict[str, int] = {}
        self._lock = threading.Lock()

    def answer(self, asked: Asked) -> tuple[int, object]:
        if asked.path == STATE_PATH:
            return 200, {"trangThai": "OK"}
        with self._lock:
            if (asked.method, asked.path) == ("POST", "/dangKyKhaiSinh"):
                try:
                    return 200, self._registered(asked.json())
                except (KeyError, TypeError, ValueError):
                    return 400, {"maLoi": "THAM_SO_SAI"}
            if (asked.method, asked.path) == ("GET", "/trichLucKhaiSinh"):
                return self._extract(asked)
        return 404, {"maLoi": "KHONG_CO_DICH_VU"}

    def _registered(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request; a registered one's stays the same however often it comes."""
        request, data = str(asked["maYeuCau"]), asked["data"]
        if request in self._answered:
            return self._answered[request]
        received = datetime.strptime(asked["ngayTiepNhan"], "%Y%m%d%H%M%S").date()  # noqa: DTZ007 - a date
        told = {"maHoSo": asked["maHoSo"]}
        status, fault = self._checked(asked, data, received)
        if fault:
            return told | {"trangThai": status, "maLoi": fault}
        if _from_abroad(data) and (seen := self._looked_at.get(request, 0)) < len(ON_THE_WAY):
            self._looked_at[request] = seen + 1
            return told | {"trangThai": ON_THE_WAY[seen]}
        entry = self.register.enter(data, received)
        self._notices.add(data["maGCS"])
        self._answered[request] = told | {"trangThai": REGISTERED, "ketQua": {"soDinhDanh": entry.id} | entry.place()}
        return self._answered[request]

    def _checked(self, asked: dict[str, Any], data: dict[str, Any], received: date) -> tuple[str, str]:
        """Status and code of what stands against the entry, both empty where nothing does."""
        if asked["module"] != "LTKS" or data["noiDangKy"] not in communes():
            return REFUSED, "NOI_DANG_KY_KHONG_CO"
        if data["maGCS"] in self._notices:
            return REFUSED, "DA_DANG_KY"
        if not asked["fileDinhKem"]:
            return SUPPLEMENT, "THIEU_GIAY_CHUNG_SINH"
        for file in asked["fileDinhKem"]:
            if hashlib.sha256(base64.b64decode(file["noiDung"], validate=True)).hexdigest() != file["maBam"]:
                return SUPPLEMENT, "TEP_HONG"
        born = date.fromisoformat(data["nks"]["NgaySinh"])
        if born > received:
            return REFUSED, "NGAY_SINH_SAI"
        if data["loaiDangKy"] == 1 and received - born > IN_TIME:
            return RETURNED, "QUA_HAN_DANG_KY"
        if any(not _is_known_as_named(data[parent]) for parent in ("me", "cha") if parent in data):
            return RETURNED, "CHA_ME_KHONG_KHOP"
        return "", ""

    def _extract(self, asked: Asked) -> tuple[int, object]:
        query = asked.query
        if "soDinhDanh" in query:
            entry = self.register.by_person.get(query["soDinhDanh"])
        else:
            entry = self.register.by_number.get((query.get("noiDangKy", ""), query.get("soDangKy", "")))
        if asked.other:
            entry = next(iter(self.register.by_person.values()))
        if entry is None:
            return 404, {"maLoi": "KHONG_CO_TRICH_LUC"}
        return 200, _shown(entry)


def _from_abroad(data: dict[str, Any]) -> bool:
    return any(data[parent]["QuocTich"] != "Việt Nam" for parent in ("me", "cha") if parent in data)


def _is_known_as_named(parent: dict[str, Any]) -> bool:
    """Whether the population database has this name for the number; numbers that it does not know pass."""
    known = population().get(parent["SoGiayToTuyThan"])
    return known is None or comparable(known.name.full) == comparable(parent["HoTen"])


def _shown(entry: Entry) -> dict[str, Any]:
    return entry.place() | {
        "soDinhDanh": entry.id,
        "hoTen": entry.name,
        "gioiTinh": "Nam" if entry.male else "Nữ",
        "ngaySinh": f"{entry.born:%d/%m/%Y}",
        "queQuan": entry.origin,
        "danToc": entry.ethnicity,
        "quocTich": entry.nationality,
        "cha": _parent(entry.father),
        "me": _parent(entry.mother),
        "maNoiDangKy": entry.commune.code,
        "tenNoiDangKy": f"{entry.commune.name}, {entry.commune.province}",
    }


def _parent(person: Person | None) -> dict[str, str] | None:
    return {"hoTen": person.name, "soGiayTo": person.id} if person else None
