"""Which addresses may be connected to for somebody else: public ones, and those that the node's operator allows.

Whoever names an address for the node to connect to (the author of a manifest, a subscriber with a webhook) could
otherwise make it ask the machine it runs on, its neighbours, or the cloud's metadata service. An address is looked at
when a connection is made to it, after the name was resolved, so that a name which changes its address meanwhile gains
nothing.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

_NAT64 = IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All that is given out of IPv6; leaves out what `is_global` does not know in each release: site-local, local NAT64."""
_SPECIAL = (IPv4Network("192.0.0.0/24"), IPv6Network("3fff::/20"))
"""Protocol assignments, among them the metadata service of one cloud, and documentation (RFC 6890, RFC 9637): older
releases of Python take them for public."""

Address = IPv4Address | IPv6Address


class AddressRefused(OSError):
    """The address is neither public nor on the node's list."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "address not allowed")


class Addresses:
    """One rule. `allowed`: networks that may be connected to though they are not public (`10.1.0.0/16,127.0.0.1/32`),
    empty for none. ValueError where that is no list of networks."""

    def __init__(self, allowed: str | None) -> None:
        names = [name.strip() for name in (allowed or "").split(",") if name.strip()]
        self._allowed: list[IPv4Network | IPv6Network] = [ip_network(name) for name in names]

    def allows(self, address: str) -> bool:
        """Whether the IP address `address` may be connected to. ValueError where it is none."""
        found = ip_address(address.partition("%")[0])
        inner = _inner(found)
        if any(found in network or inner in network for network in self._allowed):
            return True
        return _is_public(inner)

    def socket(self, resolved: tuple[Any, Any, int, str, Any]) -> socket.socket:
        """A socket for an address of `getaddrinfo`, not connected yet. AddressRefused where it is not allowed."""
        family, kind, protocol, _, address = resolved
        if not self.allows(address[0]):
            raise AddressRefused
        return socket.socket(family, kind, protocol)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    special = address.is_multicast or address.is_reserved or any(address in network for network in _SPECIAL)
    return address.is_global and not special


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 address only wraps (mapped, NAT64, 6to4), else itself."""
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address
