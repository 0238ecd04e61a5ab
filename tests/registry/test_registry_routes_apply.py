"""Compatible routes in YAML: applied with everything else, a second time nothing, mistakes told by line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from ngsp import database
from tests.registry.applying import MEMBERS, run, write
from tests.support.registry import eventually, manifest, proposal, running_registry

ROUTE = """
kind: compatible-route
id: ngsp-population
title: {vi: Tra cứu dân cư, en: Population look-up}
methods: [GET]
path: /apiDanCu/1.0/traCuu
service: G01.01/population-lookup/v1
agreements: [H41/h41-population]
purpose: birth-registration
query: [so]
request: {id: query.so}
reply: {SO: body.id}
"""


def agreement() -> dict[str, Any]:
    return proposal(kind="agreement", reference="h41-population", accepted=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Routes come first by name, so that the order of files cannot be what makes it work."""
    monkeypatch.setenv("NGSP_LANGUAGE", "en")
    documents = {"1-routes": ROUTE, "2-agreements": orjson.dumps(agreement()).decode(), "members": MEMBERS,
                 "adapter": orjson.dumps({"kind": "adapter", **manifest()}).decode()}  # fmt: skip
    for name, text in documents.items():
        write(tmp_path / f"{name}.yaml", text)
    return tmp_path


async def test_applied_and_a_second_time_nothing(folder: Path, url: str) -> None:
    code, printed = await run(folder, url, dry_run=True)
    assert (code, "+ create: compatible route ngsp-population" in printed) == (0, True), printed
    async with running_registry(url) as gateway:
        assert gateway.routes.find(b"/apiDanCu/1.0/traCuu") is None
        code, printed = await run(folder, url)
        assert code == 0, printed
        await eventually(lambda: gateway.routes.find(b"/apiDanCu/1.0/traCuu") is not None, 1.0)
        route = gateway.snapshot.routes.by_id["ngsp-population"]
        assert gateway.snapshot.agreements[route.agreements[0]].consumer == "H41"
        code, printed = await run(folder, url)
        assert "create: 0, update: 0, unchanged: 5, conflict: 0" in printed
        changed = ROUTE.replace("{SO: body.id}", "{SO: body.id, TEN: body.name.last}")
        write(folder / "1-routes.yaml", changed)
        code, printed = await run(folder, url)
        assert code == 0, printed
        assert "~ update: compatible route ngsp-population" in printed
        assert "    reply: {'SO': 'body.id'} → {'SO': 'body.id', 'TEN': 'body.name.last'}" in printed
        assert "query:" not in printed, "only what differs is shown"
        write(folder / "1-routes.yaml", ROUTE + "active: false\n")
        await run(folder, url)
        await eventually(lambda: gateway.routes.find(b"/apiDanCu/1.0/traCuu") is None, 1.0)


@pytest.mark.parametrize(
    ("replaced", "by", "told"),
    [
        ("path: /apiDanCu/1.0/traCuu", "path: /v1/traCuu", "1-routes.yaml:6: /path:"),
        ("reply: {SO: body.id}", "reply:\n  SO: body.id +", "line 13, /reply/SO:"),
        ("service: G01.01/population-lookup/v1", "service: G01.01/nothing/v1", "line 7, /service:"),
        ("[H41/h41-population]", "[H41/nothing]", "line 8, /agreements/0:"),
        ("query: [so]", "query: [so]\nurl: http://elsewhere", "1-routes.yaml:11: /url: There is no such field."),
    ],
)
async def test_what_is_wrong_is_told_by_line(folder: Path, url: str, replaced: str, by: str, told: str) -> None:
    write(folder / "1-routes.yaml", ROUTE.replace(replaced, by))
    code, printed = await run(folder, url)
    assert code in (1, 2)
    assert told in printed
    connection = await database.connect(url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM members") == 0, "nothing at all was applied"
    finally:
        await connection.close()


async def test_two_routes_of_one_address_conflict(folder: Path, url: str) -> None:
    write(folder / "3-routes.yaml", ROUTE.replace("ngsp-population", "another"))
    code, printed = await run(folder, url)
    assert code == 1
    assert "! conflict: compatible route another" in printed
    assert "The path meets that of the route 'ngsp-population'" in printed
