"""A gateway as the command line speaks to it: whose credentials, and problems in the person's language."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ngsp.text import Text, language_of_terminal, tr

if TYPE_CHECKING:
    from ngsp.client import CallError, Client, ClientSecret

DEFAULT_URL = "http://127.0.0.1:8080"
DEADLINE_S = 90.0
"""For one request and its repeats: a list over much of the log may take its time."""

_STATES = {
    "accepted": Text("đã nhận", "accepted"),
    "delivered": Text("đã chuyển", "delivered"),
    "succeeded": Text("thành công", "succeeded"),
    "refused": Text("bị từ chối", "refused"),
    "failed": Text("lỗi", "failed"),
    "expired": Text("quá hạn", "expired"),
    "unknown": Text("chưa rõ kết quả", "unknown"),
    "resolved": Text("đã làm rõ", "resolved"),
    "repeated": Text("trả lời lặp", "repeated"),
}


class Trouble(Exception):
    """What the command cannot go on with, told to the person."""


Url = Annotated[str, typer.Option("--url", envvar="NGSP_URL", help=tr("Địa chỉ của cổng.", "Address of the gateway."))]
Demo = Annotated[
    Path | None,
    typer.Option(
        help=tr(
            "Thư mục của bản chạy thử: lấy địa chỉ và tài khoản vận hành trong demo.json. Không có thì lấy "
            "NGSP_CLIENT_ID và NGSP_CLIENT_SECRET.",
            "Folder of the demo: address and operator are taken from its demo.json. Without it NGSP_CLIENT_ID and "
            "NGSP_CLIENT_SECRET are.",
        )
    ),
]
Json = Annotated[bool, typer.Option("--json", help=tr("Mỗi dòng một JSON.", "One JSON a line."))]


@contextmanager
def gateway(url: str, demo: Path | None) -> Iterator[Client]:
    """A gateway to talk to; what goes wrong meanwhile is told, and the command exits with 1."""
    with telling(), connected(*access_of(url, demo)) as bus:
        yield bus


@contextmanager
def telling() -> Iterator[None]:
    """Trouble within is told, and the command exits with 1."""
    try:
        yield
    except Trouble as trouble:
        typer.echo(str(trouble), err=True)
        raise typer.Exit(1) from None


@contextmanager
def connected(address: str, credentials: ClientSecret) -> Iterator[Client]:
    """The gateway at `address`; what goes wrong with it is `Trouble`."""
    from ngsp.client import CallError, Client

    try:
        with Client(address, credentials, language=language_of_terminal(), deadline_s=DEADLINE_S) as bus:
            yield bus
    except CallError as error:
        raise Trouble(told(error, address)) from None


def access_of(url: str, demo: Path | None, client: str | None = None) -> tuple[str, ClientSecret]:
    """The gateway's address and who calls it: of the environment, or of the demo.

    `client`: which of the demo's clients, empty for its first; None for its operator. `Trouble` where there is none.
    """
    from ngsp.client import ClientSecret

    if demo is None:
        id, secret = client or os.environ.get("NGSP_CLIENT_ID", ""), os.environ.get("NGSP_CLIENT_SECRET", "")
        if not id or not secret:
            raise Trouble(
                tr(
                    "Hãy đặt NGSP_CLIENT_ID và NGSP_CLIENT_SECRET, hoặc dùng --demo.",
                    "Set NGSP_CLIENT_ID and NGSP_CLIENT_SECRET, or use --demo.",
                )
            )
        return url or DEFAULT_URL, ClientSecret(id, secret)
    path = demo / "demo.json"
    try:
        found = json.loads(path.read_text("utf-8"))
        known = [found["operator"]] if client is None else found["clients"]
        chosen = next(each for each in known if not client or each["id"] == client)
        return url or found["base_url"], ClientSecret(chosen["id"], chosen["secret"])
    except StopIteration:
        raise Trouble(tr(f"{path} không có hệ thống {client}.", f"{path} has no client {client}.")) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise Trouble(
            tr(f"Không đọc được {path}: bản chạy thử đã chạy chưa?", f"Cannot read {path}: is the demo running?")
        ) from None


def told(error: CallError, url: str) -> str:
    """What a person is told of it; a problem with the gateway's own words."""
    from ngsp.client.errors import NotUnderstood, Problem, TokenRefused, Unreachable

    match error:
        case Problem():
            return f"{error.title} ({error.status} {error.code})\n{error.detail}\n{error.remedy}"
        case TokenRefused():
            return tr("Cổng không nhận định danh hoặc mật khẩu.", "The gateway refuses the client or its secret.")
        case NotUnderstood():
            return tr("Cổng không trả lời như mong đợi", "The gateway answered oddly") + f" ({error.status})"
        case Unreachable():
            return tr(f"Không kết nối được với {url}", f"Cannot reach {url}")
    return str(error)


def given(**parameters: str) -> dict[str, str]:
    return {name.rstrip("_"): value for name, value in parameters.items() if value}


def no_step(id: str) -> str:
    """`id`, but where it is a step that a path would go back by: then an id that nothing has."""
    return id if id.strip(".") else "-"


def print_json(items: Iterable[dict[str, Any]]) -> None:
    for item in items:
        typer.echo(json.dumps(item, ensure_ascii=False))


def moment(value: str | None) -> str:
    return f"{datetime.fromisoformat(value).astimezone():%Y-%m-%d %H:%M:%S}" if value else ""


def state_text(name: str) -> str:
    return _STATES[name].in_(language_of_terminal()) if name in _STATES else name
