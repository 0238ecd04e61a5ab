"""Every mistake in a statement is refused when the manifest is read, with its line and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from ngsp.adapter import Adapter, ManifestError
from ngsp.adapter.runner import AdapterRunner
from ngsp.bus import EmbeddedBus
from ngsp.vault import Vault
from tests.backends.declaring import load, manifest
from tests.backends.sql_office import SUBMISSION, VARIABLE, written

PUT_IN = "write :name"
ONE_NAME = "A parameter is written :name."


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")


def complaint(folder: Path, text: str) -> str:
    """What is said of the only mistake in the manifest `text`; its line is that of the place it names."""
    with pytest.raises(ManifestError) as found:
        load(folder, text)
    (message,) = str(found.value).splitlines()
    return message.removeprefix(f"{folder}/manifest.yaml:")


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT a FROM t WHERE id = '{payload.id}'", PUT_IN),
        ("SELECT a FROM t WHERE id = {payload.id}", PUT_IN),
        ("SELECT a FROM t WHERE id = %(id)s", PUT_IN),
        ("SELECT a FROM t WHERE id = '%s'", PUT_IN),
        ("SELECT a FROM t WHERE id = %s", ONE_NAME),
        ("SELECT a FROM t WHERE id = ?", ONE_NAME),
        ("SELECT a FROM t WHERE id = $1", ONE_NAME),
        ("SELECT a FROM t WHERE id = ':id'", ":id stands in quotes, so it is no parameter"),
        ('SELECT a FROM t WHERE id = " :id"', ":id stands in quotes, so it is no parameter"),
        ("SELECT a FROM t; DELETE FROM t", "One statement, without a semicolon."),
        ("SELECT a FROM t;", "One statement, without a semicolon."),
        ("SELECT a FROM t -- all of it", "Comments belong to YAML"),
        ("SELECT a /* all */ FROM t", "Comments belong to YAML"),
        ("SELECT a FROM t WHERE b = 'it's'", "quotes must match"),
        ("SELECT a FROM t WHERE b = 'it\\'s'", "A backslash means another thing to each database"),
        ("SELECT a::date FROM t", "Convert with CAST(… AS …)."),
        ("COMMIT", "Must begin with one of: SELECT, WITH"),
        ("SET ROLE admin", "Must begin with one of: SELECT, WITH"),
        ("COPY t TO PROGRAM 'sh'", "Must begin with one of: SELECT, WITH"),
        ("ATTACH DATABASE 'x' AS y", "Must begin with one of: SELECT, WITH"),
        ("PRAGMA query_only = 0", "Must begin with one of: SELECT, WITH"),
        ("", "Must be an SQL statement."),
        ("SELECT 1" + " " * 20_000, "Must be an SQL statement."),
        ("SELECT a FROM t WHERE id = :số", ":số: a name is of a-z, digits and _."),
        ("INSERT INTO t VALUES (1)", "A query begins with one of: SELECT, WITH, VALUES, TABLE, CALL."),
        ("DELETE FROM t", "A query begins with one of: SELECT, WITH, VALUES, TABLE, CALL."),
    ],
)
def test_a_statement_that_is_none_or_could_be_written_into(tmp_path: Path, sql: str, told: str) -> None:
    message = complaint(tmp_path, written({"sql": sql}))
    assert "/services/0/call/sql: " in message
    assert told in message


@pytest.mark.parametrize(
    ("call", "place", "told"),
    [
        ({"sql": "SELECT :a AS a"}, "/parameters", "The parameters lack a; where it is none, write \\: before it."),
        ({"sql": "SELECT 1 AS a", "parameters": {"b": "id"}}, "/parameters/b", "The statement does not use :b"),
        ({"sql": "SELECT :a AS a", "parameters": {"a": "nothing.b"}}, "/parameters/a", "There is no 'nothing' here"),
        ({"sql": "SELECT 1 AS a", "rows": "all"}, "/rows", "Must be one of: 'one' or 'many'."),
        ({"sql": "SELECT 1 AS a", "max_rows": 0}, "/max_rows", "Must be at least 1."),
        ({"sql": "SELECT 1 AS a", "limit": 5}, "/limit", "There is no key 'limit'"),
        ({"statement": "SELECT 1"}, "/statement", "There is no key 'statement'"),
    ],
)
def test_a_call_that_is_wrong(tmp_path: Path, call: dict[str, object], place: str, told: str) -> None:
    with pytest.raises(ManifestError) as found:
        load(tmp_path, written(call))
    assert any(f"/services/0/call{place}: {told}" in line for line in str(found.value).splitlines())


@pytest.mark.parametrize(
    ("mode", "effect"), [("submission", "idempotent"), ("query", "transactional"), ("submission", "uncertain")]
)
def test_what_writes_is_a_transactional_submission(tmp_path: Path, mode: str, effect: str) -> None:
    with pytest.raises(ManifestError, match="transactional"):
        load(tmp_path, written({"sql": "SELECT :id AS a", "parameters": {"id": "id"}}, mode=mode, effect=effect))


def test_an_address_stands_elsewhere(tmp_path: Path) -> None:
    text = manifest("{kind: sql, url: 'postgresql://u:secret@h/d'}", "call: {sql: SELECT 1 AS a}")
    message = complaint(tmp_path, text)
    assert "No value in a manifest: write {env: NAME}" in message
    assert "secret" not in message


async def test_two_databases_for_one_inbox_are_refused(tmp_path: Path) -> None:
    text = written({"sql": "INSERT INTO t VALUES (1)"}, **SUBMISSION) + "database_url_env: OFFICE_OTHER_URL\n"
    adapter: Adapter = load(tmp_path, text)
    environment = {VARIABLE: "sqlite:////one", "OFFICE_OTHER_URL": "sqlite:////other"}
    runner = AdapterRunner(adapter, EmbeddedBus(), Vault(bytes(32)), tmp_path, environment=environment.get)
    with pytest.raises(ManifestError, match="database_url_env"):
        await runner.start()
