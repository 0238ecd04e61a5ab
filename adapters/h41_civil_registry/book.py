"""The province's register of births (sổ đăng ký khai sinh): its tables, and how an entry gets its number.

Entries of one commune and year are numbered from 1 without gaps: the row of the book is locked until the commit, so a
number is given to an entry that exists or to none. A book has 200 pages of one entry each; the next book of the year
goes on with the numbers of the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import (
    CHAR,
    CheckConstraint,
    Column,
    Date,
    Integer,
    MetaData,
    Select,
    Sequence,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection

PROVINCE = "40"
PAGES_IN_BOOK = 200
_SET_UP_LOCK = 0x68343162
"""Advisory lock: `CREATE … IF NOT EXISTS` from two processes at once can fail."""

metadata = MetaData()
child_serial = Sequence("so_dinh_danh_tre_em", start=500_000, minvalue=500_000, maxvalue=999_999, metadata=metadata)
"""Last six digits of the identity numbers of newly registered children; gaps are of no matter here."""
register = Table(
    "so_dang_ky_khai_sinh",
    metadata,
    Column("ma_giao_dich", Text, primary_key=True, comment="id of the message that brought it"),
    Column("ma_gcs", Text, nullable=False, unique=True),
    Column("noi_dang_ky", CHAR(5), nullable=False),
    Column("nam", SmallInteger, nullable=False),
    Column("so", Integer, nullable=False),
    Column("ngay_dang_ky", Date, nullable=False),
    Column("so_dinh_danh", CHAR(12), nullable=False, unique=True),
    Column("ma_ho_so", Text, nullable=False),
    Column("ho_so", JSONB, nullable=False, comment="the request as it came"),
    UniqueConstraint("noi_dang_ky", "nam", "so"),
    CheckConstraint("so >= 1"),
)
books = Table(
    "quyen_khai_sinh",
    metadata,
    Column("noi_dang_ky", CHAR(5), primary_key=True),
    Column("nam", SmallInteger, primary_key=True, autoincrement=False),
    Column("so_cuoi", Integer, nullable=False, comment="number of the last entry"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What the register answers: number within the year, book, page, day, the child's identity number."""

    number: int
    day: date
    child_id: str

    def document(self) -> dict[str, Any]:
        """In the form of `schemas/birth-registration/v1/reply.json`."""
        book, page = divmod(self.number - 1, PAGES_IN_BOOK)
        return {
            "soDangKy": f"{self.number:02d}/{self.day.year}",
            "quyenSo": f"{book + 1:02d}/{self.day.year}",
            "trangSo": page + 1,
            "ngayDangKy": self.day.isoformat(),
            "soDinhDanh": self.child_id,
        }


class AlreadyRegistered(Exception):
    """Another message has registered this birth certificate; nothing was changed."""


async def set_up(connection: AsyncConnection) -> None:
    """Make what is missing; safe from several processes at once. Within the caller's transaction."""
    await connection.execute(select(func.pg_advisory_xact_lock(_SET_UP_LOCK)))
    await connection.run_sync(metadata.create_all)


async def enter(
    connection: AsyncConnection, message_id: str, dossier: str, day: date, application: dict[str, Any]
) -> Entry:
    """Enter a birth into the register within the caller's transaction; the entry exists once that commits.

    A message already entered gets its entry again. AlreadyRegistered where another message brought this certificate.
    """
    place = application["noiDangKy"]
    number = await _next_number(connection, place, day.year)
    serial = (await connection.execute(select(child_serial.next_value()))).scalar_one()
    entry = Entry(number, day, child_identity(application["nks"], serial))
    row = {
        "ma_giao_dich": message_id,
        "ma_gcs": application["maGCS"],
        "noi_dang_ky": place,
        "nam": day.year,
        "so": number,
        "ngay_dang_ky": day,
        "so_dinh_danh": entry.child_id,
        "ma_ho_so": dossier,
        "ho_so": application,
    }
    # Waits where another transaction is entering the same certificate, and then finds it.
    statement = insert(register).values(row).on_conflict_do_nothing().returning(register.c.so)
    if (await connection.execute(statement)).first() is None:
        return await _entered_before(connection, message_id, application["maGCS"])
    this_book = (books.c.noi_dang_ky == place) & (books.c.nam == day.year)
    await connection.execute(update(books).where(this_book).values(so_cuoi=number))
    return entry


async def _next_number(connection: AsyncConnection, place: str, year: int) -> int:
    """One more than the last number, the book's row locked until the transaction ends."""
    new_book = insert(books).values(noi_dang_ky=place, nam=year, so_cuoi=0).on_conflict_do_nothing()
    await connection.execute(new_book)
    this_book = (books.c.noi_dang_ky == place) & (books.c.nam == year)
    last: int = (await connection.execute(select(books.c.so_cuoi).where(this_book).with_for_update())).scalar_one()
    return last + 1


async def _entered_before(connection: AsyncConnection, message_id: str, certificate: str) -> Entry:
    found = (await connection.execute(_by_certificate(certificate))).one_or_none()
    if found is None or found.ma_giao_dich != message_id:
        raise AlreadyRegistered
    return Entry(found.so, found.ngay_dang_ky, found.so_dinh_danh)


def _by_certificate(certificate: str) -> Select[Any]:
    columns = (register.c.ma_giao_dich, register.c.so, register.c.ngay_dang_ky, register.c.so_dinh_danh)
    return select(*columns).where(register.c.ma_gcs == certificate)


def child_identity(child: dict[str, Any], serial: int) -> str:
    """A synthetic identity number: 900 + the province, century and sex, year of birth, six digits."""
    born = date.fromisoformat(child["NgaySinh"])
    century = 2 * (born.year // 100 - 19) + (0 if child["GioiTinh"] == 1 else 1)
    return f"9{PROVINCE}{century}{born.year % 100:02d}{serial:06d}"
