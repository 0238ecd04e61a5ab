"""A back end over HTTP that speaks JSON."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlencode

import orjson
from pydantic import AfterValidator, Field, model_validator

from ngsp.adapter.backends.authentication import FORM
from ngsp.adapter.backends.base import Answer, Attempt, Backend, Operation
from ngsp.adapter.backends.http import HttpClient, HttpConfig, Response, judge_status, works_by_status
from ngsp.adapter.definition import Failed
from ngsp.adapter.manifest import ServiceManifest
from ngsp.adapter.models import Part
from ngsp.adapter.outcomes import Kind
from ngsp.adapter.references import Surroundings
from ngsp.mapping import Expression, MappingError, PathTemplate, Root, Shape
from ngsp.text import Text, Wrong

_MEDIA_TYPE = r"^[a-z0-9.+-]+/[a-z0-9.+-]+$"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_OURS = frozenset(
    ("authorization", "connection", "content-length", "content-type", "host", "te", "trailer", "transfer-encoding")
)
_UTF8 = frozenset(("utf-8", "utf8", "us-ascii", "ascii"))
_BOM = b"\xef\xbb\xbf"


def _header_names(headers: dict[str, Expression]) -> dict[str, Expression]:
    for name in headers:
        if not _TOKEN.fullmatch(name) or name.lower() in _OURS:
            raise Wrong(
                Text(
                    f"Tiêu đề «{name}» không dùng được ở đây: hãy bỏ (xác thực ghi ở backend.auth).",
                    f"The header '{name}' has no place here: leave it out (credentials stand in backend.auth).",
                )
            )
    return headers


def _rooted(template: PathTemplate) -> PathTemplate:
    if not template.literal.startswith("/") or not re.fullmatch(r"[!-~]*", template.literal):
        raise Wrong(Text("Đường dẫn phải bắt đầu bằng /, không dấu.", "A path begins with / and is plain ASCII."))
    if "?" in template.literal or "#" in template.literal:
        raise Wrong(Text("Tham số ghi ở query, không ở path.", "Parameters stand in query, not in path."))
    return template


class ProbeConfig(Part):
    """What is asked to see whether the server is well: something harmless."""

    method: Literal["GET", "HEAD"] = "GET"
    path: Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=500)] = "/"


class RestConfig(HttpConfig):
    """`content_types`: what is taken for JSON beside `application/json` and `…+json`."""

    kind: Literal["rest"]
    content_types: tuple[Annotated[str, Field(pattern=_MEDIA_TYPE)], ...] = ()
    probe: ProbeConfig = ProbeConfig(method="HEAD")


class RestCall(Part):
    """One request. `path` is joined to the back end's; `query`: null leaves a name out, a list repeats it.

    `json`: the body, a shape; `form`: a body as HTML forms send it.
    """

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    path: Annotated[PathTemplate, AfterValidator(_rooted)]
    query: dict[str, Expression] = Field(default_factory=dict)
    headers: Annotated[dict[str, Expression], AfterValidator(_header_names)] = Field(default_factory=dict)
    json_: Annotated[Shape | None, Field(alias="json")] = None
    form: dict[str, Expression] | None = None

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if self.json_ is not None and self.form is not None:
            raise Wrong(Text("Chỉ dùng một: json hoặc form.", "Give json or form, not both."))
        if (self.json_ is not None or self.form is not None) and self.method in ("GET", "HEAD"):
            raise Wrong(
                Text(
                    f"{self.method} không có thân: dùng query, hoặc method: POST.",
                    f"{self.method} has no body: use query, or method: POST.",
                )
            )
        return self


class Rest(Backend[RestConfig, RestCall]):
    """Connections to one server that answers with JSON."""

    Config = RestConfig
    Call = RestCall

    def __init__(self, config: RestConfig, name: str) -> None:
        super().__init__(config, name)
        self._client = HttpClient(config, name)

    async def open(self, surroundings: Surroundings) -> None:
        await self._client.open(surroundings)

    async def close(self) -> None:
        await self._client.close()

    def operation(self, service: ServiceManifest, call: RestCall) -> Operation:
        async def operate(attempt: Attempt) -> Answer:
            root = attempt.root
            target = call.path(root)
            if call.query:
                target += "?" + urlencode(list(_pairs(call.query, root)), quote_via=quote)
            headers = {name: _header(value) for name, value in _pairs(call.headers, root)}
            headers["Accept"] = "application/json"
            body = _body(call, root, headers)
            return self._answer(await self._client.send(attempt, call.method, target, headers, body))

        return operate

    async def probe(self) -> None:
        await self._client.probe(self.config.probe.method, self.config.probe.path)

    def judge(self, answer: Answer) -> tuple[Kind, str]:
        return judge_status(int(answer.status))

    def works(self, answer: Answer) -> bool:
        return works_by_status(int(answer.status))

    def _answer(self, response: Response) -> Answer:
        """The body as JSON. What is none is no body where the status is an error, and Failed where it is not."""
        fine = 200 <= response.status < 300
        try:
            return Answer(response.status, self._json(response), response.headers)
        except Failed:
            if fine:
                raise
            return Answer(response.status, None, response.headers)

    def _json(self, response: Response) -> Any:
        if not response.body:
            return None
        kind, _, parameters = response.headers.get("content-type", "").partition(";")
        kind = kind.strip().lower()
        if kind != "application/json" and not kind.endswith("+json") and kind not in self.config.content_types:
            raise Failed("backend-not-json")
        for parameter in parameters.split(";"):
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in _UTF8:
                raise Failed("backend-charset")
        try:
            return orjson.loads(response.body.removeprefix(_BOM))
        except orjson.JSONDecodeError:
            raise Failed("backend-not-json") from None


def _pairs(expressions: dict[str, Expression], root: Root) -> Any:
    """Name and text of each value there is; of a list's values, one after the other."""
    for name, expression in expressions.items():
        value = expression(root)
        for each in value if isinstance(value, list) else [value]:
            if each is not None:
                yield name, _text(each)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise MappingError("an object where a text must stand")


def _header(value: str) -> str:
    if not value.isprintable():
        raise MappingError("a control character in a header")
    return value


def _body(call: RestCall, root: Root, headers: dict[str, str]) -> bytes | None:
    if call.json_ is not None:
        headers["Content-Type"] = "application/json"
        return orjson.dumps(call.json_(root))
    if call.form is not None:
        headers["Content-Type"] = FORM
        return urlencode(list(_pairs(call.form, root))).encode()
    return None
