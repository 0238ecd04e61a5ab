"""A reply of 1 KB as a registry gives it, and its mapping: as a manifest writes it, and by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Any

RECORD: dict[str, Any] = {
    "SO_DINH_DANH": "912185000017",
    "HO_TEN": "Nguyễn Thị Minh Khai",
    "NGAY_SINH": "17/05/1985",
    "GIOI_TINH": "2",
    "DAN_TOC": "01",
    "QUOC_TICH": "VN",
    "NOI_SINH": {"MA_TINH": "40", "MA_XA": "16975", "CHI_TIET": "Trạm y tế xã Nghĩa Mai", "QUOC_GIA": "VN"},
    "THUONG_TRU": {"MA_TINH": "40", "MA_XA": "17920", "CHI_TIET": "Khối 3, số 12 đường Lê Lợi", "QUOC_GIA": "VN"},
    "HIEN_TAI": {"MA_TINH": "01", "MA_XA": "00070", "CHI_TIET": "Số 5 ngõ 17 phố Hàng Bông", "QUOC_GIA": "VN"},
    "THAN_NHAN": [
        {"QUAN_HE": "CHA", "HO_TEN": "Nguyễn Văn Hùng", "SO_DINH_DANH": "912058000011"},
        {"QUAN_HE": "ME", "HO_TEN": "Trần Thị Lan", "SO_DINH_DANH": "912160000012"},
        {"QUAN_HE": "VO_CHONG", "HO_TEN": "Lê Quang Vinh", "SO_DINH_DANH": "912083000013"},
    ],
    "CAP_NHAT": "20250701073015",
    "GIAY_TO": {"LOAI": "CCCD", "SO": "912185000017", "NOI_CAP": "Cục Cảnh sát quản lý hành chính về trật tự xã hội"},
    "TON_GIAO": "00",
    "NGHE_NGHIEP": "Giáo viên trung học phổ thông",
    "SO_DIEN_THOAI": None,
    "GHI_CHU": "",
    "TRANG_THAI": "1",
}
"""A synthetic person; with its frame 1 KB of JSON."""

TABLES: dict[str, dict[str, Any]] = {
    "gioi-tinh": {"1": "nam", "2": "nu"},
    "dan-toc": {f"{number:02d}": f"dan-toc-{number}" for number in range(1, 55)},
    "quan-he": {"CHA": "cha", "ME": "me", "VO_CHONG": "vo-chong"},
}

_ADDRESS = "{maTinh: MA_TINH, maXa: MA_XA, chiTiet: CHI_TIET, quocGia: QUOC_GIA}"
MAPPING: dict[str, Any] = {
    "soDinhDanh": "body.DU_LIEU.SO_DINH_DANH",
    "hoTen": "name_parts(body.DU_LIEU.HO_TEN)",
    "ngaySinh": "iso_date(body.DU_LIEU.NGAY_SINH, 'dd/MM/yyyy')",
    "gioiTinh": "lookup('gioi-tinh', body.DU_LIEU.GIOI_TINH)",
    "danToc": "lookup('dan-toc', body.DU_LIEU.DAN_TOC, 'khac')",
    "quocTich": "body.DU_LIEU.QUOC_TICH",
    "noiSinh": f"body.DU_LIEU.NOI_SINH.{_ADDRESS}",
    "thuongTru": f"body.DU_LIEU.THUONG_TRU.{_ADDRESS}",
    "hienTai": f"body.DU_LIEU.HIEN_TAI.{_ADDRESS}",
    "thanNhan": "body.DU_LIEU.THAN_NHAN[*].{quanHe: lookup('quan-he', QUAN_HE), hoTen: HO_TEN, so: SO_DINH_DANH}",
    "ghiChu": "body.DU_LIEU.GHI_CHU || `null`",
    "conSong": "body.DU_LIEU.TRANG_THAI == '1'",
    "capNhat": "iso_time(body.DU_LIEU.CAP_NHAT, 'yyyyMMddHHmmss')",
}
PLAIN = f"""body.DU_LIEU.{{soDinhDanh: SO_DINH_DANH, hoTen: HO_TEN, ngaySinh: NGAY_SINH, gioiTinh: GIOI_TINH,
    danToc: DAN_TOC, quocTich: QUOC_TICH, noiSinh: NOI_SINH.{_ADDRESS}, thuongTru: THUONG_TRU.{_ADDRESS},
    hienTai: HIEN_TAI.{_ADDRESS}, thanNhan: THAN_NHAN[*].{{quanHe: QUAN_HE, hoTen: HO_TEN, so: SO_DINH_DANH}},
    ghiChu: GHI_CHU || `null`, conSong: TRANG_THAI == '1', capNhat: CAP_NHAT}}"""
"""The same without functions of ours, which `jmespath` itself does not know."""


def by_hand(root: dict[str, Any]) -> dict[str, Any]:
    """What an author would write in Python in place of `MAPPING`."""
    found = root["body"]["DU_LIEU"]
    ho, *dem, ten = found["HO_TEN"].split()
    return {
        "soDinhDanh": found["SO_DINH_DANH"],
        "hoTen": {"Ho": ho, "ChuDem": " ".join(dem), "Ten": ten},
        "ngaySinh": datetime.strptime(found["NGAY_SINH"], "%d/%m/%Y").date().isoformat(),  # noqa: DTZ007 - a date
        "gioiTinh": TABLES["gioi-tinh"][found["GIOI_TINH"]],
        "danToc": TABLES["dan-toc"].get(found["DAN_TOC"], "khac"),
        "quocTich": found["QUOC_TICH"],
        "noiSinh": _address(found["NOI_SINH"]),
        "thuongTru": _address(found["THUONG_TRU"]),
        "hienTai": _address(found["HIEN_TAI"]),
        "thanNhan": [
            {"quanHe": TABLES["quan-he"][each["QUAN_HE"]], "hoTen": each["HO_TEN"], "so": each["SO_DINH_DANH"]}
            for each in found["THAN_NHAN"]
        ],
        "ghiChu": found["GHI_CHU"] or None,
        "conSong": found["TRANG_THAI"] == "1",
        "capNhat": datetime.strptime(f"{found['CAP_NHAT']}+0700", "%Y%m%d%H%M%S%z").isoformat(),
    }


def _address(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "maTinh": found["MA_TINH"],
        "maXa": found["MA_XA"],
        "chiTiet": found["CHI_TIET"],
        "quocGia": found["QUOC_GIA"],
    }
