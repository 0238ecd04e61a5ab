"""Synthetic enterprises, the same at every start.

Enterprise codes begin with 9, which no tax office issues; they have the right check digit. Representatives' identity
numbers begin with 900 or above, which no citizen's does. Names are drawn from lists; any likeness is chance.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import Any, TypeVar

from vietnam_provinces import Province, Ward

SEED = 20_250_701
HEAD_OFFICES = 10_000
FIRST_REGISTRATION = date(2000, 1, 3)
DAYS_OF_REGISTRATION = 9_300

_WEIGHTS = (31, 29, 23, 19, 17, 13, 7, 5, 3)
_STEP = 32_452_843
"""A prime that shares no factor with 10⁸, so that stepping by it visits every number once and none in order."""

SOLE_OWNER, LIMITED, JOINT_STOCK, PRIVATE, BRANCH = "01", "02", "03", "04", "05"
_FORMS = (
    (SOLE_OWNER, "Công ty TNHH một thành viên"),
    (LIMITED, "Công ty TNHH"),
    (JOINT_STOCK, "Công ty cổ phần"),
    (PRIVATE, "Doanh nghiệp tư nhân"),
)


def _list(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(","))


_FIELDS = _list(
    "Thương mại và Dịch vụ, Xây dựng, Vận tải, Cơ khí, Nông sản, Thủy sản, Dệt may, Du lịch, Công nghệ, Thực phẩm,"
    "Vật liệu xây dựng, Giáo dục, Dược phẩm, In ấn, Nội thất"
)
_FIRST = _list(
    "An, Bình, Cường, Đại, Đức, Gia, Hải, Hoàng, Hồng, Hưng, Khánh, Kim, Long, Minh, Nam, Ngọc, Phú, Phúc, Quang, Sao,"
    "Tân, Thành"
)
_SECOND = _list(
    "An, Châu, Đạt, Giang, Hà, Hòa, Khang, Lộc, Mai, Nguyên, Phát, Quý, Sơn, Tâm, Thịnh, Tiến, Trường, Vinh, Việt, Xuân"
)
_SURNAMES = _list("Nguyễn, Trần, Lê, Phạm, Hoàng, Phan, Vũ, Võ, Đặng, Bùi, Đỗ, Hồ, Ngô, Dương, Lý")
_MIDDLES = (_list("Văn, Đức, Hữu, Minh, Quốc, Xuân"), _list("Thị, Thị Ngọc, Thanh, Thị Thu, Bích, Kim"))
_GIVEN = (
    _list("Anh, Bảo, Cường, Dũng, Hùng, Khoa, Long, Nam, Phong, Quân, Sơn, Thắng, Tuấn, Vinh"),
    _list("Anh, Chi, Dung, Giang, Hà, Hạnh, Hương, Lan, Linh, Mai, Nga, Oanh, Trang, Yến"),
)
_STREETS = _list("Lê Lợi, Trần Phú, Quang Trung, Nguyễn Huệ, Hùng Vương, Lý Thường Kiệt, Phan Đình Phùng, Nguyễn Trãi")
_POSITIONS = {
    SOLE_OWNER: _list("Giám đốc, Chủ tịch công ty"),
    LIMITED: _list("Giám đốc, Tổng giám đốc, Chủ tịch hội đồng thành viên"),
    JOINT_STOCK: _list("Giám đốc, Tổng giám đốc, Chủ tịch hội đồng quản trị"),
    PRIVATE: _list("Chủ doanh nghiệp"),
    BRANCH: _list("Giám đốc chi nhánh"),
}
_STATUSES = ("1",) * 17 + ("2", "2", "3", "4")
"""1 active, 2 suspended, 3 being dissolved, 4 dissolved; most are active."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Place:
    code: str
    name: str
    province_code: str
    province: str


class _Draw:
    """Draws from a seeded stream. Only `random()` is promised to stay the same from one Python to the next."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def below(self, limit: int) -> int:
        return int(self._random() * limit)

    def one_of(self, things: Sequence[_T]) -> _T:
        return things[self.below(len(things))]


def check_digit(nine: str) -> int | None:
    """The tenth digit of an enterprise code: 10 − (Σ weight·digit mod 11); None where that is 10: not issued."""
    rest = 10 - sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, nine, strict=True)) % 11
    return None if rest == 10 else rest


@cache
def enterprises() -> dict[str, dict[str, Any]]:
    """Code → record in the registry's own form; head offices and their branches."""
    draw = _Draw(SEED)
    provinces = {int(found.code): found.name for found in Province.iter_all()}
    places = [
        _Place(f"{ward.code:05d}", ward.name, f"{ward.province_code:02d}", provinces[int(ward.province_code)])
        for ward in Ward.iter_all()
    ]
    records: dict[str, dict[str, Any]] = {}
    step = heads = 0
    while heads < HEAD_OFFICES:
        step += 1
        nine = f"9{step * _STEP % 10**8:08d}"
        last = check_digit(nine)
        if last is None:
            continue
        head = _head_office(draw, f"{nine}{last}", draw.one_of(places))
        records[head["MA_SO"]] = head
        heads += 1
        branches = 1 + draw.below(3) if draw.below(10) == 0 else 0
        for number in range(1, branches + 1):
            branch = _branch(draw, head, number, draw.one_of(places))
            records[branch["MA_SO"]] = branch
    return records


def _head_office(draw: _Draw, code: str, place: _Place) -> dict[str, Any]:
    form, title = draw.one_of(_FORMS)
    registered = FIRST_REGISTRATION + timedelta(days=draw.below(DAYS_OF_REGISTRATION))
    representatives = 2 if form == JOINT_STOCK and draw.below(4) == 0 else 1
    return {
        "MA_SO": code,
        "MA_SO_CHA": "",
        "TEN_DN": f"{title} {draw.one_of(_FIELDS)} {draw.one_of(_FIRST)} {draw.one_of(_SECOND)}",
        "LOAI_HINH": form,
        "TINH_TRANG": draw.one_of(_STATUSES),
        "NGAY_DK": registered.strftime("%d/%m/%Y"),
        "VON_DIEU_LE": str((1 + draw.below(500)) * 100_000_000),
        "DIA_CHI": _address(draw, place),
        "DAI_DIEN": [_representative(draw, place, form) for _ in range(representatives)],
    }


def _branch(draw: _Draw, head: dict[str, Any], number: int, place: _Place) -> dict[str, Any]:
    return head | {
        "MA_SO": f"{head['MA_SO']}-{number:03d}",
        "MA_SO_CHA": head["MA_SO"],
        "TEN_DN": f"Chi nhánh {place.province} – {head['TEN_DN']}",
        "LOAI_HINH": BRANCH,
        "VON_DIEU_LE": "",
        "DIA_CHI": _address(draw, place),
        "DAI_DIEN": [_representative(draw, place, BRANCH)],
    }


def _address(draw: _Draw, place: _Place) -> dict[str, str]:
    number = 1 + draw.below(300)
    urban = place.name.startswith("Phường")
    detail = f"Số {number} đường {draw.one_of(_STREETS)}" if urban else f"Thôn {1 + number % 12}"
    return {
        "CHI_TIET": detail,
        "MA_XA": place.code,
        "XA": place.name,
        "MA_TINH": place.province_code,
        "TINH": place.province,
    }


def _representative(draw: _Draw, place: _Place, form: str) -> dict[str, str]:
    female = draw.below(3) == 0
    born = 1955 + draw.below(45)
    number = f"9{place.province_code}{int(female)}{born % 100:02d}{draw.below(10**6):06d}"
    name = f"{draw.one_of(_SURNAMES)} {draw.one_of(_MIDDLES[female])} {draw.one_of(_GIVEN[female])}"
    return {"HO_TEN": name, "CHUC_DANH": draw.one_of(_POSITIONS[form]), "SO_DINH_DANH": number}
