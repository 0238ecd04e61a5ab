"""The bench of events measures a whole gateway, by the command that people give."""

from __future__ import annotations

import re

import pytest

from bench.__main__ import main


@pytest.mark.long
def test_each_way_of_an_event_is_measured_in_one_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "--quick"]) == 0
    *_, last = capsys.readouterr().out.strip().splitlines()
    assert re.fullmatch(r"events submission_us=[0-9]+ adapter=[0-9.]+ webhook=[0-9.]+", last)
