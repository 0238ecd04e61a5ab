"""What the system answers: dossiers received once each, and how far they are. Always 200; `error_code` tells.

POST /TiepNhanHoSoMC {maYeuCau, data: [{MaHoSo, MaTTHC, MaDonVi, ChuHoSo, NgayNop yyyyMMddHHmmss, …}]}
                     {error_code, message, data: [{MaHoSo, SoBienNhan, NgayTiepNhan, NgayHenTra, …}]}
GET /TraCuuHoSoMC?maHoSo=…
                     {error_code, message, data: {MaHoSo, TrangThai, Buoc: […], …}}
POST /NhanThayDoiTTHC {maYeuCau, MaSuKien, MaTTHC, PhienBan, Loai, SoQuyetDinh, NgayHieuLuc yyyyMMdd}
                     {error_code, message, data: {MaSuKien, DaCo}}
GET /ThayDoiTTHC?maSuKien=…
                     {error_code, message, data: {MaSuKien, MaTTHC, PhienBan, Loai, SoQuyetDinh, NgayHieuLuc, SoLan}}

A dossier for a unit that nobody has mapped yet is kept, not received (state 3), with the reason: someone maps the unit
and it goes on. It is never dropped. A change of a procedure is taken once by its event, whatever comes again; `SoLan`
tells how often it came.
"""

from __future__ import annotations

import threading
from collections import Counter
from datetime import datetime
from typing import Any

from adapters.h41_dossiers.dossier_server.dossiers import (
    NOT_RECEIVED,
    PROCEDURES,
    RECEIVED,
    UNMAPPED,
    Dossier,
    Step,
    digest,
    due,
    opening,
    units,
)
from adapters.rest_server.server import Asked

STATE_PATH = "/tinhTrang"
_TIME = "%Y%m%d%H%M%S"
_CHANGE = ("MaSuKien", "MaTTHC", "PhienBan", "Loai", "SoQuyetDinh", "NgayHieuLuc")
_MESSAGES = {
    "DA_CO_HO_SO": "Mã hồ sơ đã có",
    "KHONG_CO_THU_TUC": "Thủ tục không thực hiện tại tỉnh",
    "KHONG_CO_HO_SO": "Không có hồ sơ",
    "KHONG_CO_SU_KIEN": "Không có sự kiện",
    "THAM_SO_SAI": "Tham số sai",
    UNMAPPED: "Đơn vị chưa được ánh xạ, hồ sơ được giữ lại",
}


class Desk:
    """`dossiers`: code → dossier; those that come are kept while the process runs."""

    def __init__(self, dossiers: dict[str, Dossier]) -> None:
        self.dossiers = dossiers
        self._units = units()
        self._answered: dict[str, dict[str, Any]] = {}
        self._changes: dict[str, dict[str, Any]] = {}
        self._came: Counter[str] = Counter()
        self._lock = threading.Lock()

    def answer(self, asked: Asked) -> tuple[int, object]:
        if asked.path == STATE_PATH:
            return 200, {"trangThai": "OK"}
        with self._lock:
            try:
                match asked.method, asked.path:
                    case "POST", "/TiepNhanHoSoMC":
                        return 200, self._received(asked.json())
                    case "GET", "/TraCuuHoSoMC":
                        return 200, self._found(asked.query["maHoSo"], asked.other)
                    case "POST", "/NhanThayDoiTTHC":
                        return 200, self._changed(asked.json())
                    case "GET", "/ThayDoiTTHC":
                        return 200, self._change(asked.query["maSuKien"])
            except (KeyError, TypeError, ValueError):
                return 200, _no("THAM_SO_SAI")
        return 404, {"error_code": "404", "message": "Không có dịch vụ"}

    def _received(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request stays the same however often it comes."""
        request, (told,) = str(asked["maYeuCau"]), asked["data"]
        if request not in self._answered:
            self._answered[request] = self._received_first(told)
        return self._answered[request]

    def _received_first(self, told: dict[str, Any]) -> dict[str, Any]:
        code, procedure, unit = told["MaHoSo"], told["MaTTHC"].partition(".000.")[0], told["MaDonVi"]
        sent = datetime.strptime(told["NgayNop"], _TIME)  # noqa: DTZ007 - all of the system is in the time of Việt Nam
        if code in self.dossiers:
            return _no("DA_CO_HO_SO")
        if procedure not in PROCEDURES:
            return _no("KHONG_CO_THU_TUC")
        if unit not in self._units:
            self.dossiers[code] = Dossier(
                code, procedure, unit, told["ChuHoSo"], NOT_RECEIVED, None, None, reason=UNMAPPED
            )
            return _no(UNMAPPED)
        received = opening(sent)
        ends = due(received, PROCEDURES[procedure][1])
        steps = (Step("Tiếp nhận hồ sơ", received, None),)
        self.dossiers[code] = Dossier(code, procedure, unit, told["ChuHoSo"], RECEIVED, received, ends, steps)
        receipt = {
            "MaHoSo": code,
            "SoBienNhan": f"BN-{code.partition('-')[2]}",
            "NgayTiepNhan": received.strftime(_TIME),
            "NgayHenTra": ends.strftime(_TIME),
            "MaDonVi": unit,
            "TenDonVi": self._units[unit],
        }
        return {"error_code": "0", "message": "OK", "data": [receipt]}

    def _changed(self, told: dict[str, Any]) -> dict[str, Any]:
        event = str(told["MaSuKien"])
        there = event in self._changes
        if not there:
            self._changes[event] = {name: str(told[name]) for name in _CHANGE}
        self._came[event] += 1
        return {"error_code": "0", "message": "OK", "data": {"MaSuKien": event, "DaCo": there}}

    def _change(self, event: str) -> dict[str, Any]:
        if event not in self._changes:
            return _no("KHONG_CO_SU_KIEN")
        return {"error_code": "0", "message": "OK", "data": self._changes[event] | {"SoLan": self._came[event]}}

    def _found(self, code: str, other: bool) -> dict[str, Any]:
        dossier = next(iter(self.dossiers.values())) if other else self.dossiers.get(code)
        if dossier is None:
            return _no("KHONG_CO_HO_SO")
        return {"error_code": "0", "message": "OK", "data": self._shown(dossier)}

    def _shown(self, dossier: Dossier) -> dict[str, Any]:
        returned = dossier.steps[-1].end if dossier.status == 10 else None
        return {
            "MaHoSo": dossier.code,
            "MaTTHC": dossier.procedure,
            "TenTTHC": PROCEDURES[dossier.procedure][0],
            "MaDonVi": dossier.unit,
            "TenDonVi": self._units.get(dossier.unit, ""),
            "ChuHoSo": dossier.applicant,
            "TrangThai": str(dossier.status),
            "NgayTiepNhan": _written(dossier.received),
            "NgayHenTra": _written(dossier.due),
            "NgayTra": _written(returned),
            "Buoc": [
                {"Ten": step.name, "BatDau": _written(step.begin), "KetThuc": _written(step.end)}
                for step in dossier.steps
            ],
            "KetQua": {"SoVanBan": dossier.result, "MaBam": digest(dossier.result)} if dossier.result else None,
            "LyDo": dossier.reason,
        }


def _written(moment: datetime | None) -> str:
    return moment.strftime(_TIME) if moment else ""


def _no(code: str) -> dict[str, Any]:
    return {"error_code": code, "message": _MESSAGES[code]}
