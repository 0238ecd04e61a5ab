"""A receiver's side of webhooks: what is the bus's own is taken, and everything else has its error."""

from __future__ import annotations

import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from ngsp.client import CallError, errors
from ngsp.client.webhooks import Event, verify
from tests.backends.scripted import always, raw, scripted
from tests.events.sending import BODY, ID, KEY, sealed, sender, subscription, written
from tests.support.problems import MARKER

SECRET, OTHER = written(KEY), written(b"o" * 24)
NOW = datetime(2026, 11, 28, 10, 0, tzinfo=UTC)
EVENT: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "/h41", "type": "vn.gov.h41.birth", "data": 7}


def signed(body: bytes, *secrets: str, at: datetime = NOW, id: str = ID) -> dict[str, str]:
    """The headers by the official library."""
    signatures = [Webhook(secret).sign(id, at, body.decode()) for secret in secrets or (SECRET,)]
    return {
        "Webhook-Id": id,
        "Webhook-Timestamp": str(int(at.timestamp())),
        "Webhook-Signature": " ".join(signatures),
        "Ngsp-Transaction": "0192b0c4-7d1e-7abc-8def-0123456789ac",
    }


def taken(document: object, **others: Any) -> Event:
    body = json.dumps(document).encode()
    return verify(SECRET, signed(body), body, now=NOW, **others)


async def test_what_the_gateway_sends_is_taken() -> None:
    """From one end to the other, over HTTP; the secret is being replaced."""
    async with scripted() as receiver, sender() as sending:
        receiver.answer = always(raw("204 No Content"))
        secrets = [sealed(KEY), sealed(b"o" * 24, datetime.now(UTC) + timedelta(minutes=5))]
        tx = "0192b0c4-7d1e-7abc-8def-0123456789ac"
        await sending.hooks.send(subscription(receiver.url, secrets), ID, BODY, {"Ngsp-Transaction": tx})
    (asked,) = receiver.asked
    for secret in (SECRET, OTHER, [written(b"n" * 32), OTHER]):
        assert verify(secret, asked.headers, asked.body) == Event(
            id="1",
            source="/H41/hộ-tịch",
            type="vn.gov.h41.birth",
            subject="Điều 7",
            time=datetime(2026, 11, 28, 10, 0, tzinfo=UTC),
            data={"name": "Nguyễn Thị Thử"},
            partition_key="k-7",
            extensions={"sequence": 7},
            transaction=tx,
            message_id=ID,
        )
    with pytest.raises(errors.SignatureMismatch):
        verify(written(b"n" * 32), asked.headers, asked.body)


def test_whoever_signs_by_the_standard_is_understood() -> None:
    assert verify(SECRET, signed(BODY), BODY, now=NOW).message_id == ID
    assert verify(SECRET.removeprefix("whsec_"), signed(BODY), BODY, now=NOW).id == "1"
    assert verify([OTHER, SECRET], signed(BODY, OTHER), BODY, now=NOW).id == "1"
    versions = {"Webhook-Signature": "v1a,AAAA v2,x " + signed(BODY)["Webhook-Signature"] + " v1,"}
    assert verify(SECRET, signed(BODY) | versions, BODY, now=NOW).id == "1"


class Pairs:
    """Headers of a framework that has no mapping."""

    def items(self) -> Iterable[tuple[str, str]]:
        return list(signed(BODY).items())


def test_headers_of_any_framework() -> None:
    upper = {name.upper(): value for name, value in signed(BODY).items()}
    for headers in (upper, Pairs()):
        assert verify(SECRET, headers, BODY, now=NOW).transaction.endswith("9ac")
    without = {name: value for name, value in signed(BODY).items() if name != "Ngsp-Transaction"}
    assert verify(SECRET, without, BODY, now=NOW).transaction == ""


@pytest.mark.parametrize("name", ["Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"])
@pytest.mark.parametrize("value", [None, "", " "])
def test_a_header_that_is_not_there(name: str, value: str | None) -> None:
    headers = {**signed(BODY), name: value}
    with pytest.raises(errors.WebhookIncomplete):
        verify(SECRET, {key: found for key, found in headers.items() if found is not None}, BODY, now=NOW)


@pytest.mark.parametrize("value", ["soon", "1.5", "-1", "+1", "1e9", "１２３", "²", "9" * 13, "0x10", "1_000"])
def test_a_timestamp_that_is_none(value: str) -> None:
    with pytest.raises(errors.WebhookIncomplete):
        verify(SECRET, signed(BODY) | {"Webhook-Timestamp": value}, BODY, now=NOW)


GOOD = signed(BODY)["Webhook-Signature"]


@pytest.mark.parametrize(
    "value",
    [
        "v1",
        "v1,",
        "v1,????",
        "v1,Điều",
        "v1,\udcff",
        "v1," + b64encode(b"x" * 32).decode(),
        GOOD[:-4],
        GOOD + "AAAA",
        GOOD.rstrip("="),
        GOOD.replace("v1,", "v2,"),
        GOOD.replace("v1,", ""),
        GOOD.replace("v1,", "v1,v1,"),
        GOOD.replace(",", ", "),
        GOOD.upper(),
        signed(BODY, OTHER)["Webhook-Signature"],
        "v1," + b64decode(GOOD[3:]).hex(),
    ],
)
def test_a_signature_that_does_not_fit(value: str) -> None:
    with pytest.raises(errors.SignatureMismatch):
        verify(SECRET, signed(BODY) | {"Webhook-Signature": value}, BODY, now=NOW)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, BODY + b" "),
        ({}, BODY.replace(b"7", b"8")),
        ({"Webhook-Id": "another"}, BODY),
        ({"Webhook-Id": "\udcff"}, BODY),
        ({"Webhook-Timestamp": str(int(NOW.timestamp()) + 1)}, BODY),
        ({"Webhook-Timestamp": "0" + str(int(NOW.timestamp()))}, BODY),
        ({"Webhook-Id": f"{ID}.{int(NOW.timestamp())}", "Webhook-Timestamp": "1"}, BODY),
        ({}, b""),
    ],
)
def test_what_was_changed_on_its_way(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(errors.SignatureMismatch):
        verify(SECRET, signed(BODY) | headers, body, now=NOW)


@pytest.mark.parametrize("off_s", [301, -301, 86_400, -86_400])
def test_what_was_signed_at_another_time(off_s: int) -> None:
    headers = signed(BODY, at=NOW + timedelta(seconds=off_s))
    with pytest.raises(errors.WebhookOutOfTime):
        verify(SECRET, headers, BODY, now=NOW)
    assert verify(SECRET, headers, BODY, now=NOW, tolerance_s=90_000).id == "1"


@pytest.mark.parametrize("off_s", [0, 300, -300])
def test_clocks_may_be_a_little_apart(off_s: int) -> None:
    assert verify(SECRET, signed(BODY, at=NOW + timedelta(seconds=off_s)), BODY, now=NOW).id == "1"


def test_the_present_is_now() -> None:
    assert verify(SECRET, signed(BODY, at=datetime.now(UTC)), BODY).id == "1"
    with pytest.raises(errors.WebhookOutOfTime):
        verify(SECRET, signed(BODY, at=datetime.now(UTC) - timedelta(hours=1)), BODY)
    with pytest.raises(ValueError, match="zone"):
        verify(SECRET, signed(BODY), BODY, now=NOW.replace(tzinfo=None))


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        [EVENT],
        7,
        {},
        {**EVENT, "specversion": "0.3"},
        {**EVENT, "specversion": 1.0},
        {**EVENT, "id": ""},
        {**EVENT, "id": 1},
        {**EVENT, "source": None},
        {name: value for name, value in EVENT.items() if name != "type"},
        {**EVENT, "subject": 7},
        {**EVENT, "time": "yesterday"},
        {**EVENT, "time": "2026-11-28T10:00:00"},
        {**EVENT, "time": 1_764_324_000},
        {**EVENT, "partitionkey": {}},
        {**EVENT, "datacontenttype": 1},
        {**EVENT, "data_base64": "AAAA"},
        {**EVENT, "data_base64": "?", "data": None},
        {**{name: value for name, value in EVENT.items() if name != "data"}, "data_base64": "A?=="},
        {**EVENT, "Sequence": 1},
        {**EVENT, "se-quence": 1},
        {**EVENT, "sequence": {}},
        {**EVENT, "sequence": 1.5},
        {**EVENT, "data": float("nan")},
    ],
)
def test_what_is_the_buss_and_no_event(document: object) -> None:
    with pytest.raises(errors.NotAnEvent):
        taken(document)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json(body: bytes) -> None:
    text = f"{ID}.{int(NOW.timestamp())}.".encode() + body
    signature = "v1," + b64encode(hmac.digest(KEY, text, "sha256")).decode()
    with pytest.raises(errors.NotAnEvent):
        verify(SECRET, signed(BODY) | {"Webhook-Signature": signature}, body, now=NOW)


def test_what_an_event_may_be_without() -> None:
    found = taken(EVENT)
    assert (found.subject, found.time, found.partition_key, found.extensions, found.schema) == ("", None, "", {}, "")
    nothing = taken({name: value for name, value in EVENT.items() if name != "data"} | {"subject": None, "of": None})
    assert (nothing.data, nothing.subject, nothing.extensions) == (None, "", {})
    others = {"datacontenttype": "application/pdf", "dataschema": "https://h41.example/s", "data_base64": "AAEC"}
    binary = taken({name: value for name, value in EVENT.items() if name != "data"} | others)
    assert (binary.data, binary.schema, binary.extensions) == (b"\0\1\2", "https://h41.example/s", {})
    for text in ("2026-11-28T17:00:00+07:00", "2026-11-28t10:00:00z", "2026-11-28T10:00:00.000000000Z"):
        assert taken({**EVENT, "time": text}).time == NOW


@pytest.mark.parametrize(
    "secret",
    [[], "", "whsec_", "whsec_????", "whsec_" + "AAAA", written(b"k" * 23), written(b"k" * 65), [SECRET, "Điều"]],
)
def test_a_secret_that_is_none(secret: str | list[str]) -> None:
    """Is the program's own mistake, and never a key that anybody could guess."""
    with pytest.raises(ValueError, match="secret") as told:
        verify(secret, signed(BODY), BODY, now=NOW)
    assert not isinstance(told.value, CallError)
    assert "????" not in str(told.value)


def test_errors_are_the_clients_in_both_languages() -> None:
    for kind in (errors.WebhookIncomplete, errors.SignatureMismatch, errors.WebhookOutOfTime, errors.NotAnEvent):
        assert issubclass(kind, errors.WebhookError)
        assert issubclass(kind, CallError)
        assert str(kind(language="vi")) != str(kind(language="en"))
    with pytest.raises(errors.WebhookIncomplete, match="missing"):
        verify(SECRET, {}, BODY, language="en")


def test_nothing_of_the_event_is_shown() -> None:
    marked = {**EVENT, "data": MARKER, "subject": MARKER, "partitionkey": MARKER, "about": MARKER}
    assert MARKER not in repr(taken(marked))
    body = json.dumps({**marked, "specversion": "2"}).encode()
    for now, secret in ((NOW, SECRET), (NOW + timedelta(days=1), SECRET), (NOW, OTHER)):
        with pytest.raises(errors.WebhookError) as told:
            verify(secret, signed(body), body, now=now)
        assert MARKER not in repr(told.value) + str(told.value) + repr(told.value.__cause__)
        assert SECRET not in repr(told.value)
