"""Adapter of the population database: one citizen by number, name and date of birth together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from adapters.g01_population.citizens import Citizen, document, population
from adapters.g01_population.names import comparable
from ngsp.adapter import Adapter, RecordNotFound, Refused, Request

adapter = Adapter.load(Path(__file__).with_name("manifest.yaml"))


@adapter.resources
async def resources() -> AsyncIterator[dict[str, Citizen]]:
    yield population()


@adapter.service("population-lookup", "v1")
async def population_lookup(request: Request) -> object:
    """See `schemas/population-lookup/v1`.

    RecordNotFound where number, name and date of birth do not all fit one citizen, without telling which does not:
    otherwise a caller could find out by trying whom a number belongs to. Refused where the officer named in the body is
    not the one the bus has logged.
    """
    asked = request.payload
    if asked["MaCanBo"] != request.officer:
        raise Refused("SAI-CAN-BO")
    citizens: dict[str, Citizen] = request.resources
    citizen = citizens.get(asked["SoDinhDanh"])
    if citizen is None or not _is_meant(citizen, asked["HoVaTen"], asked["NgaySinh"]):
        raise RecordNotFound("KHONG-CO-CONG-DAN")
    return document(citizen)


def _is_meant(citizen: Citizen, name: str, born: str) -> bool:
    return comparable(name) == comparable(citizen.name.full) and born == citizen.born.isoformat()
