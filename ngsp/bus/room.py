"""How many messages may be in work at once: in all, of each topic, and so that none takes the places of the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Room:
    """Places for messages in work. `most`: in all. `limits`: topic → at most so many of it.

    Half of all places, or one for each topic where that is more and can be, is shared out evenly and kept for each,
    whatever the others take: so one whose handler hangs fills what is left, and the others go on.
    """

    def __init__(self, most: int, topics: Iterable[str], limits: Mapping[str, int] | None = None) -> None:
        self._taken = dict.fromkeys(topics, 0)
        self._limit = {topic: min(most, (limits or {}).get(topic, most)) for topic in self._taken}
        number = len(self._taken)
        share = max(most // (2 * number), int(most > number)) if number > 1 else 0
        self._share = {topic: min(share, self._limit[topic]) for topic in self._taken}
        self._left = most
        self._owed = sum(self._share.values())
        """Of `_left`, the places that are kept for topics which have not taken their share."""

    def free(self, topic: str) -> int:
        """How many more messages of `topic` may begin now."""
        taken = self._taken[topic]
        others = self._owed - max(0, self._share[topic] - taken)
        return max(0, min(self._limit[topic] - taken, self._left - others))

    def take(self, topic: str) -> None:
        """One more of `topic` is in work."""
        if self._taken[topic] < self._share[topic]:
            self._owed -= 1
        self._taken[topic] += 1
        self._left -= 1

    def leave(self, topic: str) -> None:
        """One of `topic` has ended."""
        self._taken[topic] -= 1
        self._left += 1
        if self._taken[topic] < self._share[topic]:
            self._owed += 1

    def full(self) -> list[str]:
        """The topics of which no more may begin now."""
        return sorted(topic for topic in self._taken if not self.free(topic))
