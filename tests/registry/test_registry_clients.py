"""Clients and keys over REST: the secret that shows once, who may give which scope, revocation."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ngsp.identity.secrets import verify_secret
from tests.support.registry import client_document

if TYPE_CHECKING:
    from tests.support.registry import Rig


def b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def ec_jwk() -> dict[str, Any]:
    numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    return {"kty": "EC", "crv": "P-256", "x": b64(numbers.x.to_bytes(32)), "y": b64(numbers.y.to_bytes(32))}


def ed_jwk() -> dict[str, Any]:
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    return {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes(Encoding.Raw, PublicFormat.Raw))}


async def test_secret_shows_once_and_is_stored_hashed(rig: Rig) -> None:
    created = await rig.call("PUT", "/v1/clients/one-stop", json=client_document("H41", "exchange"))
    assert created.status_code == 201
    assert created.headers["cache-control"] == "no-store"
    secret = created.json()["secret"]
    stored = rig.registry.snapshot.clients["one-stop"].secret_hash
    assert secret not in stored
    assert await verify_secret(stored, secret)
    again = await rig.call("PUT", "/v1/clients/one-stop", json=client_document("H41", "exchange"))
    assert (again.status_code, again.json()["secret"], again.headers["etag"]) == (200, None, '"1"')
    read = (await rig.call("GET", "/v1/clients/one-stop")).json()
    assert read["has_secret"] is True
    assert "secret" not in read
    assert stored not in str(read)


async def test_new_secret_ends_the_old_and_its_tokens(rig: Rig) -> None:
    await rig.add_client("turning", "H41", "registry")
    assert (await rig.call("GET", "/v1/agreements", by="turning")).status_code == 200
    document = client_document("H41", "registry", secret="generate")
    turned = await rig.call("PUT", "/v1/clients/turning", json=document)
    assert turned.json()["secret"]
    assert turned.json()["tokens_valid_from"] is not None
    assert (await rig.call("GET", "/v1/agreements", by="turning")).status_code == 401
    without = await rig.call("PUT", "/v1/clients/turning", json={**document, "secret": "none"})
    assert (without.json()["has_secret"], without.json()["secret"]) == (False, None)


async def test_scopes_and_activity_bite_at_once(rig: Rig) -> None:
    await rig.add_client("weakened", "H41", "registry", "exchange")
    assert (await rig.call("GET", "/v1/clients", by="weakened")).status_code == 200
    await rig.call("PUT", "/v1/clients/weakened", json=client_document("H41", "exchange"))
    assert (await rig.call("GET", "/v1/clients", by="weakened")).json()["code"] == "scope-missing"
    await rig.call("PUT", "/v1/clients/weakened", json=client_document("H41", "exchange", active=False))
    assert (await rig.call("GET", "/v1/agreements", by="weakened")).status_code == 401


@pytest.mark.parametrize(
    ("by", "member", "scope", "status"),
    [
        ("h41-registry", "H41", "exchange", 201),
        ("h41-registry", "H41", "registry", 201),
        ("h41-registry", "H41", "operator", 403),
        ("h41-registry", "H41", "auditor", 403),
        ("h41-registry", "H41", "citizen", 403),
        ("h41-registry", "H14", "exchange", 403),
        ("auditor-1", "G22", "exchange", 403),
        ("operator-1", "H14", "citizen", 201),
        ("operator-1", "X99", "exchange", 422),
    ],
)
async def test_who_may_give_which_scope(rig: Rig, by: str, member: str, scope: str, status: int) -> None:
    client_id = f"given-{by}-{member}-{scope}".lower()
    found = await rig.call("PUT", f"/v1/clients/{client_id}", json=client_document(member, scope), by=by)
    assert found.status_code == status
    if status == 422:
        assert found.json()["errors"][0]["pointer"] == "/member"


async def test_a_stronger_client_cannot_be_taken_over(rig: Rig) -> None:
    """A member's registry client may not turn the secret of its member's operator, nor add a key to it."""
    await rig.add_client("h41-operator", "H41", "operator")
    taken = await rig.call(
        "PUT", "/v1/clients/h41-operator", json=client_document("H41", "exchange", secret="generate"), by="h41-registry"
    )
    assert taken.status_code == 403
    keyed = await rig.call(
        "POST", "/v1/clients/h41-operator/keys", json={"alg": "ES256", "jwk": ec_jwk()}, by="h41-registry"
    )
    assert keyed.status_code == 403


async def test_client_stays_with_its_member(rig: Rig) -> None:
    await rig.call("PUT", "/v1/clients/settled", json=client_document("H41", "exchange"))
    moved = await rig.call("PUT", "/v1/clients/settled", json=client_document("H14", "exchange"))
    assert (moved.status_code, moved.json()["code"]) == (422, "invalid-registration")


async def test_lists_and_reads_are_cut_to_the_own_member(rig: Rig) -> None:
    own = (await rig.call("GET", "/v1/clients?limit=500", by="h14-registry")).json()["items"]
    assert {client["member"] for client in own} == {"H14"}
    every = (await rig.call("GET", "/v1/clients?limit=500", by="auditor-1")).json()["items"]
    assert len({client["member"] for client in every}) > 2
    assert (await rig.call("GET", "/v1/clients/h41-registry", by="h14-registry")).status_code == 404
    assert (await rig.call("GET", "/v1/clients/h41-registry", by="h41-registry")).status_code == 200


@pytest.mark.parametrize(("alg", "make"), [("ES256", ec_jwk), ("EdDSA", ed_jwk)])
async def test_key_is_added_and_revoked(rig: Rig, alg: str, make: Any) -> None:
    client_id = f"keyed-{alg.lower()}"
    await rig.call("PUT", f"/v1/clients/{client_id}", json=client_document("H41", "exchange", secret="none"))
    jwk = make()
    added = await rig.call("POST", f"/v1/clients/{client_id}/keys", json={"alg": alg, "jwk": {**jwk, "use": "sig"}})
    assert (added.status_code, added.headers["etag"]) == (201, '"2"')
    kid = added.json()["kid"]
    assert len(base64.urlsafe_b64decode(kid + "=")) == 32, "the thumbprint of RFC 7638"
    assert added.json()["jwk"] == jwk, "what the key does not need is not kept"
    assert [key.kid for key in rig.registry.snapshot.clients[client_id].keys] == [kid]
    again = await rig.call("POST", f"/v1/clients/{client_id}/keys", json={"alg": alg, "jwk": jwk})
    assert (again.status_code, again.headers["etag"]) == (201, '"2"')
    other = await rig.call("POST", f"/v1/clients/{client_id}/keys", json={"alg": alg, "jwk": make(), "kid": kid})
    assert other.json()["code"] == "state-conflict"
    revoked = await rig.call("DELETE", f"/v1/clients/{client_id}/keys/{kid}")
    assert revoked.status_code == 204
    client = rig.registry.snapshot.clients[client_id]
    assert client.keys == ()
    assert client.tokens_valid_from is not None
    assert (await rig.call("DELETE", f"/v1/clients/{client_id}/keys/{kid}")).status_code == 404
    back = await rig.call("POST", f"/v1/clients/{client_id}/keys", json={"alg": alg, "jwk": jwk})
    assert back.json()["code"] == "state-conflict", "a revoked key stays revoked"


def _off_curve() -> dict[str, Any]:
    return {**ec_jwk(), "x": b64(b"\1" * 32), "y": b64(b"\2" * 32)}


@pytest.mark.parametrize(
    "document",
    [
        {"alg": "ES256", "jwk": {**ec_jwk(), "d": b64(b"\1" * 32)}},
        {"alg": "ES256", "jwk": ed_jwk()},
        {"alg": "EdDSA", "jwk": ec_jwk()},
        {"alg": "ES256", "jwk": _off_curve()},
        {"alg": "ES256", "jwk": {**ec_jwk(), "x": "AAAA"}},
        {"alg": "ES256", "jwk": {**ec_jwk(), "x": 7}},
        {"alg": "HS256", "jwk": {"kty": "oct", "k": "AAAA"}},
        {"alg": "ES256", "jwk": ec_jwk(), "kid": "../../key"},
        {"alg": "ES256", "jwk": ec_jwk(), "kid": "a' OR 1=1"},
        {"alg": "ES256", "jwk": ec_jwk(), "valid_from": "2030-01-01T00:00:00Z", "valid_to": "2029-01-01T00:00:00Z"},
        {"alg": "ES256", "jwk": ec_jwk(), "valid_to": "2030-01-01T00:00:00"},
    ],
)
async def test_keys_that_are_refused(rig: Rig, document: dict[str, Any]) -> None:
    await rig.call("PUT", "/v1/clients/unkeyed", json=client_document("H41", "exchange", secret="none"))
    found = await rig.call("POST", "/v1/clients/unkeyed/keys", json=document)
    assert found.status_code == 422
    assert rig.registry.snapshot.clients["unkeyed"].keys == ()


@pytest.mark.parametrize("client_id", ["..%2Fx", "a..b", "A-b", "x%E2%80%8By", "-x", "x" * 65, "%C3%A9"])
async def test_odd_ids_are_refused(rig: Rig, client_id: str) -> None:
    for method, path in (("PUT", ""), ("POST", "/keys")):
        body = client_document("H41", "exchange") if method == "PUT" else {"alg": "ES256", "jwk": ec_jwk()}
        found = await rig.call(method, f"/v1/clients/{client_id}{path}", json=body)
        assert (found.status_code, found.json()["code"]) == (422, "invalid-identifier")
