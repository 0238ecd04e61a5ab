"""What every synthetic identity number must be."""

from __future__ import annotations

import re
from datetime import date


def assert_identity_number(number: str, male: bool, born: date) -> None:
    """Twelve digits: a province code that no real number has, the right century, sex and year."""
    assert re.fullmatch(r"[0-9]{12}", number)
    assert int(number[:3]) >= 900
    century = {19: 0, 20: 2}[born.year // 100]
    assert int(number[3]) == century + (0 if male else 1)
    assert number[4:6] == f"{born.year % 100:02d}"
