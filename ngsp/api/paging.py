"""Lists by cursor: `?limit=` and `?cursor=` → `{"items": […], "next": "…"|null}`. Never OFFSET, never COUNT."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar

import orjson
from fastapi import Depends, Query
from pydantic import BaseModel

from ngsp.errors import MalformedParameter
from ngsp.text import Text

Item = TypeVar("Item")
Found = TypeVar("Found")

LONGEST_CURSOR = 400
_KEY = re.compile(r"[\x21-\x7e]+")


class Page(BaseModel, Generic[Item]):
    """A page of a list. `next`: the cursor of the page after, null at the end."""

    items: list[Item]
    next: str | None


class Cursor(BaseModel):
    """Where a page begins and how long it may be, as the caller asks."""

    limit: int
    cursor: str | None

    def after(self, what: str, form: re.Pattern[str] = _KEY) -> str | None:
        """The key that the page comes after, None for the first. `MalformedParameter` for a cursor of another list."""
        if self.cursor is None:
            return None
        try:
            padded = self.cursor + "=" * (-len(self.cursor) % 4)
            listed, key = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        except (binascii.Error, ValueError, TypeError):
            raise malformed() from None
        if listed != what or not isinstance(key, str) or not form.fullmatch(key):
            raise malformed()
        return key

    def page(
        self, what: str, found: Sequence[Found], key: Callable[[Found], str], view: Callable[[Found], Item]
    ) -> Page[Item]:
        """The page of what was `found`, which was asked for one more than `limit` to know if more comes."""
        shown = found[: self.limit]
        more = len(found) > self.limit
        return Page(items=[view(one) for one in shown], next=encode(what, key(shown[-1])) if more else None)


def encode(what: str, key: str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([what, key])).rstrip(b"=").decode()


def malformed() -> MalformedParameter:
    return MalformedParameter(
        Text("Tham số cursor không phải do danh sách này trả về.", "The cursor is not one that this list gave."),
        reason="cursor malformed or of another list",
    )


def _cursor(
    limit: Annotated[int, Query(ge=1, le=500, description="Số phần tử tối đa / Most items")] = 50,
    cursor: Annotated[
        str | None, Query(max_length=LONGEST_CURSOR, description="`next` của trang trước / `next` of the page before")
    ] = None,
) -> Cursor:
    return Cursor(limit=limit, cursor=cursor)


Paging = Annotated[Cursor, Depends(_cursor)]
