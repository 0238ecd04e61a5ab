"""What is decided of services and adapters, over REST: who may, what it shows, and that manifests do not undo it."""

from __future__ import annotations

import asyncio
import io
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ngsp.registry.apply import run_apply
from tests.support.registry import eventually, manifest, running_registry, service_document
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from tests.support.registry import Rig

NAME = "population-lookup"
WAITS = {"reason": "Chờ căn cứ pháp lý", "legal_basis": "Luật Đất đai"}


def path(version: str) -> str:
    return f"/v1/services/G01.01/{NAME}/{version}"


def moment(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def soon(**later: float) -> str:
    return moment(datetime.now(UTC) + timedelta(**later))


async def serve(rig: Rig, *versions: str, by: str = "g01-registry") -> httpx.Response:
    """The adapter `g01-states` with these versions of the service, and no others."""
    document = manifest(*(service_document(version=version) for version in versions), id="g01-states")
    return await rig.call("PUT", "/v1/adapters/g01-states", json=document, by=by)


async def decide(rig: Rig, version: str, state: str, by: str = "operator-1", **how: Any) -> httpx.Response:
    headers = how.pop("headers", {})
    document = {"state": state, **how}
    return await rig.call("PUT", f"{path(version)}/state", json=document, by=by, headers=headers)


async def shown(rig: Rig, version: str) -> dict[str, Any] | None:
    """The service in the catalogue as a stranger sees it; the list says the same."""
    one = await rig.call("GET", path(version), by="h14-registry")
    listed = (await rig.call("GET", "/v1/services?limit=500", by="h14-registry")).json()["items"]
    found = [item for item in listed if item["version"] == version and item["service"] == NAME]
    if one.status_code == 404:
        assert found == []
        return None
    assert found == [one.json()]
    return dict(one.json())


async def test_a_service_waits_for_its_legal_basis(rig: Rig) -> None:
    assert (await serve(rig, "v201")).status_code in (200, 201)
    disabled = await decide(rig, "v201", "disabled", **WAITS)
    assert (disabled.status_code, disabled.json()) == (200, {"state": "disabled", "maintenance": None, **WAITS})
    assert (await rig.call("GET", path("v201"))).headers["ETag"] == disabled.headers["ETag"] == '"2"'
    found = await shown(rig, "v201")
    assert found is not None and (found["state"], found["reason"]) == ("disabled", WAITS["reason"])
    proposed = {
        "consumer": "H41", "service": f"G01.01/{NAME}/v201", "purposes": ["testing"], "legal_basis": "x",
        "fields": ["/id"],
    }  # fmt: skip
    assert (await rig.call("POST", "/v1/agreements", json=proposed, by="h41-registry")).status_code == 201
    assert (await decide(rig, "v201", "disabled", **WAITS)).headers["ETag"] == '"2"', "saying it again changes nothing"
    enabled = await decide(rig, "v201", "active", legal_basis="Nghị định 101/2024/NĐ-CP")
    assert enabled.json() == {"state": "active", "maintenance": None, "reason": None, "legal_basis": None}
    assert rig.registry.snapshot.services[f"G01.01/{NAME}/v201"].state == "active"


async def test_no_manifest_undoes_a_decision(rig: Rig) -> None:
    await serve(rig, "v202", "v203", "v204")
    await decide(rig, "v202", "disabled", **WAITS)
    await decide(rig, "v203", "retired", by="g01-registry", reason="Thay bằng v204")
    assert await shown(rig, "v203") is None
    await serve(rig, "v204")
    assert await shown(rig, "v202") is None, "left out, and so retired"
    refused = await decide(rig, "v202", "active")
    assert (refused.status_code, refused.json()["code"]) == (409, "state-conflict"), "nothing serves it"
    put = await serve(rig, "v202", "v203", "v204")
    states = {service["path"].rpartition("/")[2]: service["state"] for service in put.json()["services"]}
    assert states | {"v202": "disabled", "v203": "retired", "v204": "active"} == states
    assert (await decide(rig, "v203", "active", by="g01-registry")).status_code == 200
    assert await shown(rig, "v203") is not None


async def test_maintenance_is_announced_begins_and_ends_by_itself(rig: Rig) -> None:
    await serve(rig, "v205")
    begins, ends = soon(hours=2), soon(hours=3)
    announced = await decide(
        rig, "v205", "maintenance", by="g01-registry", **{"from": begins, "until": ends, "reason": "Nâng cấp máy chủ"}
    )
    assert announced.json() == {
        "state": "active", "maintenance": {"from": begins, "until": ends}, "reason": "Nâng cấp máy chủ",
        "legal_basis": None,
    }  # fmt: skip
    now = await decide(rig, "v205", "maintenance", until=ends, reason="Nâng cấp máy chủ")
    assert now.json()["state"] == "maintenance" and now.json()["maintenance"]["until"] == ends
    again = await decide(rig, "v205", "maintenance", until=ends, reason="Nâng cấp máy chủ")
    assert again.headers["ETag"] == now.headers["ETag"] and again.json() == now.json()
    longer = await decide(rig, "v205", "maintenance", until=soon(hours=5), reason="Lâu hơn dự kiến")
    assert longer.json()["maintenance"]["from"] == now.json()["maintenance"]["from"]
    service = rig.registry.snapshot.services[f"G01.01/{NAME}/v205"]
    at = datetime.now(UTC)
    assert service.maintenance is not None and service.away_until(at) == service.maintenance.until
    assert not service.serves(at) and service.serves(at + timedelta(hours=6)), "no job has to end it"
    ended = await decide(rig, "v205", "active", by="g01-registry")
    assert (ended.json()["state"], ended.json()["maintenance"]) == ("active", None)


async def test_who_decides_what(rig: Rig) -> None:
    await serve(rig, "v206")
    for state, how in (
        ("disabled", WAITS),
        ("maintenance", {"until": soon(hours=1), "reason": "x"}),
        ("retired", {"reason": "x"}),
    ):
        foreign = await decide(rig, "v206", state, by="h14-registry", **how)
        assert (foreign.status_code, foreign.json()["code"]) == (403, "access-denied")
    own = await decide(rig, "v206", "disabled", by="g01-registry", **WAITS)
    assert (own.status_code, own.json()["code"]) == (403, "access-denied")
    await decide(rig, "v206", "disabled", **WAITS)
    for state, how in (("active", {}), ("retired", {"reason": "x"})):
        assert (await decide(rig, "v206", state, by="g01-registry", **how)).status_code == 403, "operators enable"
    away = await decide(rig, "v206", "maintenance", until=soon(hours=1), reason="x")
    assert (away.status_code, away.json()["code"]) == (409, "state-conflict")
    assert (await decide(rig, "v206", "active", by="auditor-1")).json()["code"] == "scope-missing"
    missing = await decide(rig, "v999", "disabled", **WAITS)
    assert missing.status_code == 404
    odd = await rig.call("PUT", "/v1/services/G01.01/..%2Fx/v1/state", json={"state": "active"})
    assert odd.status_code in (404, 422)


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({"state": "asleep"}, "/state"),
        ({"state": "disabled"}, ""),
        ({"state": "maintenance", "reason": "x"}, ""),
        ({"state": "retired", "reason": "x", "until": "2100-01-01T00:00:00Z"}, ""),
        ({"state": "maintenance", "reason": "x", "until": "2020-01-01T00:00:00Z"}, "/until"),
        ({"state": "maintenance", "reason": "x", "until": "tomorrow"}, "/until"),
        (
            {"state": "maintenance", "reason": "x", "from": "2100-01-02T00:00:00Z", "until": "2100-01-01T00:00:00Z"},
            "",
        ),
        ({"state": "disabled", "reason": "x\u200b"}, "/reason"),
        ({"state": "active", "since": 5}, "/*"),
    ],
)
async def test_states_that_are_refused(rig: Rig, document: dict[str, Any], pointer: str) -> None:
    await serve(rig, "v207")
    found = await rig.call("PUT", f"{path('v207')}/state", json=document)
    assert found.status_code == 422, found.text
    assert [fault["pointer"] for fault in found.json()["errors"]] == [pointer]


async def test_lost_updates_are_refused(rig: Rig) -> None:
    await serve(rig, "v208")
    seen = (await rig.call("GET", path("v208"))).headers["ETag"]
    first = await decide(rig, "v208", "disabled", **WAITS, headers={"If-Match": seen})
    assert first.status_code == 200
    second = await decide(rig, "v208", "active", headers={"If-Match": seen})
    assert (second.status_code, second.json()["code"]) == (412, "precondition-failed")
    adapter = (await rig.call("GET", "/v1/adapters/g01-states")).headers["ETag"]
    await serve(rig, "v208", "v209")
    stale = await rig.call(
        "POST", "/v1/adapters/g01-states/retire", json={"reason": "x"}, headers={"If-Match": adapter}
    )
    assert stale.status_code == 412


async def test_states_are_declared_too(rig: Rig, tmp_path: Path) -> None:
    await serve(rig, "v230", "v231", "v232")
    ends = soon(hours=1)

    async def applied(*documents: str) -> tuple[int, str]:
        (tmp_path / "states.yaml").write_text("---\n".join(documents), "utf-8")
        out = io.StringIO()
        return await asyncio.to_thread(run_apply, tmp_path, rig.url, False, out), out.getvalue()

    def declared(version: str, **others: str) -> str:
        members = {"kind": "service", "service": f"G01.01/{NAME}/{version}", **others}
        return "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in members.items())

    whole = (
        declared("v230", state="disabled", **WAITS),
        declared("v231", state="maintenance", until=ends, reason="Nâng cấp"),
        declared("v232", state="maintenance", until="2020-01-01T00:00:00Z", reason="Đã qua"),
    )
    code, out = await applied(*whole)
    assert code == 0 and f"G01.01/{NAME}/v230" in out and WAITS["reason"] in out
    assert "v232" not in out, "a maintenance that is over says nothing"

    def away(version: str) -> bool:
        return not rig.registry.snapshot.services[f"G01.01/{NAME}/{version}"].serves(datetime.now(UTC))

    await until(lambda: away("v230") and away("v231"), "the snapshot to follow")
    states = {version: (await shown(rig, version) or {})["state"] for version in ("v230", "v231", "v232")}
    assert states == {"v230": "disabled", "v231": "maintenance", "v232": "active"}
    again, told = await applied(*whole)
    assert again == 0 and "v23" not in told
    assert (await applied(declared("v230", state="active")))[0] == 0
    assert (await applied(declared("v999", state="active")))[0] == 1
    code, out = await applied(declared("v230", state="disabled"))
    assert code == 2 and "states.yaml:" in out


async def test_another_gateway_knows_within_a_second(rig: Rig) -> None:
    await serve(rig, "v210")
    async with running_registry(rig.url) as other:
        assert other.snapshot.services[f"G01.01/{NAME}/v210"].state == "active"
        await decide(rig, "v210", "disabled", **WAITS)
        assert await eventually(lambda: other.snapshot.services[f"G01.01/{NAME}/v210"].state == "disabled", 1.0) < 1


async def test_a_retired_adapter_stays_so_until_an_operator_brings_it_back(rig: Rig) -> None:
    document = manifest(service_document(version="v220"), service_document(version="v221"), id="g01-ending")
    await rig.call("PUT", "/v1/adapters/g01-ending", json=document, by="g01-registry")
    await decide(rig, "v221", "disabled", **WAITS)
    foreign = await rig.call("POST", "/v1/adapters/g01-ending/retire", json={"reason": "x"}, by="h14-registry")
    assert foreign.status_code == 404
    bare = await rig.call("POST", "/v1/adapters/g01-ending/retire", json={}, by="g01-registry")
    assert bare.status_code == 422
    retired = await rig.call(
        "POST", "/v1/adapters/g01-ending/retire", json={"reason": "Hệ thống cũ dừng"}, by="g01-registry"
    )
    assert retired.status_code == 200, retired.text
    view = retired.json()
    assert (view["state"], view["retired_reason"]) == ("retired", "Hệ thống cũ dừng") and view["retired_at"]
    assert {service["state"] for service in view["services"]} == {"retired"}
    assert await shown(rig, "v220") is None and await shown(rig, "v221") is None
    again = await rig.call("POST", "/v1/adapters/g01-ending/retire", json={"reason": "x"}, by="g01-registry")
    assert again.json() == view and again.headers["ETag"] == retired.headers["ETag"]
    for answer in (
        await rig.call("PUT", "/v1/adapters/g01-ending", json=document, by="g01-registry"),
        await rig.call(
            "POST", "/v1/adapters/g01-ending/heartbeat", json={"build": "1", "schemas": {}}, by="g01-registry"
        ),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "state-conflict")
    back = await rig.call("PUT", "/v1/adapters/g01-ending", json=document)
    assert back.status_code == 200 and back.json()["state"] == "silent" and back.json()["retired_at"] is None
    assert {service["path"][-4:]: service["state"] for service in back.json()["services"]} == {
        "v220": "active", "v221": "disabled",
    }  # fmt: skip
