"""Subscriptions with a webhook, and what sends to them, for tests."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import aiohttp

from ngsp.addresses import Addresses
from ngsp.events.webhooks import Attempt, Webhooks
from ngsp.registry.model import Subscription, WebhookSecret, webhook_secret_name
from ngsp.vault import Vault

KEK = bytes(range(32))
KEY = b"k" * 32
LOOPBACK = "127.0.0.0/8,::1/128"
ID = "0192b0c4-7d1e-7abc-8def-0123456789ab"
BODY = (
    '{"specversion":"1.0","id":"1","source":"/H41/hộ-tịch","type":"vn.gov.h41.birth","time":"2026-11-28T10:00:00Z",'
    '"subject":"Điều 7","partitionkey":"k-7","sequence":7,"data":{"name":"Nguyễn Thị Thử"}}'
).encode()


def written(key: bytes) -> str:
    """A secret as a subscriber is told it."""
    return "whsec_" + b64encode(key).decode()


def sealed(key: bytes, valid_to: datetime | None = None, *, of: str = "sub-1") -> WebhookSecret:
    return WebhookSecret(Vault(KEK).seal_secret(webhook_secret_name(of), key), valid_to)


def subscription(url: str, secrets: Sequence[WebhookSecret] | None = None, *, id: str = "sub-1") -> Subscription:
    return Subscription(
        id=id,
        member="H41",
        client="h41-portal",
        service="G22/procedures/v1",
        agreement="0192b0c4-7d1e-7abc-8def-0123456789aa",
        purpose="testing",
        types=frozenset(),
        receiver="",
        url=url,
        secrets=tuple([sealed(KEY)] if secrets is None else secrets),
        active=True,
    )


@dataclass
class Sender:
    """`hooks`, and short ways to send with it."""

    hooks: Webhooks
    headers: dict[str, str] = field(default_factory=dict)

    async def to(self, url: str, body: bytes = BODY, id: str = ID) -> Attempt:
        return await self.hooks.send(subscription(url), id, body, self.headers)

    def forget_names(self) -> None:
        """What names resolved to, which is remembered for some seconds."""
        connector = self.hooks._session.connector
        assert isinstance(connector, aiohttp.TCPConnector)
        connector.clear_dns_cache()


@asynccontextmanager
async def sender(
    allowed: str = LOOPBACK, timeout_s: float = 5.0, ca_file: Path | None = None, vault: Vault | None = None
) -> AsyncIterator[Sender]:
    hooks = Webhooks(vault or Vault(KEK), Addresses(allowed), timeout_s=timeout_s, ca_file=ca_file)
    await hooks.start()
    try:
        yield Sender(hooks)
    finally:
        await hooks.stop()


def told(attempt: Attempt) -> tuple[int | None, str, bool]:
    return attempt.status, attempt.problem, attempt.sent
