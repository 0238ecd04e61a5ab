"""Twenty kills under load: nothing acknowledged is lost, no effect doubled, every transaction ends."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ngsp.local.kafka import LocalKafka
from ngsp.local.postgres import LocalPostgres
from tests.faults.kills import chosen_seed, fault_installation, rampage

pytestmark = pytest.mark.postgres

KILLS, PAUSE_S, CLIENTS = 20, 1.0, 5


async def test_nothing_is_lost_and_nothing_doubled(
    own_postgres: LocalPostgres, own_kafka: LocalKafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`NGSP_SEED` repeats the kills of a run; `make chaos` makes a thousand.

    What it says goes to stderr: of a process beside others that run tests, pytest shows nothing else.
    """
    seed = chosen_seed()
    with capsys.disabled():
        print(f"\n{KILLS} kills, seed {seed}", file=sys.stderr, flush=True)
    installation, ledger_url, notices = await fault_installation(tmp_path, own_postgres, own_kafka)
    async with installation:
        result = await rampage(
            installation,
            ledger_url,
            notices,
            seed=seed,
            kills=KILLS,
            say=print,
            longest_pause_s=PAUSE_S,
            clients=CLIENTS,
        )
    with capsys.disabled():
        print(result, file=sys.stderr, flush=True)
    assert result.account.faults == [], f"{result}\nlogs in {tmp_path / 'logs'}"
    assert result.kills.total() == KILLS
    assert min(result.in_flight) > 0
    assert set(result.kills) == {"gateway", "adapter", "kafka", "postgres"}
    assert result.account.outcomes["succeeded"] > 0
