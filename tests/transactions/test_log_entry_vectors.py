"""The canonical form of an entry: the published vectors, against an implementation of RFC 8785 of our own making here.

The vectors are fixed: proofs are taken over these bytes, so an entry of version 1 never comes out another way.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngsp.access import own
from ngsp.messages import ServiceKey
from ngsp.registry.model import NO_AGREEMENT, Agreement, Grant, Schema, Service
from ngsp.text import Text
from ngsp.transactions import entry
from ngsp.transactions.entry import Row, Scribe
from tests.support.effort import examples

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "log-entry-v1.json").read_text("utf-8")
)["vectors"]
BY_NAME = {vector["name"]: vector for vector in VECTORS}


def jcs(value: Any) -> str:
    """RFC 8785 for strings, integers, arrays and objects."""
    if isinstance(value, str):
        return '"' + "".join(_letter(letter) for letter in value) + '"'
    if isinstance(value, bool) or value is None or isinstance(value, float):
        raise TypeError("an entry holds no such value")
    if isinstance(value, int):
        if abs(value) > 2**53 - 1:
            raise ValueError("not exact in every reader")
        return str(value)
    if isinstance(value, list):
        return "[" + ",".join(map(jcs, value)) + "]"
    members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be"))
    return "{" + ",".join(f"{jcs(name)}:{jcs(held)}" for name, held in members) + "}"


_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _letter(letter: str) -> str:
    if letter in _SHORT:
        return _SHORT[letter]
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x20 else letter


@pytest.mark.parametrize("vector", VECTORS, ids=list(BY_NAME))
def test_members_to_bytes_to_digest(vector: dict[str, Any]) -> None:
    expected = bytes.fromhex(vector["canonical"])
    assert jcs(vector["members"]).encode() == expected
    assert entry.canonical(vector["members"]) == expected
    assert hashlib.sha256(expected).hexdigest() == vector["sha256"]
    assert entry.read(expected) == vector["members"]


AT = datetime(2026, 11, 22, 1, 2, 3, 45_678, tzinfo=UTC)
TX = "0193517b-8f00-7a11-9b22-0123456789ab"
SCRIBE = Scribe("VN", "gateway-1", 7)


def _grant(service: str, agreement: str, purpose: str, fields: tuple[str, ...], legal_basis: str) -> Grant:
    key = ServiceKey.parse(service)
    schema, title = Schema({}, "0" * 64), Text("a", "a")
    offered = Service(key, title, title, "query", "idempotent", 5.0, 65_536, schema, schema, "c06-population")
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    agreed = Agreement(
        agreement, 3, "H41", service, frozenset((purpose,)), legal_basis, fields, None, None, begun, None, "accepted"
    )
    return Grant(offered, agreed, purpose)


POPULATION = _grant(
    "G01.01/population-lookup/v1",
    "0192f0c1-0000-7000-8000-000000000001",
    "birth-registration",
    ("/name", "/birth/date", "/children/*/id"),
    "Điều 40 Luật Căn cước số 26/2023/QH15",
)
STRANGE = _grant(
    "H41/birth-registration/v12",
    "0192f0c1-0000-7000-8000-000000000002",
    "test",
    ("",),
    'Văn bản "số 1"\\2\t\n\r\b\f\x01\x1f\x7f / \u2028 \ufeff é e\u0301 😀',
)
TRIED_OUT = replace(
    POPULATION,
    agreement=replace(POPULATION.agreement, id=NO_AGREEMENT, version=0, legal_basis="", fields=("",)),
    sandbox=True,
)
SENT = _grant(
    "G22/procedure-events/v1",
    "0192f0c1-0000-7000-8000-000000000003",
    "procedure-lookup",
    ("/maThuTuc", "/hieuLucTu"),
    "Nghị định số 63/2010/NĐ-CP",
)
PUBLISHED = Grant(SENT.service, own("G22", SENT.service.path, AT), "")
CALL = {
    "client": "h41-portal",
    "consent": "urn:consent:17",
    "dossier": "000.00.01.H41-261121-0001",
    "member": "H41",
    "officer": "canbo-0017",
    "procedure": "1.004194",
    "trace": "0af7651916cd43dd8448eb211c80319c",
}
ASKED = {"agreement": "0192f0c1-0000-7000-8000-000000000009", "purpose": "x", "service": "G01.01/unknown/v1"}
FAILED = {"class": "deadline", "code": "no-answer", "status": 504}
RESOLVED = {"adapter": "c06-population", "state": "succeeded", "status": 200}
WHOLE_SECOND = AT.replace(microsecond=0)

WRITTEN: dict[str, Row] = {
    "accepted": SCRIBE.accepted(
        TX, AT, POPULATION, "query", dict(CALL), AT + timedelta(seconds=5), 740, bytes(range(32)), b"not in it"
    ),
    "accepted, least": SCRIBE.accepted(
        TX, WHOLE_SECOND, POPULATION, "submission", {"client": "h41-portal", "member": "H41"},
        WHOLE_SECOND + timedelta(days=30), 0, bytes(32), b"",
    ),
    "accepted, every kind of letter": SCRIBE.accepted(
        TX, AT.replace(microsecond=1), STRANGE, "query", {"client": "c", "member": "H41"},
        AT.replace(microsecond=100_000), 1_048_576, b"\xff" * 32, b"",
    ),
    "accepted, by a compatible route": SCRIBE.accepted(
        TX, AT, POPULATION, "query", {**CALL, "route": "ngsp-population"}, AT + timedelta(seconds=5), 740,
        bytes(range(32)), b"",
    ),
    "accepted, of the sandbox": SCRIBE.accepted(
        TX, AT, TRIED_OUT, "query", {**CALL, "sandbox": "1"}, AT + timedelta(seconds=5), 740, bytes(range(32)), b"",
    ),
    "accepted, of a publication": SCRIBE.accepted(
        TX, AT, PUBLISHED, "publication", {"client": "g22-procedures", "member": "G22"}, AT, 512, bytes(range(32)), b"",
    ),
    "accepted, of a delivery": SCRIBE.accepted(
        TX, AT, SENT, "delivery",
        {"client": "h41-onestop", "event": "0193517b-8f00-7a11-9b22-0123456789ac", "member": "H41",
         "subscription": "h41-procedure-changes"},
        AT + timedelta(days=3), 480, bytes(range(32)), b"",
    ),
    "delivered": SCRIBE.delivered(TX, AT, 1),
    "succeeded": SCRIBE.ended(
        entry.SUCCEEDED, TX, AT, {"adapter": "c06-population", "status": 200}, (911, bytes(range(32, 64))),
        {"admit": 81, "log_accept": 2950, "bus": 4021, "reply": 35},
    ),
    "refused by the provider": SCRIBE.ended(
        entry.REFUSED, TX, AT,
        {"adapter": "c06-population", "class": "provider-no", "code": "record-not-found", "provider_code": "KHONG-CO",
         "status": 404},
    ),
    "refused before acceptance": SCRIBE.refused_call(
        TX, AT, {"client": "h41-portal", "member": "H41"}, dict(ASKED), "access-denied", 403, "no such service"
    ),
    "failed": SCRIBE.ended(
        entry.FAILED, TX, AT, {"adapter": "c06-population", "class": "bad-reply", "code": "bad-reply", "status": 502}
    ),
    "expired": SCRIBE.ended(entry.EXPIRED, TX, AT, {"class": "deadline", "code": "expired", "status": 504}),
    "unknown": SCRIBE.ended(entry.UNKNOWN, TX, AT, dict(FAILED)),
    "resolved": SCRIBE.ended(entry.RESOLVED, TX, AT, dict(RESOLVED), (2, bytes(32))),
    "probing": SCRIBE.probing(
        TX, AT, {"client": "operator", "member": "G22"},
        {"adapter": "c06-population", "service": "G01.01/population-lookup/v1", "what": "backend"},
    ),
    "probed": SCRIBE.probed(
        TX, AT, {"client": "operator", "member": "G22"},
        {"adapter": "c06-population", "service": "G01.01/population-lookup/v1", "what": "backend"}, {"status": 200},
        {"sent": 1800, "adapter": 950, "backend": 900, "bus": 3900, "total": 4850},
    ),
    "repeated": SCRIBE.ended(entry.REPEATED, TX, AT, {"adapter": "c06-population", "class": "repeated-reply"}),
}  # fmt: skip
"""What the vectors are of."""


@pytest.mark.parametrize("name", WRITTEN)
def test_the_log_writes_the_vectors(name: str) -> None:
    at, tx, kind, body, _ = WRITTEN[name]
    vector = BY_NAME[name]
    assert body.hex() == vector["canonical"]
    assert (tx, entry.KINDS[kind], entry.moment(at)) == tuple(vector["members"][key] for key in ("tx", "kind", "at"))


def test_every_kind_of_entry_has_a_vector() -> None:
    assert {vector["members"]["kind"] for vector in VECTORS} == set(entry.KINDS.values())
    assert set(BY_NAME) == set(WRITTEN)


def test_the_page_shows_a_vector_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "log-entry.md").read_text("utf-8")
    vector = BY_NAME["delivered"]
    assert f"{bytes.fromhex(vector['canonical']).decode()}\n" in page and f"SHA-256  {vector['sha256']}\n" in page


@pytest.mark.parametrize("vector", VECTORS, ids=list(BY_NAME))
def test_the_page_names_every_member(vector: dict[str, Any]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "log-entry.md").read_text("utf-8")
    names = set(vector["members"])
    for part in ("call", "grant", "request", "reply", "asked", "outcome", "probe"):
        names |= set(vector["members"].get(part, ()))
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []


_NAMES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=6)
_VALUES = st.recursive(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.integers(-(2**53) + 1, 2**53 - 1),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(_NAMES, below, max_size=5),
    max_leaves=20,
)


@given(st.dictionaries(_NAMES, _VALUES, max_size=6))
@settings(max_examples=examples(150), deadline=None)
def test_the_quick_encoder_is_rfc_8785_for_what_an_entry_may_hold(members: dict[str, Any]) -> None:
    assert entry.canonical(members) == jcs(members).encode()


@given(st.integers(0, 10**15))
def test_moments_have_six_digits_and_a_z(microseconds: int) -> None:
    at = WHOLE_SECOND + timedelta(microseconds=microseconds)
    at_text = entry.read(SCRIBE.delivered(TX, at, 1)[3])["at"]
    assert at_text == entry.moment(at) == at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
