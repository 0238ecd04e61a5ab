"""`/docs` and `/openapi.json`: the complete reference, drawn by files of our own (no outside host, strict policy)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from ngsp.api.interface import interface
from ngsp.errors import NotFound
from ngsp.text import language_of

STATIC = Path(__file__).parent / "static" / "swagger-ui"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/docs/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script></body></html>
"""

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def page(request: Request) -> HTMLResponse:
    """The interface's description, for reading and trying."""
    language = language_of(request.headers.get("accept-language"))
    title = "NGSP – Giao diện lập trình" if language == "vi" else "NGSP – programming interface"
    return HTMLResponse(
        _PAGE.format(language=language, title=title),
        headers={"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"},
    )


@cache
def _file(name: str) -> bytes:
    return (STATIC / name).read_bytes()


@router.get("/docs/{name}")
async def file(name: str) -> Response:
    if name not in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js"):
        raise NotFound
    headers = {"Cache-Control": "public, max-age=3600", "X-Content-Type-Options": "nosniff"}
    return Response(_file(name), media_type=_TYPES[Path(name).suffix], headers=headers)


@router.get("/openapi.json")
async def openapi(request: Request) -> JSONResponse:
    return JSONResponse(document(request.app))


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the whole gateway, made once."""
    if app.openapi_schema is None:
        app.openapi_schema = interface(app)
    return app.openapi_schema
