"""A new key-encryption key in front: secrets of webhooks are sealed under it, before the old one is taken out."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import structlog
from sqlalchemy import select

from ngsp.registry.change import Change, fetch
from ngsp.registry.model import webhook_secret_name
from ngsp.registry.tables import subscriptions
from ngsp.vault import Vault, VaultError

log = structlog.get_logger(__name__)


async def reseal_secrets(change: Change, vault: Vault) -> int:
    """Of how many subscriptions. One that does not open stays as it is, said loudly: its owner must get a new one."""
    resealed = 0
    for row in await fetch(change.connection, select(subscriptions).where(subscriptions.c.url != "")):
        secrets = [_resealed(secret, row["id"], vault) for secret in row["secrets"]]
        _, changes = await change.put(subscriptions, {"id": row["id"]}, {"secrets": secrets}, row)
        resealed += bool(changes)
    return resealed


def _resealed(secret: dict[str, Any], subscription: str, vault: Vault) -> dict[str, Any]:
    sealed = b64decode(secret["sealed"])
    if vault.is_first(sealed):
        return secret
    name = webhook_secret_name(subscription)
    try:
        again = vault.seal_secret(name, vault.open_secret(name, sealed))
    except VaultError as error:
        log.error("the secret of a webhook does not open", subscription=subscription, reason=str(error))
        return secret
    return secret | {"sealed": b64encode(again).decode()}
