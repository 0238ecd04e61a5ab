"""Declarations of two months, a batch a day, the same at every start."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from functools import cache

from adapters.g01_population.names import Draw
from adapters.g12_enterprise.registry_server.data import enterprises

FIRST_DAY = date(2026, 1, 2)
DAYS, A_DAY = 60, 175
KINDS = ("A11", "A12", "B11", "E21", "G13")
GATES = ("Cảng Cửa Lò", "Cảng Hải Phòng", "Cảng Cát Lái", "Cửa khẩu Hữu Nghị", "Cửa khẩu Mộc Bài", "Sân bay Nội Bài")
GOODS = (
    ("09011110", "Cà phê nhân chưa rang"),
    ("10063099", "Gạo thơm, đóng bao 25 kg"),
    ("61091020", "Áo thun dệt kim, bông"),
    ("85171300", "Điện thoại thông minh"),
    ("03061722", "Tôm thẻ, đông lạnh"),
    ("44079290", 'Gỗ xẻ, loại "A", dày trên 6 mm'),
)
Row = dict[str, str]


@cache
def batches() -> dict[date, list[Row]]:
    """Day → its declarations."""
    days = (FIRST_DAY + timedelta(days=number) for number in range(DAYS))
    codes = list(enterprises())
    return {day: list(_batch(day, codes)) for day in days}


def _batch(day: date, codes: list[str]) -> Iterator[Row]:
    draw = Draw(f"tờ khai hải quan 1/{day}")
    for serial in range(A_DAY):
        code, goods = draw.one_of(codes), draw.one_of(GOODS)
        value = draw.between(20, 9_000) * 1_000_000
        yield {
            "SO_TK": f"9{day:%y%m%d}{serial:05d}",
            "NGAY_DK": f"{day:%d/%m/%Y}",
            "MA_LH": draw.one_of(KINDS),
            "MA_SO_THUE": code,
            "CUA_KHAU": draw.one_of(GATES),
            "MA_HS": goods[0],
            "TEN_HANG": goods[1],
            "TRI_GIA": str(value),
            "TIEN_THUE": str(value * draw.between(0, 20) // 100),
            "LUONG": str(draw.between(1, 3)),
            "TRANG_THAI": str(draw.between(1, 4)),
        }
