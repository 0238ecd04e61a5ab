"""`/livez`, `/readyz` and `/metrics`: for orchestrators, load balancers and Prometheus. No token; no personal data.

A part that is not ready is told by a code and its explanation. What exactly is wrong may name hosts, so it goes to the
log, once for each change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson
import structlog
from fastapi import APIRouter, Request
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import Response

from ngsp.api.parts import parts
from ngsp.errors import ERRORS
from ngsp.text import Text, language_of

RETRY_AFTER_S: Final = 1
NO_STORE: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}

_CODES: Final = {
    "log": "log-unavailable",
    "bus": "bus-unavailable",
    "registry": "registry-stale",
    "draining": "draining",
}
"""The refusal that calls get while the part is not ready."""
_TEXTS: Final = {
    "database-unavailable": Text("Không truy cập được cơ sở dữ liệu", "The database cannot be reached"),
    "not-ready": Text("Thành phần này chưa sẵn sàng", "This part is not ready"),
    **{code: ERRORS[code].text().title for code in _CODES.values()},
}

log = structlog.get_logger(__name__)
router = APIRouter(tags=["operations"])


@router.head("/livez", include_in_schema=False)
@router.get("/livez", responses={200: {"content": {"application/json": {"example": {"live": True}}}}})
async def livez() -> Response:
    """Tiến trình còn hoạt động. / The process answers; says nothing of its parts."""
    return _json(200, {"live": True})


_WELL = dict.fromkeys(_CODES, "ok")
_READY = {"ready": True, "parts": _WELL}
_NOT_READY = {
    "ready": False,
    "parts": {**_WELL, "bus": "bus-unavailable"},
    "reasons": {"bus": _TEXTS["bus-unavailable"].vi},
}


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    responses={
        200: {"content": {"application/json": {"example": _READY}}},
        503: {"description": "Not ready", "content": {"application/json": {"example": _NOT_READY}}},
    },
)
async def readyz(request: Request) -> Response:
    """Cổng sẵn sàng nhận yêu cầu, hoặc thành phần nào chưa sẵn sàng. / Ready for calls, or which part is not."""
    codes = {name: _code(request, name, check) for name, check in parts(request).checks.items()}
    reasons = {name: code for name, code in codes.items() if code != "ok"}
    if not reasons:
        return _json(200, {"ready": True, "parts": codes})
    language = language_of(request.headers.get("accept-language"))
    told = {name: _TEXTS[code].in_(language) for name, code in reasons.items()}
    answer = _json(503, {"ready": False, "parts": codes, "reasons": told})
    answer.headers["retry-after"] = str(RETRY_AFTER_S)
    answer.headers["content-language"] = language
    return answer


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Số đo cho Prometheus. / Figures for Prometheus, in its text form 0.0.4."""
    figures = parts(request).metrics.render()
    return Response(figures, headers={**NO_STORE, "content-type": CONTENT_TYPE_PLAIN_0_0_4})


def _code(request: Request, name: str, check: Callable[[], str]) -> str:
    """`ok` or the code of what is wrong with the part; each change is logged with its exact reason."""
    error: Exception | None = None
    try:
        trouble = check()
    except Exception as failure:  # noqa: BLE001 - a part that cannot say how it is, is not well; it is logged
        trouble, error = "its check failed", failure
    told = _told(request)
    if trouble and name not in told:
        told.add(name)
        log.warning("a part is not ready", what=name, reason=trouble, exc_info=error)
    elif name in told and not trouble:
        told.discard(name)
        log.info("a part is ready again", what=name)
    if not trouble:
        return "ok"
    return _CODES.get(name) or ("database-unavailable" if name == "database" else "not-ready")


def _told(request: Request) -> set[str]:
    """Parts whose trouble stands in the log already."""
    state = request.app.state
    if not hasattr(state, "told_not_ready"):
        state.told_not_ready = set()
    found: set[str] = state.told_not_ready
    return found


def _json(status: int, document: dict[str, Any]) -> Response:
    return Response(orjson.dumps(document), status, headers=NO_STORE, media_type="application/json")
