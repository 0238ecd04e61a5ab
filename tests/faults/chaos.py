"""`python -m tests.faults.chaos --kills 1000 --seed 7`: the kills of the test suite, as many as one likes.

In rounds, each reconciled from the start of the log; ends with 1 at the first round in which something was lost,
doubled or left open.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from ngsp.local.kafka import LocalKafka
from ngsp.local.postgres import LocalPostgres
from tests.faults.kills import chosen_seed, fault_installation, rampage

KILLS_IN_ROUND = 50


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def until_stopped(folder: Path, kills: int, seed: int, verbose: bool) -> int:
    """`chaos`, which ends in order on SIGTERM and on Ctrl+C: no process stays behind."""
    work = asyncio.create_task(chaos(folder, kills, seed, verbose))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    try:
        return await work
    except asyncio.CancelledError:
        say("stopped")
        return 130


async def chaos(folder: Path, kills: int, seed: int, verbose: bool) -> int:
    """0 where everything held; the folder then is deleted by the caller."""
    postgres, kafka = LocalPostgres(folder / "postgres", say), LocalKafka(folder / "kafka", say, short_lived=True)
    async with postgres, kafka:
        installation, ledger_url, notices = await fault_installation(folder, postgres, kafka)
        acknowledged = 0
        async with installation:
            for number in range(-(-kills // KILLS_IN_ROUND)):
                result = await rampage(
                    installation,
                    ledger_url,
                    notices,
                    seed=seed,
                    kills=min(KILLS_IN_ROUND, kills - number * KILLS_IN_ROUND),
                    name=f"round-{number + 1}",
                    say=say if verbose else lambda _line: None,
                )
                acknowledged += result.account.acknowledged
                say(f"--- round {number + 1}\n{result}")
                if result.account.faults:
                    say("\n".join(result.account.faults))
                    return 1
        say(f"{kills} kills, {acknowledged} acknowledged, {result.account.transactions} transactions: nothing lost, "
            "nothing doubled, nothing open")  # fmt: skip
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--folder", type=Path, default=None, help="kept; else a temporary one, kept after a fault")
    parser.add_argument("--verbose", action="store_true", help="a line for each kill")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="ngsp-chaos-"))
    seed = chosen_seed() if arguments.seed is None else arguments.seed
    say(f"seed {seed}, logs in {folder / 'logs'}")
    failed = asyncio.run(until_stopped(folder, arguments.kills, seed, arguments.verbose))
    if not failed and arguments.folder is None:
        shutil.rmtree(folder)
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
