"""Secrets that the registry makes and must read again are sealed by the vault; made here where none is given."""

from __future__ import annotations

from collections.abc import Callable

from ngsp.config import Settings
from ngsp.errors import StateConflict
from ngsp.text import Text
from ngsp.vault import Vault

Seal = Callable[[str, bytes], bytes]
"""What it is bound to, and the secret → it sealed: `Vault.seal_secret`."""


def seal_by(settings: Settings) -> Seal:
    """A vault's sealing under the keys of `settings`, read when the first secret is: who makes none needs no key.

    The result raises `StateConflict` where there is no key.
    """
    vaults: list[Vault] = []

    def seal(name: str, secret: bytes) -> bytes:
        if not vaults:
            try:
                vaults.append(Vault(settings.key_encryption_keys()))
            except (OSError, ValueError):
                raise StateConflict(
                    Text(
                        "Chưa có khóa để niêm phong bí mật: hãy đặt NGSP_KEK_FILE.",
                        "There is no key to seal the secret with: set NGSP_KEK_FILE.",
                    ),
                    reason="no key-encryption key",
                ) from None
        return vaults[0].seal_secret(name, secret)

    return seal
