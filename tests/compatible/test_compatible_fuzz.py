"""Whatever comes to an old address: never a status of 500 or more, always the route's shape, and nothing comes back."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.compatible.conftest import LOOK_UP, OFFICER, SEND
from tests.support.effort import examples
from tests.support.gateway import Rig
from tests.support.wire import exchanged

FUZZ = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
NAMES = st.sampled_from(["maCanBo", "maHoSo", "maTTHC", "viec", "soLuong", "maYeuCau"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5) | NAMES, below, max_size=3),
    max_leaves=6,
)
BODIES = st.dictionaries(NAMES, VALUES, max_size=6).map(json.dumps)
PIECES = st.sampled_from(["so", "viec", "=", "&", "%", "%2", "%zz", "%00", "%ff", "+", "900000000001", ";", "it", "[]"])
QUERIES = st.lists(PIECES, max_size=8).map("".join)
MEMBERS = st.sampled_from(["AccessKey", "SecretKey", "AppName", "PartnerCode", "PartnerCodeCus", "x"])
HEADERS = (
    st.binary(max_size=60).map(lambda raw: base64.b64encode(raw).decode())
    | st.dictionaries(MEMBERS, st.sampled_from(["caller", "G22", "", None, 1, [], {}, "H41"]), max_size=6).map(
        lambda members: base64.b64encode(json.dumps(members).encode()).decode()
    )
    | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40)
)


def checked(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["Ngsp-Transaction"]
    found: Any = answer.json()
    if answer.status_code >= 400:
        assert answer.headers["Ngsp-Transaction"] in (found.get("transaction"), found.get("MaGiaoDich"))


async def sent(rig: Rig, line: str, *fields: str, body: bytes = b"") -> httpx.Response:
    length = [f"Content-Length: {len(body)}", "Content-Type: application/json"] if body else []
    head = "\r\n".join([f"{line} HTTP/1.1", "Host: gateway", *fields, *length, "", ""])
    return await exchanged(rig, head.encode("latin-1") + body)


@given(body=BODIES, path=st.sampled_from([OFFICER, SEND]), purpose=st.sampled_from(["testing", "", "x y", "../z"]))
@settings(FUZZ, max_examples=examples(150))
async def test_any_body(shared_rig: Rig, body: str, path: str, purpose: str) -> None:
    bearer = f"Authorization: Bearer {await shared_rig.token('caller')}"
    checked(await sent(shared_rig, f"POST {path}", bearer, f"X-Muc-Dich: {purpose}", body=body.encode()))


@given(query=QUERIES)
@settings(FUZZ, max_examples=examples(150))
async def test_any_query(shared_rig: Rig, query: str) -> None:
    bearer = f"Authorization: Bearer {await shared_rig.token('caller')}"
    answer = await sent(shared_rig, f"GET {LOOK_UP}?{query}", bearer)
    checked(answer)
    assert answer.status_code in (200, 400, 422)


@given(header=HEADERS, name=st.sampled_from(["lgspaccesstoken", "Authorization"]))
@settings(FUZZ, max_examples=examples(150))
async def test_any_proof(shared_rig: Rig, header: str, name: str) -> None:
    answer = await sent(shared_rig, f"GET {LOOK_UP}?so=900000000001", f"{name}: {header}")
    checked(answer)
    assert answer.status_code in (401, 429)
