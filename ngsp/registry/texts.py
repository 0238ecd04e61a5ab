"""Which texts the registry takes, and how pydantic's findings become faults in two languages."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ngsp.errors import Fault, InvalidRegistration
from ngsp.text import Text
from ngsp.text import Wrong as Wrong
from ngsp.vntime import midnight

MOST_FAULTS = 50
CALLED_TAG, EVENTS_TAG = "(called)", "(events)"
UNION_TAGS = frozenset((CALLED_TAG, EVENTS_TAG))
"""What pydantic puts into the place of an error though it does not stand in the document; no name there looks so."""
HIDDEN_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))
"""Controls, formats (bidi and zero-width characters among them), surrogates, private use, line separators."""


def clean(value: str, *, lines: bool = False) -> str:
    """`value` itself, where it is NFC, not blank and free of invisible characters; else `Wrong`.

    `lines` lets line breaks and tabs through. Nothing is mended: what a person sees must be what is stored.
    """
    if not value.strip():
        raise Wrong(Text("Không được để trống.", "Must not be blank."))
    if not unicodedata.is_normalized("NFC", value):
        raise Wrong(Text("Phải ở dạng Unicode NFC.", "Must be in Unicode form NFC."))
    allowed = "\n\t" if lines else ""
    if any(unicodedata.category(letter) in HIDDEN_CATEGORIES and letter not in allowed for letter in value):
        raise Wrong(
            Text(
                "Có ký tự điều khiển, ký tự ẩn hoặc ký tự đổi chiều chữ.",
                "Holds control, invisible or direction-changing characters.",
            )
        )
    return value


def shaped(value: str, pattern: re.Pattern[str], what: Text) -> str:
    """`value` itself where it matches `pattern` whole, in ASCII and without `..`; else `Wrong`."""
    if not value.isascii() or ".." in value or not pattern.fullmatch(value):
        raise Wrong(Text(vi=f"{what.vi} không đúng dạng.", en=f"{what.en} is not of its form."))
    return value


_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})")


def read_day(value: Any) -> date:
    """A full-date of RFC 3339, `2025-07-01`; else `Wrong`."""
    if isinstance(value, str) and _DAY.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass  # not a day of the calendar: the one refusal below
    raise Wrong(Text("Ngày phải có dạng 2025-07-01.", "A day is written 2025-07-01."))


def read_moment(value: Any) -> datetime:
    """A date-time of RFC 3339 with its offset, or a day: its midnight in Viet Nam. As UTC; else `Wrong`."""
    if isinstance(value, str) and _DAY.fullmatch(value):
        try:
            return midnight(date.fromisoformat(value)).astimezone(UTC)
        except (ValueError, OverflowError):
            pass  # not a day of the calendar: the one refusal below
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        try:
            return datetime.fromisoformat(value).astimezone(UTC)
        except (ValueError, OverflowError):
            pass  # not a moment of the calendar: the one refusal below
    raise Wrong(
        Text(
            "Thời điểm phải có dạng 2025-07-01T08:30:00+07:00, hoặc 2025-07-01 cho 0 giờ ngày đó ở Việt Nam.",
            "A moment is written 2025-07-01T08:30:00+07:00, or 2025-07-01 for its midnight in Viet Nam.",
        )
    )


def pointer(path: Iterable[str | int]) -> str:
    """An RFC 6901 JSON pointer."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)


Model = TypeVar("Model", bound=BaseModel)


def read_document(model: type[Model], value: Any) -> Model:
    """`value` as a `model`; `InvalidRegistration` (422) with a fault for each place that is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidRegistration(
            faults=tuple(found_faults(error))[:MOST_FAULTS], reason=f"not a {model.__name__}"
        ) from None


def found_faults(error: ValidationError, *, names: bool = False) -> Iterator[Fault]:
    """What pydantic found. A name the model does not know came from the caller: shown only where `names` says so."""
    for found in error.errors(include_url=False, include_input=False):
        path = [step for step in found["loc"] if step not in UNION_TAGS]
        if found["type"] == "extra_forbidden" and not names:
            path[-1] = "*"
        yield Fault(pointer(path), detail_of(found["type"], found.get("ctx", {})))


def detail_of(kind: str, context: dict[str, Any]) -> Text:
    """What an error of pydantic means, by its type and context; never its input."""
    cause = context.get("error")
    if isinstance(cause, Wrong):
        return cause.text
    if kind in _DETAILS:
        return _DETAILS[kind].format(**context)
    if kind.endswith("_type"):
        return Text("Sai kiểu dữ liệu.", "Wrong type.")
    return Text("Giá trị không hợp lệ.", "Not a valid value.")


_DETAILS = {
    "missing": Text("Thiếu trường bắt buộc.", "A required field is missing."),
    "extra_forbidden": Text("Trường không được biết đến.", "There is no such field."),
    "literal_error": Text("Phải là một trong: {expected}.", "Must be one of: {expected}."),
    "string_too_short": Text("Cần ít nhất {min_length} ký tự.", "Needs at least {min_length} characters."),
    "string_too_long": Text("Nhiều nhất {max_length} ký tự.", "At most {max_length} characters."),
    "too_short": Text("Cần ít nhất {min_length} phần tử.", "Needs at least {min_length} items."),
    "too_long": Text("Nhiều nhất {max_length} phần tử.", "At most {max_length} items."),
    "greater_than": Text("Phải lớn hơn {gt}.", "Must be greater than {gt}."),
    "greater_than_equal": Text("Không được nhỏ hơn {ge}.", "Must be at least {ge}."),
    "less_than_equal": Text("Không được lớn hơn {le}.", "Must be at most {le}."),
    "string_pattern_mismatch": Text("Phải có dạng {pattern}.", "Must be of the form {pattern}."),
    "union_tag_invalid": Text("Phải là một trong: {expected_tags}.", "Must be one of: {expected_tags}."),
    "union_tag_not_found": Text("Thiếu khóa {discriminator}.", "The key {discriminator} is missing."),
    "float_parsing": Text("Phải là số.", "Must be a number."),
    "int_parsing": Text("Phải là số nguyên.", "Must be a whole number."),
    "int_from_float": Text("Phải là số nguyên.", "Must be a whole number."),
    "bool_parsing": Text("Phải là true hoặc false.", "Must be true or false."),
    "unknown_key": Text("Không có khóa «{key}»: dùng {known}.", "There is no key '{key}': use {known}."),
    "finite_number": Text("Phải là số hữu hạn.", "Must be a finite number."),
}
