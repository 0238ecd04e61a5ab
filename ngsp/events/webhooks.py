"""Sends one delivery to a webhook by Standard Webhooks (standardwebhooks.com), and tells what came of it.

    webhook-id         the message's, the same at each attempt: what a receiver tells repeats by
    webhook-timestamp  of this attempt, in Unix seconds
    webhook-signature  `v1,` and base64 of HMAC-SHA-256 over `id.timestamp.body`, once for each secret that is valid

What happened is told so that a repeat can be judged: `sent` is False only where surely nothing reached the receiver.
Nothing of an address, a body or a secret is logged here. To connect is allowed where `ngsp.addresses` allows it.
"""

from __future__ import annotations

import asyncio
import hmac
import io
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

from ngsp import __version__
from ngsp.addresses import Addresses, AddressRefused
from ngsp.registry.model import Subscription, webhook_secret_name
from ngsp.vault import Vault, VaultError

logger = structlog.get_logger(__name__)

CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"
TIMEOUT_S: Final = 15.0
"""For one attempt, from the name's resolution to the end of the answer."""
MOST_ANSWER_BYTES: Final = 64 << 10
"""Of an answer's body, which is read so that the connection can be used again, and forgotten."""
LONGEST_RETRY_AFTER_S: Final = 86_400.0
CONNECTIONS: Final = 512
CONNECTIONS_PER_RECEIVER: Final = 64
"""So that receivers that hang leave some to the others."""
KEPT_OPEN_S: Final = 4.0
"""Idle connections. Many servers close theirs after five seconds, and what is sent at that moment is lost."""
RESOLVING_AT_ONCE: Final = 8
"""In threads of their own: a name server that does not answer holds up nothing but webhooks."""
MOST_SECRETS: Final = 4096
LARGEST_PLAIN_BODY_BYTES: Final = 1 << 20
"""A larger body is sent in pieces: written at once it would hold up the event loop."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt came to.

    `status`: of the answer, None where none came whole. `problem`: empty where the delivery was accepted, else

        url, secret      the subscription's address or secret cannot be used
        dns, connect     its name has no address; no connection could be made
        refused-address  the address, or one of several that the name has, is neither public nor allowed
        tls              the certificate does not hold, or it is no TLS
        timeout          there was no time for more; `sent` says how far it came
        lost             the connection broke before the whole answer was there
        not-http         the answer is none of HTTP
        redirect         3xx, which is not followed
        status           any other status but 2xx
        internal         a defect of ours, in the log

    `sent`: False where surely nothing reached the receiver. `retry_after_s`: what a 429 or 503 asked for, at most a
    day. An answer counts once it is whole, or longer than anybody reads: a duplicate harms nobody, a loss does.
    """

    status: int | None
    problem: str
    sent: bool
    retry_after_s: float | None
    duration_us: int

    @property
    def accepted(self) -> bool:
        return not self.problem

    @property
    def gone(self) -> bool:
        """The receiver wants no more of this subscription (410)."""
        return self.status == 410


class Webhooks:
    """Connections to all receivers. `start` before use.

    `ca_file`: authorities (PEM) that are trusted beside the system's.
    """

    def __init__(
        self, vault: Vault, addresses: Addresses, *, timeout_s: float = TIMEOUT_S, ca_file: Path | None = None
    ) -> None:
        self._vault, self._addresses, self._ca_file = vault, addresses, ca_file
        # To connect is given up before the whole attempt is, so that "nothing was sent" is known to be true.
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=timeout_s / 2, sock_connect=None)
        self._keys: dict[tuple[str, bytes], bytes] = {}
        self._session: aiohttp.ClientSession
        self._resolver: _Resolver

    async def start(self) -> None:
        """OSError or ssl.SSLError where `ca_file` is no file of certificates."""
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._ca_file is not None:
            context.load_verify_locations(self._ca_file)
        self._resolver = _Resolver(self._addresses)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=context,
                limit=CONNECTIONS,
                limit_per_host=CONNECTIONS_PER_RECEIVER,
                keepalive_timeout=KEPT_OPEN_S,
                resolver=self._resolver,
                socket_factory=self._addresses.socket,
            ),
            headers={"Accept-Encoding": "identity", "User-Agent": f"ngsp/{__version__}"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            timeout=self._timeout,
        )

    async def stop(self) -> None:
        """What is being sent ends as *lost*."""
        await self._session.close()

    async def send(
        self, subscription: Subscription, message_id: str, body: bytes, headers: Mapping[str, str]
    ) -> Attempt:
        """One attempt at delivering `body`, a CloudEvent in JSON, to the subscription's `url`.

        `headers`: sent besides. Raises nothing but CancelledError.
        """
        began_ns = time.perf_counter_ns()

        def came_to(
            problem: str, *, sent: bool, status: int | None = None, retry_after_s: float | None = None
        ) -> Attempt:
            return Attempt(status, problem, sent, retry_after_s, (time.perf_counter_ns() - began_ns) // 1000)

        try:
            url = _url(subscription.url)
            signed = self._signed(subscription, message_id, body, headers)
        except ValueError:
            return came_to("url", sent=False)
        except _NoSecret:
            return came_to("secret", sent=False)
        try:
            async with self._session.post(url, data=_data(body), headers=signed, allow_redirects=False) as response:
                await _read(response)
        except (aiohttp.ClientError, OSError) as error:  # a time-out is an OSError
            problem, sent = _problem(error)
            return came_to(problem, sent=sent)
        except Exception as error:  # noqa: BLE001 - a delivery must not end the relay; it is logged
            logger.error("webhooks.broke", subscription=subscription.id, error=type(error).__name__)
            return came_to("internal", sent=True)
        status = response.status
        return came_to(_verdict(status), sent=True, status=status, retry_after_s=_retry_after_s(response))

    def _signed(
        self, subscription: Subscription, message_id: str, body: bytes, headers: Mapping[str, str]
    ) -> CIMultiDict[str]:
        timestamp = str(int(time.time()))
        text = b"%b.%b.%b" % (message_id.encode(), timestamp.encode(), body)
        signatures = [b64encode(hmac.digest(key, text, "sha256")).decode() for key in self._valid(subscription)]
        found = CIMultiDict(headers)
        found["Content-Type"] = CONTENT_TYPE
        found["webhook-id"], found["webhook-timestamp"] = message_id, timestamp
        found["webhook-signature"] = " ".join(f"v1,{signature}" for signature in signatures)
        return found

    def _valid(self, subscription: Subscription) -> list[bytes]:
        """The keys to sign with, newest first. `_NoSecret` where there is none, or one does not open."""
        now = datetime.now(UTC)
        found = [
            self._key(subscription.id, secret.sealed)
            for secret in subscription.secrets
            if secret.valid_to is None or now < secret.valid_to
        ]
        if not found:
            raise _NoSecret
        return found

    def _key(self, subscription: str, sealed: bytes) -> bytes:
        key = self._keys.get((subscription, sealed))
        if key is None:
            try:
                key = self._vault.open_secret(webhook_secret_name(subscription), sealed)
            except VaultError:
                logger.error("webhooks.secret_does_not_open", subscription=subscription)
                raise _NoSecret from None
            if len(self._keys) >= MOST_SECRETS:
                del self._keys[next(iter(self._keys))]
            self._keys[subscription, sealed] = key
        return key


class _NoSecret(Exception):
    """Nothing to sign with."""


class _Resolver(AbstractResolver):
    """Names to addresses, all of which must be allowed: a name that leads inside besides is not connected to at all."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._threads = ThreadPoolExecutor(RESOLVING_AT_ONCE, thread_name_prefix="webhook-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        ask = partial(socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        except UnicodeError:
            raise socket.gaierror(socket.EAI_NONAME, "not a name") from None
        addresses = [(kind, protocol, str(address[0])) for kind, _, protocol, _, address in found]
        if not all(self._addresses.allows(address) for _, _, address in addresses):
            raise AddressRefused
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=protocol, flags=_NUMERIC)
            for kind, protocol, address in addresses
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


def _url(address: str) -> URL:
    """As it is written, percent-encoding and all. ValueError where it is no address to send to."""
    if not (address.isascii() and address.isprintable()) or " " in address:
        raise ValueError("not an address of HTTP")
    url = URL(address, encoded=True)
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("not an address of HTTP")
    return url


def _data(body: bytes) -> bytes | io.BytesIO:
    return body if len(body) <= LARGEST_PLAIN_BODY_BYTES else io.BytesIO(body)


async def _read(response: aiohttp.ClientResponse) -> None:
    """Reads the body and forgets it; where it is too long, the connection is closed instead."""
    if (response.content_length or 0) <= MOST_ANSWER_BYTES:
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > MOST_ANSWER_BYTES:
                break
        else:
            return
    response.close()


def _verdict(status: int) -> str:
    if 200 <= status < 300:
        return ""
    return "redirect" if 300 <= status < 400 else "status"


def _problem(error: Exception) -> tuple[str, bool]:
    """What went wrong, and whether anything may have been sent."""
    match error:
        case aiohttp.ClientConnectorError(os_error=AddressRefused()):
            return "refused-address", False
        case aiohttp.ClientConnectorDNSError():
            return "dns", False
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return "tls", False
        case aiohttp.ClientConnectorError():
            return "connect", False
        case aiohttp.ConnectionTimeoutError():
            return "timeout", False
        case TimeoutError():
            return "timeout", True
        case aiohttp.InvalidURL():
            return "url", False
        case aiohttp.ClientResponseError():
            return "not-http", True
    return "lost", True


def _retry_after_s(response: aiohttp.ClientResponse) -> float | None:
    """What a 429 or 503 asks for, in seconds or as a date (RFC 9110 §10.2.3)."""
    said = response.headers.get("Retry-After", "").strip()
    if response.status not in (429, 503) or not said.isascii():
        return None
    if said.isdigit():
        wait_s = float(said)
    else:
        try:
            at = parsedate_to_datetime(said)
        except (ValueError, OverflowError):  # the latter: a year of thirty digits
            return None
        wait_s = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - time.time()
    return min(max(0.0, wait_s), LONGEST_RETRY_AFTER_S)
