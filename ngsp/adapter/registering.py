"""What an adapter and its gateway say to each other beside the messages: registration, with its refusals."""

from __future__ import annotations

from ngsp.adapter.definition import Adapter
from ngsp.adapter.manifest import ManifestError
from ngsp.client import Answer, AsyncClient, ClientSecret
from ngsp.client.errors import Problem
from ngsp.client.repeating import NEVER
from ngsp.text import language_of_terminal, tr

TIMEOUT_S = 10.0


def connected(url: str, client: str, secret: str) -> AsyncClient:
    """The gateway at `url`, each request of it once. ManifestError where no client is named."""
    try:
        credentials = ClientSecret(client, secret)
    except ValueError:
        raise ManifestError(
            tr(
                "Thiếu NGSP_ADAPTER_CLIENT_ID hoặc NGSP_ADAPTER_CLIENT_SECRET_FILE",
                "NGSP_ADAPTER_CLIENT_ID or NGSP_ADAPTER_CLIENT_SECRET_FILE is missing",
            )
        ) from None
    return AsyncClient(url, credentials, language=language_of_terminal(), retry=NEVER, deadline_s=TIMEOUT_S)


async def put_manifest(gateway: AsyncClient, adapter: Adapter) -> Answer:
    """Registers or upgrades: 201 or 200. Raises a CallError."""
    return await gateway.ask("PUT", f"/v1/adapters/{adapter.id}", adapter.manifest.registration())


def refusal(problem: Problem) -> str:
    """What the gateway says of a manifest, with every place in it."""
    places = "".join(f"\n  {fault.pointer}: {fault.detail}" for fault in problem.faults)
    return f"{problem.code}: {problem.detail} {problem.remedy}{places}"
