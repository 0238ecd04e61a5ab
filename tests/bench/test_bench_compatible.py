"""The bench of compatible routes measures a whole gateway, by the command that people give."""

from __future__ import annotations

import re

import pytest

from bench.__main__ import main


def test_each_door_is_measured_in_one_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compatible", "--quick"]) == 0
    *_, last = capsys.readouterr().out.strip().splitlines()
    assert re.fullmatch(r"compatible hot_us=[0-9]+ token=[0-9.]+ header=[0-9.]+ look_us=[0-9.]+", last)
