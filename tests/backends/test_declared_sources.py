"""Sources that a manifest declares: over REST and SQL; what an answer that is none means; mistakes; the contract."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from ngsp.adapter import Adapter, AdapterError, Failed, Found, ManifestError, Refused, Unavailable
from ngsp.adapter.cursors import Cursors
from ngsp.adapter.events import Changes
from ngsp.adapter.sources import Feed
from ngsp.cli_adapter import adapter_app
from ngsp.local.child import signal_to
from ngsp.local.ports import free_port
from tests.adapter.adapter_process import PROJECT
from tests.adapter.journal import MARK, Bulletin
from tests.backends.declaring import LOCAL, load
from tests.backends.scripted import Scripted, json_answer, raw, scripted
from tests.support.providers import Provider
from tests.support.waiting import until

OPENED, CLOSED = "vn.h41.case.opened", "vn.h41.case.closed"
PATH = "H41/case-events/v1"
TIME = "2025-07-01T08:00:00+07:00"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"so": {"type": "integer"}, "nguoi": {"type": "string"}, "mau": {"type": "string"}},
    "required": ["so"],
    "additionalProperties": False,
}
MANIFEST = f"""\
id: h41-cases
provider: H41
backend:
BACKEND
tables:
  kinds: {{"M": {OPENED}, "K": {CLOSED}}}
services:
  - service: case-events
    version: v1
    mode: event
    deadline_s: 60
    title: {{vi: Hồ sơ, en: Cases}}
    description: {{vi: Hồ sơ, en: Cases}}
    events:
      {OPENED}: {{title: {{vi: Mở, en: Opened}}, schema: {orjson.dumps(SCHEMA).decode()}}}
      {CLOSED}: {{title: {{vi: Kết, en: Closed}}, schema: {orjson.dumps(SCHEMA).decode()}}}
    examples:
      - request: {{specversion: "1.0", id: "1", source: /h41, type: {OPENED}, data: {{so: 1}}}}
    source:
SOURCE
"""
REST = """\
kind: rest
url: {env: URL}
retry: {attempts: 1}
"""
REST_SOURCE = """\
every_s: 2
call:
  path: /changes
  query: {after: "cursor || `0`"}
items: body.list
event:
  id: item.no
  type: lookup('kinds', item.kind)
  subject: item.case
  time: item.at
  partitionkey: body.office
  source: "'/h41/mot-cua'"
  data: {so: item.no, nguoi: item.person}
cursor: body.last
more: body.more
"""
SQL = """\
kind: sql
url: {env: URL}
"""
SQL_SOURCE = """\
call:
  sql: SELECT no, kind, person FROM journal_x WHERE no > :after ORDER BY no LIMIT 2
  parameters: {after: "to_number(cursor || '0')"}
items: rows
event: {id: item.no, type: "lookup('kinds', item.kind)", data: {so: item.no, nguoi: item.person, mau: "'x'"}}
cursor: rows[-1].no
more: length(rows) == `2`
"""


def declared(backend: str, source: str) -> str:
    def indented(text: str, by: int) -> str:
        return "\n".join(" " * by + line for line in text.splitlines())

    return MANIFEST.replace("BACKEND", indented(backend, 2)).replace("SOURCE", indented(source, 6))


def entry(number: int, kind: str = "M", **others: Any) -> dict[str, Any]:
    return {"no": number, "kind": kind, "case": f"H41-{number}", "at": TIME, "person": MARK} | others


@asynccontextmanager
async def looking(folder: Path, text: str, **environment: str) -> AsyncIterator[Changes]:
    adapter = load(folder, text)
    async with adapter.open_resources((LOCAL | environment).get):
        yield adapter.sources[PATH].over(None)


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as found:
        yield found


def answers(server: Scripted, *bodies: bytes) -> None:
    left = list(bodies)

    async def answered(asked: Any, writer: Any) -> None:
        writer.write(left.pop(0))

    server.answer = answered


# Over REST


async def test_over_rest(server: Scripted, tmp_path: Path) -> None:
    answers(
        server,
        json_answer({"list": [entry(1), entry(2, "K", person="x")], "last": 2, "more": True, "office": "H41.1"}),
        json_answer({"list": [], "last": None, "more": False}),
    )
    async with looking(tmp_path, declared(REST, REST_SOURCE), URL=server.url) as changes:
        found = await changes(None)
        assert [event.to_publish("/unused").document() for event in found.events] == [
            {
                "specversion": "1.0",
                "id": "1",
                "source": "/h41/mot-cua",
                "type": OPENED,
                "time": TIME,
                "subject": "H41-1",
                "partitionkey": "H41.1",
                "datacontenttype": "application/json",
                "data": {"so": 1, "nguoi": MARK},
            },
            {
                "specversion": "1.0",
                "id": "2",
                "source": "/h41/mot-cua",
                "type": CLOSED,
                "time": TIME,
                "subject": "H41-2",
                "partitionkey": "H41.1",
                "datacontenttype": "application/json",
                "data": {"so": 2, "nguoi": "x"},
            },
        ]
        assert (found.cursor, found.more) == ("2", True)
        assert await changes("2") == Found([], None, False)
    assert [asked.query for asked in server.asked] == [[("after", "0")], [("after", "2")]]


@pytest.mark.parametrize(
    ("answer", "error", "code"),
    [
        (json_answer({"list": None, "last": 1}), Failed, "source-items"),
        (json_answer({"list": [entry(1, no=None)], "last": 1}), Failed, "source-event-without-id"),
        (json_answer({"list": [entry(1, no=True)], "last": 1}), Failed, "source-id"),
        (json_answer({"list": [entry(1, no={"a": 1})], "last": 1}), Failed, "source-id"),
        (json_answer({"list": [entry(1, "Z")], "last": 1}), Failed, "source-type"),
        (json_answer({"list": [entry(1, at="2025-07-01T08:00:00")], "last": 1}), Failed, "source-time"),
        (json_answer({"list": [entry(1, at="soon")], "last": 1}), Failed, "source-time"),
        (json_answer({"list": [entry(1)], "last": [1]}), Failed, "source-cursor"),
        (json_answer({}, "503 Service Unavailable"), Unavailable, "backend-status-503"),
        (json_answer({"code": "NO"}, "409 Conflict"), Refused, "NO"),
        (raw("200 OK", b"<html>", Content_Type="text/html"), Failed, "backend-not-json"),
    ],
)
async def test_an_answer_that_gives_no_events(
    server: Scripted, tmp_path: Path, answer: bytes, error: type[AdapterError], code: str
) -> None:
    answers(server, answer)
    rules = 'outcomes:\n  - {when: "status == `409`", outcome: refused, code: "{body.code}"}\n'
    async with looking(tmp_path, declared(REST, rules + REST_SOURCE), URL=server.url) as changes:
        with pytest.raises(error) as told:
            await changes(None)
    assert told.value.code == code


async def test_the_breaker_leaves_a_system_alone_that_is_down(server: Scripted, tmp_path: Path) -> None:
    answers(server, *[json_answer({}, "503 Service Unavailable")] * 2)
    text = declared(REST + "breaker: {failures: 2}\n", REST_SOURCE)
    async with looking(tmp_path, text, URL=server.url) as changes:
        codes = []
        for _ in range(3):
            with pytest.raises(Unavailable) as told:
                await changes(None)
            codes.append(told.value.code)
    assert codes == ["backend-status-503", "backend-status-503", "backend-left-alone"]


# Over SQL


async def test_over_sql(provider: Provider, tmp_path: Path) -> None:
    table = f"journal_{uuid.uuid4().hex[:8]}"
    await provider.run(f"CREATE TABLE {table} (no integer PRIMARY KEY, kind char(1), person varchar(20))")
    for no in range(1, 6):
        await provider.execute(f"INSERT INTO {table} VALUES (:no, 'M', :person)", no=no, person=MARK)
    text = declared(SQL, SQL_SOURCE.replace("journal_x", table))
    async with looking(tmp_path, text, URL=provider.url) as changes:
        cursors, bulletin = Cursors.beside(tmp_path / "cursors.sqlite3"), Bulletin()
        await cursors.prepare()
        source = load(tmp_path, text).sources[PATH]
        feed = Feed(source, changes, "/H41/h41-cases", cursors, bulletin.publish)
        assert [await feed.step() for _ in range(3)] == [0.0, 0.0, 5.0]
        assert bulletin.batches == [["1", "2"], ["3", "4"], ["5"]]
        await provider.execute(f"INSERT INTO {table} VALUES (6, 'K', :person)", person=MARK)
        await feed.step()
        assert (bulletin.ids[-1], bulletin.events[-1].type) == ("6", CLOSED)
        assert await feed.step() == 5.0
        await cursors.close()
    assert len(bulletin.ids) == 6


# Mistakes


@pytest.mark.parametrize(
    ("change", "line", "told"),
    [
        (("items: body.list\n", ""), "source:", "/services/0/source/items: A required field is missing."),
        (("more: body.more", "mor: body.more"), "mor: body.more", "/services/0/source/mor: There is no key 'mor'"),
        (("every_s: 2", "every_s: 0"), "every_s: 0", "/services/0/source/every_s: Must be greater than 0"),
        (("id: item.no", "id: payload.no"), "id: payload.no", "/services/0/source/event/id: There is no 'payload'"),
        (("items: body.list", "items: item"), "items: item", "/services/0/source/items: There is no 'item' here"),
        (("items: body.list", "items: rows"), "items: rows", "/services/0/source/items: There is no 'rows' here"),
        (("cursor ||", "payload ||"), "query:", "/services/0/source/call/query/after: There is no 'payload'"),
        (("path: /changes", "path: changes"), "path: changes", "/services/0/source/call/path: A path begins with /"),
        (
            ("type: lookup('kinds', item.kind)", "type: \"'vn.h41.other'\""),
            "type: \"'vn.h41.other'\"",
            f"/services/0/source/event/type: Must be one of: {OPENED}, {CLOSED}.",
        ),
        (("  subject: item.case", "  subjekt: item.case"), "subjekt:", "/services/0/source/event/subjekt: There is no"),
        (("cursor: body.last", "cursor: body.["), "cursor: body.[", "/services/0/source/cursor: Not JMESPath"),
    ],
)
def test_a_mistake_is_told_where_it_is(
    change: tuple[str, str], line: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")
    source = REST_SOURCE.replace(*change)
    assert source != REST_SOURCE
    text = declared(REST, source)
    with pytest.raises(ManifestError) as found:
        load(tmp_path, text)
    (message,) = str(found.value).splitlines()
    _, number, rest = message.removeprefix(str(tmp_path)).split(":", 2)
    assert text.splitlines()[int(number) - 1].strip().startswith(line)
    assert rest.strip().startswith(told), rest


def test_a_source_needs_a_back_end_and_a_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")
    alone = declared(REST, REST_SOURCE).replace("backend:\n  kind: rest\n  url: {env: URL}\n", "")
    with pytest.raises(ManifestError, match="/services/0/source/call: There is no back end to call"):
        load(tmp_path, alone.replace("  retry: {attempts: 1}\n", ""))
    writing = SQL_SOURCE.replace("SELECT no, kind, person", "DELETE")
    with pytest.raises(ManifestError, match="/services/0/source/call/sql: "):
        load(tmp_path, declared(SQL, writing))


def test_it_stays_in_the_adapter(tmp_path: Path) -> None:
    (service,) = load(tmp_path, declared(REST, REST_SOURCE)).manifest.registration()["services"]
    assert "source" not in service


# The contract


def typed(*arguments: str, exits: int = 0) -> str:
    done = CliRunner().invoke(adapter_app, arguments)
    assert done.exit_code == exits, done.output
    return done.output


@pytest.mark.usefixtures("own_logging")
async def test_its_contract_on_a_recorded_answer(
    server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")
    monkeypatch.setenv("URL", server.url)
    for name, value in LOCAL.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "h41_cases"
    folder.mkdir()
    manifest = folder / "manifest.yaml"
    manifest.write_text(declared(REST, REST_SOURCE), "utf-8")
    found = {"list": [entry(1)], "last": 1, "more": False}
    answers(server, *[json_answer(found)] * 3, json_answer(found | {"list": [entry(1, case=7)], "page": 1}))

    def run(*arguments: str, exits: int = 0) -> str:
        return typed(*arguments, str(folder), exits=exits)

    assert "no recorded answer for case-events/v1" in await asyncio.to_thread(run, "test", exits=2)
    told = await asyncio.to_thread(run, "test", "--record")
    assert "✓ case-events/v1  source: 1 recorded answers" in told
    (file,) = (folder / "recordings").iterdir()
    assert orjson.loads(file.read_bytes())["expect"]["reply"]["events"][0]["subject"] == "H41-1"
    assert "✓ case-events/v1  source: 1 events" in await asyncio.to_thread(run, "test", "--live")
    assert "Nothing has changed" in await asyncio.to_thread(run, "drift")
    told = await asyncio.to_thread(run, "drift", exits=1)
    assert "/page: – → number" in told
    assert "/list/*/case: string → number" in told

    manifest.write_text(declared(REST, REST_SOURCE.replace("subject: item.case", "subject: item.at")), "utf-8")
    assert "/expect/reply: the events have changed" in await asyncio.to_thread(run, "test", exits=1)
    shutil.rmtree(folder / "recordings")
    answers(server, *[json_answer(found | {"list": [entry(1, person=5)]})] * 2)
    manifest.write_text(declared(REST, REST_SOURCE), "utf-8")
    told = await asyncio.to_thread(run, "test", "--live", exits=1)
    assert "/0/data/nguoi: " in told
    manifest.write_text(declared(REST, REST_SOURCE.replace("nguoi: item", "tuoi: item")), "utf-8")
    told = await asyncio.to_thread(run, "check", exits=1)
    assert "source/event/data/tuoi: no type of event has such a member" in told


@pytest.fixture
def in_python(tmp_path: Path) -> Path:
    """The folder of an adapter with a source in Python, whose second event is off its schema."""
    folder = tmp_path / "h41_python_cases"
    folder.mkdir()
    text = declared(REST, "").replace("backend:\n  kind: rest\n  url: {env: URL}\n  retry: {attempts: 1}\n", "")
    (folder / "manifest.yaml").write_text(text.replace("    source:\n", ""), "utf-8")
    (folder / "adapter.py").write_text(
        f"""
from pathlib import Path
from ngsp.adapter import Adapter, Event, Found

adapter = Adapter.load(Path(__file__).with_name("manifest.yaml"))


@adapter.source("case-events", "v1")
async def changes(cursor: str | None) -> Found:
    return Found([Event("{OPENED}", {{"so": 1}}, "1"), Event("{CLOSED}", {{"so": "2"}}, "2")], "2")
""",
        "utf-8",
    )
    return folder


@pytest.mark.usefixtures("own_logging")
def test_a_source_in_python_is_tried_itself(in_python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")
    told = typed("test", str(in_python), exits=1)
    assert "✗ case-events/v1  source: 2 events" in told
    assert "/1/data/so: " in told


async def test_dev_shows_what_a_source_publishes(in_python: Path, tmp_path: Path) -> None:
    log = tmp_path / "dev.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ngsp", "adapter", "dev", str(in_python), "--once", "--port", str(free_port())),
            stdout=out,
            stderr=out,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "NGSP_LANGUAGE": "en"},
            cwd=PROJECT,
        )
    try:
        await until(lambda: "/data/so" in log.read_text("utf-8"), "the events", 40)
        shown = log.read_text("utf-8")
        assert f'⇒ {PATH} {{"specversion":"1.0","id":"1","source":"/H41/h41-cases","type":"{OPENED}"' in shown
        assert "  ! /data/so: " in shown
    finally:
        signal_to(process, signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 30)


def test_adapters_without_sources_have_none() -> None:
    assert Adapter.named("h41-x", "H41").sources == {}
