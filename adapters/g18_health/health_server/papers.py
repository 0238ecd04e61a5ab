"""The papers themselves, as clinics sign them, the same at every start.

A birth notice (giấy chứng sinh) for each synthetic citizen born since 2005, and for the children that a third of the
younger couples had in the second half of 2025, whom no register knows yet. A health certificate (giấy khám sức khỏe)
for each citizen of age.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from adapters.g01_population.citizens import Address, Citizen, Commune, population
from adapters.g01_population.names import Draw, draw_name
from adapters.g18_health.health_server.signing import Clinic, clinics

FIRST_NOTICE_YEAR = 2005
OF_AGE_BORN_BEFORE = date(2008, 1, 1)
LICENCE_CLASSES = ("A", "B", "C1", "C", "D1", "D2", "D", "CE")
_MIDWIVES = tuple(f"Hộ sinh {number:02d}" for number in range(1, 41))
_DOCTORS = tuple(f"Bác sĩ {number:02d}" for number in range(1, 41))


@dataclass(frozen=True, slots=True)
class Paper:
    """One signed paper. `holder`: identity number of whom it is about, empty of a new-born."""

    clinic: Clinic
    holder: str
    document: dict[str, Any]
    withdrawn: bool = False


def birth_notices() -> dict[str, Paper]:
    """Code → notice."""
    people = population()
    born = [child for child in people.values() if child.mother and child.born.year >= FIRST_NOTICE_YEAR]
    notices = [*(_of_citizen(child, people[child.mother]) for child in born), *_new_borns(people)]
    return {
        code: Paper(clinic, holder, {"maGCS": code, "coSo": _shown(clinic)} | document, withdrawn=serial % 200 == 11)
        for serial, (clinic, commune, holder, document) in enumerate(notices, 1)
        for code in (f"{commune.province_code}-{commune.code}-{document['ngayCap'][:4]}-{serial:05d}",)
    }


_Notice = tuple[Clinic, Commune, str, dict[str, Any]]


def _of_citizen(child: Citizen, mother: Citizen) -> _Notice:
    draw = Draw(f"giấy chứng sinh 1/{child.id}")
    return _notice(draw, mother, child.registered_in, child.id, child.name.full, child.male, child.born)


def _new_borns(people: dict[str, Citizen]) -> Iterator[_Notice]:
    for mother in people.values():
        draw = Draw(f"trẻ mới sinh 1/{mother.id}")
        if mother.male or not date(1985, 1, 1) <= mother.born <= date(2004, 1, 1) or draw.below(3):
            continue
        male = draw.below(2) == 0
        father = people.get(mother.spouse, mother)
        name = draw_name(draw, male, father.name.surname).full
        born = date(2025, 7, 1) + timedelta(days=draw.below(180))
        yield _notice(draw, mother, mother.residence, "", name, male, born)


def _notice(draw: Draw, mother: Citizen, place: Address, id: str, name: str, male: bool, born: date) -> _Notice:
    clinic = clinics()[place.commune.province_code]
    given = born + timedelta(days=draw.between(1, 3))
    document = {
        "con": {
            "HoTen": name,
            "GioiTinh": 1 if male else 2,
            "NgaySinh": born.isoformat(),
            "GioSinh": f"{draw.below(24):02d}:{draw.below(60):02d}",
            "CanNang": draw.between(240, 420) * 10,
        },
        "me": {
            "HoTen": mother.name.full,
            "NgaySinh": mother.born.isoformat(),
            "DanToc": mother.ethnicity,
            "SoGiayToTuyThan": mother.id,
            "NoiCuTru": _written(mother.residence),
        },
        "noiSinhDVHC": place.commune.code,
        "nguoiDoDe": draw.one_of(_MIDWIVES),
        "ngayCap": given.isoformat(),
    }
    return clinic, place.commune, id, document


def health_certificates() -> dict[str, Paper]:
    """Number → certificate. Two in three are for driving licences and hold for a year, the others for work."""
    of_age = (citizen for citizen in population().values() if citizen.born < OF_AGE_BORN_BEFORE)
    papers = (_certificate(serial, citizen) for serial, citizen in enumerate(of_age, 1))
    return {paper.document["soGiay"]: paper for paper in papers}


def _certificate(serial: int, citizen: Citizen) -> Paper:
    draw = Draw(f"giấy khám sức khỏe 1/{citizen.id}")
    clinic = clinics()[citizen.residence.commune.province_code]
    examined = date(2025, 1, 1) + timedelta(days=draw.below(360))
    driving = draw.below(3) > 0
    result = ("DU", "DU", "DU", "DU", "DU", "DU", "DU", "HAN_CHE", "HAN_CHE", "KHONG_DU")[draw.below(10)]
    document = {
        "soGiay": f"{clinic.code}-{examined:%y}-{serial:06d}",
        "coSo": _shown(clinic),
        "nguoiKham": {
            "HoTen": citizen.name.full,
            "GioiTinh": 1 if citizen.male else 2,
            "NgaySinh": citizen.born.isoformat(),
            "SoDinhDanh": citizen.id,
        },
        "mucDich": "LAI_XE" if driving else "LAM_VIEC",
        "hangGPLX": draw.one_of(LICENCE_CLASSES) if driving else "",
        "ketLuan": result,
        "ghiChu": "Phải đeo kính khi lái xe" if result == "HAN_CHE" and driving else "",
        "bacSi": draw.one_of(_DOCTORS),
        "ngayKham": examined.isoformat(),
        "coGiaTriDen": (examined + timedelta(days=364)).isoformat(),
    }
    return Paper(clinic, citizen.id, document, withdrawn=serial % 200 == 11)


def _shown(clinic: Clinic) -> dict[str, str]:
    return {"ma": clinic.code, "ten": clinic.name}


def _written(address: Address) -> str:
    return f"{address.detail}, {address.commune.name}, {address.commune.province}"
