"""Where a request comes from: the peer's address, or what a trusted proxy says of it."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from starlette.types import Scope

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LOCAL = "local"
"""A caller over a Unix socket has no address."""
MOST_HOPS = 20


def client_address(scope: Scope, trusted_proxies: str) -> str:
    """The address of the nearest party that is not a trusted proxy, or `local`.

    `trusted_proxies`: addresses and networks separated by commas. `X-Forwarded-For` is read from its right end, since
    what stands left of the first untrusted hop is that hop's own claim. Asking twice gives the same answer, so that a
    server which has done it already does no harm.
    """
    client = scope.get("client")
    peer = _parse(client[0]) if client else None
    if peer is None:
        return LOCAL
    trusted = trusted_networks(trusted_proxies)
    if not _among(peer, trusted):
        return str(peer)
    nearest = peer
    for hop in reversed(_forwarded_for(scope)):
        address = _parse(hop)
        if address is None:
            break
        nearest = address
        if not _among(address, trusted):
            break
    return str(nearest)


def throttle_group(address: str) -> str:
    """What counts as one address when attempts are counted: of IPv6 the /64, which one customer has to himself."""
    parsed = _parse(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((int(parsed) >> 64 << 64, 64)))
    return address


@lru_cache(maxsize=16)
def trusted_networks(setting: str) -> tuple[Network, ...]:
    """The networks named in the setting. ValueError where one is none."""
    return tuple(ip_network(part.strip()) for part in setting.split(",") if part.strip())


def _forwarded_for(scope: Scope) -> list[str]:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    joined = b",".join(value for name, value in headers if name == b"x-forwarded-for")
    return [hop.strip() for hop in joined.decode("latin-1").split(",") if hop.strip()][-MOST_HOPS:]


def _parse(text: Any) -> Address | None:
    """An address with or without a port; one of IPv4 written as IPv6 is IPv4."""
    if not isinstance(text, str):
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _among(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
