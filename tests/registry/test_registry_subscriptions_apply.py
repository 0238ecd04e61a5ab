"""Subscriptions in YAML: applied with everything else, a second time nothing, the secret in a file of its owner's."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import Any

import orjson
import pytest

from ngsp import database
from ngsp.registry.model import Subscription, webhook_secret_name
from ngsp.vault import Vault
from tests.registry.applying import MEMBERS, run, write
from tests.support.registry import CHANGED, event_service, eventually, manifest, proposal, running_registry

SERVICE = "G01.01/population-events/v1"
CLIENT = """
kind: client
id: h41-desk
member: H41
name: {vi: Một cửa, en: One-stop shop}
scopes: [exchange]
"""
SUBSCRIPTION = f"""
kind: subscription
id: h41-population
member: H41
client: h41-desk
service: {SERVICE}
agreement: h41-events
purpose: birth-registration
types: [{CHANGED}]
url: https://motcua.example.vn/ngsp
from: earliest
secret_file: h41-population.secret
"""
KEK = bytes(range(32))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Subscriptions come first by name, so that the order of files cannot be what makes it work."""
    monkeypatch.setenv("NGSP_LANGUAGE", "en")
    monkeypatch.setenv("NGSP_KEK", base64.b64encode(KEK).decode())
    agreement = proposal(kind="agreement", reference="h41-events", accepted=True, service=SERVICE, fields=[""])
    adapter = {"kind": "adapter", **manifest(event_service())}
    documents: dict[str, Any] = {"agreements": agreement, "adapter": adapter}
    texts = {"0-subscriptions": SUBSCRIPTION, "members": f"{MEMBERS}---{CLIENT}"}
    texts |= {name: orjson.dumps(value).decode() for name, value in documents.items()}
    for name, text in texts.items():
        write(tmp_path / f"{name}.yaml", text)
    return tmp_path


async def known(url: str) -> dict[str, Subscription]:
    async with running_registry(url) as gateway:
        return dict(gateway.snapshot.subscriptions)


async def test_applied_and_a_second_time_nothing(folder: Path, url: str) -> None:
    file = folder / "h41-population.secret"
    code, printed = await run(folder, url, dry_run=True)
    assert (code, "+ create: subscription h41-population" in printed) == (0, True), printed
    assert not file.exists()
    code, printed = await run(folder, url)
    assert code == 0, printed
    assert "whsec_" not in printed
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secret = base64.b64decode(file.read_text("ascii").strip().removeprefix("whsec_"), validate=True)
    subscription = (await known(url))["h41-population"]
    assert (subscription.member, subscription.client, subscription.types) == ("H41", "h41-desk", frozenset((CHANGED,)))
    assert Vault(KEK).open_secret(webhook_secret_name("h41-population"), subscription.secrets[0].sealed) == secret
    code, printed = await run(folder, url)
    assert "create: 0, update: 0, unchanged: 6, conflict: 0" in printed
    changed = SUBSCRIPTION.replace("vn/ngsp", "vn/ngsp/2").replace("from: earliest", "from: now")
    write(folder / "0-subscriptions.yaml", changed)
    code, printed = await run(folder, url)
    assert (code, "~ update: subscription h41-population" in printed) == (0, True), printed
    assert "    url: https://motcua.example.vn/ngsp → https://motcua.example.vn/ngsp/2" in printed
    assert "secrets" not in printed
    assert (await known(url))["h41-population"].secrets == subscription.secrets


async def test_without_a_file_the_secret_is_shown_once(folder: Path, url: str) -> None:
    shown = SUBSCRIPTION.replace("secret_file: h41-population.secret\n", "")
    write(folder / "0-subscriptions.yaml", shown)
    _, printed = await run(folder, url, dry_run=True)
    assert "whsec_" not in printed
    _, printed = await run(folder, url)
    assert printed.count("whsec_") == 1
    _, printed = await run(folder, url)
    assert "whsec_" not in printed


async def test_what_cannot_be_done_leaves_nothing(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "h41-population.secret").write_text("kept", "ascii")
    code, printed = await run(folder, url)
    assert (code, "delete or rename it" in printed) == (1, True), printed
    (folder / "h41-population.secret").unlink()
    monkeypatch.delenv("NGSP_KEK")
    code, printed = await run(folder, url)
    assert (code, "NGSP_KEK_FILE" in printed) == (1, True), printed
    assert await known(url) == {}
    assert not (folder / "h41-population.secret").exists()


@pytest.mark.parametrize(
    ("before", "after", "code", "told"),
    [
        ("agreement: h41-events", "agreement: other", 1, "0-subscriptions.yaml"),
        ("agreement: h41-events", "agreement: other", 1, "line 7, /agreement: There is no such agreement"),
        (CHANGED, "vn.gov.other", 1, "line 9, /types/0: The service has no such type."),
        ("https://", "http://", 1, "line 10, /url: Must be https."),
        ("member: H41", "", 2, "/member: A required field is missing."),
        ("url: https://motcua.example.vn/ngsp", "receiver: H41/take/v1", 2, "Only a webhook (url) has a secret_file."),
        ("from: earliest", "from: soon", 2, "0-subscriptions.yaml:11: /from: Must be now, earliest"),
        ("active", "active", 0, "Written."),
    ],
)
async def test_mistakes_are_told_by_line(folder: Path, url: str, before: str, after: str, code: int, told: str) -> None:
    write(folder / "0-subscriptions.yaml", SUBSCRIPTION.replace(before, after))
    done, printed = await run(folder, url)
    assert (done, told in printed) == (code, True), printed


async def test_the_gateway_sees_it_at_once(folder: Path, url: str) -> None:
    async with running_registry(url, kek=base64.b64encode(os.urandom(32)).decode()) as gateway:
        await run(folder, url)
        await eventually(lambda: "h41-population" in gateway.snapshot.subscriptions, 1.0)
    engine = database.engine(url, pool_size=1)
    async with engine.connect() as connection:
        found = await connection.exec_driver_sql("SELECT CAST(xid AS text), seq, run FROM subscription_progress")
        assert [tuple(row) for row in found] == [("0", 0, 1)]
    await engine.dispose()
