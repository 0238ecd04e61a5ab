"""Every error: its texts, its response, its page, and that nothing of the input or of a defect comes back."""

from __future__ import annotations

import json
import re
import shutil
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from structlog.testing import capture_logs

from ngsp.api import errors_page, problems
from ngsp.api.problems import AnswerCutShort, render
from ngsp.docs.__main__ import ROOT, main, pages
from ngsp.docs.settings import BEGIN, END, settings_table, with_settings
from ngsp.errors import (
    ERRORS,
    Fault,
    InMaintenance,
    Internal,
    LimitReached,
    NgspError,
    ProviderUnavailable,
    Unavailable,
    VersionConflict,
)
from ngsp.text import LANGUAGES, Language, Text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CODES = sorted(ERRORS)
PERSONAL = "900123456789"


# --- the catalogue --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
def test_both_languages_are_there_and_differ(code: str) -> None:
    text = ERRORS[code].text()
    for part in (text.title, text.cause, text.remedy):
        assert part.vi.strip()
        assert part.en.strip()
        assert part.vi != part.en
        assert re.search(r"[À-ỹ]", part.vi), "Vietnamese is written with its marks"
        assert not re.search(r"[ạ-ỹ]", part.en), "and English has none"
        assert "{" not in part.vi + part.en, "no place is left unfilled"


@pytest.mark.parametrize("code", CODES)
def test_code_and_status_are_of_their_form(code: str) -> None:
    error = ERRORS[code]
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
    assert 400 <= HTTPStatus(error.status).value < 600
    assert error.__mro__[1] is not Exception, "a leaf belongs to a family"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", CODES)
def test_a_problem_has_all_members_and_keeps_the_reason_to_itself(code: str, language: Language) -> None:
    error = ERRORS[code](reason=f"reason with {PERSONAL}")
    document = error.problem(language, "/v1/transactions/x")
    assert set(document) == {"type", "title", "status", "detail", "code", "remedy", "instance"}
    assert document["type"] == f"/errors/{code}"
    assert PERSONAL not in json.dumps(document)


def test_faults_and_members_are_shown() -> None:
    error = VersionConflict(Text("chi tiết", "detail"), faults=(Fault("/a", Text("sai", "wrong")),), members={"n": 1})
    document = error.problem("en")
    assert (document["detail"], document["errors"], document["n"]) == (
        "detail",
        [{"pointer": "/a", "detail": "wrong"}],
        1,
    )


# --- the response ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", CODES)
def test_rendering(code: str, language: Language) -> None:
    error = ERRORS[code]()
    status, headers, body = render(error, language, headers=[(b"ngsp-transaction", b"t")])
    found = dict(headers)
    assert len(found) == len(headers), "no header twice"
    assert status == error.status == json.loads(body)["status"]
    assert found[b"content-type"] == b"application/problem+json"
    assert found[b"content-length"] == str(len(body)).encode()
    assert found[b"content-language"] == language.encode()
    assert found[b"cache-control"] == b"no-store"
    assert found[b"ngsp-transaction"] == b"t"
    waits = isinstance(error, (InMaintenance, LimitReached, Unavailable, ProviderUnavailable))
    assert (b"retry-after" in found) == waits
    assert (status in (429, 503)) <= waits
    assert (b"www-authenticate" in found) == (code in ("unauthenticated", "scope-missing"))
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", json.loads(body)["instance"])


@pytest.mark.parametrize(
    ("wish_s", "told"),
    [(None, b"1"), (0, b"1"), (-5, b"1"), (0.2, b"1"), (1.0, b"1"), (1.01, b"2"), (59.5, b"60"), (float("inf"), b"1")],
)
def test_retry_after_is_a_whole_number_of_at_least_one(wish_s: float | None, told: bytes) -> None:
    _, headers, _ = render(ERRORS["quota-exhausted"](retry_after_s=wish_s), "vi")
    assert dict(headers)[b"retry-after"] == told


# --- wired into an application --------------------------------------------------------------------------------------


class Lost(Exception):
    """A foreign exception that has a meaning."""


def application() -> FastAPI:
    app = FastAPI()
    problems.install(app, translate=lambda error: ERRORS["registry-stale"]() if isinstance(error, Lost) else None)
    app.include_router(errors_page.router)

    @app.get("/raise/{name}")
    async def fail(name: str) -> None:
        raise {
            "defect": ValueError(f"row ({PERSONAL}) already exists"),
            "chained": Internal(reason="why"),
            "lost": Lost(PERSONAL),
            "refusal": ERRORS["state-conflict"](reason="the reason"),
            "teapot": HTTPException(418, PERSONAL),
            "broken": HTTPException(500, PERSONAL),
            "gone": ClientDisconnect(),
        }[name]

    @app.get("/cut-short")
    async def cut_short() -> StreamingResponse:
        async def some() -> AsyncIterator[bytes]:
            yield b"first"
            raise ValueError(PERSONAL)

        return StreamingResponse(some())

    @app.put("/several")
    async def put_several() -> None: ...

    @app.get("/several")
    async def get_several(limit: int = 5) -> None: ...

    return app


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application()), base_url="http://t") as client:
        yield client


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/raise/defect", 500, "internal"),
        ("/raise/chained", 500, "internal"),
        ("/raise/lost", 503, "registry-stale"),
        ("/raise/refusal", 409, "state-conflict"),
        ("/raise/teapot", 400, "malformed-http"),
        ("/raise/broken", 500, "internal"),
        ("/several?limit=x", 400, "malformed-parameter"),
        (f"/nowhere/{PERSONAL}", 404, "not-found"),
    ],
)
async def test_everything_leaves_as_a_problem(http: httpx.AsyncClient, path: str, status: int, code: str) -> None:
    with capture_logs() as logged:
        answer = await http.get(path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert PERSONAL not in answer.text
    assert PERSONAL not in repr(logged)
    (line,) = logged
    assert line["instance"] == answer.json()["instance"], "what the caller reports can be found in the log"
    assert line["log_level"] == ("error" if status == 500 else "warning" if status == 503 else "info")
    if status == 500:
        assert line["event"] == "request.defect"
        assert line["causes"][0]["frames"]


async def test_a_wrong_method_is_told_all_right_ones(http: httpx.AsyncClient) -> None:
    answer = await http.delete("/several")
    assert (answer.status_code, answer.json()["code"]) == (405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, PUT"


async def test_the_language_is_the_callers(http: httpx.AsyncClient) -> None:
    for asked, given in ((None, "vi"), ("en", "en"), ("en-GB,en;q=0.9", "en"), ("fr", "vi"), ("vi,en;q=0.5", "vi")):
        answer = await http.get("/nowhere", headers={"Accept-Language": asked} if asked else {})
        assert answer.headers["content-language"] == given
        assert answer.json()["title"] == ERRORS["not-found"].text().title.in_(given)  # type: ignore[arg-type]


async def test_an_answer_that_fails_midway_is_cut_and_not_completed(http: httpx.AsyncClient) -> None:
    with capture_logs() as logged, pytest.raises(AnswerCutShort) as caught:
        await http.get("/cut-short")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__, "the server that prints it prints nothing of the cause"
    assert PERSONAL not in repr(logged)


async def test_one_who_went_away_gets_nothing_and_is_no_defect() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/raise/gone", "query_string": b"", "headers": []}
    with capture_logs() as logged:
        await application()({**scope, "http_version": "1.1", "scheme": "http", "root_path": ""}, receive, send)
    assert sent == []
    assert logged == []


async def test_callers_not_known_are_counted_and_do_not_fill_the_log() -> None:
    counted: list[tuple[str, str]] = []

    class Refusals:
        def count(self, code: str, address: str) -> None:
            counted.append((code, address))

    class Settings:
        trusted_proxies = ""

    class Parts:
        settings, refusals = Settings(), Refusals()

    app = application()
    app.state.parts = Parts()
    transport = httpx.ASGITransport(app, client=("203.0.113.9", 5))
    with capture_logs() as logged:
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            for _ in range(3):
                await client.get("/nowhere")
    assert counted == [("not-found", "203.0.113.9")] * 3
    assert logged == []


# --- the pages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
async def test_every_error_has_its_page(http: httpx.AsyncClient, code: str) -> None:
    text = ERRORS[code].text()
    document = (await http.get(f"/errors/{code}")).json()
    assert document["code"] == code
    assert document["title"] == {"vi": text.title.vi, "en": text.title.en}
    page = await http.get(f"/errors/{code}", headers={"Accept": "text/html,*/*;q=0.8", "Accept-Language": "en"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert '<html lang="en">' in page.text
    assert page.text.index('<section lang="en">') < page.text.index('<section lang="vi">')
    assert "<script" not in page.text
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page.text), "nothing from elsewhere"


async def test_pages_are_locked_down(http: httpx.AsyncClient) -> None:
    for path in ("/errors", "/errors/access-denied"):
        answer = await http.get(path, headers={"Accept": "text/html"})
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert len(re.findall("<h1>", answer.text)) == 1


async def test_the_index_lists_all(http: httpx.AsyncClient) -> None:
    assert sorted(item["code"] for item in (await http.get("/errors")).json()["items"]) == CODES
    page = (await http.get("/errors", headers={"Accept": "text/html"})).text
    assert all(f'href="/errors/{code}"' in page for code in CODES)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("application/problem+json", "application/json"),
        ("application/*", "application/json"),
        ("text/html", "text/html; charset=utf-8"),
        ("text/*", "text/html; charset=utf-8"),
        ("text/html;q=0.5, application/json", "application/json"),
        ("application/json;q=0.5, text/html", "text/html; charset=utf-8"),
        ("text/html;q=0, */*", "application/json"),
        ("text/html;q=nonsense, */*;q=0.1", "application/json"),
    ],
)
async def test_the_form_is_negotiated(http: httpx.AsyncClient, accept: str | None, kind: str) -> None:
    http.headers.pop("accept", None)
    answer = await http.get("/errors/internal", headers={"Accept": accept} if accept else {})
    assert answer.headers["content-type"] == kind


async def test_other_forms_and_unknown_codes_are_refused(http: httpx.AsyncClient) -> None:
    assert (await http.get("/errors/internal", headers={"Accept": "image/png"})).status_code == 406
    unknown = await http.get("/errors/%3Cscript%3E", headers={"Accept": "text/html"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not-found")
    assert "script" not in unknown.text


# --- pages of docs/ -------------------------------------------------------------------------------------------------


def test_pages_in_docs_are_current() -> None:
    assert main(["--check"]) == 0, "run python -m ngsp.docs"


def test_the_page_of_errors_holds_every_text() -> None:
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    for code, error in ERRORS.items():
        text = error.text()
        for part in (f"### {code}\n", text.title.vi, text.title.en, text.cause.vi, text.remedy.en):
            assert part in page


def test_stale_pages_are_found_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"], tmp_path) == 1
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    operations = tmp_path / "docs" / "operations.md"
    operations.write_text(operations.read_text("utf-8").replace("`NGSP_NODE`", "`NGSP_NODES`") + "kept\n", "utf-8")
    assert main(["--check"], tmp_path) == 1
    assert main([], tmp_path) == 0
    assert operations.read_text("utf-8").endswith("kept\n"), "what people wrote around the table stays"
    shutil.rmtree(tmp_path / "docs")
    assert set(pages(tmp_path)) == {tmp_path / "docs" / name for name in ("errors.md", "openapi.json", "operations.md")}
    assert "docs" in capsys.readouterr().out


def test_the_table_names_every_setting_with_its_bounds() -> None:
    table = settings_table()
    assert "| `NGSP_TOKEN_TTL_S` | `600` | ≥ 60, ≤ 3,600 | Life of an access token |" in table
    assert "| `NGSP_DATABASE_URL` | required |" in table
    assert all(row.count(" | ") == 3 for row in table.splitlines()[2:])


@pytest.mark.parametrize("page", ["", BEGIN, END + BEGIN, f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_page_without_its_markers_is_not_overwritten(page: str) -> None:
    with pytest.raises(ValueError, match="must hold"):
        with_settings(page)


def test_no_subclass_forgets_its_texts() -> None:
    with pytest.raises(TypeError, match="two errors"):
        type("Twice", (NgspError,), {"code": "internal"})
