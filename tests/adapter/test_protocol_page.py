"""The page of the protocol says what travels: its tables, its examples, and its adapter, which is run as it stands."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ngsp.adapter.inbox import MARGIN_S
from ngsp.adapter.manifest import ServiceManifest
from ngsp.adapter.runner import LARGEST_REPLY_BYTES, LATEST_START_S
from ngsp.bus.kafka import LARGEST_MESSAGE_BYTES, KafkaBus
from ngsp.local.child import end_of, signal_to
from ngsp.local.kafka import LocalKafka
from ngsp.messages import (
    GATEWAYS_GROUP,
    OUTCOMES_TOPIC,
    REPLY_STATUSES,
    REPLY_TOPIC_PREFIX,
    Envelope,
    Headers,
    Reply,
    ServiceKey,
    uuid7,
)
from tests.adapter.desk import Desk, desk_at
from tests.support.waiting import until

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
TEXT = PAGE.read_text("utf-8")

REQUEST = Envelope(
    id="0192b0c4-7d1e-7abc-8def-0123456789ab",
    service="G01.01/population-lookup/v1",
    deadline_ms=1_772_323_200_000,
    purpose="birth-registration",
    fields=("/SoDinhDanh", "/HoVaTen"),
    schema="0123456789abcdef.fedcba9876543210",
    reply_to="ngsp.reply.7",
    body=b'{"SoDinhDanh":"900190000001"}',
    consumer="H41",
    officer="canbo-0017",
)
REPLY = Reply(REQUEST.id, REQUEST.service, "not-found", code="KHONG-CO", adapter="g01-population")


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> dict[str, list[str]]:
    """The rows of the tables in `text`: what stands in the first cell between backticks → the other cells."""
    found = (re.fullmatch(r"\| `([^`]+)` \| (.*) \|", line) for line in text.splitlines())
    return {row[1]: row[2].split(" | ") for row in found if row}


def optional(headers: dict[str, list[str]]) -> set[str]:
    return {name for name, (form, _) in headers.items() if form.endswith("optional")}


def test_headers_of_a_request() -> None:
    table = rows(section("A request"))
    whole = replace(REQUEST, dossier="1", traceparent="2", probe="adapter", begin_by_ms=1, order="0" * 32).headers()
    bare = replace(REQUEST, officer="").headers()
    assert set(table) == {name for name, _ in whole}
    assert set(table) - optional(table) == {name for name, _ in bare}
    for name in set(table) - optional(table):
        with pytest.raises(KeyError):
            Envelope.read([header for header in whole if header[0] != name], b"")


def test_headers_and_statuses_of_a_reply() -> None:
    tables = rows(section("A reply"))
    table = {name: cells for name, cells in tables.items() if name.startswith("ngsp-")}
    assert set(table) == {name for name, _ in replace(REPLY, probe=True).headers()}
    assert set(table) - optional(table) == {name for name, _ in replace(REPLY, code="").headers()}
    assert set(tables) - set(table) == REPLY_STATUSES


def test_topics_and_numbers() -> None:
    topics = rows(section("Topics"))
    key = ServiceKey("{provider}", "{service}", "{version}")
    assert set(topics) == {key.request_topic, f"{REPLY_TOPIC_PREFIX}{{slot}}", OUTCOMES_TOPIC}
    assert f"`{GATEWAYS_GROUP}`" in topics[OUTCOMES_TOPIC][-1]
    assert LARGEST_MESSAGE_BYTES == 2 << 20
    assert "at most 2 MiB" in section("Topics")
    assert f"at most {LARGEST_REPLY_BYTES:,} bytes" in section("A reply")
    duties = section("What an adapter must do")
    assert f"less than {LATEST_START_S * 1000:.0f} ms" in duties
    assert MARGIN_S == 86_400
    effects = ServiceManifest.model_fields["effect"].annotation
    assert set(re.findall(r"^   - `([a-z]+)`:", duties, re.MULTILINE)) == set(effects.__args__)  # type: ignore[union-attr]


def shown(headers: Headers, body: bytes) -> str:
    """As the page shows a message: a header a line, further lines of a value below its first."""
    lines = [f"{name}: {value.decode()}".replace("\n", "\n" + " " * (len(name) + 2)) for name, value in headers]
    return "\n".join([*lines, *(["", body.decode()] if body else [])])


def test_examples_are_what_travels() -> None:
    examples = re.findall(r"^```\n(.*?)\n```$", section("An example"), re.MULTILINE | re.DOTALL)
    assert examples == [shown(message.headers(), message.body) for message in (REQUEST, REPLY)]


class Foreign:
    """The page's adapter as a process, and a desk that asks it."""

    def __init__(self, bus: KafkaBus, bootstrap: str, folder: Path) -> None:
        name = uuid7().replace("-", "")
        self.adapter, self.path = f"foreign-{name}", f"H41/echo-{name}/v1"
        self.topic = ServiceKey.parse(self.path).request_topic
        self._bus, self._bootstrap, self._folder = bus, bootstrap, folder

    @asynccontextmanager
    async def asked(self) -> AsyncIterator[Desk]:
        async with desk_at(self._bus, self.path, [self.topic], outcomes=True) as desk:
            yield desk

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[asyncio.subprocess.Process]:
        (program,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
        script, log = self._folder / "foreign.py", self._folder / "foreign.log"
        script.write_text(program, "utf-8")
        with log.open("wb") as output:
            command = (sys.executable, str(script), self._bootstrap, self.adapter, self.path)
            process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
        try:
            await until(lambda: "serving" in log.read_text("utf-8"), "it to serve", 40)
            yield process
        finally:
            await end_of(process, 0)


@pytest.mark.kafka
async def test_the_adapter_of_the_page_serves(kafka_bus: KafkaBus, kafka: LocalKafka, tmp_path: Path) -> None:
    foreign = Foreign(kafka_bus, kafka.bootstrap, tmp_path)
    async with foreign.asked() as desk:
        async with foreign.serving() as process:
            await desk.deliver_raw([("ngsp-id", b"\xff")])
            await desk.deliver(desk.envelope({"a": 1}, reply_to="ngsp.elsewhere"))
            await desk.deliver(desk.envelope({"a": 1}, service="H41/another/v1"))
            for envelope in (desk.envelope({"a": 1}, attempt=3), desk.submission({"b": "Nghệ An"})):
                reply = await desk.ask(envelope)
                assert reply == Reply(
                    envelope.id,
                    envelope.service,
                    "ok",
                    envelope.body,
                    adapter=foreign.adapter,
                    attempt=envelope.attempt,
                )
            assert (await desk.ask(desk.envelope({}))).status == "not-found"
            assert (await desk.ask(desk.envelope({"a": 1}, deadline_s=-1))).status == "expired"
            signal_to(process, signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 40) == 0
        answered = desk.answered
        async with foreign.serving():
            last = desk.envelope({"a": 2})
            await desk.ask(last)
            await desk.settle()
        assert desk.answered == answered | {last.id}, "what it had committed did not come again"
        assert all(len(desk.replies(id)) == 1 for id in desk.answered)
