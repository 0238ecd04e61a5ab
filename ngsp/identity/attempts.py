"""Guessing slowed down: counts of failed client authentications, in memory and bounded, with growing penalties.

Three counts, so that a guesser is slowed and nobody can lock a client out from elsewhere:

- *client from an address*, strict: after a few failures that pair waits, twice as long each time;
- *address*, strict: the same for one address that tries many clients;
- *client*, loose: when many addresses fail for one client, an address from which it has never succeeded is answered a
  little later, never refused for that.

A pair that succeeded within a day is measured by its own failures alone: neither a neighbour behind the same address
nor guessers elsewhere can hold it up. While a penalty runs, attempts are refused unseen and do not prolong it.

`Sharing` (`ngsp/identity/sharing.py`) tells the other gateways of what is counted here and brings what they count. So
keys are digests: what was presented as a client's id may be anything, a secret too, and must not get into a table.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from ngsp.errors import TooManyAttempts

Kind = Literal["pair", "address", "client"]

MOST_COUNTED = 10_000
"""Pairs, addresses and clients remembered, each; the longest untouched are forgotten first."""
KNOWN_GOOD_S = 86_400.0
TELL_GOOD_AGAIN_S = 3_600.0
"""How long the others remember a success without being told of another."""
FORGET_S = 900.0
"""Calm after which a count is halved."""
FIRST_PENALTY_S = 1.0
LONGEST_PENALTY_S = 300.0
FREE_PAIR, FREE_ADDRESS, FREE_CLIENT = 5, 20, 50
WORTH_TELLING = 2
"""Failures of one key before the other gateways hear of it: a botnet's single ones would only fill the table."""
LONGEST_DELAY_S = 2.0
MOST_AT_ONCE = 16
"""Attempts from one address under way together, of pairs not known to be good: each may be a guess not yet counted."""


@dataclass(frozen=True, slots=True)
class News:
    """What other gateways have not heard yet of one key: `failures` since they did; `good`: after it had succeeded."""

    kind: Kind
    key: bytes
    failures: int
    good: bool = False


@dataclass(slots=True)
class _Failures:
    """`untold`: how many of `count` the other gateways have not heard of."""

    count: int = 0
    untold: int = 0
    last_s: float = 0.0
    until_s: float = 0.0


class _Counts:
    def __init__(self, free: int) -> None:
        self._free = free
        self._by_key: OrderedDict[bytes, _Failures] = OrderedDict()

    def wait_s(self, key: bytes, now_s: float) -> float:
        found = self._by_key.get(key)
        return 0.0 if found is None else max(0.0, found.until_s - now_s)

    def over(self, key: bytes, now_s: float) -> int:
        """Failures beyond the free ones."""
        found = self._by_key.get(key)
        return 0 if found is None else max(0, _faded(found, now_s) - self._free)

    def has(self, key: bytes) -> bool:
        return key in self._by_key

    def add(self, key: bytes, now_s: float) -> None:
        found = self._touched(key)
        self._set(found, _faded(found, now_s) + 1, now_s)
        found.untold += 1

    def hear(self, key: bytes, count: int, failed_s: float) -> None:
        """All gateways together count `count`, the last at `failed_s`; what was told from here is among it."""
        known = self._by_key.get(key)
        if not count and (known is None or not known.untold):
            self.forget(key)
            return
        found = self._touched(key)
        last_s = max(failed_s, found.last_s)
        self._set(found, _halved(count, last_s - failed_s) + found.untold, last_s)

    def worth_telling(self) -> Iterator[tuple[int, bytes]]:
        """Count and key of those of which the others have not heard all."""
        for key, found in self._by_key.items():
            if found.untold and found.count >= WORTH_TELLING:
                yield found.count, key

    def take_untold(self, key: bytes) -> int:
        found = self._by_key.get(key)
        if found is None:
            return 0
        untold, found.untold = found.untold, 0
        return untold

    def put_back(self, key: bytes, untold: int) -> None:
        if key in self._by_key:
            self._by_key[key].untold += untold

    def forget(self, key: bytes) -> None:
        self._by_key.pop(key, None)

    def _touched(self, key: bytes) -> _Failures:
        found = self._by_key.setdefault(key, _Failures())
        self._by_key.move_to_end(key)
        if len(self._by_key) > MOST_COUNTED:
            self._by_key.popitem(last=False)
        return found

    def _set(self, found: _Failures, count: int, failed_s: float) -> None:
        found.count, found.last_s = count, failed_s
        over = count - self._free
        if over >= 0:
            penalty_s = min(LONGEST_PENALTY_S, FIRST_PENALTY_S * 2.0 ** min(over, 20))
            found.until_s = max(found.until_s, failed_s + penalty_s)


def _faded(found: _Failures, now_s: float) -> int:
    return _halved(found.count, now_s - found.last_s)


def _halved(count: int, calm_s: float) -> int:
    return count >> min(60, max(0, int(calm_s / FORGET_S)))


class Attempts:
    """What one gateway knows of failures. Times in seconds of any one clock that does not go back.

    `digest`: what stands for a key, the same on every gateway.
    """

    def __init__(self, digest: Callable[[bytes], bytes]) -> None:
        self._digest = digest
        self._pairs, self._addresses, self._clients = _Counts(FREE_PAIR), _Counts(FREE_ADDRESS), _Counts(FREE_CLIENT)
        self._counts: dict[Kind, _Counts] = {
            "pair": self._pairs,
            "address": self._addresses,
            "client": self._clients,
        }
        self._good: OrderedDict[bytes, float] = OrderedDict()
        self._told_good: OrderedDict[bytes, float] = OrderedDict()
        self._good_news: dict[bytes, None] = {}
        self._under_way: Counter[str] = Counter()

    def is_known_good(self, client: str, address: str, now_s: float) -> bool:
        """Whether this client has succeeded from this address within a day."""
        return self._is_good(self._key("pair", client, address), now_s)

    @contextmanager
    def attempt(self, client: str, address: str, now_s: float) -> Iterator[float]:
        """Around one attempt: gives the seconds to delay it. `TooManyAttempts` (429) where it is not to be made."""
        pair = self._key("pair", client, address)
        good = self._is_good(pair, now_s)
        wait_s = self._pairs.wait_s(pair, now_s)
        if not good:
            wait_s = max(wait_s, self._addresses.wait_s(self._key("address", address), now_s))
            if self._under_way[address] >= MOST_AT_ONCE:
                wait_s = max(wait_s, FIRST_PENALTY_S)
        if wait_s > 0:
            raise TooManyAttempts(retry_after_s=wait_s, reason="penalty after failed attempts")
        if good:
            yield 0.0
            return
        self._under_way[address] += 1
        try:
            yield min(LONGEST_DELAY_S, 0.1 * self._clients.over(self._key("client", client), now_s))
        finally:
            self._under_way[address] -= 1
            if not self._under_way[address]:
                del self._under_way[address]

    def failed(self, client: str, address: str, now_s: float) -> None:
        pair = self._key("pair", client, address)
        self._pairs.add(pair, now_s)
        if not self._is_good(pair, now_s):
            self._addresses.add(self._key("address", address), now_s)
            self._clients.add(self._key("client", client), now_s)

    def succeeded(self, client: str, address: str, now_s: float) -> None:
        pair = self._key("pair", client, address)
        if self._pairs.has(pair) or now_s - self._told_good.get(pair, float("-inf")) >= TELL_GOOD_AGAIN_S:
            self._good_news[pair] = None
            _remember(self._told_good, pair, now_s)
        self._pairs.forget(pair)
        _remember(self._good, pair, now_s)

    def news(self, most: int) -> list[News]:
        """At most `most` keys of which the other gateways have not heard all, now taken for told; `put_back` what
        could not be.

        Successes first, then the highest counts.
        """
        found = []
        for pair in list(self._good_news)[:most]:
            del self._good_news[pair]
            found.append(News("pair", pair, self._pairs.take_untold(pair), good=True))
        waiting = ((count, kind, key) for kind, counts in self._counts.items() for count, key in counts.worth_telling())
        for _, kind, key in heapq.nlargest(most - len(found), waiting):
            found.append(News(kind, key, self._counts[kind].take_untold(key)))
        return found

    def put_back(self, news: Iterable[News]) -> None:
        for one in news:
            if one.good:
                self._good_news[one.key] = None
            self._counts[one.kind].put_back(one.key, one.failures)

    def hear(self, kind: Kind, key: bytes, count: int, failed_s: float, good_s: float | None) -> None:
        """What all gateways together know of a key: `count` failures, the last at `failed_s`, since it succeeded."""
        if key in self._good_news:
            return  # it has succeeded here since
        if good_s is not None:
            _remember(self._good, key, max(good_s, self._good.get(key, good_s)))
        self._counts[kind].hear(key, count, failed_s)

    def _is_good(self, pair: bytes, now_s: float) -> bool:
        return now_s - self._good.get(pair, float("-inf")) < KNOWN_GOOD_S

    def _key(self, kind: Kind, *parts: str) -> bytes:
        return self._digest("\0".join(("attempt", kind, *parts)).encode("utf-8", "replace"))


def _remember(moments: OrderedDict[bytes, float], key: bytes, at_s: float) -> None:
    moments[key] = at_s
    moments.move_to_end(key)
    if len(moments) > MOST_COUNTED:
        moments.popitem(last=False)
