"""What the registry answers:

GET /apiCSDLDKDN/1.0/chiTietDoanhNghiep?maSo=9012345678   200 {"KET_QUA": "OK", "DU_LIEU": {…}}
                                                          404 {"KET_QUA": "KHONG_TIM_THAY"}
GET /tinhTrang                                            200 {"KET_QUA": "OK"}
"""

from __future__ import annotations

from typing import Any

from adapters.rest_server.server import Asked

DETAIL_PATH = "/apiCSDLDKDN/1.0/chiTietDoanhNghiep"
STATE_PATH = "/tinhTrang"


class Desk:
    """Answers from `records`, by enterprise code."""

    def __init__(self, records: dict[str, dict[str, Any]]) -> None:
        self.records = records

    def answer(self, asked: Asked) -> tuple[int, object]:
        if asked.path == STATE_PATH:
            return 200, {"KET_QUA": "OK"}
        code = asked.query.get("maSo", "")
        if asked.path != DETAIL_PATH or asked.method != "GET" or not code:
            return 400, {"KET_QUA": "SAI_THAM_SO"}
        record = self.records.get(code)
        if record and asked.other:
            record = next(found for other, found in self.records.items() if other != code)
        if record is None:
            return 404, {"KET_QUA": "KHONG_TIM_THAY"}
        return 200, {"KET_QUA": "OK", "DU_LIEU": record}
