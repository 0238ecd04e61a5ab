"""Who is calling, for FastAPI's routes: `caller: Annotated[Caller, Depends(requires("registry"))]`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from fastapi import Security
from fastapi.security import OAuth2
from starlette.requests import Request

from ngsp.api.parts import parts
from ngsp.api.strict import AUTHENTICATES, single_header
from ngsp.errors import ScopeMissing
from ngsp.identity.model import Caller
from ngsp.registry.model import SCOPES, Scope
from ngsp.text import Text

__all__ = ["Caller", "requires"]

_SCOPE_TEXTS: dict[str, str] = {
    "exchange": "Gọi dịch vụ / call services",
    "adapter": "Đăng ký và phục vụ / register and serve",
    "registry": "Cơ quan, hệ thống, thỏa thuận / members, clients, agreements",
    "operator": "Vận hành / read the log, act on quarantine",
    "auditor": "Kiểm toán / read the log and proofs only",
    "citizen": "Sổ cái của công dân / own ledger",
}
# Tells the interface description what is asked for; the check itself is `_authenticate`.
_scheme = OAuth2(
    flows={"clientCredentials": {"tokenUrl": "/oauth2/token", "scopes": _SCOPE_TEXTS}},
    scheme_name="oauth2",
    auto_error=False,
)


def requires(*scopes: Scope) -> Callable[..., Awaitable[Caller]]:
    """A dependency that gives the `Caller`; any one of `scopes` suffices, none given: any authenticated client.

    Raises `Unauthenticated` (401) or `ScopeMissing` (403). `StrictRoute` runs it before it reads the body.
    """
    unknown = set(scopes) - set(SCOPES)
    if unknown:
        raise ValueError(f"no such scopes: {sorted(unknown)}")
    wanted = frozenset(scopes)

    async def check(request: Request) -> Caller:
        caller = await _authenticate(request)
        if wanted and not caller.has_any(wanted):
            raise ScopeMissing(
                Text("Cần một trong các quyền: {scopes}.", "One of these scopes is needed: {scopes}.").format(
                    scopes=", ".join(sorted(wanted))
                ),
                reason="scope missing",
            )
        return caller

    async def dependency(request: Request, _token: str | None = Security(_scheme, scopes=list(scopes))) -> Caller:
        return await check(request)

    setattr(dependency, AUTHENTICATES, check)
    return dependency


async def _authenticate(request: Request) -> Caller:
    """Once for each request: `request.state.caller` keeps the answer."""
    known = getattr(request.state, "caller", None)
    if isinstance(known, Caller):
        return known
    held = parts(request)
    authorization = single_header(request, "authorization")
    caller = await held.tokens.authenticate_fresh(authorization, held.registry.snapshot, time.time())
    request.state.caller = caller
    return caller
