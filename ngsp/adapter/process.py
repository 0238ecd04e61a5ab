"""An adapter as a process of its own: registers by REST, serves from Kafka, beats, drains on SIGTERM and exits with 0.

It has no access to the gateway's database: it speaks Kafka and REST; its inbox stands beside the effect.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import gc
import importlib
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Literal

import structlog
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from ngsp.adapter.clock import Clock
from ngsp.adapter.databases import passing
from ngsp.adapter.definition import Adapter
from ngsp.adapter.fill import Bounds
from ngsp.adapter.manifest import ManifestError
from ngsp.adapter.publishing import through
from ngsp.adapter.registering import connected, put_manifest, refusal
from ngsp.adapter.runner import AdapterRunner
from ngsp.bus.kafka import KafkaBus, KafkaConnection
from ngsp.client.errors import CallerError, CallError, LimitReached, Problem, RequestTimeout
from ngsp.errors import BusUnavailable
from ngsp.seldom import Seldom
from ngsp.text import tr
from ngsp.vault import Vault

HEARTBEAT_EVERY_S = 5.0
RETRY_S = 1.0

log = structlog.get_logger(__name__)


class AdapterSettings(BaseSettings):
    """What an adapter process is told: environment variables `NGSP_ADAPTER_*`."""

    model_config = SettingsConfigDict(
        env_prefix="NGSP_ADAPTER_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    kafka_bootstrap: str = Field(max_length=1000, description="host:port[,host:port] of the brokers")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_SSL"] = Field(
        "PLAINTEXT", description="As the gateway's"
    )
    kafka_ca_file: Path | None = Field(None, description="Certificate authority of the brokers")
    kafka_cert_file: Path | None = Field(None, description="Client certificate for mutual TLS")
    kafka_key_file: Path | None = Field(None, description="Its key")
    kafka_username: str = Field("", max_length=200, description="SCRAM-SHA-512 user")
    kafka_password: SecretStr | None = Field(None, description="Its password")
    key_file: Path = Field(description="32 bytes in base64 that seal the replies kept in the inbox")
    folder: Path = Field(Path("data/adapter"), description="Folder of the files of inbox and cursors")
    gateway_url: str = Field("", max_length=300, description="Gateway to register with, to beat and to publish to")
    client_id: str = Field("", max_length=64, description="Client of the adapter, with the scope adapter")
    client_secret: SecretStr | None = Field(None, description="Its secret")
    client_secret_file: Path | None = Field(None, description="File with its secret; the better place")
    max_in_work: Annotated[int, Field(ge=1, le=10_000)] = Field(256, description="Requests in work at once")
    inbox_max_rows: Annotated[int, Field(ge=1)] = Field(1_000_000, description="Messages that an inbox remembers")
    inbox_max_bytes: Annotated[int, Field(ge=1)] = Field(2 << 30, description="Bytes of replies that an inbox keeps")
    drain_timeout_s: Annotated[float, Field(gt=0, le=3600)] = Field(30.0, description="Time to finish after SIGTERM")

    def key(self) -> bytes:
        """The key, 32 bytes. ValueError where the file does not hold one."""
        try:
            key = base64.b64decode(self.key_file.read_text("ascii").strip(), validate=True)
        except OSError as error:
            raise ValueError(f"NGSP_ADAPTER_KEY_FILE: {error}") from None
        except (binascii.Error, UnicodeDecodeError):
            raise ValueError("NGSP_ADAPTER_KEY_FILE does not hold base64") from None
        if len(key) != 32:
            raise ValueError("NGSP_ADAPTER_KEY_FILE must hold 32 bytes in base64")
        return key

    def secret(self) -> str:
        if self.client_secret_file is not None:
            return self.client_secret_file.read_text("ascii").strip()
        return self.client_secret.get_secret_value() if self.client_secret else ""

    def connection(self) -> KafkaConnection:
        return KafkaConnection(
            self.kafka_bootstrap,
            self.kafka_security_protocol,
            self.kafka_ca_file,
            self.kafka_cert_file,
            self.kafka_key_file,
            self.kafka_username,
            self.kafka_password.get_secret_value() if self.kafka_password else "",
        )


def find_adapter(target: str) -> Adapter:
    """The adapter at `target`: a module (`adapters.g22_catalogue.adapter`), a folder, or a manifest.

    A folder's is the `adapter` of its adapter.py, else what its manifest.yaml declares. ManifestError where there is
    none.
    """
    path = Path(target)
    if path.suffix in (".yaml", ".yml"):
        return Adapter.load(path)
    if path.is_dir():
        if not (path / "adapter.py").exists():
            return Adapter.load(path / "manifest.yaml")
        target = _module_of(path / "adapter.py")
    elif os.sep in target:
        raise ManifestError(tr(f"{target}: không có thư mục này", f"{target}: there is no such folder"))
    try:
        found = importlib.import_module(target).adapter
    except (ImportError, AttributeError) as error:
        raise ManifestError(f"{target}: no adapter to import: {error}") from error
    if isinstance(found, Adapter) and not found.manifest.services:
        raise ManifestError(tr(f"{target}: chưa khai báo dịch vụ nào", f"{target}: declares no service"))
    if not isinstance(found, Adapter):
        raise ManifestError(f"{target}: «adapter» is not an Adapter")
    return found


def _module_of(file: Path) -> str:
    """The name under which `file` can be imported; the folder above its packages is put on the path."""
    file = file.resolve()
    names, folder = [file.stem], file.parent
    while (folder / "__init__.py").exists():
        names.insert(0, folder.name)
        folder = folder.parent
    if len(names) == 1:  # in no package: the folder's own name keeps two `adapter.py` apart
        names.insert(0, folder.name)
        folder = folder.parent
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return ".".join(names)


class Registrar:
    """Registers an adapter with a gateway and tells it that the adapter lives; `publish`: what its sources give to."""

    def __init__(self, settings: AdapterSettings, adapter: Adapter) -> None:
        self._adapter = adapter
        self._gateway = connected(settings.gateway_url, settings.client_id, settings.secret())
        self.publish = through(self._gateway)

    async def close(self) -> None:
        await self._gateway.close()

    async def register(self, retry_s: float = RETRY_S) -> None:
        """Until the gateway has taken the manifest. ManifestError where it refuses it."""
        while True:
            try:
                await put_manifest(self._gateway, self._adapter)
            except CallerError as error:
                if not isinstance(error, LimitReached | RequestTimeout):
                    raise ManifestError(f"{self._adapter.id}: {refusal(error)}") from None
                log.warning("the gateway cannot register now; trying again", code=error.code)
            except Problem as error:
                log.warning("the gateway cannot register now; trying again", code=error.code)
            except CallError as error:
                log.warning("the gateway cannot be reached; trying again", error=type(error).__name__)
            else:
                return
            await asyncio.sleep(retry_s)

    async def beat_for_ever(self, runner: AdapterRunner, every_s: float = HEARTBEAT_EVERY_S) -> None:
        seldom = Seldom()
        while True:
            try:
                await self._beat(runner.sign_of_life(), runner.clock)
            except Problem as error:
                log.warning("heartbeat refused", code=error.code)
            except CallError as error:
                log.warning("heartbeat failed", error=type(error).__name__)
            for code in runner.troubles():
                if (held := seldom.held_back(code)) is not None:
                    log.error("not well", code=code, seconds=round(runner.clock.off_s), held_back=held)
            await asyncio.sleep(every_s)

    async def _beat(self, body: dict[str, object], clock: Clock) -> None:
        asked_at = clock()
        answer = await self._gateway.ask("POST", f"/v1/adapters/{self._adapter.id}/heartbeat", body)
        clock.compare(answer.headers.get("date"), asked_at, clock())


async def run(target: str, settings: AdapterSettings) -> None:
    """Serve the adapter at `target` (see `find_adapter`) until SIGTERM or SIGINT."""
    adapter = find_adapter(target)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopping.set)
    async with contextlib.AsyncExitStack() as stack:
        registrar = None
        if settings.gateway_url:
            registrar = Registrar(settings, adapter)
            stack.push_async_callback(registrar.close)
            if not await _unless(stopping, registrar.register()):
                return
        elif adapter.sources:
            raise ManifestError(
                tr(
                    f"{adapter.id}: có nguồn sự kiện: hãy đặt NGSP_ADAPTER_GATEWAY_URL để công bố",
                    f"{adapter.id}: it has a source of events: set NGSP_ADAPTER_GATEWAY_URL, to publish them",
                )
            )
        bus = KafkaBus(settings.connection(), f"ngsp-adapter-{adapter.id}")
        runner = AdapterRunner(
            adapter,
            bus,
            Vault(settings.key()),
            settings.folder,
            max_in_work=settings.max_in_work,
            bounds=Bounds(settings.inbox_max_rows, settings.inbox_max_bytes),
            publish=registrar.publish if registrar else None,
        )
        stack.push_async_callback(bus.stop)
        if not await _unless(stopping, _start(bus, runner)):
            return
        gc.freeze()  # what is there now stays: the collector need not look at it again
        beat = asyncio.create_task(registrar.beat_for_ever(runner)) if registrar else None
        await stopping.wait()
        if beat:
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)
        await runner.stop(settings.drain_timeout_s)


async def _start(bus: KafkaBus, runner: AdapterRunner) -> None:
    """Connect and take messages; broker or provider may come up later than the adapter."""
    seldom = Seldom()
    for start in (bus.start, runner.start):
        while True:
            try:
                await start()
                break
            except Exception as error:
                if not isinstance(error, BusUnavailable) and not passing(error):
                    raise
                if (held := seldom.held_back(type(error).__name__)) is not None:
                    log.warning("not ready to serve; trying again", error=type(error).__name__, held_back=held)
            await asyncio.sleep(RETRY_S)


async def _unless(stopping: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Do `work` unless asked to stop meanwhile; False where it was."""
    task = asyncio.create_task(work)
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return False
    task.result()
    return True
