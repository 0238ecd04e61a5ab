"""OAuth 2 client credentials (RFC 6749 §4.4), as the national platform gives out tokens: `POST /token`."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import threading
import time
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote_plus

LIFE_S = 3600


@dataclass(frozen=True, slots=True)
class Client:
    """The one client that this system knows."""

    id: str
    secret: str


class Tokens:
    """Tokens given out and still good."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._ends: dict[str, float] = {}
        self._lock = threading.Lock()
        self.given = 0
        """How many since the start."""

    def give(self, authorization: str, body: bytes) -> tuple[int, dict[str, object]]:
        """Status and document for a request to `/token`; id and secret by Basic or in the form."""
        form = {name: values[0] for name, values in parse_qs(body.decode("latin-1")).items()}
        shown = _basic(authorization) or (form.get("client_id", ""), form.get("client_secret", ""))
        wanted = (self._client.id, self._client.secret)
        if not all(hmac.compare_digest(one.encode(), other.encode()) for one, other in zip(shown, wanted, strict=True)):
            return 401, {"error": "invalid_client"}
        if form.get("grant_type") != "client_credentials":
            return 400, {"error": "unsupported_grant_type"}
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._ends[token] = time.monotonic() + LIFE_S
            self.given += 1
        return 200, {"access_token": token, "scope": "default", "token_type": "Bearer", "expires_in": LIFE_S}

    def good(self, authorization: str) -> bool:
        """Whether the header `Authorization` holds a token that is still good."""
        kind, _, token = authorization.partition(" ")
        with self._lock:
            return kind == "Bearer" and self._ends.get(token, 0.0) > time.monotonic()

    def forget(self) -> None:
        """As after a restart: none is good any more."""
        with self._lock:
            self._ends.clear()


def _basic(authorization: str) -> tuple[str, str] | None:
    kind, _, value = authorization.partition(" ")
    if kind != "Basic":
        return None
    try:
        id, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return unquote_plus(id), unquote_plus(secret)
