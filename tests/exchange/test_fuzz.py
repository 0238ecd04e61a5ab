"""Whatever bytes come: never a status of 500 or more, always a problem document, and the gateway goes on."""

from __future__ import annotations

import json
from urllib.parse import quote_from_bytes

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.effort import examples
from tests.support.gateway import Rig
from tests.support.problems import shaped
from tests.support.wire import exchanged, head

FUZZ = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)

KNOWN_KEYS = st.sampled_from(["do", "id", "n", "list", "note"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text() | KNOWN_KEYS, below, max_size=4),
    max_leaves=8,
)
DOCUMENTS = st.builds(json.dumps, st.dictionaries(KNOWN_KEYS, VALUES) | VALUES, ensure_ascii=st.booleans())


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """JSON with a few of its bytes put in, left out or changed."""
    body = bytearray(draw(DOCUMENTS).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(body)


@given(body=damaged() | st.binary(max_size=200))
@settings(FUZZ, max_examples=examples(300))
async def test_any_body(module_rig: Rig, body: bytes) -> None:
    answer = await module_rig.call(content=body)
    assert answer.status_code in (200, 400, 413, 422), answer.text
    if answer.status_code != 200:
        shaped(answer)


NAMES = st.sampled_from(
    [
        *("Ngsp-Purpose", "Ngsp-Agreement", "Ngsp-Officer", "Ngsp-Dossier", "Ngsp-Procedure", "Ngsp-Consent"),
        *("Ngsp-Signature", "Idempotency-Key", "Prefer", "traceparent", "tracestate", "Authorization", "Cookie"),
        *("Accept", "Accept-Language", "Accept-Charset", "Content-Type", "Content-Encoding", "Content-Language"),
        *("Origin", "Range", "If-Match", "If-None-Match", "X-Forwarded-For", "Forwarded", "TE", "Via", "Upgrade"),
    ]
)
PIECES = st.sampled_from(
    [
        *(b"testing", b"wait=1", b"respond-async", b"application/json", b"gzip", b"Bearer ", b"00-", b"en", b"vi"),
        *(b";", b",", b"=", b'"', b"q=", b" ", b"-", b"0" * 12, b"9" * 30),
        *(b"../", b"%00", b"\xff", b"\xe2\x80\xae", b"' OR 1=1"),
    ]
)
FIELD_BYTES = st.binary(max_size=40).map(lambda value: value.translate(None, bytes([*range(32), 127])))
FIELDS = st.lists(st.tuples(NAMES, st.lists(PIECES, max_size=4).map(b"".join) | FIELD_BYTES), max_size=4)


@given(fields=FIELDS)
@settings(FUZZ, max_examples=examples(250))
async def test_any_header(module_rig: Rig, fields: list[tuple[str, bytes]]) -> None:
    given_fields = b"".join(name.encode() + b": " + value.strip() + b"\r\n" for name, value in fields)
    start = await head(module_rig, "Content-Length: 2")
    answer = await exchanged(module_rig, start[:-2] + given_fields + b"\r\n", b"{}")
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 300:
        shaped(answer)


SEGMENT = st.sampled_from(["H41", "look-up", "v1", "send", "..", ".", "", "%", "%2", ";", "@", ":"]) | st.binary(
    max_size=12
).map(quote_from_bytes)


@given(segments=st.lists(SEGMENT, max_size=5))
@settings(FUZZ, max_examples=examples(200))
async def test_any_path(module_rig: Rig, segments: list[str]) -> None:
    path = "/v1/services/" + "/".join(segments)
    answer = await exchanged(module_rig, await head(module_rig, "Content-Length: 2", path=path), b"{}")
    assert answer.status_code in (200, 403, 422, 428), answer.text
    if answer.status_code != 200:
        shaped(answer)


async def test_the_gateway_goes_on(module_rig: Rig) -> None:
    assert (await module_rig.call()).status_code == 200
    assert (await module_rig.http.get("/readyz")).status_code == 200
