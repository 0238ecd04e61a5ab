"""`/errors` and `/errors/{code}`: what each error means, for people (HTML) and for programs (JSON), in both languages.

The pages are made from the error tree; `type` in a problem document leads here. No token is needed.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ngsp.api.problems import language_from
from ngsp.errors import ERRORS, NgspError, NotAcceptable, NotFound
from ngsp.text import LANGUAGES, Language, Text

router = APIRouter(tags=["errors"])

HTML = "text/html"
JSON = "application/json"

_TITLE = Text("Các mã lỗi của NGSP", "Error codes of NGSP")
_LABELS = {
    "status": Text("Trạng thái HTTP", "HTTP status"),
    "cause": Text("Nguyên nhân", "Cause"),
    "remedy": Text("Cách khắc phục", "What to do"),
    "all": Text("Tất cả các mã lỗi", "All error codes"),
    "code": Text("Mã", "Code"),
    "title": Text("Ý nghĩa", "Meaning"),
}
_LANGUAGE_NAMES = {"vi": "Tiếng Việt", "en": "English"}

_STYLE = """
:root{color-scheme:light dark}
body{font:1rem/1.6 system-ui,sans-serif;max-width:46rem;margin:0 auto;padding:1.5rem}
h1{font-size:1.5rem;line-height:1.3;margin:0 0 .5rem}
code{font-size:.95em}
dt{font-weight:600;margin-top:1rem}
dd{margin:0}
section+section{margin-top:2rem;padding-top:1.5rem;border-top:1px solid}
table{border-collapse:collapse;width:100%}
caption{text-align:left;font-weight:600;padding:.5rem 0}
th,td{text-align:left;vertical-align:top;padding:.4rem .75rem .4rem 0;border-top:1px solid}
a:focus-visible{outline:3px solid;outline-offset:2px}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "cache-control": "public, max-age=3600",
    "vary": "accept, accept-language",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_CONTENT: dict[int | str, dict[str, Any]] = {200: {"content": {HTML: {}, JSON: {}}, "description": "HTML / JSON"}}


@router.get("/errors", responses=_CONTENT)
async def index(request: Request) -> Response:
    """Danh sách mã lỗi. / All error codes."""
    kind = _kind_wanted(request)
    if kind == JSON:
        return _json({"items": [describe(error) for error in in_order()]})
    language = language_from(request.headers)
    return _html(language, _TITLE.in_(language), "".join(_table(each) for each in _languages(language)))


@router.get("/errors/{code}", responses=_CONTENT)
async def explain(request: Request, code: str) -> Response:
    """Giải thích một mã lỗi. / Explains one error code."""
    error = ERRORS.get(code)
    if error is None:
        raise NotFound(reason="no such error code")
    kind = _kind_wanted(request)
    if kind == JSON:
        return _json(describe(error))
    language = language_from(request.headers)
    sections = "".join(_section(error, each) for each in _languages(language))
    back = f'<p><a href="/errors">{escape(_LABELS["all"].in_(language))}</a></p>'
    return _html(language, f"{error.code}: {error.text().title.in_(language)}", sections + back)


def in_order() -> list[type[NgspError]]:
    """All errors, by status and code."""
    return sorted(ERRORS.values(), key=lambda error: (error.status, error.code))


def describe(error: type[NgspError]) -> dict[str, Any]:
    """One error for programs, in both languages."""
    text = error.text()
    return {
        "type": f"/errors/{error.code}",
        "code": error.code,
        "status": error.status,
        **{
            name: {language: value.in_(language) for language in LANGUAGES}
            for name, value in (("title", text.title), ("cause", text.cause), ("remedy", text.remedy))
        },
    }


def _kind_wanted(request: Request) -> str:
    """HTML where it is asked for by name and not less than JSON; JSON otherwise. `NotAcceptable` for neither."""
    accept = ",".join(request.headers.getlist("accept"))
    if not accept:
        return JSON
    weights = dict(_weight(part) for part in accept[:1000].split(","))
    html = weights.get(HTML, 0.0)
    json = max(weights.get(kind, 0.0) for kind in (JSON, "application/problem+json"))
    if html > 0 and html >= json:
        return HTML
    if json > 0 or max(weights.get("*/*", 0.0), weights.get("application/*", 0.0)) > 0:
        return JSON
    if weights.get("text/*", 0.0) > 0:
        return HTML
    raise NotAcceptable(reason="neither HTML nor JSON")


def _weight(part: str) -> tuple[str, float]:
    kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return kind, float(parameter[2:])
            except ValueError:
                return kind, 0.0
    return kind, 1.0


def _languages(first: Language) -> list[Language]:
    return [first, *(other for other in LANGUAGES if other != first)]


def _section(error: type[NgspError], language: Language) -> str:
    text = error.text()
    facts = (
        (_LABELS["code"], f"<code>{escape(error.code)}</code>"),
        (_LABELS["status"], f"{error.status} {escape(HTTPStatus(error.status).phrase)}"),
        (_LABELS["cause"], escape(text.cause.in_(language))),
        (_LABELS["remedy"], escape(text.remedy.in_(language))),
    )
    listed = "".join(f"<dt>{escape(label.in_(language))}</dt><dd>{value}</dd>" for label, value in facts)
    heading = escape(text.title.in_(language))
    return f'<section lang="{language}"><h2>{heading}</h2><dl>{listed}</dl></section>'


def _table(language: Language) -> str:
    head = "".join(
        f'<th scope="col">{escape(_LABELS[name].in_(language))}</th>' for name in ("status", "code", "title")
    )
    rows = "".join(
        f'<tr><td>{error.status}</td><td><a href="/errors/{error.code}"><code>{error.code}</code></a></td>'
        f"<td>{escape(error.text().title.in_(language))}</td></tr>"
        for error in in_order()
    )
    caption = f"{_TITLE.in_(language)} ({_LANGUAGE_NAMES[language]})"
    return (
        f'<section lang="{language}"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _html(language: Language, title: str, content: str) -> Response:
    page = (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{content}</main></body></html>"
    )
    headers = {**_HEADERS, "content-security-policy": _POLICY, "content-language": ", ".join(_languages(language))}
    return Response(page, headers=headers, media_type=HTML)


def _json(document: dict[str, Any]) -> Response:
    return Response(orjson.dumps(document), headers=_HEADERS, media_type=JSON)
