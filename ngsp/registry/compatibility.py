"""What may change under a registered version of a service: requests may only widen, replies only narrow.

Whoever called yesterday can call today: every request that was valid still is, and every reply that can come now could
have come before. Schemas are compared by proof (`inclusion.py` has the keywords); what cannot be shown counts as a
conflict, and each is told at its place in the new document.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

import orjson

from ngsp.errors import Fault
from ngsp.registry.inclusion import findings
from ngsp.registry.inclusion_findings import Finding
from ngsp.registry.pointers import resolve
from ngsp.registry.schema_parts import TooMuch
from ngsp.registry.schemas import Path
from ngsp.registry.texts import pointer
from ngsp.text import Text

Direction = Literal["request", "reply"]
MOST_TOLD: Final = 5
_LONGEST: Final = 60

FIXED: Final = ("mode", "effect", "subjects", "officer_required", "order")
"""What a version promises beside its schemas, and keeps."""
GROWING: Final = ("deadline_s", "max_body_bytes")
"""What a version may give more of and never less: time to answer (a caller in haste says `Prefer: wait`), room."""


def schema_faults(direction: Direction, old: dict[str, Any], new: dict[str, Any], at: Path) -> list[Fault]:
    """Why `new` may not take the place of `old`; empty where it may. `at`: where `new` stands in the caller's document.

    Heavy on the processor where the schemas are large: about a second at most.
    """
    try:
        found = findings(old, new) if direction == "request" else findings(new, old)
    except (TooMuch, RecursionError):
        return [Fault(pointer(at), _TOO_MUCH)]
    told = dict.fromkeys(_fault(direction, finding, old, new, at) for finding in found)
    return list(told)


def promise_faults(old: Any, new: Any, at: Path) -> Iterator[Fault]:
    """The promises beside the schemas that `new` does not keep; both are asked for the names of FIXED and GROWING."""
    for name in FIXED:
        if old[name] != new[name]:
            yield Fault(pointer((*at, name)), _FIXED)
    for name in GROWING:
        if new[name] < old[name]:
            yield Fault(pointer((*at, name)), _GROWING.format(before=_number(old[name]), after=_number(new[name])))


def _fault(direction: Direction, finding: Finding, old: Any, new: Any, at: Path) -> Fault:
    mine, other = (finding.wider, finding.narrower) if direction == "request" else (finding.narrower, finding.wider)
    word = finding.word
    place = (*at, *mine, word) if word else (*at, *mine)
    about = _ABOUT.get(word, _UNPROVEN)[direction == "reply"]
    if finding.told or word in _WITHOUT_TOLD:
        return Fault(pointer(place), about.format(told=_listed(finding.told), word=word))
    before, after = _stated(old, other, word), _stated(new, mine, word)
    return Fault(pointer(place), about.format(word=word, before=before, after=after, told=""))


def _listed(told: tuple[Any, ...]) -> str:
    shown = [value if isinstance(value, str) else _short(value) for value in told[:MOST_TOLD]]
    return ", ".join(shown) + (", …" if len(told) > MOST_TOLD else "")


def _stated(document: Any, path: Path, word: str) -> str:
    """What stands under `word` at `path`; a dash where nothing does."""
    try:
        found = resolve(document, "#" + pointer(path))
    except KeyError:
        return "–"
    return _short(found[word]) if isinstance(found, dict) and word in found else "–"


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _pair(request_vi: str, request_en: str, reply_vi: str, reply_en: str) -> tuple[Text, Text]:
    return Text(request_vi, request_en), Text(reply_vi, reply_en)


_NARROWER: Final = _pair(
    "Chặt hơn trước, nên yêu cầu từng hợp lệ sẽ bị từ chối: {word} {before} → {after}.",
    "Stricter than before, so that requests that were valid would be refused: {word} {before} → {after}.",
    "Rộng hơn điều đã hứa với bên khai thác: {word} {before} → {after}.",
    "Wider than what consumers were promised: {word} {before} → {after}.",
)
_UNPROVEN: Final = _pair(
    "Không chứng minh được yêu cầu từng hợp lệ vẫn hợp lệ: «{word}» phải giữ nguyên hoặc nới rõ ràng.",
    "It cannot be shown that requests that were valid still are: '{word}' must stay, or be widened plainly.",
    "Không chứng minh được trả lời vẫn như đã hứa: «{word}» phải giữ nguyên hoặc thu hẹp rõ ràng.",
    "It cannot be shown that replies are still as promised: '{word}' must stay, or be narrowed plainly.",
)
_ABOUT: Final[dict[str, tuple[Text, Text]]] = {
    "": _pair(
        "Từng được nhận, nay không còn chỗ cho giá trị nào ở đây.",
        "It was taken, and now no value has a place here.",
        "Có thể có giá trị ở chỗ đã hứa là không có.",
        "There may be a value where none was promised to be.",
    ),
    "type": _pair(
        "Kiểu từng được nhận nay bị từ chối: {told}.",
        "Was taken, and is refused now: {told}.",
        "Có thể là kiểu chưa từng hứa: {told}.",
        "May be of a kind that was not promised: {told}.",
    ),
    "enum": _pair(
        "Giá trị từng được nhận nay bị từ chối: {told}.",
        "Values that were taken are refused now: {told}.",
        "Có thể là giá trị chưa từng hứa: {told}.",
        "May be a value that was not promised: {told}.",
    ),
    "required": _pair(
        "Trường trở thành bắt buộc: {told}.",
        "Becomes required: {told}.",
        "Trường không còn chắc chắn có: {told}.",
        "Is not certain to be there any more: {told}.",
    ),
    "additionalProperties": _pair(
        "Trường từng được nhận nay không còn chỗ: {told}.",
        "Fields that were taken have no place any more: {told}.",
        "Có thể có trường chưa từng hứa: {told}.",
        "May hold fields that were not promised: {told}.",
    ),
    **dict.fromkeys(
        (
            *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength"),
            *("minItems", "maxItems", "minProperties", "maxProperties", "uniqueItems", "pattern", "format"),
        ),
        _NARROWER,
    ),
}
_ABOUT["const"] = _ABOUT["enum"]
_ABOUT["dependentRequired"] = _ABOUT["required"]
_WITHOUT_TOLD: Final = frozenset(("", "type", "enum", "const", "required", "additionalProperties"))
_TOO_MUCH: Final = Text(
    "Hai lược đồ quá phức tạp để so sánh; hãy đăng ký phiên bản mới của dịch vụ.",
    "The two schemas are too entangled to be compared; register a new version of the service.",
)
_FIXED: Final = Text("Cam kết này không đổi trong một phiên bản.", "This promise never changes under a version.")
_GROWING: Final = Text("Chỉ được tăng: {before} → {after}.", "May only grow: {before} → {after}.")
