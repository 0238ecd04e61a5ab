"""The catalogue of the samples in a database of its own, without a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ngsp.demo.world import REGISTRY, ROOT
from ngsp.local.postgres import LocalPostgres
from ngsp.registry.apply import run_apply
from ngsp.registry.model import Service
from tests.support.registry import running_registry, temporary_database


@pytest.fixture(scope="module")
async def catalogue_url(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    folder = tmp_path_factory.mktemp("registry")
    for name in ("members.yaml", "adapters.yaml"):
        text = (REGISTRY / name).read_text("utf-8").replace("manifest: ../../../", f"manifest: {ROOT}/")
        (folder / name).write_text(text, "utf-8")
    async with temporary_database(postgres) as url:
        with (folder.parent / "apply.log").open("w") as out:
            code = await asyncio.to_thread(run_apply, folder, url, False, out)
        assert code == 0, Path(out.name).read_text()
        yield url


@pytest.fixture(scope="module")
async def catalogue(catalogue_url: str) -> dict[str, Service]:
    async with running_registry(catalogue_url) as registry:
        return registry.snapshot.services
