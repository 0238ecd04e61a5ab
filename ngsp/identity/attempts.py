"""Guessing slowed down: counts of failed client authentications, in memory and bounded, with growing penalties.

Three counts, so that a guesser is slowed and nobody can lock a client out from elsewhere:

- *client from an address*, strict: after a few failures that pair waits, twice as long each time;
- *address*, strict: the same for one address that tries many clients;
- *client*, loose: when many addresses fail for one client, an address from which it has never succeeded is answered a
  little later, never refused for that.

A pair that succeeded within a day is measured by its own failures alone: neither a neighbour behind the same address
nor guessers elsewhere can hold it up. While a penalty runs, attempts are refused unseen and do not prolong it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from ngsp.errors import TooManyAttempts

Key = TypeVar("Key")

MOST_COUNTED = 10_000
"""Pairs, addresses and clients remembered, each; the longest untouched are forgotten first."""
KNOWN_GOOD_S = 86_400.0
FORGET_S = 900.0
"""Calm after which a count is halved."""
FIRST_PENALTY_S = 1.0
LONGEST_PENALTY_S = 300.0
FREE_PAIR, FREE_ADDRESS, FREE_CLIENT = 5, 20, 50
LONGEST_DELAY_S = 2.0
MOST_AT_ONCE = 16
"""Attempts from one address under way together, of pairs not known to be good: each may be a guess not yet counted."""


@dataclass(slots=True)
class _Failures:
    count: int = 0
    last_s: float = 0.0
    until_s: float = 0.0


class _Counts(Generic[Key]):
    def __init__(self, free: int) -> None:
        self._free = free
        self._by_key: OrderedDict[Key, _Failures] = OrderedDict()

    def wait_s(self, key: Key, now_s: float) -> float:
        found = self._by_key.get(key)
        return 0.0 if found is None else max(0.0, found.until_s - now_s)

    def over(self, key: Key, now_s: float) -> int:
        """Failures beyond the free ones."""
        found = self._by_key.get(key)
        return 0 if found is None else max(0, _faded(found, now_s) - self._free)

    def add(self, key: Key, now_s: float) -> None:
        found = self._by_key.setdefault(key, _Failures())
        self._by_key.move_to_end(key)
        found.count = _faded(found, now_s) + 1
        found.last_s = now_s
        over = found.count - self._free
        if over >= 0:
            found.until_s = now_s + min(LONGEST_PENALTY_S, FIRST_PENALTY_S * 2.0 ** min(over, 20))
        if len(self._by_key) > MOST_COUNTED:
            self._by_key.popitem(last=False)

    def forget(self, key: Key) -> None:
        self._by_key.pop(key, None)


def _faded(found: _Failures, now_s: float) -> int:
    return found.count >> min(60, max(0, int((now_s - found.last_s) / FORGET_S)))


class Attempts:
    """What one gateway remembers of failures. Times in seconds of any one clock that does not go back."""

    def __init__(self) -> None:
        self._pairs: _Counts[tuple[str, str]] = _Counts(FREE_PAIR)
        self._addresses: _Counts[str] = _Counts(FREE_ADDRESS)
        self._clients: _Counts[str] = _Counts(FREE_CLIENT)
        self._good: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._under_way: Counter[str] = Counter()

    def is_known_good(self, client: str, address: str, now_s: float) -> bool:
        """Whether this client has succeeded from this address within a day."""
        return now_s - self._good.get((client, address), float("-inf")) < KNOWN_GOOD_S

    @contextmanager
    def attempt(self, client: str, address: str, now_s: float) -> Iterator[float]:
        """Around one attempt: gives the seconds to delay it. `TooManyAttempts` (429) where it is not to be made."""
        good = self.is_known_good(client, address, now_s)
        wait_s = self._pairs.wait_s((client, address), now_s)
        if not good:
            wait_s = max(wait_s, self._addresses.wait_s(address, now_s))
            if self._under_way[address] >= MOST_AT_ONCE:
                wait_s = max(wait_s, FIRST_PENALTY_S)
        if wait_s > 0:
            raise TooManyAttempts(retry_after_s=wait_s, reason="penalty after failed attempts")
        if good:
            yield 0.0
            return
        self._under_way[address] += 1
        try:
            yield min(LONGEST_DELAY_S, 0.1 * self._clients.over(client, now_s))
        finally:
            self._under_way[address] -= 1
            if not self._under_way[address]:
                del self._under_way[address]

    def failed(self, client: str, address: str, now_s: float) -> None:
        good = self.is_known_good(client, address, now_s)
        self._pairs.add((client, address), now_s)
        if not good:
            self._addresses.add(address, now_s)
            self._clients.add(client, now_s)

    def succeeded(self, client: str, address: str, now_s: float) -> None:
        self._pairs.forget((client, address))
        self._good[client, address] = now_s
        self._good.move_to_end((client, address))
        if len(self._good) > MOST_COUNTED:
            self._good.popitem(last=False)
