"""Client secrets: made here, shown once, stored as argon2id hashes (RFC 9106), never compared on the event loop.

A hash takes some 20 MiB and 30 ms of a processor, on purpose. A few threads make them; those who would wait too long
are refused with 503 instead, so that guessing costs the guesser and not the gateway.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ngsp.errors import Overloaded

logger = structlog.get_logger(__name__)

Result = TypeVar("Result")

PREFIX = "ngsp_"
"""By which scanners of repositories and logs can recognise a secret of ours."""
LONGEST_SECRET_CHARS = 256
MOST_WAITING = 32
THREADS = max(1, min(4, (os.cpu_count() or 1) // 2))

# OWASP's second choice of parameters for argon2id: 19 MiB, two passes, one lane.
_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, hash_len=32, salt_len=16)


def new_secret() -> str:
    """A fresh secret of 256 random bits, 48 characters of which the first five say what it is."""
    return PREFIX + secrets.token_urlsafe(32)


async def hash_secret(secret: str) -> str:
    """The argon2id hash in its usual text form. ValueError for an empty or overlong secret; `Overloaded` (503)."""
    if not 0 < len(secret) <= LONGEST_SECRET_CHARS:
        raise ValueError("a secret has 1 to 256 characters")
    return await _pool().run(_hasher.hash, secret)


async def verify_secret(secret_hash: str, secret: str) -> bool:
    """Whether `secret` is the one hashed; False, at the same cost, where `secret_hash` is empty. `Overloaded` (503).

    For a client that does not exist or has no secret, call it with an empty hash: it takes as long as a wrong secret.
    """
    if len(secret) > LONGEST_SECRET_CHARS:
        # Refused for its length alone, whoever is asked for: this tells nothing about any client.
        return False
    return await _pool().run(_verify, secret_hash, secret)


def _verify(secret_hash: str, secret: str) -> bool:
    try:
        # The library compares in constant time.
        matches = _hasher.verify(secret_hash or _dummy_hash(), secret)
    except VerificationError:
        return False
    except InvalidHashError:
        logger.error("client_secret.hash_is_malformed")
        return False
    return matches and bool(secret_hash)


@cache
def _dummy_hash() -> str:
    """The hash of a secret that nobody holds, with the parameters of all others."""
    return _hasher.hash(secrets.token_urlsafe(32))


class _Pool:
    """A few threads and a bounded number of those who wait for them."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="argon2")
        self._executor.submit(_dummy_hash)
        self._waiting = 0
        self._lock = threading.Lock()

    async def run(self, work: Callable[..., Result], *arguments: str) -> Result:
        """`work` in a thread. `Overloaded` where too many wait already."""
        with self._lock:
            if self._waiting >= MOST_WAITING:
                raise Overloaded(retry_after_s=1, reason="too many secrets to verify at once")
            self._waiting += 1
        # Counted until the thread is done, not until the caller is: one that goes away leaves its work behind.
        future = self._executor.submit(work, *arguments)
        future.add_done_callback(self._leave)
        return await asyncio.wrap_future(future)

    def _leave(self, _: object) -> None:
        with self._lock:
            self._waiting -= 1


@cache
def _pool() -> _Pool:
    return _Pool()
