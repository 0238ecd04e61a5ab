"""What the system answers: papers as their clinics signed them, and the clinics' public keys.

GET /giayChungSinh/{maGCS}                    200 {duLieu, chuKy}, 404 {maLoi}, 410 {maLoi} for one that was withdrawn
GET /giayKhamSucKhoe/{soGiay}?soDinhDanh=…    the same; 404 too where the certificate is another person's
GET /khoa/{maKhoa}                            200 {maKhoa, coSo, khoa, tuNgay}, 404 {maLoi}
"""

from __future__ import annotations

from adapters.g18_health.health_server.papers import Paper, birth_notices, health_certificates
from adapters.g18_health.health_server.signing import KEYS_SINCE, clinics, public_key, sign
from adapters.rest_server.server import Asked

STATE_PATH = "/tinhTrang"


class Archive:
    def __init__(self) -> None:
        self.notices = birth_notices()
        self.certificates = health_certificates()
        self._clinics = {clinic.key_id: clinic for clinic in clinics().values()}

    @property
    def papers(self) -> int:
        return len(self.notices) + len(self.certificates)

    def answer(self, asked: Asked) -> tuple[int, object]:
        if asked.path == STATE_PATH:
            return 200, {"trangThai": "OK"}
        match asked.method, asked.path.removeprefix("/").split("/"):
            case "GET", ["giayChungSinh", code]:
                return _answer(self.notices.get(code) if not asked.other else next(iter(self.notices.values())))
            case "GET", ["giayKhamSucKhoe", code]:
                found = self.certificates.get(code)
                if found is not None and found.holder != asked.query.get("soDinhDanh"):
                    found = None
                return _answer(found if not asked.other else next(iter(self.certificates.values())))
            case "GET", ["khoa", key_id]:
                return self._key(next(iter(self._clinics)) if asked.other else key_id)
        return 404, {"maLoi": "KHONG_CO_DICH_VU"}

    def _key(self, key_id: str) -> tuple[int, object]:
        clinic = self._clinics.get(key_id)
        if clinic is None:
            return 404, {"maLoi": "KHONG_CO_KHOA"}
        shown = {"ma": clinic.code, "ten": clinic.name}
        return 200, {"maKhoa": key_id, "coSo": shown, "khoa": public_key(key_id), "tuNgay": KEYS_SINCE}


def _answer(paper: Paper | None) -> tuple[int, object]:
    if paper is None:
        return 404, {"maLoi": "KHONG_CO_GIAY"}
    if paper.withdrawn:
        return 410, {"maLoi": "GIAY_DA_THU_HOI"}
    return 200, {"duLieu": paper.document, "chuKy": sign(paper.document, paper.clinic.key_id)}
