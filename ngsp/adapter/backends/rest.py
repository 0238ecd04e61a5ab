"""A back end over HTTP that speaks JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import aiohttp
import orjson
from pydantic import Field

from ngsp.adapter.backends.base import Answer, Backend, BackendConfig, Operation
from ngsp.adapter.definition import Failed, Interrupted, Request, Unavailable
from ngsp.adapter.manifest import ManifestError, ServiceManifest
from ngsp.adapter.models import Part
from ngsp.adapter.outcomes import Kind
from ngsp.adapter.references import Reference
from ngsp.mapping import Expression, PathTemplate, Shape
from ngsp.text import tr


class RestConfig(BackendConfig):
    """`url`: scheme, host and port, and a path that all calls have in common."""

    kind: Literal["rest"]
    url: Reference


class RestCall(Part):
    """One request. `path` is joined to the back end's; `json`: the body."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] = "GET"
    path: PathTemplate
    query: dict[str, Expression] = Field(default_factory=dict)
    headers: dict[str, Expression] = Field(default_factory=dict)
    json_: Annotated[Shape | None, Field(alias="json")] = None


class Rest(Backend[RestConfig, RestCall]):
    """A pool of connections to one server."""

    Config = RestConfig
    Call = RestCall
    _base = ""
    _session: aiohttp.ClientSession

    async def open(self) -> None:
        url = self.surroundings.value(self.config.url)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ManifestError(
                tr(f"{self.name}: url phải là http(s)://máy[:cổng]", f"{self.name}: url must be http(s)://host[:port]")
            )
        self._base = url.rstrip("/")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.config.connections),
            timeout=aiohttp.ClientTimeout(sock_connect=self.config.connect_timeout_s),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        await self._session.close()

    def operation(self, service: ServiceManifest, call: RestCall) -> Operation:
        async def operate(request: Request, root: dict[str, Any]) -> Answer:
            url = self._base + call.path(root)
            query = {name: str(value) for name, read in call.query.items() if (value := read(root)) is not None}
            headers = {name: str(value) for name, read in call.headers.items() if (value := read(root)) is not None}
            body = None if call.json_ is None else orjson.dumps(call.json_(root))
            if body is not None:
                headers["Content-Type"] = "application/json"
            try:
                async with self._session.request(
                    call.method, url, params=query, headers=headers, data=body, allow_redirects=False
                ) as response:
                    return await self._answer(response)
            except aiohttp.ClientConnectorError:
                raise Unavailable("backend-down") from None
            except aiohttp.ClientError:
                raise Interrupted("backend-down") from None

        return operate

    async def probe(self) -> None:
        try:
            async with self._session.head(self._base, allow_redirects=False):
                pass
        except aiohttp.ClientError:
            raise Unavailable("backend-down") from None

    def judge(self, answer: Answer) -> tuple[Kind, str]:
        status = int(answer.status)
        if status < 300:
            return "ok", ""
        return ("retry" if status in (429, 502, 503, 504) else "failed"), f"backend-status-{status}"

    async def _answer(self, response: aiohttp.ClientResponse) -> Answer:
        content = await response.content.read(self.config.max_answer_bytes + 1)
        if len(content) > self.config.max_answer_bytes:
            raise Failed("backend-too-large")
        try:
            body = orjson.loads(content) if content else None
        except orjson.JSONDecodeError:
            raise Failed("backend-not-json") from None
        return Answer(response.status, body, {name.lower(): value for name, value in response.headers.items()})
