from __future__ import annotations

import hashlib

import pytest

from ngsp.errors import TooManyAttempts
from ngsp.identity import attempts as module
from ngsp.identity.attempts import (
    FORGET_S,
    FREE_ADDRESS,
    FREE_CLIENT,
    FREE_PAIR,
    KNOWN_GOOD_S,
    LONGEST_DELAY_S,
    LONGEST_PENALTY_S,
    MOST_AT_ONCE,
    Attempts,
)


def sha256(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def attempt(attempts: Attempts, client: str, address: str, now_s: float, *, good: bool = False) -> float | None:
    """One attempt: its delay, or None where it was refused."""
    try:
        with attempts.attempt(client, address, now_s) as delay_s:
            (attempts.succeeded if good else attempts.failed)(client, address, now_s)
    except TooManyAttempts:
        return None
    return delay_s


def waits_s(attempts: Attempts, client: str, address: str, now_s: float) -> float:
    try:
        with attempts.attempt(client, address, now_s):
            return 0.0
    except TooManyAttempts as error:
        assert error.retry_after_s is not None
        return error.retry_after_s


def test_penalties_double_up_to_their_bound() -> None:
    attempts, now_s = Attempts(sha256), 0.0
    for _ in range(FREE_PAIR):
        assert attempt(attempts, "c", "a", now_s) == 0.0
    penalties = []
    for _ in range(14):
        penalty_s = waits_s(attempts, "c", "a", now_s)
        penalties.append(penalty_s)
        now_s += penalty_s
        assert attempt(attempts, "c", "a", now_s) is not None, "after the penalty one more is allowed"
    assert penalties[:6] == [1, 2, 4, 8, 16, 32]
    assert max(penalties) == LONGEST_PENALTY_S


def test_attempts_during_a_penalty_do_not_prolong_it() -> None:
    attempts = Attempts(sha256)
    for _ in range(FREE_PAIR):
        attempt(attempts, "c", "a", 0.0)
    for _ in range(1000):
        assert attempt(attempts, "c", "a", 0.5) is None
    assert attempt(attempts, "c", "a", 1.0) == 0.0


def test_a_guesser_never_locks_the_client_out_elsewhere() -> None:
    attempts = Attempts(sha256)
    for number in range(5000):
        attempt(attempts, "c", f"attacker-{number % 1000}", float(number) / 10)
    delay_s = attempt(attempts, "c", "new-home", 500.0, good=True)
    assert delay_s is not None
    assert 0.0 < delay_s <= LONGEST_DELAY_S, "delayed and not refused"
    assert attempt(attempts, "c", "new-home", 500.0) == 0.0, "known by now"


def test_many_addresses_make_one_clients_answers_slow() -> None:
    attempts = Attempts(sha256)
    for number in range(FREE_CLIENT):
        assert attempt(attempts, "c", f"a-{number}", 0.0) == 0.0
    delays = [attempt(attempts, "c", f"b-{number}", 0.0) for number in range(40)]
    assert delays[0] == 0.0
    assert delays[-1] == LONGEST_DELAY_S


def test_an_address_is_stopped_for_all_clients_but_those_known_good() -> None:
    attempts = Attempts(sha256)
    attempt(attempts, "good", "shared", 0.0, good=True)
    for number in range(FREE_ADDRESS):
        assert attempt(attempts, f"c-{number}", "shared", 1.0) == 0.0
    assert attempt(attempts, "another", "shared", 1.0) is None
    assert attempt(attempts, "good", "shared", 1.0, good=True) == 0.0
    assert attempt(attempts, "good", "shared", KNOWN_GOOD_S + 2) == 0.0


def test_a_known_good_pair_still_has_its_own_count() -> None:
    attempts = Attempts(sha256)
    attempt(attempts, "c", "a", 0.0, good=True)
    for _ in range(FREE_PAIR):
        attempt(attempts, "c", "a", 1.0)
    assert attempt(attempts, "c", "a", 1.0) is None


def test_success_forgets_failures_and_calm_fades_them() -> None:
    attempts = Attempts(sha256)
    for _ in range(FREE_PAIR - 1):
        attempt(attempts, "c", "a", 0.0)
    attempt(attempts, "c", "a", 0.0, good=True)
    for _ in range(FREE_PAIR):
        assert attempt(attempts, "c", "a", 0.0) == 0.0
    faded = Attempts(sha256)
    for _ in range(FREE_PAIR - 1):
        attempt(faded, "d", "a", 0.0)
    assert attempt(faded, "d", "a", FORGET_S + 1) == 0.0
    assert waits_s(faded, "d", "a", FORGET_S + 1) == 0.0


def test_guesses_made_at_the_same_time_are_few() -> None:
    attempts = Attempts(sha256)
    open_ones = [attempts.attempt("c", "a", 0.0) for _ in range(MOST_AT_ONCE)]
    for one in open_ones:
        one.__enter__()
    assert waits_s(attempts, "c", "a", 0.0) >= 1.0
    assert waits_s(attempts, "c", "elsewhere", 0.0) == 0.0
    for one in open_ones:
        one.__exit__(None, None, None)
    assert waits_s(attempts, "c", "a", 0.0) == 0.0
    assert not attempts._under_way


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_COUNTED", 100)
    attempts = Attempts(sha256)
    for number in range(1000):
        attempt(attempts, f"c-{number}", f"a-{number}", float(number), good=number % 2 == 0)
    for counts in (attempts._pairs, attempts._addresses, attempts._clients):
        assert len(counts._by_key) <= 100
    assert len(attempts._good) <= 100
