"""`ngsp transactions list|show|follow`: the transaction log from the command line, by REST to a gateway."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ngsp.text import Text, language_of_terminal, tr

if TYPE_CHECKING:
    import httpx

transactions_app = typer.Typer(
    no_args_is_help=True, help=tr("Nhật ký giao dịch, qua một cổng.", "The transaction log, through a gateway.")
)

DEFAULT_URL = "http://127.0.0.1:8080"
PAGE = 500
TIMEOUT_S = 30.0
SILENCE_S = 60.0
"""A stream gives a sign of life every fifteen seconds; after this long without one it is opened anew."""
RETRY_MIN_S, RETRY_MAX_S = 1.0, 15.0

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
_COLOURS = {"succeeded": "green", "refused": "yellow", "failed": "red", "expired": "red", "unknown": "magenta"}


class Trouble(Exception):
    """What the command cannot go on with, told to the person."""


class Broken(Trouble):
    """The connection or the gateway failed; it may be better later."""


def _filter(name: str, vi: str, en: str) -> Any:
    return typer.Option(f"--{name}", help=tr(vi, en))


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
After = Annotated[str, _filter("after", "Nối tiếp sau sự kiện có id này.", "Go on after the event of this id.")]
Count = Annotated[
    int, typer.Option(min=0, help=tr("Dừng sau số sự kiện này; 0: không dừng.", "Stop after so many; 0: never."))
]


@dataclass
class Remote:
    """A gateway, with the credentials to talk to it."""

    url: str
    client: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        import httpx

        self._language = {"Accept-Language": language_of_terminal()}
        timeout = httpx.Timeout(TIMEOUT_S, read=SILENCE_S + TIMEOUT_S)
        self._http = httpx.Client(base_url=self.url, timeout=timeout, headers=self._language)
        self._token = ""

    def get(self, path: str, parameters: dict[str, Any], wait_s: int = 0) -> dict[str, Any]:
        """The JSON at `path`. `Trouble` with the problem's own words where it is refused."""
        import httpx

        headers = self._authorization() | ({"Prefer": f"wait={wait_s}"} if wait_s else {})
        try:
            answer = self._http.get(path, params=parameters, headers=headers)
        except httpx.TransportError as error:
            raise Broken(_unreachable(self.url, error)) from error
        if answer.status_code != 200:
            raise _refused(answer.status_code, answer.content)
        found: dict[str, Any] = answer.json()
        return found

    def events(self, parameters: dict[str, Any], after: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
        """Events of the stream with their ids, None for a sign of life; ends where the stream does."""
        import httpx

        self._token = ""  # a stream lives as long as its token: a new one for each
        headers = self._authorization() | ({"Last-Event-ID": after} if after else {})
        try:
            with self._http.stream("GET", "/v1/transactions/stream", params=parameters, headers=headers) as answer:
                if answer.status_code != 200:
                    raise _refused(answer.status_code, answer.read())
                yield from _read_events(answer)
        except httpx.TransportError as error:
            raise Broken(_unreachable(self.url, error)) from error

    def _authorization(self) -> dict[str, str]:
        if not self._token:
            self._token = self._new_token()
        return {"Authorization": f"Bearer {self._token}"}

    def _new_token(self) -> str:
        import httpx

        try:
            answer = self._http.post(
                "/oauth2/token", data={"grant_type": "client_credentials"}, auth=(self.client, self.secret)
            )
        except httpx.TransportError as error:
            raise Broken(_unreachable(self.url, error)) from error
        if answer.status_code >= 500:
            raise Broken(tr("Cổng chưa cấp được mã truy cập.", "The gateway cannot issue a token now."))
        if answer.status_code != 200:
            raise Trouble(
                tr("Cổng không nhận định danh hoặc mật khẩu.", "The gateway refuses the client or its secret.")
            )
        return str(answer.json()["access_token"])


def _read_events(answer: httpx.Response) -> Iterator[tuple[str, dict[str, Any] | None]]:
    id = data = ""
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            id = value
        elif name == "data":
            data = value
        elif not line and id:
            yield id, json.loads(data) if data else None
            data = ""


def _refused(status: int, content: bytes) -> Trouble:
    try:
        problem = json.loads(content)
        title, code, more = problem["title"], problem["code"], f"\n{problem['detail']}\n{problem['remedy']}"
    except (ValueError, KeyError, TypeError):
        title, code, more = tr("Cổng không trả lời như mong đợi", "The gateway answered oddly"), "?", ""
    told = f"{title} ({status} {code})"
    return Broken(told) if status >= 500 or status == 429 else Trouble(told + more)


def _unreachable(url: str, error: Exception) -> str:
    return tr(f"Không kết nối được với {url}", f"Cannot reach {url}") + f" ({type(error).__name__})"


def _remote(url: str, demo: Path | None) -> Remote:
    if demo is None:
        client, secret = os.environ.get("NGSP_CLIENT_ID", ""), os.environ.get("NGSP_CLIENT_SECRET", "")
        if not client or not secret:
            raise Trouble(
                tr(
                    "Hãy đặt NGSP_CLIENT_ID và NGSP_CLIENT_SECRET, hoặc dùng --demo.",
                    "Set NGSP_CLIENT_ID and NGSP_CLIENT_SECRET, or use --demo.",
                )
            )
        return Remote(url or DEFAULT_URL, client, secret)
    try:
        found = json.loads((demo / "demo.json").read_text("utf-8"))
        return Remote(url or found["base_url"], found["operator"]["id"], found["operator"]["secret"])
    except (OSError, ValueError, KeyError, TypeError):
        path = demo / "demo.json"
        raise Trouble(
            tr(f"Không đọc được {path}: bản chạy thử đã chạy chưa?", f"Cannot read {path}: is the demo running?")
        ) from None


def _given(**parameters: str) -> dict[str, Any]:
    return {name.rstrip("_"): value for name, value in parameters.items() if value}


def _exit(trouble: Trouble) -> typer.Exit:
    typer.echo(str(trouble), err=True)
    return typer.Exit(1)


@transactions_app.command("list", help=tr("Liệt kê giao dịch, mới nhất trước.", "List transactions, newest first."))
def list_transactions(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help=tr("Số giao dịch tối đa.", "Most to list."))] = 20,
    url: Url = "", demo: Demo = None, as_json: Json = False, from_: From = "", to: To = "", consumer: Consumer = "",
    provider: Provider = "", service: Service = "", outcome: Outcome = "", purpose: Purpose = "", dossier: Dossier = "",
    trace: Trace = "", officer: Officer = "",
) -> None:  # fmt: skip
    wanted = _given(
        from_=from_, to=to, consumer=consumer, provider=provider, service=service, outcome=outcome, purpose=purpose,
        dossier=dossier, trace=trace, officer=officer,
    )  # fmt: skip
    try:
        found = _items(_remote(url, demo), wanted, limit)
        if as_json:
            for item in found:
                typer.echo(json.dumps(item, ensure_ascii=False))
        else:
            _print_table(list(found))
    except Trouble as trouble:
        raise _exit(trouble) from None


def _items(remote: Remote, wanted: dict[str, Any], limit: int) -> Iterator[dict[str, Any]]:
    """At most `limit` items, page by page; a page may be short or empty and still have one after it."""
    left, cursor = limit, None
    while left:
        page = remote.get(
            "/v1/transactions", {**wanted, "limit": min(left, PAGE)} | ({"cursor": cursor} if cursor else {})
        )
        yield from page["items"]
        left -= len(page["items"])
        cursor = page["next"]
        if cursor is None:
            return


@transactions_app.command("show", help=tr("Một giao dịch với các bản ghi.", "One transaction with its entries."))
def show_transaction(
    id: Annotated[str, typer.Argument(help=tr("Mã giao dịch.", "Id of the transaction."))],
    wait: Annotated[int, typer.Option(min=0, max=60, help=tr("Chờ kết quả (giây).", "Wait for the outcome (s)."))] = 0,
    url: Url = "",
    demo: Demo = None,
    as_json: Json = False,
) -> None:
    try:
        found = _remote(url, demo).get(f"/v1/transactions/{_one_step(id)}", {}, wait_s=wait)
    except Trouble as trouble:
        raise _exit(trouble) from None
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        _print_transaction(found)


def _one_step(id: str) -> str:
    from urllib.parse import quote

    return quote(id, safe="") if id.strip(".") else "-"


@transactions_app.command(
    "follow", help=tr("Theo dõi giao dịch khi chúng diễn ra.", "Follow transactions as they happen.")
)
def follow_transactions(
    after: After = "", count: Count = 0,
    url: Url = "", demo: Demo = None, as_json: Json = False, from_: From = "", to: To = "", consumer: Consumer = "",
    provider: Provider = "", service: Service = "", outcome: Outcome = "", purpose: Purpose = "", dossier: Dossier = "",
    trace: Trace = "", officer: Officer = "",
) -> None:  # fmt: skip
    wanted = _given(
        from_=from_, to=to, consumer=consumer, provider=provider, service=service, outcome=outcome, purpose=purpose,
        dossier=dossier, trace=trace, officer=officer,
    )  # fmt: skip
    seen = 0
    try:
        for id, event in _followed(_remote(url, demo), wanted, after):
            typer.echo(json.dumps({"id": id, **event}, ensure_ascii=False) if as_json else _line(event))
            sys.stdout.flush()
            seen += 1
            if seen == count:
                return
    except Trouble as trouble:
        raise _exit(trouble) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _followed(remote: Remote, wanted: dict[str, Any], after: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Events without end: a stream that ends or breaks is taken up again where it was left."""
    pause_s = RETRY_MIN_S
    while True:
        try:
            for id, event in remote.events(wanted, after):
                after, pause_s = id, RETRY_MIN_S
                if event is not None:
                    yield id, event
        except Broken as trouble:
            typer.echo(
                tr(f"{trouble}; thử lại sau {pause_s:.0f} giây", f"{trouble}; again in {pause_s:.0f} s"), err=True
            )
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, RETRY_MAX_S)


def _moment(value: str | None) -> str:
    return f"{datetime.fromisoformat(value).astimezone():%Y-%m-%d %H:%M:%S}" if value else ""


def _state(name: str) -> str:
    return _STATES[name].in_(language_of_terminal()) if name in _STATES else name


def _line(event: dict[str, Any]) -> str:
    item = event["transaction"]
    parts = (
        _moment(event["at"]),
        item["id"],
        _state(event["kind"]),
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
        state = Rich(_state(item["state"]), style=_COLOURS.get(item["state"], ""))
        cells = (item["consumer"], item["service"], item["code"], spent)
        table.add_row(_moment(item["accepted_at"]), item["id"], state, *(Rich(cell or "") for cell in cells))
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
        table.add_row(name, Rich(_state(shown) if name == "state" else shown))
    console = Console(width=None if sys.stdout.isatty() else 180, highlight=False)
    console.print(table)
    for entry in found["entries"]:
        hidden = ("at", "kind", "canonical", "tx", "v", "node")
        rest = {name: value for name, value in entry.items() if name not in hidden}
        heading = f"\n{_moment(entry.get('at'))}  {_state(entry.get('kind', '?'))}"
        console.print(Rich(heading, style="bold"))
        console.print(Rich(json.dumps(rest, ensure_ascii=False, indent=2)))
