"""What both clients are, whichever way they wait."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Generic, Self, TypeVar, Unpack

import httpx

from ngsp.client.calls import Defaults, Options, Prepared
from ngsp.client.core import Core
from ngsp.client.credentials import Credentials
from ngsp.client.repeating import Retry
from ngsp.text import Language

H = TypeVar("H", httpx.Client, httpx.AsyncClient)


class Common(ABC, Generic[H]):
    """How a client is made; what it does without the network."""

    def __init__(
        self,
        base_url: str,
        credentials: Credentials,
        *,
        issuer: str = "",
        scope: str = "",
        language: Language = "vi",
        retry: Retry | None = None,
        sandbox: bool = False,
        http: H | None = None,
        **defaults: Unpack[Defaults],
    ) -> None:
        base_url = base_url.rstrip("/")
        self._core = Core(
            credentials,
            issuer=issuer or base_url,
            scope=scope,
            language=language,
            retry=retry,
            sandbox=sandbox,
            defaults=defaults,
        )
        self._drive(base_url, http, language)

    @abstractmethod
    def _drive(self, base_url: str, http: H | None, language: Language) -> None:
        """Sets `_driver`, which takes the core's steps."""

    def having(self, **defaults: Unpack[Defaults]) -> Self:
        """The same client with further defaults; connections and token are shared, and closed together."""
        found = copy.copy(self)
        found._core = self._core.having(defaults)
        return found

    def prepare(self, service: str, payload: object, **options: Unpack[Options]) -> Prepared:
        """A submission with its key, not yet sent: for programs that keep both before they `send` it."""
        return self._core.prepare(service, payload, options)
