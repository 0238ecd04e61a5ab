"""A back end over SOAP 1.1 or 1.2, described by a WSDL that stands beside the manifest.

The WSDL and its schemas are read by zeep, once, when the manifest is loaded; messages are written and read by what
`xsd.Codec` made of them, and travel over the same client as REST's. An adapter without SOAP imports nothing of this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from zeep.wsse.username import UsernameToken

from ngsp.adapter.backends import envelope
from ngsp.adapter.backends.base import Answer, Attempt, Backend, Operation, Setting
from ngsp.adapter.backends.http import HttpClient, HttpConfig, Response, judge_status, works_by_status
from ngsp.adapter.backends.wsdl import Wsdl
from ngsp.adapter.backends.xsd import Read, Write, untyped_writer
from ngsp.adapter.definition import Failed
from ngsp.adapter.manifest import ServiceManifest
from ngsp.adapter.models import Part
from ngsp.adapter.outcomes import Kind
from ngsp.adapter.references import Plain, Reference, Surroundings
from ngsp.mapping import MappingError, Root, Shape
from ngsp.text import Text, Wrong

LARGEST_AT_ONCE_BYTES = 64 * 1024
"""A larger answer is read in a thread: it would hold up the event loop for more than some milliseconds."""
_SERVER_S = frozenset(("Server", "Receiver"))
"""Faults of the server's own (SOAP 1.1 §4.4.1, SOAP 1.2 §5.4.6); the others are answers about the request."""
_NOT_LET_IN = frozenset(("FailedAuthentication", "FailedCheck", "InvalidSecurity", "InvalidSecurityToken"))
"""Fault codes of WS-Security (OASIS SOAP Message Security 1.1 §12): nothing was done, and an operator can mend it."""


def _wsdl_beside(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str) and isinstance(info.context, Setting):
        folder = info.context.folder
        return Wsdl(folder / value, folder)
    raise Wrong(Text("Phải là tên tệp WSDL cạnh bản khai.", "Must be the name of a WSDL file beside the manifest."))


class TokenSecurity(Part):
    """WS-Security UsernameToken. `digest`: PasswordDigest with nonce and time, otherwise PasswordText."""

    kind: Literal["username-token"]
    username: Plain
    password: Reference
    digest: bool = False


class HeaderSecurity(Part):
    """A header block of the system's own with credentials in it. `block`: as a name in `headers`."""

    kind: Literal["header"]
    block: str
    values: Annotated[dict[str, Plain], Field(min_length=1)]


def _kind_of(value: Any) -> Any:
    if isinstance(value, dict) and "kind" not in value:
        return value | {"kind": "header" if "block" in value else "username-token"}
    return value


Security = Annotated[TokenSecurity | HeaderSecurity | None, Field(discriminator="kind"), BeforeValidator(_kind_of)]


class SoapConfig(HttpConfig):
    """`url`: where messages go, whatever address the WSDL has. `service`, `port`: of the WSDL, where it has several.

    `headers`: header blocks of every operation, as in a call, which may replace them: by their part's name, for the
    operations that have it in the WSDL, or as `{namespace}Name`, for all.
    """

    kind: Literal["soap"]
    wsdl: Annotated[Wsdl, BeforeValidator(_wsdl_beside)]
    service: str | None = None
    port: Annotated[str | None, Field(validate_default=True)] = None
    security: Security = None
    headers: dict[str, Shape] = Field(default_factory=dict)

    @field_validator("port")
    @classmethod
    def _is_there(cls, port: str | None, info: ValidationInfo) -> str | None:
        if "wsdl" in info.data:
            info.data["wsdl"].binding(info.data.get("service"), port)
        return port

    @field_validator("security", "headers")
    @classmethod
    def _are_there(cls, value: Any, info: ValidationInfo) -> Any:
        if "port" in info.data and "wsdl" in info.data:
            binding = info.data["wsdl"].binding(info.data["service"], info.data["port"])
            parts = {name for each in binding.all().values() for name, _ in each.input.header.type.elements}
            if isinstance(value, HeaderSecurity):
                _check_block(value.block, parts, ("block",))
            elif isinstance(value, dict):
                for name in value:
                    _check_block(name, parts, (name,))
        return value


def _check_block(name: str, parts: Iterable[str], path: tuple[str, ...]) -> None:
    """`Wrong` where `name` is neither one of `parts` nor a qualified name."""
    if name not in parts and not name.startswith("{"):
        known = ", ".join(sorted(parts)) or "–"
        raise Wrong(
            Text(
                f"WSDL không có tiêu đề «{name}» ở đây: có {known}, hoặc ghi {{không-gian-tên}}Tên.",
                f"The WSDL has no header '{name}' here: there is {known}; or write {{namespace}}Name.",
            ),
            path,
        )


class SoapCall(Part):
    """One message. `arguments`: what the body's element holds. `headers`: header blocks, see `SoapConfig`."""

    operation: Annotated[str, Field(min_length=1, max_length=200)]
    arguments: Shape = Field(default_factory=lambda: Shape(lambda root: {}, frozenset()))
    headers: dict[str, Shape] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Message:
    """An operation of the WSDL: `soap` the envelope's namespace; the output's element, None for a one-way message."""

    soap: str
    headers: Mapping[str, str]
    blocks: tuple[tuple[Write, Shape], ...]
    write: Write | None
    arguments: Shape
    tag: str | None
    read: Read | None

    def written(self, root: Root, security: Callable[[Any], None] | None) -> bytes:
        """The request's envelope. MappingError where what the expressions give does not fit the schema."""
        blocks = [partial(_put, write, shape(root)) for write, shape in self.blocks]
        body = partial(_put, self.write, self.arguments(root))
        try:
            message = envelope.envelope(self.soap, blocks, body)
        except ValueError:  # off the schema, and texts with characters that no XML may hold
            raise MappingError("no message of the WSDL") from None
        if security:
            security(message)
        return envelope.written(message)

    def answer(self, response: Response) -> Answer:
        """What a response says: a reply, a fault, or an HTTP status that is neither. Failed for nonsense."""
        fine = 200 <= response.status < 300
        if fine and not response.body and self.read is None:
            return Answer(response.status, None, response.headers)
        try:
            root = envelope.parsed(response.body, response.headers.get("content-type", ""))
            node = envelope.body_of(root, self.soap)
        except Failed:
            if fine:
                raise
            return Answer(response.status, None, response.headers)
        fault = envelope.fault_in(node, self.soap)
        if fault is not None:
            return Answer(fault["code"] or "fault", {"fault": fault}, response.headers)
        if not fine:
            return Answer(response.status, None, response.headers)
        return Answer(response.status, self._reply(node), response.headers)

    def _reply(self, node: Any) -> Any:
        if self.read is None:
            return None
        if node is None or self.tag not in (None, node.tag):
            raise Failed("backend-off-wsdl")
        try:
            return self.read(node)
        except (ValueError, RecursionError):
            raise Failed("backend-off-wsdl") from None


class Soap(Backend[SoapConfig, SoapCall]):
    """One port of a WSDL, at one server."""

    Config = SoapConfig
    Call = SoapCall

    def __init__(self, config: SoapConfig, name: str) -> None:
        super().__init__(config, name)
        self._client = HttpClient(config, name)
        self._security: Callable[[Any], None] | None = None
        self._secrets: dict[str, str] = {}

    async def open(self, surroundings: Surroundings) -> None:
        security = self.config.security
        if isinstance(security, HeaderSecurity):
            self._secrets |= {name: surroundings.plain(value) for name, value in security.values.items()}
        elif security is not None:
            token = partial(
                UsernameToken,
                surroundings.plain(security.username),
                surroundings.value(security.password),
                use_digest=security.digest,
                zulu_timestamp=True,
            )
            self._security = lambda message: token().apply(message, {})
        await self._client.open(surroundings)

    async def close(self) -> None:
        await self._client.close()

    def operation(self, service: ServiceManifest, call: SoapCall) -> Operation:
        message = self._message(call, service.call or {})

        async def operate(attempt: Attempt) -> Answer:
            content = message.written(attempt.root, self._security)
            response = await self._client.send(attempt, "POST", "", message.headers, content)
            if len(response.body) > LARGEST_AT_ONCE_BYTES:
                return await asyncio.to_thread(message.answer, response)
            return message.answer(response)

        return operate

    async def probe(self) -> None:
        """Asks for the WSDL; a server that gives none is well all the same."""
        await self._client.probe("GET", "?wsdl")

    def judge(self, answer: Answer) -> tuple[Kind, str]:
        if isinstance(answer.status, str):
            return ("retry" if answer.status in _NOT_LET_IN else "failed"), f"backend-fault-{answer.status}"
        return judge_status(answer.status)

    def works(self, answer: Answer) -> bool:
        if isinstance(answer.status, str):
            return answer.status.partition(".")[0] not in _SERVER_S and answer.status not in _NOT_LET_IN
        return works_by_status(answer.status)

    def _message(self, call: SoapCall, written: Mapping[str, Any]) -> _Message:
        """`written`: the call as the manifest has it, checked against the WSDL before anything is sent."""
        binding = self.config.wsdl.binding(self.config.service, self.config.port)
        operation = binding.all().get(call.operation)
        if operation is None:
            known, left_out = ", ".join(sorted(binding.all())), self.config.wsdl.left_out
            raise Wrong(
                Text(
                    f"WSDL không có thao tác «{call.operation}»: có {known}. {left_out}".strip(),
                    f"The WSDL has no operation '{call.operation}': there is {known}. {left_out}".strip(),
                ),
                ("operation",),
            )
        _check_form(operation)
        codec, body = self.config.wsdl.codec, operation.input.body
        if body is not None:
            codec.check(body.type, written.get("arguments", {}), ("arguments",))
        output = operation.output.body if operation.output else None
        soap = binding.nsmap["soap-env"]
        return _Message(
            soap=soap,
            headers=_http_headers(soap, operation.soapaction or ""),
            blocks=tuple(self._blocks(operation, call, written)),
            write=None if body is None else codec.writer(body),
            arguments=call.arguments,
            tag=None if output is None or operation.style == "rpc" else output.qname.text,
            read=None if output is None else codec.reader(output),
        )

    def _blocks(self, operation: Any, call: SoapCall, written: Mapping[str, Any]) -> Iterator[tuple[Write, Shape]]:
        """Header blocks: those of the call, of all calls, and the one with credentials."""
        codec, parts = self.config.wsdl.codec, dict(operation.input.header.type.elements)
        for name in call.headers:
            if name in parts:
                codec.check(parts[name].type, written["headers"][name], ("headers", name))
            else:
                _check_block(name, parts, ("headers", name))
        shapes = self.config.headers | call.headers
        if isinstance(self.config.security, HeaderSecurity):
            shapes[self.config.security.block] = Shape(lambda root: self._secrets, frozenset())
        for name, shape in shapes.items():
            if name in parts:
                yield codec.writer(parts[name]), shape
            elif name.startswith("{"):
                yield untyped_writer(name), shape


def _put(write: Write | None, value: Any, parent: Any) -> None:
    if write is not None:
        write(parent, value)


def _http_headers(soap: str, action: str) -> dict[str, str]:
    if soap == envelope.SOAP_12:
        return {"Content-Type": f'application/soap+xml; charset=utf-8; action="{action}"'}
    return {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": f'"{action}"'}


def _check_form(operation: Any) -> None:
    """`Wrong` for the forms of SOAP that are not spoken: rpc/encoded, and several parts in one body."""
    for message in (operation.input, operation.output):
        body = message.body if message else None
        if body is not None and body.qname.namespace in (envelope.SOAP_11, envelope.SOAP_12):
            raise Wrong(
                Text(
                    "Thông điệp của thao tác này có nhiều phần trong Body: hãy viết bộ kết nối Python.",
                    "This operation's message has several parts in its body: use a Python adapter.",
                )
            )
