"""The demo's registry documents: read, applied to a real database, applied again."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ngsp import database
from ngsp.config import Settings
from ngsp.demo.systems import ADAPTERS, WAITING
from ngsp.identity.secrets import hash_secret
from ngsp.local.postgres import LocalPostgres
from ngsp.registry.applying import apply
from ngsp.registry.declared import DeclaredAgreement, DeclaredClient, DeclaredService, read_declarations
from ngsp.registry.store import Registry
from tests.support.registry import migrated_database

PROJECT = Path(__file__).parents[2]
DOCUMENTS = PROJECT / "ngsp" / "demo" / "registry"


@pytest.fixture
async def store(postgres: LocalPostgres) -> AsyncIterator[Registry]:
    url = await migrated_database(postgres)
    engine = database.engine(url, pool_size=2)
    yield Registry(Settings.model_validate({"database_url": url}), engine, hash_secret)
    await engine.dispose()


def test_documents_are_without_fault() -> None:
    found, errors = read_declarations(DOCUMENTS)
    assert [str(error) for error in errors] == []
    members = {declaration.name for declaration in found if declaration.document.kind == "member"}
    assert members >= {"G22", "G12", "G01", "G01.01", "H41", "H14"}
    clients = {declaration.name: declaration.document for declaration in found if declaration.document.kind == "client"}
    assert clients.keys() == {
        "g22-portal",
        "h41-onestop",
        "h14-onestop",
        "h14-trial",
        "g12-business-portal",
        "operator",
        *ADAPTERS,
    }
    adapters = {declaration.name for declaration in found if declaration.document.kind == "adapter"}
    assert adapters == {*ADAPTERS, *WAITING}


def test_no_secret_stands_in_them_and_every_agreement_says_why() -> None:
    found, _ = read_declarations(DOCUMENTS)
    for declaration in found:
        document = declaration.document
        if isinstance(document, DeclaredClient):
            assert document.secret_file == f"../secrets/{document.id}.secret"
        if isinstance(document, DeclaredAgreement):
            assert re.search(r"(Luật|Nghị định) \D*\d+/\d{4}/", document.legal_basis), "an act and its number"
            assert not re.search(r"(Điều|khoản|điểm) \d", document.legal_basis), "no article that nobody has checked"
            assert document.consumer != "H14", "H14 shows what happens without an agreement"
            if document.service == "G01.01/population-lookup/v1":
                assert "" not in document.fields, "the demo shows that the reply is cut"


def test_what_waits_is_disabled_and_says_why_in_both_languages() -> None:
    found, _ = read_declarations(DOCUMENTS)
    decided = {each.document.service: each.document for each in found if isinstance(each.document, DeclaredService)}
    for service in WAITING.values():
        assert decided[service].state == "disabled"
        assert re.search(r"\S / \S", decided[service].reason)
        assert "Luật" in decided[service].legal_basis


async def test_applied_once_and_then_in_place(store: Registry, tmp_path: Path) -> None:
    for folder in ("registry", "secrets"):
        (tmp_path / folder).mkdir()
    for file in DOCUMENTS.glob("*.yaml"):
        absolute = file.read_text("utf-8").replace("../../../adapters/", f"{PROJECT}/adapters/")
        (tmp_path / "registry" / file.name).write_text(absolute, "utf-8")
    found, errors = read_declarations(tmp_path / "registry")
    assert errors == []

    first = await apply(store, found, dry_run=False)
    for difference in first:  # what is decided of a service changes what its manifest brought
        decided = difference.declaration.document.kind == "service"
        assert (difference.action, difference.problems) == ("update" if decided else "create", ())
    secrets = sorted((tmp_path / "secrets").iterdir())
    assert len(secrets) == len([each for each in found if each.document.kind == "client"])
    assert {file.stat().st_mode & 0o777 for file in secrets} == {0o600}

    again = await apply(store, found, dry_run=False)
    assert {difference.action for difference in again} == {"keep"}
