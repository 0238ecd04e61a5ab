"""Places for messages in work, shared among topics."""

from __future__ import annotations

import random

from ngsp.bus.room import Room


def taken(room: Room, topic: str) -> int:
    """Takes all that `topic` may have."""
    count = 0
    while room.free(topic):
        room.take(topic)
        count += 1
    return count


def test_one_topic_alone_may_have_all() -> None:
    room = Room(5, ["a"])
    assert taken(room, "a") == 5
    assert room.full() == ["a"]
    room.leave("a")
    assert (room.free("a"), room.full()) == (1, [])


def test_topics_that_take_all_they_can_leave_each_other_its_share() -> None:
    room = Room(12, ["a", "b", "c"])
    assert taken(room, "a") == 8
    assert taken(room, "b") == 2
    assert room.full() == ["a", "b"]
    assert taken(room, "c") == 2


def test_a_limit_holds_and_what_it_does_not_need_is_not_kept_for_it() -> None:
    room = Room(12, ["a", "b"], {"a": 1, "b": 100})
    assert taken(room, "b") == 11
    assert taken(room, "a") == 1


def test_with_less_places_than_topics_nothing_is_kept() -> None:
    room = Room(2, ["a", "b", "c"])
    assert taken(room, "a") == 2
    assert room.full() == ["a", "b", "c"]


def test_whatever_comes_and_goes_bounds_and_shares_hold() -> None:
    topics, limits = ["a", "b", "c", "d"], {"b": 3, "d": 1}
    chance = random.Random(4)
    room, now = Room(17, topics, limits), dict.fromkeys(topics, 0)
    for _ in range(5_000):
        topic = chance.choice(topics)
        if chance.random() < 0.55 and room.free(topic):
            room.take(topic)
            now[topic] += 1
        elif now[topic]:
            room.leave(topic)
            now[topic] -= 1
        assert sum(now.values()) <= 17
        for each in topics:
            assert now[each] <= limits.get(each, 17)
            share = min(2, limits.get(each, 17))
            assert room.free(each) >= share - now[each], "its share is always to be had"
