"""Which addresses a provider's system may have: public ones, and those the node's operator allows.

The rule is `ngsp.addresses`; here are the setting of an adapter's node and what is said to a manifest's author.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from ngsp.adapter.manifest import ManifestError
from ngsp.addresses import Addresses as Rule
from ngsp.addresses import AddressRefused
from ngsp.text import tr

__all__ = ["VARIABLE", "AddressRefused", "Addresses"]

VARIABLE = "NGSP_ADAPTER_ALLOWED_NETWORKS"
"""`10.1.0.0/16,127.0.0.1/32`: networks that back ends may be in though they are not public. Empty: none."""


class Addresses(Rule):
    """The rule of one node. `allowed`: see `VARIABLE`; ManifestError where that is no list of networks."""

    def __init__(self, allowed: str | None) -> None:
        try:
            super().__init__(allowed)
        except ValueError:
            raise ManifestError(
                tr(
                    f"{VARIABLE}: phải là các mạng như 10.1.0.0/16, cách nhau bởi dấu phẩy",
                    f"{VARIABLE}: must be networks such as 10.1.0.0/16, with commas between them",
                )
            ) from None

    @classmethod
    def of(cls, environment: Callable[[str], str | None]) -> Self:
        return cls(environment(VARIABLE))

    def check_host(self, host: str, place: str) -> None:
        """ManifestError where `host` is an IP address that is not allowed; a name is looked at when it is resolved."""
        try:
            allowed = self.allows(host)
        except ValueError:
            return
        if not allowed:
            raise ManifestError(
                tr(
                    f"{place}: địa chỉ {host} không công khai: hãy thêm mạng của nó vào {VARIABLE}",
                    f"{place}: the address {host} is not public: add its network to {VARIABLE}",
                )
            )
