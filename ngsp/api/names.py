"""What stands in a path, checked before anything is looked up, and who the caller is to the registry."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Path

from ngsp.api.caller import Caller
from ngsp.errors import InvalidIdentifier
from ngsp.messages import IDENTIFIER, MEMBER_CODE, TRANSACTION_ID, check_identifier
from ngsp.registry.change import Actor
from ngsp.text import Text

# A name with a slash in it is a malformed name, not another path: hence `{…:path}` in the routes.
MemberPath = Annotated[str, Path(description="Mã cơ quan (QĐ 20/2020) / Member code, e.g. `G22.98`")]
ClientPath = Annotated[str, Path(description="Định danh hệ thống / Client id")]
AdapterPath = Annotated[str, Path(description="Định danh bộ kết nối / Adapter id")]
RoutePath = Annotated[str, Path(description="Định danh tuyến tương thích / Compatible route id")]
SubscriptionPath = Annotated[str, Path(description="Định danh đăng ký nhận sự kiện / Subscription id")]
AgreementPath = Annotated[str, Path(description="Mã thỏa thuận (UUIDv7) / Agreement id")]

_MEMBER = Text("Mã cơ quan", "the member code")
_KID = re.compile(r"[A-Za-z0-9_-]{1,100}")


def actor(caller: Caller) -> Actor:
    return Actor(caller.client.id, caller.client.member, caller.scopes)


def only_member(caller: Caller, *all_seeing: str) -> str | None:
    """The member that a list is cut down to; None for a caller with one of the `all_seeing` scopes."""
    return None if caller.scopes & {"operator", *all_seeing} else caller.client.member


def member_code(value: str) -> str:
    return _checked(value, MEMBER_CODE, _MEMBER, 35)


def client_id(value: str) -> str:
    return _checked(value, IDENTIFIER, Text("Định danh hệ thống", "the client's id"))


def adapter_id(value: str) -> str:
    return _checked(value, IDENTIFIER, Text("Định danh bộ kết nối", "the adapter's id"))


def route_id(value: str) -> str:
    return _checked(value, IDENTIFIER, Text("Định danh tuyến tương thích", "the route's id"))


def subscription_id(value: str) -> str:
    return _checked(value, IDENTIFIER, Text("Định danh đăng ký", "the subscription's id"))


def transaction_id(value: str) -> str:
    return _checked(value, TRANSACTION_ID, Text("Mã giao dịch", "the transaction's id"))


def agreement_id(value: str) -> str:
    return _checked(value, TRANSACTION_ID, Text("Mã thỏa thuận", "the agreement's id"))


def key_id(value: str) -> str:
    return _checked(value, _KID, Text("Mã khóa", "the key's id"), 100)


def _checked(value: str, pattern: re.Pattern[str], what: Text, longest: int = 64) -> str:
    """`InvalidIdentifier` (422), also where a pattern's `\\d` would take digits of other scripts."""
    if not value.isascii():
        raise InvalidIdentifier(
            Text(vi=f"{what.vi} không đúng dạng.", en=f"{what.en} is not of its form."), reason=f"bad {what.en}"
        )
    return check_identifier(value, pattern, what, longest)
