"""What the population database does: look up, verify, issue a child's number, register a residence."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from typing import Any

from adapters.g01_population.citizens import Address, Citizen, Commune, identity_number
from adapters.g01_population.names import Name, comparable
from adapters.soap_server.messages import BAD_DATA, Call, Fault
from adapters.soap_server.repeats import Repeats
from adapters.soap_server.server import Work

COUNTRY = "VN"
ETHNICITIES = {
    "Kinh": "01",
    "Tày": "02",
    "Thái": "03",
    "Hoa": "04",
    "Khơ-me": "05",
    "Mường": "06",
    "Nùng": "07",
    "Mông": "08",
    "Thổ": "24",
}
"""Ethnicity → its code in the list of the General Statistics Office (Decision 121-TCTK/PPCĐ, 1979)."""
RELATIONS = {"Chủ hộ": "01", "Vợ": "02", "Con": "04", "Con dâu": "05", "Cháu": "09"}
FIRST_ISSUED = 750_000
"""Last six digits of the first number issued here: above those of the population and of the sample civil registry."""
_HANOI = timezone(timedelta(hours=7))


class Desk:
    """The operations of the WSDL over `citizens`, which it adds to. `places`: commune's code → commune."""

    def __init__(self, citizens: Mapping[str, Citizen], places: Mapping[str, Commune]) -> None:
        self.citizens = dict(citizens)
        self._places = places
        self._repeats = Repeats()
        self._births: set[tuple[str, str]] = set()
        self._serials = itertools.count(FIRST_ISSUED)
        self._files = itertools.count(1)

    def work(self) -> dict[str, Work]:
        return {
            "TraCuuCongDan": self._look_up,
            "XacThucCongDan": self._verify,
            "CapSoDinhDanh": self._issue,
            "DangKyCuTru": self._register_residence,
        }

    def _look_up(self, call: Call) -> Mapping[str, Any]:
        return self._answer(call, CongDan=self.record(self._found(call)))

    def _verify(self, call: Call) -> Mapping[str, Any]:
        """No such number and a name that does not fit are the same *no*."""
        try:
            self._found(call)
        except Fault as fault:
            if fault.error != "KHONG_TIM_THAY":
                raise
            return self._answer(call, TrungKhop=False)
        return self._answer(call, TrungKhop=True)

    def _issue(self, call: Call) -> Mapping[str, Any]:
        self._check_officer(call)
        return self._repeats.once(_code(call), call, lambda: self._issued(call))

    def _issued(self, call: Call) -> Mapping[str, Any]:
        child, today = call.body["TreEm"], _today()
        born, registered = _day(child["NgaySinh"]), _day(call.body["NgayDangKy"])
        place = self._place(call.body["NoiDangKy"])
        if not born <= registered <= today:
            raise Fault(BAD_DATA, "Ngày sinh, ngày đăng ký không hợp lệ")
        parents = [self.citizens.get(number) for number in call.body["ChaMe"]]
        if None in parents:
            raise Fault("KHONG_CO_CHA_ME", "Không có cha, mẹ trong cơ sở dữ liệu")
        birth = (call.body["NoiDangKy"], call.body["SoDangKyKhaiSinh"])
        if birth in self._births:
            raise Fault("DA_CAP_SO", "Đã cấp số định danh cho khai sinh này")
        number = identity_number(place.province_code, child["GioiTinh"] == 1, born, next(self._serials))
        name = Name(*(child["HoVaTen"][part] or "" for part in ("Ho", "ChuDem", "Ten")))
        self._births.add(birth)
        self.citizens[number] = _newborn(number, name, born, place, child, [p for p in parents if p])
        return self._answer(call, SoDinhDanh=number, NgayCap=_written_day(today))

    def _register_residence(self, call: Call) -> Mapping[str, Any]:
        citizen = self._found(call)
        return self._repeats.once(_code(call), call, lambda: self._registered(call, citizen))

    def _registered(self, call: Call, citizen: Citizen) -> Mapping[str, Any]:
        if call.body["ChuHo"] not in self.citizens:
            raise Fault("KHONG_CO_CHU_HO", "Không có chủ hộ trong cơ sở dữ liệu")
        relation = {code: name for name, code in RELATIONS.items()}.get(call.body["QuanHe"], "Khác")
        home = Address(self._place(call.body["XaPhuong"]), call.body["ChiTiet"] or "")
        if call.body["LoaiCuTru"] == 1:
            moved = replace(citizen, residence=home, head=call.body["ChuHo"], relation=relation)
            self.citizens[citizen.id] = moved
        today = _today()
        file = f"CT{today:%y}{next(self._files):08d}"
        return self._answer(call, SoHoSoCuTru=file, NgayDangKy=_written_day(today), NoiCuTru=_address(home))

    def _found(self, call: Call) -> Citizen:
        """Whom number, name and date of birth all fit; the fault does not tell which does not."""
        self._check_officer(call)
        citizen = self.citizens.get(call.body["SoDinhDanh"])
        named = comparable(call.body["HoVaTen"] or "")
        if (
            citizen is None
            or named != comparable(citizen.name.full)
            or call.body["NgaySinh"] != _written_day(citizen.born)
        ):
            raise Fault("KHONG_TIM_THAY", "Không tìm thấy công dân")
        return citizen

    def _check_officer(self, call: Call) -> None:
        if call.body["MaCanBo"] != call.header["ThongTinKetNoi"]["CanBoXacThuc"]:
            raise Fault("SAI_CAN_BO", "Cán bộ yêu cầu không phải cán bộ đã xác thực")

    def _place(self, code: str) -> Commune:
        if code not in self._places:
            raise Fault(BAD_DATA, "Không có đơn vị hành chính này")
        return self._places[code]

    def _answer(self, call: Call, **values: Any) -> Mapping[str, Any]:
        return {"MaYeuCau": _code(call), "ThoiDiemTraLoi": f"{datetime.now(_HANOI):%Y%m%d%H%M%S}"} | values

    def record(self, citizen: Citizen) -> dict[str, Any]:
        """The element `CongDan` of the XSD."""
        return {
            "SoDinhDanh": citizen.id,
            "HoVaTen": _name(citizen.name),
            "GioiTinh": 1 if citizen.male else 2,
            "NgaySinh": _written_day(citizen.born),
            "DanToc": ETHNICITIES[citizen.ethnicity],
            "QuocTich": COUNTRY,
            "NoiDangKyKhaiSinh": _address(citizen.registered_in),
            "QueQuan": _address(citizen.origin),
            "ThuongTru": _address(citizen.residence),
            "Cha": self._relative(citizen.father),
            "Me": self._relative(citizen.mother),
            "VoChong": self._relative(citizen.spouse),
            "ChuHo": {
                "SoDinhDanh": citizen.head,
                "HoVaTen": _name(self.citizens[citizen.head].name),
                "QuanHe": RELATIONS.get(citizen.relation, "99"),
            },
        }

    def _relative(self, number: str) -> dict[str, Any] | None:
        return {"SoDinhDanh": number, "HoVaTen": _name(self.citizens[number].name)} if number else None


def _newborn(
    number: str, name: Name, born: date, place: Commune, child: Mapping[str, Any], parents: list[Citizen]
) -> Citizen:
    """The child lives with the parent that is named first, until a residence is registered."""
    first = parents[0]
    return Citizen(
        id=number,
        name=name,
        male=child["GioiTinh"] == 1,
        born=born,
        ethnicity=next((name for name, code in ETHNICITIES.items() if code == child["DanToc"]), first.ethnicity),
        registered_in=Address(place, ""),
        origin=first.origin,
        residence=first.residence,
        head=first.head,
        relation="Con" if first.relation in ("Chủ hộ", "Vợ") else "Cháu",
        father=next((parent.id for parent in parents if parent.male), ""),
        mother=next((parent.id for parent in parents if not parent.male), ""),
    )


def _code(call: Call) -> str:
    return str(call.header["ThongTinKetNoi"]["MaYeuCau"])


def _name(name: Name) -> dict[str, str]:
    return {"Ho": name.surname, "ChuDem": name.middle, "Ten": name.given}


def _address(address: Address) -> dict[str, Any]:
    place = address.commune
    return {
        "TinhThanh": {"_value_1": place.province, "Ma": place.province_code},
        "XaPhuong": {"_value_1": place.name, "Ma": place.code},
        "ChiTiet": address.detail,
        "QuocGia": COUNTRY,
    }


def _today() -> date:
    return datetime.now(_HANOI).date()


def _day(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y%m%d").replace(tzinfo=_HANOI).date()
    except ValueError:
        raise Fault(BAD_DATA, "Không có ngày này") from None


def _written_day(day: date) -> str:
    return f"{day:%Y%m%d}"
