"""A gateway as the command line speaks to it: credentials, one token, problems in the person's language."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ngsp.text import Text, language_of_terminal, tr

if TYPE_CHECKING:
    import httpx

DEFAULT_URL = "http://127.0.0.1:8080"
TIMEOUT_S = 30.0
SILENCE_S = 60.0
"""A stream gives a sign of life every fifteen seconds; after this long without one it is opened anew."""

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


class Broken(Trouble):
    """The connection or the gateway failed; it may be better later."""


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

    def post(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        """The JSON that `document` at `path` is answered with."""
        import httpx

        try:
            answer = self._http.post(path, json=document, headers=self._authorization())
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


def remote_of(url: str, demo: Path | None) -> Remote:
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


def given(**parameters: str) -> dict[str, Any]:
    return {name.rstrip("_"): value for name, value in parameters.items() if value}


def exit_with(trouble: Trouble) -> typer.Exit:
    typer.echo(str(trouble), err=True)
    return typer.Exit(1)


def moment(value: str | None) -> str:
    return f"{datetime.fromisoformat(value).astimezone():%Y-%m-%d %H:%M:%S}" if value else ""


def state_text(name: str) -> str:
    return _STATES[name].in_(language_of_terminal()) if name in _STATES else name
