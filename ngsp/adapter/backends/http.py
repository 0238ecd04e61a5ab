"""HTTP as back ends speak it: pooled, bounded, never redirected, only to allowed addresses, with its credentials.

What is raised tells the truth about what may have been done (see `base.Operation`): before a request is sent it is
Unavailable, from then on Interrupted, until an answer has come whole.
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

import aiohttp
from pydantic import BeforeValidator
from yarl import URL

from ngsp.adapter.addresses import Addresses, AddressRefused
from ngsp.adapter.backends.authentication import Authentication, Credentials, credentials_of
from ngsp.adapter.backends.base import Attempt, BackendConfig
from ngsp.adapter.definition import Failed, Interrupted, Unavailable
from ngsp.adapter.manifest import ManifestError
from ngsp.adapter.models import Part
from ngsp.adapter.outcomes import Kind
from ngsp.adapter.references import Reference, Surroundings
from ngsp.text import tr

LARGEST_PLAIN_BODY_BYTES = 1 << 20
"""A larger body is sent in pieces: written at once it would hold up the event loop."""


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


class TlsConfig(Part):
    """`ca`: who is trusted instead of the system's authorities. `certificate`, `key`: ours, for mutual TLS (PEM)."""

    ca: Reference | None = None
    certificate: Reference | None = None
    key: Reference | None = None


class HttpConfig(BackendConfig):
    """`url`: scheme, host and port, and a path that all calls have in common."""

    url: Reference
    auth: Annotated[tuple[Authentication, ...], BeforeValidator(_listed)] = ()
    tls: TlsConfig = TlsConfig()


@dataclass(frozen=True, slots=True)
class Response:
    """`headers`: names in lower case, of several with one name the last. `body`: as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def judge_status(status: int) -> tuple[Kind, str]:
    """Outcome and code of an HTTP status."""
    if 200 <= status < 300:
        return "ok", ""
    code = f"backend-status-{status}"
    if status in (401, 429, 503):
        return "retry", code  # the server says that it did nothing
    return ("unknown" if status in (502, 504) else "failed"), code


def works_by_status(status: int) -> bool:
    """Whether a server that answers with this status is well: neither broken, nor overloaded, nor keeping us out."""
    return status < 500 and status not in (401, 429)


class HttpClient:
    """Connections to one server. `open` before use; it connects when it is asked."""

    def __init__(self, config: HttpConfig, name: str) -> None:
        self._config, self._name = config, name
        self._places: asyncio.Semaphore
        self._session: aiohttp.ClientSession
        self._credentials: list[Credentials] = []
        self.base = ""
        """The back end's address, without a slash at its end."""

    async def open(self, surroundings: Surroundings) -> None:
        """ManifestError where a reference leads to nothing, or to an address that a back end may not have."""
        addresses = Addresses.of(surroundings.environment)
        self.base = self._address(surroundings.value(self._config.url), addresses)
        self._credentials = [credentials_of(auth, self.base, surroundings, self._post) for auth in self._config.auth]
        self._places = asyncio.Semaphore(self._config.connections)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._config.connections,
                ssl=self._tls(surroundings) if urlsplit(self.base).scheme == "https" else True,
                socket_factory=addresses.socket,
            ),
            headers={"Accept-Encoding": "identity", "User-Agent": "ngsp-adapter"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        )

    async def close(self) -> None:
        for each in self._credentials:
            await each.close()
        await self._session.close()

    async def send(
        self, attempt: Attempt, method: str, target: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Response:
        """One request; once more with fresh credentials where the server no longer takes those it was shown.

        `target`: path and query below `base`, percent-encoded. Raises as an Operation does; Failed for an answer
        that is too large or encoded.
        """
        url = self.base + target
        signed = await self._signed(attempt, headers)
        response = await self._sent(attempt, method, url, signed, body)
        if response.status == 401 and any(each.refused(signed) for each in self._credentials):
            signed = await self._signed(attempt, headers)
            response = await self._sent(attempt, method, url, signed, body)
        return response

    async def probe(self, method: str, target: str) -> None:
        """Asks for something harmless, in the time of a call. Failed for an error of the server's own."""
        limit_s = self._config.timeout_s
        try:
            async with asyncio.timeout(limit_s):
                response = await self.send(Attempt.for_s(limit_s), method, target, {})
        except TimeoutError:
            raise Unavailable("backend-timeout") from None
        if response.status >= 500:
            raise Failed(f"backend-status-{response.status}")

    async def _signed(self, attempt: Attempt, headers: Mapping[str, str]) -> dict[str, str]:
        attempt.begun = False
        signed = dict(headers)
        for each in self._credentials:
            signed |= await each.headers()
        return signed

    async def _sent(
        self, attempt: Attempt, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Response:
        async with self._places:
            attempt.begun = True
            # To connect is given up before the whole call is, so that "nothing was done" is known to be true.
            connect_s = min(self._config.connect_timeout_s, attempt.left_s() / 2)
            return await self._exchanged(method, url, headers, body, connect_s)

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        """To a token server: nothing is done there that matters."""
        try:
            async with asyncio.timeout(self._config.timeout_s):
                return await self._exchanged("POST", url, headers, body, self._config.connect_timeout_s)
        except (Interrupted, Failed, TimeoutError):
            raise Unavailable("backend-token-unavailable") from None

    async def _exchanged(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, connect_s: float
    ) -> Response:
        data = io.BytesIO(body) if body is not None and len(body) > LARGEST_PLAIN_BODY_BYTES else body
        try:
            async with self._session.request(
                method,
                URL(url, encoded=True),
                headers=headers,
                data=data,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=connect_s),
            ) as response:
                return await self._read(response)
        except aiohttp.ClientConnectorError as error:
            refused = isinstance(error.os_error, AddressRefused)
            raise Unavailable("backend-address-refused" if refused else "backend-down") from None
        except (aiohttp.ClientSSLError, aiohttp.ConnectionTimeoutError):
            raise Unavailable("backend-down") from None
        except aiohttp.ClientResponseError:
            raise Failed("backend-not-http") from None
        except (aiohttp.ClientError, OSError):
            raise Interrupted("backend-cut-off") from None

    async def _read(self, response: aiohttp.ClientResponse) -> Response:
        """The whole answer. What is too large or encoded is not read further: its connection is closed."""
        limit = self._config.max_answer_bytes
        if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("identity", ""):
            response.close()
            raise Failed("backend-encoded")
        chunks, size = [], 0
        if (response.content_length or 0) <= limit:
            async for chunk in response.content.iter_any():
                size += len(chunk)
                if size > limit:
                    break
                chunks.append(chunk)
            else:
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Response(response.status, headers, b"".join(chunks))
        response.close()
        raise Failed("backend-too-large")

    def _address(self, url: str, addresses: Addresses) -> str:
        parts = urlsplit(url)
        try:
            port_is_one = parts.port is None or parts.port > 0
        except ValueError:
            port_is_one = False
        plain = url.isascii() and url.isprintable() and " " not in url and not (parts.query or parts.fragment)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or not (port_is_one and plain):
            raise ManifestError(
                tr(
                    f"{self._name}: địa chỉ hệ thống (backend.url) phải có dạng http(s)://máy[:cổng][/đường/dẫn]",
                    f"{self._name}: the back end's address (backend.url) must be http(s)://host[:port][/path]",
                )
            )
        if self._config.tls != TlsConfig() and parts.scheme != "https":
            raise ManifestError(
                tr(f"{self._name}: có tls thì địa chỉ phải là https", f"{self._name}: with tls the address is https")
            )
        addresses.check_host(parts.hostname, f"{self._name}: backend.url")
        return url.rstrip("/")

    def _tls(self, surroundings: Surroundings) -> ssl.SSLContext:
        tls = self._config.tls
        try:
            context = ssl.create_default_context(cafile=surroundings.path(tls.ca) if tls.ca else None)
            if tls.certificate is not None:
                key = surroundings.path(tls.key) if tls.key else None
                context.load_cert_chain(surroundings.path(tls.certificate), key)
        except (ssl.SSLError, ValueError) as error:
            if isinstance(error, ManifestError):
                raise
            raise ManifestError(
                tr(
                    f"{self._name}: tls: tệp không phải chứng thư hay khóa PEM, hoặc hai tệp không khớp nhau",
                    f"{self._name}: tls: a file holds no PEM certificate or key, or the two do not belong together",
                )
            ) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context
