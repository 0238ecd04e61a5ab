"""For receivers of webhooks: whether a request is the bus's own and of now (Standard Webhooks), and the event in it.

```python
event = webhooks.verify(secret, request.headers, body)  # raises a WebhookError: answer 401
if is_new(event.message_id):  # the same at each attempt, and in a replay
    take(event)
```

Answer 2xx once the event is durable with you, and soon: the bus waits some seconds, and comes again until it is taken.
"""

from __future__ import annotations

import binascii
import hmac
import json
import re
import time
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn, Protocol

from ngsp.client.failures import NotAnEvent, SignatureMismatch, WebhookIncomplete, WebhookOutOfTime
from ngsp.text import Language

TOLERANCE_S = 300.0
_PREFIX = "whsec_"
_LEAST_KEY_BYTES, _MOST_KEY_BYTES = 24, 64
_ATTRIBUTE = re.compile(r"[a-z0-9]+")
_TEXTS = ("subject", "time", "datacontenttype", "dataschema", "data_base64", "partitionkey")
_KNOWN = frozenset(("specversion", "id", "source", "type", "data", *_TEXTS))


class Headers(Protocol):
    """Headers as any framework has them: a mapping, or whatever else gives pairs of name and value."""

    def items(self) -> Iterable[tuple[str, str]]: ...


@dataclass(frozen=True, slots=True)
class Event:
    """A CloudEvent that was delivered. `source` and `id` name it together. `data`: as JSON gives it, bytes where it was
    base64, None where there is none.

    `partition_key`: what it is ordered by where it has one. `extensions`: all other attributes but those CloudEvents
    itself has. `transaction`: of this delivery. `message_id`: the same at each attempt and in a replay: keep it, to
    take each event once. Attributes that are not there are empty, `time` None.
    """

    id: str
    source: str
    type: str
    subject: str = field(repr=False)
    time: datetime | None
    data: Any = field(repr=False)
    partition_key: str = field(repr=False)
    extensions: Mapping[str, Any] = field(repr=False)
    transaction: str
    message_id: str
    schema: str = ""
    """`dataschema`."""


def verify(
    secret: str | Iterable[str],
    headers: Headers,
    body: bytes,
    *,
    tolerance_s: float = TOLERANCE_S,
    now: datetime | None = None,
    language: Language = "vi",
) -> Event:
    """The event in `body`, the request's bytes as they came.

    `secret`: `whsec_…` as the bus told it; several while one replaces another. `tolerance_s`: how far the two clocks
    may be apart. `now`: aware; the present where it is None. Raises a `WebhookError`: `WebhookIncomplete`,
    `SignatureMismatch`, `WebhookOutOfTime`, `NotAnEvent`; ValueError where a secret is none.
    """
    keys = [_key(one) for one in ([secret] if isinstance(secret, str) else secret)]
    if not keys:
        raise ValueError("there is no secret to verify with")
    found = {name.lower(): value for name, value in headers.items()}
    id, timestamp, signatures = (found.get(f"webhook-{name}", "").strip() for name in ("id", "timestamp", "signature"))
    if not (id and signatures and timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise WebhookIncomplete(language=language)
    if not _is_signed(keys, b"%b.%b.%b" % (_bytes(id), timestamp.encode(), body), signatures):
        raise SignatureMismatch(language=language)
    now_s = time.time() if now is None else _seconds(now)
    if abs(now_s - int(timestamp)) > tolerance_s:
        raise WebhookOutOfTime(language=language)
    return _event(body, id, found.get("ngsp-transaction", ""), language)


def _key(secret: str) -> bytes:
    """The bytes of a secret. ValueError, which does not show it, where it is none."""
    try:
        key = b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a webhook's secret is whsec_ and base64") from None
    if not _LEAST_KEY_BYTES <= len(key) <= _MOST_KEY_BYTES:
        raise ValueError("a webhook's secret has 24 to 64 bytes")
    return key


def _is_signed(keys: list[bytes], text: bytes, signatures: str) -> bool:
    """Whether one of the signatures is by one of the keys; compared in constant time, all of them."""
    given = [_bytes(one.removeprefix("v1,")) for one in signatures.split(" ") if one.startswith("v1,")]
    fits = False
    for key in keys:
        expected = b64encode(hmac.digest(key, text, "sha256"))
        for signature in given:
            fits |= hmac.compare_digest(expected, signature)
    return fits


def _bytes(text: str) -> bytes:
    """Of whatever a header may hold, half a character included."""
    return text.encode("utf-8", "surrogatepass")


def _seconds(at: datetime) -> float:
    if at.tzinfo is None:
        raise ValueError("now: a time needs its zone")
    return at.timestamp()


def _event(body: bytes, message_id: str, transaction: str, language: Language) -> Event:
    try:
        found = json.loads(body, parse_constant=_no_constant)
        _check(found)
        at = datetime.fromisoformat(found["time"].upper()) if found.get("time") is not None else None
        if at is not None and at.tzinfo is None:
            raise ValueError("a time needs its zone")
        binary = found.get("data_base64")
        data = found.get("data") if binary is None else b64decode(binary, validate=True)
    except (TypeError, ValueError, RecursionError):
        raise NotAnEvent(language=language) from None
    return Event(
        id=found["id"],
        source=found["source"],
        type=found["type"],
        subject=found.get("subject") or "",
        time=at,
        data=data,
        partition_key=found.get("partitionkey") or "",
        extensions={name: value for name, value in found.items() if name not in _KNOWN and value is not None},
        transaction=transaction,
        message_id=message_id,
        schema=found.get("dataschema") or "",
    )


def _check(found: Any) -> None:
    """ValueError where `found` is no CloudEvent 1.0 (§3.1; JSON format §2, §3.1)."""
    if not isinstance(found, dict) or found.get("specversion") != "1.0":
        raise ValueError("not a CloudEvent")
    if not all(isinstance(found.get(name), str) and found[name] for name in ("id", "source", "type")):
        raise ValueError("a required attribute is not there")
    for name in _TEXTS:
        if not isinstance(found.get(name), str | None):
            raise ValueError("an attribute is no text")
    if "data" in found and "data_base64" in found:
        raise ValueError("data are there twice")
    for name, value in found.items():
        if name not in _KNOWN and not (_ATTRIBUTE.fullmatch(name) and isinstance(value, str | int | bool | None)):
            raise ValueError("an extension is not of its form")


def _no_constant(_: str) -> NoReturn:
    raise ValueError("no number of JSON")
