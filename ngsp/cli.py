"""`ngsp …`: what operators, integrators and developers type. Heavy imports wait until a command needs them."""

from __future__ import annotations

import asyncio
import gc
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ngsp.text import tr

if TYPE_CHECKING:
    from ngsp.config import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=tr(
        "NGSP: trục tích hợp, chia sẻ dữ liệu giữa các cơ quan nhà nước.",
        "NGSP: a data-exchange bus between government agencies.",
    ),
)
registry_app = typer.Typer(
    no_args_is_help=True, help=tr("Danh bạ: khai báo bằng tệp YAML.", "The registry, from YAML.")
)
bus_app = typer.Typer(no_args_is_help=True, help=tr("Trục thông điệp.", "The message bus."))
keys_app = typer.Typer(no_args_is_help=True, help=tr("Khóa ký mã truy cập.", "Keys that sign access tokens."))
app.add_typer(registry_app, name="registry")
app.add_typer(bus_app, name="bus")
app.add_typer(keys_app, name="keys")

FENCED_EXIT = 3


def main() -> None:
    """Entry point of the command."""
    # Nearly all that a start makes stays: to look for garbage at every few hundred objects takes a fifth of its time.
    gc.set_threshold(50_000, 20, 50)
    whole()(args=_with_kafka_default(sys.argv[1:]))


@cache
def whole() -> typer.Typer:
    """The command with those parts that have a file of their own: they join late, so that `--help` stays quick."""
    from ngsp.cli_adapter import adapter_app
    from ngsp.cli_collection import collection
    from ngsp.cli_statistics import statistics
    from ngsp.cli_subscriptions import subscriptions_app
    from ngsp.cli_transactions import transactions_app

    app.add_typer(adapter_app, name="adapter")
    app.add_typer(transactions_app, name="transactions")
    app.add_typer(subscriptions_app, name="subscriptions")
    app.command("statistics", help=tr("Thống kê, qua một cổng.", "Statistics, through a gateway."))(statistics)
    app.command(
        "collection",
        help=tr("Ghi danh mục thành bộ sưu tập Bruno.", "Write the catalogue as a Bruno collection."),
    )(collection)
    return app


def _with_kafka_default(arguments: list[str]) -> list[str]:
    """`--kafka` without an address means a broker of the demo's own."""
    found: list[str] = []
    for index, argument in enumerate(arguments):
        found.append(argument)
        following = arguments[index + 1] if index + 1 < len(arguments) else "-"
        if argument == "--kafka" and following.startswith("-"):
            found.append("local")
    return found


def _settings() -> Settings:
    """The settings, or exit 2 with what is wrong, never with a value."""
    from pydantic import ValidationError

    from ngsp.config import Settings

    try:
        return Settings()
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            name = "NGSP_" + "_".join(str(step) for step in fault["loc"]).upper()
            typer.echo(f"{name}: {fault['msg']}", err=True)
        typer.echo(tr("Xem docs/operations.md.", "See docs/operations.md."), err=True)
        raise typer.Exit(2) from None


def _fail(message: str, code: int = 1) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(code)


@app.command(help=tr("Chạy cổng (cấu hình bằng biến môi trường NGSP_*).", "Run a gateway (configured by NGSP_*)."))
def serve() -> None:
    import uvloop

    from ngsp.serving import serve_gateway

    settings = _settings()
    if uvloop.run(serve_gateway(settings)):
        raise typer.Exit(FENCED_EXIT)


@app.command(help=tr("Nâng lược đồ cơ sở dữ liệu.", "Bring the database's schema up to date."))
def migrate() -> None:
    from ngsp.database import migrate as run_migrations

    changed = asyncio.run(run_migrations(_settings().database_url.get_secret_value()))
    typer.echo(tr("Đã nâng lược đồ.", "Migrated.") if changed else tr("Đã mới nhất.", "Up to date already."))


@registry_app.command("apply", help=tr("Áp dụng tệp hoặc thư mục YAML.", "Apply a YAML file or folder."))
def registry_apply(
    path: Annotated[Path, typer.Argument(help=tr("Tệp hoặc thư mục.", "File or folder."))],
    dry_run: Annotated[bool, typer.Option("--dry-run", help=tr("Chỉ in thay đổi.", "Print the changes only."))] = False,
) -> None:
    from ngsp.registry.apply import run_apply

    raise typer.Exit(run_apply(path, _settings().database_url.get_secret_value(), dry_run, sys.stdout))


@bus_app.command("init", help=tr("Tạo các topic theo danh bạ.", "Make the topics the registry asks for."))
def bus_init() -> None:
    from ngsp.serving import init_bus

    made = asyncio.run(init_bus(_settings()))
    typer.echo(tr(f"Đủ {made} topic.", f"{made} topics are there."))


@bus_app.command(
    "describe",
    help=tr("In tài liệu AsyncAPI 3.0 của các topic.", "Print the topics as an AsyncAPI 3.0 document."),
)
def bus_describe(
    service: Annotated[
        str, typer.Argument(help=tr("Chỉ một dịch vụ: cơ-quan/tên/phiên-bản.", "One service: provider/name/version."))
    ] = "",
) -> None:
    import json

    from ngsp.serving import describe_bus

    document = asyncio.run(describe_bus(_settings(), service))
    if document is None:
        raise _fail(tr(f"Không có dịch vụ {service}.", f"There is no service {service}."))
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))


@keys_app.command("rotate", help=tr("Tạo khóa ký mới, có gối đầu.", "Make a new signing key, with overlap."))
def keys_rotate() -> None:
    from ngsp.serving import rotate_keys

    typer.echo(asyncio.run(rotate_keys(_settings())))


@app.command(help=tr("Chạy thử toàn bộ trên máy này.", "Run the whole thing on this machine."))
def demo(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help=tr("Cổng HTTP; 0: tự chọn.", "HTTP port; 0: free one."))
    ] = 8080,
    data: Annotated[Path, typer.Option(help=tr("Thư mục dữ liệu.", "Data folder."))] = Path("data/demo"),
    once: Annotated[bool, typer.Option("--once", help=tr("Chạy xong thì thoát.", "Exit when done."))] = False,
    kafka: Annotated[
        str | None,
        typer.Option(
            help=tr(
                "Dùng Kafka: địa chỉ, hoặc «local» để tự khởi động một máy chủ thật.",
                "Over Kafka: an address, or 'local' to start a real broker of its own.",
            )
        ),
    ] = None,
    database: Annotated[
        str | None, typer.Option(help=tr("PostgreSQL có sẵn (URL).", "An existing PostgreSQL (URL)."))
    ] = None,
) -> None:
    from ngsp.demo.run import run_demo

    raise typer.Exit(run_demo(port=port, data=data, once=once, kafka=kafka, database=database))
