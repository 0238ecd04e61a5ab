"""How a client proves itself to the token endpoint: `ClientSecret` or `PrivateKey`. Neither shows what it holds."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote_plus

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, OKPKey

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_LIFE_S = 60


class Credentials(Protocol):
    """`client_id`, and what goes with a token request: headers and form fields, made anew for each."""

    @property
    def client_id(self) -> str: ...

    def proof(self, issuer: str) -> tuple[dict[str, str], dict[str, str]]: ...


class ClientSecret:
    """`client_secret_basic` (RFC 6749 §2.3.1)."""

    def __init__(self, client_id: str, secret: str) -> None:
        if not client_id or not secret:
            raise ValueError("a client's id and its secret are needed")
        self.client_id = client_id
        self._basic = base64.b64encode(f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()).decode()

    def proof(self, issuer: str) -> tuple[dict[str, str], dict[str, str]]:
        return {"Authorization": f"Basic {self._basic}"}, {}

    def __repr__(self) -> str:
        return f"ClientSecret({self.client_id!r}, …)"


class PrivateKey:
    """`private_key_jwt` (RFC 7523): each token request carries an assertion that lives a minute and is used once.

    `key`: the private key, as PEM or as a JWK; P-256 signs ES256, Ed25519 signs EdDSA. `kid`: under which its public
    half is registered; may be left out while the client has one key of the kind. ValueError for another kind of key.
    """

    def __init__(self, client_id: str, key: bytes | str | Mapping[str, Any], kid: str = "") -> None:
        if not client_id:
            raise ValueError("a client's id is needed")
        self.client_id = client_id
        self._kid = kid
        self._key, self._algorithm = _import(key)

    def proof(self, issuer: str) -> tuple[dict[str, str], dict[str, str]]:
        from joserfc.jws import JWSRegistry

        now_s = int(time.time())
        header = {"alg": self._algorithm, "typ": "JWT"} | ({"kid": self._kid} if self._kid else {})
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": issuer,
            "jti": uuid.uuid4().hex,
            "iat": now_s,
            "exp": now_s + ASSERTION_LIFE_S,
        }
        signed = f"{_part(header)}.{_part(claims)}"
        signature = JWSRegistry.algorithms[self._algorithm].sign(signed.encode(), self._key)
        assertion = f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
        return {}, {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}

    def __repr__(self) -> str:
        return f"PrivateKey({self.client_id!r}, …)"


def _import(key: bytes | str | Mapping[str, Any]) -> tuple[ECKey | OKPKey, str]:
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, OKPKey

    given = dict(key) if isinstance(key, Mapping) else key
    for kind, algorithm, curve in ((ECKey, "ES256", "P-256"), (OKPKey, "EdDSA", "Ed25519")):
        try:
            found = kind.import_key(given)
        except (JoseError, KeyError, TypeError, ValueError):  # whatever a key of another kind trips it up on
            continue
        if found.curve_name == curve and found.is_private:
            return found, algorithm
    raise ValueError("not a private key on P-256 or Ed25519")


def _part(members: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode()
