"""A service declared by its function: what it promises stands in the decorator, its schemas in the type hints.

```python
@adapter.service("one-stop-desk", "v1", title=("Tra cứu bộ phận một cửa", "One-stop desk look-up"))
async def one_stop_desk(asked: Asked) -> Desk: ...
```

The first argument is the payload as a pydantic model or dataclass; a second, if there is one, is the `Request`. With
both schemas in the decorator the function takes the `Request` alone, as under a manifest.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypedDict, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from ngsp.adapter.definition import Refused, Request, Serve
from ngsp.adapter.manifest import ManifestError
from ngsp.adapter.models import mistake
from ngsp.messages import Effect, Mode
from ngsp.registry.manifest_files import DEFAULTS
from ngsp.registry.schemas import subschemas
from ngsp.registry.yamlfiles import Source
from ngsp.text import Text

DEFAULT_DEADLINE_S = 5.0


class Promise(TypedDict, total=False):
    """What a service promises beside its name: as in a manifest, its texts as (Vietnamese, English).

    `title` must be there; without `description` it is the description too.
    """

    title: tuple[str, str]
    description: tuple[str, str]
    mode: Mode
    effect: Effect
    deadline_s: float
    max_body_bytes: int
    request_schema: dict[str, Any]
    reply_schema: dict[str, Any]
    examples: list[dict[str, Any]]
    subjects: list[str]
    officer_required: bool
    order: str
    max_in_work: int


Function = Callable[..., Awaitable[object]]


def typed(name: str, version: str, promise: Promise, function: Function) -> tuple[dict[str, Any], Serve, Source]:
    """The service as a manifest has it, what serves it, and where `function` stands. ManifestError naming that."""
    source = _source(function)
    found: dict[str, Any] = {**DEFAULTS, "deadline_s": DEFAULT_DEADLINE_S, **promise}
    found |= {"service": name, "version": version}
    if "title" not in promise:
        raise _wrong(source, Text("Thiếu title=(tiếng Việt, tiếng Anh).", "Give title=(Vietnamese, English)."))
    found.setdefault("description", found["title"])
    found |= {name: dict(zip(("vi", "en"), found[name], strict=False)) for name in ("title", "description")}
    given = {"request_schema", "reply_schema"} & promise.keys()
    if len(given) == 1:
        raise _wrong(source, Text("Cho cả hai lược đồ, hoặc không lược đồ nào.", "Give both schemas, or neither."))
    if given:
        return found, function, source
    request, reply, wants_request = _hints(function, source)
    found["request_schema"] = _closed(request.json_schema(mode="validation"))
    found["reply_schema"] = _closed(reply.json_schema(mode="serialization"))
    return found, _serving(function, request, reply, wants_request), source


def _serving(function: Function, request: TypeAdapter[Any], reply: TypeAdapter[Any], wants_request: bool) -> Serve:
    async def serve(asked: Request) -> object:
        try:
            payload = request.validate_json(asked.body)
        except ValidationError:
            # Valid by the schema, and still not by the model: a rule that a schema cannot say.
            raise Refused("invalid-request") from None
        answer = await (function(payload, asked) if wants_request else function(payload))
        return reply.dump_json(reply.validate_python(answer), by_alias=True)

    return serve


def _hints(function: Function, source: Source) -> tuple[TypeAdapter[Any], TypeAdapter[Any], bool]:
    """Adapters of the payload's and the answer's type, and whether the function wants the request too."""
    example = "async def look_up(asked: Asked) -> Found"
    needed = Text(
        f"Cần kiểu của tham số và của kết quả, như {example}, hoặc request_schema và reply_schema.",
        f"Needs the types of argument and result, as in {example}, or request_schema and reply_schema.",
    )
    try:
        hints = get_type_hints(function, include_extras=True)
        names = list(inspect.signature(function).parameters)
        payload, *others = [hints[name] for name in names]
        request, reply = TypeAdapter(payload), TypeAdapter(hints["return"])
        request.json_schema(mode="validation")
        reply.json_schema(mode="serialization")
    except (KeyError, NameError, TypeError, ValueError, PydanticUserError):
        raise _wrong(source, needed) from None
    if payload is Request or others not in ([], [Request]):
        raise _wrong(source, needed)
    return request, reply, bool(others)


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Objects with properties have no others, unless they say so: what is not declared is refused by the gateway."""
    for _, below in subschemas(schema):
        if isinstance(below, dict) and "properties" in below:
            below.setdefault("additionalProperties", False)
    return schema


def _source(function: Function) -> Source:
    try:
        file, line = inspect.getsourcefile(function), inspect.getsourcelines(function)[1]
    except (OSError, TypeError):
        file, line = None, 1
    return Source(Path(file or function.__module__), None, {"": line})


def _wrong(source: Source, text: Text) -> ManifestError:
    return ManifestError(mistakes=[mistake(source, "", text)])
