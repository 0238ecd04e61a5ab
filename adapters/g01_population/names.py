"""Vietnamese names in Vietnamese order: họ (surname), chữ đệm (middle name), tên (given name)."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Name:
    """`middle` may be empty or of several words."""

    surname: str
    middle: str
    given: str

    @property
    def full(self) -> str:
        return " ".join(part for part in (self.surname, self.middle, self.given) if part)


def comparable(name: str) -> str:
    """An NFC copy, caseless, single spaces; accents count. What names are matched on; never stored or sent."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


class Draw:
    """Draws from a stream seeded by a text. Only `random()` is promised to stay the same from one Python to the next,
    so nothing else of the module is used."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed).random

    def below(self, limit: int) -> int:
        return int(self._random() * limit)

    def between(self, low: int, high: int) -> int:
        """Both ends included."""
        return low + self.below(high - low + 1)

    def one_of(self, things: Sequence[_T]) -> _T:
        return things[self.below(len(things))]


def _list(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(","))


SURNAMES = _list(
    "Nguyễn, Nguyễn, Nguyễn, Nguyễn, Nguyễn, Nguyễn, Trần, Trần, Lê, Lê, Phạm, Phạm, Hoàng, Huỳnh, Phan, Vũ, Võ, Đặng,"
    "Bùi, Đỗ, Hồ, Ngô, Dương, Lý, Đinh, Cao, Thái, Chu, Tạ, Lương, Trương, Hà, Mai, Đào, Phùng, Quách"
)
"""As common here as they roughly are in the country: a third of the draws is Nguyễn or Trần."""
MALE_MIDDLES = _list("Văn, Văn, Văn, Đức, Hữu, Minh, Quang, Xuân, Đình, Công, Quốc, Thanh, Ngọc, Bá, Viết, Gia, Trọng")
FEMALE_MIDDLES = _list(
    "Thị, Thị, Thị, Thị Thanh, Thị Thu, Thị Ngọc, Thị Kim, Thị Hồng, Ngọc, Thanh, Thu, Phương, Khánh, Bảo, Diệu, Minh"
)
MALE_GIVEN = _list(
    "An, Anh, Bách, Bảo, Bình, Chiến, Cường, Dũng, Duy, Đạt, Đức, Giang, Hải, Hiếu, Hòa, Hoàng, Hùng, Hưng, Huy, Khánh,"
    "Khoa, Kiên, Lâm, Long, Lực, Minh, Nam, Nghĩa, Nhân, Phong, Phúc, Quân, Quang, Sơn, Tài, Tân, Thắng, Thành, Thịnh,"
    "Tiến, Toàn, Trung, Tú, Tuấn, Tùng, Vinh, Vũ"
)
FEMALE_GIVEN = _list(
    "An, Anh, Bích, Châu, Chi, Diệp, Dung, Duyên, Giang, Hà, Hạnh, Hiền, Hoa, Hòa, Hồng, Huệ, Hương, Huyền, Khuê, Lan,"
    "Linh, Loan, Ly, Mai, My, Nga, Ngân, Ngọc, Nhi, Nhung, Oanh, Phương, Quỳnh, Tâm, Thảo, Thơm, Thu, Thủy, Trang,"
    "Trâm, Tuyết, Uyên, Vân, Xuân, Yến"
)


def draw_name(draw: Draw, male: bool, surname: str | None = None) -> Name:
    """A name; with `surname`, a child's of that family. One in thirty has no middle name."""
    middle = draw.one_of(MALE_MIDDLES if male else FEMALE_MIDDLES)
    given = draw.one_of([name for name in (MALE_GIVEN if male else FEMALE_GIVEN) if name not in middle.split()])
    drawn = draw.one_of(SURNAMES)
    return Name(surname or drawn, "" if draw.below(30) == 0 else middle, given)
