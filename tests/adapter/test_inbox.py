"""What the inbox holds: nothing in plain, the reply until the deadline and a margin, and not longer."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ngsp.adapter import Refused, Request
from ngsp.adapter.inbox import MARGIN_S, PURGE_EVERY_S, TransactionalInbox, UncertainInbox
from ngsp.bus import EmbeddedBus
from ngsp.local.postgres import LocalPostgres
from ngsp.messages import Effect, Envelope, Reply, uuid7
from ngsp.vault import Vault, VaultError
from tests.adapter.conftest import OfficeOf
from tests.adapter.desk import desk_at
from tests.adapter.office import GUARDED, KEY, Office

MARKS = ("900123456789", "Nguyễn Thị Dấu", "planted-in-the-reply")
MARGIN_MS = int(MARGIN_S * 1000)

Inbox = TransactionalInbox | UncertainInbox


async def rows(office: Office, database: AsyncEngine) -> list[dict[str, Any]]:
    """The inbox as it is stored, by whichever database."""
    if office.effect == "transactional":
        async with database.connect() as connection:
            found = await connection.execute(text("SELECT * FROM ngsp_inbox"))
            return [dict(row._mapping) for row in found]
    (path,) = office.folder.glob("*-inbox.sqlite3")
    with sqlite3.connect(path) as file:
        file.row_factory = sqlite3.Row
        found_rows = [dict(row) for row in file.execute("SELECT * FROM ngsp_inbox")]
    file.close()
    return found_rows


async def change(office: Office, database: AsyncEngine, statement: str, message: str) -> None:
    if office.effect == "transactional":
        async with database.begin() as connection:
            await connection.execute(text(statement.replace("?", ":message")), {"message": message})
        return
    (path,) = office.folder.glob("*-inbox.sqlite3")
    with sqlite3.connect(path) as file:
        file.execute(statement, (message,))
    file.close()


async def row_of(office: Office, database: AsyncEngine, message: str) -> dict[str, Any]:
    (found,) = [row for row in await rows(office, database) if row["id"] == message]
    return found


@pytest.mark.parametrize("effect", GUARDED)
async def test_nothing_of_request_or_reply_is_stored_in_plain(
    embedded: EmbeddedBus, office_of: OfficeOf, database: AsyncEngine, effect: Effect
) -> None:
    office = office_of(effect)
    planted = {"number": MARKS[0], "name": MARKS[1], "words": MARKS[2]}

    async def answers_with_marks(request: Request) -> object:
        if request.payload["do"] == "refuse":
            raise Refused("NO")
        return planted

    office.work = answers_with_marks
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        marked: dict[str, Any] = {"officer": MARKS[1], "dossier": MARKS[2]}
        answered = desk.envelope({"do": "answer", **planted}, **marked)
        refused = desk.envelope({"do": "refuse", **planted}, **marked)
        replies = [await desk.ask(envelope) for envelope in (answered, refused)]
        assert [reply.status for reply in replies] == ["ok", "refused"]
        stored = b"".join(path.read_bytes() for path in office.folder.glob("*-inbox.sqlite3*"))
        for envelope in (answered, refused):
            row = await row_of(office, database, envelope.id)
            stored += b"".join(value if isinstance(value, bytes) else str(value).encode() for value in row.values())
            assert row["status"] == ("ok" if envelope is answered else "refused")
        assert answered.id.encode() in stored, "the scan sees what is there"
        for mark in MARKS:
            assert mark.encode() not in stored
            assert orjson.dumps(mark)[1:-1] not in stored
            assert mark.encode("utf-16-le") not in stored


@pytest.mark.parametrize("effect", GUARDED)
async def test_equal_replies_are_stored_differently(
    embedded: EmbeddedBus, office_of: OfficeOf, database: AsyncEngine, effect: Effect
) -> None:
    """So that nobody can tell from the inbox which messages had the same answer."""
    office = office_of(effect)

    async def same(request: Request) -> object:
        return {"number": MARKS[0]}

    office.work = same
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        sent = [(await desk.ask(desk.envelope())).id for _ in range(3)]
        assert len({(await row_of(office, database, message))["reply"] for message in sent}) == 3


@pytest.mark.parametrize("effect", GUARDED)
async def test_a_reply_is_kept_until_the_deadline_and_a_margin(
    embedded: EmbeddedBus, office_of: OfficeOf, database: AsyncEngine, effect: Effect
) -> None:
    office = office_of(effect)
    async with desk_at(embedded, office.path, [office.topic]) as desk:
        async with office.serving(embedded):
            kept, forgotten, expired = desk.envelope(), desk.envelope(), desk.envelope(deadline_s=-1)
            for envelope in (kept, forgotten, expired):
                await desk.ask(envelope)
                row = await row_of(office, database, envelope.id)
                assert row["keep_until_ms"] == envelope.deadline_ms + MARGIN_MS
        past = "UPDATE ngsp_inbox SET keep_until_ms = 1000 WHERE id = ?"
        await change(office, database, past, forgotten.id)
        async with office.serving(embedded):
            await desk.ask(desk.envelope())
            left = {row["id"] for row in await rows(office, database)}
            assert {kept.id, expired.id} <= left
            assert forgotten.id not in left
            assert (await desk.ask(kept)).body == desk.replies(kept.id)[0].body


@pytest.mark.parametrize("effect", GUARDED)
async def test_what_was_forgotten_is_too_late_to_be_done_again(
    embedded: EmbeddedBus, office_of: OfficeOf, database: AsyncEngine, effect: Effect
) -> None:
    office = office_of(effect)
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        late = desk.envelope(deadline_s=-(MARGIN_S + 60))
        assert (await desk.ask(late)).status == "expired"
        await change(office, database, "DELETE FROM ngsp_inbox WHERE id = ?", late.id)
        assert (await desk.ask(late)).status == "expired"
    assert office.calls == []


async def made(effect: Effect, url: str, folder: Path, clock: Any = time.time, key: bytes = KEY) -> Inbox:
    found: Inbox
    if effect == "transactional":
        found = TransactionalInbox(url, Vault(key), clock)
    else:
        found = UncertainInbox(folder / "inbox.sqlite3", Vault(key), clock)
    await found.prepare()
    return found


async def answer(inbox: Inbox, envelope: Envelope, status: str = "ok", body: bytes = b"{}") -> Reply:
    async def execute(_connection: object) -> Reply:
        return Reply(envelope.id, envelope.service, status, body)  # type: ignore[arg-type]

    return await inbox.once(envelope, execute)


def envelope_at(deadline_s: float) -> Envelope:
    return Envelope(uuid7(), "H41/entry/v1", int(deadline_s * 1000), "p", ("",), "s", "ngsp.reply.1", b"{}")


@pytest.mark.parametrize("effect", GUARDED)
async def test_a_process_that_runs_for_long_forgets_too(effect: Effect, database_url: str, tmp_path: Path) -> None:
    now_s = time.time() + 10 * 86_400
    inbox = await made(effect, database_url, tmp_path, lambda: now_s)
    try:
        first = envelope_at(now_s + 60)
        assert (await answer(inbox, first)).body == b"{}"
        now_s += 60 + MARGIN_S - 1
        await answer(inbox, envelope_at(now_s))
        assert (await answer(inbox, first, body=b"again")).body == b"{}", "kept within the margin"
        now_s += 2 + PURGE_EVERY_S
        assert (await answer(inbox, first, body=b"again")).body == b"again", "forgotten after it"
    finally:
        await inbox.close()


@pytest.mark.parametrize("effect", GUARDED)
@pytest.mark.parametrize("status", ["ok", "not-found", "refused", "failed", "expired", "unknown"])
async def test_every_answer_but_retry_is_kept(effect: Effect, status: str, database_url: str, tmp_path: Path) -> None:
    inbox = await made(effect, database_url, tmp_path)
    try:
        envelope = envelope_at(time.time() + 60)
        assert (await answer(inbox, envelope, "retry")).status == "retry"
        first = await answer(inbox, envelope, status, b"first")
        again = await answer(inbox, envelope, "ok", b"again")
        assert (first.status, first.body) == (again.status, again.body) == (status, b"first")
    finally:
        await inbox.close()


@pytest.mark.parametrize("effect", GUARDED)
async def test_a_reply_opens_with_its_key_only(effect: Effect, database_url: str, tmp_path: Path) -> None:
    envelope = envelope_at(time.time() + 60)
    inbox = await made(effect, database_url, tmp_path)
    await answer(inbox, envelope)
    await inbox.close()
    other = await made(effect, database_url, tmp_path, key=bytes(32))
    try:
        with pytest.raises(VaultError):
            await answer(other, envelope, body=b"not executed again")
    finally:
        await other.close()


async def test_deliveries_that_wait_for_one_that_is_cut_off_are_told(tmp_path: Path) -> None:
    """None of them hangs, and none executes it again."""
    inbox = UncertainInbox(tmp_path / "inbox.sqlite3", Vault(KEY))
    await inbox.prepare()
    started = asyncio.Event()
    envelope = envelope_at(time.time() + 60)

    async def never_ends(_connection: object) -> Reply:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def never_called(_connection: object) -> Reply:
        raise AssertionError

    first = asyncio.create_task(inbox.once(envelope, never_ends))
    await asyncio.wait_for(started.wait(), 20)
    waiting = [asyncio.create_task(inbox.once(envelope, never_called)) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    for task in waiting:
        with pytest.raises(RuntimeError, match="cut off"):
            await asyncio.wait_for(task, 20)
    assert (await inbox.once(envelope, never_called)).status == "unknown"
    await inbox.close()


async def test_an_effect_whose_end_cannot_be_written_is_answered_and_never_repeated(tmp_path: Path) -> None:
    """As on a full disk: the mark that it was begun is there, so a repeat is *unknown*."""
    path = tmp_path / "inbox.sqlite3"
    inbox = UncertainInbox(path, Vault(KEY))
    await inbox.prepare()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(
        "CREATE TRIGGER full BEFORE UPDATE ON ngsp_inbox BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
    )
    envelope = envelope_at(time.time() + 60)
    assert (await answer(inbox, envelope, body=b"done")).body == b"done"
    repeat = await answer(inbox, envelope, body=b"again")
    assert (repeat.status, repeat.code, repeat.body) == ("unknown", "interrupted", b"")
    other.close()
    await inbox.close()


async def test_an_effect_that_cannot_be_marked_is_not_begun(tmp_path: Path) -> None:
    path = tmp_path / "inbox.sqlite3"
    inbox = UncertainInbox(path, Vault(KEY))
    await inbox.prepare()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TRIGGER full BEFORE INSERT ON ngsp_inbox BEGIN SELECT RAISE(FAIL, 'disk is full'); END")
    envelope = envelope_at(time.time() + 60)

    async def never_called(_connection: object) -> Reply:
        raise AssertionError

    with pytest.raises(sqlite3.Error):
        await inbox.once(envelope, never_called)
    other.execute("DROP TRIGGER full")
    other.close()
    assert (await answer(inbox, envelope, body=b"done")).body == b"done"
    await inbox.close()


async def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    inbox = UncertainInbox(tmp_path / "inbox.sqlite3", Vault(KEY))
    await inbox.prepare()
    await answer(inbox, envelope_at(time.time() + 60))
    rights = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("inbox.sqlite3*")}
    assert rights == dict.fromkeys(("inbox.sqlite3", "inbox.sqlite3-wal", "inbox.sqlite3-shm"), 0o600)
    await inbox.close()


async def test_several_processes_make_the_table_at_once(postgres: LocalPostgres) -> None:
    name = f"inbox_{uuid7().replace('-', '')}"
    await postgres.create_database(name)
    inboxes = [TransactionalInbox(postgres.url(name), Vault(KEY)) for _ in range(8)]
    await asyncio.gather(*(inbox.prepare() for inbox in inboxes))
    for inbox in inboxes:
        await inbox.close()
    await postgres.drop_database(name)
