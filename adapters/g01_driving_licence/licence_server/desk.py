"""What the driving-licence database does: look up, and take renewals in."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from typing import Any

from adapters.g01_driving_licence.licence_server.licences import NEW_CLASSES_SINCE, Licence
from adapters.soap_server.messages import BAD_DATA, Call, Fault
from adapters.soap_server.repeats import Repeats
from adapters.soap_server.server import Work

WORKING_DAYS = 5
HEALTH_CERTIFICATE_DAYS = 365
SUCCESSORS = {"A1": "A", "A2": "A", "A3": "B1", "B1": "B", "B2": "B", "D": "D2", "E": "D", "FC": "CE"}
"""What a class of before 2025 is renewed as (Law 36/2024/QH15); the others keep their name."""
WITHOUT_HEALTH_CERTIFICATE = frozenset(("A1", "A", "B1"))
_HOLIDAYS = frozenset(((1, 1), (4, 30), (5, 1), (9, 2)))
"""Those with a fixed date; those of the lunar year are announced each year and not known here."""
_HANOI = timezone(timedelta(hours=7))


class Desk:
    """The operations of the WSDL over `licences`."""

    def __init__(self, licences: Mapping[str, Licence]) -> None:
        self.licences = licences
        self._held: dict[str, list[Licence]] = {}
        for licence in licences.values():
            self._held.setdefault(licence.holder.id, []).append(licence)
        self._repeats = Repeats()
        self._in_work: set[str] = set()
        self._files = itertools.count(1)

    def work(self) -> dict[str, Work]:
        return {"TraCuuGPLX": self._look_up, "TiepNhanDoiGPLX": self._renew}

    def _look_up(self, call: Call) -> Mapping[str, Any]:
        number = call.body["SoGPLX"]
        found = self._held.get(call.body["SoDinhDanh"], []) if number is None else [self.licences.get(number)]
        fitting = [each for each in found if each is not None and _written(each.holder.born) == call.body["NgaySinh"]]
        if not fitting:
            raise Fault("KHONG_TIM_THAY", "Không tìm thấy giấy phép lái xe")
        return _answer(call, GiayPhep=[record(licence) for licence in fitting])

    def _renew(self, call: Call) -> Mapping[str, Any]:
        return self._repeats.once(call.body["MaYeuCau"], call, lambda: self._renewed(call, _today()))

    def _renewed(self, call: Call, today: date) -> Mapping[str, Any]:
        licence = self.licences.get(call.body["SoGPLX"])
        if (
            licence is None
            or licence.holder.id != call.body["SoDinhDanh"]
            or _written(licence.holder.born) != call.body["NgaySinh"]
        ):
            raise Fault("KHONG_TIM_THAY", "Không tìm thấy giấy phép lái xe")
        if licence.status in ("03", "04"):
            raise Fault("KHONG_CON_QUYEN", "Giấy phép đang bị tước quyền sử dụng hoặc đã bị thu hồi")
        classes = renewed_classes(licence)
        if not WITHOUT_HEALTH_CERTIFICATE.issuperset(classes):
            _check_health(call.body["GiayKhamSucKhoe"], today)
        if licence.number in self._in_work:
            raise Fault("DANG_XU_LY", "Giấy phép này đã có hồ sơ đang xử lý")
        self._in_work.add(licence.number)
        return _answer(
            call,
            SoTiepNhan=f"GPLX-{today:%y%m%d}-{next(self._files):05d}",
            NgayTiepNhan=_written(today),
            NgayHenTra=_written(working_days_after(today, WORKING_DAYS)),
            HangDuocCap=classes,
        )


def renewed_classes(licence: Licence) -> list[str]:
    """The classes of the new card."""
    return [
        SUCCESSORS.get(each.code, each.code) if each.passed < NEW_CLASSES_SINCE else each.code
        for each in licence.classes
    ]


def working_days_after(day: date, number: int) -> date:
    """The day on which `number` working days after `day` are over."""
    while number:
        day += timedelta(days=1)
        number -= day.weekday() < 5 and (day.month, day.day) not in _HOLIDAYS
    return day


def _check_health(certificate: Mapping[str, Any] | None, today: date) -> None:
    if certificate is None:
        raise Fault("THIEU_GIAY_KHAM", "Hạng này cần giấy khám sức khỏe của người lái xe")
    try:
        issued = datetime.strptime(certificate["NgayCap"], "%Y%m%d").replace(tzinfo=_HANOI).date()
    except ValueError:
        raise Fault(BAD_DATA, "Không có ngày này") from None
    if not timedelta() <= today - issued <= timedelta(days=HEALTH_CERTIFICATE_DAYS):
        raise Fault("GIAY_KHAM_HET_HAN", "Giấy khám sức khỏe không còn giá trị")


def record(licence: Licence) -> dict[str, Any]:
    """The element `GiayPhep` of the XSD."""
    code, name = licence.authority
    return {
        "SoGPLX": licence.number,
        "SoDinhDanh": licence.holder.id,
        "HoVaTen": licence.holder.name.full,
        "NgaySinh": _written(licence.holder.born),
        "NgayCap": _written(licence.issued),
        "NoiCap": {"_value_1": name, "Ma": code},
        "TinhTrang": licence.status,
        "DiemConLai": licence.points,
        "Hang": [
            {
                "MaHang": each.code,
                "NgayTrungTuyen": _written(each.passed),
                "NgayHetHan": None if each.until is None else _written(each.until),
            }
            for each in licence.classes
        ],
    }


def _answer(call: Call, **values: Any) -> Mapping[str, Any]:
    at = f"{datetime.now(_HANOI):%Y%m%d%H%M%S}"
    return {"MaYeuCau": call.body["MaYeuCau"], "ThoiDiemTraLoi": at} | values


def _today() -> date:
    return datetime.now(_HANOI).date()


def _written(day: date) -> str:
    return f"{day:%Y%m%d}"
