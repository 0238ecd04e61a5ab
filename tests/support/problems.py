"""What every refusal must look like (RFC 9457), and that nothing of what was sent comes back or stays."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.gateway import Rig

MARKER = "zqmarkerzq"
NUMBER = "900199912345"
"""Planted in what is sent, as a name and as an identity number; neither may be seen again anywhere."""
PLANTED = (MARKER.encode(), NUMBER.encode(), b"Zqmarkerzq", b"ZQMARKERZQ")

_MEMBERS = ("type", "title", "status", "detail", "instance", "code", "remedy")


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document in `answer`, which has this status and code and echoes nothing that was planted."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    return shaped(answer)


def shaped(answer: httpx.Response) -> dict[str, Any]:
    """The same for any refusal."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert all(isinstance(document[name], str) and document[name] for name in _MEMBERS if name != "status")
    assert document["status"] == answer.status_code
    assert document["type"] == f"/errors/{document['code']}"
    tx = answer.headers.get("Ngsp-Transaction")
    assert document["instance"] == f"/v1/transactions/{tx}" if tx else document["instance"].startswith("urn:uuid:")
    if answer.status_code in (429, 503):
        assert int(answer.headers["Retry-After"]) >= 1
    if answer.status_code == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert answer.headers["Content-Language"] in ("vi", "en")
    unseen(answer.content, repr(answer.headers.raw).encode())
    return document


def unseen(*places: bytes) -> None:
    for place in places:
        for planted in PLANTED:
            assert planted not in place


async def refused(
    rig: Rig, output: pytest.CaptureFixture[str], answer: httpx.Response, status: int, code: str
) -> dict[str, Any]:
    """Checks the answer, that nothing was published, and that one entry says so; gives the entry.

    Neither the entry nor the gateway's own log holds what was planted.
    """
    problem(answer, status, code)
    assert rig.provider.seen == []
    tx = answer.headers["Ngsp-Transaction"]
    (found,) = await rig.entries(tx)
    assert (found["kind"], found["call"]["client"]) == ("refused", "caller")
    outcome = found["outcome"]
    assert (outcome["class"], outcome["code"], outcome["status"]) == ("refused-call", code, status)
    assert outcome["reason"]
    unseen(await rig.rows.fetchval("SELECT body FROM entries WHERE tx = $1", tx), output.readouterr().err.encode())
    return found
