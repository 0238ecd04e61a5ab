"""A back end by files: batches and dossiers through a folder or an SFTP server.

`put` leaves a file for the system, once, whole, with its checksum beside it; `take` reads a file that the system wrote.
A submission may do both: it is put, and each delivery looks whether the answer is there yet, until the deadline.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import orjson
from pydantic import AfterValidator, Field, model_validator

from ngsp.adapter.addresses import Addresses
from ngsp.adapter.backends.base import Answer, Attempt, Backend, BackendConfig, Operation
from ngsp.adapter.backends.stores import (
    CHECKSUM,
    Differs,
    LocalStore,
    Missing,
    Store,
    StoreDown,
    TooLarge,
)
from ngsp.adapter.definition import Failed, Refused, Unavailable
from ngsp.adapter.manifest import ManifestError, ServiceManifest
from ngsp.adapter.models import Part
from ngsp.adapter.outcomes import Kind
from ngsp.adapter.references import Reference, Surroundings
from ngsp.mapping import MappingError, PathTemplate, Root, Shape
from ngsp.text import Text, Wrong, tr

NO_ANSWER = "file-no-answer"
LOOK_EVERY_S = 0.25
LONGEST_CHECKSUM_BYTES = 4_096

_NAME = re.compile(r"[^/\x00-\x1f]{1,200}(/[^/\x00-\x1f]{1,200}){0,9}")
_DIGEST = re.compile(r"([0-9a-fA-F]{64})\b")


def _relative(template: PathTemplate) -> PathTemplate:
    literal = template.literal
    if literal.startswith(("/", "..", "./")) or "/../" in literal:
        raise Wrong(
            Text(
                "Tên tệp tính từ thư mục của backend: không bắt đầu bằng / hay ., không có ..",
                "A file's name is relative to the back end's folder: no leading / or ., and no ..",
            )
        )
    return template


FileTemplate = Annotated[PathTemplate, AfterValidator(_relative)]


class SftpSettings(Part):
    """`known_hosts`: a line as in ssh's file of that name; without the server's key nobody is spoken to."""

    host: Reference
    port: Annotated[int, Field(ge=1, le=65_535)] = 22
    folder: Annotated[str, Field(min_length=1, max_length=500)] = "."
    username: Reference
    password: Reference | None = None
    key: Reference | None = None
    known_hosts: Reference

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if (self.password is None) == (self.key is None):
            raise Wrong(Text("Dùng đúng một: password hoặc key.", "Give exactly one: password or key."))
        return self


class FileConfig(BackendConfig):
    """`folder` or `sftp`. `checksum`: `sha256` beside every file, both ways; `none` where the system knows none.

    `keep_days`: how long it is remembered what was sent, so that a late repeat does not send it again.
    """

    kind: Literal["file"]
    folder: Reference | None = None
    sftp: SftpSettings | None = None
    checksum: Literal["sha256", "none"] = "sha256"
    keep_days: Annotated[int, Field(ge=1, le=400)] = 100

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.folder is None) == (self.sftp is None):
            raise Wrong(Text("Dùng đúng một: folder hoặc sftp.", "Give exactly one: folder or sftp."))
        return self


class FileCall(Part):
    """`put`: the name of the file that is left, `content` what it holds (the payload where it does not say).

    `take`: the name of the file with the answer. `format`: of both.
    """

    put: FileTemplate | None = None
    content: Shape | None = None
    take: FileTemplate | None = None
    format: Literal["json", "csv"] = "json"

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.put is None and self.take is None:
            raise Wrong(Text("Cần put, take hoặc cả hai.", "Needs put, take or both."))
        if self.put is None and self.content is not None:
            raise Wrong(Text("content cần có put.", "content needs put."))
        return self


class File(Backend[FileConfig, FileCall]):
    """One folder. Status of an answer: `put`, `taken`, `missing`."""

    Config = FileConfig
    Call = FileCall
    patient_codes: ClassVar[frozenset[str]] = frozenset((NO_ANSWER,))
    _store: Store

    async def open(self, surroundings: Surroundings) -> None:
        keep_s = self.config.keep_days * 86_400.0
        if self.config.sftp is not None:
            self._store = self._sftp(self.config.sftp, surroundings, keep_s)
        else:
            assert self.config.folder is not None
            folder = Path(surroundings.value(self.config.folder))
            if not await asyncio.to_thread(folder.is_dir):
                raise ManifestError(
                    tr(f"{self.name}: không có thư mục {folder}", f"{self.name}: there is no folder {folder}")
                )
            self._store = LocalStore(folder, keep_s)
        await self._store.open()

    def _sftp(self, settings: SftpSettings, surroundings: Surroundings, keep_s: float) -> Store:
        from ngsp.adapter.backends.sftp import SftpStore

        addresses = Addresses.of(surroundings.environment)
        host = surroundings.value(settings.host)
        addresses.check_host(host, f"{self.name}: backend.sftp.host")
        try:
            return SftpStore(
                host,
                settings.port,
                settings.folder,
                username=surroundings.value(settings.username),
                password=surroundings.value(settings.password) if settings.password else "",
                key=surroundings.path(settings.key).read_bytes() if settings.key else b"",
                known_hosts=surroundings.path(settings.known_hosts).read_bytes(),
                addresses=addresses,
                connect_timeout_s=self.config.connect_timeout_s,
                keep_s=keep_s,
            )
        except ValueError as error:  # of asyncssh: a key or a line of known_hosts that it cannot read
            kind = type(error).__name__
            raise ManifestError(
                tr(f"{self.name}: khóa SSH không đọc được ({kind})", f"{self.name}: an SSH key cannot be read ({kind})")
            ) from None

    async def close(self) -> None:
        await self._store.close()

    def operation(self, service: ServiceManifest, call: FileCall) -> Operation:
        if call.put is not None and service.mode == "query":
            raise Wrong(Text("put chỉ dùng cho dịch vụ nộp.", "put is for submissions: mode: submission."))

        async def operate(attempt: Attempt) -> Answer:
            attempt.begun = call.put is not None
            try:
                answer = await self._put(call, attempt.root) if call.put else None
                if call.take is None:
                    assert answer is not None
                    return answer
                return await self._take(call, attempt, patient=answer is not None)
            except StoreDown:
                raise Unavailable("file-store-down") from None
            except Differs:
                raise Refused("file-exists") from None
            except TooLarge:
                raise Failed("file-too-large") from None

        return operate

    async def probe(self) -> None:
        try:
            await self._store.exists("probe")
        except StoreDown:
            raise Unavailable("file-store-down") from None

    def judge(self, answer: Answer) -> tuple[Kind, str]:
        return ("not-found", "file-missing") if answer.status == "missing" else ("ok", "")

    async def _put(self, call: FileCall, root: Root) -> Answer:
        assert call.put is not None
        name = _name(call.put, root)
        content = root["payload"] if call.content is None else call.content(root)
        data = orjson.dumps(content) if call.format == "json" else _csv(content)
        await self._store.put(name, data, checksum=self.config.checksum == "sha256")
        body = {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        return Answer("put", body, {})

    async def _take(self, call: FileCall, attempt: Attempt, *, patient: bool) -> Answer:
        """The file's content. `patient`: it may yet be written; each delivery of the submission looks again."""
        assert call.take is not None
        name = _name(call.take, attempt.root)
        while True:
            try:
                data = await self._store.read(name, self.config.max_answer_bytes)
                await self._check(name, data)
            except Missing:
                if not patient:
                    return Answer("missing", None, {})
                if attempt.left_s() < 2 * LOOK_EVERY_S:
                    raise Unavailable(NO_ANSWER) from None
                await asyncio.sleep(LOOK_EVERY_S)
            else:
                return Answer("taken", _read(data, call.format), {"name": name})

    async def _check(self, name: str, data: bytes) -> None:
        """Unavailable where the file is not whole yet: no checksum beside it, or one that is not its own."""
        if self.config.checksum == "none":
            return
        try:
            line = await self._store.read(name + CHECKSUM, LONGEST_CHECKSUM_BYTES)
        except Missing:
            raise Unavailable("file-incomplete") from None
        found = _DIGEST.match(line.decode("ascii", "replace"))
        if found is None or found[1].lower() != hashlib.sha256(data).hexdigest():
            raise Unavailable("file-incomplete")


def _name(template: PathTemplate, root: Root) -> str:
    name: str = template(root)
    if not _NAME.fullmatch(name) or any(part.startswith(".") for part in name.split("/")):
        raise MappingError("no name of a file")
    return name


def _read(data: bytes, form: str) -> Any:
    """JSON, or the rows of a CSV file with a first line of names; UTF-8, a byte-order mark may stand before it."""
    try:
        text = data.decode("utf-8-sig")
        if form == "json":
            return orjson.loads(text)
        return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, orjson.JSONDecodeError, csv.Error):
        raise Failed(f"file-not-{form}") from None


def _csv(content: Any) -> bytes:
    """A list of flat objects as CSV; MappingError for anything else. Cells that a spreadsheet would run are quoted."""
    if not isinstance(content, list) or not content or not all(isinstance(row, dict) for row in content):
        raise MappingError("no rows")
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(content[0]), lineterminator="\r\n")
    writer.writeheader()
    for row in content:
        if row.keys() != content[0].keys():
            raise MappingError("rows of different columns")
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def _cell(value: Any) -> str:
    if isinstance(value, dict | list):
        raise MappingError("a cell that is no plain value")
    text = "" if value is None else str(value)
    runs = isinstance(value, str) and text.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{text}" if runs else text
