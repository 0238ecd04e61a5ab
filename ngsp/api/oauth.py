"""The token endpoint (RFC 6749 §4.4, client credentials), its metadata (RFC 8414) and its keys (RFC 7517).

`/token` beside it takes what systems send that were written for existing platforms (`docs/compatible.md`).

Errors here are those of RFC 6749 §5.2, since OAuth libraries read them; what has no place there (too many attempts,
the database away) is a problem document like everywhere else.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson
import structlog
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ngsp.api.address import client_address, throttle_group
from ngsp.api.parts import Parts, parts
from ngsp.api.strict import check_content_type, check_no_coding, read_body
from ngsp.errors import BodyTooLarge, MalformedParameter, Unauthenticated, UnsupportedType
from ngsp.identity import partners
from ngsp.identity.credentials import (
    ASSERTION_TYPE,
    InvalidClient,
    Presented,
    Proved,
    SecretPresented,
    read_assertion,
    read_basic,
)
from ngsp.registry.model import SCOPES

logger = structlog.get_logger(__name__)

router = APIRouter(tags=["oauth"])

MAX_FORM_BYTES = 16_384
MAX_FORM_FIELDS = 50
FORM = "application/x-www-form-urlencoded"
TOKEN_PATH = "/oauth2/token"  # noqa: S105 - an address
COMPATIBLE_TOKEN_PATH = "/token"  # noqa: S105 - an address
JWKS_PATH = "/.well-known/jwks.json"
METADATA_PATH = "/.well-known/oauth-authorization-server"

_PERCENT = re.compile(rb"(?:[^%]|%[0-9A-Fa-f]{2})*")
# RFC 6749 §3.3: at least one token, one space between two.
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")
_NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}

_DESCRIPTIONS = {
    "invalid_request": "The request is malformed, repeats a parameter, or authenticates in more than one way.",
    "invalid_client": "The client could not be authenticated.",
    "unsupported_grant_type": "The only grant type is client_credentials.",
    "invalid_scope": "The scope is malformed or more than the client was given.",
}


class _Refused(Exception):
    """An error of RFC 6749 §5.2. `reason` is for the log."""

    def __init__(self, error: str, reason: str, status: int = 400) -> None:
        super().__init__(error)
        self.error, self.reason, self.status = error, reason, status


_BODY_DESCRIPTION: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["grant_type"],
                    "properties": {
                        "grant_type": {"const": "client_credentials"},
                        "scope": {"type": "string", "examples": ["exchange"]},
                        "client_id": {"type": "string"},
                        "client_assertion_type": {"const": ASSERTION_TYPE},
                        "client_assertion": {"type": "string", "maxLength": 4096},
                    },
                }
            }
        },
    },
    "responses": {
        "200": {
            "description": "Mã truy cập / an access token",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["access_token", "token_type", "expires_in", "scope"],
                        "properties": {
                            "access_token": {"type": "string"},
                            "token_type": {"const": "Bearer"},
                            "expires_in": {"type": "integer"},
                            "scope": {"type": "string"},
                        },
                    }
                }
            },
        },
        "400": {"description": "RFC 6749 §5.2"},
        "401": {"description": "RFC 6749 §5.2, invalid_client"},
    },
}

_COMPATIBLE_DESCRIPTION: dict[str, Any] = {
    "parameters": [
        {
            "name": partners.HEADER,
            "in": "header",
            "required": False,
            "description": "base64(JSON): AccessKey, SecretKey, AppName, PartnerCode, PartnerCodeCus",
            "schema": {"type": "string", "maxLength": partners.LONGEST_HEADER_BYTES},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["grant_type"],
                    "properties": {
                        "grant_type": {"const": "client_credentials"},
                        "scope": {"const": "exchange"},
                        "client_id": {"type": "string"},
                        "client_secret": {"type": "string"},
                    },
                }
            }
        },
    },
    "responses": _BODY_DESCRIPTION["responses"],
}


@router.post(TOKEN_PATH, openapi_extra=_BODY_DESCRIPTION)
async def token(request: Request) -> Response:
    """Cấp mã truy cập cho hệ thống của cơ quan. / Issues an access token to a member's system."""
    return await _token(request, _presented, frozenset(SCOPES))


@router.post(COMPATIBLE_TOKEN_PATH, openapi_extra=_COMPATIBLE_DESCRIPTION, tags=["compatible"])
async def compatible_token(request: Request) -> Response:
    """Cấp mã truy cập, như các nền tảng đã có. / Issues an access token as existing platforms do.

    Cho hệ thống đã viết cho NGSP, LGSP; mã chỉ dùng để gọi dịch vụ. / For systems written for NGSP or an LGSP; the
    token is good for calling services only.
    """
    return await _token(request, _presented_compatibly, partners.SCOPES)


async def _token(
    request: Request,
    present: Callable[[Request, dict[str, str]], tuple[Presented, tuple[str, ...]]],
    most: frozenset[str],
) -> Response:
    """`present`: how the client proves itself, and the units it says it is; `most`: scopes the token may have."""
    held = parts(request)
    now_s = time.time()
    address = client_address(request.scope, held.settings.trusted_proxies)
    known_client = ""
    try:
        form = await _read_form(request)
        presented, units = present(request, form)
        snapshot = held.registry.snapshot
        known_client = presented.client_id if presented.client_id in snapshot.clients else ""
        proved = await held.tokens.clients.prove(presented, snapshot, throttle_group(address), now_s)
        if units and not partners.are_of(units, snapshot.members.get(proved.client.member)):
            raise InvalidClient("PartnerCode is not of the client's member")
        issued = held.tokens.issue(proved.client, _scopes(form, proved, most), proved.cred, now_s)
    except InvalidClient as error:
        return _answer(_Refused("invalid_client", error.reason, 401), held, known_client, address)
    except _Refused as refused:
        return _answer(refused, held, known_client, address)
    logger.info("token.issued", client=proved.client.id, scope=issued.scope, credential=proved.cred.partition(":")[0])
    body = {
        "access_token": issued.access_token,
        "token_type": "Bearer",
        "expires_in": issued.expires_in_s,
        "scope": issued.scope,
    }
    return _json(body, 200, _NO_STORE)


def _answer(refused: _Refused, held: Parts, known_client: str, address: str) -> Response:
    if known_client:
        # The id is the registry's, never what was sent: a secret in its place must not reach the log.
        said = {"error": refused.error, "reason": refused.reason, "client": known_client, "address": address}
        logger.info("token.refused", **said)
    else:
        code = Unauthenticated.code if refused.error == "invalid_client" else MalformedParameter.code
        held.refusals.count(code, address)
    headers = dict(_NO_STORE)
    if refused.status == 401:
        headers["www-authenticate"] = 'Basic realm="ngsp", charset="UTF-8"'
    body = {
        "error": refused.error,
        "error_description": _DESCRIPTIONS[refused.error],
        "error_uri": "/errors/unauthenticated" if refused.error == "invalid_client" else "/docs",
    }
    return _json(body, refused.status, headers)


async def _read_form(request: Request) -> dict[str, str]:
    """The parameters, each at most once; those without a value count as absent (RFC 6749 §3.2)."""
    if request.scope.get("query_string"):
        raise _Refused("invalid_request", "query string on the token endpoint")
    try:
        check_content_type(request, FORM)
        check_no_coding(request)
        body = await read_body(request, MAX_FORM_BYTES)
    except (UnsupportedType, BodyTooLarge) as error:
        raise _Refused("invalid_request", error.reason, error.status) from None
    form: dict[str, str] = {}
    fields = body.split(b"&") if body else []
    if len(fields) > MAX_FORM_FIELDS:
        raise _Refused("invalid_request", "too many parameters")
    for field in fields:
        name, _, value = field.partition(b"=")
        key = _decoded(name)
        if key in form:
            raise _Refused("invalid_request", "a parameter is repeated")
        form[key] = _decoded(value)
    return {name: value for name, value in form.items() if value}


def _decoded(part: bytes) -> str:
    if not _PERCENT.fullmatch(part):
        raise _Refused("invalid_request", "malformed percent-encoding")
    try:
        return unquote_to_bytes(part.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        raise _Refused("invalid_request", "not UTF-8") from None


def _presented(request: Request, form: dict[str, str]) -> tuple[Presented, tuple[str, ...]]:
    """The one way in which the client authenticates itself."""
    authorization = request.headers.getlist("authorization")
    assertion = form.get("client_assertion")
    _check_grant(form, len(authorization) + (assertion is not None) + ("client_secret" in form))
    if (assertion is None) != ("client_assertion_type" not in form):
        raise _Refused("invalid_request", "client_assertion and its type come together")
    if assertion is not None:
        if form["client_assertion_type"] != ASSERTION_TYPE:
            raise InvalidClient("another client_assertion_type")
        presented: Presented = read_assertion(assertion)
    elif authorization:
        presented = read_basic(authorization[0])
    else:
        raise InvalidClient("no client authentication that is supported")
    _check_client_id(form, presented)
    return presented, ()


def _presented_compatibly(request: Request, form: dict[str, str]) -> tuple[Presented, tuple[str, ...]]:
    """By `client_secret_basic`, by `client_secret_post` (here alone), or by the header `lgspaccesstoken`."""
    authorization = request.headers.getlist("authorization")
    partner = request.headers.getlist(partners.HEADER)
    _check_grant(form, len(authorization) + len(partner) + ("client_secret" in form))
    if "client_assertion" in form or "client_assertion_type" in form:
        raise _Refused("invalid_request", "assertions belong to the other endpoint")
    units: tuple[str, ...] = ()
    if partner:
        read = partners.read_partner(partner[0].encode("latin-1"))
        presented, units = read.secret, read.units
    elif authorization:
        presented = read_basic(authorization[0])
    elif "client_secret" in form and "client_id" in form:
        presented = SecretPresented(form["client_id"], form["client_secret"])
    else:
        raise InvalidClient("no client authentication that is supported")
    _check_client_id(form, presented)
    return presented, units


def _check_grant(form: dict[str, str], ways: int) -> None:
    if ways > 1:
        raise _Refused("invalid_request", "more than one client authentication")
    grant_type = form.get("grant_type")
    if grant_type is None:
        raise _Refused("invalid_request", "no grant_type")
    if grant_type != "client_credentials":
        raise _Refused("unsupported_grant_type", "another grant type")


def _check_client_id(form: dict[str, str], presented: Presented) -> None:
    if form.get("client_id", presented.client_id) != presented.client_id:
        raise _Refused("invalid_request", "client_id is not the authenticated client")


def _scopes(form: dict[str, str], proved: Proved, most: frozenset[str]) -> frozenset[str]:
    """What is asked for, within what the client has and `most`; all of that where nothing is asked for."""
    has = proved.client.scopes & most
    asked = form.get("scope")
    if asked is not None and not _SCOPE.fullmatch(asked):
        raise _Refused("invalid_scope", "malformed scope")
    scopes = has if asked is None else frozenset(asked.split(" "))
    if not scopes or not scopes <= has:
        raise _Refused("invalid_scope", "more than the client was given")
    return scopes


@router.get(METADATA_PATH)
async def metadata(request: Request) -> Response:
    """Mô tả máy chủ cấp mã truy cập. / Authorization server metadata."""
    issuer = parts(request).settings.issuer
    document = {
        "issuer": issuer,
        "token_endpoint": issuer + TOKEN_PATH,
        "jwks_uri": issuer + JWKS_PATH,
        "scopes_supported": list(SCOPES),
        "response_types_supported": [],
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["ES256", "EdDSA"],
        "service_documentation": f"{issuer}/docs",
        "ui_locales_supported": ["vi", "en"],
    }
    return _json(document, 200, {"cache-control": "public, max-age=300"})


@router.get(JWKS_PATH)
async def jwks(request: Request) -> Response:
    """Khóa công khai kiểm tra mã truy cập. / Public keys that verify access tokens."""
    keys = parts(request).tokens.keys.jwks(time.time())
    # Far shorter than the time a new key is published ahead of its first signature.
    return _json(keys, 200, {"cache-control": "public, max-age=60"})


def _json(document: dict[str, Any], status: int, headers: dict[str, str]) -> Response:
    return Response(orjson.dumps(document), status, headers, "application/json")
