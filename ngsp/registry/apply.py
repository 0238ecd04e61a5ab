"""`ngsp registry apply FILE|FOLDER`, less the command line itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, TextIO

import asyncpg
import sqlalchemy.exc

from ngsp import database
from ngsp.config import Settings
from ngsp.errors import NgspError
from ngsp.identity.secrets import hash_secret
from ngsp.registry.applying import apply
from ngsp.registry.declared import Declaration, read_declarations
from ngsp.registry.report import print_differences, print_secrets
from ngsp.registry.store import Registry
from ngsp.text import language_of_terminal, tr

DONE, CONFLICT, UNUSABLE = 0, 1, 2


def run_apply(path: Path, database_url: str, dry_run: bool, out: TextIO) -> int:
    """Prints what differs, then applies it. 0: done, or nothing to do; 1: a conflict, nothing applied; 2: the files or
    the database cannot be used."""
    declarations, errors = read_declarations(path)
    for error in errors:
        out.write(f"{error}\n")
    if errors:
        return UNUSABLE
    try:
        return asyncio.run(_apply(declarations, database_url, dry_run, out))
    except NgspError as error:
        text = error.text()
        language = language_of_terminal()
        out.write(f"{(error.detail or text.cause).in_(language)} {text.remedy.in_(language)}\n")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, sqlalchemy.exc.SQLAlchemyError) as error:
        # The driver's text may quote the address with its password: its kind says enough.
        out.write(
            tr(vi="Không dùng được cơ sở dữ liệu", en="The database cannot be used") + f" ({type(error).__name__}).\n"
        )
    return UNUSABLE


async def _apply(declarations: list[Declaration], database_url: str, dry_run: bool, out: TextIO) -> int:
    if await database.current_revision(database_url) != database.head_revision():
        out.write(
            tr(
                vi="Lược đồ cơ sở dữ liệu chưa ở bản mới nhất: hãy chạy `ngsp migrate`.",
                en="The database is not at the newest schema: run `ngsp migrate`.",
            )
            + "\n"
        )
        return UNUSABLE
    engine = database.engine(database_url, pool_size=2, name="ngsp-registry-apply")
    given: dict[str, Any] = {"database_url": database_url}
    registry = Registry(Settings(**given), engine, hash_secret)
    try:
        done = await apply(registry, declarations, dry_run=dry_run)
    finally:
        await engine.dispose()
    print_differences(done, out)
    if any(difference.action == "conflict" for difference in done):
        out.write(tr(vi="Không có gì được ghi.", en="Nothing was written.") + "\n")
        return CONFLICT
    if dry_run or all(difference.action == "keep" for difference in done):
        return DONE
    print_secrets(done, out)
    out.write(tr(vi="Đã ghi.", en="Written.") + "\n")
    return DONE
