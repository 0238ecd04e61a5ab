"""Quotas of agreements (hạn mức), calls per minute and per day, that hold across gateways.

No request reads the database while there is room: each gateway leases blocks of calls from the table `quotas` and
spends them from memory. One statement grants a block, so that what all gateways were granted in a window never exceeds
the limit. A block lasts about a second at the rate of its agreement, is at most 5 % of the limit shared by the gateways
alive, and shrinks as the window empties: what other gateways hold unspent when one refuses is within the larger of 5 %
and one call.

Minutes are those of UTC; days begin at midnight in Viet Nam. What a gateway held when it was killed is lost to its
window; what it returns at a stop is not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

import asyncpg
import structlog

from ngsp.errors import LogUnavailable, QuotaExhausted
from ngsp.registry.model import Agreement
from ngsp.text import Text
from ngsp.transactions.gateways import DATABASE_TROUBLE

WindowName = Literal["minute", "day"]

MOST_UNSPENT: Final = 20
"""The limit divided by this is what all gateways together may hold unspent: 5 %."""
LENGTH_S: Final[dict[WindowName, int]] = {"minute": 60, "day": 86_400}
OFFSET_S: Final[dict[WindowName, int]] = {"minute": 0, "day": 7 * 3_600}
"""Asia/Ho_Chi_Minh is UTC+7 and has had no other offset since 1975."""
KEEP_S: Final[dict[WindowName, int]] = {"minute": 3_600, "day": 3 * 86_400}
"""After this long no gateway's clock can still be in a window: its row goes."""
EARLY_S: Final = 5.0
"""A call that comes this little before a window (it waited for a lease, or the clock was set back) is charged to it."""
LEASE_EVERY_S: Final = 1.0
FULL_FOR_S: Final = 0.5
"""How long an empty window is refused from memory before the table is asked again for what others gave back."""
BROKEN_FOR_S: Final = 0.25
LEASE_TIMEOUT_S: Final = 2.0
PURGE_EVERY_S: Final = 600.0

log = structlog.get_logger(__name__)

# `held` has the row as it is once locked, whatever the statement's snapshot says; a row that another gateway makes at
# this very moment is seen by neither part, and the statement is sent again.
_LEASE = """
WITH made AS (
    INSERT INTO quotas (agreement, "window", starts_at, leased)
    VALUES ($1, $2, $3, least($4::int, greatest($5::int, least($6::int, $4::int / $7::int))))
    ON CONFLICT DO NOTHING RETURNING leased AS granted
), held AS (
    SELECT leased, least($4::int - leased, greatest($5::int, least($6::int, ($4::int - leased) / $7::int))) AS granted
    FROM quotas WHERE agreement = $1 AND "window" = $2 AND starts_at = $3 FOR UPDATE
), grown AS (
    UPDATE quotas q SET leased = held.leased + held.granted FROM held
    WHERE q.agreement = $1 AND q."window" = $2 AND q.starts_at = $3 AND held.granted > 0
)
SELECT granted FROM made UNION ALL SELECT greatest(granted, 0) FROM held"""
_GIVE_BACK = """
UPDATE quotas q SET leased = greatest(q.leased - r.units, 0)
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::int[]) AS r (agreement, "window", starts_at, units)
WHERE q.agreement = r.agreement AND q."window" = r."window" AND q.starts_at = r.starts_at"""
_PURGE = """DELETE FROM quotas WHERE "window" = $1 AND starts_at < $2"""


@dataclass(eq=False, slots=True)
class _Window:
    """One window of one agreement on this gateway. `left`: leased and unspent. Times are Unix seconds."""

    agreement: str
    name: WindowName
    limit: int
    starts_s: float
    left: int = 0
    ask: int = 1
    asked_s: float = 0.0
    full_until_s: float = 0.0
    idle_left: int = 0
    early_s: float = field(init=False)
    ends_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.early_s = self.starts_s - EARLY_S
        self.ends_s = self.starts_s + LENGTH_S[self.name]

    def covers(self, now_s: float) -> bool:
        return self.early_s <= now_s < self.ends_s

    def full(self, now_s: float) -> bool:
        return self.left < 1 and now_s < self.full_until_s

    def next_ask(self, most: int, now_s: float) -> int:
        """Twice as much where the last block was gone within a second, half where it lasted longer; at most `most`."""
        self.ask = self.ask * 2 if now_s - self.asked_s < LEASE_EVERY_S else self.ask // 2
        self.ask = max(1, min(self.ask, most))
        self.asked_s = now_s
        return self.ask

    def take_all(self) -> int:
        units, self.left = self.left, 0
        return units


@dataclass(eq=False, slots=True)
class _Account:
    """What this gateway holds for one agreement. `waiting`: callers that wait for `lease`."""

    version: int
    minute: _Window | None = None
    day: _Window | None = None
    waiting: int = 0
    lease: asyncio.Task[str] | None = None

    def windows(self) -> Iterator[_Window]:
        if self.minute is not None:
            yield self.minute
        if self.day is not None:
            yield self.day


class Quotas:
    """The quotas of one gateway. `gateways()`: how many are alive, this one included."""

    def __init__(self, pool: asyncpg.Pool, gateways: Callable[[], int]) -> None:
        self._pool, self._gateways = pool, gateways
        self._accounts: dict[str, _Account] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken_until = 0.0
        self._trouble = ""
        self._purged_s = float("-inf")

    async def stop(self) -> None:
        """Give back what is unspent, in bounded time; where the database is away, it is lost to its window."""
        leases = [account.lease for account in self._accounts.values() if account.lease is not None]
        await asyncio.gather(*leases, *self._tasks)  # each ends within its own timeout
        await self._give_back([window for account in self._accounts.values() for window in account.windows()])
        self._accounts.clear()

    def trouble(self) -> str:
        """Why blocks cannot be leased now, for operators; empty while they can."""
        return self._trouble

    def try_charge(self, agreement: Agreement, now_s: float) -> bool:
        """Charge one call from memory; False where only `charge` can tell. Charges every window or none."""
        account = self._accounts.get(agreement.id)
        if account is None:
            return agreement.quota_per_minute is None and agreement.quota_per_day is None
        if account.version != agreement.version:
            return False
        minute, day = account.minute, account.day
        if minute is not None and (minute.left < 1 or not minute.early_s <= now_s < minute.ends_s):
            return False
        if day is not None:
            if day.left < 1 or not day.early_s <= now_s < day.ends_s:
                return False
            day.left -= 1
        if minute is not None:
            minute.left -= 1
        return True

    async def charge(self, agreement: Agreement, now_s: float) -> None:
        """Charge one call, leasing a block where there is no room. `now_s`: Unix time of the call.

        QuotaExhausted (429) with the seconds to the end of the window; LogUnavailable (503) where the database cannot
        say whether there is room: nothing passes uncounted.
        """
        while not self.try_charge(agreement, now_s):
            account = self._account(agreement, now_s)
            if account is None:
                return
            full = [window for window in account.windows() if window.full(now_s)]
            if full:
                raise _exhausted(max(full, key=lambda window: window.ends_s), now_s)
            trouble = await self._join_lease(account, now_s)
            if trouble:
                raise LogUnavailable(_UNCHECKED, retry_after_s=1, reason=f"no block of the quota: {trouble}")

    def refund(self, agreement: Agreement, charged_s: float) -> None:
        """Take a charge back. `charged_s`: the `now_s` it was charged with; in a window that is over nothing is due."""
        account = self._accounts.get(agreement.id)
        if account is None or account.version != agreement.version:
            return  # the call stays counted: an error on the safe side
        for window in account.windows():
            if window.starts_s <= charged_s < window.ends_s:
                window.left += 1
                window.full_until_s = 0.0
                surplus = window.left - self._most_unspent(window.limit)
                if surplus > 0:  # callers at other gateways may want it
                    window.left -= surplus
                    self._spawn(self._return([(window, surplus)]))

    def _account(self, agreement: Agreement, now_s: float) -> _Account | None:
        """The account with the windows that `now_s` and this version ask for; None where there is no quota."""
        account = self._accounts.get(agreement.id)
        if account is None:
            account = self._accounts[agreement.id] = _Account(agreement.version)
        account.version = agreement.version
        account.minute = self._window(account.minute, agreement.id, "minute", agreement.quota_per_minute, now_s)
        account.day = self._window(account.day, agreement.id, "day", agreement.quota_per_day, now_s)
        if account.minute is None and account.day is None:
            del self._accounts[agreement.id]
            return None
        return account

    def _window(
        self, held: _Window | None, agreement: str, name: WindowName, limit: int | None, now_s: float
    ) -> _Window | None:
        if held is not None:
            if held.limit == limit and held.covers(now_s):
                return held
            if held.left and now_s < held.ends_s:
                self._spawn(self._give_back([held]))
        if limit is None:
            return None
        starts_s = (now_s + OFFSET_S[name]) // LENGTH_S[name] * LENGTH_S[name] - OFFSET_S[name]
        return _Window(agreement, name, limit, starts_s, ask=held.ask if held is not None else 1)

    def _most_unspent(self, limit: int) -> int:
        """What this gateway may hold; 0 for small limits, which are leased call by call."""
        return limit // (MOST_UNSPENT * max(1, self._gateways()))

    async def _join_lease(self, account: _Account, now_s: float) -> str:
        """Callers who find an empty block at the same time share one lease. What went wrong, or empty."""
        if account.lease is None:
            if asyncio.get_running_loop().time() < self._broken_until:
                return self._trouble
            account.lease = asyncio.create_task(self._lease(account, now_s), name="quota lease")
        account.waiting += 1
        try:
            return await asyncio.shield(account.lease)
        finally:
            account.waiting -= 1

    async def _lease(self, account: _Account, now_s: float) -> str:
        try:
            async with asyncio.timeout(LEASE_TIMEOUT_S):
                passing = account.waiting
                for window in account.windows():
                    if passing > window.left:
                        window.left += await self._granted(window, passing - window.left, now_s)
                        if not window.left:
                            window.full_until_s = min(now_s + FULL_FOR_S, window.ends_s)
                            break  # nobody passes: the other window need not give
                    passing = min(passing, window.left)
        except DATABASE_TROUBLE as error:
            self._tell(type(error).__name__)
        else:
            self._tell("")
        finally:
            account.lease = None
        return self._trouble

    def _tell(self, trouble: str) -> None:
        self._broken_until = asyncio.get_running_loop().time() + BROKEN_FOR_S if trouble else 0.0
        if trouble and not self._trouble:
            log.error("quotas cannot be leased", error=trouble)
        elif self._trouble and not trouble:
            log.info("quotas can be leased again")
        self._trouble = trouble

    async def _granted(self, window: _Window, need: int, now_s: float) -> int:
        """Units for the `need` callers who wait, a whole block where that is more; 0 where nothing is left.

        A lease whose commit is in doubt is not asked for again: it can only be counted as spent.
        """
        block = window.next_ask(self._most_unspent(window.limit), now_s)
        share = 2 * max(1, self._gateways())
        key = window.agreement, window.name, _moment(window.starts_s)
        while True:
            granted: int | None = await self._pool.fetchval(_LEASE, *key, window.limit, need, block, share)
            if granted is not None:
                return granted

    async def _give_back(self, windows: list[_Window]) -> None:
        await self._return([(window, window.take_all()) for window in windows])

    async def _return(self, surplus: list[tuple[_Window, int]]) -> None:
        """Once and no more: units given back twice would be spent twice."""
        surplus = [(window, units) for window, units in surplus if units]
        if not surplus:
            return
        keys = [(window.agreement, window.name, _moment(window.starts_s)) for window, _ in surplus]
        agreements, names, starts = zip(*keys, strict=True)
        units = [units for _, units in surplus]
        try:
            async with asyncio.timeout(LEASE_TIMEOUT_S):
                await self._pool.execute(_GIVE_BACK, agreements, names, starts, units)
        except DATABASE_TROUBLE as error:
            log.warning("unspent calls could not be given back", error=type(error).__name__, count=sum(units))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name="quota return")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def step(self) -> int:
        """The job beside the calls, to be done every few seconds: `tend`, and now and then `purge`. Always 0.

        Where there was trouble it finds out whether that is over: a gateway that is not ready may get no calls to try.
        """
        if self._trouble:
            async with asyncio.timeout(LEASE_TIMEOUT_S):
                await self._pool.fetchval("SELECT 1 FROM quotas LIMIT 1")
            self._tell("")
        await self.tend(time.time())
        if time.monotonic() - self._purged_s > PURGE_EVERY_S:
            await self.purge(time.time())
            self._purged_s = time.monotonic()
        return 0

    async def tend(self, now_s: float) -> None:
        """Give back the blocks nobody has spent from since the last time; forget what is over."""
        idle: list[_Window] = []
        for id, account in list(self._accounts.items()):
            windows = [window for window in account.windows() if now_s < window.ends_s]
            if not windows and not account.waiting:
                del self._accounts[id]
            idle += [window for window in windows if window.left and window.left == window.idle_left]
            for window in windows:
                window.idle_left = window.left
        await self._give_back(idle)

    async def purge(self, now_s: float) -> None:
        """Delete the rows of windows long over. Raises what the database raises."""
        for name, keep_s in KEEP_S.items():
            await self._pool.execute(_PURGE, name, _moment(now_s - LENGTH_S[name] - keep_s))


def _moment(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)


_UNCHECKED = Text(
    "Chưa kiểm tra được hạn mức của thỏa thuận vì không truy cập được cơ sở dữ liệu.",
    "The quota of the agreement cannot be checked because the database cannot be reached.",
)
_EXHAUSTED: dict[WindowName, Text] = {
    "minute": Text(
        "Đã dùng hết số lời gọi mỗi phút của thỏa thuận ({limit}).",
        "The agreement's calls per minute ({limit}) are used up.",
    ),
    "day": Text(
        "Đã dùng hết số lời gọi mỗi ngày của thỏa thuận ({limit}).",
        "The agreement's calls per day ({limit}) are used up.",
    ),
}


def _exhausted(window: _Window, now_s: float) -> QuotaExhausted:
    detail = _EXHAUSTED[window.name].format(limit=window.limit)
    return QuotaExhausted(
        detail, retry_after_s=window.ends_s - now_s, reason=f"quota per {window.name} of {window.limit} used up"
    )
