"""`ngsp subscriptions list|show|deliveries|replay|resume`: who is sent which events, by REST to a gateway."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from itertools import islice
from typing import Annotated, Any
from urllib.parse import quote

import typer

from ngsp.cli_remote import Demo, Json, Url, gateway, given, moment, no_step, print_json, state_text
from ngsp.text import Text, language_of_terminal, tr

subscriptions_app = typer.Typer(
    no_args_is_help=True, help=tr("Đăng ký nhận sự kiện, qua một cổng.", "Subscriptions to events, through a gateway.")
)

PATH = "/v1/subscriptions"
PAGE = 200
WIDTH = 200
_STATES = {
    "active": Text("đang gửi", "active"),
    "waiting": Text("đang chờ", "waiting"),
    "stopped": Text("đã dừng", "stopped"),
    "gap": Text("bị hụt", "gap"),
    "inactive": Text("tạm tắt", "inactive"),
}
_COLOURS = {"active": "green", "waiting": "yellow", "stopped": "red", "gap": "red"}

Id = Annotated[str, typer.Argument(help=tr("Mã đăng ký.", "Id of the subscription."))]


@subscriptions_app.command("list", help=tr("Liệt kê đăng ký và tình trạng.", "List subscriptions and how they are."))
def list_subscriptions(url: Url = "", demo: Demo = None, as_json: Json = False) -> None:
    with gateway(url, demo) as bus:
        found = bus.items(PATH, limit=str(PAGE))
        if as_json:
            print_json(found)
        else:
            _print_subscriptions(found)


@subscriptions_app.command("show", help=tr("Một đăng ký.", "One subscription."))
def show_subscription(id: Id, url: Url = "", demo: Demo = None, as_json: Json = False) -> None:
    with gateway(url, demo) as bus:
        _print_one(bus.get(_path(id)), as_json)


@subscriptions_app.command("deliveries", help=tr("Các lần giao, mới nhất trước.", "What was delivered, newest first."))
def list_deliveries(
    id: Id,
    state: Annotated[str, typer.Option(help=tr("Trạng thái, ví dụ failed.", "State, e.g. failed."))] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help=tr("Số lần giao tối đa.", "Most to list."))] = 20,
    url: Url = "",
    demo: Demo = None,
    as_json: Json = False,
) -> None:
    with gateway(url, demo) as bus:
        wanted = given(state=state, limit=str(min(limit, PAGE)))
        found = islice(bus.items(f"{_path(id)}/deliveries", **wanted), limit)
        if as_json:
            print_json(found)
        else:
            _print_deliveries(found)


@subscriptions_app.command("replay", help=tr("Gửi lại từ một thời điểm hoặc con trỏ.", "Deliver again from somewhere."))
def replay(
    id: Id,
    from_: Annotated[
        str,
        typer.Option(
            "--from",
            help=tr(
                "Thời điểm (RFC 3339), ngày, con trỏ, earliest hoặc now.",
                "A moment (RFC 3339), a day, a cursor, earliest or now.",
            ),
        ),
    ],
    url: Url = "",
    demo: Demo = None,
    as_json: Json = False,
) -> None:
    _act(id, "replay", {"from": from_}, url, demo, as_json)


@subscriptions_app.command("resume", help=tr("Tiếp tục một đăng ký đã dừng.", "Go on with one that was stopped."))
def resume(id: Id, url: Url = "", demo: Demo = None, as_json: Json = False) -> None:
    _act(id, "resume", None, url, demo, as_json)


def _act(id: str, action: str, document: object, url: str, demo: Demo, as_json: bool) -> None:
    with gateway(url, demo) as bus:
        _print_one(json.loads(bus.ask("POST", f"{_path(id)}/{action}", document).body), as_json)


def _path(id: str) -> str:
    return f"{PATH}/{quote(no_step(id), safe='')}"


def _state(item: dict[str, Any]) -> str:
    state = _STATES[item["state"]].in_(language_of_terminal())
    return f"{state}: {item['reason']}" if item["reason"] else state


def _goes_to(item: dict[str, Any]) -> str:
    return str(item["receiver"] or item["url"] or "–")


def _print_subscriptions(items: Iterable[dict[str, Any]]) -> None:
    rows = [
        (
            item["id"],
            item["member"],
            item["service"],
            _goes_to(item),
            (_state(item), _COLOURS.get(item["state"], "")),
            f"{item['open']:,}",
            moment(item["delivered_at"]),
        )
        for item in items
    ]
    headings = (
        tr("Đăng ký", "Subscription"), tr("Cơ quan", "Member"), tr("Sự kiện của", "Events of"),
        tr("Gửi đến", "Goes to"), tr("Tình trạng", "State"), tr("Đang mở", "Open"),
        tr("Giao lần cuối", "Last delivered"),
    )  # fmt: skip
    _print_table(headings, rows, tr("Không có đăng ký nào.", "No subscriptions."))


def _print_deliveries(items: Iterable[dict[str, Any]]) -> None:
    rows = [
        (
            moment(item["at"]),
            item["transaction"],
            item["type"],
            state_text(item["state"]),
            item["code"] or "",
            f"{item['attempts']:,}",
            _last(item["last"]),
        )
        for item in items
    ]
    headings = (
        tr("Thời điểm", "Time"), tr("Giao dịch", "Transaction"), tr("Loại", "Type"), tr("Trạng thái", "State"),
        tr("Mã lỗi", "Code"), tr("Số lần gửi", "Attempts"), tr("Lần cuối", "Last answer"),
    )  # fmt: skip
    _print_table(headings, rows, tr("Không có lần giao nào.", "No deliveries."))


def _last(attempt: dict[str, Any] | None) -> str:
    return "" if attempt is None else str(attempt["status"] or attempt["problem"])


def _print_table(headings: Iterable[str], rows: list[tuple[Any, ...]], none: str) -> None:
    """A cell is a text, or a text and its colour."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text as Rich

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=True, overflow="fold")
    for row in rows:
        table.add_row(*(Rich(cell) if isinstance(cell, str) else Rich(cell[0], style=cell[1]) for cell in row))
    Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False).print(table if rows else none)


def _print_one(found: dict[str, Any], as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text as Rich

    if as_json:
        print_json([found])
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in found.items():
        if name in ("reason", "active") or value in (None, []):
            continue
        shown = _state(found) if name == "state" else ", ".join(value) if isinstance(value, list) else str(value)
        table.add_row(name, Rich(moment(value) if name.endswith(("_at", "_since")) else shown))
    Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False).print(table)
