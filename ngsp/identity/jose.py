"""Compact JWS (RFC 7515), read strictly: everything that costs nothing is checked before any cryptography.

One way of writing each token: base64url without padding and without stray bits, a header of few known members, all
text. Members that would make a verifier fetch or trust a key of the sender's (`jku`, `x5u`, `jwk`, `x5c`, …) or change
the rules (`crit`, `b64`, `zip`) are simply not among the known ones.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any, Literal

from joserfc.jwk import ECKey, OKPKey
from joserfc.jws import JWSRegistry

from ngsp import strictjson
from ngsp.errors import NgspError

Algorithm = Literal["ES256", "EdDSA"]
VerifyKey = ECKey | OKPKey

MOST_HEADER_CHARS = 512
KID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
# Both algorithms sign with 64 bytes: 86 characters.
_COMPACT = re.compile(rb"([A-Za-z0-9_-]{2,512})\.([A-Za-z0-9_-]{2,})\.([A-Za-z0-9_-]{86})")

# The algorithm is chosen by the key's record and never by the header; joserfc does the mathematics.
_MODELS = {"ES256": JWSRegistry.algorithms["ES256"], "EdDSA": JWSRegistry.algorithms["EdDSA"]}


class NotAToken(ValueError):
    """Not a compact JWS of the kind awaited; the text says what is wrong with it and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Compact:
    """A compact JWS taken apart and not yet believed."""

    header: dict[str, str]
    signing_input: bytes
    payload: bytes
    signature: bytes

    def claims(self) -> dict[str, Any]:
        """The payload as a JSON object, read strictly. `NotAToken` where it is none."""
        return _json_object(self.payload, "payload")

    def is_signed_by(self, key: VerifyKey, algorithm: Algorithm) -> bool:
        return bool(_MODELS[algorithm].verify(self.signing_input, self.signature, key))


def read_compact(token: bytes, *, members: frozenset[str], longest: int) -> Compact:
    """`token` taken apart; `members`: the names its header may hold. Raises `NotAToken`."""
    if len(token) > longest:
        raise NotAToken("oversize")
    found = _COMPACT.fullmatch(token)
    if found is None:
        raise NotAToken("not a compact JWS")
    header = _json_object(_decode(found[1]), "header")
    if not header.keys() <= members:
        raise NotAToken("header with members that are not accepted")
    if not all(isinstance(value, str) for value in header.values()):
        raise NotAToken("header with a member that is not text")
    kid = header.get("kid")
    if kid is not None and not KID.fullmatch(kid):
        raise NotAToken("kid not of its form")
    return Compact(header, token[: found.end(2)], _decode(found[2]), _decode(found[3]))


def _decode(text: bytes) -> bytes:
    try:
        data = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        raise NotAToken("not base64url") from None
    if base64.urlsafe_b64encode(data).rstrip(b"=") != text:
        raise NotAToken("base64url with stray bits")
    return data


def _json_object(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = strictjson.parse(data)
    except NgspError:
        raise NotAToken(f"{what} is not strict JSON") from None
    if not isinstance(value, dict):
        raise NotAToken(f"{what} is not an object")
    return value


def verify_key(algorithm: Algorithm, jwk: dict[str, Any]) -> VerifyKey:
    """The key in a registered JWK. ValueError where it is not one for `algorithm`."""
    kind, curve = ("EC", "P-256") if algorithm == "ES256" else ("OKP", "Ed25519")
    if jwk.get("kty") != kind or jwk.get("crv") != curve:
        raise ValueError(f"not a key for {algorithm}")
    public = {name: value for name, value in jwk.items() if name in ("kty", "crv", "x", "y")}
    return ECKey.import_key(public) if algorithm == "ES256" else OKPKey.import_key(public)
