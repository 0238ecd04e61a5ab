"""The contract of an adapter, tried: examples, recorded answers, generated requests, repeats.

    examples            valid ones fit the schemas, invalid ones are refused where they say
    recorded answers    the mapping makes of them what it made when they were recorded
    generated requests  valid ones are answered with a reply that fits or with a plain no; near misses are refused
    repeats             a submission delivered twice is answered twice alike
    sources             the events of a recorded answer are what they were; those of the system fit their schemas

Without its system an adapter with a back end is tried on the recorded answers; an adapter in Python is tried itself.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import orjson
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable

from ngsp.adapter.declared import Declared
from ngsp.adapter.declared_sources import DeclaredSource
from ngsp.adapter.definition import Adapter
from ngsp.adapter.event_types import EventTypes
from ngsp.adapter.events import Found
from ngsp.adapter.generated import Strategy, invalid, valid
from ngsp.adapter.manifest import EventServiceManifest, ManifestError, ServiceManifest
from ngsp.adapter.recordings import Recording, read_recordings, replaying
from ngsp.adapter.source_contract import try_live, try_recorded
from ngsp.adapter.trial import NoReply, Offer, Trial, Tried, on_trial
from ngsp.errors import SchemaMismatch
from ngsp.messages import uuid7
from ngsp.registry.texts import pointer
from ngsp.registry.yamlfiles import read_yaml
from ngsp.text import Text, tr

OFFICER = "canbo-0017"
CASES = 50
DEADLINE_S = 10.0
"""Of one request: a submission's own may be days."""

_ALWAYS_WRONG = frozenset(("adapter-error", "reply-too-large", "no-recording"))
_NOS = frozenset(("ok", "not-found", "refused"))


@dataclass(frozen=True, slots=True)
class Finding:
    """One part of the contract of one service. `what` was tried; `faults`: what is wrong, and what to do."""

    service: str
    what: Text
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Effort:
    """`live`: with the adapter's own system, not with recorded answers. `cases`: generated ones of each kind."""

    live: bool = False
    cases: int = CASES
    seed: int = 1


def try_contract(adapter: Adapter, folder: Path, effort: Effort) -> list[Finding]:
    """Everything above, service by service. ManifestError where the adapter cannot be opened. Not within a loop."""
    recordings = read_recordings(folder)
    declared = all(isinstance(adapter.function(path), Declared) for path in adapter.declared()) and all(
        isinstance(source.changes, DeclaredSource) for source in adapter.sources.values()
    )
    replays = declared and not effort.live
    if replays:
        _need_recordings(adapter, folder, [recording for _, recording in recordings])
    tried = replaying(adapter, (recording for _, recording in recordings)) if replays else adapter
    with _Bench(tried) as bench:
        findings = [_published(path, events, folder) for path, events in adapter.published().items()]
        findings += (bench.source(path, recordings if replays else None) for path in tried.sources)
        for offer in bench.trial.offers.values():
            name = f"{offer.manifest.service}/{offer.manifest.version}"
            contract = _Contract(bench, offer, not replays)
            mine = [(file, recording) for file, recording in recordings if recording.service == name]
            findings += contract.examples(_invalid_examples(folder, offer.manifest))
            if replays:
                findings.append(contract.recordings(mine))
            findings += contract.generated(effort)
            if not replays and offer.manifest.mode == "submission":
                findings.append(contract.repeats())
        return findings


def _published(path: str, events: EventServiceManifest, folder: Path) -> Finding:
    """Nothing serves them. Schemas and examples were checked when the manifest was read; here those that are wrong."""
    types, refused = EventTypes(events.schemas), _invalid_examples(folder, events)
    faults = [
        fault
        for file, example in refused
        for fault in _not_refused({each.pointer for each in types.faults(example["request"])}, file, example)
    ]
    what = Text(
        f"sự kiện: lược đồ và ví dụ hợp lệ, {len(refused)} ví dụ sai bị từ chối",
        f"events: schemas and examples are valid, {len(refused)} invalid examples are refused",
    )
    return Finding(path, what, tuple(faults[:5]))


def _need_recordings(adapter: Adapter, folder: Path, recordings: list[Recording]) -> None:
    names = {recording.service for recording in recordings}
    for path in (*adapter.declared(), *adapter.sources):
        if (service := path.partition("/")[2]) not in names:
            raise ManifestError(
                tr(
                    f"{folder}: chưa có câu trả lời ghi sẵn cho {service}: hãy chạy «ngsp adapter test --record» khi "
                    "hệ thống đang chạy",
                    f"{folder}: there is no recorded answer for {service}: run 'ngsp adapter test --record' while the "
                    "system is up",
                )
            )


class _Bench:
    """The adapter on trial with an event loop of its own, since Hypothesis does not wait."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._runner = asyncio.Runner()
        self.trial: Trial

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="ngsp-contract-")
        self._opened = on_trial(self._adapter, Path(self._folder.name))
        try:
            self.trial = self._runner.run(self._opened.__aenter__())
        except BaseException:
            self._runner.close()
            self._folder.cleanup()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._opened.__aexit__(None, None, None))
        self._runner.close()
        self._folder.cleanup()

    def source(self, path: str, recordings: list[tuple[Path, Recording]] | None) -> Finding:
        """The source of a service tried on recorded answers, or itself where there are none to be used."""
        changes = self.trial.runner.changes(path)

        async def look(cursor: str | None) -> Found:
            return await changes(cursor)

        def looked(cursor: str | None) -> Found:
            return self._runner.run(look(cursor))

        name = path.partition("/")[2]
        if recordings is None:
            what, faults = try_live(self._adapter, path, looked)
        else:
            mine = [(file, recording) for file, recording in recordings if recording.service == name]
            what, faults = try_recorded(self._adapter, path, looked, mine)
        return Finding(name, what, tuple(faults[:5]))

    def ask(self, offer: Offer, payload: Any, id: str = "", officer: str = OFFICER, dossier: str = "") -> Tried:
        body = orjson.dumps(payload)
        return self._runner.run(
            self.trial.ask(offer.path, body, id=id, officer=officer, dossier=dossier, deadline_s=DEADLINE_S)
        )

    def deliver(self, offer: Offer, payload: Any) -> Tried:
        body = orjson.dumps(payload)
        return self._runner.run(self.trial.deliver(offer, body, uuid7(), OFFICER, "", "test", DEADLINE_S))


@dataclass(frozen=True, slots=True)
class _Contract:
    """Tries one service. `real`: behind the adapter is what answers in service, not recorded answers."""

    bench: _Bench
    offer: Offer
    real: bool

    def _found(self, vi: str, en: str, faults: list[str]) -> Finding:
        return Finding(f"{self.offer.manifest.service}/{self.offer.manifest.version}", Text(vi, en), tuple(faults[:5]))

    def examples(self, refused: list[tuple[Path, Any]]) -> Iterator[Finding]:
        examples = [example for example in self.offer.manifest.examples if "request" in example]
        faults = [fault for example in examples if self.real for fault in self._example(example)]
        yield self._found(f"{len(examples)} ví dụ", f"{len(examples)} examples", faults)
        faults = [fault for file, example in refused for fault in self._invalid_example(file, example)]
        yield self._found(
            f"{len(refused)} ví dụ sai bị từ chối", f"{len(refused)} invalid examples are refused", faults
        )

    def _example(self, example: dict[str, Any]) -> Iterator[str]:
        title = example.get("title", {})
        shown = tr(title.get("vi", ""), title.get("en", "")) if isinstance(title, dict) else str(title)
        for fault in self._asked(example["request"]):
            yield f"«{shown}»: {fault}"
        if self.offer.manifest.mode == "query" and example.get("outcome") in _NOS:
            reply = self.bench.ask(self.offer, example["request"]).reply
            was, now = f"{example['outcome']} {example.get('code', '')}", f"{reply.status} {reply.code}"
            if was.strip() not in (now.strip(), reply.status):
                differs = tr(f"ví dụ nói «{was}», nay là «{now}»", f"the example says '{was}', now it is '{now}'")
                yield f"«{shown}»: {differs}"
        if self.offer.manifest.mode == "query" and "reply" in example:
            tried = self.bench.ask(self.offer, example["request"])
            if tried.reply.status != "ok" or tried.payload != example["reply"]:
                yield f"«{shown}»: " + tr("trả lời khác với ví dụ", "the reply is not the example's")

    def _invalid_example(self, file: Path, example: Any) -> Iterator[str]:
        found = {fault.pointer for fault in self.offer.request_schema.faults(example["request"])}
        yield from _not_refused(found, file, example)

    def recordings(self, recordings: list[tuple[Path, Recording]]) -> Finding:
        faults = [fault for file, recording in recordings for fault in self._recorded(file, recording)]
        number = len(recordings)
        return self._found(f"{number} câu trả lời ghi sẵn", f"{number} recorded answers", faults)

    def _recorded(self, file: Path, recording: Recording) -> Iterator[str]:
        expected = recording.expect
        try:
            tried = self.bench.ask(self.offer, recording.request, officer=recording.officer, dossier=recording.dossier)
        except SchemaMismatch as error:
            places = ", ".join(fault.pointer or "/" for fault in error.faults)
            yield f"{file}:1: /request: " + tr("sai lược đồ yêu cầu tại", "off the request schema at") + f" {places}"
            return
        reply = tried.reply
        if (reply.status, reply.code) != (expected.status, expected.code):
            was, now = (f"{expected.status} {expected.code}".strip(), f"{reply.status} {reply.code}".strip())
            yield f"{file}:1: " + tr(f"trước là «{was}», nay là «{now}»", f"was '{was}', is now '{now}'")
        elif reply.status == "ok" and tried.payload != expected.reply:
            yield f"{file}:1: /expect/reply: " + tr("trả lời đã khác", "the reply has changed")
        yield from (f"{file}:1: {fault}" for fault in _off_schema(tried))

    def generated(self, effort: Effort) -> Iterator[Finding]:
        yield self._generate(
            valid(self.offer.request_schema), self._asked, effort, Text("yêu cầu đúng sinh tự động", "valid requests")
        )
        yield self._generate(
            invalid(self.offer.request_schema), self._refused, effort, Text("yêu cầu sai sinh tự động", "near misses")
        )

    def _generate(
        self, strategy: Strategy, check: Callable[[Any], Iterator[str]], effort: Effort, what: Text
    ) -> Finding:
        faults: list[str] = []
        number = 0

        @seed(effort.seed)
        @settings(
            max_examples=effort.cases,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def take(value: Any) -> None:
            nonlocal number
            number += 1
            faults.extend(f"{fault}: {orjson.dumps(value).decode()[:300]}" for fault in check(value))

        try:
            take()
        except Unsatisfiable:
            faults.append(tr("lược đồ không cho giá trị nào: hãy xem lại", "the schema lets nothing pass: look at it"))
        return self._found(f"{number} {what.vi}", f"{number} generated {what.en}", faults)

    def _asked(self, payload: Any) -> Iterator[str]:
        """What is wrong with the answer to a valid request."""
        try:
            tried = self.bench.ask(self.offer, payload)
        except NoReply:
            yield tr("không trả lời đến hạn", "no reply by the deadline")
            return
        yield from _off_schema(tried)
        status, code = tried.reply.status, tried.reply.code
        if code in _ALWAYS_WRONG or (self.real and status not in _NOS):
            yield tr(
                f"«{status} {code}» cho một yêu cầu đúng: hãy thêm quy tắc outcomes, hoặc thu hẹp lược đồ",
                f"'{status} {code}' for a valid request: add a rule to outcomes, or narrow the schema",
            )

    def _refused(self, payload: Any) -> Iterator[str]:
        """A near miss never gets to the author's code: neither through a gateway nor straight from the bus."""
        try:
            self.bench.ask(self.offer, payload)
        except SchemaMismatch:
            pass
        else:
            yield tr("không bị từ chối", "not refused")
        if self.bench.deliver(self.offer, payload).reply.status != "failed":
            yield tr("bộ kết nối vẫn làm", "the adapter acted on it")

    def repeats(self) -> Finding:
        faults = []
        for example in self.offer.manifest.examples:
            id = uuid7()
            first, second = (self.bench.ask(self.offer, example["request"], id=id).reply for _ in range(2))
            if (first.status, first.code, first.body) != (second.status, second.code, second.body):
                faults.append(tr("giao lần hai được trả lời khác", "the second delivery was answered otherwise"))
        number = len(self.offer.manifest.examples)
        return self._found(f"{number} hồ sơ giao hai lần", f"{number} submissions delivered twice", faults)


def _not_refused(found: set[str], file: Path, example: Any) -> Iterator[str]:
    """What is wrong with an example that shall be refused, and is at the places `found`."""
    if not found:
        yield f"{file}:1: " + tr("lược đồ vẫn nhận: hãy chặt hơn", "the schema takes it: make it narrower")
    elif missing := set(example.get("pointers", ())) - found:
        yield f"{file}:1: " + tr("không bị từ chối tại", "not refused at") + f" {', '.join(sorted(missing))}"


def _off_schema(tried: Tried) -> Iterator[str]:
    if tried.faults:
        places = ", ".join(fault.pointer or "/" for fault in tried.faults[:5])
        yield tr(f"trả lời sai lược đồ tại {places}", f"the reply is off its schema at {places}")


def _invalid_examples(folder: Path, service: ServiceManifest | EventServiceManifest) -> list[tuple[Path, Any]]:
    """Requests that the author says are wrong: `invalid/*.json` beside the examples, `{"request", "pointers"}`."""
    written = next(
        found
        for found in read_yaml(folder / "manifest.yaml")[0].value["services"]
        if (found["service"], found["version"]) == (service.service, service.version)
    )
    examples = written.get("examples", f"{written['schemas']}/examples" if "schemas" in written else None)
    if not isinstance(examples, str):
        return []
    found = []
    for file in sorted((folder / examples / "invalid").glob("*.json")):
        document = orjson.loads(file.read_bytes())
        if "request" not in document:
            raise ManifestError(f"{file}:1: {pointer(('request',))}: " + tr("thiếu", "missing"))
        found.append((file, document))
    return found
