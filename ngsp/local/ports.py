"""Free ports of this machine, for servers that are to keep theirs over restarts."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"
# Below the range the system gives to outgoing connections: a client that keeps calling a port of that range while its
# server is down can end up connected to itself, and then the server cannot have its port back.
_PORTS = range(20_000, 32_000)


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(*taken: int) -> int:
    """A port on 127.0.0.1 that is free now and none of `taken`; drawn, so that two who ask at once get two."""
    return next(port for port in random.sample(_PORTS, len(_PORTS)) if port not in taken and is_free(port))
