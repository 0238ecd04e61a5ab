from __future__ import annotations

from typing import Any

import pytest

from ngsp.api.address import client_address, throttle_group


def scope(peer: str | None, *forwarded: str) -> dict[str, Any]:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    return {"type": "http", "client": (peer, 1234) if peer else None, "headers": headers}


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "found"),
    [
        ("203.0.113.9", [], "", "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "", "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "10.0.0.0/8", "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1"], "10.0.0.0/8", "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "10.0.0.0/8", "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1, 10.0.0.2"], "10.0.0.0/8", "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1"], "10.0.0.0/8", "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1:5000"], "10.0.0.1", "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::1]:5000"], "10.0.0.1", "2001:db8::1"),
        ("10.0.0.1", ["2001:db8::1"], "10.0.0.1", "2001:db8::1"),
        ("10.0.0.1", ["198.51.100.1, nonsense"], "10.0.0.1", "10.0.0.1"),
        ("10.0.0.1", ["", " , "], "10.0.0.1", "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.0/8", "10.0.0.3"),
        ("::ffff:203.0.113.9", [], "", "203.0.113.9"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "10.0.0.0/8", "198.51.100.1"),
        ("fe80::1%eth0", [], "", "fe80::1"),
        ("2001:db8::5", ["198.51.100.1"], "10.0.0.0/8, 2001:db8::/32", "198.51.100.1"),
        (None, ["198.51.100.1"], "10.0.0.0/8", "local"),
        ("testclient", [], "", "local"),
    ],
)
def test_whose_word_is_taken(peer: str | None, forwarded: list[str], trusted: str, found: str) -> None:
    assert client_address(scope(peer, *forwarded), trusted) == found


def test_asking_again_after_a_server_that_has_asked_changes_nothing() -> None:
    first = client_address(scope("10.0.0.1", "6.6.6.6, 198.51.100.1"), "10.0.0.0/8")
    assert client_address(scope(first, "6.6.6.6, 198.51.100.1"), "10.0.0.0/8") == first


def test_a_customers_ipv6_addresses_count_as_one() -> None:
    assert throttle_group("2001:db8:1:2::1") == throttle_group("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert throttle_group("2001:db8:1:3::1") != throttle_group("2001:db8:1:2::1")
    assert throttle_group("198.51.100.1") == "198.51.100.1"
    assert throttle_group("local") == "local"


def test_endless_hops_are_cut() -> None:
    assert client_address(scope("10.0.0.1", ",".join(["10.0.0.2"] * 10_000)), "10.0.0.0/8") == "10.0.0.2"
