"""What an adapter process is told, and what it says where that cannot be."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from ngsp.adapter import ManifestError
from ngsp.adapter.process import AdapterSettings, find_adapter
from tests.adapter.test_declared import MANIFEST

SECRET = "planted-secret"


def settings(folder: Path, key: bytes | None, **others: str) -> AdapterSettings:
    path = folder / "key"
    if key is not None:
        path.write_bytes(key)
    return AdapterSettings(kafka_bootstrap="127.0.0.1:1", key_file=path, **others)  # type: ignore[arg-type]


def test_key_is_read(tmp_path: Path) -> None:
    assert settings(tmp_path, base64.b64encode(bytes(range(32))) + b"\n").key() == bytes(range(32))


@pytest.mark.parametrize(
    "content",
    [None, b"", b"no base64!", base64.b64encode(bytes(31)), base64.b64encode(bytes(33)), "khóa".encode()],
    ids=["no file", "empty", "no base64", "31 bytes", "33 bytes", "other letters"],
)
def test_a_key_that_is_none_is_named_and_not_shown(tmp_path: Path, content: bytes | None) -> None:
    with pytest.raises(ValueError, match="NGSP_ADAPTER_KEY_FILE") as found:
        settings(tmp_path, content).key()
    assert not content or content.decode() not in str(found.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NGSP_ADAPTER_MAX_IN_WORK", "0"),
        ("NGSP_ADAPTER_MAX_IN_WORK", "10001"),
        ("NGSP_ADAPTER_DRAIN_TIMEOUT_S", "0"),
        ("NGSP_ADAPTER_KAFKA_SECURITY_PROTOCOL", SECRET),
        ("NGSP_ADAPTER_CLIENT_ID", SECRET * 10),
    ],
)
def test_a_setting_out_of_bounds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError) as found:
        settings(tmp_path, None)
    (fault,) = found.value.errors(include_input=False, include_url=False)
    assert variable.endswith(str(fault["loc"][0]).upper())
    assert SECRET not in str(found.value)


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    found = settings(tmp_path, None, client_secret=SECRET, kafka_password=SECRET)
    assert SECRET not in repr(found)
    assert found.secret() == SECRET == found.connection().password


def test_a_secret_in_a_file_goes_first(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from-the-file\n", "ascii")
    assert settings(tmp_path, None, client_secret=SECRET, client_secret_file=str(file)).secret() == "from-the-file"


@pytest.mark.parametrize(
    ("module", "complaint"),
    [
        ("tests.adapter.no_such_module", "no_such_module"),
        ("tests.adapter.desk", "tests.adapter.desk: no adapter"),
        ("adapters.g22_catalogue.units", "adapters.g22_catalogue.units: no adapter"),
    ],
)
def test_a_module_without_an_adapter_is_named(module: str, complaint: str) -> None:
    with pytest.raises(ManifestError, match=re.escape(complaint)):
        find_adapter(module)


def test_an_adapter_is_found_by_its_module() -> None:
    assert find_adapter("adapters.g22_catalogue.adapter").id == "g22-catalogue"


def test_a_folder_or_a_manifest_is_found(tmp_path: Path) -> None:
    """A folder with adapter.py is that module, be it in a package or not; else its manifest is the adapter."""
    by_name = find_adapter("adapters.g22_catalogue.adapter")
    assert find_adapter("adapters/g22_catalogue") is by_name
    folder = tmp_path / "g22_declared"
    folder.mkdir()
    manifest = folder / "manifest.yaml"
    manifest.write_text(MANIFEST, "utf-8")
    assert find_adapter(str(manifest)).id == find_adapter(str(folder)).id == "g12-small"
    alone = tmp_path / "alone_adapter"
    alone.mkdir()
    text = "from pathlib import Path\nfrom ngsp.adapter import Adapter\n"
    (alone / "adapter.py").write_text(text + f"adapter = Adapter.load(Path({str(manifest)!r}))\n", "utf-8")
    assert find_adapter(str(alone)).id == "g12-small"


def test_an_adapter_that_declares_nothing_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "empty_adapter"
    folder.mkdir()
    text = 'from ngsp.adapter import Adapter\nadapter = Adapter.named("a", "H14")\n'
    (folder / "adapter.py").write_text(text, "utf-8")
    with pytest.raises(ManifestError, match=r"empty_adapter\.adapter"):
        find_adapter(str(folder))


@pytest.mark.parametrize("target", ["no/such/folder", "no/manifest.yaml"])
def test_a_folder_that_is_not_there(target: str) -> None:
    with pytest.raises(ManifestError, match=re.escape(target)):
        find_adapter(target)
