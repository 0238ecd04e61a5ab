from __future__ import annotations

import asyncio

import pytest

from ngsp.errors import Overloaded
from ngsp.identity import secrets
from ngsp.identity.secrets import LONGEST_SECRET_CHARS, MOST_WAITING, hash_secret, new_secret, verify_secret


def test_new_secrets_are_long_recognisable_and_never_the_same() -> None:
    made = {new_secret() for _ in range(1000)}
    assert len(made) == 1000
    for secret in made:
        assert secret.startswith("ngsp_")
        assert len(secret) == 48
        assert secret.isascii()


async def test_only_the_hashed_secret_verifies() -> None:
    secret = new_secret()
    hashed = await hash_secret(secret)
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert secret not in hashed
    assert await hash_secret(secret) != hashed, "salted"
    assert await verify_secret(hashed, secret)
    for wrong in (secret[:-1], secret + " ", secret.upper(), "", new_secret()):
        assert not await verify_secret(hashed, wrong)


async def test_nothing_verifies_against_no_hash_or_a_broken_one() -> None:
    for broken in ("", "x", "$argon2id$v=19$m=19456,t=2,p=1$AAAA", "$2b$12$abc"):
        assert not await verify_secret(broken, "")
        assert not await verify_secret(broken, new_secret())


async def test_overlong_secrets_are_refused_unhashed() -> None:
    hashed = await hash_secret("s" * LONGEST_SECRET_CHARS)
    assert await verify_secret(hashed, "s" * LONGEST_SECRET_CHARS)
    assert not await verify_secret(hashed, "s" * (LONGEST_SECRET_CHARS + 1))
    for bad in ("", "s" * (LONGEST_SECRET_CHARS + 1)):
        with pytest.raises(ValueError, match="256"):
            await hash_secret(bad)


async def test_those_who_would_wait_too_long_are_refused_and_the_loop_stays_free() -> None:
    hashed = await hash_secret("right")
    asked = [asyncio.create_task(verify_secret(hashed, "right")) for _ in range(MOST_WAITING + 10)]
    longest_s, last_s, loop = 0.0, asyncio.get_running_loop().time(), asyncio.get_running_loop()
    while not all(task.done() for task in asked):
        await asyncio.sleep(0)
        longest_s, last_s = max(longest_s, loop.time() - last_s), loop.time()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert answers.count(True) == MOST_WAITING
    assert sum(isinstance(answer, Overloaded) for answer in answers) == 10
    assert longest_s < 0.5, "hashing happens elsewhere"
    assert await verify_secret(hashed, "right"), "and room is made again"


async def test_one_that_goes_away_still_counts_until_its_hash_is_done() -> None:
    hashed = await hash_secret("right")
    task = asyncio.create_task(verify_secret(hashed, "right"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await verify_secret(hashed, "right")
    assert secrets._pool()._waiting == 0
