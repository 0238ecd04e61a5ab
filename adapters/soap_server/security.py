"""WS-Security UsernameToken (OASIS Username Token Profile 1.0): who calls, by password in text or as a digest."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from adapters.soap_server.messages import Fault

WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
PROFILE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0"
FRESH = timedelta(minutes=5)
"""How far `Created` may be from the server's clock, either way."""
_TOKEN = f".//{{{WSSE}}}Security/{{{WSSE}}}UsernameToken"


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the server lets in. `digest`: PasswordDigest with nonce and time is asked for, otherwise PasswordText."""

    username: str
    password: str
    digest: bool


class Guard:
    """Lets `account` in, each nonce once. `off`: by how much the server's clock is wrong."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.off = timedelta()
        self._used: dict[bytes, datetime] = {}
        """Nonce → when it was used, oldest first."""
        self._lock = threading.Lock()

    def check(self, envelope: Any) -> None:
        """Returns for the account itself; otherwise a fault that does not tell what was wrong."""
        token = envelope.find(_TOKEN)
        if token is None or not self._is_right(token):
            raise Fault("", "Không xác thực được", f"{{{WSSE}}}FailedAuthentication")

    def _is_right(self, token: Any) -> bool:
        password = token.find(f"{{{WSSE}}}Password")
        kind = "PasswordDigest" if self._account.digest else "PasswordText"
        if password is None or password.get("Type") != f"{PROFILE}#{kind}":
            return False
        named = _same(token.findtext(f"{{{WSSE}}}Username") or "", self._account.username)
        if not self._account.digest:
            return _same(password.text or "", self._account.password) and named
        return self._is_fresh_digest(token, password.text or "") and named

    def _is_fresh_digest(self, token: Any, digest: str) -> bool:
        created = token.findtext(f"{{{WSU}}}Created") or ""
        try:
            nonce = base64.b64decode(token.findtext(f"{{{WSSE}}}Nonce") or "", validate=True)
            at = datetime.fromisoformat(created)
        except (binascii.Error, ValueError):
            return False
        wanted = hashlib.sha1(nonce + created.encode() + self._account.password.encode()).digest()  # noqa: S324
        if not _same(digest, base64.b64encode(wanted).decode()):
            return False
        now = datetime.now(UTC) + self.off
        return len(nonce) >= 8 and at.tzinfo is not None and abs(now - at) <= FRESH and self._is_new(nonce, now)

    def _is_new(self, nonce: bytes, now: datetime) -> bool:
        with self._lock:
            while self._used and now - next(iter(self._used.values())) > 2 * FRESH:
                del self._used[next(iter(self._used))]
            if nonce in self._used:
                return False
            self._used[nonce] = now
            return True


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())
