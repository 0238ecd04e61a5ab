"""What docs/adapters.md says of declared and typed adapters: its snippets run, its tables are whole."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from ngsp.adapter import Adapter, ManifestError
from ngsp.adapter.backends import KINDS
from ngsp.adapter.backends.authentication import BasicAuth, BearerAuth, HeaderAuth, LgspAuth, OAuth2Auth
from ngsp.adapter.backends.base import BackendConfig, BreakerSettings, RetrySettings
from ngsp.adapter.backends.file import FileCall, FileConfig, SftpSettings
from ngsp.adapter.backends.http import TlsConfig
from ngsp.adapter.backends.rest import ProbeConfig, RestCall, RestConfig
from ngsp.adapter.backends.soap import HeaderSecurity, SoapCall, SoapConfig, TokenSecurity
from ngsp.adapter.backends.sql import SqlCall, SqlConfig
from ngsp.adapter.declared import ANSWER_ROOT, CALL_ROOT
from ngsp.adapter.declared_sources import EVENT_ROOT, ROWS, SOURCE_ANSWER_ROOT, SOURCE_CALL_ROOT, EventShape
from ngsp.adapter.manifest import Manifest, ServiceManifest, SourceManifest
from ngsp.adapter.process import find_adapter
from ngsp.adapter.sources import FAILING, REFUSED
from ngsp.mapping.functions import OURS
from tests.adapters.door import door_to
from tests.backends.declaring import LOCAL, load, manifest
from tests.backends.scripted import Scripted, always, json_answer, scripted
from tests.docs.pages import PROJECT, blocks, code, named_files

GUIDE = PROJECT / "docs" / "adapters.md"
SECTIONS = GUIDE.read_text("utf-8").partition("## Declared adapters")[2].partition("## Manifest")[0]


def files(folder: Path, *names: str) -> Path:
    """The guide's files below `adapters/`, in a folder of the test's own."""
    for name in names:
        path = folder / Path(name).relative_to("adapters")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(named_files(GUIDE)[name], "utf-8")
    return folder


@pytest.fixture
def imported() -> Iterator[None]:
    """What a test imports from its folder goes with it."""
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("g12_balance", "h14_hours", "h41_parcels"):
            del sys.modules[name]


@pytest.fixture
async def server() -> Iterator[Scripted]:  # type: ignore[misc]
    async with scripted() as found:
        yield found


def registry(asked_path: str) -> bytes:
    if asked_path == "/token":
        return json_answer({"access_token": "t", "token_type": "Bearer", "expires_in": 3600})
    code = asked_path.rpartition("/")[2]
    if code == "0":
        return json_answer({"message": "not found"}, "404 Not Found")
    if code == "1":
        return json_answer({"MA_LOI": 7})
    return json_answer({"TEN_DN": f"Công ty {code}", "TRANG_THAI": "1", "NGAY_DK": "01/07/2025"})


async def test_the_declared_adapter_of_the_guide(server: Scripted, tmp_path: Path) -> None:
    async def answer(asked, writer):  # type: ignore[no-untyped-def]
        writer.write(registry(asked.path))

    server.answer = answer
    (tmp_path / "secret").write_text("s")
    folder = files(tmp_path, "adapters/g12_registry/manifest.yaml")
    adapter = find_adapter(str(folder / "g12_registry"))
    environment = LOCAL | {"NGSP_G12_URL": server.url, "NGSP_G12_SECRET_FILE": str(tmp_path / "secret")}
    async with door_to(adapter, tmp_path, environment.get) as door:
        found = await door.answer({"maSo": "9000000001"}, officer="canbo-1")
        assert found == {"ten": "Công ty 9000000001", "tinhTrang": "dang-hoat-dong", "ngayDangKy": "2025-07-01"}
        assert (await door.ask({"maSo": "0"})).code == "KHONG-CO-DOANH-NGHIEP"
        refused = await door.ask({"maSo": "1"})
        assert (refused.status, refused.code) == ("refused", "LOI-7")
    assert server.asked[1].target == "/api/1.0/doanhNghiep/9000000001?nguoiTra=canbo-1"


def test_the_mistakes_of_the_guide_are_told_as_it_shows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")
    text = named_files(GUIDE)["adapters/g12_registry/manifest.yaml"]
    path = tmp_path / "manifest.yaml"
    for right, wrong in (("{env: NGSP_G12_URL}", "http://10.1.2.3"), ("nguoiTra: officer", "nguoiTra: offcer")):
        assert right in text
        text = text.replace(right, wrong)
    path.write_text(text, "utf-8")
    with pytest.raises(ManifestError) as found:
        Adapter.load(path)
    told = str(found.value).replace(str(path), "adapters/g12_registry/manifest.yaml")
    assert f"```text\n{told}\n```" in GUIDE.read_text("utf-8")


@pytest.mark.usefixtures("imported")
async def test_a_reply_by_a_function(server: Scripted, tmp_path: Path) -> None:
    folder = files(tmp_path, "adapters/g12_balance/manifest.yaml", "adapters/g12_balance/adapter.py")
    adapter = find_adapter(str(folder / "g12_balance"))
    dong, dollar = {"LOAI_TIEN": "VND", "SO_DU": 5}, {"LOAI_TIEN": "USD", "SO_DU": 1}
    async with door_to(adapter, tmp_path, (LOCAL | {"NGSP_G12_URL": server.url}).get) as door:
        server.answer = always(json_answer({"TAI_KHOAN": [dong, dong]}))
        assert await door.answer({"maSo": "1"}) == {"soDu": 10}
        server.answer = always(json_answer({"TAI_KHOAN": [dong, dollar]}))
        refused = await door.ask({"maSo": "1"})
        assert (refused.status, refused.code) == ("refused", "NHIEU-LOAI-TIEN")


@pytest.mark.usefixtures("imported")
async def test_an_adapter_without_a_manifest(tmp_path: Path) -> None:
    folder = files(tmp_path, "adapters/h14_hours/adapter.py")
    sys.path.insert(0, str(folder))
    adapter = importlib.import_module("h14_hours.adapter").adapter
    async with door_to(adapter, tmp_path) as door:
        assert await door.answer({"commune": "01273"}) == {"hours": "7:30–11:30"}
        assert (await door.ask({"commune": "1"})).code == "KHONG-CO-XA"


def test_every_piece_of_yaml_is_read(tmp_path: Path) -> None:
    """Pieces that are no whole manifest are a back end; each is put into one."""
    pieces = [block.text for block in blocks(GUIDE, "yaml") if not block.text.startswith("# adapters/")]
    assert pieces
    for piece in pieces:
        written = yaml.safe_load(piece)
        assert list(written) == ["backend"], piece
        shutil.copy(PROJECT / "ngsp" / "adapter" / "starters" / "soap" / "ho-so.wsdl", tmp_path)
        calls = {
            "rest": "call: {path: /a}",
            "file": 'call: {take: "a/{payload.commune}.json"}',
            "soap": "call: {operation: TraCuuHoSo, arguments: {MaYeuCau: id, MaHoSo: id}}",
            "sql": "call: {sql: SELECT 1 AS a}",
        }
        kind = written["backend"]["kind"]
        if kind in calls:
            before, backend, after = re.split(r"(backend:\n(?:  .*\n)+)", manifest("kind: rest", calls[kind]))
            assert backend
            load(tmp_path, before + piece + after)


@pytest.mark.parametrize(
    ("model", "prefix"),
    [
        (Manifest, ""),
        (BackendConfig, ""),
        (RetrySettings, "retry."),
        (BreakerSettings, "breaker."),
        (RestConfig, "backend."),
        (RestCall, "call."),
        (TlsConfig, ""),
        (ProbeConfig, ""),
        (OAuth2Auth, ""),
        (BasicAuth, ""),
        (BearerAuth, ""),
        (HeaderAuth, ""),
        (LgspAuth, ""),
        (SoapConfig, "backend."),
        (SoapCall, "call."),
        (FileConfig, "backend."),
        (FileCall, "call."),
        (SftpSettings, ""),
        (TokenSecurity, ""),
        (HeaderSecurity, ""),
        (SqlConfig, "backend."),
        (SqlCall, "call."),
    ],
)
def test_every_key_stands_in_the_guide(model: type[BaseModel], prefix: str) -> None:
    known = code(GUIDE)
    inherited = set(BackendConfig.model_fields) if model in (RestConfig, SoapConfig, SqlConfig, FileConfig) else set()
    for name, field in model.model_fields.items():
        if name not in inherited:
            key = field.alias or name
            assert re.search(rf"(^|[^\w]){re.escape(prefix)}{re.escape(key)}\b", known, re.MULTILINE), prefix + key


def test_every_key_of_a_service_stands_in_the_guide() -> None:
    known = code(GUIDE)
    for name in (*ServiceManifest.model_fields, "schemas"):
        assert f".{name}" in known, name


def test_every_key_of_a_source_stands_in_the_guide() -> None:
    known = code(GUIDE)
    for name in SourceManifest.model_fields:
        assert f".source.{name}" in known, name
    text = GUIDE.read_text("utf-8").partition("### Sources")[2].partition("\n## ")[0]
    for name in (*EventShape.model_fields, *SOURCE_CALL_ROOT, *SOURCE_ANSWER_ROOT, *EVENT_ROOT, ROWS, FAILING, REFUSED):
        assert f"`{name}`" in text, name


@pytest.mark.usefixtures("imported")
async def test_the_sources_of_the_guide(server: Scripted, tmp_path: Path) -> None:
    folder = files(tmp_path, "adapters/h41_parcels/manifest.yaml")
    adapter = find_adapter(str(folder / "h41_parcels"))
    changed = {"so": 7, "maThua": "17a", "luc": "01/07/2025 08:00:00"}
    server.answer = always(json_answer({"danhSach": [changed], "cuoi": 7, "conNua": False}))
    async with adapter.open_resources((LOCAL | {"NGSP_H41_LAND_URL": server.url}).get):
        declared = await adapter.sources["H41/parcel-events/v1"].over(None)("6")
    assert (declared.events[0].id, declared.events[0].data, declared.cursor) == ("7", {"parcel": "17a"}, "7")
    assert server.asked[0].target == "/thayDoi?sau=6&toiDa=100"

    manifest = folder / "h41_parcels" / "manifest.yaml"
    manifest.write_text(re.sub(r"    source:.*|backend:.*?(?=services:)", "", manifest.read_text("utf-8"), flags=re.S))
    files(tmp_path, "adapters/h41_parcels/adapter.py")
    adapter = find_adapter(str(folder / "h41_parcels"))
    async with adapter.open_resources() as resources:
        found = await adapter.sources["H41/parcel-events/v1"].over(resources)("1")
    assert [event.data["parcel"] for event in found.events] == ["17b", "21"]
    assert (found.cursor, found.more) == ("3", False)


def test_functions_kinds_outcomes_and_names_stand_in_the_guide() -> None:
    for name in OURS:
        assert f"`{name}(" in SECTIONS, name
    for name in (*KINDS, *CALL_ROOT, *ANSWER_ROOT):
        assert f"`{name}`" in SECTIONS, name
    for name in ("ok", "not-found", "refused", "failed", "retry", "unknown"):
        assert f"`{name}`" in SECTIONS, name


def test_the_defaults_of_the_guide_are_the_program_s() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| ([0-9.]+) \|", SECTIONS, re.MULTILINE))
    assert rows == {
        name: f"{BackendConfig.model_fields[name].default:g}"
        if name != "max_answer_bytes"
        else str(BackendConfig.model_fields[name].default)
        for name in ("timeout_s", "connect_timeout_s", "connections", "max_answer_bytes")
    }
    assert "| `retry.attempts`, `retry.wait_s` | 2, 0.1 |" in SECTIONS
    assert (RetrySettings().attempts, RetrySettings().wait_s) == (2, 0.1)
    assert "| `breaker.failures`, `breaker.open_s` | 5, 5 |" in SECTIONS
    assert (BreakerSettings().failures, BreakerSettings().open_s) == (5, 5.0)
