"""`ngsp transactions` as a person types it: a program of its own against a running gateway."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import orjson
import pytest

from ngsp.local.child import signal_to
from tests.support.gateway import Rig
from tests.support.waiting import until
from tests.transactions.hands import call

if TYPE_CHECKING:
    from pathlib import Path


def environment(rig: Rig, client: str = "operator", language: str = "en") -> dict[str, str]:
    return {
        **os.environ,
        "NGSP_URL": rig.base_url,
        "NGSP_CLIENT_ID": client,
        "NGSP_CLIENT_SECRET": rig.secrets[client],
        "NGSP_LANGUAGE": language,
    }


async def start(*arguments: str, env: dict[str, str]) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ngsp", *arguments, env=env, stdout=pipe, stderr=pipe
    )


async def run(*arguments: str, env: dict[str, str]) -> tuple[int, str, str]:
    """`ngsp transactions …`: exit code, output, and what it had to say."""
    return await run_ngsp("transactions", *arguments, env=env)


async def run_ngsp(*arguments: str, env: dict[str, str]) -> tuple[int, str, str]:
    """The same of any command."""
    process = await start(*arguments, env=env)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def projected(rig: Rig, tx: str) -> None:
    async def ended() -> bool:
        found = await rig.rows.fetchval("SELECT ended_at FROM transactions WHERE tx = $1", tx)
        return found is not None

    await until(ended, "the transaction is projected")


async def test_list_for_people_and_for_programs(rig: Rig) -> None:
    made = [await call(rig, name) for name in ("look-up", "whole", "whole")]
    refused = await call(rig, "look-up", by="stranger")
    await projected(rig, refused)
    code, out, err = await run("list", env=environment(rig))
    assert (code, err) == (0, "")
    assert all(tx in out for tx in (*made, refused)) and "access-denied" in out and "succeeded" in out
    code, out, _ = await run("list", "--json", "--limit", "2", "--service", "whole", env=environment(rig))
    assert [orjson.loads(line)["id"] for line in out.splitlines()] == made[:0:-1]
    code, out, _ = await run("list", "--outcome", "refused", "--json", env=environment(rig))
    assert [orjson.loads(line)["id"] for line in out.splitlines()] == [refused]
    code, out, _ = await run("list", "--officer", "nobody", env=environment(rig, language="vi"))
    assert (code, out) == (0, "Không có giao dịch nào.\n")
    code, out, _ = await run("list", "--limit", "1", env=environment(rig, "stranger", language="vi"))
    assert "bị từ chối" in out and "Giao dịch" in out


async def test_list_goes_on_over_pages(rig: Rig) -> None:
    await rig.rows.execute(
        """
        INSERT INTO transactions SELECT gen_random_uuid(), 1000000 + i, now(), NULL, 'accepted', 'query', 'c', 'H99',
            'G12', 's', 'v1', 'a', '', 1, 'p', NULL, NULL, NULL, NULL, 'g', 1
        FROM generate_series(1, 1300) i"""
    )
    _, out, _ = await run("list", "--json", "--limit", "1100", "--consumer", "H99", env=environment(rig))
    assert len({orjson.loads(line)["id"] for line in out.splitlines()}) == 1100
    await rig.rows.execute("DELETE FROM transactions WHERE consumer = 'H99'")


async def test_show(rig: Rig) -> None:
    tx = await call(rig, "whole")
    code, out, _ = await run("show", tx, env=environment(rig, language="vi"))
    assert code == 0 and tx in out and "thành công" in out and "legal_basis" in out and "canonical" not in out
    code, out, _ = await run("show", tx, "--json", "--wait", "5", env=environment(rig))
    assert code == 0 and orjson.loads(out)["entries"][1]["kind"] == "succeeded"


@pytest.mark.parametrize("id", ["0192f0c1-0000-7000-8000-000000000001", "../../livez", ".", "a b"])
async def test_what_is_not_there_is_said(rig: Rig, id: str) -> None:
    code, out, err = await run("show", id, env=environment(rig))
    assert (code, out) == (1, "") and "(404 not-found)" in err and "Traceback" not in err


async def test_follow(rig: Rig) -> None:
    await projected(rig, await call(rig))
    newest = await rig.rows.fetchrow("SELECT xid::text AS xid, seq FROM projection")
    made = [await call(rig, "whole"), await call(rig)]
    after = f"{newest['xid']}-{newest['seq']}"
    code, out, err = await run("follow", "--after", after, "--count", "4", "--json", env=environment(rig))
    assert (code, err) == (0, "")
    events = [orjson.loads(line) for line in out.splitlines()]
    assert [(event["kind"], event["transaction"]["id"]) for event in events] == [
        ("accepted", made[0]), ("succeeded", made[0]), ("accepted", made[1]), ("succeeded", made[1]),
    ]  # fmt: skip
    code, out, _ = await run(
        "follow",
        "--after",
        events[0]["id"],
        "--count",
        "1",
        "--service",
        "look-up",
        env=environment(rig, language="vi"),
    )
    assert made[1] in out and "đã nhận" in out and "G22  →  H41/look-up/v1" in out


async def test_follow_tells_what_comes_and_stops_when_told(rig: Rig) -> None:
    process = await start("transactions", "follow", "--json", env=environment(rig, "caller"))
    assert process.stdout is not None
    told: list[str] = []

    async def read() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            told.append(orjson.loads(line)["transaction"]["id"])

    reading = asyncio.create_task(read())
    made: list[str] = []

    async def something_told() -> bool:
        made.append(await call(rig))  # whatever was called before the stream stood is not told
        await projected(rig, made[-1])
        return bool(told)

    await until(something_told, "the command tells of a call")
    signal_to(process, signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 60) in (130, -2)
    await reading
    assert set(told) <= set(made)


async def test_follow_says_that_it_tries_again(rig: Rig) -> None:
    process = await start("transactions", "follow", "--url", "http://127.0.0.1:9", env=environment(rig))
    assert process.stderr is not None
    said = (await asyncio.wait_for(process.stderr.readline(), 30)).decode()
    assert said.startswith("Cannot reach http://127.0.0.1:9; again in")
    process.send_signal(2)
    assert await asyncio.wait_for(process.wait(), 60) in (130, -2)


async def test_wrong_words_get_an_answer_and_no_trace(rig: Rig) -> None:
    env = environment(rig)
    for arguments, wanted in (
        (("list", "--from", "yesterday"), "(400 malformed-parameter)"),
        (("follow", "--after", "x"), "(400 malformed-header)"),
        (("follow", "--from", "yesterday"), "not RFC 3339"),
        (("follow", "--to", "2026-11-22T01:02:03"), "not RFC 3339"),
        (("list", "--cunsumer", "x"), "No such option"),
    ):
        code, out, err = await run(*arguments, env=env)
        assert code != 0 and out == "" and wanted in err and "Traceback" not in err
    code, _, err = await run("list", env=env | {"NGSP_CLIENT_SECRET": "wrong-" + "x" * 30})
    assert code == 1 and "refuses the client" in err
    code, _, err = await run("list", env={name: value for name, value in env.items() if name != "NGSP_CLIENT_ID"})
    assert code == 1 and "NGSP_CLIENT_ID" in err
    code, _, err = await run("list", "--url", "http://127.0.0.1:9", env=env)
    assert code == 1 and err == "Cannot reach http://127.0.0.1:9\n"


async def test_the_demo_s_own_description_suffices(rig: Rig, tmp_path: Path) -> None:
    env = {name: value for name, value in environment(rig).items() if not name.startswith("NGSP_CLIENT")}
    env.pop("NGSP_URL")
    missing = await run("list", "--demo", str(tmp_path), env=env)
    assert missing[0] == 1 and "is the demo running" in missing[2]
    operator = {"id": "operator", "secret": rig.secrets["operator"]}
    (tmp_path / "demo.json").write_bytes(orjson.dumps({"base_url": rig.base_url, "operator": operator}))
    tx = await call(rig)
    await projected(rig, tx)
    code, out, _ = await run("list", "--demo", str(tmp_path), env=env)
    assert code == 0 and tx in out
