"""The header `lgspaccesstoken`, by which clients of provincial platforms prove themselves: base64 of a JSON object.

Its members, as observed: `AccessKey` and `SecretKey`, which are the client's id and secret here; `PartnerCode` and
`PartnerCodeCus`, the units that call, by the older or the newer code of the client's member; `AppName`, which says
nothing. It proves no more than a token of the scope `exchange` does, and is turned into one that stays in the gateway:
from then on it is a token like any other, and a revocation bites as it does there.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import structlog

from ngsp import strictjson
from ngsp.errors import NgspError, Unauthenticated
from ngsp.identity.credentials import InvalidClient, SecretPresented
from ngsp.identity.tokens import Tokens
from ngsp.registry.model import Member, Snapshot

logger = structlog.get_logger(__name__)

HEADER = "lgspaccesstoken"
SCOPES = frozenset(("exchange",))
"""All that the older ways of proving oneself are good for: never the registry, the log, or what an operator does."""
LONGEST_HEADER_BYTES = 2_048
LONGEST_TEXT = 256
KEPT_S = 60.0
"""How long a header that was proved needs no slow hash again. What is revoked meanwhile is refused all the same."""
MOST_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class PartnerPresented:
    """What a header presents. `units`: PartnerCode, and PartnerCodeCus where it says something."""

    secret: SecretPresented
    units: tuple[str, ...]


def read_partner(header: bytes) -> PartnerPresented:
    """What the header's value presents. Raises `InvalidClient`."""
    if len(header) > LONGEST_HEADER_BYTES:
        raise InvalidClient("lgspaccesstoken: oversize")
    try:
        members = strictjson.parse(base64.b64decode(header, validate=True))
    except (binascii.Error, ValueError, NgspError):
        raise InvalidClient("lgspaccesstoken: not base64 of strict JSON") from None
    if not isinstance(members, dict):
        raise InvalidClient("lgspaccesstoken: not an object")
    unit, customer = _text(members, "PartnerCode"), _text(members, "PartnerCodeCus", may_be_empty=True)
    _text(members, "AppName", may_be_empty=True)
    secret = SecretPresented(_text(members, "AccessKey"), _text(members, "SecretKey"))
    return PartnerPresented(secret, (unit, customer) if customer else (unit,))


def _text(members: dict[str, Any], name: str, *, may_be_empty: bool = False) -> str:
    value = members.get(name)
    if may_be_empty and value is None:
        return ""
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or not (value or may_be_empty):
        raise InvalidClient(f"lgspaccesstoken: {name} missing or not of its form")
    return value


def are_of(units: tuple[str, ...], member: Member | None) -> bool:
    """Whether every one of `units` is this member, by its newer or its older code."""
    return member is not None and all(unit in (member.code, member.old_code) for unit in units)


@dataclass(frozen=True, slots=True)
class Partner:
    """Who a header proved. `authorization`: a token of ours for it, as the header `Authorization` has it."""

    client: str
    units: tuple[str, ...]
    authorization: bytes
    until_s: float

    def __repr__(self) -> str:
        return f"Partner({self.client})"


class Partners:
    """Headers → tokens, kept for a short time. One for each gateway."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._key = os.urandom(32)
        # By keyed digest: what stands here is worth nothing to who reads the memory of a dead process.
        self._kept: OrderedDict[bytes, Partner] = OrderedDict()
        self._turns: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    def holder(self, header: bytes) -> str:
        """The client of a header proved lately, empty where it is none: to admit fairly, never to trust."""
        kept = self._kept.get(self._digest(header)) if len(header) <= LONGEST_HEADER_BYTES else None
        return kept.client if kept is not None else ""

    async def prove(self, header: bytes, snapshot: Snapshot, address: Callable[[], str], now_s: float) -> Partner:
        """Who `header` proves. `address`: where an attempt is counted, asked for where there is one.

        A header proved within a minute costs a digest and a look at its token, which is refused as soon as the secret,
        the client or its member is; another costs a slow hash, one at a time for the same header. Raises
        `Unauthenticated`, one and the same for every reason; `TooManyAttempts` (429); `Overloaded` (503).
        """
        if len(header) > LONGEST_HEADER_BYTES:
            raise Unauthenticated(reason="lgspaccesstoken: oversize")
        digest = self._digest(header)
        kept = self._good(digest, snapshot, now_s)
        if kept is not None:
            return kept
        turn = self._turns.get(digest)
        if turn is None:
            turn = self._turns[digest] = asyncio.Lock()
        async with turn:
            kept = self._good(digest, snapshot, now_s)
            if kept is None:
                kept = await self._prove(header, snapshot, address, now_s)
                self._kept[digest] = kept
                if len(self._kept) > MOST_KEPT:
                    self._kept.popitem(last=False)
        return kept

    async def _prove(self, header: bytes, snapshot: Snapshot, address: Callable[[], str], now_s: float) -> Partner:
        try:
            presented = read_partner(header)
            proved = await self._tokens.clients.prove(presented.secret, snapshot, address(), now_s)
        except InvalidClient as error:
            raise Unauthenticated(reason=error.reason) from None
        issued = self._tokens.issue(proved.client, SCOPES, proved.cred, now_s)
        logger.info("partner.proved", client=proved.client.id, scope=issued.scope)
        authorization = b"Bearer " + issued.access_token.encode()
        return Partner(proved.client.id, presented.units, authorization, now_s + min(KEPT_S, issued.expires_in_s / 2))

    def _good(self, digest: bytes, snapshot: Snapshot, now_s: float) -> Partner | None:
        """What is kept for `digest`, where its time is not over and its token still good."""
        kept = self._kept.get(digest)
        if kept is None:
            return None
        try:
            if now_s >= kept.until_s:
                raise Unauthenticated(reason="kept long enough")
            self._tokens.authenticate(kept.authorization, snapshot, now_s)
        except Unauthenticated:
            del self._kept[digest]
            return None
        return kept

    def _digest(self, header: bytes) -> bytes:
        return hmac.digest(self._key, header, "sha256")
