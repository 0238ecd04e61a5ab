"""Clinics and how they sign: a detached JWS (RFC 7515, appendix F), Ed25519 over a paper's canonical JSON (RFC 8785).

The keys are drawn from the clinics' codes, so that a paper is the same at every start; they belong to clinics that do
not exist and protect nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adapters.g01_population.citizens import communes

KEYS_SINCE = "2020-01-01"


@dataclass(frozen=True, slots=True)
class Clinic:
    """`code`: the province's two digits and three of its own. `key_id`: of the one key that it signs with."""

    code: str
    name: str

    @property
    def key_id(self) -> str:
        return f"{self.code}-2020"


@cache
def clinics() -> dict[str, Clinic]:
    """Code of the province → its clinic."""
    provinces = {commune.province_code: commune.province for commune in communes().values()}
    return {
        code: Clinic(f"{code}001", f"Bệnh viện đa khoa {name.removeprefix('Tỉnh ').removeprefix('Thành phố ')}")
        for code, name in sorted(provinces.items())
    }


@cache
def _private_key(key_id: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"cơ sở y tế tổng hợp 1/{key_id}".encode()).digest())


def public_key(key_id: str) -> dict[str, str]:
    """As a JSON Web Key (RFC 8037)."""
    raw = _private_key(key_id).public_key().public_bytes_raw()
    return {"kty": "OKP", "crv": "Ed25519", "kid": key_id, "x": _base64url(raw)}


def sign(paper: dict[str, Any], key_id: str) -> str:
    """`header..signature` over `paper`, which holds texts and whole numbers only, under plain names."""
    canonical = json.dumps(paper, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    header = _base64url(json.dumps({"alg": "EdDSA", "kid": key_id}, separators=(",", ":")).encode())
    signature = _private_key(key_id).sign(f"{header}.{_base64url(canonical)}".encode())
    return f"{header}..{_base64url(signature)}"


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
