"""A submission whose effect is a row in a database: nothing there keeps a doubled effect from being seen."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
from sqlalchemy import text

from ngsp.adapter import Adapter, Refused, Request, Unavailable

SET_UP_LOCK = 0x6C6564676572

adapter = Adapter.load(Path(__file__).with_name("ledger.yaml"))


@adapter.resources
async def resources() -> AsyncIterator[None]:
    connection = await asyncpg.connect(os.environ["NGSP_TEST_LEDGER_URL"])
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", SET_UP_LOCK)
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS ledger"
                " (tx text NOT NULL, item text NOT NULL, at timestamptz NOT NULL DEFAULT now())"
            )
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS lines"
                " (tx text NOT NULL, dossier text NOT NULL, item text NOT NULL, before integer NOT NULL)"
            )
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS taken"
                " (tx text NOT NULL, event text NOT NULL, subject text NOT NULL, before integer NOT NULL)"
            )
    finally:
        await connection.close()
    yield


@adapter.service("post-entry", "v1")
@adapter.service("post-briefly", "v1")
async def post_entry(request: Request) -> object:
    """The row is written before the rules are looked at: only the rollback takes it away again."""
    order = request.payload
    row = {"tx": request.id, "item": order["item"]}
    await request.transaction().execute(text("INSERT INTO ledger (tx, item) VALUES (:tx, :item)"), row)
    await asyncio.sleep(order["delay_ms"] / 1000)
    if order["rule"] == "refuse":
        raise Refused("NOT-BY-THE-RULES")
    if order["rule"] == "retry" and request.envelope.attempt == 1:
        raise Unavailable("LATER")
    return row


@adapter.service("post-in-order", "v1")
async def post_in_order(request: Request) -> object:
    """Writes down how many of the dossier were committed when this one was begun."""
    asked, connection = request.payload, request.transaction()
    committed = text("SELECT count(*) FROM lines WHERE dossier = :dossier")
    before = (await connection.execute(committed, {"dossier": request.dossier})).scalar_one()
    await asyncio.sleep(asked["delay_ms"] / 1000)
    if asked["rule"] == "retry" and request.envelope.attempt == 1:
        raise Unavailable("LATER")
    row = {"tx": request.id, "dossier": request.dossier, "item": asked["item"], "before": before}
    await connection.execute(text("INSERT INTO lines VALUES (:tx, :dossier, :item, :before)"), row)
    return {"tx": request.id, "item": asked["item"]}


@adapter.service("take-event", "v1")
async def take_event(request: Request) -> object:
    """Writes down how many events of the subject were committed when this one was begun."""
    event, connection = request.payload, request.transaction()
    committed = text("SELECT count(*) FROM taken WHERE subject = :subject")
    before = (await connection.execute(committed, {"subject": event["subject"]})).scalar_one()
    await asyncio.sleep(event["data"]["delay_ms"] / 1000)
    row = {"tx": request.id, "event": event["id"], "subject": event["subject"], "before": before}
    await connection.execute(text("INSERT INTO taken VALUES (:tx, :event, :subject, :before)"), row)
    return {"tx": request.id, "item": event["data"]["item"]}
