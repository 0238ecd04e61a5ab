"""The container set-up as far as it can be checked without an engine: what it opens, what it keeps secret."""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ngsp.adapter.process import AdapterSettings
from ngsp.config import Settings
from ngsp.demo.systems import ADAPTERS, DATABASES, PROGRAMS

PROJECT = Path(__file__).parents[2]
_PUBLISHED = re.compile(r"127\.0\.0\.1:\d+:\d+")
_OF_ADAPTERS = {
    *("NGSP_G22_MEMBERS_FILE", "NGSP_ADAPTER_ALLOWED_NETWORKS"),
    *(name for program in PROGRAMS for name in program.variables),
    *(database.variable for database in DATABASES),
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((PROJECT / "docker-compose.yml").read_text("utf-8"))
    return document


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compose") / "secrets"
    subprocess.run([PROJECT / "scripts" / "compose-secrets", folder], check=True, capture_output=True, timeout=30)
    return folder


def test_only_the_gateways_are_published_and_on_loopback_alone(compose: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert set(published) == {"gateway-1", "gateway-2"}
    assert all(_PUBLISHED.fullmatch(port) for ports in published.values() for port in ports)


def test_every_adapter_has_a_container_of_its_own(compose: dict[str, Any]) -> None:
    commands = [service.get("command", []) for service in compose["services"].values()]
    run = [command[2] for command in commands if command[:2] == ["adapter", "run"]]
    assert sorted(run) == sorted(
        f"adapters.{path.parent.name}.adapter" for path in PROJECT.glob("adapters/*/adapter.py")
    )


def test_every_variable_is_one_the_program_knows(compose: dict[str, Any], secrets: Path) -> None:
    known = {f"NGSP_{name.upper()}" for name in Settings.model_fields} | _OF_ADAPTERS
    known |= {f"NGSP_ADAPTER_{name.upper()}" for name in AdapterSettings.model_fields}
    used = {name for service in compose["services"].values() for name in service.get("environment", {})}
    used |= {line.partition("=")[0] for file in secrets.glob("*.env") for line in file.read_text("utf-8").splitlines()}
    assert {name for name in used if name.startswith("NGSP_")} - known == set()


@pytest.mark.parametrize("service", ["setup", "gateway-1", "gateway-2"])
def test_the_gateways_settings_are_accepted(
    service: str, compose: dict[str, Any], secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = (secrets / "gateway.env").read_text("utf-8").splitlines()
    given = dict(line.split("=", 1) for line in written) | compose["services"][service]["environment"]
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NGSP_KEK_FILE", str(secrets / "gateway-kek"))
    settings = Settings()
    assert settings.bus == "kafka"
    assert settings.instance == service
    assert [len(key) for key in settings.key_encryption_keys()] == [32]


def test_the_adapters_settings_are_accepted(
    compose: dict[str, Any], secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = {name: service for name, service in compose["services"].items() if name.startswith("adapter-")}
    assert services
    for service in services.values():
        for name, value in service["environment"].items():
            monkeypatch.setenv(name, value)
        key = secrets / Path(service["environment"]["NGSP_ADAPTER_KEY_FILE"]).name
        monkeypatch.setenv("NGSP_ADAPTER_KEY_FILE", str(key))
        assert len(AdapterSettings().key()) == 32


def test_every_secret_is_a_file_the_script_makes_and_none_is_written_down(
    compose: dict[str, Any], secrets: Path
) -> None:
    files = {entry["file"] for entry in compose["secrets"].values()}
    files |= {name for service in compose["services"].values() for name in service.get("env_file", [])}
    assert {Path(name).name for name in files} == {path.name for path in secrets.iterdir()}
    for service in compose["services"].values():
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
        for name, value in service.get("environment", {}).items():
            assert "://" not in value or "@" not in value, f"{name} holds a password"
            assert not re.search("PASSWORD|SECRET|KEK|KEY_FILE", name) or value.startswith("/run/secrets/"), name


def test_made_secrets_are_random_closed_to_others_and_kept(secrets: Path) -> None:
    keys = {path.name: path.read_text("ascii") for path in secrets.iterdir() if path.name.endswith(("-kek", "-key"))}
    assert len(set(keys.values())) == len(keys) == 1 + len(ADAPTERS), "the gateways', and one each"
    assert all(len(base64.b64decode(key, validate=True)) == 32 for key in keys.values())
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert (secrets / "postgres-password").read_text("ascii") in (secrets / "gateway.env").read_text("ascii")
    before = {path.name: path.read_bytes() for path in secrets.iterdir()}
    subprocess.run([PROJECT / "scripts" / "compose-secrets", secrets], check=True, capture_output=True, timeout=30)
    assert {path.name: path.read_bytes() for path in secrets.iterdir()} == before


def test_the_image_is_made_from_the_lock_and_does_not_run_as_root() -> None:
    lines = (PROJECT / "Dockerfile").read_text("utf-8").splitlines()
    assert any("--require-hashes -r requirements/run.txt" in line for line in lines)
    assert [line for line in lines if line.startswith("USER ")] == ["USER ngsp"]
    kept = (PROJECT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in kept
    assert not any(line.startswith("!") and re.search("secret|env|data", line) for line in kept)
