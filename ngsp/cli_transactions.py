"""`ngsp transactions list|show|follow`: the transaction log from the command line, by REST to a gateway."""

from __future__ import annotations

import json
import sys
from collections import deque
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from ngsp.cli_remote import (
    Demo,
    Json,
    Url,
    access_of,
    connected,
    gateway,
    given,
    moment,
    no_step,
    print_json,
    state_text,
    telling,
    told,
)
from ngsp.text import tr

if TYPE_CHECKING:
    from ngsp.client import CallError

transactions_app = typer.Typer(
    no_args_is_help=True, help=tr("Nhật ký giao dịch, qua một cổng.", "The transaction log, through a gateway.")
)

PAGE = 500

_COLOURS = {"succeeded": "green", "refused": "yellow", "failed": "red", "expired": "red", "unknown": "magenta"}


def _filter(name: str, vi: str, en: str) -> Any:
    return typer.Option(f"--{name}", help=tr(vi, en))


From = Annotated[str, _filter("from", "Từ thời điểm (RFC 3339).", "From this time on (RFC 3339).")]
To = Annotated[str, _filter("to", "Trước thời điểm (RFC 3339).", "Before this time (RFC 3339).")]
Consumer = Annotated[str, _filter("consumer", "Cơ quan khai thác.", "Consuming member.")]
Provider = Annotated[str, _filter("provider", "Cơ quan cung cấp.", "Providing member.")]
Service = Annotated[
    str, _filter("service", "Dịch vụ: tên, hoặc cơ-quan/tên/phiên-bản.", "Name, or provider/name/version.")
]
Outcome = Annotated[str, _filter("outcome", "Trạng thái, ví dụ failed.", "State, e.g. failed.")]
Purpose = Annotated[str, _filter("purpose", "Mục đích.", "Purpose.")]
Dossier = Annotated[str, _filter("dossier", "Mã hồ sơ.", "Dossier code.")]
Trace = Annotated[str, _filter("trace", "Mã vết (W3C trace-id).", "W3C trace id.")]
Officer = Annotated[str, _filter("officer", "Cán bộ.", "Officer.")]
Sandbox = Annotated[
    bool, typer.Option("--sandbox", help=tr("Chỉ của hệ thống thử nghiệm.", "Those of the sandbox only."))
]
After = Annotated[str, _filter("after", "Nối tiếp sau sự kiện có id này.", "Go on after the event of this id.")]
Count = Annotated[
    int, typer.Option(min=0, help=tr("Dừng sau số sự kiện này; 0: không dừng.", "Stop after so many; 0: never."))
]


@transactions_app.command("list", help=tr("Liệt kê giao dịch, mới nhất trước.", "List transactions, newest first."))
def list_transactions(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help=tr("Số giao dịch tối đa.", "Most to list."))] = 20,
    url: Url = "", demo: Demo = None, as_json: Json = False, from_: From = "", to: To = "", consumer: Consumer = "",
    provider: Provider = "", service: Service = "", outcome: Outcome = "", purpose: Purpose = "", dossier: Dossier = "",
    trace: Trace = "", officer: Officer = "", sandbox: Sandbox = False,
) -> None:  # fmt: skip
    wanted = given(
        from_=from_, to=to, consumer=consumer, provider=provider, service=service, outcome=outcome, purpose=purpose,
        dossier=dossier, trace=trace, officer=officer, sandbox="true" if sandbox else "",
    )  # fmt: skip
    with gateway(url, demo) as bus:
        found = islice(bus.items("/v1/transactions", **wanted, limit=str(min(limit, PAGE))), limit)
        if as_json:
            print_json(found)
        else:
            _print_table(list(found))


@transactions_app.command("show", help=tr("Một giao dịch với các bản ghi.", "One transaction with its entries."))
def show_transaction(
    id: Annotated[str, typer.Argument(help=tr("Mã giao dịch.", "Id of the transaction."))],
    wait: Annotated[int, typer.Option(min=0, max=60, help=tr("Chờ kết quả (giây).", "Wait for the outcome (s)."))] = 0,
    url: Url = "",
    demo: Demo = None,
    as_json: Json = False,
) -> None:
    from ngsp.client.errors import StillUnderWay

    id = no_step(id)
    with gateway(url, demo) as bus:
        if wait:
            with suppress(StillUnderWay):  # shown as it is then
                deque(bus.states(id, deadline_s=wait), maxlen=0)
        found = bus.get(f"/v1/transactions/{quote(id, safe='')}")
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        _print_transaction(found)


@transactions_app.command(
    "follow", help=tr("Theo dõi giao dịch khi chúng diễn ra.", "Follow transactions as they happen.")
)
def follow_transactions(
    after: After = "", count: Count = 0,
    url: Url = "", demo: Demo = None, as_json: Json = False, from_: From = "", to: To = "", consumer: Consumer = "",
    provider: Provider = "", service: Service = "", outcome: Outcome = "", purpose: Purpose = "", dossier: Dossier = "",
    trace: Trace = "", officer: Officer = "", sandbox: Sandbox = False,
) -> None:  # fmt: skip
    from ngsp.client import Filters

    def say(error: CallError, pause_s: float) -> None:
        said = told(error, address)
        typer.echo(tr(f"{said}; thử lại sau {pause_s:.0f} giây", f"{said}; again in {pause_s:.0f} s"), err=True)

    wanted = Filters(
        since=_moment("--from", from_), until=_moment("--to", to), consumer=consumer, provider=provider,
        service=service, outcome=outcome, purpose=purpose, dossier=dossier, trace=trace, officer=officer,
        sandbox=sandbox,
    )  # fmt: skip
    with telling():
        address, credentials = access_of(url, demo)
    try:
        with telling(), connected(address, credentials) as bus:
            for event in islice(bus.follow(wanted, after=after, on_trouble=say), count or None):
                shown = {"id": event.position, **event.document}
                typer.echo(json.dumps(shown, ensure_ascii=False) if as_json else _line(shown))
                sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _moment(option: str, value: str) -> datetime | None:
    if not value:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise typer.BadParameter(tr(f"{option}: không phải RFC 3339", f"{option}: not RFC 3339"))
    return found


def _line(event: dict[str, Any]) -> str:
    item = event["transaction"]
    parts = (
        moment(event["at"]),
        item["id"],
        state_text(event["kind"]),
        item["consumer"] or "",
        "→",
        item["service"] or "",
        item["code"] or "",
    )
    return "  ".join(part for part in parts if part)


def _print_table(items: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text as Rich

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in (
        tr("Thời điểm", "Time"), tr("Giao dịch", "Transaction"), tr("Trạng thái", "State"), tr("Từ", "From"),
        tr("Dịch vụ", "Service"), tr("Mã lỗi", "Code"), "ms",
    ):  # fmt: skip
        table.add_column(heading, no_wrap=True, overflow="fold", justify="right" if heading == "ms" else "left")
    for item in items:
        spent = "" if item["duration_ms"] is None else f"{item['duration_ms']:.0f}"
        state = Rich(state_text(item["state"]), style=_COLOURS.get(item["state"], ""))
        cells = (item["consumer"], item["service"], item["code"], spent)
        table.add_row(moment(item["accepted_at"]), item["id"], state, *(Rich(cell or "") for cell in cells))
    console = Console(width=None if sys.stdout.isatty() else 180, highlight=False)
    console.print(table if items else tr("Không có giao dịch nào.", "No transactions."))


def _print_transaction(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text as Rich

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in found.items():
        if name == "entries" or value is None:
            continue
        shown = " ".join(str(part) for part in value.values() if part) if isinstance(value, dict) else str(value)
        table.add_row(name, Rich(state_text(shown) if name == "state" else shown))
    console = Console(width=None if sys.stdout.isatty() else 180, highlight=False)
    console.print(table)
    for entry in found["entries"]:
        hidden = ("at", "kind", "canonical", "tx", "v", "node")
        rest = {name: value for name, value in entry.items() if name not in hidden}
        heading = f"\n{moment(entry.get('at'))}  {state_text(entry.get('kind', '?'))}"
        console.print(Rich(heading, style="bold"))
        console.print(Rich(json.dumps(rest, ensure_ascii=False, indent=2)))
