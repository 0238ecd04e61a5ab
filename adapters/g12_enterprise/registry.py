"""The registry of enterprises as the adapter sees it: one HTTP call, and everything that can be wrong with its answer.

Nothing here changes anything at the registry, so a call that came to nothing may simply be made again.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import httpx
import orjson

from ngsp.adapter import Failed, RecordNotFound, Unavailable
from ngsp.adapter.breaker import Breaker, BreakerOpen

DETAIL_PATH = "/apiCSDLDKDN/1.0/chiTietDoanhNghiep"
MAX_REPLY_BYTES = 1 << 20
LONGEST_CALL_S = 3.0
LONGEST_CONNECT_S = 1.0
ANSWER_MARGIN_S = 0.1
"""Left of the request's time for the answer to travel back."""
FAIR_CALL_S = 1.0
"""A call given less says nothing about the registry when it runs out of time: callers in haste open no breaker."""
MAX_CONNECTIONS = 64
TIMEOUT = "registry-timeout"

FORMS = {
    "01": "cong-ty-tnhh-1-thanh-vien",
    "02": "cong-ty-tnhh",
    "03": "cong-ty-co-phan",
    "04": "doanh-nghiep-tu-nhan",
    "05": "chi-nhanh",
}
STATUSES = {"1": "dang-hoat-dong", "2": "tam-ngung", "3": "dang-giai-the", "4": "da-giai-the"}


class EnterpriseRegistry:
    """One registry behind pooled connections and a breaker. `base_url`: `http://host:port` without a path."""

    def __init__(self, base_url: str, breaker: Breaker, max_connections: int = MAX_CONNECTIONS) -> None:
        self.breaker = breaker
        self._client = httpx.AsyncClient(
            base_url=base_url,
            follow_redirects=False,
            trust_env=False,
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
        )
        self._places = asyncio.Semaphore(max_connections)
        self._exchanges: set[asyncio.Task[tuple[int, Any]]] = set()

    async def close(self) -> None:
        for exchange in self._exchanges:
            exchange.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)
        await self._client.aclose()

    async def find(self, code: str, remaining_s: float) -> dict[str, Any]:
        """The registration of `code` in the form of `schemas/enterprise-lookup/v1/reply.json`.

        RecordNotFound where there is none; Unavailable where the registry cannot be reached in time or is being left
        alone; Failed where it answers with an error of its own or with what is no answer to this question.
        """
        try:
            permit = self.breaker.admit()
        except BreakerOpen:
            raise Unavailable("registry-left-alone") from None
        limit_s = min(LONGEST_CALL_S, remaining_s - ANSWER_MARGIN_S)
        with permit:
            try:
                record = await self._detail(code, limit_s)
            except RecordNotFound:
                permit.succeeded()
                raise
            except (Unavailable, Failed) as error:
                if error.code != TIMEOUT or limit_s >= FAIR_CALL_S:
                    permit.failed()
                raise
            permit.succeeded()
            return record

    async def _detail(self, code: str, limit_s: float) -> dict[str, Any]:
        """One call, given up after `limit_s`.

        The exchange is a task of its own that is not cancelled when we give up: a pool of httpcore loses a place for
        ever where a request is cancelled before it has connected. It ends by its own limits soon after.
        """
        if limit_s <= 0:
            raise Unavailable(TIMEOUT)
        exchange = asyncio.create_task(self._exchange(code, asyncio.get_running_loop().time() + limit_s))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._ended)
        done, _ = await asyncio.wait({exchange}, timeout=limit_s)
        if not done:
            raise Unavailable(TIMEOUT)
        status, document = exchange.result()
        return _record(code, status, document)

    async def _exchange(self, code: str, until_s: float) -> tuple[int, Any]:
        """Status and JSON document of the answer. `until_s`: time of the event loop at which nobody waits any more."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(until_s):
                await self._places.acquire()
        except TimeoutError:
            raise Unavailable(TIMEOUT) from None
        try:
            left_s = until_s - loop.time()
            if left_s <= 0:
                raise Unavailable(TIMEOUT)
            timeout = httpx.Timeout(left_s, connect=min(LONGEST_CONNECT_S, left_s))
            # An answer that comes a byte at a time outlives every timeout of its parts, so the whole has one too; by
            # then the connection stands, and giving it up does no harm to the pool.
            async with (
                asyncio.timeout_at(until_s + LONGEST_CALL_S),
                self._client.stream("GET", DETAIL_PATH, params={"maSo": code}, timeout=timeout) as response,
            ):
                return response.status_code, await _read(response)
        except (TimeoutError, httpx.TimeoutException):
            raise Unavailable(TIMEOUT) from None
        except httpx.TransportError:
            raise Unavailable("registry-down") from None
        finally:
            self._places.release()

    def _ended(self, exchange: asyncio.Task[tuple[int, Any]]) -> None:
        self._exchanges.discard(exchange)
        if not exchange.cancelled():
            exchange.exception()  # told to whoever waited; where nobody did, there is nobody to tell


async def _read(response: httpx.Response) -> Any:
    """The JSON document of an answer; the body is read only where status and type are right, and to 1 MiB at most."""
    if response.status_code in (429, 502, 503, 504):
        raise Unavailable(f"registry-status-{response.status_code}")
    if response.status_code not in (200, 404):
        raise Failed(f"registry-status-{response.status_code}")
    if response.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Failed("registry-not-json")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_REPLY_BYTES:
            raise Failed("registry-too-large")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Failed("registry-not-json") from None


def _record(code: str, status: int, document: Any) -> dict[str, Any]:
    result = document.get("KET_QUA") if isinstance(document, dict) else None
    if status == 404 and result == "KHONG_TIM_THAY":
        raise RecordNotFound("KHONG-CO-DOANH-NGHIEP")
    if status != 200 or result != "OK":
        raise Failed("registry-off-contract")
    try:
        record = _translated(document["DU_LIEU"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Failed("registry-off-contract") from None
    if record["maSoDoanhNghiep"] != code:
        raise Failed("registry-other-record")
    return record


def _translated(found: dict[str, Any]) -> dict[str, Any]:
    """From the registry's form to ours: names, dates dd/mm/yyyy, amounts as text, code lists."""
    address = found["DIA_CHI"]
    return {
        "maSoDoanhNghiep": found["MA_SO"],
        "maSoDonViChuQuan": found["MA_SO_CHA"] or None,
        "ten": found["TEN_DN"],
        "loaiHinh": FORMS[found["LOAI_HINH"]],
        "tinhTrang": STATUSES[found["TINH_TRANG"]],
        "ngayDangKy": datetime.strptime(found["NGAY_DK"], "%d/%m/%Y").date().isoformat(),  # noqa: DTZ007 - a date
        "vonDieuLe": int(found["VON_DIEU_LE"]) if found["VON_DIEU_LE"] else None,
        "diaChi": {
            "chiTiet": address["CHI_TIET"],
            "maXa": address["MA_XA"],
            "xa": address["XA"],
            "maTinh": address["MA_TINH"],
            "tinh": address["TINH"],
        },
        "nguoiDaiDien": [
            {"hoTen": person["HO_TEN"], "chucDanh": person["CHUC_DANH"], "soDinhDanh": person["SO_DINH_DANH"]}
            for person in found["DAI_DIEN"]
        ],
    }
