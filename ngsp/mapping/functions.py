"""The functions of our own that expressions may call, beside JMESPath's: dates, names, codes, identity numbers.

All but `lookup` and `full_name` answer null to null and to an empty text, which many systems write for *none*.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from ngsp.text import Text, Wrong
from ngsp.vntime import VIETNAM

Tables = Mapping[str, Mapping[str, Any]]


def _nothing(literal: str, tables: Tables) -> Any:
    return literal


@dataclass(frozen=True, slots=True)
class Ours:
    """`function` of `least` to `most` arguments. `fixed`: the place of one that must be a literal text, which
    `prepare` makes into the function's first argument, once; `Wrong` where it makes no sense."""

    function: Callable[..., Any]
    example: str
    least: int = 1
    most: int = 1
    fixed: int | None = None
    prepare: Callable[[str, Tables], Any] = _nothing


@dataclass(frozen=True, slots=True)
class _Pattern:
    """How a system writes times: what to read them with, and what to write them with."""

    read: re.Pattern[str]
    write: str


_PARTS = {
    "yyyy": ("(?P<year>[0-9]{4})", "{year:04d}"),
    "MM": ("(?P<month>[0-9]{2})", "{month:02d}"),
    "M": ("(?P<month>[0-9]{1,2})", "{month}"),
    "dd": ("(?P<day>[0-9]{2})", "{day:02d}"),
    "d": ("(?P<day>[0-9]{1,2})", "{day}"),
    "HH": ("(?P<hour>[0-9]{2})", "{hour:02d}"),
    "H": ("(?P<hour>[0-9]{1,2})", "{hour}"),
    "mm": ("(?P<minute>[0-9]{2})", "{minute:02d}"),
    "ss": ("(?P<second>[0-9]{2})", "{second:02d}"),
    "SSS": ("(?P<thousandth>[0-9]{3})", "{thousandth:03d}"),
}
_RUN = re.compile(r"([A-Za-z])\1*|'[^']*'|[^A-Za-z']")


def pattern(written: str, tables: Tables) -> _Pattern:
    """`dd/MM/yyyy`, `yyyyMMddHHmmss`, `yyyy-MM-dd'T'HH:mm:ss.SSS`: M, d and H alone take one digit or two."""
    read, write, seen = "", "", set()
    end = 0
    for run in _RUN.finditer(written):
        text = run.group()
        if run.start() != end:
            break
        end = run.end()
        if run.group(1) is None:
            plain = text.strip("'") if text.startswith("'") else text
            read += re.escape(plain)
            write += plain.replace("{", "{{").replace("}", "}}")
            continue
        if text not in _PARTS or text[0] in seen:
            raise _no_pattern(written)
        seen.add(text[0])
        read += _PARTS[text][0]
        write += _PARTS[text][1]
    if end != len(written) or not {"y", "M", "d"} <= seen:
        raise _no_pattern(written)
    return _Pattern(re.compile(read), write)


def _no_pattern(written: str) -> Wrong:
    return Wrong(
        Text(
            f"Mẫu ngày giờ «{written}» không đúng: dùng yyyy MM dd HH mm ss SSS, mỗi thứ một lần, ví dụ dd/MM/yyyy.",
            f"The pattern '{written}' is none: use yyyy MM dd HH mm ss SSS, each once, such as dd/MM/yyyy.",
        )
    )


def _moment(form: _Pattern, value: str) -> datetime:
    found = form.read.fullmatch(value)
    if found is None:
        raise ValueError("not of the pattern")
    parts = {name: int(digits) for name, digits in found.groupdict().items()}
    thousandth = parts.pop("thousandth", 0)
    return datetime(**parts, microsecond=thousandth * 1000, tzinfo=VIETNAM)


def _written(form: _Pattern, moment: datetime) -> str:
    return form.write.format(
        year=moment.year,
        month=moment.month,
        day=moment.day,
        hour=moment.hour,
        minute=moment.minute,
        second=moment.second,
        thousandth=moment.microsecond // 1000,
    )


def iso_date(form: _Pattern, value: str | None) -> str | None:
    """`01/07/2025` → `2025-07-01`."""
    return _moment(form, value).date().isoformat() if value else None


def vn_date(form: _Pattern, value: str | None) -> str | None:
    """`2025-07-01` → `01/07/2025`."""
    if not value:
        return None
    return _written(form, datetime.combine(date.fromisoformat(value), datetime.min.time(), VIETNAM))


def iso_time(form: _Pattern, value: str | None) -> str | None:
    """`20250701073000` → `2025-07-01T07:30:00+07:00` (RFC 3339)."""
    return _moment(form, value).isoformat() if value else None


def vn_time(form: _Pattern, value: str | None) -> str | None:
    """`2025-07-01T00:30:00Z` → `20250701073000`. ValueError for a time without an offset."""
    if not value:
        return None
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("a time without an offset")
    return _written(form, moment.astimezone(VIETNAM))


def name_parts(value: str | None) -> dict[str, str] | None:
    """`Nguyễn Thị Minh Khai` → Họ, Chữ đệm, Tên: the first word, those between, the last. One word is a Tên."""
    words = value.split() if value else []
    if not words:
        return None
    return {"Ho": words[0] if len(words) > 1 else "", "ChuDem": " ".join(words[1:-1]), "Ten": words[-1]}


def full_name(*parts: str | None) -> str | None:
    """The parts that there are, one space between them."""
    return " ".join(word for part in parts if part for word in part.split()) or None


_STROKE = str.maketrans({"đ": "d", "Đ": "D"})
"""đ is no accented d to Unicode."""


def fold(value: str | None) -> str | None:
    """`Đặng Thị Hòa` → `Dang Thi Hoa`: NFC without accents; case stays."""
    if not value:
        return None
    apart = unicodedata.normalize("NFD", value.translate(_STROKE))
    return unicodedata.normalize("NFC", "".join(letter for letter in apart if not unicodedata.combining(letter)))


def upper(value: str | None) -> str | None:
    return value.upper() if value else None


def lower(value: str | None) -> str | None:
    return value.lower() if value else None


_REQUIRED = object()


def lookup(table: Mapping[str, Any], key: str | int | None, default: Any = _REQUIRED) -> Any:
    """What `table` has for `key`; null for null; `default`, or LookupError, where it has nothing."""
    if key is None:
        return None
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise TypeError("a key is a text or a whole number")
    found = table.get(str(key), default)
    if found is _REQUIRED:
        raise LookupError("not in the table")
    return found


def _table(name: str, tables: Tables) -> Mapping[str, Any]:
    if name not in tables:
        known = ", ".join(sorted(tables)) or "–"
        raise Wrong(
            Text(f"Không có bảng «{name}» trong tables: có {known}.", f"There is no table '{name}' in tables: {known}.")
        )
    return tables[name]


_IDENTITY = re.compile(r"([0-9]{3})([0-9])([0-9]{2})[0-9]{6}")
"""Số định danh cá nhân: place of birth registration, century and sex, year, six random (NĐ 137/2015, điều 13)."""


def identity_parts(value: str | None) -> dict[str, Any] | None:
    """`place` (3 digits), `sex` (`male`, `female`) and `birth_year` of an identity number; null where it is none."""
    found = _IDENTITY.fullmatch(value) if value else None
    if found is None:
        return None
    place, century_and_sex, year = found.groups()
    return {
        "place": place,
        "sex": "female" if int(century_and_sex) % 2 else "male",
        "birth_year": 1900 + 100 * (int(century_and_sex) // 2) + int(year),
    }


def without_nulls(value: Any) -> Any:
    """`value` without the members of objects that are null, at every level."""
    if isinstance(value, dict):
        return {name: without_nulls(below) for name, below in value.items() if below is not None}
    return [without_nulls(below) for below in value] if isinstance(value, list) else value


def find(items: list[Any] | None, name: str, value: Any) -> Any:
    """The first object among `items` whose member `name` is `value`; null where there is none."""
    if not items or value is None:
        return None
    return next((item for item in items if isinstance(item, dict) and item.get(name) == value), None)


OURS: dict[str, Ours] = {
    "iso_date": Ours(iso_date, "iso_date(body.NGAY, 'dd/MM/yyyy')", 2, 2, 1, pattern),
    "vn_date": Ours(vn_date, "vn_date(payload.ngay, 'dd/MM/yyyy')", 2, 2, 1, pattern),
    "iso_time": Ours(iso_time, "iso_time(body.THOI_GIAN, 'yyyyMMddHHmmss')", 2, 2, 1, pattern),
    "vn_time": Ours(vn_time, "vn_time(deadline, 'yyyyMMddHHmmss')", 2, 2, 1, pattern),
    "name_parts": Ours(name_parts, "name_parts(body.HO_TEN)"),
    "full_name": Ours(full_name, "full_name(payload.Ho, payload.ChuDem, payload.Ten)", 1, 10),
    "fold": Ours(fold, "fold(payload.ten)"),
    "upper": Ours(upper, "upper(payload.ten)"),
    "lower": Ours(lower, "lower(payload.ten)"),
    "lookup": Ours(lookup, "lookup('loai-hinh', body.LOAI_HINH)", 2, 3, 0, _table),
    "find": Ours(find, "find(body, 'SO_TK', payload.soToKhai)", 3, 3),
    "identity_parts": Ours(identity_parts, "identity_parts(payload.SoDinhDanh).sex"),
    "without_nulls": Ours(without_nulls, "without_nulls({a: body.A})"),
}
