"""Hands for a running gateway: call, submit, wait until the list has it."""

from __future__ import annotations

from typing import Any

from ngsp.messages import uuid7
from tests.support.gateway import Rig
from tests.support.waiting import until


async def call(rig: Rig, name: str = "look-up", by: str = "caller", **headers: str) -> str:
    """The transaction of a call."""
    answer = await rig.call(name, None, by=by, content=None, **headers)
    return answer.headers["Ngsp-Transaction"]


async def submit(rig: Rig) -> str:
    answer = await rig.call("send", Idempotency_Key=uuid7())
    assert answer.status_code == 202, answer.text
    return answer.headers["Ngsp-Transaction"]


async def items(rig: Rig, by: str = "caller", **parameters: Any) -> list[dict[str, Any]]:
    """Everything in the list, page by page."""
    found: list[dict[str, Any]] = []
    while True:
        answer = await rig.http.get("/v1/transactions", params=parameters, headers=await rig.headers(by))
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert set(page) == {"items", "next"}
        found += page["items"]
        if page["next"] is None:
            return found
        parameters["cursor"] = page["next"]


async def listed(rig: Rig, tx: str, by: str = "caller", **parameters: Any) -> dict[str, Any]:
    """The item of `tx`, once the list has it as ended."""
    last: dict[str, Any] = {}

    async def there() -> bool:
        found = [item for item in await items(rig, by, **parameters) if item["id"] == tx]
        last.update(found[0] if found else {})
        return bool(found) and found[0]["ended_at"] is not None

    await until(there, "the list has the transaction")
    return last
