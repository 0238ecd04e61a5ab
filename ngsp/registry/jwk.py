"""Public keys as clients register them (RFC 7517, 7518, 8037): checked down to the point on the curve."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ngsp.registry.texts import Wrong
from ngsp.text import Text

_SHAPES = {"ES256": ("EC", "P-256", ("x", "y")), "EdDSA": ("OKP", "Ed25519", ("x",))}
_PRIVATE = frozenset(("d", "p", "q", "dp", "dq", "qi", "k", "oth"))


def public_jwk(alg: str, jwk: dict[str, Any]) -> dict[str, str]:
    """The members that make the key, no others. `Wrong` for a private key, another kind, or a point off the curve."""
    if jwk.keys() & _PRIVATE:
        raise Wrong(
            Text(
                "Đây là khóa bí mật: đừng gửi nó đi đâu cả. Hãy tạo cặp khóa mới và chỉ gửi khóa công khai.",
                "This is a private key: it must never be sent. Make a new pair and send its public half only.",
            )
        )
    kind, curve, coordinates = _SHAPES[alg]
    if jwk.get("kty") != kind or jwk.get("crv") != curve:
        raise Wrong(Text(f"{alg} cần khóa {kind} trên {curve}.", f"{alg} takes a key of type {kind} on {curve}."))
    try:
        numbers = [_decode(jwk.get(name)) for name in coordinates]
        if kind == "EC":
            x, y = (int.from_bytes(number, "big") for number in numbers)
            EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()
        else:
            Ed25519PublicKey.from_public_bytes(numbers[0])
    except ValueError as error:
        raise Wrong(Text("Khóa công khai không hợp lệ.", "Not a valid public key.")) from error
    return {"kty": kind, "crv": curve, **{name: jwk[name] for name in coordinates}}


def thumbprint(jwk: dict[str, str]) -> str:
    """RFC 7638: SHA-256 over the members sorted by name, in base64url."""
    digest = hashlib.sha256(orjson.dumps(jwk, option=orjson.OPT_SORT_KEYS)).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _decode(value: Any) -> bytes:
    """32 bytes in base64url without padding; ValueError for anything else."""
    if not isinstance(value, str) or len(value) != 43 or not value.isascii():
        raise ValueError("not 32 bytes in base64url")
    try:
        found = base64.b64decode(value + "=", altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error
    if base64.urlsafe_b64encode(found).rstrip(b"=").decode() != value:
        raise ValueError("not canonical base64url")
    return found
