"""`GET /v1/statistics` and `ngsp statistics`, against a running gateway."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from ngsp.messages import uuid7
from ngsp.transactions import entry
from ngsp.transactions.statistics import begin_of
from tests.support.waiting import until
from tests.transactions.test_cli_transactions import environment, run_ngsp

if TYPE_CHECKING:
    from tests.support.gateway import Rig

LOOK_UP, WHOLE, SEND = "H41/look-up/v1", "H41/whole/v1", "H41/send/v1"


async def ask(rig: Rig, who: str = "operator", **parameters: Any) -> dict[str, Any]:
    answer = await rig.http.get("/v1/statistics", params=parameters, headers=await rig.headers(who))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def by_group(rig: Rig, who: str = "operator", **parameters: Any) -> dict[tuple[Any, ...], dict[str, Any]]:
    page = await ask(rig, who, **parameters)
    assert page["next"] is None
    return {tuple(item["group"].values()): item for item in page["items"]}


async def counted(rig: Rig, total: int) -> None:
    async def all_ended() -> bool:
        found = (await ask(rig))["items"][0]
        return bool(found["total"] >= total and found["open"] == 0)

    await until(all_ended, f"{total} transactions are counted")


@pytest.fixture
async def day(rig: Rig) -> dict[str, int]:
    """A day's work, done once: what there was, service → transactions."""
    there: int = (await ask(rig))["items"][0]["total"]
    if there == 0:
        for _ in range(3):
            assert (await rig.call(Ngsp_Dossier="H41.02-261121-0001")).status_code == 200
        assert (await rig.call("whole", Ngsp_Dossier="H41.02-261121-0002")).status_code == 200
        assert (await rig.call("whole", {"id": 5})).status_code == 422
        assert (await rig.call(by="stranger")).status_code == 403
        assert (await rig.call("nothing-here")).status_code == 403
        assert (await rig.call("slow", Prefer="wait=1")).status_code in (200, 504)
        assert (await rig.call("send", Idempotency_Key=uuid7())).status_code == 202
        await counted(rig, 9)
    return {LOOK_UP: 4, WHOLE: 2, "H41/slow/v1": 1, SEND: 1}


async def test_operators_see_all_by_whatever_they_choose(rig: Rig, day: dict[str, int]) -> None:
    found = await by_group(rig, by="service")
    assert sorted(item["total"] for item in found.values()) == sorted([1, *day.values()])
    assert found[(None,)]["total"] == 1 and found[(SEND,)]["total"] == 1
    looked = found[(LOOK_UP,)]
    assert looked["outcomes"] == {"succeeded": 3, "refused": 1} and looked["failures"] == {"refused-call": 1}
    assert (looked["succeeded"], looked["open"], looked["dossiers"]) == (3, 0, 1)
    assert 0 < looked["p50_ms"] <= looked["p95_ms"] < 10_000
    last = datetime.fromisoformat(looked["last_success_at"])
    assert abs(last - entry.now()) < timedelta(minutes=5)
    today = f"{entry.now() + timedelta(hours=7):%Y-%m-%d}"
    unit = await by_group(rig, by="consumer,service,day", consumer="G22", service="whole")
    assert list(unit) == [("G22", WHOLE, today)] and unit["G22", WHOLE, today]["dossiers"] == 1
    assert (await by_group(rig, by="code", service=WHOLE)).keys() == {(None,), ("schema-mismatch",)}
    assert (await by_group(rig, by="mode", outcome="succeeded", adapter="h41-tests"))[("submission",)]["total"] == 1


async def test_a_client_sees_its_own_member_s_only(rig: Rig, day: dict[str, int]) -> None:
    whole = (await ask(rig))["items"][0]
    assert whole["total"] == 9
    caller = await by_group(rig, "caller", by="service,consumer")
    assert {key[1] for key in caller} == {"G22"} and sum(item["total"] for item in caller.values()) == 8
    stranger = await by_group(rig, "stranger", by="service")
    assert {key: item["total"] for key, item in stranger.items()} == {(LOOK_UP,): 1}
    provider = await by_group(rig, "provider", by="service,consumer")
    assert {key: item["total"] for key, item in provider.items()} == {
        (LOOK_UP, "G22"): 3, (WHOLE, "G22"): 1, ("H41/slow/v1", "G22"): 1, (SEND, "G22"): 1,
    }, "what was refused before it came to the provider is not the provider's to see"  # fmt: skip
    assert (await ask(rig, "provider", consumer="H14"))["items"][0]["total"] == 0


async def test_pages(rig: Rig, day: dict[str, int]) -> None:
    whole = await ask(rig, by="service,outcome")
    found, cursor = [], ""
    while True:
        page = await ask(rig, by="service,outcome", limit=2, **({"cursor": cursor} if cursor else {}))
        found += page["items"]
        cursor = page["next"]
        if cursor is None:
            break
    assert found == whole["items"] and len(found) > 4
    first = await ask(rig, by="service", limit=1)
    other = await rig.http.get(
        "/v1/statistics", params={"by": "service,day", "cursor": first["next"]}, headers=await rig.headers("operator")
    )
    assert (other.status_code, other.json()["code"]) == (400, "malformed-parameter")


async def test_days_and_hours(rig: Rig, day: dict[str, int]) -> None:
    first, last = await rig.rows.fetchrow("SELECT min(accepted_at), max(accepted_at) FROM transactions")
    one_day = timedelta(days=1)
    today, tomorrow, hour = begin_of(first, "day"), begin_of(last, "day") + one_day, begin_of(first, "hour")

    async def range_of(**parameters: str) -> tuple[datetime, datetime, int]:
        page = await ask(rig, **parameters)
        return (
            datetime.fromisoformat(page["from"]),
            datetime.fromisoformat(page["to"]),
            page["items"][0]["total"] if page["items"] else 0,
        )

    since, until_, total = await range_of()
    assert (until_ - since, total) == (7 * one_day, 9) and begin_of(until_, "day") == until_ >= tomorrow
    local, beyond = (f"{at + timedelta(hours=7):%Y-%m-%d}" for at in (today, tomorrow))
    assert await range_of(**{"from": local, "to": beyond}) == (today, tomorrow, 9)
    assert await range_of(to=local) == (today - 7 * one_day, today, 0)
    before, after = hour - timedelta(minutes=90), hour + timedelta(minutes=61)
    assert await range_of(**{"from": f"{before:%Y-%m-%dT%H:%M:%SZ}", "to": f"{after:%Y-%m-%dT%H:%M:%SZ}"}) == (
        hour - timedelta(hours=2), hour + timedelta(hours=2), 9,
    )  # fmt: skip
    hours = await by_group(rig, by="hour")
    assert sum(item["total"] for item in hours.values()) == 9
    assert all(key[0].endswith(":00:00Z") and item["dossiers"] is None for key, item in hours.items())


@pytest.mark.parametrize(
    "parameters",
    [
        {"by": "weather"},
        {"by": "service,service"},
        {"by": "service,"},
        {"by": "service,day,outcome,code,mode"},
        {"from": "yesterday"},
        {"from": "2026-13-01"},
        {"from": "2020-01-01T01:00:00Z"},
        {"by": "hour", "from": "2020-01-01"},
        {"service": "G01.01/../v1"},
        {"mode": "batch"},
        {"cursor": "x"},
        {"limit": "501"},
    ],
)
async def test_wrong_parameters_are_400(rig: Rig, parameters: dict[str, str]) -> None:
    for language in ("vi", "en"):
        headers = await rig.headers("operator") | {"Accept-Language": language}
        answer = await rig.http.get("/v1/statistics", params=parameters, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed-parameter")


async def test_who_may_not(rig: Rig) -> None:
    assert (await rig.http.get("/v1/statistics")).status_code == 401


async def test_the_command_prints_a_table(rig: Rig, day: dict[str, int]) -> None:
    code, out, err = await run_ngsp("statistics", "--by", "service,outcome", env=environment(rig))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split()[:4] == ["Service", "State", "Total", "Succeeded"]
    assert any(line.split()[:4] == [LOOK_UP, "succeeded", "3", "3"] for line in lines)
    assert any("refused-call 1" in line for line in lines)
    code, out, _ = await run_ngsp("statistics", "--by", "outcome", env=environment(rig, "stranger", language="vi"))
    assert code == 0 and "bị từ chối" in out and "Trạng thái" in out and "thành công" not in out
    code, out, _ = await run_ngsp("statistics", "--by", "", "--json", env=environment(rig))
    assert code == 0 and orjson.loads(out)["total"] == 9
    code, out, _ = await run_ngsp("statistics", "--to", "2020-01-01", env=environment(rig))
    assert (code, out) == (0, "No transactions.\n")
    code, _, err = await run_ngsp("statistics", "--by", "weather", env=environment(rig))
    assert code == 1 and "(400 malformed-parameter)" in err and "Traceback" not in err


async def test_the_interface_describes_it(rig: Rig) -> None:
    document = (await rig.http.get("/openapi.json")).json()
    described = document["paths"]["/v1/statistics"]["get"]
    named = {parameter["name"] for parameter in described["parameters"]}
    assert {"from", "to", "by", "consumer", "service", "outcome", "limit", "cursor"} <= named
    answer = described["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert {"from", "to", "items", "next"} == set(document["components"]["schemas"][answer]["properties"])
