"""Sample adapters with recorded answers: their contract without their systems, as it was when those answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from ngsp.adapter import Adapter
from ngsp.adapter.contract import Effort, try_contract
from tests.adapters.stand_in import PROJECT

RECORDED = sorted(path.parent for path in PROJECT.glob("adapters/*/recordings"))


@pytest.mark.parametrize("folder", RECORDED, ids=[folder.name for folder in RECORDED])
def test_the_contract_holds_on_recorded_answers(folder: Path) -> None:
    findings = try_contract(Adapter.load(folder / "manifest.yaml"), folder, Effort(cases=10))
    assert [finding for finding in findings if finding.faults] == []


def test_there_are_some() -> None:
    assert {folder.name for folder in RECORDED} >= {"g01_population", "g01_driving_licence"}
