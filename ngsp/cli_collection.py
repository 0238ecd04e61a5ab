"""`ngsp collection`: the catalogue as a folder that Bruno opens, made for one client."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ngsp.cli_remote import Demo, Trouble, Url, access_of, connected, telling
from ngsp.text import language_of_terminal, tr

if TYPE_CHECKING:
    from ngsp.client import Client as Bus

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
    with telling():
        base_url, credentials = access_of(url, demo, client)
        with connected(base_url, credentials) as bus:
            written = _write(out, base_url, credentials.client_id, bus)
    typer.echo(tr(f"Đã ghi {written} tệp vào {out}.", f"Wrote {written} files to {out}."))


def _write(out: Path, base_url: str, id: str, bus: Bus) -> int:
    """How many files there are now. `Trouble` where the folder is somebody else's."""
    from ngsp.collection import bruno_collection

    if out.exists() and any(out.iterdir()) and not (out / "bruno.json").exists():
        raise Trouble(
            tr(f"{out} có tệp khác: hãy chọn thư mục trống.", f"{out} holds other files: choose an empty folder.")
        )
    who = bus.get(f"/v1/clients/{id}")
    services, agreements = list(bus.services()), list(bus.items("/v1/agreements"))
    files = bruno_collection(
        services,
        agreements,
        base_url=base_url,
        client=id,
        member=who["member"],
        language=language_of_terminal(),
        sandbox=who["sandbox"],
        scopes=who["scopes"],
    )
    for name, text in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return len(files)
