"""How an adapter shows a provider's server who it is. Values that are secret stand in a manifest by reference only.

    auth: {kind: basic, username: …, password: …}
    auth: {kind: bearer, token: …}
    auth: {kind: header, name: X-Api-Key, value: …}
    auth: {kind: oauth2, token_path: /token, client_id: …, client_secret: …}           RFC 6749 §4.4
    auth: {kind: lgspaccesstoken, access_key: …, secret_key: …, app_name: …, partner_code: …, partner_code_cus: …}

Provincial platforms want the last two together: `auth` may be a list.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, Self
from urllib.parse import quote, urlencode

import orjson
import structlog
from pydantic import Field, model_validator

from ngsp.adapter.definition import Unavailable
from ngsp.adapter.manifest import ManifestError
from ngsp.adapter.models import Part
from ngsp.adapter.references import Plain, Reference, Surroundings
from ngsp.text import Text, Wrong, tr

EARLIEST_RENEWAL_S = 30.0
"""A token is renewed this long before it ends, or in the last tenth of its life where that is shorter."""
DEFAULT_LIFE_S = 300.0
"""Of a token whose server does not say; RFC 6749 §5.1 only recommends that it does."""
LONGEST_LIFE_S = 86_400.0
FORM = "application/x-www-form-urlencoded"

log = structlog.get_logger(__name__)


class Answered(Protocol):
    """What a token server answered."""

    @property
    def status(self) -> int: ...
    @property
    def body(self) -> bytes: ...


Post = Callable[[str, Mapping[str, str], bytes], Awaitable[Answered]]
"""`POST` of (url, headers, body), without credentials."""


class BasicAuth(Part):
    kind: Literal["basic"]
    username: Plain
    password: Reference


class BearerAuth(Part):
    kind: Literal["bearer"]
    token: Reference


class HeaderAuth(Part):
    kind: Literal["header"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")]
    value: Reference


class OAuth2Auth(Part):
    """`token_path` below the back end's address, or `token_url` elsewhere. `credentials`: where id and secret go."""

    kind: Literal["oauth2"]
    token_path: Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=500)] | None = None
    token_url: Reference | None = None
    client_id: Plain
    client_secret: Reference
    scope: Annotated[str, Field(max_length=1000)] = ""
    credentials: Literal["basic", "form"] = "basic"

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.token_path is None) is (self.token_url is None):
            raise Wrong(Text("Dùng đúng một: token_path hoặc token_url.", "Give exactly one: token_path or token_url."))
        return self


class LgspAuth(Part):
    """The header `lgspaccesstoken` of provincial platforms (LGSP): base64 of a JSON object with these members."""

    kind: Literal["lgspaccesstoken"]
    access_key: Reference
    secret_key: Reference
    app_name: Plain
    partner_code: Plain
    partner_code_cus: Plain


Authentication = Annotated[BasicAuth | BearerAuth | HeaderAuth | OAuth2Auth | LgspAuth, Field(discriminator="kind")]


class Credentials(Protocol):
    """Headers that prove who asks."""

    async def headers(self) -> Mapping[str, str]:
        """May ask a token server. Unavailable where that does not give a token."""
        ...

    def refused(self, used: Mapping[str, str]) -> bool:
        """The server answered 401 to these headers: True where others can be had."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same headers each time."""

    given: Mapping[str, str]

    async def headers(self) -> Mapping[str, str]:
        return self.given

    def refused(self, used: Mapping[str, str]) -> bool:
        return False

    async def close(self) -> None:
        """Nothing to end."""


class ClientCredentials:
    """OAuth 2 client credentials (RFC 6749 §4.4): one token for all calls, fetched by one of them at a time."""

    def __init__(self, config: OAuth2Auth, url: str, surroundings: Surroundings, post: Post) -> None:
        self._url, self._post = url, post
        client_id, secret = surroundings.plain(config.client_id), surroundings.value(config.client_secret)
        form = {"grant_type": "client_credentials"} | ({"scope": config.scope} if config.scope else {})
        self._headers = {"Content-Type": FORM, "Accept": "application/json"}
        if config.credentials == "basic":
            # RFC 6749 §2.3.1: both are form-encoded before they are joined.
            self._headers |= basic(quote(client_id, safe=""), quote(secret, safe=""))
        else:
            form |= {"client_id": client_id, "client_secret": secret}
        self._form = urlencode(form).encode()
        self._token: Mapping[str, str] | None = None
        self._renew_at = 0.0
        self._fetching: asyncio.Task[Mapping[str, str]] | None = None

    async def headers(self) -> Mapping[str, str]:
        if self._token is not None and time.monotonic() < self._renew_at:
            return self._token
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(_seen)
        # Whoever gives up must not take the token from the others.
        return await asyncio.shield(self._fetching)

    def refused(self, used: Mapping[str, str]) -> bool:
        if self._token is not None and self._token.items() <= used.items():
            self._token = None
        return True

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    async def _fetch(self) -> Mapping[str, str]:
        answer = await self._post(self._url, self._headers, self._form)
        token, life_s = _token_in(answer)
        if not token:
            log.error("no token from a provider's token server", status=answer.status)
            raise Unavailable("backend-token-refused")
        self._renew_at = time.monotonic() + life_s - min(EARLIEST_RENEWAL_S, life_s / 10)
        self._token = {"Authorization": f"Bearer {token}"}
        return self._token


def _token_in(answer: Answered) -> tuple[str, float]:
    """Token and seconds of life; no token where the answer holds none that can be used."""
    try:
        found: Any = orjson.loads(answer.body) if answer.status == 200 else {}
        token = found["access_token"]
        life_s = float(found.get("expires_in", DEFAULT_LIFE_S))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        return "", 0.0
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not life_s > 0:
        return "", 0.0
    return token, min(life_s, LONGEST_LIFE_S)


def _seen(task: asyncio.Task[Mapping[str, str]]) -> None:
    """Told to whoever waited; where nobody does any more, there is nobody to tell."""
    if not task.cancelled():
        task.exception()


def basic(username: str, password: str) -> dict[str, str]:
    """RFC 7617."""
    return {"Authorization": f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"}


def credentials_of(config: Any, base: str, surroundings: Surroundings, post: Post) -> Credentials:
    """`base`: the back end's address. ManifestError where a reference leads to nothing."""
    value, plain = surroundings.value, surroundings.plain
    if isinstance(config, BasicAuth):
        return Fixed(basic(plain(config.username), value(config.password)))
    if isinstance(config, BearerAuth):
        return Fixed({"Authorization": f"Bearer {_clean(value(config.token))}"})
    if isinstance(config, HeaderAuth):
        return Fixed({config.name: _clean(value(config.value))})
    if isinstance(config, OAuth2Auth):
        url = value(config.token_url) if config.token_url is not None else f"{base}{config.token_path}"
        return ClientCredentials(config, url, surroundings, post)
    members = {
        "AccessKey": value(config.access_key),
        "SecretKey": value(config.secret_key),
        "AppName": plain(config.app_name),
        "PartnerCode": plain(config.partner_code),
        "PartnerCodeCus": plain(config.partner_code_cus),
    }
    return Fixed({"lgspaccesstoken": base64.b64encode(orjson.dumps(members)).decode()})


def _clean(secret: str) -> str:
    if not secret.isascii() or not secret.isprintable():
        raise ManifestError(
            tr(
                "Một bí mật có ký tự không gửi được trong tiêu đề HTTP",
                "A secret has characters that no HTTP header can carry",
            )
        )
    return secret
