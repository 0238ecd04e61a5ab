"""docs/compatible.md: its transcripts run as they are written against a running demo; its route is the demo's."""

from __future__ import annotations

from ngsp.api.compatible_routes import RouteView
from ngsp.registry.routes import ROOTS
from tests.docs.conftest import Demo
from tests.docs.pages import PROJECT, blocks, prose, steps
from tests.docs.shell import difference, shell

PAGE = PROJECT / "docs" / "compatible.md"


async def test_the_transcripts_work_as_written(demo: Demo) -> None:
    written = [step for block in blocks(PAGE, "console") for step in steps(block)]
    assert len(written) > 10
    async with shell(demo.folder) as session:
        for step in written:
            code, told = await session.type(step.command)
            assert code == 0, told
            assert (difference(step.shown, told) if step.shown else "\n".join(told)) == "", step.command


def test_the_route_is_the_demo_s() -> None:
    (shown,) = blocks(PAGE, "yaml")
    assert shown.text in (PROJECT / "ngsp" / "demo" / "registry" / "routes.yaml").read_text("utf-8")


def test_every_member_and_every_name_of_a_root_is_explained() -> None:
    text = prose(PAGE)
    for name in RouteView.model_fields.keys() - {"id", "title"}:
        assert f"`{name}`" in text, name
    for names in ROOTS.values():
        for name in names:
            assert f"`{name}`" in text, name
