"""FastAPI's validation errors → ours, without a byte of what was sent: not its values, not names of the sender's."""

from __future__ import annotations

from typing import Any

from fastapi.exceptions import RequestValidationError

from ngsp.errors import Fault, MalformedHeader, MalformedParameter, NgspError, SchemaMismatch
from ngsp.registry.model import MOST_FAULTS
from ngsp.registry.texts import UNION_TAGS, Wrong
from ngsp.text import Text

_DETAILS: dict[str, Text] = {
    "missing": Text("Thiếu trường bắt buộc.", "A required field is missing."),
    "extra_forbidden": Text("Có trường không được khai báo.", "There is a field that is not known here."),
    "enum": Text("Không thuộc danh sách giá trị cho phép.", "Not one of the allowed values."),
    "literal_error": Text("Không thuộc danh sách giá trị cho phép.", "Not one of the allowed values."),
    "union_tag_invalid": Text("Không thuộc danh sách giá trị cho phép.", "Not one of the allowed values."),
    "string_pattern_mismatch": Text("Không đúng dạng.", "Not of the required form."),
    "string_too_short": Text("Quá ngắn.", "Too short."),
    "string_too_long": Text("Quá dài.", "Too long."),
    "too_short": Text("Quá ít phần tử.", "Too few items."),
    "too_long": Text("Quá nhiều phần tử.", "Too many items."),
    "greater_than": Text("Nhỏ hơn giới hạn.", "Below the minimum."),
    "greater_than_equal": Text("Nhỏ hơn giới hạn.", "Below the minimum."),
    "less_than": Text("Lớn hơn giới hạn.", "Above the maximum."),
    "less_than_equal": Text("Lớn hơn giới hạn.", "Above the maximum."),
    "timezone_aware": Text("Thiếu múi giờ.", "The time zone is missing."),
}
_WRONG_TYPE = Text("Sai kiểu dữ liệu.", "Wrong type.")
_WRONG = Text("Giá trị không hợp lệ.", "Not a valid value.")


def describe(entry: dict[str, Any]) -> Text:
    """What one pydantic error means: a validator's own text (`Wrong`) where it has one, else that of its type."""
    wrong = entry.get("ctx", {}).get("error")
    if isinstance(wrong, Wrong):
        return wrong.text
    kind: str = entry["type"]
    if kind in _DETAILS:
        return _DETAILS[kind]
    if kind.endswith(("_type", "_parsing")):
        return _WRONG_TYPE
    return _WRONG


def validation_error(error: RequestValidationError, known_names: frozenset[str] = frozenset()) -> NgspError:
    """`MalformedHeader` or `MalformedParameter` (400) where such is wrong, else `SchemaMismatch` (422) with pointers.

    `known_names`: those the route's models declare; any other name in a pointer may be the sender's and is `*`.
    """
    found = error.errors()
    for place, wrong in ((("header", "cookie"), _header), (("query", "path"), _parameter)):
        for entry in found:
            if entry["loc"] and entry["loc"][0] in place:
                return wrong(entry)
    faults = tuple(_fault(entry, known_names) for entry in found[:MOST_FAULTS])
    return SchemaMismatch(faults=faults, reason="body off its model")


def _header(entry: dict[str, Any]) -> NgspError:
    name, what = str(entry["loc"][1]).title(), describe(entry)
    return MalformedHeader(
        Text(f"Tiêu đề {name}: {what.vi}", f"Header {name}: {what.en}"), reason=f"header {name}: {entry['type']}"
    )


def _parameter(entry: dict[str, Any]) -> NgspError:
    # The name is the declared one; what follows it may be the sender's and is left out.
    what = describe(entry)
    if len(entry["loc"]) < 2 or entry["type"] == "extra_forbidden":
        return unknown_parameter()
    name = entry["loc"][1]
    return MalformedParameter(
        Text(f"Tham số {name}: {what.vi}", f"Parameter {name}: {what.en}"), reason=f"parameter {name}: {entry['type']}"
    )


def unknown_parameter() -> MalformedParameter:
    return MalformedParameter(
        Text("Có tham số không được khai báo.", "There is a parameter that is not known here."),
        reason="unknown parameter",
    )


def _fault(entry: dict[str, Any], known_names: frozenset[str]) -> Fault:
    steps = [step for step in entry["loc"][1:] if step not in UNION_TAGS]
    shown = (step if isinstance(step, int) or step in known_names else "*" for step in steps)
    pointer = "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in shown)
    return Fault(pointer, describe(entry))
