"""The comparison that the README's test rests on finds what it must find."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import Block, steps
from tests.docs.shell import difference, shell

ANSWER = [
    "HTTP/1.1 200 OK",
    "date: Sun, 22 Nov 2026 09:09:12 GMT",
    "ngsp-transaction: 01a20284-4415-7860-b646-9b0ca7398162",
    "",
    '{"state":"succeeded"}',
]


@pytest.mark.parametrize(
    "shown",
    [
        ANSWER,
        ["HTTP/1.1 200 OK", "date: Mon, 23 Nov 2026 10:00:00 GMT", "…", '{"state":"succeeded"}'],
        ["HTTP/1.1 200 OK", "…", "ngsp-transaction: 01a20300-0000-7000-8000-000000000000", "…"],
        ["…", '{"state":"…"}'],
    ],
)
def test_what_differs_from_run_to_run_and_what_was_left_out_is_the_same(shown: list[str]) -> None:
    assert difference(shown, ANSWER) == ""


@pytest.mark.parametrize(
    "shown",
    [
        ["HTTP/1.1 202 Accepted", "…"],
        ["…", '{"state":"failed"}'],
        ["HTTP/1.1 200 OK", '{"state":"succeeded"}'],
        ANSWER[:-1],
        [*ANSWER, "and more"],
    ],
)
def test_another_answer_is_another(shown: list[str]) -> None:
    assert difference(shown, ANSWER) != ""


def test_a_command_may_go_on_in_further_lines() -> None:
    (first, second) = steps(Block(Path("page.md"), "console", "$ one \\\n>   more\nanswer\n$ two\n"))
    assert (first.command, first.shown) == ("one \\\n  more", ("answer",))
    assert (second.command, second.shown) == ("two", ())


async def test_a_session_keeps_what_was_set_and_tells_exit_codes(tmp_path: Path) -> None:
    async with shell(tmp_path) as session:
        assert await session.type("name=value") == (0, [])
        assert await session.type('echo "$name" && echo aside >&2') == (0, ["value", "aside"])
        assert await session.type("false") == (1, [])
