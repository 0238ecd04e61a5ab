"""The main job of the demo, step by step over HTTP, each step verified; at the end against the provider's own table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

import asyncpg
import orjson

from ngsp.client import AsyncClient, CallError, ClientSecret, Options, Submission, Transaction, errors
from ngsp.demo.catalogue import ask_every_service
from ngsp.demo.events import Told, publish_and_deliver
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


def must(condition: bool, what: str) -> None:
    if not condition:
        raise NotVerified(what)


@dataclass(slots=True)
class MainJob:
    """Runs the steps in order, each through the client that agencies use. `verified` counts those that held."""

    base_url: str
    secret_of: Secret
    provider_url: str
    told: Told
    say: Say
    systems: dict[str, AsyncClient] = field(default_factory=dict)
    transactions: list[str] = field(default_factory=list)
    run_mark: str = field(default_factory=lambda: f"{time.time_ns() // 1_000_000:013d}"[-10:])
    birth: Submission | None = None
    verified: int = 0

    async def run(self) -> int:
        """Every step; returns how many were verified. NotVerified or CallError at the first that was not."""
        steps: list[tuple[str, Callable[[], Awaitable[str]]]] = [
            (tr("Lấy mã truy cập", "Get an access token"), self._token),
            (tr("Tra cứu đơn vị hành chính", "Look up an administrative unit"), self._unit),
            (tr("Tra cứu doanh nghiệp", "Look up an enterprise"), self._enterprise),
            (tr("Tra cứu dân cư, chỉ nhận trường được cấp", "Look up a citizen, granted fields only"), self._citizen),
            (tr("Gọi khi không có thỏa thuận", "Call without an agreement"), self._refused),
            (tr("Gửi đăng ký khai sinh", "Submit a birth registration"), self._submit),
            (tr("Gửi lại đúng yêu cầu đó", "Send the very same again"), self._repeat),
            (tr("Đối chiếu sổ của nơi cung cấp", "Check the provider's own register"), self._register),
            (tr("Hỏi mọi dịch vụ trong danh mục", "Ask every service of the catalogue"), self._catalogue),
            (tr("Báo một thay đổi cho hai bên đăng ký", "Tell two subscribers of a change"), self._event),
            (tr("Xem nhật ký giao dịch", "Read the transaction log"), self._log),
        ]
        async with AsyncExitStack() as stack:
            for who in ("g22-portal", "h14-onestop", "g12-business-portal", "operator"):
                credentials = ClientSecret(who, self.secret_of(who))
                system = AsyncClient(self.base_url, credentials, language=language_of_terminal())
                self.systems[who] = await stack.enter_async_context(system)
            for number, (title, step) in enumerate(steps, 1):
                result = await step()
                self.verified += 1
                self.say(f"  {number}/{len(steps)} ✓ {title}\n        {result}")
        return self.verified

    @property
    def portal(self) -> AsyncClient:
        return self.systems["g22-portal"]

    async def _call(
        self, service: str, payload: object, who: str = "g22-portal", **options: Unpack[Options]
    ) -> dict[str, Any]:
        """The reply; its transaction, or that of the error it raises, is looked for in the log at the end."""
        try:
            reply = await self.systems[who].call(service, payload, **options)
        except CallError as error:
            self.transactions.append(error.transaction)
            raise
        self.transactions.append(reply.transaction)
        found: dict[str, Any] = reply.json()
        return found

    async def _token(self) -> str:
        catalogue = [service["path"] async for service in self.portal.services()]
        must(UNITS in catalogue, "the catalogue does not hold the administrative units")
        return tr("hệ thống g22-portal của G22, ES256, 10 phút", "client g22-portal of G22, ES256, ten minutes")

    async def _unit(self) -> str:
        found = await self._call(UNITS, example(UNITS), purpose="catalogue-lookup")
        unit = found["units"][0]
        must(unit["code"] == example(UNITS)["code"], "another unit came back")
        return f"{unit['code']} → {unit['name']}, {unit['province']['name']}"

    async def _enterprise(self) -> str:
        found = await self._call(ENTERPRISE, example(ENTERPRISE), purpose="enterprise-verification")
        must(found["maSoDoanhNghiep"] == example(ENTERPRISE)["maSoDoanhNghiep"], "another enterprise came back")
        return f"{found['maSoDoanhNghiep']} → {found['ten']}"

    async def _citizen(self) -> str:
        asking: Options = {"purpose": "birth-registration", "officer": "canbo-0017"}
        granted = set(await self._call(POPULATION, example(POPULATION), **asking))
        full = set(orjson.loads((SCHEMAS / "population-lookup" / "v1" / "reply.json").read_bytes())["properties"])
        must(bool(granted) and granted < full, "the reply was not cut to the granted fields")
        nobody = ""
        try:
            await self._call(POPULATION, dict(example(POPULATION), SoDinhDanh="999199000000"), **asking)
        except errors.RecordNotFound as error:
            nobody = f"{error.status} {error.code}"
        must(nobody == "404 record-not-found", "no such citizen is not 404")
        return tr(
            f"{len(granted)}/{len(full)} trường: {', '.join(sorted(granted))}; người không có → {nobody}",
            f"{len(granted)} of {len(full)} fields: {', '.join(sorted(granted))}; nobody → {nobody}",
        )

    async def _refused(self) -> str:
        try:
            await self._call(POPULATION, example(POPULATION), who="h14-onestop", purpose="birth-registration")
        except errors.AccessDenied as error:
            return f"{error.status} {error.code} – {error.title}"
        raise NotVerified("a call without an agreement was not refused")

    def _application(self) -> dict[str, Any]:
        return dict(example(BIRTH), maGCS=f"40-17920-{self.run_mark[:4]}-{self.run_mark[4:]}")

    async def _send_birth(self) -> Submission:
        day = datetime.now(UTC).strftime("%y%m%d")
        return await self.portal.submit(
            BIRTH,
            self._application(),
            purpose="birth-registration",
            key=f"demo-{self.run_mark}",
            officer="canbo-0017",
            dossier=f"000.00.00.H41-{day}-{self.run_mark[-4:]}",
            procedure="1.001193",
        )

    async def _submit(self) -> str:
        self.birth = sent = await self._send_birth()
        self.transactions.append(sent.transaction)
        must(sent.reply is None, "the registration was there before")
        entry = (await self.portal.wait(sent, deadline_s=OUTCOME_TIMEOUT_S)).json()
        state = (await self.portal.transaction(sent.transaction)).state
        must(state == "succeeded", f"the registration ended as {state}")
        return tr(
            f"202 {sent.transaction} → succeeded, số {entry['soDangKy']} quyển {entry['quyenSo']}",
            f"202 {sent.transaction} → succeeded, number {entry['soDangKy']} in book {entry['quyenSo']}",
        )

    async def _repeat(self) -> str:
        assert self.birth is not None
        first = await self.portal.reply(self.birth.transaction)
        again = await self._send_birth()
        must(again.transaction == self.birth.transaction, "the repeat became another transaction")
        must(again.reply is not None and again.reply.body == first.body, "the repeat's reply differs")
        return tr("cùng giao dịch, cùng kết quả từng byte", "same transaction, same outcome byte for byte")

    async def _register(self) -> str:
        connection = await asyncpg.connect(self.provider_url)
        try:
            rows = await connection.fetchval(
                "SELECT count(*) FROM so_dang_ky_khai_sinh WHERE ma_gcs = $1", self._application()["maGCS"]
            )
        finally:
            await connection.close()
        must(rows == 1, f"the register holds {rows} rows for one birth")
        return tr("đúng 1 dòng trong so_dang_ky_khai_sinh", "exactly one row in so_dang_ky_khai_sinh")

    async def _catalogue(self) -> str:
        return "\n        ".join(await ask_every_service(self.portal, self.run_mark))

    async def _event(self) -> str:
        portal, operator = self.systems["g12-business-portal"], self.systems["operator"]
        happened = await publish_and_deliver(portal, operator, self.told, self.run_mark, must)
        self.transactions += happened.transactions
        return "\n        ".join(happened.lines)

    async def _log(self) -> str:
        found: dict[str, Transaction] = {}
        until = time.monotonic() + 10
        while time.monotonic() < until and not all(id in found and found[id].ended for id in self.transactions):
            page = await self.systems["operator"].page(limit=100)
            found = {item.id: item for item in page.items}
            await asyncio.sleep(0.1)
        must(found.keys() >= set(self.transactions), "a transaction is missing from the log")
        lines = []
        for id in dict.fromkeys(self.transactions):
            item = found[id]
            must(item.state in ("succeeded", "refused"), f"{id} is {item.state}")
            ends = f"{item.consumer or '–':<4} → {item.service or '–':<32}"
            lines.append(f"{id}  {ends} {item.state:<10} {item.code or ''}")
        return "\n        ".join(lines)
