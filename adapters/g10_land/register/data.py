"""Tables and rows of the land database: 12,000 parcels, four of each household of the sample population.

Kinds of land (loại đất) are those of TT 08/2024/TT-BTNMT; the code of a parcel has twelve signs (NĐ 101/2024/NĐ-CP).
Places are drawn: a commune's parcels lie side by side on a grid somewhere in the country, not where the commune is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from adapters.g01_population.citizens import Citizen, Commune, population
from adapters.g01_population.names import Draw
from adapters.stand_in.database import Filling, Row

PARCELS_OF_A_HOUSEHOLD = 4
READER = "tra_cuu_dat_dai"
"""The role that may read the view and nothing else."""
VALUE_OF_A_METRE = 1_000_000
"""Đồng, for a column that nobody is shown."""
_SEED = "thửa đất tổng hợp 1"
_METRES_OF_A_DEGREE = 111_320.0
_GRID_M = 200.0

_TABLES = (
    "CREATE TABLE thua_dat (ma_thua char(12) PRIMARY KEY, ma_xa char(5) NOT NULL, ten_xa varchar(100) NOT NULL, so_to"
    " integer NOT NULL, so_thua integer NOT NULL, dia_chi varchar(250) NOT NULL, dien_tich decimal(12,1) NOT NULL,"
    " tinh_trang char(1) NOT NULL, so_phat_hanh varchar(12), ngay_cap date, ranh_gioi {json} NOT NULL,"
    " gia_tri decimal(15,0) NOT NULL, UNIQUE (ma_xa, so_to, so_thua), CHECK (dien_tich > 0))",
    "CREATE TABLE muc_dich (ma_thua char(12) NOT NULL, loai_dat char(3) NOT NULL, dien_tich decimal(12,1) NOT NULL,"
    " thoi_han date, PRIMARY KEY (ma_thua, loai_dat), FOREIGN KEY (ma_thua) REFERENCES thua_dat (ma_thua))",
    "CREATE TABLE nguoi_su_dung (ma_thua char(12) NOT NULL, thu_tu smallint NOT NULL, so_dinh_danh char(12) NOT NULL,"
    " ho_ten varchar(100) NOT NULL, dien_thoai varchar(15) NOT NULL, PRIMARY KEY (ma_thua, thu_tu),"
    " FOREIGN KEY (ma_thua) REFERENCES thua_dat (ma_thua))",
)
_VIEW = (
    "CREATE VIEW tra_cuu_thua_dat AS SELECT t.ma_thua, t.ma_xa, t.ten_xa, t.so_to, t.so_thua, t.dia_chi, t.dien_tich,"
    " t.tinh_trang, t.so_phat_hanh, t.ngay_cap, t.ranh_gioi, (SELECT {array}({object}('loai_dat', m.loai_dat,"
    " 'dien_tich', m.dien_tich, 'thoi_han', m.thoi_han) ORDER BY m.dien_tich DESC) FROM muc_dich m WHERE m.ma_thua ="
    " t.ma_thua) AS muc_dich, (SELECT {array}({object}('so_dinh_danh', n.so_dinh_danh, 'ho_ten', n.ho_ten) ORDER BY"
    " n.thu_tu) FROM nguoi_su_dung n WHERE n.ma_thua = t.ma_thua) AS nguoi_su_dung FROM thua_dat t"
)
_READER_ON_POSTGRESQL = (
    # A role belongs to the whole server, and may be there already; an account that may make none reads by itself.
    "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tra_cuu_dat_dai') AND (SELECT rolsuper OR"
    " rolcreaterole FROM pg_roles WHERE rolname = current_user) THEN CREATE ROLE tra_cuu_dat_dai LOGIN; END IF; END $$",
    "DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'tra_cuu_dat_dai') THEN"
    " GRANT SELECT ON tra_cuu_thua_dat TO tra_cuu_dat_dai; END IF; END $$",
)


class Purpose(NamedTuple):
    """Loại đất and the share of the parcel, in hundredths; `until`: None for land without a term (lâu dài)."""

    kind: str
    share: int
    until: date | None


_TERM = date(2043, 10, 15)
_FIELDS = (
    (Purpose("LUC", 100, _TERM),),
    (Purpose("HNK", 100, _TERM),),
    (Purpose("CLN", 100, _TERM),),
    (Purpose("NTS", 100, _TERM),),
    (Purpose("RSX", 100, _TERM),),
)


def _purposes(draw: Draw, commune: Commune, number: int) -> tuple[Sequence[Purpose], int]:
    """What the household's parcel `number` is for, and its area in square metres."""
    town = commune.name.startswith("Phường")
    if number == 0:
        home = "ODT" if town else "ONT"
        if draw.below(2):
            return (Purpose(home, 100, None),), draw.between(60, 400)
        return (Purpose(home, 40, None), Purpose("CLN", 60, _TERM)), draw.between(300, 1500)
    if town and number == 1:
        return (Purpose("TMD", 100, date(2065, 12, 31)),), draw.between(50, 500)
    return draw.one_of(_FIELDS), draw.between(300, 9_000)


def _boundary(origin: tuple[float, float], place: int, area_m2: float) -> str:
    """A rectangle of that area on the commune's grid, as a GeoJSON polygon (RFC 7946: counter-clockwise, WGS 84)."""
    row, column = divmod(place, 40)
    south = origin[1] + row * _GRID_M / _METRES_OF_A_DEGREE
    degree_m = _METRES_OF_A_DEGREE * math.cos(math.radians(south))
    west = origin[0] + column * _GRID_M / degree_m
    depth_m = math.sqrt(area_m2 * 1.5)
    east, north = west + area_m2 / depth_m / degree_m, south + depth_m / _METRES_OF_A_DEGREE
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    rounded = [[round(longitude, 7), round(latitude, 7)] for longitude, latitude in corners]
    return json.dumps({"type": "Polygon", "coordinates": [rounded]}, separators=(",", ":"))


def rows() -> Mapping[str, Sequence[Row]]:
    """By table, the same at every call."""
    draw, people = Draw(_SEED), population()
    origins: dict[str, tuple[float, float]] = {}
    counts: dict[str, int] = {}
    parcels: list[Row] = []
    purposes: list[Row] = []
    users: list[Row] = []
    for head in (found for found in people.values() if found.head == found.id):
        home = head.residence.commune
        if home.code not in origins:
            origins[home.code] = (105.0 + draw.below(3_000_000) / 1e6, 10.5 + draw.below(11_000_000) / 1e6)
        for number in range(PARCELS_OF_A_HOUSEHOLD):
            place = counts[home.code] = counts.get(home.code, 0) + 1
            kinds, area = _purposes(draw, home, number)
            code = f"{home.code}{place:07d}"
            sheet, in_sheet = 1 + place // 10, place % 10 + draw.between(0, 9) * 10
            address = head.residence.detail if number == 0 else f"Tờ bản đồ số {sheet}"
            placed = (code, home.code, home.name, sheet, in_sheet, f"{address}, {home.name}")
            boundary = _boundary(origins[home.code], place, area)
            state = draw.one_of("111111112223")
            parcels.append((*placed, Decimal(area), state, *_certificate(draw), boundary, area * VALUE_OF_A_METRE))
            purposes += [(code, kind.kind, Decimal(area) * kind.share / 100, kind.until) for kind in kinds]
            users += _users(draw, code, head, people)
    return {"thua_dat": parcels, "muc_dich": purposes, "nguoi_su_dung": users}


def _certificate(draw: Draw) -> tuple[str | None, date | None]:
    """Serial and day; one parcel in ten has none."""
    if draw.below(10) == 0:
        return None, None
    serial = f"{draw.one_of('ABCDE')}{draw.one_of('ABCDEGHK')} {draw.below(100_000_000):08d}"
    return serial, date(draw.between(2004, 2025), draw.between(1, 9), draw.between(1, 28))


def _users(draw: Draw, code: str, head: Citizen, people: Mapping[str, Citizen]) -> list[Row]:
    """The head of the household, and the spouse where there is one."""
    named = [head, *([people[head.spouse]] if head.spouse else [])]
    return [(code, at, one.id, one.name.full, f"09{draw.below(100_000_000):08d}") for at, one in enumerate(named, 1)]


def _tables(json_type: str) -> list[str]:
    return [table.replace("{json}", json_type) for table in _TABLES]


def _view(array: str, object_: str) -> str:
    return _VIEW.replace("{array}", array).replace("{object}", object_)


_OPTIONS = " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
FILLING = Filling(
    before={"postgresql": _tables("jsonb"), "mariadb": [table + _OPTIONS for table in _tables("json")]},
    tables={
        "thua_dat": (
            *("ma_thua", "ma_xa", "ten_xa", "so_to", "so_thua", "dia_chi", "dien_tich", "tinh_trang", "so_phat_hanh"),
            *("ngay_cap", "ranh_gioi", "gia_tri"),
        ),
        "muc_dich": ("ma_thua", "loai_dat", "dien_tich", "thoi_han"),
        "nguoi_su_dung": ("ma_thua", "thu_tu", "so_dinh_danh", "ho_ten", "dien_thoai"),
    },
    rows=rows,
    after={
        "postgresql": [_view("json_agg", "json_build_object"), *_READER_ON_POSTGRESQL],
        "mariadb": [_view("JSON_ARRAYAGG", "JSON_OBJECT")],
    },
    reader=READER,
)
