"""The address of a webhook, as far as it can be judged before it is asked: its form, and literal addresses in it.

What a name resolves to is judged when it is connected to (`ngsp.addresses`).
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from ngsp.addresses import Addresses
from ngsp.text import Text

_CHARACTERS = re.compile(r"[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]+")
_NAME = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""The last label begins with a letter: a resolver takes `127.1` and `0x7f000001` for addresses."""
_LONGEST_NAME = 253


def url_fault(url: str, allowed: str) -> Text | None:
    """Why `url` cannot be a webhook's; None where it can. `allowed`: `NGSP_WEBHOOK_ALLOWED_NETWORKS`."""
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        return Text("Không phải địa chỉ https.", "Not an https address.")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        return Text("Địa chỉ không được mang tên hay mật khẩu.", "An address carries no name and no password.")
    literal = _literal(parts.hostname)
    if literal is None:
        if not _NAME.fullmatch(parts.hostname) or len(parts.hostname) > _LONGEST_NAME:
            return Text("Tên máy không đúng dạng.", "The name of the host is not of its form.")
        return None if parts.scheme == "https" else _HTTPS
    public = Addresses("").allows(literal)
    if not public and not Addresses(allowed).allows(literal):
        return Text("Địa chỉ này không phải địa chỉ công cộng.", "This address is not a public one.")
    return _HTTPS if public and parts.scheme != "https" else None


_HTTPS = Text("Phải là https.", "Must be https.")


def _split(url: str) -> SplitResult | None:
    if not _CHARACTERS.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _literal(host: str) -> str | None:
    """The address that `host` is, without asking anybody; None for a name. `localhost` (RFC 6761) is the machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return "127.0.0.1"
    try:
        return str(ip_address(host))
    except ValueError:
        return None
