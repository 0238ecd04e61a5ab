"""The functions of our own: dates, names, codes, identity numbers."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngsp.mapping import Expression, MappingError, Scope
from ngsp.text import Wrong

SCOPE = Scope(("v", "w"), {"forms": {"01": "tnhh", "2": {"name": "hai"}, "x": None}})
FAILS = object()


def value(expression: str, v: Any = None, w: Any = None) -> Any:
    try:
        return Expression.compile(expression, SCOPE)({"v": v, "w": w})
    except MappingError as error:
        assert str(v) not in str(error) or not v
        return FAILS


@pytest.mark.parametrize(
    ("expression", "given_", "expected"),
    [
        ("iso_date(v, 'dd/MM/yyyy')", "01/07/2025", "2025-07-01"),
        ("iso_date(v, 'd/M/yyyy')", "1/7/2025", "2025-07-01"),
        ("iso_date(v, 'd/M/yyyy')", "11/12/2025", "2025-12-11"),
        ("iso_date(v, 'yyyyMMdd')", "20240229", "2024-02-29"),
        ("iso_date(v, 'yyyyMMdd')", "20230229", FAILS),
        ("iso_date(v, 'yyyyMMdd')", "2023-02-28", FAILS),
        ("iso_date(v, 'yyyyMMdd')", "20230228 ", FAILS),
        ("iso_date(v, 'yyyyMMddHHmmss')", "20250701235959", "2025-07-01"),
        ("iso_date(v, 'dd/MM/yyyy')", None, None),
        ("iso_date(v, 'dd/MM/yyyy')", "", None),
        ("iso_date(v, 'dd/MM/yyyy')", 20250701, FAILS),
        ("vn_date(v, 'dd/MM/yyyy')", "2025-07-01", "01/07/2025"),
        ("vn_date(v, 'd/M/yyyy')", "2025-07-01", "1/7/2025"),
        ("vn_date(v, 'yyyyMMdd')", "0900-07-01", "09000701"),
        ("vn_date(v, 'dd/MM/yyyy')", "01/07/2025", FAILS),
        ("iso_time(v, 'yyyyMMddHHmmss')", "20250701073000", "2025-07-01T07:30:00+07:00"),
        ("iso_time(v, 'dd/MM/yyyy HH:mm')", "01/07/2025 23:05", "2025-07-01T23:05:00+07:00"),
        ("iso_time(v, 'yyyy-MM-dd HH:mm:ss.SSS')", "2025-07-01 23:05:01.250", "2025-07-01T23:05:01.250000+07:00"),
        ("iso_time(v, 'yyyyMMddHHmmss')", "20250701240000", FAILS),
        ("iso_time(v, 'yyyyMMddHHmmss')", "２０２５０７０１０７３０００", FAILS),
        ("vn_time(v, 'yyyyMMddHHmmss')", "2025-07-01T18:30:00Z", "20250702013000"),
        ("vn_time(v, 'yyyyMMddHHmmss')", "2025-07-01T18:30:00+07:00", "20250701183000"),
        ("vn_time(v, 'yyyyMMddHHmmss')", "2025-07-01T18:30:00", FAILS),
        ("vn_time(v, 'yyyyMMddHHmmss')", None, None),
        ("name_parts(v)", "Nguyễn Thị Minh Khai", {"Ho": "Nguyễn", "ChuDem": "Thị Minh", "Ten": "Khai"}),
        ("name_parts(v)", "  Lê \t Lợi ", {"Ho": "Lê", "ChuDem": "", "Ten": "Lợi"}),
        ("name_parts(v)", "Y'Blôm", {"Ho": "", "ChuDem": "", "Ten": "Y'Blôm"}),
        ("name_parts(v)", "  ", None),
        ("name_parts(v).Ten", None, None),
        ("name_parts(v)", 5, FAILS),
        ("full_name(v.Ho, v.ChuDem, v.Ten)", {"Ho": "Lê", "ChuDem": "", "Ten": "Lợi"}, "Lê Lợi"),
        ("full_name(v.Ho, v.Dem, v.Ten)", {"Ho": " Đỗ ", "Dem": "Thị  Hà", "Ten": "My"}, "Đỗ Thị Hà My"),
        ("full_name(v.Ho, v.Ten)", {}, None),
        ("fold(v)", "Đặng Thị Hòa, ƯỚC ượng", "Dang Thi Hoa, UOC uong"),
        ("fold(v)", "Đa\u0323\u0306ng", "Dang"),
        ("fold(v)", None, None),
        ("upper(fold(v))", "Đặng Hòa", "DANG HOA"),
        ("lower(v)", "ĐẶNG", "đặng"),
        ("lookup('forms', v)", "01", "tnhh"),
        ("lookup('forms', v)", 2, {"name": "hai"}),
        ("lookup('forms', v)", "x", None),
        ("lookup('forms', v)", None, None),
        ("lookup('forms', v)", "03", FAILS),
        ("lookup('forms', v, 'khac')", "03", "khac"),
        ("lookup('forms', v, `null`)", "03", None),
        ("lookup('forms', v)", True, FAILS),
        ("lookup('forms', v)", ["01"], FAILS),
        ("find(v, 'a', 'x')", [1, {"a": "y"}, {"a": "x", "b": 2}, {"a": "x"}], {"a": "x", "b": 2}),
        ("find(v, 'a', 'z')", [{"a": "x"}], None),
        ("find(v, 'a', 'z')", None, None),
        ("identity_parts(v)", "900185000001", {"place": "900", "sex": "female", "birth_year": 1985}),
        ("identity_parts(v)", "901002000001", {"place": "901", "sex": "male", "birth_year": 1902}),
        ("identity_parts(v)", "902225000001", {"place": "902", "sex": "male", "birth_year": 2025}),
        ("identity_parts(v).sex", "902325000001", "female"),
        ("identity_parts(v)", "90018500000", None),
        ("identity_parts(v)", "90018500000x", None),
        ("without_nulls(v)", {"a": None, "b": [{"c": None, "d": 0}, None], "e": ""}, {"b": [{"d": 0}, None], "e": ""}),
    ],
)
def test_functions(expression: str, given_: Any, expected: Any) -> None:
    assert value(expression, given_) == expected


@given(st.dates(date(1, 1, 1)), st.sampled_from(["dd/MM/yyyy", "d/M/yyyy", "yyyyMMdd", "yyyy-MM-dd", "MM.dd.yyyy"]))
def test_a_date_comes_back(day: date, form: str) -> None:
    written = value(f"vn_date(v, '{form}')", day.isoformat())
    assert value(f"iso_date(v, '{form}')", written) == day.isoformat()


MOMENTS = st.datetimes(datetime(1900, 1, 2), datetime(2200, 1, 1))  # noqa: DTZ001 - the test gives them an offset


@given(MOMENTS, st.integers(-720, 840))
def test_a_moment_comes_back(moment: datetime, offset_min: int) -> None:
    there = moment.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=offset_min)))
    written = value("vn_time(v, 'yyyyMMddHHmmss')", there.isoformat())
    back = datetime.fromisoformat(value("iso_time(v, 'yyyyMMddHHmmss')", written))
    assert back == there
    assert back.utcoffset() == timedelta(hours=7)
    assert there.astimezone(UTC) == back


@given(st.lists(st.text(st.characters(categories=["Lu", "Ll"]), min_size=1), min_size=1, max_size=6))
def test_a_name_is_whole_again(words: list[str]) -> None:
    whole = " ".join(" ".join(words).split())
    assert value("full_name(name_parts(v).Ho, name_parts(v).ChuDem, name_parts(v).Ten)", whole) == whole


@pytest.mark.parametrize(
    "form", ["dd/mm/yyyy", "dd/MM/yy", "dd/MM", "yyyy", "dd/MM/yyyy dd", "DD/MM/YYYY", "d MMM yyyy", "", "dd'MM/yyyy"]
)
def test_a_pattern_that_is_none(form: str) -> None:
    with pytest.raises(Wrong) as found:
        Expression.compile(f"iso_date(v, '{form}')".replace("dd'MM", "dd\\'MM"), SCOPE)
    assert "yyyy MM dd HH mm ss SSS" in found.value.text.vi
    assert "yyyy MM dd HH mm ss SSS" in found.value.text.en


def test_letters_in_quotes_stand_for_themselves() -> None:
    expression = "iso_time(v, 'yyyy-MM-dd\\'T\\'HH:mm:ss')"
    assert value(expression, "2025-07-01T07:30:00") == "2025-07-01T07:30:00+07:00"
    assert value(expression.replace("iso", "vn"), "2025-07-01T07:30:00+07:00") == "2025-07-01T07:30:00"
