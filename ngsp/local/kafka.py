"""Apache Kafka on this machine: one node in KRaft mode, on loopback, its data in a folder."""

from __future__ import annotations

import asyncio
import base64
import secrets
import shutil
import signal
import socket
import struct
import time
from typing import TYPE_CHECKING, Self

from ngsp.local.kafka_programs import Programs, kafka_available, kafka_programs
from ngsp.local.ports import LOOPBACK, free_port, is_free
from ngsp.local.process import (
    FolderLock,
    LocalServerError,
    ServerProcess,
    end_all,
    processes_with,
    run_program,
    send_all,
    tail_of,
)
from ngsp.text import Text, tr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["LocalKafka", "kafka_available"]

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 30.0
_PROBE_INTERVAL_S = 0.05
_PROBE_TIMEOUT_S = 2.0
_METADATA = 3
_HEAP = "-Xmx512m"

_SETTINGS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "num.io.threads": "4",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "log.cleaner.dedupe.buffer.size": "16777216",
    # A killed broker is not let in again until its old session has ended, 9 s with Kafka's own default.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}

_LOGGING = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.target = SYSTEM_OUT
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c: %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


class LocalKafka:
    """One Kafka broker whose data and port stay with `folder` between starts.

    `port` fixes the port; else a free one is taken at the first start and kept. `settings` adds to the broker's own.
    `short_lived`: one that is started and ended again soon; it starts in half the processor time, and stays slower.
    `say` gets a line where a person should know something. Raises LocalServerError, in both languages, when the broker
    cannot be had.
    """

    def __init__(
        self,
        folder: Path,
        say: Callable[[str], None] = lambda _line: None,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        *,
        short_lived: bool = False,
    ) -> None:
        self.folder = folder.resolve()
        self._base = self.folder / "kafka"
        self._say = say
        self._wanted_port = port
        self._settings = {**_SETTINGS, **(settings or {})}
        self._short_lived = short_lived
        self._lock = FolderLock(self.folder / "kafka.lock", "Kafka")
        self._ports: tuple[int, int] | None = None
        self._process: ServerProcess | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def pid(self) -> int | None:
        """Process id of the broker while it runs."""
        return self._process.pid if self._process is not None and self._process.running else None

    @property
    def bootstrap(self) -> str:
        """`127.0.0.1:port`, the same over restarts; known after the first start."""
        if self._ports is None:
            raise RuntimeError("LocalKafka was not started yet")
        return f"{LOOPBACK}:{self._ports[0]}"

    @property
    def log(self) -> Path:
        return self._base / "server.log"

    async def start(self) -> None:
        """Returns once the broker takes part in its cluster and answers; recovers one whose owner was killed."""
        if self.pid is not None:
            return
        self._base.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._lock.held:
            self._lock.acquire()
        try:
            await self._end_predecessor()
            programs = await asyncio.to_thread(kafka_programs, self._base, self._say)
            self._ports = self._ports or self._choose_ports()
            self._configuration(self._base / "server.properties", self._base / "data", self._ports)
            (self._base / "log4j2.properties").write_text(_LOGGING, "ascii")
            if not (self._base / "data").exists():
                await asyncio.to_thread(self._format, programs, self._ports)
            self._process = ServerProcess(
                self._command(programs, "kafka.Kafka", str(self._base / "server.properties"), brief=self._short_lived),
                log=self.log,
                stop_signal=signal.SIGTERM,
                environment=None,
                folder=self._base,
            )
            await self._wait_until_ready(self._process, self._ports[0])
        except BaseException:
            self.kill()
            self._lock.release()
            raise

    async def stop(self) -> None:
        """Stops the broker in order; does nothing where nothing runs."""
        if self._process is not None:
            self._process.send(signal.SIGTERM)
            if await self._process.wait(_STOP_TIMEOUT_S):
                self._process = None
            else:
                self.kill()
        self._lock.release()

    def kill(self) -> None:
        """SIGKILL, as a crash would. `start()` brings the broker back on the same data and port."""
        if self._process is None:
            return
        self._process.kill()
        send_all(self._running(), signal.SIGKILL)
        self._process = None

    async def remove(self) -> None:
        """Stops the broker and deletes its data."""
        await self.stop()
        await asyncio.to_thread(shutil.rmtree, self._base)

    def _running(self) -> list[int]:
        return processes_with(str(self._base / "server.properties"), "java")

    async def _end_predecessor(self) -> None:
        """We hold the lock, so a broker that still runs here belongs to nobody."""
        if self._running() and not await end_all(self._running, ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0))):
            raise LocalServerError(
                Text(
                    vi="Kafka cũ trong {folder} không dừng được (các tiến trình {pids}).",
                    en="The previous Kafka in {folder} cannot be stopped (processes {pids}).",
                ).format(folder=self._base, pids=self._running())
            )

    def _choose_ports(self) -> tuple[int, int]:
        """The broker's and the controller's port: the ones of last time where they are still free."""
        note = self._base / "ports"
        if note.exists():
            kept = [int(word) for word in note.read_text("ascii").split()]
            if self._wanted_port in (None, kept[0]) and all(is_free(port) for port in kept):
                return kept[0], kept[1]
        if self._wanted_port is not None and not is_free(self._wanted_port):
            raise LocalServerError(
                Text(
                    vi="Cổng {port} đang có chương trình khác dùng, Kafka không dùng được.",
                    en="Port {port} is taken by another program, so Kafka cannot have it.",
                ).format(port=self._wanted_port)
            )
        port = self._wanted_port or free_port()
        ports = (port, free_port(port))
        if note.exists():
            self._say(
                tr(
                    vi=f"Cổng cũ của Kafka không còn trống; Kafka chuyển sang {LOOPBACK}:{ports[0]}",
                    en=f"Kafka's previous port is taken; Kafka moves to {LOOPBACK}:{ports[0]}",
                )
            )
        note.write_text(f"{ports[0]} {ports[1]}\n", "ascii")
        return ports

    def _configuration(self, path: Path, data: Path, ports: tuple[int, int]) -> None:
        broker, controller = (f"{LOOPBACK}:{port}" for port in ports)
        settings = {
            **self._settings,
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{broker}",
            "log.dirs": str(data),
        }
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), "utf-8")

    def _command(self, programs: Programs, program: str, *arguments: str, brief: bool) -> list[str]:
        """`brief`: without the second compiler, whose work only pays for what runs long."""
        options = [
            _HEAP,
            "-server",
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=20",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:-UsePerfData",
            *(["-XX:TieredStopAtLevel=1"] if brief else []),
        ]
        logging = f"-Dlog4j2.configurationFile={self._base / 'log4j2.properties'}"
        return [*programs.java, *options, logging, "-cp", programs.classpath, program, *arguments]

    def _format(self, programs: Programs, ports: tuple[int, int]) -> None:
        """Beside the final place, then one rename: an interrupted start leaves no half-made storage."""
        staging = self._base / "data.new"
        if staging.exists():
            shutil.rmtree(staging)
        configuration = self._base / "format.properties"
        self._configuration(configuration, staging, ports)
        # A zero byte is an "A" in front: an id that starts with "-" would be taken for an option.
        cluster = base64.urlsafe_b64encode(b"\0" + secrets.token_bytes(15)).decode("ascii").rstrip("=")
        arguments = ("format", "-t", cluster, "-c", str(configuration))
        tool = self._command(programs, "kafka.tools.StorageTool", *arguments, brief=True)
        status, output = run_program(tool, folder=self._base)
        if status != 0:
            raise LocalServerError(
                Text(
                    vi="Không tạo được kho dữ liệu Kafka trong {folder}:\n{log}",
                    en="Kafka's storage in {folder} cannot be made:\n{log}",
                ).format(folder=self._base, log=output[-2000:])
            )
        staging.rename(self._base / "data")

    async def _wait_until_ready(self, process: ServerProcess, port: int) -> None:
        end = time.monotonic() + _START_TIMEOUT_S
        while process.running and time.monotonic() < end:
            if await asyncio.to_thread(_brokers_known_at, port):
                return
            await asyncio.sleep(_PROBE_INTERVAL_S)
        raise LocalServerError(
            Text(
                vi="Kafka trong {folder} không khởi động được. Cuối nhật ký máy chủ:\n{log}",
                en="Kafka in {folder} does not start. The end of its log:\n{log}",
            ).format(folder=self._base, log=tail_of(self.log))
        )


def _brokers_known_at(port: int) -> int:
    """How many brokers the one at `port` counts in its cluster (Metadata request, version 1, of Kafka's protocol).

    An open port is not enough: a broker listens before the controller has let it in, and then leads no partition.
    """
    body = struct.pack(">hhihi", _METADATA, 1, 1, -1, 0)  # api, version, correlation, no client id, no topics
    try:
        with socket.create_connection((LOOPBACK, port), timeout=_PROBE_TIMEOUT_S) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            with connection.makefile("rb") as answer:
                head = answer.read(12)  # length, correlation, number of brokers
    except OSError:
        return 0
    return int(struct.unpack(">iii", head)[2]) if len(head) == 12 else 0
