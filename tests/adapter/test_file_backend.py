"""The back end by files: a local folder, and a real SFTP server."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import orjson
import pytest

from ngsp.adapter import Adapter, ManifestError
from ngsp.adapter.trial import Trial, Tried, on_trial
from ngsp.messages import uuid7

SERVICES = """\
services:
  - service: declaration
    version: v1
    deadline_s: 5
    title: {vi: Tra cứu, en: Look-up}
    description: {vi: Tra cứu tờ khai, en: Look-up of a declaration}
    request_schema: {type: object, properties: {number: {type: string}}, required: [number]}
    reply_schema: {}
    call: {take: "declarations/{payload.number}.json"}
  - service: rows
    version: v1
    deadline_s: 5
    title: {vi: Lô, en: Batch}
    description: {vi: Một lô tờ khai, en: A batch of declarations}
    request_schema: {type: object, properties: {number: {type: string}}, required: [number]}
    reply_schema: {}
    call: {take: "batches/{payload.number}.csv", format: csv}
    reply: {numbers: "body[].SO_TK"}
  - service: leave
    version: v1
    mode: submission
    deadline_s: 60
    title: {vi: Nộp, en: Submission}
    description: {vi: Nộp tờ khai, en: Submission of a declaration}
    request_schema: {type: object}
    reply_schema: {}
    call: {put: "in/{id}.json", content: {number: payload.number}}
    reply: {file: body.name, sha256: body.sha256}
  - service: leave-rows
    version: v1
    mode: submission
    deadline_s: 60
    title: {vi: Nộp lô, en: Submission of a batch}
    description: {vi: Nộp một lô, en: Submission of a batch}
    request_schema: {}
    reply_schema: {}
    call: {put: "in/{id}.csv", format: csv}
  - service: work
    version: v1
    mode: submission
    deadline_s: 60
    title: {vi: Nộp và chờ, en: Submission with an answer}
    description: {vi: Nộp và chờ kết quả, en: Submission and its result}
    request_schema: {type: object}
    reply_schema: {}
    call: {put: "in/{id}.json", take: "out/{id}.json"}
    reply: {result: body.RESULT}
    outcomes:
      - {when: "body.RESULT == 'NO'", outcome: refused, code: "{body.CODE}"}
"""
LOCAL = "id: g12-customs\nprovider: G12\nbackend: {kind: file, folder: {env: FOLDER}, timeout_s: 1.2}\n" + SERVICES
SFTP = (
    """\
id: g12-customs
provider: G12
backend:
  kind: file
  timeout_s: 3
  sftp:
    host: {env: SFTP_HOST}
    port: PORT
    username: {env: SFTP_USER}
    CREDENTIAL
    known_hosts: {file: known_hosts}
"""
    + SERVICES
)


class Password(asyncssh.SSHServer):
    """Lets `customs` in with the password `s3cret-of-tests` or with the key of the test."""

    def __init__(self, opened: list[asyncssh.SSHServerConnection]) -> None:
        self._opened = opened

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._opened.append(conn)

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == ("customs", "s3cret-of-tests")


@dataclass
class SftpServer:
    """A real SFTP server on a folder."""

    folder: Path
    host_key: asyncssh.SSHKey = field(default_factory=lambda: asyncssh.generate_private_key("ssh-ed25519"))
    port: int = 0
    acceptor: asyncssh.SSHAcceptor | None = None
    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)

    async def start(self, authorized: Path | None = None) -> None:
        self.acceptor = await asyncssh.listen(
            "127.0.0.1",
            self.port,
            server_factory=lambda: Password(self.connections),
            server_host_keys=[self.host_key],
            authorized_client_keys=str(authorized) if authorized else None,
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(self.folder).encode()),
        )
        self.port = self.acceptor.get_port()

    async def stop(self) -> None:
        if self.acceptor is not None:
            self.acceptor.close()
            for connection in self.connections:
                connection.abort()
            await self.acceptor.wait_closed()

    def known_hosts(self) -> bytes:
        return f"[127.0.0.1]:{self.port} ".encode() + self.host_key.export_public_key()


@dataclass
class Side:
    """The adapter and the system's side of its folder."""

    trial: Trial
    folder: Path

    async def ask(self, service: str, payload: Any, id: str = "", deadline_s: float = 5.0) -> Tried:
        return await self.trial.ask(f"{service}/v1", orjson.dumps(payload), id=id, deadline_s=deadline_s)

    def lay(self, name: str, data: bytes, digest: str | None = None) -> None:
        """What the system does: the file, then its checksum; none for an empty `digest`."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        if digest != "":
            line = f"{digest or hashlib.sha256(data).hexdigest()}  {file.name}\n"
            file.with_name(file.name + ".sha256").write_text(line, "ascii")

    def names(self) -> set[str]:
        return {file.name for file in (self.folder / "in").glob("*")} if (self.folder / "in").is_dir() else set()


@asynccontextmanager
async def served(text: str, folder: Path, own: Path, environment: dict[str, str]) -> AsyncIterator[Side]:
    (own / "manifest.yaml").write_text(text, "utf-8")
    adapter = Adapter.load(own / "manifest.yaml")
    async with on_trial(adapter, own / "inbox", environment.get) as trial:
        yield Side(trial, folder)


def environment_of(server: SftpServer, **others: str) -> dict[str, str]:
    return {
        "SFTP_HOST": "127.0.0.1",
        "SFTP_USER": "customs",
        "SFTP_PASSWORD": "s3cret-of-tests",
        "NGSP_ADAPTER_ALLOWED_NETWORKS": "127.0.0.0/8",
    } | others


def sftp_manifest(server: SftpServer, own: Path, credential: str = "password: {env: SFTP_PASSWORD}") -> str:
    (own / "known_hosts").write_bytes(server.known_hosts())
    return SFTP.replace("PORT", str(server.port), 1).replace("CREDENTIAL", credential)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[SftpServer]:
    folder = tmp_path / "system"
    folder.mkdir()
    found = SftpServer(folder)
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    return folder


@pytest.fixture(params=["folder", "sftp"])
async def side(request: pytest.FixtureRequest, server: SftpServer, own: Path) -> AsyncIterator[Side]:
    if request.param == "sftp":
        async with served(sftp_manifest(server, own), server.folder, own, environment_of(server)) as found:
            yield found
        return
    async with served(LOCAL, server.folder, own, {"FOLDER": str(server.folder)}) as found:
        yield found


def told(tried: Tried) -> tuple[str, str]:
    return tried.reply.status, tried.reply.code


async def test_a_file_is_taken_once_it_is_whole(side: Side) -> None:
    data = orjson.dumps({"SO_TK": "101", "HANG": "Cà phê"})
    assert told(await side.ask("declaration", {"number": "101"})) == ("not-found", "file-missing")
    side.lay("declarations/101.json", data[:10], digest="")
    assert told(await side.ask("declaration", {"number": "101"})) == ("retry", "file-incomplete")
    side.lay("declarations/101.json", data[:10], digest=hashlib.sha256(data).hexdigest())
    assert told(await side.ask("declaration", {"number": "101"})) == ("retry", "file-incomplete")
    side.lay("declarations/101.json", data)
    tried = await side.ask("declaration", {"number": "101"})
    assert (told(tried), tried.payload) == (("ok", ""), {"SO_TK": "101", "HANG": "Cà phê"})


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("not-json", b"<html>", "file-not-json"),
        ("latin", '{"a": "é"}'.encode("latin-1"), "file-not-json"),
        ("large", b'"' + b"x" * (2 << 20) + b'"', "file-too-large"),
    ],
)
async def test_a_file_that_is_none_is_failed(side: Side, name: str, data: bytes, code: str) -> None:
    side.lay(f"declarations/{name}.json", data)
    assert told(await side.ask("declaration", {"number": name})) == ("failed", code)


async def test_rows_are_read_and_written(side: Side) -> None:
    side.lay("batches/20261128.csv", '\ufeffSO_TK,HANG\r\n101,"Cà phê, rang"\r\n102,Gạo\r\n'.encode())
    assert (await side.ask("rows", {"number": "20261128"})).payload == {"numbers": ["101", "102"]}
    id = uuid7()
    rows = [{"so": "=1+1", "ten": 'Gạo "ST25"', "tien": -5}, {"so": "@x", "ten": "a\nb", "tien": None}]
    assert told(await side.ask("leave-rows", rows, id)) == ("ok", "")
    written = (side.folder / "in" / f"{id}.csv").read_bytes().decode("utf-8-sig")
    assert written == 'so,ten,tien\r\n\'=1+1,"Gạo ""ST25""",-5\r\n\'@x,"a\nb",\r\n'
    wrongs: list[Any] = [[], [{"a": 1}, {"b": 1}], [{"a": {}}], {"a": 1}]
    for wrong in wrongs:
        assert told(await side.ask("leave-rows", wrong)) == ("failed", "no-call")


async def test_a_submission_is_left_once_however_often_it_comes(side: Side) -> None:
    id = uuid7()
    first = await side.ask("leave", {"number": "7", "other": "not sent"}, id)
    file = side.folder / "in" / f"{id}.json"
    assert orjson.loads(file.read_bytes()) == {"number": "7"}
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert file.with_name(f"{id}.json.sha256").read_text() == f"{digest}  {id}.json\n"
    assert first.payload == {"file": f"in/{id}.json", "sha256": digest}
    assert (await side.ask("leave", {"number": "7"}, id)).reply.body == first.reply.body
    assert side.names() == {f"{id}.json", f"{id}.json.sha256"}
    for name in side.names():
        (side.folder / "in" / name).unlink()  # the system has fetched it
    assert (await side.ask("leave", {"number": "7"}, id)).reply.body == first.reply.body
    assert side.names() == set(), "what was fetched is not left a second time"
    assert told(await side.ask("leave", {"number": "8"}, id)) == ("refused", "file-exists")


async def test_a_file_of_somebody_else_is_left_alone(side: Side) -> None:
    id = uuid7()
    side.lay(f"in/{id}.json", b"{}", digest="")
    assert told(await side.ask("leave", {"number": "7"}, id)) == ("refused", "file-exists")
    assert (side.folder / "in" / f"{id}.json").read_bytes() == b"{}"


def _part_alone(folder: Path, name: str, data: bytes) -> None:
    (folder / f"{name}.part").write_bytes(data[:3])


def _sent_not_moved(folder: Path, name: str, data: bytes) -> None:
    (folder / f"{name}.part").write_bytes(data)
    (folder / f"{name}.sent").write_text(hashlib.sha256(data).hexdigest(), "ascii")


@pytest.mark.parametrize("crash", [_part_alone, _sent_not_moved])
async def test_what_a_crash_left_half_done_is_finished(side: Side, crash: Callable[[Path, str, bytes], None]) -> None:
    id = uuid7()
    private = side.folder / ".ngsp"
    private.mkdir()
    crash(private, f"in%2F{id}.json", b'{"number":"7"}')
    assert told(await side.ask("leave", {"number": "7"}, id)) == ("ok", "")
    assert (side.folder / "in" / f"{id}.json").read_bytes() == b'{"number":"7"}'
    assert side.names() == {f"{id}.json", f"{id}.json.sha256"}


async def test_an_answer_is_waited_for_from_delivery_to_delivery(side: Side) -> None:
    id = uuid7()
    for _ in range(6):  # more than the failures that open a breaker: nothing is wrong with the system
        assert told(await side.ask("work", {"n": 1}, id, deadline_s=0.9)) == ("retry", "file-no-answer")
    assert side.names() == {f"{id}.json", f"{id}.json.sha256"}
    side.lay(f"out/{id}.json", b'{"RESULT": "DONE"}')
    assert (await side.ask("work", {"n": 1}, id)).payload == {"result": "DONE"}
    other = uuid7()
    side.lay(f"out/{other}.json", b'{"RESULT": "NO", "CODE": "THIEU-GIAY"}')
    assert told(await side.ask("work", {"n": 2}, other)) == ("refused", "THIEU-GIAY")


@pytest.mark.parametrize("number", ["../secret", "..", ".", "", "/etc/passwd", ".ngsp", "a/../../b", "a\\b", "a\nb"])
async def test_no_name_leads_out_of_the_folder(side: Side, number: str) -> None:
    (side.folder.parent / "secret.json").write_bytes(b'{"secret": true}')
    status, _ = told(await side.ask("declaration", {"number": number}))
    assert status in ("not-found", "failed")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("folder: {env: FOLDER}", "folder: /var/spool", "/backend/folder"),
        ("folder: {env: FOLDER}", "keep_days: 3", "/backend"),
        ('take: "declarations/', 'take: "/declarations/', "/services/0/call/take"),
        ('take: "declarations/', 'take: "../declarations/', "/services/0/call/take"),
        ('call: {take: "declarations/{payload.number}.json"}', "call: {format: csv}", "/services/0/call"),
        ('call: {take: "declarations/', 'call: {put: "declarations/', "/services/0/call"),
        ('put: "in/{id}.json", content', 'put: "in/x.json", content', "/services/2/call"),
        ("format: csv", "format: xls", "/services/1/call/format"),
    ],
)
def test_mistakes_in_the_manifest_are_refused_by_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in LOCAL
    (tmp_path / "manifest.yaml").write_text(LOCAL.replace(old, new, 1), "utf-8")
    with pytest.raises(ManifestError) as found:
        Adapter.load(tmp_path / "manifest.yaml")
    assert said in str(found.value)
    assert f"{tmp_path / 'manifest.yaml'}:" in str(found.value)


async def test_a_folder_that_is_not_there_is_said_at_the_start(own: Path) -> None:
    with pytest.raises(ManifestError, match="nowhere"):
        async with served(LOCAL, own, own, {"FOLDER": str(own / "nowhere")}):
            pass


# SFTP


async def test_a_key_instead_of_a_password(server: SftpServer, own: Path) -> None:
    await server.stop()
    key = asyncssh.generate_private_key("ssh-ed25519")
    (own / "client.key").write_bytes(key.export_private_key())
    (own / "authorized").write_bytes(key.export_public_key())
    await server.start(own / "authorized")
    text = sftp_manifest(server, own, "key: {file: client.key}")
    async with served(text, server.folder, own, environment_of(server)) as side:
        assert told(await side.ask("leave", {"number": "7"})) == ("ok", "")


@pytest.mark.parametrize("wrong", ["password", "host-key", "address", "down"])
async def test_a_server_that_is_not_ours_gets_nothing(server: SftpServer, own: Path, wrong: str) -> None:
    text, environment = sftp_manifest(server, own), environment_of(server)
    if wrong == "password":
        environment |= {"SFTP_PASSWORD": "another"}
    elif wrong == "host-key":
        (own / "known_hosts").write_bytes(SftpServer(server.folder, port=server.port).known_hosts())
    elif wrong == "address":
        environment |= {"SFTP_HOST": "localhost", "NGSP_ADAPTER_ALLOWED_NETWORKS": ""}
        (own / "known_hosts").write_bytes(server.known_hosts().replace(b"127.0.0.1", b"localhost"))
    else:
        await server.stop()
    async with served(text, server.folder, own, environment) as side:
        assert told(await side.ask("leave", {"number": "7"})) == ("retry", "file-store-down")
        assert list(side.folder.iterdir()) == []


async def test_a_private_address_is_refused_at_the_start(server: SftpServer, own: Path) -> None:
    environment = environment_of(server, NGSP_ADAPTER_ALLOWED_NETWORKS="")
    with pytest.raises(ManifestError, match="NGSP_ADAPTER_ALLOWED_NETWORKS"):
        async with served(sftp_manifest(server, own), server.folder, own, environment):
            pass


async def test_a_server_that_comes_back_is_used_again(server: SftpServer, own: Path) -> None:
    async with served(sftp_manifest(server, own), server.folder, own, environment_of(server)) as side:
        assert told(await side.ask("leave", {"number": "1"})) == ("ok", "")
        await server.stop()
        assert told(await side.ask("leave", {"number": "2"})) == ("retry", "file-store-down")
        await server.start()
        assert told(await side.ask("leave", {"number": "2"})) == ("ok", "")
