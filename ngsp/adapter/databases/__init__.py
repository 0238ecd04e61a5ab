"""A provider's SQL database, by its address:

`postgresql://user:password@host:5432/name`      PostgreSQL, in any form that libpq takes
`mysql://user:password@host:3306/name`           MariaDB and MySQL; `?unix_socket=PATH`, `?ssl_ca=PATH`
`sqlite:////folder/file.sqlite3`                 a SQLite file, which must be there

Sessions have the time zone Asia/Ho_Chi_Minh and refuse values that do not fit; those for reading cannot write. Each
kind is imported, with its driver, where an address names it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from ngsp.adapter.databases.base import Allows, Complaint, Database, Unreachable, passing, timed_out
from ngsp.adapter.manifest import ManifestError
from ngsp.text import tr

__all__ = ["Allows", "Complaint", "Database", "Unreachable", "database_at", "passing", "timed_out"]

_KINDS: Mapping[str, tuple[str, str]] = {
    "postgresql": ("postgresql", "PostgreSql"),
    "postgres": ("postgresql", "PostgreSql"),
    "mysql": ("mariadb", "MariaDb"),
    "mariadb": ("mariadb", "MariaDb"),
    "sqlite": ("sqlite", "Sqlite"),
}


def database_at(
    url: str,
    *,
    connections: int,
    read_only: bool = False,
    connect_timeout_s: float = 5.0,
    limit_s: float | None = None,
    allows: Allows | None = None,
) -> Database:
    """The database at `url`; opens nothing yet. ManifestError, without the address, where that is none of these.

    `limit_s`: statements take no longer; see `Database.limit`. `allows`: which IP addresses it may have; None: any.
    """
    scheme = url.partition("://")[0].partition("+")[0]
    if "://" not in url or scheme not in _KINDS:
        known = ", ".join(f"{name}://" for name in ("postgresql", "mysql", "sqlite"))
        raise ManifestError(
            tr(
                f"Địa chỉ cơ sở dữ liệu phải bắt đầu bằng một trong: {known}",
                f"The address of a database begins with one of: {known}",
            )
        )
    module, name = _KINDS[scheme]
    kind: type[Database] = getattr(importlib.import_module(f"ngsp.adapter.databases.{module}"), name)
    return kind(url, connections, read_only, connect_timeout_s, limit_s, allows)
