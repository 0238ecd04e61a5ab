"""The main job of the demo, step by step over HTTP, each step verified; at the end against the provider's own table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import orjson

from ngsp.text import language_of_terminal, tr

SCHEMAS = Path(__file__).parents[2] / "schemas"
UNITS = "G22/administrative-units/v1"
ENTERPRISE = "G12/enterprise-lookup/v1"
POPULATION = "G01.01/population-lookup/v1"
BIRTH = "H41/birth-registration/v1"
OUTCOME_TIMEOUT_S = 60.0

Secret = Callable[[str], str]
Say = Callable[[str], None]


class NotVerified(Exception):
    """A step's result is not what it must be."""


def example(service: str, number: int = 0) -> dict[str, Any]:
    """The request of the service's example `number`."""
    files = sorted((SCHEMAS / service.split("/")[1] / "v1" / "examples").glob("*.json"))
    request: dict[str, Any] = orjson.loads(files[number].read_bytes())["request"]
    return request


def ended(item: dict[str, Any] | None) -> bool:
    return item is not None and item["state"] not in ("accepted", "delivered")


def must(condition: bool, what: str) -> None:
    if not condition:
        raise NotVerified(what)


@dataclass(slots=True)
class MainJob:
    """Runs the steps in order. `verified` counts those that held."""

    base_url: str
    secret_of: Secret
    provider_url: str
    say: Say
    tokens: dict[str, str] = field(default_factory=dict)
    transactions: list[str] = field(default_factory=list)
    run_mark: str = field(default_factory=lambda: f"{time.time_ns() // 1_000_000:013d}"[-10:])
    birth_id: str = ""
    verified: int = 0

    async def run(self) -> int:
        """Every step; returns how many were verified. NotVerified at the first that was not."""
        language = {"Accept-Language": language_of_terminal()}
        async with httpx.AsyncClient(base_url=self.base_url, timeout=30.0, headers=language) as client:
            steps: list[tuple[str, Callable[[httpx.AsyncClient], Awaitable[str]]]] = [
                (tr("Lấy mã truy cập", "Get an access token"), self._token),
                (tr("Tra cứu đơn vị hành chính", "Look up an administrative unit"), self._unit),
                (tr("Tra cứu doanh nghiệp", "Look up an enterprise"), self._enterprise),
                (
                    tr("Tra cứu dân cư, chỉ nhận trường được cấp", "Look up a citizen, granted fields only"),
                    self._citizen,
                ),
                (tr("Gọi khi không có thỏa thuận", "Call without an agreement"), self._refused),
                (tr("Gửi đăng ký khai sinh", "Submit a birth registration"), self._submit),
                (tr("Gửi lại đúng yêu cầu đó", "Send the very same again"), self._repeat),
                (tr("Đối chiếu sổ của nơi cung cấp", "Check the provider's own register"), self._register),
                (tr("Xem nhật ký giao dịch", "Read the transaction log"), self._log),
            ]
            for number, (title, step) in enumerate(steps, 1):
                result = await step(client)
                self.verified += 1
                self.say(f"  {number}/{len(steps)} ✓ {title}\n        {result}")
        return self.verified

    async def _headers(self, client: httpx.AsyncClient, who: str, purpose: str = "") -> dict[str, str]:
        if who not in self.tokens:
            answer = await client.post(
                "/oauth2/token", data={"grant_type": "client_credentials"}, auth=(who, self.secret_of(who))
            )
            must(answer.status_code == 200, f"token for {who}: {answer.status_code}")
            self.tokens[who] = answer.json()["access_token"]
        headers = {"Authorization": f"Bearer {self.tokens[who]}"}
        return headers | ({"Ngsp-Purpose": purpose} if purpose else {})

    async def _call(
        self, client: httpx.AsyncClient, service: str, purpose: str, body: object, who: str = "g22-portal", **more: str
    ) -> httpx.Response:
        headers = await self._headers(client, who, purpose) | {k.replace("_", "-"): v for k, v in more.items()}
        answer = await client.post(f"/v1/services/{service}", json=body, headers=headers)
        if transaction := answer.headers.get("Ngsp-Transaction"):
            self.transactions.append(transaction)
        return answer

    async def _token(self, client: httpx.AsyncClient) -> str:
        await self._headers(client, "g22-portal")
        return tr("hệ thống g22-portal của G22, ES256, 10 phút", "client g22-portal of G22, ES256, ten minutes")

    async def _unit(self, client: httpx.AsyncClient) -> str:
        answer = await self._call(client, UNITS, "catalogue-lookup", example(UNITS))
        must(answer.status_code == 200, f"unit look-up: {answer.status_code} {answer.text}")
        unit = answer.json()["units"][0]
        must(unit["code"] == example(UNITS)["code"], "another unit came back")
        return f"{unit['code']} → {unit['name']}, {unit['province']['name']}"

    async def _enterprise(self, client: httpx.AsyncClient) -> str:
        answer = await self._call(client, ENTERPRISE, "enterprise-verification", example(ENTERPRISE))
        must(answer.status_code == 200, f"enterprise look-up: {answer.status_code} {answer.text}")
        found = answer.json()
        must(found["maSoDoanhNghiep"] == example(ENTERPRISE)["maSoDoanhNghiep"], "another enterprise came back")
        return f"{found['maSoDoanhNghiep']} → {found['ten']}"

    async def _citizen(self, client: httpx.AsyncClient) -> str:
        answer = await self._call(
            client, POPULATION, "birth-registration", example(POPULATION), Ngsp_Officer="canbo-0017"
        )
        must(answer.status_code == 200, f"population look-up: {answer.status_code} {answer.text}")
        granted = set(answer.json())
        full = set(orjson.loads((SCHEMAS / "population-lookup" / "v1" / "reply.json").read_bytes())["properties"])
        must(bool(granted) and granted < full, "the reply was not cut to the granted fields")
        missing = dict(example(POPULATION), SoDinhDanh="999199000000")
        nobody = await self._call(client, POPULATION, "birth-registration", missing, Ngsp_Officer="canbo-0017")
        must(nobody.status_code == 404 and nobody.json()["code"] == "record-not-found", "no such citizen is not 404")
        return tr(
            f"{len(granted)}/{len(full)} trường: {', '.join(sorted(granted))}; người không có → 404 record-not-found",
            f"{len(granted)} of {len(full)} fields: {', '.join(sorted(granted))}; nobody → 404 record-not-found",
        )

    async def _refused(self, client: httpx.AsyncClient) -> str:
        answer = await self._call(client, POPULATION, "birth-registration", example(POPULATION), who="h14-onestop")
        must(
            answer.status_code == 403 and answer.json()["code"] == "access-denied", f"not refused: {answer.status_code}"
        )
        return f"403 {answer.json()['code']} – {answer.json()['title']}"

    def _application(self) -> dict[str, Any]:
        return dict(example(BIRTH), maGCS=f"40-17920-{self.run_mark[:4]}-{self.run_mark[4:]}")

    async def _send_birth(self, client: httpx.AsyncClient) -> httpx.Response:
        day = datetime.now(UTC).strftime("%y%m%d")
        return await self._call(
            client,
            BIRTH,
            "birth-registration",
            self._application(),
            Idempotency_Key=f"demo-{self.run_mark}",
            Ngsp_Officer="canbo-0017",
            Ngsp_Dossier=f"000.00.00.H41-{day}-{self.run_mark[-4:]}",
            Ngsp_Procedure="1.001193",
        )

    async def _submit(self, client: httpx.AsyncClient) -> str:
        answer = await self._send_birth(client)
        must(answer.status_code == 202, f"submission: {answer.status_code} {answer.text}")
        self.birth_id = answer.headers["Ngsp-Transaction"]
        must(answer.headers["Location"] == f"/v1/transactions/{self.birth_id}", "no Location")
        headers = await self._headers(client, "g22-portal") | {"Prefer": "wait=30"}
        state = ""
        until = time.monotonic() + OUTCOME_TIMEOUT_S
        while time.monotonic() < until and state in ("", "accepted", "delivered"):
            followed = await client.get(answer.headers["Location"], headers=headers, timeout=60)
            must(followed.status_code == 200, f"transaction: {followed.status_code} {followed.text}")
            state = followed.json()["state"]
        must(state == "succeeded", f"the registration ended as {state}")
        reply = await client.get(f"{answer.headers['Location']}/reply", headers=headers)
        must(reply.status_code == 200, f"reply: {reply.status_code} {reply.text}")
        entry = reply.json()
        return tr(
            f"202 {self.birth_id} → succeeded, số {entry['soDangKy']} quyển {entry['quyenSo']}",
            f"202 {self.birth_id} → succeeded, number {entry['soDangKy']} in book {entry['quyenSo']}",
        )

    async def _repeat(self, client: httpx.AsyncClient) -> str:
        first = await client.get(
            f"/v1/transactions/{self.birth_id}/reply", headers=await self._headers(client, "g22-portal")
        )
        again = await self._send_birth(client)
        must(again.status_code == 200, f"the repeat: {again.status_code} {again.text}")
        must(again.headers["Ngsp-Transaction"] == self.birth_id, "the repeat became another transaction")
        must(again.content == first.content, "the repeat's reply differs")
        return tr("cùng giao dịch, cùng kết quả từng byte", "same transaction, same outcome byte for byte")

    async def _register(self, client: httpx.AsyncClient) -> str:
        connection = await asyncpg.connect(self.provider_url)
        try:
            rows = await connection.fetchval(
                "SELECT count(*) FROM so_dang_ky_khai_sinh WHERE ma_gcs = $1", self._application()["maGCS"]
            )
        finally:
            await connection.close()
        must(rows == 1, f"the register holds {rows} rows for one birth")
        return tr("đúng 1 dòng trong so_dang_ky_khai_sinh", "exactly one row in so_dang_ky_khai_sinh")

    async def _log(self, client: httpx.AsyncClient) -> str:
        headers = await self._headers(client, "operator")
        wanted = set(self.transactions)
        found: dict[str, dict[str, Any]] = {}
        until = time.monotonic() + 10
        while time.monotonic() < until and not all(ended(found.get(id)) for id in wanted):
            listed = await client.get("/v1/transactions", params={"limit": 100}, headers=headers)
            must(listed.status_code == 200, f"list: {listed.status_code} {listed.text}")
            found = {item["id"]: item for item in listed.json()["items"]}
            await asyncio.sleep(0.1)
        must(wanted <= found.keys(), "a transaction is missing from the log")
        lines = []
        for id in dict.fromkeys(self.transactions):
            item = found[id]
            must(item["state"] in ("succeeded", "refused"), f"{id} is {item['state']}")
            ends = f"{item['consumer'] or '–':<4} → {item['service'] or '–':<32}"
            lines.append(f"{id}  {ends} {item['state']:<10} {item['code'] or ''}")
        return "\n        ".join(lines)
