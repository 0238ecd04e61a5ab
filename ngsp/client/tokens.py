"""Access tokens: one for a client, kept until shortly before its end, however many calls there are."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from ngsp.client.credentials import Credentials
from ngsp.client.errors import CallError, ConnectionLost, TokenRefused, Unavailable, Unreachable
from ngsp.client.wire import Alone, Answer, Flow
from ngsp.text import Language

TOKEN_PATH = "/oauth2/token"  # noqa: S105 - an address
RENEWED_BEFORE_S = 60.0
AGAIN_AFTER_S = 5.0
"""After a renewal that did not succeed, while the old token still holds."""


@dataclass(slots=True)
class Token:
    """`value` goes into `Authorization`. Times are those of the client's own monotonic clock."""

    value: str = field(repr=False)
    renew_at_s: float
    ends_at_s: float


Form = tuple[dict[str, str], bytes]
"""Headers and body of a token request."""
Ask = Callable[[Form], Flow[Answer]]
"""One POST to the token endpoint. Raises what is wrong with any answer but 200."""


class Tokens:
    """The token of one client. `issuer`: what an assertion names as its audience."""

    def __init__(self, credentials: Credentials, issuer: str, scope: str, clock: Callable[[], float]) -> None:
        self._credentials, self._issuer, self._scope, self._clock = credentials, issuer, scope, clock
        self._current: Token | None = None

    def bearer(self, ask: Ask, language: Language) -> Flow[str]:
        """The token's value, fetched or renewed where it is time. Raises `TokenRefused`, or why none can be had."""
        token = self._current
        if token is None or self._clock() >= token.renew_at_s:
            token = yield Alone(lambda: self._renewed(token, ask, language))
        return token.value

    def forget(self, value: str) -> None:
        """The bus does not take this token: the next call asks for another."""
        if self._current is not None and self._current.value == value:
            self._current = None

    def _renewed(self, seen: Token | None, ask: Ask, language: Language) -> Flow[Token]:
        if self._current is not None and self._current is not seen:
            return self._current  # another call was quicker
        try:
            self._current = yield from self._fetched(ask, language)
        except (Unreachable, ConnectionLost, Unavailable) as error:
            if seen is not None and self._clock() < seen.ends_at_s:
                seen.renew_at_s = self._clock() + AGAIN_AFTER_S
                return seen
            raise _nothing_sent(error, language) from error
        return self._current

    def _fetched(self, ask: Ask, language: Language) -> Flow[Token]:
        asked_s = self._clock()
        answer = yield from ask(self._form())
        document = _document(answer)
        value, life_s = document.get("access_token"), document.get("expires_in")
        if not isinstance(value, str) or not isinstance(life_s, int | float):
            raise TokenRefused("invalid_response", "", language=language)
        return Token(value, asked_s + life_s - min(RENEWED_BEFORE_S, life_s / 4), asked_s + life_s)

    def _form(self) -> Form:
        """Made anew for each request: a proof may be good only once."""
        headers, proof = self._credentials.proof(self._issuer)
        form = {"grant_type": "client_credentials", **proof} | ({"scope": self._scope} if self._scope else {})
        return {**headers, "Content-Type": "application/x-www-form-urlencoded"}, urlencode(form).encode()


def refusal_of(answer: Answer, language: Language) -> TokenRefused | None:
    """What an answer of the token endpoint says by RFC 6749 §5.2; None where it is not such an answer."""
    document = _document(answer)
    error = document.get("error")
    if not isinstance(error, str):
        return None
    return TokenRefused(error, str(document.get("error_description", "")), language=language)


def _document(answer: Answer) -> dict[str, Any]:
    try:
        found = json.loads(answer.body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _nothing_sent(error: CallError, language: Language) -> CallError:
    """Without a token nothing of the call itself was sent, whatever became of the request for the token."""
    return Unreachable(language=language) if isinstance(error, ConnectionLost) else error
