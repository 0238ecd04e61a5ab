"""Adapter of the shared catalogues: administrative units, older provinces, peoples, countries, members."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.g22_catalogue.lists import List, countries, members, older_provinces, peoples
from adapters.g22_catalogue.units import ABOLISHED_PROVINCES, Catalogue, Unit
from ngsp.adapter import Adapter, RecordNotFound, Request

DEFAULT_LIMIT = 50
MEMBERS_VARIABLE = "NGSP_G22_MEMBERS_FILE"
"""The file of the node's declared members; where it is not set, the catalogue of members is empty."""

adapter = Adapter.load(Path(__file__).with_name("manifest.yaml"))


@dataclass(frozen=True, slots=True)
class Catalogues:
    units: Catalogue
    lists: dict[str, List]


@adapter.resources
async def resources() -> AsyncIterator[Catalogues]:
    units, declared = Catalogue(), os.environ.get(MEMBERS_VARIABLE)
    lists = {
        "older-provinces": older_provinces(units),
        "ethnic-groups": peoples(),
        "countries": countries(),
        "members": members(Path(declared)) if declared else List((), lambda entry: ()),
    }
    yield Catalogues(units, lists)


@adapter.service("older-provinces", "v1")
@adapter.service("ethnic-groups", "v1")
@adapter.service("countries", "v1")
@adapter.service("members", "v1")
async def entries(request: Request) -> object:
    """See the schemas. RecordNotFound for an unknown code; a search may find nothing."""
    asked: dict[str, str] = request.payload
    found: List = request.resources.lists[request.envelope.service.split("/")[1]]
    if "code" not in asked:
        return {"entries": found.search(asked["name"]) if "name" in asked else found.all()}
    entry = found.find(asked["code"])
    if entry is None:
        raise RecordNotFound("KHONG-CO-MA")
    return {"entries": [entry]}


@adapter.service("administrative-units", "v1")
async def administrative_units(request: Request) -> object:
    """See `schemas/administrative-units/v1`. RecordNotFound for an unknown code; a search may find nothing."""
    asked: dict[str, Any] = request.payload
    catalogue: Catalogue = request.resources.units
    if "code" in asked:
        return _page([_known(catalogue, asked["code"])], 1)
    if asked.get("list") == "provinces":
        return _page(catalogue.provinces(), len(catalogue.provinces()))
    if province := asked.get("province"):
        _known(catalogue, province)
    limit = asked.get("limit", DEFAULT_LIMIT)
    if "name" in asked:
        return _page(catalogue.search(asked["name"], province), limit)
    return _communes(catalogue.communes(asked["province"]), asked.get("after", ""), limit)


def _known(catalogue: Catalogue, code: str) -> Unit:
    unit = catalogue.find(code)
    if unit is None:
        raise RecordNotFound("DA-SAP-NHAP-2025-07-01" if code in ABOLISHED_PROVINCES else "KHONG-CO-DON-VI")
    return unit


def _communes(communes: list[Unit], after: str, limit: int) -> dict[str, Any]:
    left = [unit for unit in communes if unit.code > after]
    page = _page(left, limit)
    page["total"] = len(communes)
    page["next"] = left[limit - 1].code if len(left) > limit else None
    return page


def _page(units: list[Unit], limit: int) -> dict[str, Any]:
    return {"units": [unit.document() for unit in units[:limit]], "total": len(units), "next": None}
