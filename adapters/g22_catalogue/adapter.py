"""Adapter of the shared catalogue: administrative units by code, by list, by name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from adapters.g22_catalogue.units import ABOLISHED_PROVINCES, Catalogue, Unit
from ngsp.adapter import Adapter, RecordNotFound, Request

DEFAULT_LIMIT = 50

adapter = Adapter.load(Path(__file__).with_name("manifest.yaml"))


@adapter.resources
async def resources() -> AsyncIterator[Catalogue]:
    yield Catalogue()


@adapter.service("administrative-units", "v1")
async def administrative_units(request: Request) -> object:
    """See `schemas/administrative-units/v1`. RecordNotFound for an unknown code; a search may find nothing."""
    asked: dict[str, Any] = request.payload
    catalogue: Catalogue = request.resources
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
