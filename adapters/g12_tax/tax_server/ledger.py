"""The ledger: what each payer owes, by tax and period, drawn from its code alone.

    GET /nghiaVuThue/{maSoThue}?den=dd/MM/yyyy   200 {maSoThue, ten, khoanNop: […]}, 404 {maLoi}

Payers are the synthetic enterprises, and the synthetic citizens of age by their identity numbers, which are tax codes
since 1 July 2025.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from adapters.g01_population.citizens import population
from adapters.g01_population.names import Draw
from adapters.g12_enterprise.registry_server.data import enterprises
from adapters.rest_server.server import Asked

STATE_PATH = "/tinhTrang"
OF_AGE_BORN_BEFORE = date(2008, 1, 1)
COMPANY_TAXES = (("1701", "Thuế giá trị gia tăng"), ("1052", "Thuế thu nhập doanh nghiệp"), ("2862", "Lệ phí môn bài"))
PERSONAL_TAXES = (("1001", "Thuế thu nhập cá nhân"), ("1602", "Thuế sử dụng đất phi nông nghiệp"))
PERIODS = (("Q3/2025", date(2025, 10, 31)), ("Q4/2025", date(2026, 1, 31)), ("2025", date(2026, 3, 31)))

_PATH = re.compile(r"/nghiaVuThue/([0-9]{10}(?:-[0-9]{3})?|[0-9]{12})")


class Ledger:
    def __init__(self) -> None:
        people = population().values()
        self._names = {code: str(record["TEN_DN"]) for code, record in enterprises().items()}
        self._names |= {person.id: person.name.full for person in people if person.born < OF_AGE_BORN_BEFORE}

    @property
    def payers(self) -> int:
        return len(self._names)

    def answer(self, asked: Asked) -> tuple[int, object]:
        if asked.path == STATE_PATH:
            return 200, {"trangThai": "OK"}
        found = _PATH.fullmatch(asked.path)
        if asked.method != "GET" or found is None:
            return 404, {"maLoi": "KHONG_CO_DICH_VU"}
        until = date.max
        if "den" in asked.query:
            try:
                until = datetime.strptime(asked.query["den"], "%d/%m/%Y").date()  # noqa: DTZ007 - a date
            except ValueError:
                return 400, {"maLoi": "NGAY_SAI_DANG"}
        code = found[1] if not asked.other else next(iter(self._names))
        if code not in self._names:
            return 404, {"maLoi": "KHONG_CO_NGUOI_NOP_THUE"}
        return 200, {"maSoThue": code, "ten": self._names[code], "khoanNop": list(_owed(code, until))}


def _owed(code: str, until: date) -> Iterator[dict[str, Any]]:
    draw = Draw(f"nghĩa vụ thuế 1/{code}")
    for tax, name in PERSONAL_TAXES if len(code) == 12 else COMPANY_TAXES:
        for period, due in PERIODS[draw.below(3) :]:
            amount = draw.between(1, 400) * 250_000
            paid = amount if draw.below(4) else draw.below(2) * amount // 2
            if due <= until:
                yield {
                    "maTieuMuc": tax,
                    "tenSacThue": name,
                    "kyThue": period,
                    "hanNop": f"{due:%d/%m/%Y}",
                    "soPhaiNop": str(amount),
                    "soDaNop": str(paid),
                }
