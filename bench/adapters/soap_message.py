"""A citizen's record as the population database answers it, and the manifest that asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapters.g01_population.citizens import communes, household
from adapters.g01_population.population_server.desk import Desk
from adapters.soap_server.messages import Contract

FOLDER = Path(__file__).parents[2] / "adapters" / "g01_population"
WSDL = FOLDER / "dan-cu.wsdl"
OPERATION = "TraCuuCongDan"
HEADER = {"ThongTinKetNoi": {"MaYeuCau": "1", "MaTichHop": "H41", "CanBoXacThuc": "canbo-0017"}}
BODY = {
    "MaDichVu": "1.001193",
    "MaCanBo": "canbo-0017",
    "HoVaTen": "Nguyễn Thị Minh Khai",
    "SoDinhDanh": "940185000017",
    "NgaySinh": "19850517",
}
MANIFEST: dict[str, Any] = {
    "id": "bench-soap",
    "provider": "G22",
    "backend": {"kind": "soap", "wsdl": WSDL.name, "url": {"env": "URL"}, "connections": 64},
    "services": [
        {
            "service": "bench",
            "version": "v1",
            "deadline_s": 30,
            "title": {"vi": "Đo", "en": "Bench"},
            "description": {"vi": "Đo", "en": "Bench"},
            "request_schema": {"type": "object"},
            "reply_schema": {"type": "object"},
            "call": {
                "operation": OPERATION,
                "headers": {"ThongTinKetNoi": "payload.header.ThongTinKetNoi"},
                "arguments": "payload.body",
            },
        }
    ],
}
"""Without expressions: what is compared is the message and its way."""


def answer() -> bytes:
    """The envelope, 2 KB."""
    citizens = {citizen.id: citizen for citizen in household(7, tuple(sorted(communes().values())))}
    desk = Desk(citizens, communes())
    record = desk.record(list(citizens.values())[-1])
    values = {"MaYeuCau": "1", "ThoiDiemTraLoi": "20250812073000", "CongDan": record}
    return Contract(WSDL, WSDL.with_suffix(".xsd")).reply(OPERATION, values)
