"""What the system answers: checks of cards with its result codes, and temporary cards for children.

POST /api/the/traCuu   {maThe, hoTen, ngaySinh dd/MM/yyyy or yyyy, hoTenCb, cccdCb}   200 {maKetQua, ghiChu, …}
POST /api/the/capTreEm {maYeuCau, soDinhDanh, hoTen, ngaySinh, gioiTinh, maTinh, …}   200 {trangThai, maThe, …}
"""

from __future__ import annotations

import re
import threading
from datetime import date, datetime
from typing import Any

from adapters.g01_population.citizens import communes
from adapters.g01_population.names import comparable
from adapters.g24_insurance.insurance_server.cards import TODAY, Card
from adapters.rest_server.server import Asked

STATE_PATH = "/api/tinhTrang"
CHECK_PATH = "/api/the/traCuu"
CHILD_PATH = "/api/the/capTreEm"
OLDEST_CHILD_YEARS = 6
OFFICERS = {f"9400000000{number:02d}": f"Cán bộ {number:02d}" for number in range(1, 21)}
"""Identity number → name of those who may ask."""

NOTES = {
    "000": "Thông tin thẻ chính xác",
    "003": "Thẻ cũ hết giá trị sử dụng nhưng đã được cấp thẻ mới",
    "004": "Thẻ cũ còn giá trị sử dụng nhưng đã được cấp thẻ mới",
    "010": "Thẻ hết giá trị sử dụng",
    "050": "Không thấy thông tin thẻ bhyt",
    "051": "Mã thẻ không đúng",
    "052": "Mã tỉnh cấp thẻ (ký tự thứ 4, 5 của mã thẻ) không đúng",
    "053": "Mã quyền lợi thẻ (ký tự thứ 3 của mã thẻ) không đúng",
    "054": "Họ tên cán bộ không đúng",
    "055": "Số định danh cán bộ không đúng",
    "060": "Thẻ sai họ tên",
    "070": "Thẻ sai ngày sinh",
    "110": "Thẻ đã thu hồi",
    "205": "Lỗi sai định dạng tham số",
}
_PROVINCES = frozenset(commune.province_code for commune in communes().values())
_CARD = re.compile(r"[A-Z]{2}\d{13}")
_IDENTITY = re.compile(r"\d{12}")


class Desk:
    """`holders`: identity number → card. Children's cards given out are kept while the process runs."""

    def __init__(self, holders: dict[str, Card]) -> None:
        self.holders = holders
        self._by_number = {card.number: card for card in holders.values()}
        self._by_older = {card.replaces: card for card in holders.values() if card.replaces}
        self._given: dict[str, dict[str, Any]] = {}
        self._children: dict[str, str] = {}
        self._lock = threading.Lock()

    def answer(self, asked: Asked) -> tuple[int, object]:
        if asked.path == STATE_PATH:
            return 200, {"trangThai": "OK"}
        try:
            document = asked.json()
            if asked.method == "POST" and asked.path == CHECK_PATH:
                return 200, self._check(document, asked.other)
            if asked.method == "POST" and asked.path == CHILD_PATH:
                return 200, self._give(document)
        except (KeyError, TypeError, ValueError):
            return 200, {"maKetQua": "205", "ghiChu": NOTES["205"], "trangThai": "LOI_THAM_SO"}
        return 404, {"maKetQua": "500", "ghiChu": "Không có dịch vụ"}

    def _check(self, asked: dict[str, str], other: bool) -> dict[str, Any]:
        wanted, name, born = asked["maThe"], asked["hoTen"], asked["ngaySinh"]
        officer = OFFICERS.get(asked["cccdCb"])
        if officer is None:
            return _result("055")
        if comparable(officer) != comparable(asked["hoTenCb"]):
            return _result("054")
        if code := _malformed(wanted):
            return _result(code)
        card = self._by_number.get(wanted) or self._by_older.get(wanted) or self.holders.get(wanted)
        if card is None:
            return _result("050")
        if comparable(card.holder.name.full) != comparable(name):
            return _result("060")
        if born not in (f"{card.holder.born:%d/%m/%Y}", f"{card.holder.born:%Y}"):
            return _result("070")
        if other:
            card = next(found for found in self.holders.values() if found is not card)
        return _result(_state(card, wanted), card)

    def _give(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A child's temporary card, once for each request code and each child."""
        request, child = str(asked["maYeuCau"]), str(asked["soDinhDanh"])
        born = datetime.strptime(asked["ngaySinh"], "%d/%m/%Y").date()  # noqa: DTZ007 - a date
        with self._lock:
            if request in self._given:
                return self._given[request]
            if not _IDENTITY.fullmatch(child) or asked["maTinh"] not in _PROVINCES:
                raise ValueError("malformed")
            if not date(TODAY.year - OLDEST_CHILD_YEARS, 1, 1) <= born:
                return {"trangThai": "TU_CHOI", "maLoi": "QUA_TUOI", "ghiChu": "Trẻ đã đủ 6 tuổi"}
            if child in self._children or child in self.holders:
                return {"trangThai": "TU_CHOI", "maLoi": "DA_CO_THE", "ghiChu": "Trẻ đã có thẻ"}
            number = f"8{len(self._children) + 1:09d}"
            self._children[child] = number
            self._given[request] = {
                "trangThai": "DA_CAP",
                "maThe": f"TE1{asked['maTinh']}{number}",
                "maSoBHXH": number,
                "gtTheTu": f"{born:%d/%m/%Y}",
                "gtTheDen": f"{_sixth_birthday(born):%d/%m/%Y}",
            }
            return self._given[request]


def _malformed(wanted: str) -> str:
    """The result code for a number that is none; empty for one that may be."""
    if _IDENTITY.fullmatch(wanted):
        return ""
    if not _CARD.fullmatch(wanted):
        return "051"
    if wanted[3:5] not in _PROVINCES:
        return "052"
    return "" if wanted[2] in "12345" else "053"


def _state(card: Card, wanted: str) -> str:
    if card.state in ("expired", "withdrawn"):
        return "010" if card.state == "expired" else "110"
    if wanted == card.replaces:
        return "003" if card.state == "renewed" else "004"
    return "000"


def _result(code: str, card: Card | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"maKetQua": code, "ghiChu": NOTES[code]}
    if card is None:
        return found
    holder = card.holder
    return found | {
        "maThe": card.number,
        "maTheCu": card.replaces,
        "maSoBHXH": card.insurance_number,
        "hoTen": holder.name.full,
        "ngaySinh": f"{holder.born:%d/%m/%Y}",
        "gioiTinh": "Nam" if holder.male else "Nữ",
        "diaChi": f"{holder.residence.detail}, {holder.residence.commune.name}, {holder.residence.commune.province}",
        "gtTheTu": f"{card.valid_from:%d/%m/%Y}",
        "gtTheDen": f"{card.valid_to:%d/%m/%Y}",
        "maDKBD": f"{holder.residence.commune.province_code}001",
        "tenDKBD": f"Bệnh viện đa khoa {holder.residence.commune.province}",
    }


def _sixth_birthday(born: date) -> date:
    """The last day of a child's card: the day before the sixth birthday, of 29 February the 28th."""
    return date(born.year + OLDEST_CHILD_YEARS, born.month, min(born.day, 28))
