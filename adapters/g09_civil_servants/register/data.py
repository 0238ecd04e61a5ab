"""Tables and rows of the register: 12,000 people, each with the posts held so far.

A quarter are citizens of the sample population (`adapters/g01_population`), of working age, so that both registers can
be asked about one person. The others are drawn here; the last six digits of their numbers begin with 9, which those of
no citizen do. Ranks and their coefficients follow NĐ 204/2004/NĐ-CP and its amendments, simplified.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import NamedTuple

from vietnam_provinces import Province, Ward

from adapters.g01_population.citizens import population
from adapters.g01_population.names import Draw, draw_name
from adapters.stand_in.database import Filling, Row

PEOPLE = 12_000
CITIZENS = 3_000
TODAY = date(2025, 10, 1)
"""The day the register was drawn up."""
_SEED = "cán bộ công chức viên chức tổng hợp 1"

_TABLES = (
    "CREATE TABLE don_vi (ma_don_vi varchar(35) PRIMARY KEY, ten varchar(200) NOT NULL)",
    "CREATE TABLE ngach (ma_ngach varchar(12) PRIMARY KEY, ten varchar(100) NOT NULL, he_so_dau decimal(4,2) NOT NULL,"
    " he_so_buoc decimal(4,2) NOT NULL)",
    "CREATE TABLE can_bo (so_hieu char(10) PRIMARY KEY, so_dinh_danh char(12) NOT NULL UNIQUE, ho_ten varchar(100) NOT"
    " NULL, ngay_sinh date NOT NULL, gioi_tinh smallint NOT NULL, loai char(2) NOT NULL, trang_thai char(1) NOT NULL,"
    " ngay_vao date NOT NULL, dien_thoai varchar(15))",
    "CREATE TABLE qua_trinh (so_hieu char(10) NOT NULL, tu_ngay date NOT NULL, den_ngay date, cuoi smallint NOT NULL,"
    " ma_don_vi varchar(35) NOT NULL, chuc_vu varchar(100) NOT NULL, ma_ngach varchar(12) NOT NULL, bac smallint NOT"
    " NULL, PRIMARY KEY (so_hieu, tu_ngay), FOREIGN KEY (so_hieu) REFERENCES can_bo (so_hieu),"
    " FOREIGN KEY (ma_don_vi) REFERENCES don_vi (ma_don_vi), FOREIGN KEY (ma_ngach) REFERENCES ngach (ma_ngach))",
)
_VIEW = (
    "CREATE VIEW can_bo_vi_tri AS SELECT c.so_hieu, c.so_dinh_danh, c.ho_ten, c.ngay_sinh, c.gioi_tinh, c.loai,"
    " c.trang_thai, c.ngay_vao, q.ma_don_vi, d.ten AS ten_don_vi, q.chuc_vu, q.tu_ngay, q.den_ngay,"
    " q.ma_ngach, n.ten AS ten_ngach,"
    " q.bac, n.he_so_dau + n.he_so_buoc * (q.bac - 1) AS he_so FROM can_bo c"
    " JOIN qua_trinh q ON q.so_hieu = c.so_hieu AND q.cuoi = 1"
    " JOIN don_vi d ON d.ma_don_vi = q.ma_don_vi JOIN ngach n ON n.ma_ngach = q.ma_ngach"
)


class Rank(NamedTuple):
    """Ngạch, or chức danh nghề nghiệp of public employees: first coefficient, step, number of grades."""

    code: str
    name: str
    first: str
    step: str
    grades: int


RANKS: Mapping[str, Sequence[Rank]] = {
    "CB": (
        Rank("01.002", "Chuyên viên chính", "4.40", "0.34", 8),
        Rank("01.001", "Chuyên viên cao cấp", "6.20", "0.36", 6),
    ),
    "CC": (
        Rank("01.004", "Cán sự", "2.10", "0.31", 10),
        Rank("01.003", "Chuyên viên", "2.34", "0.33", 9),
        Rank("01.002", "Chuyên viên chính", "4.40", "0.34", 8),
    ),
    "VC": (
        Rank("V.07.03.29", "Giáo viên tiểu học hạng III", "2.34", "0.33", 9),
        Rank("V.07.04.32", "Giáo viên trung học cơ sở hạng III", "2.34", "0.33", 9),
        Rank("V.08.01.03", "Bác sĩ hạng III", "2.34", "0.33", 9),
        Rank("V.08.05.13", "Điều dưỡng hạng IV", "1.86", "0.20", 12),
    ),
}
_POSITIONS: Mapping[str, Sequence[str]] = {
    "CB": ("Bí thư Đoàn Thanh niên", "Phó Chủ tịch Ủy ban nhân dân", "Phó Chủ tịch Hội đồng nhân dân"),
    "CC": ("Chuyên viên", "Chuyên viên", "Chuyên viên", "Phó Trưởng phòng", "Trưởng phòng"),
    "VC": ("Viên chức", "Viên chức", "Viên chức", "Tổ trưởng chuyên môn"),
}
_DEPARTMENTS = ("Sở Nội vụ", "Sở Tài chính", "Sở Tư pháp", "Sở Y tế", "Sở Giáo dục và Đào tạo", "Sở Xây dựng")
_STATES = ("1",) * 17 + ("2", "3", "4")
_ENDED = ("3", "4")
_KINDS = ("CB", "CC", "CC", "CC", "VC", "VC", "VC", "VC", "VC", "VC")


class Person(NamedTuple):
    id: str
    name: str
    born: date
    male: bool


def _people(draw: Draw) -> Iterator[Person]:
    """First citizens, every second of those born 1968 to 2001, then others of the same years."""
    working = [found for found in population().values() if 1968 <= found.born.year <= 2001]
    for citizen in working[::2][:CITIZENS]:
        yield Person(citizen.id, citizen.name.full, citizen.born, citizen.male)
    provinces = sorted(f"{province.code:02d}" for province in Province.iter_all())
    for number in range(PEOPLE - CITIZENS):
        male = draw.below(2) == 0
        born = date(draw.between(1968, 2001), 1, 1) + timedelta(days=draw.below(365))
        century_and_sex = 2 * (born.year // 100 - 19) + (0 if male else 1)
        id = f"9{draw.one_of(provinces)}{century_and_sex}{born.year % 100:02d}{900_000 + number:06d}"
        yield Person(id, draw_name(draw, male).full, born, male)


class Organ(NamedTuple):
    """`code`: of the register itself; the members' codes of QĐ 20 are other ones."""

    code: str
    name: str


class Organs(NamedTuple):
    departments: list[Organ]
    communes: list[Organ]
    schools: list[Organ]
    stations: list[Organ]


def _organs() -> Organs:
    provinces = sorted((f"{province.code:02d}", province.name) for province in Province.iter_all())
    wards = sorted((f"{ward.province_code:02d}.{ward.code:05d}", ward.name) for ward in Ward.iter_all())
    return Organs(
        [
            Organ(f"{code}.S{number}", f"{department} {name.removeprefix('Tỉnh ').removeprefix('Thành phố ')}")
            for code, name in provinces
            for number, department in enumerate(_DEPARTMENTS, 1)
        ],
        [Organ(code, f"Ủy ban nhân dân {name[:1].lower()}{name[1:]}") for code, name in wards],
        [Organ(f"{code}.T", f"Trường Tiểu học và Trung học cơ sở {name}") for code, name in wards],
        [Organ(f"{code}.Y", f"Trạm Y tế {name}") for code, name in wards],
    )


def _career(draw: Draw, kind: str, joined: date, organs: Organs) -> Iterator[tuple[Organ, Rank, str, date]]:
    """Organ, rank, position and first day of each post, one to three of them, from the first to the last."""
    rank_at = draw.below(len(RANKS[kind]))
    places = _places(kind, RANKS[kind][rank_at], organs)
    start = joined
    for number in range(draw.between(1, 3)):
        position = _POSITIONS[kind][draw.below(len(_POSITIONS[kind])) if number else 0]
        yield draw.one_of(places), RANKS[kind][rank_at], position, start
        start = date(start.year + draw.between(2, 8), draw.between(1, 12), 1)
        if start > TODAY:
            return


def _places(kind: str, rank: Rank, organs: Organs) -> list[Organ]:
    if kind == "VC":
        return organs.schools if rank.code.startswith("V.07") else organs.stations
    return organs.communes if kind == "CB" else [*organs.departments, *organs.communes]


def rows() -> Mapping[str, Sequence[Row]]:
    """By table, the same at every call."""
    draw, organs = Draw(_SEED), _organs()
    used: set[Organ] = set()
    people: list[Row] = []
    posts: list[Row] = []
    for number, person in enumerate(_people(draw), 1):
        kind = draw.one_of(_KINDS)
        service_number = f"{kind}{number:08d}"
        joined = date(person.born.year + 22, draw.between(7, 12), 1)
        state = draw.one_of(_STATES)
        phone = f"09{draw.below(100_000_000):08d}"
        sex = 1 if person.male else 2
        people.append((service_number, person.id, person.name, person.born, sex, kind, state, joined, phone))
        career = list(_career(draw, kind, joined, organs))
        for place, (organ, rank, position, start) in enumerate(career):
            used.add(organ)
            last = place == len(career) - 1
            end = (TODAY if state in _ENDED else None) if last else career[place + 1][3]
            grade = min(rank.grades, 1 + (start.year - joined.year) // 3)
            posts.append((service_number, start, end, int(last), organ.code, position, rank.code, grade))
    ranks = {rank.code: rank for found in RANKS.values() for rank in found}.values()
    return {
        "don_vi": sorted(used),
        "ngach": [(rank.code, rank.name, Decimal(rank.first), Decimal(rank.step)) for rank in ranks],
        "can_bo": people,
        "qua_trinh": posts,
    }


_OPTIONS = " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
FILLING = Filling(
    before={"postgresql": _TABLES, "mariadb": [table + _OPTIONS for table in _TABLES]},
    tables={
        "don_vi": ("ma_don_vi", "ten"),
        "ngach": ("ma_ngach", "ten", "he_so_dau", "he_so_buoc"),
        "can_bo": (
            *("so_hieu", "so_dinh_danh", "ho_ten", "ngay_sinh", "gioi_tinh", "loai", "trang_thai", "ngay_vao"),
            "dien_thoai",
        ),
        "qua_trinh": ("so_hieu", "tu_ngay", "den_ngay", "cuoi", "ma_don_vi", "chuc_vu", "ma_ngach", "bac"),
    },
    rows=rows,
    after={"postgresql": [_VIEW], "mariadb": [_VIEW]},
)
