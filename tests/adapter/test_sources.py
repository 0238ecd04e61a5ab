"""Sources: the cursor goes on only behind what is durable; nothing is lost, passed over or published as two."""

from __future__ import annotations

import asyncio
import stat
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from ngsp.adapter import Event, Found, ManifestError, Unavailable, sources
from ngsp.adapter.cursors import Cursors
from ngsp.adapter.events import Changes, Source
from ngsp.adapter.runner import AdapterRunner
from ngsp.adapter.sources import BATCH_BYTES, FAILING, REFUSED, WORK_S, Feed, pause_s
from ngsp.bus import EmbeddedBus, Topic
from ngsp.vault import Vault
from tests.adapter.journal import CHANGED, EVERY_S, MARK, Bulletin, Clock, Journal, adapter, feed
from tests.adapter.office import DATABASE_VARIABLE, KEY, manifest
from tests.support.providers import Provider
from tests.support.waiting import until


@dataclass
class Kept:
    """Cursors in a provider's database by a clock of the test's. `service`: no other test has it."""

    cursors: Cursors
    clock: Clock
    service: str

    def feed(self, journal: Journal, bulletin: Bulletin) -> Feed:
        return feed(journal, bulletin, self.cursors, self.service)

    async def cursor(self) -> str | None:
        """As it is kept now, whoever's turn it is."""
        self.clock.now += WORK_S + EVERY_S
        turn = await self.cursors.take(self.service, "the test", 0)
        assert turn is not None
        await self.cursors.let_go(self.service, "the test")
        return turn.cursor


@pytest.fixture
async def kept(provider: Provider) -> AsyncIterator[Kept]:
    clock = Clock()
    cursors = Cursors.at(provider.url, clock, None)
    await cursors.prepare()
    await cursors.prepare()
    yield Kept(cursors, clock, f"H41/{uuid.uuid4().hex}/v1")
    await cursors.close()


async def test_the_cursor_is_kept_behind_what_is_durable(kept: Kept) -> None:
    journal, bulletin = Journal(), Bulletin(down=True)
    at_work = kept.feed(journal, bulletin)
    await at_work.step()
    assert (await kept.cursor(), at_work.trouble, bulletin.ids) == (None, FAILING, [])
    bulletin.down = False
    assert await at_work.step() == EVERY_S
    assert (await kept.cursor(), at_work.trouble, bulletin.ids) == ("3", "", ["1", "2", "3"])
    journal.size = 4
    await at_work.step()
    await at_work.step()
    assert (journal.asked, bulletin.ids) == ([None, None, "3", "4"], ["1", "2", "3", "4"])
    assert await kept.cursor() == "4", "nothing new: from where it was"


class Dying(Cursors):
    """The process is gone before the cursor is kept."""

    async def keep(self, service: str, holder: str, cursor: str | None, for_s: float) -> None:
        raise asyncio.CancelledError

    async def let_go(self, service: str, holder: str) -> None:
        raise AssertionError("the dead do nothing")


async def test_what_a_crash_cut_off_is_published_again_under_the_same_ids(kept: Kept) -> None:
    journal, bulletin = Journal(), Bulletin()
    dying = feed(journal, bulletin, Dying(kept.cursors._database, kept.clock), kept.service)
    died = asyncio.create_task(dying.step())
    died.cancel()  # the step sees that it is its own task that ends
    with pytest.raises(asyncio.CancelledError):
        await died
    task = asyncio.create_task(dying._look())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bulletin.batches == [["1", "2", "3"]]
    after = kept.feed(journal, bulletin)
    assert await after.step() == EVERY_S
    assert bulletin.batches == [["1", "2", "3"]], "not its turn while the other may yet live"
    kept.clock.now += WORK_S
    await after.step()
    assert (bulletin.batches, bulletin.ids) == ([["1", "2", "3"]] * 2, ["1", "2", "3"])
    assert await kept.cursor() == "3"


async def test_while_there_is_more_it_goes_on_at_once(kept: Kept) -> None:
    journal, bulletin = Journal(size=5, page=2), Bulletin()
    at_work, other = kept.feed(journal, bulletin), kept.feed(journal, bulletin)
    assert [await at_work.step(), await other.step(), await at_work.step(), await at_work.step()] == [
        *(0.0, EVERY_S, 0.0, EVERY_S),
    ]
    assert (journal.asked, bulletin.batches) == ([None, "2", "4"], [["1", "2"], ["3", "4"], ["5"]])


async def test_an_event_that_is_refused_stops_its_source_loudly(kept: Kept) -> None:
    journal, bulletin = Journal(size=4), Bulletin(refuse={"3"})
    at_work = kept.feed(journal, bulletin)
    with capture_logs() as lines:
        await at_work.step()
        await at_work.step()
    assert (await kept.cursor(), at_work.trouble, bulletin.ids) == (None, REFUSED, ["1", "2"])
    assert [(line["log_level"], line["code"], line["pointers"]) for line in lines] == [
        ("error", "schema-mismatch", ["/2/data/person"])
    ] * 2
    assert MARK not in str(lines)
    bulletin.refuse.clear()
    await at_work.step()
    assert (await kept.cursor(), at_work.trouble, bulletin.ids) == ("4", "", ["1", "2", "3", "4"])


async def test_it_waits_longer_after_each_failure(kept: Kept) -> None:
    journal, bulletin = Journal(), Bulletin(down=True)
    at_work = kept.feed(journal, bulletin)
    waits = [await at_work.step() for _ in range(9)]
    for failures, wait_s in enumerate(waits, 1):
        assert 0.5 * min(60, 2 ** (failures - 1)) <= wait_s <= min(60, 2 ** (failures - 1))
    bulletin.down = False
    assert await at_work.step() == EVERY_S
    bulletin.down, journal.size = True, 4
    assert await at_work.step() <= 1, "what went well is forgotten"
    assert 30 <= pause_s(10_000) <= 60


async def test_of_two_processes_one_looks(kept: Kept) -> None:
    journal, bulletin = Journal(), Bulletin()
    one, two = kept.feed(journal, bulletin), kept.feed(journal, bulletin)
    await asyncio.gather(one.step(), two.step())
    assert journal.asked == [None]
    kept.clock.now += EVERY_S
    await asyncio.gather(two.step(), one.step())
    assert journal.asked == [None, "3"]
    bulletin.down, journal.size = True, 4
    kept.clock.now += EVERY_S
    failing, well = (one, two) if await one.step() != EVERY_S else (two, one)
    assert failing.trouble == FAILING
    bulletin.down = False
    await well.step()
    assert bulletin.ids[-1] == "4", "what one cannot do another may, at once"
    await failing.step()
    assert failing.trouble == "", "another does it"


async def test_who_was_too_slow_sets_nothing_back(kept: Kept) -> None:
    journal, bulletin = Journal(), Bulletin()
    slow, quick = kept.feed(journal, bulletin), kept.feed(journal, bulletin)
    held, asked = asyncio.Event(), asyncio.Event()
    looks = journal.changes

    async def waiting(cursor: str | None) -> Found:
        found = await looks(cursor)
        asked.set()
        await held.wait()
        return found

    slow._changes = waiting
    running = asyncio.create_task(slow.step())
    await asked.wait()
    kept.clock.now += WORK_S
    journal.size = 5
    await quick.step()
    held.set()
    await running
    assert (bulletin.ids, await kept.cursor()) == (["1", "2", "3", "4", "5"], "5")


async def test_a_place_that_was_taken_away_begins_anew(kept: Kept, provider: Provider) -> None:
    journal, bulletin = Journal(), Bulletin()
    at_work = kept.feed(journal, bulletin)
    await at_work.step()
    await provider.execute("DELETE FROM ngsp_sources WHERE service = :service", service=kept.service)
    await at_work.step()
    assert (journal.asked, bulletin.ids) == ([None, None], ["1", "2", "3"])


async def _mistaken(changes: Changes, tmp_path: Path) -> tuple[str, list[Any]]:
    """The trouble after a step, and what the log has."""
    cursors = Cursors.beside(tmp_path / "s.sqlite3")
    await cursors.prepare()
    bulletin = Bulletin()
    at_work = Feed(Source("H41/journal/v1", EVERY_S, changes), changes, "/H41/x", cursors, bulletin.publish)
    with capture_logs() as lines:
        assert 0 < await at_work.step() <= 1
    await cursors.close()
    assert MARK not in str(lines)
    assert bulletin.ids == []
    return at_work.trouble, [line.get("code", line["error"]) for line in lines]


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (Found([], None, more=True), "source-stands-still"),
        (Found([], "x" * 4001), "source-cursor-too-long"),
        (Found([Event(CHANGED, {}, MARK), Event(CHANGED, {"so": 1}, MARK)], "2"), "source-ids-alike"),
        (Unavailable("REGISTER-DOWN"), "REGISTER-DOWN"),
        (ValueError(f"no such person: {MARK}"), "ValueError"),
        (asyncio.CancelledError(), "CancelledError"),
    ],
)
async def test_what_goes_wrong_in_a_source_is_told_without_data(
    found: Found | BaseException, code: str, tmp_path: Path
) -> None:
    async def changes(cursor: str | None) -> Found:
        if isinstance(found, BaseException):
            raise found
        return found

    assert await _mistaken(changes, tmp_path) == (FAILING, [code])


async def test_a_look_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sources, "LOOK_S", 0.01)

    async def changes(cursor: str | None) -> Found:
        await asyncio.Event().wait()
        raise AssertionError

    assert await _mistaken(changes, tmp_path) == (FAILING, ["TimeoutError"])


async def test_much_is_published_in_parts_in_its_order(tmp_path: Path) -> None:
    cursors = Cursors.beside(tmp_path / "s.sqlite3")
    await cursors.prepare()
    bulletin = Bulletin()
    await feed(Journal(size=250, page=300), bulletin, cursors, "H41/many/v1").step()
    assert [len(batch) for batch in bulletin.batches] == [100, 100, 50]
    assert bulletin.ids == [str(so) for so in range(1, 251)]
    bulletin.batches.clear()

    async def large(cursor: str | None) -> Found:
        note = "x" * (BATCH_BYTES // 2)
        return Found([Event(CHANGED, {"note": note}, f"large-{n}", source="/elsewhere") for n in range(3)], None)

    await Feed(Source("H41/large/v1", 1, large), large, "/H41/x", cursors, bulletin.publish).step()
    assert bulletin.batches == [["large-0"], ["large-1"], ["large-2"]]
    assert (bulletin.events[0].source, bulletin.events[-1].source) == ("/H41/h41-journal", "/elsewhere")
    await cursors.close()


# In an adapter


async def test_a_source_is_marked_for_a_service_of_events() -> None:
    found = adapter()

    @found.source("journal", "v1", every_s=2)
    async def changes(cursor: str | None) -> Found:
        return Found([], None)

    assert found.sources["H41/journal/v1"].every_s == 2
    with pytest.raises(ManifestError, match="two sources"):
        found.source("journal", "v1")(changes)
    for name, every_s in (("entry", 1), ("journal", 0), ("journal", 90_000)):
        with pytest.raises(ManifestError):
            found.source(name, "v1", every_s=every_s)


async def test_a_source_may_take_the_resources(embedded: EmbeddedBus, tmp_path: Path) -> None:
    found, bulletin = adapter(), Bulletin()

    @found.resources
    async def opened() -> AsyncIterator[Journal]:
        yield Journal()

    @found.source("journal", "v1")
    async def changes(cursor: str | None, journal: Journal) -> Found:
        return await journal.changes(cursor)

    runner = AdapterRunner(found, embedded, Vault(KEY), tmp_path, publish=bulletin.publish)
    await runner.start()
    await until(lambda: bulletin.ids == ["1", "2", "3"], "the events")
    assert (await runner.changes("H41/journal/v1")("2")).events[0].id == "3"
    assert runner.troubles() == []
    await runner.stop()
    file = tmp_path / "h41-journal-sources.sqlite3"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(bulletin.events[0].document()) == [
        *("specversion", "id", "source", "type", "subject", "datacontenttype", "data")
    ]


async def test_the_next_process_goes_on_where_one_stopped(embedded: EmbeddedBus, tmp_path: Path) -> None:
    journal, bulletin = Journal(), Bulletin()
    for size in (3, 5):
        journal.size = size
        found = adapter()
        found.source("journal", "v1", every_s=3600)(journal.changes)
        runner = AdapterRunner(found, embedded, Vault(KEY), tmp_path, publish=bulletin.publish)
        await runner.start()
        await until(lambda size=size: len(bulletin.ids) == size, "the events")  # type: ignore[misc]
        await runner.stop()
    assert journal.asked == [None, "3"], "its turn was given up at the stop"


async def test_a_heartbeat_tells_the_trouble_of_a_source(embedded: EmbeddedBus, tmp_path: Path) -> None:
    found, bulletin = adapter(), Bulletin(refuse={"1"})
    found.source("journal", "v1")(Journal().changes)
    runner = AdapterRunner(found, embedded, Vault(KEY), tmp_path, publish=bulletin.publish)
    await runner.start()
    await until(lambda: runner.sign_of_life()["troubles"] == [REFUSED], "the trouble")
    await runner.stop()


async def test_without_a_place_to_publish_nothing_is_asked(embedded: EmbeddedBus, tmp_path: Path) -> None:
    found, journal = adapter(), Journal()
    found.source("journal", "v1")(journal.changes)
    runner = AdapterRunner(found, embedded, Vault(KEY), tmp_path)
    await runner.start()
    await runner.stop()
    assert (journal.asked, list(tmp_path.iterdir())) == ([], [])


async def test_the_cursor_is_in_the_database_of_the_inbox(
    embedded: EmbeddedBus, tmp_path: Path, provider: Provider
) -> None:
    name = f"h41-{uuid.uuid4().hex[:8]}"
    beside = manifest("transactional", name).model_dump(mode="json")["services"]
    found = adapter(*beside, id=name, database_url_env=DATABASE_VARIABLE)
    found.service("entry", "v1")(lambda request: asyncio.sleep(0))
    journal, bulletin = Journal(), Bulletin()
    found.source("journal", "v1")(journal.changes)
    await provider.run("DROP TABLE IF EXISTS ngsp_sources")
    await embedded.ensure([Topic("ngsp.request.H41.entry.v1", 1, 3600)])
    runner = AdapterRunner(
        found, embedded, Vault(KEY), tmp_path, publish=bulletin.publish,
        environment={DATABASE_VARIABLE: provider.url}.get,
    )  # fmt: skip
    await runner.start()
    await until(lambda: bulletin.ids == ["1", "2", "3"], "the events")
    await runner.stop()
    assert list(tmp_path.iterdir()) == []
    assert await provider.value("SELECT place FROM ngsp_sources WHERE service = 'H41/journal/v1'") == "3"
