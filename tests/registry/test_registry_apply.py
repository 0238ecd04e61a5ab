"""`ngsp registry apply`: idempotent, all or nothing, prints what differs, and refuses what it cannot read for sure."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from ngsp import database
from ngsp.identity.secrets import verify_secret
from tests.registry.applying import MEMBERS, run, write
from tests.support.registry import REPLY_SCHEMA, REQUEST_SCHEMA, temporary_database

if TYPE_CHECKING:
    from pathlib import Path

    from ngsp.local.postgres import LocalPostgres

CLIENTS = """
kind: client
id: h41-one-stop
member: H41
name: {vi: Một cửa, en: One-stop shop}
scopes: [exchange]
secret: generate
"""
MANIFEST = """
id: g01-population
provider: G01.01
database_url_env: NGSP_POPULATION_URL
services:
  - service: population-lookup
    version: v1
    title: {vi: Tra cứu, en: Look-up}
    description: {vi: Tra cứu công dân, en: Looks a citizen up}
    mode: query
    effect: idempotent
    deadline_s: 5
    max_body_bytes: 4096
    request_schema: ../schemas/request.json
    reply_schema: ../schemas/reply.json
    examples: ../schemas/examples
"""
AGREEMENTS = """
kind: agreement
reference: h41-population
consumer: H41
service: G01.01/population-lookup/v1
purposes: [birth-registration]
legal_basis: Nghị định 63/2024/NĐ-CP
fields: [/id, /name/last]
quota_per_minute: 600
valid_from: 2026-01-01
accepted: true
"""


@pytest.fixture(scope="module")
async def untouched(postgres: LocalPostgres) -> AsyncIterator[str]:
    """A database that no test may change."""
    async with temporary_database(postgres) as url:
        yield url
        opened = await database.connect(url)
        assert (await state(opened))[0] == 0
        await opened.close()


@pytest.fixture
async def connection(url: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await database.connect(url)
    yield opened
    await opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Agreements come first by name, so that the order of files cannot be what makes it work."""
    root = tmp_path / "registry"
    for name, content in {
        "1-agreements.yaml": AGREEMENTS,
        "2-clients.yaml": CLIENTS,
        "adapters/manifest.yaml": MANIFEST,
        "members.yml": MEMBERS,
        "schemas/request.json": json.dumps(REQUEST_SCHEMA),
        "schemas/reply.json": json.dumps(REPLY_SCHEMA),
        "schemas/examples/1.json": json.dumps({"request": {"id": "900123456789"}}),
    }.items():
        write(root / name, content)
    return root


async def state(connection: asyncpg.Connection) -> tuple[Any, ...]:
    """The revision and the number of everything."""
    row = await connection.fetchrow(
        "SELECT (SELECT revision FROM registry_revision), (SELECT count(*) FROM members),"
        " (SELECT count(*) FROM clients), (SELECT count(*) FROM services), (SELECT count(*) FROM agreement_versions)"
    )
    return tuple(row)


async def test_applies_all_and_a_second_time_nothing(
    folder: Path, url: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")
    code, printed = await run(folder, url)
    assert code == 0, printed
    assert await state(connection) == (1, 2, 1, 1, 1), "one transaction for all"
    assert "+ create: member H41" in printed
    assert "create: 5, update: 0, unchanged: 0, conflict: 0" in printed
    assert printed.index("+ create") < printed.index("Written.")
    secret = printed.split("secret, shown this once: ")[1].split()[0]
    stored = await connection.fetchval("SELECT secret_hash FROM clients")
    assert await verify_secret(stored, secret)
    assert await connection.fetchval("SELECT state FROM agreement_versions") == "accepted"
    events = await connection.fetch("SELECT event, client FROM agreement_events ORDER BY id")
    assert [tuple(event) for event in events] == [
        ("proposed", "ngsp-registry-apply"),
        ("accepted", "ngsp-registry-apply"),
    ]
    code, printed = await run(folder, url)
    assert (code, printed) == (0, "create: 0, update: 0, unchanged: 5, conflict: 0\n")
    assert (await state(connection))[0] == 1


async def test_dry_run_writes_nothing(folder: Path, url: str, connection: asyncpg.Connection) -> None:
    write(folder / "2-clients.yaml", CLIENTS.replace("secret: generate", "secret_file: ../one-stop.secret"))
    before = await state(connection)
    code, printed = await run(folder, url, dry_run=True)
    assert code == 0
    assert "H41" in printed
    assert await state(connection) == before
    assert not (folder.parent / "one-stop.secret").exists()


async def test_changes_are_shown_and_made(
    folder: Path, url: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")
    await run(folder, url)
    write(folder / "members.yml", MEMBERS.replace("zone: province", "zone: internet"))
    write(folder / "2-clients.yaml", CLIENTS.replace("[exchange]", "[exchange, registry]"))
    write(folder / "1-agreements.yaml", AGREEMENTS.replace("[/id, /name/last]", "[/id, /name]"))
    code, printed = await run(folder, url)
    assert code == 0, printed
    assert "~ update: member H41" in printed
    assert "    zone: province → internet" in printed
    assert "    scopes: exchange → exchange, registry" in printed
    assert "    fields: /id, /name/last → /id, /name" in printed
    versions = await connection.fetch("SELECT version, state FROM agreement_versions ORDER BY version")
    assert [tuple(version) for version in versions] == [(1, "superseded"), (2, "accepted")]
    assert (await run(folder, url))[1] == "create: 0, update: 0, unchanged: 5, conflict: 0\n"


async def test_one_conflict_stops_all(
    folder: Path, url: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")
    await run(folder, url)
    before = await state(connection)
    write(folder / "members.yml", MEMBERS.replace("zone: province", "zone: internet"))
    write(folder / "adapters/manifest.yaml", MANIFEST.replace("mode: query", "mode: submission"))
    code, printed = await run(folder, url)
    assert code == 1
    assert "! conflict: adapter g01-population" in printed
    assert "line 10, /services/0/mode" in printed
    assert "Nothing was written." in printed
    assert await state(connection) == before
    assert await connection.fetchval("SELECT zone FROM members WHERE code = 'H41'") == "province"


async def test_what_a_provider_refused_is_not_accepted_by_a_file(
    folder: Path, url: str, connection: asyncpg.Connection
) -> None:
    await run(folder, url)
    await connection.execute("UPDATE agreement_versions SET state = 'refused'")
    code, printed = await run(folder, url)
    assert code == 1, printed
    assert await connection.fetchval("SELECT array_agg(state) FROM agreement_versions") == ["refused"]


async def test_unknown_member_is_a_conflict_with_its_line(folder: Path, url: str) -> None:
    write(folder / "2-clients.yaml", CLIENTS.replace("member: H41", "member: X99"))
    code, printed = await run(folder, url)
    assert code == 1
    assert "4, /member" in printed


async def test_secret_goes_to_a_file_for_its_owner_alone(
    folder: Path, url: str, connection: asyncpg.Connection
) -> None:
    write(folder / "2-clients.yaml", CLIENTS.replace("secret: generate", "secret_file: one-stop.secret"))
    code, printed = await run(folder, url)
    assert code == 0, printed
    file = folder / "one-stop.secret"
    secret = file.read_text("ascii").strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert secret not in printed
    assert await verify_secret(await connection.fetchval("SELECT secret_hash FROM clients"), secret)
    assert (await run(folder, url))[0] == 0
    assert file.read_text("ascii").strip() == secret


async def test_secret_file_is_never_written_over(folder: Path, url: str, connection: asyncpg.Connection) -> None:
    write(folder / "2-clients.yaml", CLIENTS.replace("secret: generate", "secret_file: one-stop.secret"))
    write(folder / "one-stop.secret", "precious")
    code, printed = await run(folder, url)
    assert code == 1
    assert "one-stop.secret" in printed
    assert (folder / "one-stop.secret").read_text() == "precious"
    assert (await state(connection))[1] == 0


async def test_secret_file_goes_where_nothing_was_applied(folder: Path, url: str) -> None:
    write(folder / "2-clients.yaml", CLIENTS.replace("secret: generate", "secret_file: one-stop.secret"))
    write(folder / "1-agreements.yaml", AGREEMENTS.replace("/name/last", "/nobody"))
    assert (await run(folder, url))[0] == 1
    assert not (folder / "one-stop.secret").exists()


async def test_one_file_and_a_manifest_by_its_path(folder: Path, url: str, connection: asyncpg.Connection) -> None:
    write(folder.parent / "one.yaml", MEMBERS + "---\nkind: adapter\nmanifest: registry/adapters/manifest.yaml\n")
    code, printed = await run(folder.parent / "one.yaml", url)
    assert code == 0, printed
    assert await connection.fetchval("SELECT state FROM services") == "active"


BAD_FILES = {
    "unknown key": (MEMBERS.replace("zone: province", "zone: province\ncolour: red"), 14, "/colour"),
    "duplicate key": (MEMBERS.replace("code: H41", "code: H41\ncode: H42"), 11, "code"),
    "wrong type": (
        MEMBERS.replace("valid_from: 2020-01-01\nzone: province", "valid_from: 2020\nzone: province"),
        12,
        "",
    ),
    "no kind": ("code: H41\n", 1, "kind"),
    "another kind": ("kind: memeber\ncode: H41\n", 1, "kind"),
    "not a mapping": ("- kind: member\n", 1, ""),
    "not yaml": ("kind: [member\n", 2, ""),
    "alias": ("a: &a [x, x]\nb: *a\n", 2, ""),
    "alias bomb": ("a: &a [x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n", 2, ""),
    "merge": ("base: &base {x: 1}\nkind: member\n<<: *base\n", 3, ""),
    "too deep": ("kind: " + "[" * 200 + "]" * 200, 1, ""),
    "python tag": ("kind: !!python/object/apply:os.system ['true']\n", 1, ""),
    "binary": ("kind: !!binary aGVsbG8=\n", 1, ""),
    "number as a key": ("kind: member\n1: x\n", 2, ""),
    "huge integer": ("kind: member\ncode: 99999999999999999999999\n", 2, ""),
    "secret in the file": (CLIENTS.replace("secret: generate", "secret: hunter2"), 7, "/secret"),
    "two ways for a secret": (CLIENTS + "secret_file: x\n", 2, ""),
    "schema that is not there": (MANIFEST.replace("../schemas/request.json", "no.json"), 14, "no.json"),
    "twice": (MEMBERS + "---" + MEMBERS, 15, ""),
    "hidden character": (MEMBERS.replace("Nghệ An,", "Nghệ\u200bAn,"), 11, "/name/vi"),
}


@pytest.mark.parametrize("case", BAD_FILES)
async def test_files_that_are_refused(
    tmp_path: Path, untouched: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")
    content, line, word = BAD_FILES[case]
    write(tmp_path / "bad.yaml", content)
    code, printed = await run(tmp_path / "bad.yaml", untouched)
    assert code == 2, printed
    assert f"bad.yaml:{line}: " in printed
    assert word in printed
    assert "hunter2" not in printed


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"kind: \x00\n"])
async def test_files_that_are_no_text_are_refused(tmp_path: Path, untouched: str, content: bytes) -> None:
    (tmp_path / "bad.yaml").write_bytes(content)
    code, printed = await run(tmp_path / "bad.yaml", untouched)
    assert code == 2
    assert "bad.yaml:1: " in printed


async def test_paths_and_databases_that_are_not_there(
    tmp_path: Path, url: str, postgres: LocalPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")
    assert (await run(tmp_path / "none.yaml", url))[0] == 2
    assert (await run(tmp_path, url))[0] == 2, "a folder without a file"
    write(tmp_path / "members.yaml", MEMBERS)
    code, printed = await run(tmp_path, postgres.url("no_such_database"))
    assert (code, "The database cannot be used" in printed) == (2, True)
    await postgres.create_database("not_migrated")
    code, printed = await run(tmp_path, postgres.url("not_migrated"))
    assert (code, "ngsp migrate" in printed) == (2, True)


async def test_yaml_is_read_as_json_would_be(tmp_path: Path, url: str, connection: asyncpg.Connection) -> None:
    """YAML 1.1 takes `NO` for false and `12:30` for 750: a name is a name."""
    write(tmp_path / "m.yaml", MEMBERS.replace("{vi: Nghệ An, en: Nghe An}", "{vi: 'NO', en: NO}"))
    code, printed = await run(tmp_path, url)
    assert code == 0, printed
    assert await connection.fetchval("SELECT name_en FROM members WHERE code = 'H41'") == "NO"
