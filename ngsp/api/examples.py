"""Examples of the documents of the interface, by the name of their schema. A test sends them to a gateway."""

from __future__ import annotations

from typing import Any

_TEXT = {"vi": "Tra cứu đơn vị hành chính", "en": "Look-up of administrative units"}
_TERMS = {
    "purposes": ["birth-registration"],
    "legal_basis": "Nghị định 63/2024/NĐ-CP",
    "fields": ["/SoDinhDanh", "/HoVaTen"],
    "quota_per_minute": 600,
    "valid_from": "2026-01-01T00:00:00Z",
}
_CODE = {"type": "string", "pattern": "^[0-9]{5}$"}

EXAMPLES: dict[str, dict[str, Any]] = {
    "MemberDocument": {
        "name": {"vi": "Tỉnh Nghệ An", "en": "Nghệ An province"},
        "old_code": "000.00.00.H41",
        "valid_from": "2020-01-01",
        "zone": "province",
    },
    "ClientDocument": {
        "member": "H41",
        "name": {"vi": "Một cửa Nghệ An", "en": "One-stop shop of Nghệ An"},
        "scopes": ["exchange"],
    },
    "KeyDocument": {
        "alg": "ES256",
        "jwk": {
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        },
        "kid": "2026-11",
    },
    "ManifestDocument": {
        "id": "h41-units",
        "provider": "H41",
        "services": [
            {
                "service": "unit-lookup",
                "version": "v1",
                "title": _TEXT,
                "description": _TEXT,
                "mode": "query",
                "effect": "idempotent",
                "deadline_s": 5.0,
                "max_body_bytes": 4096,
                "request_schema": {
                    "type": "object",
                    "properties": {"code": _CODE},
                    "required": ["code"],
                    "additionalProperties": False,
                },
                "reply_schema": {"type": "object", "properties": {"name": {"type": "string"}}},
                "examples": [{"title": _TEXT, "request": {"code": "17920"}, "reply": {"name": "Phường Vinh Hưng"}}],
            }
        ],
    },
    "HeartbeatDocument": {
        "build": "1.4.2",
        "schemas": {"H41/unit-lookup/v1": "0123456789abcdef.fedcba9876543210"},
    },
    "ProposalDocument": {"consumer": "G22", "service": "H41/unit-lookup/v1", "reference": "tt-2026-0001"} | _TERMS,
    "TermsDocument": _TERMS,
    "SubscriptionDocument": {
        "service": "G22/procedure-events/v1",
        "purpose": "procedure-catalogue",
        "agreement": "tt-2026-0001",
        "types": ["vn.gov.procedure.amended"],
        "url": "https://motcua.nghean.gov.vn/ngsp/events",
        "from": "now",
    },
    "NewSecretDocument": {"overlap_s": 86400},
    "ReplayDocument": {"from": "2026-11-22T00:00:00Z"},
    "ReasonDocument": {
        "reason": "Kết thúc giai đoạn thử nghiệm.",
        "legal_basis": "Nghị định 194/2025/NĐ-CP",
    },
    "RefusalDocument": {
        "reason": "Mục đích chưa nêu rõ căn cứ pháp lý.",
        "legal_basis": "Nghị định 194/2025/NĐ-CP",
    },
    "TransactionItem": {
        "id": "0193517b-8f00-7a11-9b22-0123456789ab",
        "state": "succeeded",
        "mode": "query",
        "accepted_at": "2026-11-22T01:02:03.045678Z",
        "ended_at": "2026-11-22T01:02:03.061002Z",
        "client": "h41-onestop",
        "consumer": "H41",
        "provider": "G01.01",
        "service": "G01.01/population-lookup/v1",
        "adapter": "g01-population",
        "agreement": {"id": "0193517b-0000-7a11-9b22-0123456789ab", "version": 1},
        "purpose": "birth-registration",
        "officer": "canbo-0017",
        "dossier": "000.00.00.H41-261121-0001",
        "procedure": "1.001193",
        "trace": None,
        "code": None,
        "failure_class": None,
        "provider_code": None,
        "status": 200,
        "request_bytes": 212,
        "reply_bytes": 486,
        "duration_ms": 15.3,
        "sandbox": False,
    },
}
