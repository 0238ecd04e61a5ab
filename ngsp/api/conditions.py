"""ETags and conditions (RFC 9110 §8.8.3, §13.1): a resource's row version is its strong ETag."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header
from starlette.requests import Request

from ngsp.errors import MalformedHeader
from ngsp.registry.change import Condition
from ngsp.text import Text

_TAG = r'(?:W/)?"[\x21\x23-\x7e]*"'
_TAGS = re.compile(rf"\s*{_TAG}(?:\s*,\s*{_TAG})*\s*")
_OURS = re.compile(r'(?<!W/)"([1-9][0-9]{0,8})"')


def etag(row_version: int) -> str:
    return f'"{row_version}"'


def _condition(
    request: Request,
    if_match: Annotated[str | None, Header(description='"7" hoặc / or *')] = None,
    if_none_match: Annotated[str | None, Header(description="chỉ * / only *")] = None,
) -> Condition:
    # The parameters document the headers; both are read whole, for a list may come as several lines.
    match = ",".join(request.headers.getlist("if-match"))
    none_match = ",".join(request.headers.getlist("if-none-match")).strip()
    if none_match and none_match != "*":
        raise _malformed("If-None-Match")
    absent = none_match == "*"
    if not request.headers.getlist("if-match"):
        return Condition(absent=absent)
    if match.strip() == "*":
        return Condition(present=True, absent=absent)
    if len(match) > 1000 or not _TAGS.fullmatch(match):
        raise _malformed("If-Match")
    return Condition(versions=frozenset(int(number) for number in _OURS.findall(match)), absent=absent)


def _malformed(name: str) -> MalformedHeader:
    return MalformedHeader(
        Text(f"Tiêu đề {name} không đúng dạng.", f"The header {name} is not of its form."), reason=f"{name} malformed"
    )


Expected = Annotated[Condition, Depends(_condition)]
