"""`ngsp collection`: the catalogue as a folder that Bruno opens, made for one client."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from ngsp.cli_remote import DEFAULT_URL, Demo, Trouble, Url, exit_with
from ngsp.text import language_of_terminal, tr

Client = Annotated[
    str,
    typer.Option(
        "--client",
        help=tr("Hệ thống sẽ gọi; mặc định NGSP_CLIENT_ID.", "The client that will call; NGSP_CLIENT_ID by default."),
    ),
]


def collection(
    out: Annotated[Path, typer.Option("--out", help=tr("Thư mục để ghi.", "Folder to write to."))],
    url: Url = "",
    demo: Demo = None,
    client: Client = "",
) -> None:
    try:
        base_url, id, secret = _credentials(url, demo, client)
        written = _write(out, base_url, id, secret)
    except Trouble as trouble:
        raise exit_with(trouble) from None
    typer.echo(tr(f"Đã ghi {written} tệp vào {out}.", f"Wrote {written} files to {out}."))


def _credentials(url: str, demo: Path | None, client: str) -> tuple[str, str, str]:
    """The gateway's address, the client and its secret: of the demo, or of the environment."""
    if demo is None:
        id, secret = client or os.environ.get("NGSP_CLIENT_ID", ""), os.environ.get("NGSP_CLIENT_SECRET", "")
        if not id or not secret:
            raise Trouble(
                tr(
                    "Hãy đặt NGSP_CLIENT_ID và NGSP_CLIENT_SECRET, hoặc dùng --demo.",
                    "Set NGSP_CLIENT_ID and NGSP_CLIENT_SECRET, or use --demo.",
                )
            )
        return url or DEFAULT_URL, id, secret
    path = demo / "demo.json"
    try:
        found = json.loads(path.read_text("utf-8"))
        chosen = next(each for each in found["clients"] if not client or each["id"] == client)
        return url or found["base_url"], chosen["id"], chosen["secret"]
    except StopIteration:
        raise Trouble(tr(f"{path} không có hệ thống {client}.", f"{path} has no client {client}.")) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise Trouble(
            tr(f"Không đọc được {path}: bản chạy thử đã chạy chưa?", f"Cannot read {path}: is the demo running?")
        ) from None


def _write(out: Path, base_url: str, id: str, secret: str) -> int:
    """How many files there are now. `Trouble` where the gateway says no, or the folder is somebody else's."""
    from ngsp.client import CallError, ClientSecret
    from ngsp.client import Client as Bus
    from ngsp.collection import bruno_collection

    if out.exists() and any(out.iterdir()) and not (out / "bruno.json").exists():
        raise Trouble(
            tr(f"{out} có tệp khác: hãy chọn thư mục trống.", f"{out} holds other files: choose an empty folder.")
        )
    language = language_of_terminal()
    try:
        with Bus(base_url, ClientSecret(id, secret), language=language) as bus:
            who = bus.get(f"/v1/clients/{id}")
            services, agreements = list(bus.services()), list(bus.items("/v1/agreements"))
    except CallError as error:
        raise Trouble(str(error)) from None
    files = bruno_collection(
        services,
        agreements,
        base_url=base_url,
        client=id,
        member=who["member"],
        language=language,
        sandbox=who["sandbox"],
    )
    for name, text in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return len(files)
