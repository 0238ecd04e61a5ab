"""`ngsp statistics`: how much went over the bus and how it ended, as a table, by REST to a gateway."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from ngsp.cli_remote import Demo, Json, Url, gateway, given, moment, print_json, state_text
from ngsp.text import Text, language_of_terminal, tr

PAGE = 200
_HEADINGS = {
    "consumer": Text("Khai thác", "Consumer"),
    "provider": Text("Cung cấp", "Provider"),
    "member": Text("Cơ quan", "Member"),
    "service": Text("Dịch vụ", "Service"),
    "adapter": Text("Bộ kết nối", "Adapter"),
    "mode": Text("Kiểu", "Mode"),
    "outcome": Text("Trạng thái", "State"),
    "failure": Text("Loại lỗi", "Failure"),
    "code": Text("Mã lỗi", "Code"),
    "day": Text("Ngày", "Day"),
    "hour": Text("Giờ", "Hour"),
}


def statistics(
    by: Annotated[
        str,
        typer.Option(
            help=tr("Các chiều, cách nhau bằng dấu phẩy: ", "By what, separated by commas: ") + ", ".join(_HEADINGS)
        ),
    ] = "service",
    from_: Annotated[str, typer.Option("--from", help=tr("Từ ngày, hoặc RFC 3339.", "From this day on."))] = "",
    to: Annotated[str, typer.Option(help=tr("Trước ngày này.", "Before this day."))] = "",
    consumer: Annotated[str, typer.Option(help=tr("Cơ quan khai thác.", "Consuming member."))] = "",
    provider: Annotated[str, typer.Option(help=tr("Cơ quan cung cấp.", "Providing member."))] = "",
    service: Annotated[str, typer.Option(help=tr("Dịch vụ.", "Service: name, or provider/name/version."))] = "",
    adapter: Annotated[str, typer.Option(help=tr("Bộ kết nối.", "Adapter."))] = "",
    mode: Annotated[str, typer.Option(help="query, submission")] = "",
    outcome: Annotated[str, typer.Option(help=tr("Trạng thái, ví dụ failed.", "State, e.g. failed."))] = "",
    url: Url = "",
    demo: Demo = None,
    as_json: Json = False,
) -> None:
    """Prints one line for each group; exit 1 with the gateway's own words where it refuses."""
    wanted = given(
        by=by, from_=from_, to=to, consumer=consumer, provider=provider, service=service, adapter=adapter, mode=mode,
        outcome=outcome,
    )  # fmt: skip
    with gateway(url, demo) as bus:
        found = bus.items("/v1/statistics", **wanted, limit=str(PAGE))
        if as_json:
            print_json(found)
        else:
            _print_table(by.split(",") if by else [], list(found))


def _print_table(by: list[str], items: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text as Rich

    language = language_of_terminal()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in by:
        table.add_column(_HEADINGS[name].in_(language), no_wrap=True, overflow="fold")
    for heading in (
        tr("Tổng", "Total"),
        tr("Thành công", "Succeeded"),
        tr("Đang chờ", "Open"),
        tr("Hồ sơ", "Dossiers"),
    ):
        table.add_column(heading, no_wrap=True, justify="right")
    for heading in ("p50 ms", "p95 ms"):
        table.add_column(heading, no_wrap=True, justify="right")
    table.add_column(tr("Thành công cuối", "Last success"), no_wrap=True)
    table.add_column(tr("Lỗi và từ chối", "Failures"), overflow="fold")
    for item in items:
        counts = (item["total"], item["succeeded"], item["open"], item["dossiers"])
        cells = [
            *(_value(name, item["group"][name]) for name in by),
            *("" if count is None else f"{count:,}" for count in counts),
            *("" if item[name] is None else f"{item[name]:,.1f}" for name in ("p50_ms", "p95_ms")),
            moment(item["last_success_at"]),
            ", ".join(f"{name} {count:,}" for name, count in sorted(item["failures"].items())),
        ]
        table.add_row(*(Rich(cell) for cell in cells))
    console = Console(width=None if sys.stdout.isatty() else 240, highlight=False)
    console.print(table if items else tr("Không có giao dịch nào.", "No transactions."))


def _value(dimension: str, value: str | None) -> str:
    return state_text(value) if dimension == "outcome" and value else value or "–"
