"""An inbox that is full begins nothing new, forgets nothing, and goes on when there is room again."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ngsp.adapter.fill import COUNT_EVERY_S, FULL, Bounds, Fill
from ngsp.adapter.inbox import MARGIN_S, PURGE_EVERY_S, TransactionalInbox, UncertainInbox
from ngsp.bus import EmbeddedBus
from ngsp.messages import Envelope, Reply, uuid7
from ngsp.vault import Vault
from tests.adapter.conftest import Keeping
from tests.adapter.desk import desk_at
from tests.adapter.office import KEY, Office

MUCH = Bounds(1_000_000, 1 << 40)


def test_what_is_half_full_is_counted_each_time_and_else_now_and_then() -> None:
    fill = Fill(Bounds(10, 1_000))
    assert fill.is_to_be_counted(1)
    fill.counted(4, 0, 1)
    assert not fill.is_to_be_counted(2) and fill.is_to_be_counted(1 + COUNT_EVERY_S)
    fill.added(0)
    assert fill.is_to_be_counted(2) and not fill.is_full
    fill.counted(1, 499, 2)
    assert not fill.is_to_be_counted(3)
    fill.added(501)
    assert fill.is_full


def envelope_at(deadline_s: float) -> Envelope:
    return Envelope(uuid7(), "H41/entry/v1", int(deadline_s * 1000), "p", ("",), "s", "ngsp.reply.1", b"{}")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


Inbox = TransactionalInbox | UncertainInbox


async def made(keeping: Keeping, clock: Clock, bounds: Bounds, forgets: bool = True) -> Inbox:
    inbox: Inbox
    options: dict[str, Any] = {"clock": clock, "bounds": bounds, "forgets": lambda: forgets}
    if keeping.provider is not None:
        inbox = TransactionalInbox(keeping.provider.url, Vault(KEY), **options)
    else:
        inbox = UncertainInbox(keeping.folder / "inbox.sqlite3", Vault(KEY), **options)
    await inbox.prepare()
    return inbox


async def ask(inbox: Inbox, envelope: Envelope, body: bytes) -> Reply:
    async def execute(_connection: object) -> Reply:
        return Reply(envelope.id, envelope.service, "ok", body)

    return await inbox.once(envelope, execute)


@pytest.mark.parametrize("what", ["rows", "bytes"])
async def test_a_full_inbox_begins_nothing_and_forgets_nothing(keeping: Keeping, what: str) -> None:
    clock = Clock()
    clock.now = time.time() + 100 * 86_400  # whatever other tests have left is forgotten with the first message
    first = await made(keeping, clock, MUCH)
    warmth = envelope_at(clock.now + 60)
    await ask(first, warmth, b"{}")
    await first.close()
    bounds = Bounds(3, 1 << 40) if what == "rows" else Bounds(1_000, 20_000)
    inbox = await made(keeping, clock, bounds)
    try:
        kept = [envelope_at(clock.now + 60) for _ in range(2)]
        for envelope in kept:
            assert (await ask(inbox, envelope, bytes(10_000))).status == "ok"
        refused = envelope_at(clock.now + 60)
        reply = await ask(inbox, refused, b"{}")
        assert (reply.status, reply.code, inbox.fill.is_full) == ("retry", FULL, True)
        for envelope in kept:
            assert (await ask(inbox, envelope, b"again")).body == bytes(10_000), "a repeat gets what was kept"
        clock.now += 60 + MARGIN_S + PURGE_EVERY_S
        again = envelope_at(clock.now + 60)
        assert (await ask(inbox, again, b"{}")).status == "ok", "there is room again when their time is over"
        assert not inbox.fill.is_full
    finally:
        await inbox.close()


async def test_while_the_clock_is_known_to_be_wrong_nothing_is_forgotten(keeping: Keeping) -> None:
    clock = Clock()
    clock.now = time.time() + 200 * 86_400
    inbox = await made(keeping, clock, MUCH, forgets=False)
    try:
        envelope = envelope_at(clock.now + 60)
        await ask(inbox, envelope, b"first")
        clock.now += 10 * MARGIN_S
        await ask(inbox, envelope_at(clock.now + 60), b"{}")
        assert (await ask(inbox, envelope, b"again")).body == b"first"
    finally:
        await inbox.close()


async def test_a_caller_is_told_to_come_again_and_does(embedded: EmbeddedBus, keeping: Keeping) -> None:
    office: Office = keeping.office()
    async with desk_at(embedded, office.path, [office.topic]) as desk:
        async with office.serving(embedded, bounds=Bounds(1, 1)) as runner:
            if keeping.provider is None:
                await desk.ask(desk.envelope())
            envelope = desk.envelope()
            while (reply := await desk.ask(envelope)).status == "ok":  # the first may fill it
                envelope = desk.envelope()
            assert (reply.status, reply.code) == ("retry", FULL)
            assert runner.troubles() == [FULL]
            assert envelope.id not in office.calls
        async with office.serving(embedded) as runner:
            assert (await desk.ask(envelope)).status == "ok"
            assert runner.troubles() == []
