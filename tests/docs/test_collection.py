"""The Bruno collection that `ngsp collection` writes really runs: every request of it, against the demo."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from ngsp.collection import ENVIRONMENT, bruno_collection
from tests.docs.bru import Run, read
from tests.docs.conftest import Demo

SERVICE: dict[str, Any] = {
    "path": "H41/register/v1",
    "provider": "H41",
    "title": {"vi": "Đăng ký {thử}", "en": "Registration"},
    "description": {"vi": "Dòng một\n}\nDòng hai", "en": "One"},
    "mode": "submission",
    "officer_required": True,
    "examples": [
        {"title": {"vi": "Một\nhai", "en": "Đặng / a: {b}!"}, "request": {"a": "}\n{"}, "reply": {}},
        {"request": {}},
    ],
}
AGREEMENT: dict[str, Any] = {
    "service": "H41/register/v1",
    "consumer": "G22",
    "state": "accepted",
    "version": 2,
    "versions": [
        {"version": 1, "purposes": ["old"], "consent_required": False},
        {"version": 2, "purposes": ["birth-registration"], "consent_required": True},
    ],
}


async def collected(demo: Demo, out: Path, *options: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ngsp", "collection", "--out", str(out), "--demo", "data/demo", *options),
        cwd=demo.folder,
        env={**os.environ, "NGSP_LANGUAGE": "en"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, told.decode()


async def test_every_request_of_the_collection_runs(demo: Demo, tmp_path: Path) -> None:
    out = tmp_path / "ngsp"
    for _ in range(2):  # the second time over the first
        code, told = await collected(demo, out)
        assert code == 0, told
    written = "".join(path.read_text("utf-8") for path in out.rglob("*") if path.is_file())
    for client in demo.described["clients"]:
        assert client["secret"] not in written
    run = Run(out)
    await asyncio.to_thread(run.run, ENVIRONMENT, clientSecret=demo.secret("g22-portal"))
    assert run.failed == []
    silent = [path for path in run.files() if "\nassert {" not in path.read_text("utf-8")]
    # One waits, and one is for events alone: there are no agreements for them.
    without = {"G10-geospatial-layer-v1", "H41-procedure-change-received-v1"}
    assert {path.parent.name for path in silent} == without
    assert run.asserted == len(run.files()) - len(silent) > 2 * len(demo.described["services"])


async def test_a_client_without_agreements_is_told_so(demo: Demo, tmp_path: Path) -> None:
    code, told = await collected(demo, tmp_path, "--client", "h14-onestop")
    assert code == 0, told
    run = Run(tmp_path)
    await asyncio.to_thread(
        run.run,
        ENVIRONMENT,
        clientSecret=demo.secret("h14-onestop"),
    )
    docs = read(next(tmp_path.glob("2-services/*/folder.bru")).read_text("utf-8"))["docs"]
    assert "No agreement in force yet" in docs
    assert all("/3-after/" in failure or failure.startswith("3-after/") for failure in run.failed)


async def test_a_client_of_the_sandbox_gets_a_collection_that_runs_without_agreements(
    demo: Demo, tmp_path: Path
) -> None:
    code, told = await collected(demo, tmp_path, "--client", "h14-trial")
    assert code == 0, told
    run = Run(tmp_path)
    await asyncio.to_thread(run.run, ENVIRONMENT, clientSecret=demo.secret("h14-trial"))
    assert run.failed == []
    assert run.asserted == len(run.files())


async def test_what_cannot_be_written_is_told(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert await collected(demo, tmp_path) == (1, f"{tmp_path} holds other files: choose an empty folder.\n")
    code, told = await collected(demo, tmp_path / "new", "--client", "nobody")
    assert (code, told.strip().endswith("has no client nobody.")) == (1, True)
    code, told = await collected(demo, tmp_path / "new", "--url", "http://127.0.0.1:9")
    assert (code, told) == (1, "Cannot reach http://127.0.0.1:9\n")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("member", "scopes", "sandbox", "published"),
    [
        ("H41", ["adapter"], False, True),
        ("H41", ["exchange"], False, False),
        ("H41", ["adapter"], True, False),
        ("G22", ["adapter"], False, False),
    ],
)
def test_events_are_published_by_those_that_may(member: str, scopes: list[str], sandbox: bool, published: bool) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/h41", "type": "vn.gov.h41.written", "data": {}}
    service = SERVICE | {"mode": "event", "path": "H41/book/v1", "examples": [{"request": event}]}
    files = bruno_collection(
        [service],
        [],
        base_url="https://bus.example.gov.vn",
        client="somebody",
        member=member,
        language="en",
        sandbox=sandbox,
        scopes=scopes,
    )
    folder = "2-services/H41-book-v1"
    told = read(files[f"{folder}/folder.bru"])["docs"]
    assert ("/v1/subscriptions" in told) == (not published)
    assert "No agreement in force" not in told
    requests = [read(text) for name, text in files.items() if name.startswith(folder) and "folder.bru" not in name]
    if not published:
        assert requests == []
        return
    (publish,) = requests
    assert publish["post"]["url"] == "{{baseUrl}}/v1/events/H41/book/v1"
    assert publish["headers"] == {"Content-Type": "application/cloudevents+json"}
    assert json.loads(publish["body:json"]) == event


@pytest.mark.parametrize("granted", [True, False])
def test_odd_texts_stay_within_their_blocks(granted: bool) -> None:
    files = bruno_collection(
        [SERVICE],
        [AGREEMENT | {"state": "accepted" if granted else "revoked"}, AGREEMENT | {"consumer": "H14"}],
        base_url="https://bus.example.gov.vn",
        client="g22-portal",
        member="G22",
        language="vi",
    )
    folder = "2-services/H41-register-v1"
    first, second = read(files[f"{folder}/01-dang-a-b.bru"]), read(files[f"{folder}/02-example-2.bru"])
    assert (first["meta"]["name"], second["meta"]["name"]) == ("Một hai", "Ví dụ 2")
    assert first["body:json"] == '{\n  "a": "}\\n{"\n}'
    assert "Dòng hai" in read(files[f"{folder}/folder.bru"])["docs"]
    wanted = {"Ngsp-Purpose": "{{purpose}}", "Ngsp-Officer": "{{officer}}", "Idempotency-Key": "{{$guid}}"}
    if granted:
        wanted |= {"Ngsp-Purpose": "birth-registration", "Ngsp-Consent": "{{consent}}"}
    assert first["headers"] == wanted
    assert ("assert" in first) == granted
