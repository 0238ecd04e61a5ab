"""Does a provider's system still answer as it did? Live answers against recorded ones, and against the reply schema.

A national interface changed its shape four times in seven years without notice: what is compared is the shape (which
members there are, and of which types), place by place, not the values.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from ngsp.adapter.answer import Answer
from ngsp.adapter.definition import Adapter, AdapterError
from ngsp.adapter.events import Found
from ngsp.adapter.manifest import ManifestError
from ngsp.adapter.recordings import Expectation, RecordedAnswer, Recorder, Recording, read_recordings, write_recording
from ngsp.adapter.source_contract import given
from ngsp.adapter.trial import NoReply, Trial, Tried, on_trial
from ngsp.messages import uuid7
from ngsp.text import tr

OFFICER = "canbo-0017"
DEADLINE_S = 30.0
_KEPT_HEADERS = frozenset(("content-type",))


async def record_answers(adapter: Adapter, folder: Path) -> list[Path]:
    """Asks the system every example's request and records its answers. Only queries: a submission would be done.

    ManifestError where the system does not answer, or where the adapter has no back end to record.
    """
    recorder = Recorder(adapter)
    written = []
    with tempfile.TemporaryDirectory(prefix="ngsp-record-") as inbox:
        async with on_trial(recorder.adapter, Path(inbox)) as trial:
            for path, offer in trial.offers.items():
                if offer.manifest.mode != "query":
                    continue
                name = f"{offer.manifest.service}/{offer.manifest.version}"
                for number, example in enumerate(offer.manifest.examples, 1):
                    id = uuid7()
                    body = orjson.dumps(example["request"])
                    tried = await trial.ask(path, body, id=id, officer=OFFICER, deadline_s=DEADLINE_S)
                    answer = recorder.answers.get(id)
                    if answer is None:
                        raise ManifestError(_silent(name, tried))
                    reply = tried.payload if tried.reply.status == "ok" else None
                    recording = Recording(
                        service=name,
                        request=example["request"],
                        officer=OFFICER,
                        answer=_kept(answer),
                        expect=Expectation(status=tried.reply.status, code=tried.reply.code, reply=reply),
                    )
                    written.append(write_recording(folder, str(number), recording))
            for path in recorder.adapter.sources:
                found = await _looked(trial, path, None)
                answer = recorder.answers[path]
                recording = Recording(
                    service=path.partition("/")[2],
                    request=None,
                    answer=_kept(answer),
                    expect=Expectation(status="ok", reply=given(recorder.adapter, found)),
                )
                written.append(write_recording(folder, "1", recording))
    return written


def _kept(answer: Answer) -> RecordedAnswer:
    headers = {key: value for key, value in answer.headers.items() if key in _KEPT_HEADERS}
    return RecordedAnswer(status=answer.status, headers=headers, body=answer.body)


async def _looked(trial: Trial, path: str, cursor: str | None) -> Found:
    try:
        return await trial.runner.changes(path)(cursor)
    except AdapterError as error:
        told = f"{type(error).__name__} {error.code}".strip()
        raise ManifestError(
            tr(
                f"{path}: nguồn không cho sự kiện ({told}): hãy chạy hệ thống và đặt các biến của bản khai",
                f"{path}: the source gives no events ({told}): start its system and set the manifest's variables",
            )
        ) from None


def _silent(name: str, tried: Tried) -> str:
    told = f"{tried.reply.status} {tried.reply.code}".strip()
    return tr(
        f"{name}: hệ thống không trả lời ({told}): hãy chạy nó và đặt các biến của bản khai",
        f"{name}: the system did not answer ({told}): start it and set the manifest's variables",
    )


async def find_drift(adapter: Adapter, folder: Path) -> list[str]:
    """What changed since the recordings, one line for each place. ManifestError where there is nothing to compare."""
    recordings = read_recordings(folder)
    if not recordings:
        raise ManifestError(tr(f"{folder}: chưa có bản ghi nào", f"{folder}: there are no recordings yet"))
    recorder = Recorder(adapter)
    found: list[str] = []
    with tempfile.TemporaryDirectory(prefix="ngsp-drift-") as inbox:
        async with on_trial(recorder.adapter, Path(inbox)) as trial:
            for file, recording in recordings:
                path = f"{adapter.manifest.provider}/{recording.service}"
                if path in recorder.adapter.sources:
                    await _looked(trial, path, recording.request)
                    answer = recorder.answers[path]
                    found += (f"{file}: {line}" for line in _answer_changes(recording, answer.status, answer.body))
                    continue
                if trial.offer(recording.service).manifest.mode != "query":
                    continue
                id = uuid7()
                try:
                    tried = await trial.ask(
                        recording.service,
                        orjson.dumps(recording.request),
                        id=id,
                        officer=recording.officer or OFFICER,
                        dossier=recording.dossier,
                        deadline_s=DEADLINE_S,
                    )
                except NoReply:
                    found.append(f"{file}: " + tr("không trả lời", "no reply"))
                    continue
                asked = recorder.answers.get(id)
                if asked is None:
                    raise ManifestError(_silent(recording.service, tried))
                found += (f"{file}: {line}" for line in _changes(recording, asked.status, asked.body, tried))
    return found


def _changes(recording: Recording, status: int | str, body: Any, tried: Tried) -> Iterator[str]:
    yield from _answer_changes(recording, status, body)
    for fault in tried.faults:
        yield tr("trả lời sai lược đồ tại", "the reply is off its schema at") + f" {fault.pointer or '/'}"
    if tried.reply.status != recording.expect.status:
        yield f"{recording.expect.status} → {tried.reply.status} {tried.reply.code}".rstrip()


def _answer_changes(recording: Recording, status: int | str, body: Any) -> Iterator[str]:
    was = recording.answer
    if status != was.status:
        yield tr(f"trạng thái {was.status} → {status}", f"status {was.status} → {status}")
    for place, old, new in shape_changes(was.body, body):
        yield f"{place or '/'}: {old} → {new}"


def shape_changes(old: Any, new: Any, place: str = "") -> Iterator[tuple[str, str, str]]:
    """(pointer, what it was, what it is) where two answers differ in shape. `*`: any item of an array."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            below = f"{place}/{name.replace('~', '~0').replace('/', '~1')}"
            if name not in new:
                yield below, _kind(old[name]), "–"
            elif name not in old:
                yield below, "–", _kind(new[name])
            else:
                yield from shape_changes(old[name], new[name], below)
    elif isinstance(old, list) and isinstance(new, list):
        if old and new:
            yield from shape_changes(_together(old), _together(new), f"{place}/*")
    elif None not in (old, new) and _kind(old) != _kind(new):
        yield place, _kind(old), _kind(new)


def _together(items: list[Any]) -> Any:
    """One item that has every member that any of them has."""
    if not all(isinstance(item, dict) for item in items):
        return items[0]
    whole: dict[str, Any] = {}
    for item in items:
        whole |= {name: value for name, value in item.items() if whole.get(name) is None}
    return whole


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    for kind, name in ((dict, "object"), (list, "array"), (str, "string"), (int | float, "number")):
        if isinstance(value, kind):
            return name
    return "null"
