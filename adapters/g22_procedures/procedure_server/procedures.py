"""Procedures and their versions, the same at every start.

Those of the flows that the bus is for have the codes and names that the national portal shows; what stands in them, and
the rest of the catalogue, is made up: those have codes whose six digits begin with 9.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from adapters.g01_population.names import Draw

GENERATED = 3_600
COMMUNE, PROVINCE, MINISTRY = "XA", "TINH", "BO"
FIELDS = (
    ("Hộ tịch", "Đăng ký", "việc hộ tịch"),
    ("Đăng ký, quản lý cư trú", "Xác nhận", "thông tin cư trú"),
    ("Bảo hiểm y tế", "Cấp lại", "thẻ bảo hiểm y tế"),
    ("Sát hạch, cấp giấy phép lái xe", "Cấp", "giấy phép lái xe"),
    ("Thành lập và hoạt động doanh nghiệp", "Thông báo thay đổi", "nội dung đăng ký doanh nghiệp"),
    ("Đất đai", "Đăng ký", "biến động về quyền sử dụng đất"),
    ("Chứng thực", "Chứng thực", "bản sao giấy tờ"),
    ("Người có công", "Giải quyết", "chế độ ưu đãi"),
    ("Giáo dục trung học", "Xét", "tuyển sinh"),
    ("An toàn thực phẩm", "Cấp", "giấy chứng nhận cơ sở đủ điều kiện"),
    ("Hoạt động xây dựng", "Cấp", "giấy phép xây dựng"),
    ("Lưu thông hàng hóa", "Cấp", "giấy phép bán lẻ"),
)
_OBJECTS = ("cá nhân", "hộ gia đình", "tổ chức", "hộ kinh doanh", "người nước ngoài", "người dưới 16 tuổi")
_PARTS = (
    "Tờ khai theo mẫu",
    "Bản sao giấy tờ tùy thân",
    "Văn bản ủy quyền, trường hợp nộp thay",
    "Bản chính giấy tờ được cấp trước đó",
    "Giấy xác nhận của nơi cư trú",
    "Chứng từ nộp lệ phí",
)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the dossier (thành phần hồ sơ). `copies`: of the original, of copies."""

    name: str
    originals: int
    copies: int
    required: bool


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a procedure. `until`: its last day, None where nothing ends it yet. `days`: working days."""

    number: int
    decision: str
    published: date
    since: date
    until: date | None
    name: str
    field: str
    level: str
    days: int
    fee: int
    parts: tuple[Part, ...]
    related: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    code: str
    name: str
    field: int
    level: str
    days: int
    fee: int
    parts: tuple[str, ...]
    related: tuple[str, ...] = ()


_KNOWN = (
    _Known("1.001193", "Đăng ký khai sinh", 0, COMMUNE, 1, 8_000, ("Tờ khai đăng ký khai sinh", "Giấy chứng sinh")),
    _Known(
        "1.003583", "Đăng ký khai sinh lưu động", 0, COMMUNE, 5, 0, ("Tờ khai đăng ký khai sinh", "Giấy chứng sinh")
    ),
    _Known(
        "2.000986",
        "Liên thông đăng ký khai sinh, đăng ký thường trú, cấp thẻ bảo hiểm y tế cho trẻ em dưới 6 tuổi",
        0,
        COMMUNE,
        3,
        0,
        ("Tờ khai điện tử liên thông", "Giấy chứng sinh có chữ ký số"),
        ("1.001193", "1.004222", "2.001179"),
    ),
    _Known(
        "1.004222", "Đăng ký thường trú", 1, COMMUNE, 7, 20_000, ("Tờ khai thay đổi thông tin cư trú",), ("1.001193",)
    ),
    _Known(
        "2.001179",
        "Cấp thẻ bảo hiểm y tế cho trẻ em dưới 6 tuổi",
        2,
        COMMUNE,
        2,
        0,
        ("Tờ khai tham gia",),
        ("1.001193",),
    ),
    _Known("1.002809", "Đổi giấy phép lái xe", 3, PROVINCE, 5, 135_000, ("Đơn đề nghị", "Giấy khám sức khỏe")),
    _Known("2.001610", "Đăng ký thành lập doanh nghiệp tư nhân", 4, PROVINCE, 3, 50_000, ("Giấy đề nghị đăng ký",)),
    _Known(
        "2.001583", "Đăng ký thành lập công ty TNHH một thành viên", 4, PROVINCE, 3, 50_000, ("Giấy đề nghị", "Điều lệ")
    ),
    _Known("1.004227", "Đăng ký biến động quyền sử dụng đất", 5, PROVINCE, 10, 100_000, ("Đơn đăng ký biến động",)),
)


def procedures() -> dict[str, tuple[Version, ...]]:
    """Code → versions, the oldest first, one after the other without a day between."""
    found = {known.code: _versions(Draw(f"thủ tục 1/{known.code}"), known) for known in _KNOWN}
    return found | {made.code: _versions(Draw(f"thủ tục 1/{made.code}"), made, ends=True) for made in _generated()}


def _generated() -> Iterator[_Known]:
    for serial in range(GENERATED):
        draw = Draw(f"thủ tục tổng hợp 1/{serial}")
        field = draw.below(len(FIELDS))
        _, verb, thing = FIELDS[field]
        yield _Known(
            code=f"{1 + draw.below(2)}.{900_000 + serial * 23 % 100_000}",
            name=f"{verb} {thing} cho {draw.one_of(_OBJECTS)} (trường hợp {serial + 1})",
            field=field,
            level=draw.one_of((COMMUNE, PROVINCE, PROVINCE, MINISTRY)),
            days=draw.between(1, 30),
            fee=draw.below(3) * draw.between(1, 40) * 5_000,
            parts=tuple(_PARTS[: draw.between(1, len(_PARTS))]),
        )


def _versions(draw: Draw, known: _Known, ends: bool = False) -> tuple[Version, ...]:
    """Two to four, each a little quicker; `ends`: one in fifteen was abolished with its last."""
    count = draw.between(2, 4)
    starts = [date(2018, 1, 1) + timedelta(days=draw.below(500))]
    for _ in range(count - 1):
        starts.append(starts[-1] + timedelta(days=draw.between(250, 800)))
    last = starts[-1] + timedelta(days=draw.between(100, 300)) if ends and draw.below(15) == 0 else None
    untils = [*(start - timedelta(days=1) for start in starts[1:]), last]
    return tuple(
        Version(
            number=number,
            decision=f"{draw.between(100, 2999)}/QĐ-{'VPCP' if known.level == MINISTRY else 'UBND'}",
            published=since - timedelta(days=draw.between(5, 40)),
            since=since,
            until=until,
            name=known.name,
            field=FIELDS[known.field][0],
            level=known.level,
            days=known.days + (count - number) * draw.below(4),
            fee=known.fee,
            parts=tuple(
                Part(name, 1, draw.below(2), place == 0 or draw.below(3) > 0) for place, name in enumerate(known.parts)
            ),
            related=known.related,
        )
        for number, (since, until) in enumerate(zip(starts, untils, strict=True), 1)
    )
