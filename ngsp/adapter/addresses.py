"""Which addresses a provider's system may have: public ones, and those the node's operator allows.

A manifest comes from its author; without this rule one could make the adapter ask the machine it runs on, its
neighbours, or the cloud's metadata service. An address is looked at when a connection is made to it, after the name was
resolved, so that a name which changes its address meanwhile gains nothing.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from ngsp.adapter.manifest import ManifestError
from ngsp.text import tr

VARIABLE = "NGSP_ADAPTER_ALLOWED_NETWORKS"
"""`10.1.0.0/16,127.0.0.1/32`: networks that back ends may be in though they are not public. Empty: none."""

_NAT64 = IPv6Network("64:ff9b::/96")

Address = IPv4Address | IPv6Address


class AddressRefused(OSError):
    """The address is neither public nor on the node's list."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "address not allowed")


class Addresses:
    """The rule of one node. `allowed`: see `VARIABLE`; ManifestError where that is no list of networks."""

    def __init__(self, allowed: str | None) -> None:
        names = [name.strip() for name in (allowed or "").split(",") if name.strip()]
        try:
            self._allowed: list[IPv4Network | IPv6Network] = [ip_network(name) for name in names]
        except ValueError:
            raise ManifestError(
                tr(
                    f"{VARIABLE}: phải là các mạng như 10.1.0.0/16, cách nhau bởi dấu phẩy",
                    f"{VARIABLE}: must be networks such as 10.1.0.0/16, with commas between them",
                )
            ) from None

    @classmethod
    def of(cls, environment: Callable[[str], str | None]) -> Addresses:
        return cls(environment(VARIABLE))

    def allows(self, address: str) -> bool:
        """Whether a back end may have the IP address `address`."""
        found = ip_address(address.partition("%")[0])
        inner = _inner(found)
        if any(found in network or inner in network for network in self._allowed):
            return True
        return inner.is_global and not inner.is_multicast and not inner.is_reserved

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

    def socket(self, resolved: tuple[Any, Any, int, str, Any]) -> socket.socket:
        """A socket for an address of `getaddrinfo`, not connected yet. AddressRefused where it is not allowed."""
        family, kind, protocol, _, address = resolved
        if not self.allows(address[0]):
            raise AddressRefused
        return socket.socket(family, kind, protocol)


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 address only wraps (mapped, NAT64, 6to4), else itself."""
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address
