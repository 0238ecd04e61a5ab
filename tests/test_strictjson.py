"""Strict JSON against an oracle: the standard library with every check of ours written out after it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ngsp.errors import BodyTooLarge, CallerError, MalformedJson, SchemaMismatch
from ngsp.strictjson import DEEPEST, LARGEST_INTEGER, MOST_ITEMS, parse
from tests.support.effort import examples

# --- the oracle -----------------------------------------------------------------------------------------------------


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError("duplicate")
    return dict(pairs)


def _refuse(_: str) -> Any:
    raise ValueError("constant")


def _depth(value: Any) -> int:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if below is None else 1 + max((_depth(item) for item in below), default=0)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for name, below in value.items() for leaf in (name, *_leaves(below))]
    if isinstance(value, list):
        return [leaf for below in value for leaf in _leaves(below)]
    return [value]


def _items(value: Any) -> int:
    below = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return len(below) + sum(_items(item) for item in below)


def oracle(body: bytes) -> Any:
    """The value, or ValueError."""
    value = json.loads(body.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_refuse)
    if _depth(value) > DEEPEST or _items(value) > MOST_ITEMS:
        raise ValueError("too much")
    for leaf in _leaves(value):
        if isinstance(leaf, str):
            leaf.encode("utf-8")
        elif type(leaf) is int and abs(leaf) > LARGEST_INTEGER:
            raise ValueError("integer")
        elif isinstance(leaf, float) and not math.isfinite(leaf):
            raise ValueError("not finite")
    return value


def agree(body: bytes) -> None:
    try:
        wanted = oracle(body)
    except (ValueError, RecursionError):
        with pytest.raises(CallerError):
            parse(body)
        return
    found = parse(body)
    assert found == wanted
    assert json.dumps(found) == json.dumps(wanted), "1 is not 1.0, and order stays"


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(st.characters(codec=None), max_size=8)
)
values = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=5) | st.dictionaries(st.text(max_size=5), below, max_size=5),
    max_leaves=30,
)
fragments = st.sampled_from(
    [
        *(b"{", b"}", b"[", b"]", b",", b":", b'"', b'"a"', b"1", b"-", b"0", b".5", b"e9", b"E400", b"true", b"null"),
        *(
            b" ",
            b"\n",
            b"\\",
            b"\\u",
            b"d800",
            b"\xff",
            b"\xef\xbb\xbf",
            b"NaN",
            b"Infinity",
            b"\0",
            b"\xc2\xa0",
            b"//",
        ),
        b"9" * 20,
    ]
)


@settings(max_examples=examples(500), deadline=None)
@given(value=values, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_what_python_writes(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    agree(text.encode("utf-8", "surrogatepass"))


@settings(max_examples=examples(500), deadline=None)
@given(value=values, at=st.integers(0, 10_000), noise=fragments, remove=st.booleans())
def test_what_python_writes_with_a_slip(value: Any, at: int, noise: bytes, remove: bool) -> None:
    body = bytearray(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    at %= len(body) + 1
    body[at : at + remove] = noise
    agree(bytes(body))


@settings(max_examples=examples(500), deadline=None)
@given(pieces=st.lists(fragments, max_size=20))
@example(pieces=[b'{"a":1,"a":1}'])
@example(pieces=[b'{"a":1,"\\u0061":1}'])
@example(pieces=[b'["\\ud83d\\ude00"]'])
@example(pieces=[b'["\\ud83d"]'])
def test_what_nobody_writes(pieces: list[bytes]) -> None:
    agree(b"".join(pieces))


@settings(max_examples=examples(200), deadline=None)
@given(body=st.binary(max_size=60))
def test_noise(body: bytes) -> None:
    agree(body)


# --- each rule by name ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-16-le"),
        '{"a": 1}'.encode("utf-32"),
        b'{"a": "\xff"}',
        b'{"a": "\xc0\x80"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": 1, "\\u0061": 2}',
        b"NaN",
        b"[Infinity]",
        b"[-Infinity]",
        b"[1e400]",
        b"[-1e400]",
        b"[" + b"9" * 5000 + b"]",
        b"[1" + b"0" * 500 + b".5]",
        b"[0x10]",
        b"[01]",
        b"[+1]",
        b"[.5]",
        b"[1.]",
        b"[1,]",
        b'{"a":1,}',
        b"{'a':1}",
        b"{a:1}",
        b"[1] [2]",
        b"[1]x",
        b"[1]\0",
        b"\xc2\xa0[1]",
        b"\x0b[1]",
        b'["\n"]',
        b'["\\x41"]',
        b'["\\ud800"]',
        b'{"\\udfff": 1}',
        b"// comment\n[1]",
        b"[" * 33 + b"]" * 33,
        b'{"a":' * 33 + b"1" + b"}" * 33,
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        "[\uff11]".encode(),
    ],
)
def test_malformed(body: bytes) -> None:
    with pytest.raises((MalformedJson, BodyTooLarge)) as caught:
        parse(body)
    if len(body) < 1000:
        assert isinstance(caught.value, MalformedJson)


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 10**39])
def test_integers_that_others_would_round(number: int) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        parse(b'{"amount": %d}' % number)
    assert caught.value.status == 422
    assert str(number) not in str(caught.value.problem("en"))


@pytest.mark.parametrize(
    "body", [b"0", b"-0", b"[9007199254740992]", b"[-9007199254740992]", b"[1e308]", b" \t\r\n[1] "]
)
def test_accepted(body: bytes) -> None:
    assert parse(body) == json.loads(body)


def test_depth_at_its_border_and_brackets_in_strings_do_not_count() -> None:
    assert parse(b"[" * 32 + b"]" * 32) is not None
    assert parse(json.dumps(["[{" * 100, '"\\"[', "\\"]).encode()) == ["[{" * 100, '"\\"[', "\\"]


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize(
    "build",
    [
        lambda count: json.dumps([0] * count),
        lambda count: json.dumps({str(number): 0 for number in range(count)}),
        lambda count: json.dumps([[0] * (count // 2 - 1), [0] * (count - count // 2 - 1)]),
        lambda count: json.dumps([[]] * count),
        lambda count: json.dumps([{}] * (count - 1) + [0]).replace("{}", "{ }"),
        lambda count: json.dumps([",[{"] * count),
    ],
)
def test_items_at_their_border(build: Any, over: int) -> None:
    body = build(MOST_ITEMS + over).encode()
    if over:
        with pytest.raises(BodyTooLarge):
            parse(body)
    else:
        assert parse(body) is not None


def test_hostile_bodies_cost_little() -> None:
    """Quadratic work would take minutes on these; the bound of the whole run is enough to see it."""
    megabyte = 1 << 20
    for body in (
        b"[" * megabyte,
        b'"' + b"\\" * megabyte,
        b'"' + b'\\"' * (megabyte // 2),
        b'{"a":' * (megabyte // 5),
        b"," * megabyte,
        b'["' + b"[" * megabyte + b'"]',
        b"-" * megabyte,
        b"1" * megabyte,
        b'"\\u' * (megabyte // 3),
        b" " * megabyte,
    ):
        try:
            parse(body)
        except CallerError as error:
            assert error.status in (400, 413)


def test_the_reason_and_the_problem_never_hold_input() -> None:
    for body in (b'{"secret-900000000001": nope}', b'{"secret-900000000001":1,"secret-900000000001":2}', b"[secret]"):
        with pytest.raises(MalformedJson) as caught:
            parse(body)
        error = caught.value
        for shown in (str(error), error.reason, str(error.problem("vi")), repr(error.__cause__)):
            assert "secret" not in shown
