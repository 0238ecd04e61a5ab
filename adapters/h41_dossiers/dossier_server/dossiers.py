"""Dossiers of 2025 in every state, the same at every start; units and procedures of the province; working days."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from adapters.g01_population.citizens import communes, population
from adapters.g01_population.names import Draw

SEEDED = 12_000
PROVINCE, PROVINCE_CODE = "H41", "40"
OPENS, CLOSES = time(7, 30), time(17, 0)
FIRST_SENT = datetime.combine(date(2025, 1, 2), time(8))
NEW, RECEIVED, NOT_RECEIVED, PROCESSING, SUPPLEMENT, FEE_DUE, WITHDRAWN, STOPPED, DONE, RETURNED = range(1, 11)
UNMAPPED = "CHUA_ANH_XA_DON_VI"
PROCEDURES = {
    "1.001193": ("Đăng ký khai sinh", 1),
    "2.000986": ("Liên thông đăng ký khai sinh, đăng ký thường trú, cấp thẻ bảo hiểm y tế cho trẻ em dưới 6 tuổi", 3),
    "1.004222": ("Đăng ký thường trú", 7),
    "2.001179": ("Cấp thẻ bảo hiểm y tế cho trẻ em dưới 6 tuổi", 2),
    "1.002809": ("Đổi giấy phép lái xe", 5),
    "2.001610": ("Đăng ký thành lập doanh nghiệp tư nhân", 3),
    "1.004227": ("Đăng ký biến động quyền sử dụng đất", 10),
}
"""Code → name and working days."""
_DEPARTMENTS = ("Sở Tư pháp", "Sở Tài chính", "Sở Nông nghiệp và Môi trường", "Sở Xây dựng", "Công an tỉnh", "Sở Y tế")
_STEPS = ("Tiếp nhận hồ sơ", "Thẩm định", "Phê duyệt", "Trả kết quả")
_STEPS_BEGUN = {NEW: 0, RECEIVED: 1, NOT_RECEIVED: 0, PROCESSING: 2, SUPPLEMENT: 2, FEE_DUE: 2, WITHDRAWN: 1}
_STEPS_BEGUN |= {STOPPED: 2, DONE: 3, RETURNED: 4}


@dataclass(frozen=True, slots=True)
class Step:
    """`end` None: it goes on."""

    name: str
    begin: datetime
    end: datetime | None


@dataclass(frozen=True, slots=True)
class Dossier:
    """One dossier, in the time of Việt Nam. `received`, `due`: None where it was not received. `reason`: of a no."""

    code: str
    procedure: str
    unit: str
    applicant: str
    status: int
    received: datetime | None
    due: datetime | None
    steps: tuple[Step, ...] = ()
    result: str = ""
    reason: str = ""


def units() -> dict[str, str]:
    """Code → name: the province's departments, and its communes."""
    found = {f"{PROVINCE}.{number:02d}": name for number, name in enumerate(_DEPARTMENTS, 1)}
    own = (commune for commune in communes().values() if commune.province_code == PROVINCE_CODE)
    return found | {f"{PROVINCE}.{commune.code}": f"Ủy ban nhân dân {commune.name}" for commune in own}


def opening(moment: datetime) -> datetime:
    """When a dossier that was sent at `moment` is received: at once in working hours, else when the next day opens."""
    if moment.time() < OPENS and moment.weekday() < 5:
        return datetime.combine(moment.date(), OPENS)
    if moment.time() < CLOSES and moment.weekday() < 5:
        return moment
    day = moment.date() + timedelta(days=1)
    while day.weekday() >= 5:
        day += timedelta(days=1)
    return datetime.combine(day, OPENS)


def due(received: datetime, working_days: int) -> datetime:
    """The end of the last of so many working days after `received`; public holidays are not known here."""
    day = received.date()
    while working_days:
        day += timedelta(days=1)
        working_days -= day.weekday() < 5
    return datetime.combine(day, CLOSES)


def dossiers() -> dict[str, Dossier]:
    """Code → dossier."""
    people, known = list(population().values()), list(units())
    daily: Counter[str] = Counter()
    found = {}
    for serial in range(SEEDED):
        draw = Draw(f"hồ sơ một cửa 1/{serial}")
        sent = FIRST_SENT + timedelta(days=draw.below(350), minutes=draw.below(480))
        daily[f"{sent:%y%m%d}"] += 1
        code = f"000.00.00.{PROVINCE}-{sent:%y%m%d}-{daily[f'{sent:%y%m%d}']:04d}"
        found[code] = _dossier(draw, code, sent, draw.one_of(people).name.full, draw.one_of(known))
    return found


def _dossier(draw: Draw, code: str, sent: datetime, applicant: str, unit: str) -> Dossier:
    procedure = draw.one_of(list(PROCEDURES))
    status = draw.one_of((*range(NEW, RETURNED + 1), DONE, RETURNED, RETURNED, RETURNED))
    if status in (NEW, NOT_RECEIVED):
        reason = "HO_SO_KHONG_HOP_LE" if status == NOT_RECEIVED else ""
        return Dossier(code, procedure, unit, applicant, status, None, None, reason=reason)
    received = opening(sent)
    ends = due(received, PROCEDURES[procedure][1])
    return Dossier(
        code,
        procedure,
        unit,
        applicant,
        status,
        received,
        ends,
        steps=_steps(received, ends, status),
        result=f"{draw.between(1, 9999)}/KQ-{unit}" if status in (DONE, RETURNED) else "",
        reason={SUPPLEMENT: "THIEU_THANH_PHAN", STOPPED: "KHONG_DU_DIEU_KIEN"}.get(status, ""),
    )


def _steps(received: datetime, ends: datetime, status: int) -> tuple[Step, ...]:
    """The steps begun, evenly over the time there is; the last goes on unless the dossier's way is over."""
    begun, each = _STEPS_BEGUN[status], (ends - received) / len(_STEPS)
    over = status in (WITHDRAWN, STOPPED, DONE, RETURNED)
    return tuple(
        Step(
            _STEPS[place],
            (received + place * each).replace(microsecond=0),
            (received + (place + 1) * each).replace(microsecond=0) if place + 1 < begun or over else None,
        )
        for place in range(begun)
    )


def digest(result: str) -> str:
    """Of the file that holds the result."""
    return hashlib.sha256(f"kết quả tổng hợp 1/{result}".encode()).hexdigest()
