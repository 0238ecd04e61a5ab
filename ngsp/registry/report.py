"""What `ngsp registry apply` prints: the differences first, then what was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, TextIO

from ngsp.registry.applying import Difference
from ngsp.text import Text, language_of_terminal, tr

_MARKS = {"create": "+", "update": "~", "conflict": "!"}
_KINDS = {
    "member": Text("cơ quan", "member"),
    "client": Text("hệ thống", "client"),
    "adapter": Text("bộ kết nối", "adapter"),
    "service": Text("dịch vụ", "service"),
    "agreement": Text("thỏa thuận", "agreement"),
    "compatible-route": Text("tuyến tương thích", "compatible route"),
    "subscription": Text("đăng ký nhận sự kiện", "subscription"),
}
_HEADS = {
    "create": Text("tạo mới", "create"),
    "update": Text("cập nhật", "update"),
    "keep": Text("không đổi", "unchanged"),
    "conflict": Text("xung đột", "conflict"),
}
_SECRET_COLUMNS = frozenset(("secret_hash",))
_LONGEST_VALUE = 100


def print_differences(differences: Sequence[Difference], out: TextIO) -> None:
    """One block for each declaration that changes or conflicts, and the counts."""
    language = language_of_terminal()
    for difference in differences:
        if difference.action == "keep":
            continue
        declaration = difference.declaration
        kind = _KINDS[declaration.document.kind].in_(language)
        head = _HEADS[difference.action].in_(language)
        out.write(f"{_MARKS[difference.action]} {head}: {kind} {declaration.name}  ({declaration.place})\n")
        for name, (before, after) in difference.changes.items():
            out.write(f"    {name}: {_change(name, before, after)}\n")
        for problem in difference.problems:
            out.write(f"    {problem.in_(language)}\n")
    counts = Counter(difference.action for difference in differences)
    out.write(", ".join(f"{text.in_(language)}: {counts[action]}" for action, text in _HEADS.items()) + "\n")  # type: ignore[index]


def print_secrets(differences: Sequence[Difference], out: TextIO) -> None:
    """The secrets that were made: there is no other moment at which they can be seen."""
    for difference in differences:
        if difference.secret is not None:
            label = tr(vi="mật khẩu, chỉ hiện một lần", en="secret, shown this once")
            out.write(f"{difference.declaration.name}: {label}: {difference.secret}\n")


def _change(name: str, before: Any, after: Any) -> str:
    if name in _SECRET_COLUMNS:
        return tr(vi="có mật khẩu mới", en="a new secret") if after else tr(vi="không có mật khẩu", en="no secret")
    if before is None:
        return _shown(after)
    return f"{_shown(before)} → {_shown(after)}"


def _shown(value: Any) -> str:
    text = ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
    text = "–" if value is None or text == "" else text.replace("\n", " ")
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
