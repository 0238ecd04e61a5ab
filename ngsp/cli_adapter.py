"""`ngsp adapter new|check|dev|test|drift|register|run|status|probe`: what integrators and operators type."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from ngsp.cli_remote import Demo, Url, gateway
from ngsp.text import tr

if TYPE_CHECKING:
    from ngsp.adapter import Adapter

adapter_app = typer.Typer(no_args_is_help=True, help=tr("Bộ kết nối.", "Adapters."))

UNUSABLE = 2
DEV_PORT = 8090

Target = Annotated[
    str, typer.Argument(help=tr("Thư mục, bản khai (YAML) hoặc mô-đun.", "Folder, manifest (YAML) or module."))
]
Folder = Annotated[Path, typer.Argument(help=tr("Thư mục của bộ kết nối.", "The adapter's folder."), file_okay=False)]


def fail(message: str, code: int = 1) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(code)


@contextmanager
def _usable() -> Iterator[None]:
    """What is wrong with a manifest or its surroundings is told, not raised."""
    from ngsp.adapter import ManifestError

    try:
        yield
    except ManifestError as error:
        raise fail(str(error), UNUSABLE) from None


def _find(target: str) -> Adapter:
    import logging

    import structlog

    from ngsp.adapter.process import find_adapter

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    return find_adapter(target)


@adapter_app.command(help=tr("Tạo một bộ kết nối mới, đạt ngay hợp đồng.", "Begin one, which passes its contract."))
def new(
    name: Annotated[str, typer.Argument(help=tr("Tên, ví dụ h14-dat-dai.", "Name, such as h14-land."))],
    backend: Annotated[str, typer.Option(help="rest | soap | sql | file | python")] = "rest",
    provider: Annotated[str, typer.Option(help=tr("Mã cơ quan cung cấp.", "The provider's member code."))] = "",
    into: Annotated[Path, typer.Option(help=tr("Thư mục chứa nó.", "Folder to put it into."))] = Path("adapters"),
) -> None:
    from ngsp.adapter.starter import begin

    folder = into / name.replace("-", "_")
    with _usable():
        files = begin(folder, name, provider, backend)
    for file in files:
        typer.echo(f"+ {file}")
    typer.echo(tr("Tiếp theo:", "Next:") + f" ngsp adapter test {folder}")


@adapter_app.command(
    help=tr(
        "Xem các thao tác của một WSDL; từ một địa chỉ thì chép nó và các tệp nó dùng về thư mục.",
        "Show the operations of a WSDL; from an address, copy it with the files that it uses into a folder.",
    )
)
def wsdl(
    source: Annotated[str, typer.Argument(help=tr("Tệp hoặc địa chỉ http(s).", "File or http(s) address."))],
    into: Annotated[Path, typer.Option(help=tr("Thư mục để chép vào.", "Folder to copy it into."))] = Path(),
) -> None:
    from ngsp.adapter.addresses import Addresses
    from ngsp.adapter.backends.wsdl import Wsdl
    from ngsp.adapter.backends.wsdl_copy import copy_wsdl
    from ngsp.text import Wrong

    file = Path(source)
    with _usable():
        if "://" in source:
            file, *others = copy_wsdl(source, into, Addresses.of(os.environ.get))
            for written in (file, *others):
                typer.echo(f"+ {written}")
        try:
            for line in Wsdl(file, file.parent).described():
                typer.echo(line)
        except Wrong as error:
            raise fail(f"{file}: {tr(error.text.vi, error.text.en)}", UNUSABLE) from None


@adapter_app.command(
    help=tr(
        "Kiểm tra bản khai, lược đồ, ví dụ, ánh xạ, và tương thích với bản đã đăng ký.",
        "Check manifest, schemas, examples, mapping, and compatibility with what is registered.",
    )
)
def check(
    target: Target,
    url: Annotated[
        str, typer.Option(envvar="NGSP_ADAPTER_GATEWAY_URL", help=tr("Cổng để đối chiếu.", "Gateway to compare with."))
    ] = "",
) -> None:
    from ngsp.adapter.checking import check_adapter, compare_with_registered

    with _usable():
        adapter = _find(target)
        notes = check_adapter(adapter)
        differences = asyncio.run(compare_with_registered(adapter, _gateway(url))) if url else []
    for path, service in adapter.declared().items():
        typer.echo(f"✓ {path}  {service.mode}, {service.effect}, {service.deadline_s:g} s")
    for path, events in adapter.published().items():
        typer.echo(f"✓ {path}  {events.mode}, {', '.join(events.events)}")
    for line in [*notes, *differences]:
        typer.echo(f"✗ {line}", err=True)
    if notes or differences:
        raise typer.Exit(1)


@adapter_app.command(
    help=tr(
        "Thử hợp đồng: ví dụ, câu trả lời ghi sẵn, yêu cầu sinh tự động, giao lặp.",
        "Try the contract: examples, recorded answers, generated requests, repeats.",
    )
)
def test(
    folder: Folder,
    live: Annotated[
        bool, typer.Option("--live", help=tr("Với hệ thống thật của nơi cung cấp.", "With the provider's own system."))
    ] = False,
    record: Annotated[
        bool,
        typer.Option(
            "--record",
            help=tr("Hỏi hệ thống các ví dụ và ghi câu trả lời.", "Ask the system the examples, record its answers."),
        ),
    ] = False,
    cases: Annotated[int, typer.Option(min=1, max=100_000, help=tr("Số yêu cầu sinh.", "Generated requests."))] = 50,
    seed: Annotated[int, typer.Option(help=tr("Hạt giống.", "Seed."))] = 1,
) -> None:
    from ngsp.adapter.contract import Effort, try_contract
    from ngsp.adapter.drift import record_answers

    with _usable():
        adapter = _find(str(folder))
        if record:
            for file in asyncio.run(record_answers(adapter, folder)):
                typer.echo(f"+ {file}")
        findings = try_contract(adapter, folder, Effort(live, cases, seed))
    for finding in findings:
        typer.echo(f"{'✗' if finding.faults else '✓'} {finding.service}  {tr(finding.what.vi, finding.what.en)}")
        for fault in finding.faults:
            typer.echo(f"    {fault}")
    if any(finding.faults for finding in findings):
        raise typer.Exit(1)


@adapter_app.command(
    help=tr(
        "So câu trả lời hiện nay của hệ thống với bản ghi và lược đồ.",
        "Compare what the system answers today with what was recorded, and with the schema.",
    )
)
def drift(folder: Folder) -> None:
    from ngsp.adapter.drift import find_drift

    with _usable():
        changes = asyncio.run(find_drift(_find(str(folder)), folder))
    for change in changes:
        typer.echo(f"✗ {change}")
    if changes:
        raise typer.Exit(1)
    typer.echo("✓ " + tr("Không có gì thay đổi.", "Nothing has changed."))


@adapter_app.command(
    help=tr(
        "Chạy thử trên máy này: tự nạp lại khi lưu, hiện từng thông điệp.",
        "Try it on this machine: reloaded on save, each message shown.",
    )
)
def dev(
    target: Target,
    port: Annotated[int, typer.Option(min=1, max=65535, help=tr("Cổng HTTP.", "HTTP port."))] = DEV_PORT,
    once: Annotated[bool, typer.Option("--once", help=tr("Không tự nạp lại.", "Do not reload."))] = False,
) -> None:
    from ngsp.workshop import serve_adapter, serve_again_on_change

    def say(line: str) -> None:
        typer.echo(line)

    if once:
        with _usable():
            asyncio.run(serve_adapter(_find(target), port, say))
        return
    folder = Path(target) if Path(target).is_dir() else Path(target).parent
    try:
        serve_again_on_change(target, folder, port, say)
    except KeyboardInterrupt:
        return


@adapter_app.command(help=tr("Đăng ký với một cổng.", "Register with a gateway."))
def register(
    target: Target,
    url: Annotated[str, typer.Option(envvar="NGSP_ADAPTER_GATEWAY_URL", help=tr("Địa chỉ của cổng.", "The gateway."))],
) -> None:
    from ngsp.adapter.checking import register_adapter

    with _usable():
        typer.echo(asyncio.run(register_adapter(_find(target), _gateway(url))))


@adapter_app.command(help=tr("Tình trạng của bộ kết nối tại cổng.", "How an adapter stands at the gateway."))
def status(
    adapter: Annotated[str, typer.Argument(help=tr("Mã, hoặc thư mục của nó.", "Its id, or its folder."))],
    url: Annotated[str, typer.Option(envvar="NGSP_ADAPTER_GATEWAY_URL", help=tr("Địa chỉ của cổng.", "The gateway."))],
) -> None:
    from ngsp.adapter.checking import adapter_status

    with _usable():
        id = _find(adapter).id if Path(adapter).exists() else adapter
        for line in asyncio.run(adapter_status(id, _gateway(url))):
            typer.echo(line)


@adapter_app.command(
    help=tr(
        "Thử đường đi đến một bộ kết nối và về (tài khoản vận hành).", "Try the way to an adapter and back (operator)."
    )
)
def probe(
    id: Annotated[str, typer.Argument(help=tr("Định danh bộ kết nối.", "The adapter's id."))],
    service: Annotated[str, typer.Option(help=tr("Theo dịch vụ này.", "By this service."))] = "",
    backend: Annotated[bool, typer.Option("--backend", help=tr("Cả hệ thống phía sau.", "Its system too."))] = False,
    timeout: Annotated[float, typer.Option(min=0.1, max=30, help=tr("Chờ tối đa (giây).", "Wait at most (s)."))] = 5.0,
    url: Url = "",
    demo: Demo = None,
) -> None:
    wanted = {"service": service, "backend": backend, "timeout_s": timeout}
    with gateway(url, demo) as bus:
        found = bus.ask("POST", f"/v1/adapters/{quote(id, safe='')}/probe", wanted).json()
    told = [f"{found['outcome']} {found['code'] or ''}".strip(), found["service"], found["build"] or ""]
    told += [f"{name} {took_ms:.1f} ms" for name, took_ms in sorted(found["timings_ms"].items())]
    if found["backend"] is not None:
        told.append(f"backend: {found['backend']['state']} {found['backend']['code'] or ''}".strip())
    typer.echo("  ".join(part for part in told if part))
    if found["outcome"] != "ok":
        raise typer.Exit(1)


def _gateway(url: str) -> Callable[[], tuple[str, str, str]]:
    """Address and credentials: `NGSP_ADAPTER_CLIENT_ID`, `NGSP_ADAPTER_CLIENT_SECRET_FILE` or `…_SECRET`."""

    def read() -> tuple[str, str, str]:
        file = os.environ.get("NGSP_ADAPTER_CLIENT_SECRET_FILE")
        secret = Path(file).read_text("ascii").strip() if file else os.environ.get("NGSP_ADAPTER_CLIENT_SECRET", "")
        return url, os.environ.get("NGSP_ADAPTER_CLIENT_ID", ""), secret

    return read


@adapter_app.command("run", help=tr("Chạy một bộ kết nối trên Kafka.", "Run an adapter on Kafka."))
def adapter_run(target: Target) -> None:
    import uvloop
    from pydantic import ValidationError

    from ngsp.adapter import ManifestError
    from ngsp.adapter.process import AdapterSettings, run
    from ngsp.telemetry import configure_logging

    configure_logging("INFO")
    try:
        uvloop.run(run(target, AdapterSettings()))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        names = ", ".join("NGSP_ADAPTER_" + "_".join(str(step) for step in fault["loc"]).upper() for fault in faults)
        raise fail(tr(f"Thiếu hoặc sai: {names}", f"Missing or wrong: {names}"), UNUSABLE) from None
    except (ManifestError, ValueError) as error:
        raise fail(str(error), UNUSABLE) from None
