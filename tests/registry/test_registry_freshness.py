"""Every snapshot is at most a second old, whatever is lost on the way; where that fails, nothing is answered."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from ngsp.errors import PreconditionFailed, RegistryStale
from ngsp.local.postgres import LocalPostgres
from ngsp.registry.change import Condition
from ngsp.registry.documents import MemberDocument
from ngsp.registry.manifest_documents import ManifestDocument
from tests.support.registry import (
    OPERATOR,
    eventually,
    manifest,
    member_document,
    put_members,
    running_registry,
    temporary_database,
    text,
)
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ngsp.registry.model import Snapshot
    from ngsp.registry.store import Registry

ONE_SECOND = 1.0


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[LocalPostgres]:
    """A server that a test may stop."""
    server = LocalPostgres(tmp_path / "server")
    await server.start()
    yield server
    await server.start()
    await server.remove()


async def rename(registry: Registry, name: str) -> None:
    await registry.put_member(OPERATOR, "H41", MemberDocument.model_validate(member_document(name=text(name))))


def name_in(registry: Registry) -> str:
    member = registry.snapshot.members.get("H41")
    return member.name.vi if member else ""


async def on_server(url: str, statement: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


async def test_a_change_is_seen_by_the_others_within_a_second(url: str) -> None:
    async with running_registry(url) as one, running_registry(url) as other:
        took_s = []
        for number in range(10):
            await rename(one, f"Tên {number}")
            assert name_in(one) == f"Tên {number}", "where it was written it is there at once"
            took_s.append(await eventually(lambda: name_in(other) == f"Tên {number}", ONE_SECOND))  # noqa: B023
        assert sorted(took_s)[5] < 0.25, "by the notice, not by the poll"


async def test_a_change_without_a_notice_is_seen_within_a_second(url: str) -> None:
    async with running_registry(url) as registry:
        await put_members(registry)
        await on_server(
            url,
            "WITH moved AS (UPDATE registry_revision SET revision = revision + 1 RETURNING revision)"
            " UPDATE members SET name_vi = 'Lặng lẽ', revision = (SELECT revision FROM moved) WHERE code = 'H41'",
        )
        await eventually(lambda: name_in(registry) == "Lặng lẽ", ONE_SECOND)


async def test_a_killed_listener_comes_back_within_a_second(url: str) -> None:
    async with running_registry(url) as one, running_registry(url) as other:
        for number in range(3):
            killed = await on_server(
                url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'ngsp-registry' AND datname = current_database()",
            )
            assert len(killed) == 2
            await rename(one, f"Sau {number}")
            await eventually(lambda: name_in(other) == f"Sau {number}", ONE_SECOND)  # noqa: B023
            await eventually(lambda: name_in(one) == f"Sau {number}", ONE_SECOND)  # noqa: B023


async def test_stopped_database_makes_it_stale_and_it_recovers_by_itself(own_server: LocalPostgres) -> None:
    async with (
        temporary_database(own_server) as url,
        running_registry(url, registry_stale_s=1.0) as registry,
    ):
        await rename(registry, "Trước")
        own_server.kill()
        stopped_s = time.monotonic()
        assert name_in(registry) == "Trước", "for a moment what is known still serves"
        await eventually(lambda: is_stale(registry), 3)
        assert time.monotonic() - stopped_s >= 0.4, "no sooner than the setting says, less one poll"
        with pytest.raises(RegistryStale) as stale:
            _ = registry.snapshot
        assert (stale.value.status, stale.value.retry_after_s) == (503, 1)
        with pytest.raises(RegistryStale):
            await rename(registry, "Không ghi được")
        await own_server.start()
        await eventually(lambda: not is_stale(registry), 5)
        await rename(registry, "Sau")
        assert name_in(registry) == "Sau"


def is_stale(registry: Registry) -> bool:
    try:
        _ = registry.snapshot
    except RegistryStale:
        return True
    return False


async def test_only_what_changed_is_made_anew(url: str) -> None:
    """Whoever keeps something by the identity of a client, a service or a schema may go on keeping it."""
    async with running_registry(url) as one, running_registry(url) as other:
        await put_members(one)
        await one.put_adapter(OPERATOR, "g01-population", ManifestDocument.model_validate(manifest()))
        await eventually(lambda: "G01.01/population-lookup/v1" in other.snapshot.services, ONE_SECOND)
        before = other.snapshot
        await rename(one, "Đổi tên")
        await eventually(lambda: name_in(other) == "Đổi tên", ONE_SECOND)
        after = other.snapshot
        assert after.revision == before.revision + 1
        assert after.members["H41"] is not before.members["H41"]
        assert after.members["H14"] is before.members["H14"]
        path = "G01.01/population-lookup/v1"
        assert after.services[path] is before.services[path]


async def test_callbacks_get_the_first_and_every_later_state_and_are_tried_again(url: str) -> None:
    seen: list[str] = []
    failures = 2

    async def follow(snapshot: Snapshot) -> None:
        nonlocal failures
        member = snapshot.members.get("H41")
        if member is not None and failures:
            failures -= 1
            raise ConnectionError("the broker is away")
        seen.append(member.name.vi if member else "")

    async with running_registry(url) as registry:
        registry.on_change(follow)
        await eventually(lambda: seen == [""], ONE_SECOND)
        await rename(registry, "Một")
        await eventually(lambda: seen == ["", "Một"], 5)
        await rename(registry, "Hai")
        await eventually(lambda: seen == ["", "Một", "Hai"], ONE_SECOND)
    assert failures == 0


async def test_writers_at_once_lose_nothing(url: str) -> None:
    """Twenty writers who saw the same version: one wins, the others are told; revisions count the changes."""
    async with running_registry(url) as one, running_registry(url) as other:
        await rename(one, "Gốc")
        revision = one.snapshot.revision

        async def attempt(number: int) -> bool:
            document = MemberDocument.model_validate(member_document(name=text(f"Bản {number}")))
            condition = Condition(versions=frozenset((1,)))
            try:
                await (one, other)[number % 2].put_member(OPERATOR, "H41", document, condition)
            except PreconditionFailed:
                return False
            return True

        won = await asyncio.gather(*(attempt(number) for number in range(20)))
        assert sum(won) == 1
        await eventually(lambda: other.snapshot.revision == one.snapshot.revision == revision + 1, ONE_SECOND)
        assert name_in(other) == f"Bản {won.index(True)}"


async def test_a_registry_that_is_stopped_at_once_leaves_no_connection(postgres: LocalPostgres) -> None:
    async with temporary_database(postgres) as url:
        async with running_registry(url):
            pass
        connection = await asyncpg.connect(url)
        try:

            async def gone() -> bool:
                count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                return int(await connection.fetchval(f"{count} AND application_name = 'ngsp-registry'")) == 0

            await until(gone, "the registry's connection to end")
        finally:
            await connection.close()
