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

from ngsp.adapter import Refused, Request
from ngsp.adapter.inbox import MARGIN_S, PURGE_EVERY_S, TransactionalInbox, UncertainInbox
from ngsp.bus import EmbeddedBus
from ngsp.messages import Envelope, Reply, uuid7
from ngsp.vault import Vault, VaultError
from tests.adapter.conftest import Keeping
from tests.adapter.desk import desk_at
from tests.adapter.office import KEY

MARKS = ("900123456789", "Nguyễn Thị Dấu", "planted-in-the-reply")
MARGIN_MS = int(MARGIN_S * 1000)

Inbox = TransactionalInbox | UncertainInbox


async def rows(keeping: Keeping) -> list[dict[str, Any]]:
    """The inbox as it is stored, by whichever database."""
    if keeping.provider is not None:
        return [dict(row._mapping) for row in await keeping.provider.rows("SELECT * FROM ngsp_inbox")]
    (path,) = keeping.folder.glob("*-inbox.sqlite3")
    with sqlite3.connect(path) as file:
        file.row_factory = sqlite3.Row
        found_rows = [dict(row) for row in file.execute("SELECT * FROM ngsp_inbox")]
    file.close()
    return found_rows


async def change(keeping: Keeping, statement: str, message: str) -> None:
    if keeping.provider is not None:
        async with keeping.provider.engine.begin() as connection:
            await connection.execute(text(statement.replace("?", ":message")), {"message": message})
        return
    (path,) = keeping.folder.glob("*-inbox.sqlite3")
    with sqlite3.connect(path) as file:
        file.execute(statement, (message,))
    file.close()


async def row_of(keeping: Keeping, message: str) -> dict[str, Any]:
    (found,) = [row for row in await rows(keeping) if row["id"] == message]
    return found


async def test_nothing_of_request_or_reply_is_stored_in_plain(embedded: EmbeddedBus, keeping: Keeping) -> None:
    office = keeping.office()
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
            row = await row_of(keeping, envelope.id)
            stored += b"".join(value if isinstance(value, bytes) else str(value).encode() for value in row.values())
            assert row["status"] == ("ok" if envelope is answered else "refused")
        assert answered.id.encode() in stored, "the scan sees what is there"
        for mark in MARKS:
            assert mark.encode() not in stored
            assert orjson.dumps(mark)[1:-1] not in stored
            assert mark.encode("utf-16-le") not in stored


async def test_equal_replies_are_stored_differently(embedded: EmbeddedBus, keeping: Keeping) -> None:
    """So that nobody can tell from the inbox which messages had the same answer."""
    office = keeping.office()

    async def same(request: Request) -> object:
        return {"number": MARKS[0]}

    office.work = same
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        sent = [(await desk.ask(desk.envelope())).id for _ in range(3)]
        assert len({(await row_of(keeping, message))["reply"] for message in sent}) == 3


async def test_a_reply_is_kept_until_the_deadline_and_a_margin(embedded: EmbeddedBus, keeping: Keeping) -> None:
    office = keeping.office()
    async with desk_at(embedded, office.path, [office.topic]) as desk:
        async with office.serving(embedded):
            kept, forgotten, expired = desk.envelope(), desk.envelope(), desk.envelope(deadline_s=-1)
            for envelope in (kept, forgotten, expired):
                await desk.ask(envelope)
                row = await row_of(keeping, envelope.id)
                assert row["keep_until_ms"] == envelope.deadline_ms + MARGIN_MS
        past = "UPDATE ngsp_inbox SET keep_until_ms = 1000 WHERE id = ?"
        await change(keeping, past, forgotten.id)
        async with office.serving(embedded):
            await desk.ask(desk.envelope())
            left = {row["id"] for row in await rows(keeping)}
            assert {kept.id, expired.id} <= left
            assert forgotten.id not in left
            assert (await desk.ask(kept)).body == desk.replies(kept.id)[0].body


async def test_what_was_forgotten_is_too_late_to_be_done_again(embedded: EmbeddedBus, keeping: Keeping) -> None:
    office = keeping.office()
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        late = desk.envelope(deadline_s=-(MARGIN_S + 60))
        assert (await desk.ask(late)).status == "expired"
        await change(keeping, "DELETE FROM ngsp_inbox WHERE id = ?", late.id)
        assert (await desk.ask(late)).status == "expired"
    assert office.calls == []


async def made(keeping: Keeping, clock: Any = time.time, key: bytes = KEY) -> Inbox:
    found: Inbox
    if keeping.provider is not None:
        found = TransactionalInbox(keeping.provider.url, Vault(key), clock)
    else:
        found = UncertainInbox(keeping.folder / "inbox.sqlite3", Vault(key), clock)
    await found.prepare()
    return found


async def answer(inbox: Inbox, envelope: Envelope, status: str = "ok", body: bytes = b"{}") -> Reply:
    async def execute(_connection: object) -> Reply:
        return Reply(envelope.id, envelope.service, status, body)  # type: ignore[arg-type]

    return await inbox.once(envelope, execute)


def envelope_at(deadline_s: float) -> Envelope:
    return Envelope(uuid7(), "H41/entry/v1", int(deadline_s * 1000), "p", ("",), "s", "ngsp.reply.1", b"{}")


async def test_a_process_that_runs_for_long_forgets_too(keeping: Keeping) -> None:
    now_s = time.time() + 10 * 86_400
    inbox = await made(keeping, lambda: now_s)
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


@pytest.mark.parametrize("status", ["ok", "not-found", "refused", "failed", "expired", "unknown"])
async def test_every_answer_but_retry_is_kept(keeping: Keeping, status: str) -> None:
    inbox = await made(keeping)
    try:
        envelope = envelope_at(time.time() + 60)
        assert (await answer(inbox, envelope, "retry")).status == "retry"
        first = await answer(inbox, envelope, status, b"first")
        again = await answer(inbox, envelope, "ok", b"again")
        assert (first.status, first.body) == (again.status, again.body) == (status, b"first")
    finally:
        await inbox.close()


async def test_a_reply_opens_with_its_key_only(keeping: Keeping) -> None:
    envelope = envelope_at(time.time() + 60)
    inbox = await made(keeping)
    await answer(inbox, envelope)
    await inbox.close()
    other = await made(keeping, key=bytes(32))
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
