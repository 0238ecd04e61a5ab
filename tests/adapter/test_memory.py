"""Replies given again while they hold: `cache_s` of a declared service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from ngsp.adapter import Adapter, ManifestError
from ngsp.adapter.memory import LONGEST_S, MOST_BYTES, Memory
from tests.adapters.door import Door, door_to

MANIFEST = """\
id: g22-small
provider: G22
backend: {kind: rest, url: {env: SMALL_URL}}
services:
  - service: procedure
    version: v1
    deadline_s: 5
    title: {vi: Tra cứu, en: Look-up}
    description: {vi: Tra cứu, en: Look-up}
    request_schema: {type: object}
    reply_schema: {type: object}
    call: {path: "/{payload.code}"}
    reply: {count: body.COUNT}
    cache_s: body.HOLDS
    outcomes: [{when: "status == `404`", outcome: not-found}]
"""


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """Behind it is a system that counts how often it is asked; what it says under `a` holds, under `b` not."""
    asked = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        code = request.match_info["code"]
        holds = {"a": 60, "b": 0, "c": "sixty", "d": None, "e": True}.get(code, 60)
        return web.json_response({"COUNT": asked, "HOLDS": holds}, status=404 if code == "none" else 200)

    app = web.Application()
    app.router.add_get("/{code}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    (tmp_path / "manifest.yaml").write_text(MANIFEST, "utf-8")
    environment = {"SMALL_URL": url, "NGSP_ADAPTER_ALLOWED_NETWORKS": "127.0.0.0/8"}.get
    async with door_to(Adapter.load(tmp_path / "manifest.yaml"), tmp_path, environment) as found:
        yield found
    await runner.cleanup()


async def counts(door: Door, code: str, times: int = 3) -> list[int]:
    return [(await door.answer({"code": code}))["count"] for _ in range(times)]


async def test_a_reply_is_given_again_while_it_holds(door: Door) -> None:
    assert await counts(door, "a") == [1, 1, 1]
    assert await counts(door, "x") == [2, 2, 2], "another request is asked for itself"
    assert await counts(door, "a") == [1, 1, 1]


@pytest.mark.parametrize("code", ["b", "c", "d", "e"])
async def test_one_that_does_not_hold_is_asked_for_each_time(door: Door, code: str) -> None:
    assert await counts(door, code) == [1, 2, 3]


async def test_a_no_is_not_kept(door: Door) -> None:
    assert {(await door.ask({"code": "none"})).status for _ in range(2)} == {"not-found"}
    assert await counts(door, "a", 1) == [3]


def test_what_is_kept_ends_and_is_bounded() -> None:
    now = 0.0
    memory = Memory(lambda: now)
    memory.keep(b"a", b"1", 10)
    memory.keep(b"for long", b"2", 10 * LONGEST_S)
    now = 9.9
    assert memory.find(b"a") == b"1"
    now = 10.0
    assert (memory.find(b"a"), memory.find(b"for long")) == (None, b"2")
    now = LONGEST_S
    assert memory.find(b"for long") is None
    memory.keep(b"huge", b"x" * MOST_BYTES, 10)
    assert memory.find(b"huge") is None
    for number in range(5):
        memory.keep(b"%d" % number, b"x" * (MOST_BYTES // 4), 10)
    assert [memory.find(b"%d" % number) is not None for number in range(5)] == [False, False, True, True, True]
    memory.keep(b"4", b"short", 10)
    assert memory.find(b"4") == b"short"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('path: "/{payload.code}"', 'path: "/{payload.code}", query: {who: officer}', "/services/0/cache_s"),
        ("cache_s: body.HOLDS", "cache_s: body.[", "/services/0/cache_s"),
        ("deadline_s: 5", "mode: submission\n    effect: uncertain\n    deadline_s: 5", "/services/0/cache_s"),
    ],
)
def test_where_it_makes_no_sense_it_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    (tmp_path / "manifest.yaml").write_text(MANIFEST.replace(old, new), "utf-8")
    with pytest.raises(ManifestError, match=said):
        Adapter.load(tmp_path / "manifest.yaml")
