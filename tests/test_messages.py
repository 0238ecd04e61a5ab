"""What travels: identifiers, and the wire form of requests and replies."""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngsp.errors import InvalidIdentifier
from ngsp.messages import (
    IDENTIFIER,
    MEMBER_CODE,
    OLD_MEMBER_CODE,
    REPLY_STATUSES,
    TRANSACTION_ID,
    Envelope,
    Headers,
    Reply,
    ServiceKey,
    check_identifier,
    uuid7,
)
from ngsp.text import Text
from tests.support.effort import examples

WHAT = Text("Mã", "the code")
MANY = 50_000

# Identifiers


def test_ids_are_uuids_of_version_7() -> None:
    for _ in range(1_000):
        text = uuid7()
        found = uuid.UUID(text)
        assert str(found) == text, "hyphens and lower case as usual"
        assert (found.version, found.variant) == (7, uuid.RFC_4122)
        assert TRANSACTION_ID.fullmatch(text)


def milliseconds(id: str) -> int:
    """RFC 9562 §5.7: the first 48 bits."""
    return uuid.UUID(id).int >> 80


def test_ids_carry_the_time_they_were_made() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid7()
    after = time.time_ns() // 1_000_000
    assert before <= milliseconds(made) <= after


def test_ids_of_a_later_millisecond_sort_behind() -> None:
    made = [uuid7()]
    while len(made) < 20:
        latest = uuid7()
        if milliseconds(latest) != milliseconds(made[-1]):
            made.append(latest)
    assert made == sorted(made)
    assert [uuid.UUID(id).bytes for id in made] == sorted(uuid.UUID(id).bytes for id in made)


def test_ids_are_unique_and_every_random_bit_is_random() -> None:
    made = [uuid7() for _ in range(MANY)]
    assert len(set(made)) == MANY
    random_bits = [uuid.UUID(id).int & ((1 << 80) - 1) for id in made]
    fixed = {*range(76, 80), 62, 63}  # version and variant
    for bit in set(range(80)) - fixed:
        share = sum(value >> bit & 1 for value in random_bits) / MANY
        assert 0.47 < share < 0.53, bit


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0192b0c4-7d1e-7abc-8def-0123456789a",
        "0192b0c4-7d1e-7abc-8def-0123456789abc",
        "0192B0C4-7D1E-7ABC-8DEF-0123456789AB",
        "0192b0c4-7d1e-4abc-8def-0123456789ab",
        "0192b0c4-7d1e-7abc-cdef-0123456789ab",
        "0192b0c47d1e7abc8def0123456789ab",
        "0192b0c4-7d1e-7abc-8def-0123456789ab\n",
        "٠192b0c4-7d1e-7abc-8def-0123456789ab",
    ],
)
def test_what_is_no_transaction_id(text: str) -> None:
    assert TRANSACTION_ID.fullmatch(text) is None


@pytest.mark.parametrize("text", ["G22", "H41", "G01.01", "H41.28.1A", "A" + "01" + ".1" * 16])
def test_what_is_a_members_code(text: str) -> None:
    assert check_identifier(text, MEMBER_CODE, WHAT, 35) == text


@pytest.mark.parametrize(
    "text",
    ["", "g22", "G2", "G222", "G22.", "G22..1", "G22.a", "../G22", "G22\n", "G٢٢", "G22.1/x", "G01" + ".1" * 17],
)
def test_what_is_no_members_code(text: str) -> None:
    with pytest.raises(InvalidIdentifier) as found:
        check_identifier(text, MEMBER_CODE, WHAT, 35)
    assert not text or text not in str(found.value.detail)


@pytest.mark.parametrize("text", ["000.00.01.H41", "01.H41", "00.01.H41"])
def test_old_codes_in_their_two_forms(text: str) -> None:
    assert bool(OLD_MEMBER_CODE.fullmatch(text)) is (text != "01.H41")


@pytest.mark.parametrize("text", ["", ".", "a..b", ".a", "a.", "A", "a/b", "a b", "a\n", "á", "-a", "a" * 65])
def test_what_is_no_identifier(text: str) -> None:
    with pytest.raises(InvalidIdentifier):
        check_identifier(text, IDENTIFIER, WHAT)


@given(
    provider=st.from_regex(MEMBER_CODE, fullmatch=True).filter(lambda code: len(code) <= 35),
    name=st.from_regex(re.compile(r"[a-z][a-z0-9]{0,9}(-[a-z0-9]{1,9}){0,3}"), fullmatch=True),
    version=st.integers(1, 9999),
)
def test_a_services_path_is_read_as_it_was_written(provider: str, name: str, version: int) -> None:
    key = ServiceKey(provider, name, f"v{version}")
    assert ServiceKey.parse(key.path) == key
    assert key.request_topic == f"ngsp.request.{provider}.{name}.v{version}"
    assert re.fullmatch(r"[A-Za-z0-9._-]+", key.request_topic), "what Kafka takes as a name"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "G22",
        "G22/units",
        "G22/units/",
        "G22/units/1",
        "G22/units/v0",
        "G22/units/v01",
        "G22/units/v10000",
        "G22/Units/v1",
        "G22/units-/v1",
        "G22/-units/v1",
        "G22/../v1",
        "G22/units/v1/more",
        "G22/units/v1\n",
        "/units/v1",
        "G22/" + "u" * 65 + "/v1",
        "G22/units;drop/v1",
        "G22/un%69ts/v1",
    ],
)
def test_what_is_no_services_path(path: str) -> None:
    with pytest.raises(InvalidIdentifier):
        ServiceKey.parse(path)


# The wire

ENVELOPE = Envelope(
    id="0192b0c4-7d1e-7abc-8def-0123456789ab",
    service="G01.01/population-lookup/v1",
    deadline_ms=1_772_323_200_000,
    purpose="birth-registration",
    fields=("/id", "/name/last"),
    schema="0123456789abcdef.fedcba9876543210",
    reply_to="ngsp.reply.7",
    body=b'{"id":"900000000001"}',
    attempt=1,
    consumer="H41",
)
REPLY = Reply(ENVELOPE.id, ENVELOPE.service, "ok", b'{"id":"900000000001"}', adapter="g01-population")

plain = st.text(st.characters(codec="utf-8"), max_size=40)
pointer = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=20)
envelopes = st.builds(
    Envelope,
    id=st.uuids().map(str),
    service=plain,
    deadline_ms=st.integers(0, 2**53),
    purpose=plain,
    fields=st.lists(pointer, min_size=1, max_size=5).map(tuple),
    schema=plain,
    reply_to=plain,
    body=st.binary(max_size=100),
    attempt=st.integers(1, 2**31),
    consumer=plain,
    officer=plain,
    dossier=plain,
    traceparent=plain,
)
replies = st.builds(
    Reply,
    id=st.uuids().map(str),
    service=plain,
    status=st.sampled_from(sorted(REPLY_STATUSES)),
    body=st.binary(max_size=100),
    code=st.text(st.characters(codec="ascii"), max_size=64),
    adapter=st.text(st.characters(codec="ascii"), max_size=64),
    attempt=st.integers(1, 2**31),
)


@settings(max_examples=examples(500))
@given(envelopes)
def test_a_request_is_read_as_it_was_written(envelope: Envelope) -> None:
    headers = envelope.headers()
    assert Envelope.read(headers, envelope.body) == envelope
    assert Envelope.read(tuple(headers), envelope.body) == envelope, "as the broker's client gives them back"


@settings(max_examples=examples(500))
@given(replies)
def test_a_reply_is_read_as_it_was_written(reply: Reply) -> None:
    headers = reply.headers()
    assert Reply.read(headers, reply.body) == reply
    assert Reply.read(tuple(headers), reply.body) == reply


@given(st.one_of(envelopes, replies))
def test_headers_have_each_name_once_in_lower_case_and_hold_no_payload(message: Envelope | Reply) -> None:
    message = replace(message, body=b"planted in the body alone")
    names = [name for name, _ in message.headers()]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"ngsp-[a-z-]+|traceparent", name) for name in names)
    assert not any(message.body in value for _, value in message.headers())


def test_headers_by_example() -> None:
    assert dict(ENVELOPE.headers()) == {
        "ngsp-id": b"0192b0c4-7d1e-7abc-8def-0123456789ab",
        "ngsp-service": b"G01.01/population-lookup/v1",
        "ngsp-deadline": b"1772323200000",
        "ngsp-purpose": b"birth-registration",
        "ngsp-fields": b"/id\n/name/last",
        "ngsp-schema": b"0123456789abcdef.fedcba9876543210",
        "ngsp-reply-to": b"ngsp.reply.7",
        "ngsp-attempt": b"1",
        "ngsp-consumer": b"H41",
    }
    assert dict(replace(REPLY, status="refused", code="DA-DANG-KY").headers()) == {
        "ngsp-id": b"0192b0c4-7d1e-7abc-8def-0123456789ab",
        "ngsp-service": b"G01.01/population-lookup/v1",
        "ngsp-status": b"refused",
        "ngsp-adapter": b"g01-population",
        "ngsp-attempt": b"1",
        "ngsp-code": b"DA-DANG-KY",
    }


def test_headers_of_others_are_passed_over() -> None:
    further: Headers = [("baggage", b"a=1"), ("ngsp-something-later", b"\xff")]
    assert Envelope.read([*further, *ENVELOPE.headers()], ENVELOPE.body) == ENVELOPE
    assert Reply.read([*further, *REPLY.headers()], REPLY.body) == REPLY


def changed(headers: Headers, name: str, value: bytes | None) -> Headers:
    """`headers` with another value under `name`; None leaves it out."""
    others = [header for header in headers if header[0] != name]
    return others if value is None else [*others, (name, value)]


REQUIRED = (
    *("ngsp-id", "ngsp-service", "ngsp-deadline", "ngsp-purpose", "ngsp-fields"),
    *("ngsp-schema", "ngsp-reply-to", "ngsp-attempt", "ngsp-consumer"),
)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_request_without_a_required_header_is_none(name: str) -> None:
    with pytest.raises(KeyError):
        Envelope.read(changed(ENVELOPE.headers(), name, None), b"")


@pytest.mark.parametrize("name", ["ngsp-id", "ngsp-service", "ngsp-status"])
def test_a_reply_without_a_required_header_is_none(name: str) -> None:
    with pytest.raises(KeyError):
        Reply.read(changed(REPLY.headers(), name, None), b"")


@pytest.mark.parametrize("name", [*REQUIRED, "ngsp-officer", "ngsp-dossier", "traceparent"])
def test_a_request_whose_header_is_no_utf8_is_none(name: str) -> None:
    with pytest.raises(ValueError, match=r"decode|invalid literal"):
        Envelope.read(changed(ENVELOPE.headers(), name, b"\xff\xfe"), b"")


@pytest.mark.parametrize(
    "name", ["ngsp-id", "ngsp-service", "ngsp-status", "ngsp-code", "ngsp-adapter", "ngsp-attempt"]
)
def test_a_reply_whose_header_is_no_utf8_is_none(name: str) -> None:
    with pytest.raises(ValueError, match=r"decode|invalid literal"):
        Reply.read(changed(REPLY.headers(), name, b"\xff\xfe"), b"")


@pytest.mark.parametrize("value", [b"", b"soon", b"1.5", b"1e3", b"0x10", b"--1", b"9" * 5_000])
def test_a_number_that_is_none_is_refused(value: bytes) -> None:
    for name in ("ngsp-deadline", "ngsp-attempt"):
        with pytest.raises(ValueError, match=r"int|digits"):
            Envelope.read(changed(ENVELOPE.headers(), name, value), b"")
    with pytest.raises(ValueError, match=r"int|digits"):
        Reply.read(changed(REPLY.headers(), "ngsp-attempt", value), b"")


@pytest.mark.parametrize("status", [b"", b"OK", b"ok ", b"succeeded", b"begun", b"okok"])
def test_a_status_that_is_none_is_refused(status: bytes) -> None:
    with pytest.raises(ValueError, match="status"):
        Reply.read(changed(REPLY.headers(), "ngsp-status", status), b"")


def test_what_an_adapter_says_of_itself_is_cut_to_its_length() -> None:
    found = Reply.read([*REPLY.headers(), ("ngsp-code", b"E" * 5_000), ("ngsp-adapter", b"a" * 5_000)], b"")
    assert (len(found.code), len(found.adapter)) == (64, 64)


def test_a_reply_need_not_name_adapter_attempt_and_code() -> None:
    bare = [header for header in REPLY.headers() if header[0] in ("ngsp-id", "ngsp-service", "ngsp-status")]
    found = Reply.read(bare, b"x")
    assert (found.adapter, found.attempt, found.code, found.body) == ("", 1, "", b"x")


headers_of_any_kind = st.lists(
    st.tuples(
        st.sampled_from([name for name, _ in (*ENVELOPE.headers(), *REPLY.headers())]),
        st.one_of(st.binary(max_size=20), st.integers().map(lambda number: b"%d" % number)),
    ),
    max_size=12,
)


@settings(max_examples=examples(1_000))
@given(headers_of_any_kind)
def test_whatever_comes_is_read_or_refused_in_one_way(headers: Any) -> None:
    for kind, good in ((Envelope, ENVELOPE.headers()), (Reply, REPLY.headers())):
        for given_headers in (headers, [*good, *headers]):
            try:
                found = kind.read(given_headers, b"")
            except (KeyError, ValueError):
                continue
            assert kind.read(found.headers(), b"") == found, "what was read can be written"
