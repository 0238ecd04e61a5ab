"""Routes that read strictly. Every router of the JSON interface is made with them:

    router = APIRouter(prefix="/v1/members", route_class=StrictRoute)

    @router.put("/{code}")
    async def put_member(code: str, document: MemberDocument, caller: Registrar) -> …

with `Registrar = Annotated[Caller, Depends(requires("registry"))]`.

Such a route, in this order and before its function runs:

1. authenticates: a dependency made by `requires` (`ngsp/api/caller.py`) runs before anything of the body is read;
2. refuses an address that is not UTF-8 or holds control characters, query parameters that the route does not declare
   (as arguments or under `openapi_extra["parameters"]`), and a repeated one that is not a list (400);
3. reads the body, where the route declares one: `Content-Type: application/json` (415), no content coding (415), at
   most `max_body_bytes` (413, checked while reading), and `strictjson.parse` (400, 413, 422).

`await request.json()` and `await request.body()` of a function that takes the `Request` itself obey the same rules.
For another limit: `class Large(StrictRoute): max_body_bytes = 5_000_000`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from functools import cached_property
from types import UnionType
from typing import Any, ClassVar, Union, get_args, get_origin
from urllib.parse import unquote_to_bytes

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope

from ngsp import strictjson
from ngsp.api.validation import unknown_parameter
from ngsp.errors import BodyTooLarge, Fault, MalformedHeader, MalformedParameter, SchemaMismatch, UnsupportedType
from ngsp.text import Text

MAX_BODY_BYTES = 1_048_576
PROBLEMS = "x-ngsp-problems"
"""In a route's `openapi_extra`: statuses of refusals beyond those that any such route may answer with."""

Authenticate = Callable[[Request], Coroutine[Any, Any, Any]]
AUTHENTICATES = "ngsp_authenticates"
"""Attribute by which a dependency says that it authenticates; its value is the function to run first."""


class StrictRequest(Request):
    """A request whose body is bounded while it is read and whose JSON is strict."""

    def __init__(self, scope: Scope, receive: Receive, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        super().__init__(scope, receive)
        self._max_body_bytes = max_body_bytes

    async def body(self) -> bytes:
        """The whole body. `BodyTooLarge` as soon as it is; `UnsupportedType` where it is encoded."""
        if not hasattr(self, "_body"):
            check_no_coding(self)
            self._body = await read_body(self, self._max_body_bytes)
        return self._body

    async def json(self) -> Any:
        """The strict JSON value of the body; see `ngsp/strictjson.py` for the refusals."""
        if not hasattr(self, "_json"):
            check_content_type(self, "application/json")
            body = await self.body()
            self._json = strictjson.parse(body)
            if b"\\u0000" in body:
                _check_no_nul(self._json)
        return self._json


async def read_body(request: Request, max_body_bytes: int) -> bytes:
    """At most `max_body_bytes`; `BodyTooLarge` by the announced length, else as soon as more has come."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 12 or int(announced) > max_body_bytes):
        raise BodyTooLarge(reason="announced too large")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_body_bytes:
            raise BodyTooLarge(reason="too large while reading")
        chunks.append(chunk)
    return b"".join(chunks)


def check_content_type(request: Request, wanted: str) -> None:
    """`UnsupportedType` unless there is one Content-Type, `wanted`, with no parameter but charset=utf-8."""
    sent = request.headers.getlist("content-type")
    kind, _, parameter = (sent[0] if len(sent) == 1 else "").partition(";")
    charset = parameter.replace(" ", "").replace("\t", "").lower()
    if kind.strip().lower() != wanted or charset not in ("", "charset=utf-8", 'charset="utf-8"'):
        raise UnsupportedType(reason="content type missing, repeated or another")


def check_no_coding(request: Request) -> None:
    """`UnsupportedType` where a content coding is announced: requests are not decompressed."""
    if any(sent.strip().lower() not in ("", "identity") for sent in request.headers.getlist("content-encoding")):
        raise UnsupportedType(
            Text("Không nhận nội dung nén (Content-Encoding).", "Content codings are not accepted on requests."),
            reason="content coding",
        )


def _check_no_nul(value: Any) -> None:
    """PostgreSQL has no U+0000 in text: refused here with its reason, not there with an error of ours."""
    if _has_nul(value):
        detail = Text("Không dùng được ký tự U+0000.", "The character U+0000 cannot be used.")
        raise SchemaMismatch(faults=(Fault("", detail),), reason="U+0000 in a text")


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(name) or _has_nul(below) for name, below in value.items())
    return isinstance(value, list) and any(_has_nul(item) for item in value)


class StrictRoute(APIRoute):
    """See the module."""

    max_body_bytes: ClassVar[int] = MAX_BODY_BYTES

    @cached_property
    def known_names(self) -> frozenset[str]:
        """Every property name that the body's models declare: only these may stand in a fault's pointer."""
        if self.body_field is None:
            return frozenset()
        schema = TypeAdapter[Any](self.body_field.field_info.annotation or Any).json_schema()
        return frozenset(_property_names(schema)) | {self.body_field.alias}

    @cached_property
    def _parameters(self) -> dict[str, bool]:
        """Declared query parameters → whether each may be repeated."""
        found = dict(_query_parameters(self.dependant))
        for parameter in (self.openapi_extra or {}).get("parameters", ()):
            if parameter.get("in") == "query":
                found[parameter["name"]] = parameter.get("schema", {}).get("type") == "array"
        return found

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        authenticators = list(_authenticators(self.dependant))

        async def strict(request: Request) -> Response:
            checked = StrictRequest(request.scope, request.receive, self.max_body_bytes)
            for authenticate in authenticators:
                await authenticate(checked)
            self._check_address(checked)
            if self.body_field is not None and (self.body_field.field_info.is_required() or await checked.body()):
                await checked.json()
            return await handle(checked)

        return strict

    def _check_address(self, request: Request) -> None:
        raw: bytes = request.scope.get("query_string", b"")
        if raw:
            _check_text(raw.replace(b"+", b" "))
        _check_text(request.scope.get("raw_path") or request.url.path.encode())
        if not raw:
            return
        counted = Counter(name for name, _ in request.query_params.multi_items())
        for name, times in counted.items():
            repeatable = self._parameters.get(name)
            if repeatable is None:
                raise unknown_parameter()
            if times > 1 and not repeatable:
                raise MalformedParameter(
                    Text(f"Tham số {name} bị lặp.", f"Parameter {name} is repeated."), reason=f"{name} repeated"
                )


_CONTROL = re.compile("[\x00-\x1f\x7f]")


def _check_text(encoded: bytes) -> None:
    try:
        text = unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        text = "\0"
    if _CONTROL.search(text):
        raise MalformedParameter(
            Text(
                "Địa chỉ phải là UTF-8, không có ký tự điều khiển.",
                "The address must be UTF-8 without control characters.",
            ),
            reason="address not UTF-8 or with control characters",
        )


def _authenticators(dependant: Dependant) -> Iterator[Authenticate]:
    authenticate = getattr(dependant.call, AUTHENTICATES, None)
    if authenticate is not None:
        yield authenticate
    for below in dependant.dependencies:
        yield from _authenticators(below)


def _query_parameters(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    for field in dependant.query_params:
        annotation = field.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            for name, below in annotation.model_fields.items():
                yield below.alias or name, _repeatable(below.annotation)
        else:
            yield field.alias, _repeatable(annotation)
    for below_ in dependant.dependencies:
        yield from _query_parameters(below_)


def _repeatable(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return any(_repeatable(kind) for kind in get_args(annotation))
    return origin in (list, set, tuple, frozenset)


def _property_names(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield from schema["properties"]
        for below in schema.values():
            yield from _property_names(below)
    elif isinstance(schema, list):
        for below in schema:
            yield from _property_names(below)


def single_header(request: Request, name: str) -> str | None:
    """The value of a header that may be there once; `MalformedHeader` where it is repeated."""
    sent = request.headers.getlist(name)
    if len(sent) > 1:
        raise MalformedHeader(Text(f"Tiêu đề {name} bị lặp.", f"Header {name} is repeated."), reason=f"{name} repeated")
    return sent[0] if sent else None
