"""`python -m bench compatible`: what calls by a compatible route cost, next to the hot door, in one run.

A whole gateway over a real PostgreSQL and the bus inside the process, called at its ASGI interface, so that no client
and no socket is in the figure: token, agreement, schema, two durable log entries, adapter. And the look into the table
that other requests pay for, over a thousand routes.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from bench.adapters.figures import Figure, table
from bench.inside import Inside, ask, gateway_inside, measured, medians
from ngsp.adapter import Adapter, Manifest, Request
from ngsp.registry.routes import CompatibleRoute, RouteTable
from ngsp.text import Text, tr

AT_ONCE = 32
CALLS, ROUNDS = 3_000, 5
PATH = "/apiThu/1.0/traCuu"
LOOKS = 200_000
ROUTES = 1_000

_TEXT = {"vi": "đo", "en": "bench"}
_OBJECT = {"type": "object", "properties": {"ma": {"type": "string"}, "ten": {"type": "string"}}}
_MANIFEST: dict[str, Any] = {
    "id": "h41-bench",
    "provider": "H41",
    "services": [
        {
            "service": "look-up", "version": "v1", "mode": "query", "effect": "idempotent", "deadline_s": 10,
            "max_body_bytes": 65_536, "title": _TEXT, "description": _TEXT, "request_schema": _OBJECT,
            "reply_schema": _OBJECT,
        }
    ],
}  # fmt: skip
_DOCUMENTS: list[dict[str, Any]] = [
    *(
        {"kind": "member", "code": code, "name": _TEXT, "valid_from": "2020-01-01", "zone": "national"}
        for code in ("G22", "H41")
    ),
    {"kind": "client", "id": "caller", "member": "G22", "name": _TEXT, "scopes": ["exchange"],
     "secret_file": "caller.secret"},
    {"kind": "adapter", **_MANIFEST},
    {"kind": "agreement", "reference": "bench", "consumer": "G22", "service": "H41/look-up/v1",
     "purposes": ["bench"], "legal_basis": "NĐ 194/2025/NĐ-CP", "fields": [""], "accepted": True,
     "valid_from": "2020-01-01T00:00:00Z"},
    {"kind": "compatible-route", "id": "bench", "title": _TEXT, "methods": ["GET"], "path": PATH,
     "service": "H41/look-up/v1", "purpose": "bench", "query": ["ma"], "request": {"ma": "query.ma"},
     "reply": {"MainInformation": {"MA": "body.ma", "TEN": "body.ten"}, "Status": "'1'", "Message": "'success'"}},
]  # fmt: skip

Send = Callable[[], Awaitable[int]]


async def _subjects(inside: Inside) -> dict[str, Send]:
    """What is measured, by name; the first is the reference."""
    door, bearer = inside.door, await inside.bearer("caller")
    members = {"AccessKey": "caller", "SecretKey": inside.secret("caller"), "AppName": "bench", "PartnerCode": "G22"}
    partner = {"lgspaccesstoken": base64.b64encode(orjson.dumps(members)).decode()}
    own = bearer | {"content-type": "application/json", "ngsp-purpose": "bench", "content-length": "19"}
    query = b"ma=9649056869"
    body = orjson.dumps({"ma": "9649056869"})

    async def hot() -> int:
        return (await ask(door, "POST", "/v1/services/H41/look-up/v1", own, body))[0]

    async def by_token() -> int:
        return (await ask(door, "GET", PATH, bearer, query=query))[0]

    async def by_header() -> int:
        return (await ask(door, "GET", PATH, partner, query=query))[0]

    return {
        tr("cửa nóng", "the hot door"): hot,
        tr("tuyến tương thích, mã truy cập", "a compatible route, token"): by_token,
        tr("tuyến tương thích, lgspaccesstoken", "a compatible route, lgspaccesstoken"): by_header,
    }


async def _measure(folder: Path, quick: bool) -> list[Figure]:
    calls = CALLS // 10 if quick else CALLS
    adapter = Adapter(Manifest.model_validate(_MANIFEST))

    @adapter.service("look-up", "v1")
    async def look_up(request: Request) -> object:
        return {"ma": request.payload["ma"], "ten": "Công ty cổ phần Thương mại và Dịch vụ Bình Giang"}

    async with gateway_inside(folder, _DOCUMENTS, [adapter]) as inside:
        subjects = await _subjects(inside)
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in subjects}
        for number in range((2 if quick else ROUNDS) + 1):
            for name, send in subjects.items():
                figures = await _run(send, calls)
                if number:  # the first is to warm up
                    taken[name].append(figures)
    return medians(taken)


async def _run(send: Send, calls: int) -> tuple[float, float]:
    """Processor time in µs for each call, and calls a second. RuntimeError where one was not answered 200."""

    async def some() -> None:
        for _ in range(calls // AT_ONCE):
            if (status := await send()) != 200:
                raise RuntimeError(f"answered {status}")

    cpu_s, wall_s = time.process_time(), time.perf_counter()
    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    made = calls // AT_ONCE * AT_ONCE
    return (time.process_time() - cpu_s) / made * 1e6, made / (time.perf_counter() - wall_s)


def _looks() -> list[Figure]:
    """Finding in a table of a thousand routes, a third of them with a place in their path."""
    routes = RouteTable(
        CompatibleRoute(
            id=f"route-{number}",
            title=Text("a", "a"),
            methods=("GET",),
            path=f"/api{number}/1.0/" + ("hoSo/{ma}/chiTiet" if number % 3 == 0 else "traCuu"),
            service="H41/look-up/v1",
            agreements=(),
            active=True,
            terms={},
        )
        for number in range(ROUTES)
    )
    found = {
        tr("không phải tuyến nào", "none of them"): b"/v1/transactions",
        tr("đường dẫn cố định", "a fixed path"): b"/api1/1.0/traCuu",
        tr("đường dẫn có chỗ trống", "a path with a place"): b"/api999/1.0/hoSo/900000000001/chiTiet",
    }
    figures = []
    for name, path in found.items():
        begun = time.process_time()
        for _ in range(LOOKS):
            routes.find(path)
        figures.append(Figure(name, (time.process_time() - begun) / LOOKS * 1e6))
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: measured."""
    hot, token, header = figures = measured("compatible", __doc__, _measure, arguments)
    looks = _looks()
    print(f"\n{table(figures)}\n\n{table(looks)}\n")
    ratios = f"token={token.cpu_us / hot.cpu_us:.2f} header={header.cpu_us / hot.cpu_us:.2f}"
    print(f"compatible hot_us={hot.cpu_us:.0f} {ratios} look_us={looks[0].cpu_us:.2f}")
    return 0
