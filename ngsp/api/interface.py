"""The whole gateway as one OpenAPI 3.1 document: what FastAPI knows, and what only this project knows of itself."""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from ngsp.api.examples import EXAMPLES
from ngsp.api.front import PREFIX
from ngsp.api.strict import PROBLEMS
from ngsp.registry.openapi import exchange_operation
from ngsp.registry.problem_responses import PROBLEM_SCHEMA, problem_references, problem_responses

CALL = f"{PREFIX}{{provider}}/{{service}}/{{version}}"
_TITLE = "NGSP – trục tích hợp, chia sẻ dữ liệu / data-exchange bus"
_DESCRIPTION = """Gọi dịch vụ, đăng ký và vận hành. Mọi lỗi là `application/problem+json` (RFC 9457); `Accept-Language`
chọn tiếng Việt (mặc định) hoặc tiếng Anh; danh sách phân trang bằng `limit` và `cursor`.

Calling services, registering, operating. Every error is `application/problem+json` (RFC 9457); `Accept-Language` picks
Vietnamese (the default) or English; lists are paged by `limit` and `cursor`.
"""
_TAGS = {
    "oauth": "Mã truy cập / Access tokens",
    "exchange": "Gọi dịch vụ / Calling services",
    "catalogue": "Danh mục dịch vụ / The catalogue of services",
    "transactions": "Giao dịch / What happened",
    "registry": "Cơ quan, hệ thống, bộ kết nối, thỏa thuận / Members, clients, adapters, agreements",
    "compatible": "Cho phần mềm đã viết cho NGSP, LGSP: `/token` và các địa chỉ trong `/v1/compatible-routes`, bằng mã "
    "truy cập hoặc tiêu đề `lgspaccesstoken`; lỗi theo khuôn của tuyến, luôn có `Ngsp-Transaction`. / For software "
    "written for existing platforms: `/token` and the addresses that `/v1/compatible-routes` lists, by a token or the "
    "header `lgspaccesstoken`; errors in the shape of the route, always with `Ngsp-Transaction`.",
    "events": "Sự kiện và đăng ký nhận / Events and subscriptions",
    "operating": "Vận hành / Operating",
    "operations": "Tình trạng / Health and figures",
    "errors": "Giải thích mã lỗi / Error codes explained",
}
_LANGUAGE = {
    "name": "Accept-Language",
    "in": "header",
    "required": False,
    "description": "Ngôn ngữ của lời văn / Language of the texts",
    "schema": {"type": "string", "examples": ["vi", "en"]},
}
_ETAG = {
    "description": "Phiên bản, dùng cho If-Match / The version, for If-Match",
    "schema": {"type": "string", "pattern": '^"[1-9][0-9]*"$'},
}
_HEADER_NAMES = {
    name.lower(): name for name in ("Accept-Language", "If-Match", "If-None-Match", "Last-Event-ID", "Prefer")
}
_OAUTH_ERROR = {
    "type": "object",
    "description": "RFC 6749 §5.2",
    "required": ["error"],
    "properties": {
        "error": {"enum": ["invalid_request", "invalid_client", "unsupported_grant_type", "invalid_scope"]},
        "error_description": {"type": "string"},
        "error_uri": {"type": "string", "format": "uri-reference"},
    },
}


def interface(app: FastAPI) -> dict[str, Any]:
    """The document. The call, which is plain ASGI, is added to what FastAPI's routes say of themselves."""
    made = get_openapi(
        title=_TITLE,
        version=app.version,
        description=_DESCRIPTION,
        openapi_version="3.1.0",
        routes=app.routes,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        servers=[{"url": "/"}],
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
    )
    for path, item in made["paths"].items():
        versioned = any(_takes(operation, "If-Match") for operation in item.values())
        for method, operation in item.items():
            operation["operationId"] = _name(path, method, operation["operationId"])
            _word(operation)
            _parameters(operation)
            _responses(path, method, operation, versioned)
    made["paths"].setdefault(CALL, {})["post"] = exchange_operation()
    _components(made["components"])
    return made


def _name(path: str, method: str, id: str) -> str:
    """The name of the route's function: FastAPI makes the id of it, the path and the method."""
    return id.removesuffix(re.sub(r"\W", "_", f"{path}_{method}")).replace("_", "-")


def _takes(operation: dict[str, Any], header_name: str) -> bool:
    parameters = operation.get("parameters", ())
    return any(parameter.get("name", "").lower() == header_name.lower() for parameter in parameters)


def _word(operation: dict[str, Any]) -> None:
    """The first paragraph of a route's docstring is its summary."""
    summary, _, rest = operation.pop("description", operation["summary"]).partition("\n\n")
    operation["summary"] = " ".join(summary.split())
    if rest:
        operation["description"] = " ".join(rest.split())


def _parameters(operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", ()):
        parameter["name"] = _HEADER_NAMES.get(parameter["name"], parameter["name"])
        if parameter["schema"].get("default") == "":
            del parameter["schema"]["default"]  # an argument that is left out; empty, it may be off its pattern
    if not _takes(operation, "Accept-Language"):
        operation.setdefault("parameters", []).append(_LANGUAGE)


def _responses(path: str, method: str, operation: dict[str, Any], versioned: bool) -> None:
    """Refusals that any such operation may answer with, and those that its route names in `PROBLEMS`."""
    responses: dict[str, Any] = operation["responses"]
    responses.pop("422", None)  # FastAPI's own, which is not what this gateway answers
    statuses = {400, 500, *operation.pop(PROBLEMS, ())}
    security: list[dict[str, list[str]]] = operation.get("security", [])
    if security:
        statuses |= {401, 503} | ({403} if any(security[0].values()) else set())
    if "{" in path:
        statuses |= {404, 422}
    if "requestBody" in operation:
        statuses |= {413, 415, 422}
    if security and method != "get":
        statuses |= {409} | ({412} if _takes(operation, "If-Match") else set())
    if method == "post" and "oauth" in operation["tags"]:  # a token endpoint
        operation["security"] = [{"client": []}, {}]
        refused = {"application/json": {"schema": {"$ref": "#/components/schemas/OAuthError"}}}
        for status in ("400", "401", "413", "415"):
            responses[status] = {"description": "RFC 6749 §5.2", "content": refused}
        statuses |= {429, 503}
    operation["responses"] = responses | {
        status: reference for status, reference in problem_references(*statuses).items() if status not in responses
    }
    if versioned:
        for status in {"200", "201", "204"} & responses.keys():
            responses[status].setdefault("headers", {})["ETag"] = _ETAG


def _components(components: dict[str, Any]) -> None:
    schemas: dict[str, Any] = components["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas |= {"OAuthError": _OAUTH_ERROR, "Problem": PROBLEM_SCHEMA}
    for name, example in EXAMPLES.items():
        schemas[name]["examples"] = [example]
    components["responses"] = problem_responses("both")
    components["securitySchemes"]["client"] = {
        "type": "http",
        "scheme": "basic",
        "description": "client_secret_basic (RFC 6749 §2.3.1)",
    }
