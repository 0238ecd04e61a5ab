"""Adapter of Nghệ An's civil registry: enters births into the province's register, once for each message."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from vietnam_provinces import Ward

from adapters.h41_civil_registry.book import PROVINCE, AlreadyRegistered, enter, set_up
from ngsp.adapter import Adapter, ManifestError, Refused, Request, Unavailable
from ngsp.adapter.databases import passing

HANOI_TIME = timezone(timedelta(hours=7))
"""Asia/Ho_Chi_Minh: no daylight saving time."""

adapter = Adapter.load(Path(__file__).with_name("manifest.yaml"))


@adapter.resources
async def resources() -> AsyncIterator[frozenset[str]]:
    """Makes the register's tables where they are missing; yields the codes of the province's communes."""
    variable = adapter.manifest.database_url_env or ""
    address = os.environ.get(variable, "")
    if not address:
        raise ManifestError(f"{adapter.id}: the variable {variable} must name the register's database")
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda *_: asyncpg.connect(address), poolclass=NullPool
    )
    async with engine.begin() as connection:
        await set_up(connection)
    await engine.dispose()
    yield frozenset(f"{ward.code:05d}" for ward in Ward.iter_all() if ward.province_code == int(PROVINCE))


@adapter.service("birth-registration", "v1")
async def birth_registration(request: Request) -> object:
    """See `schemas/birth-registration/v1`. Refused by the rules below; Unavailable where the database cannot now."""
    application: dict[str, Any] = request.payload
    day = today()
    check(application, day, request.resources)
    try:
        entry = await enter(request.transaction(), request.id, request.dossier, day, application)
    except AlreadyRegistered:
        raise Refused("DA-DANG-KY") from None
    except DBAPIError as error:
        if passing(error):
            raise Unavailable("register-unavailable") from None
        raise
    return entry.document()


def today() -> date:
    """The day in Hà Nội."""
    return datetime.now(HANOI_TIME).date()


def check(application: dict[str, Any], day: date, communes: frozenset[str]) -> None:
    """Refused where the register may not enter it: another province's commune; days that cannot be."""
    if application["noiDangKy"] not in communes:
        raise Refused("NGOAI-DIA-BAN")
    born = date.fromisoformat(application["nks"]["NgaySinh"])
    certified = date.fromisoformat(application["ngayCapGCS"])
    if born > day or certified > day:
        raise Refused("NGAY-TUONG-LAI")
    if certified < born:
        raise Refused("GCS-TRUOC-NGAY-SINH")
    for parent in ("me", "cha"):
        if parent in application and date.fromisoformat(application[parent]["NgaySinh"]) >= born:
            raise Refused("CHA-ME-SINH-SAU-CON")
