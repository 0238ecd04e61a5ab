"""Every mistake in a declarative manifest is refused with its line and what to do, in the reader's language."""

from __future__ import annotations

from pathlib import Path

import pytest

from ngsp.adapter import Adapter, ManifestError
from tests.backends.declaring import manifest

GOOD_BACKEND = "kind: rest\nurl: {env: URL}\n"
GOOD = 'call: {path: "/a/{payload.x}"}\nreply: {a: body.A}\n'


def complaints(folder: Path, text: str) -> list[tuple[str, str]]:
    """Of each mistake, the line of the manifest that it names and what it says."""
    path = folder / "manifest.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ManifestError) as found:
        Adapter.load(path)
    lines = text.splitlines()
    told = []
    for message in str(found.value).splitlines():
        place, number, rest = message.removeprefix(str(folder)).split(":", 2)
        assert place == "/manifest.yaml"
        told.append((lines[int(number) - 1].strip(), rest.strip()))
    return told


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")


BACKENDS = [
    # what stands in the line, the pointer, and what is said of it
    ("kind: ftp\nurl: {env: URL}", "kind: ftp", "/backend/kind", "Must be one of: rest, soap, sql, file."),
    ("url: {env: URL}", "backend:", "/backend/kind", "Must be one of: rest, soap, sql, file."),
    ("kind: rest", "backend:", "/backend/url", "A required field is missing."),
    (
        "kind: rest\nurl: http://10.0.0.1",
        "url: http://10.0.0.1",
        "/backend/url",
        "No value in a manifest: write {env: NAME}",
    ),
    (
        "kind: rest\nurl: {var: URL}",
        "url: {var: URL}",
        "/backend/url/var",
        "There is no key 'var': use env, file, file_env.",
    ),
    ("kind: rest\nurl: {}", "url: {}", "/backend/url", "Give exactly one: env, file or file_env."),
    ("kind: rest\nurl: {env: a-b}", "url: {env: a-b}", "/backend/url/env", "Must be of the form"),
    (GOOD_BACKEND + "timeout: 3", "timeout: 3", "/backend/timeout", "There is no key 'timeout': use timeout_s."),
    (GOOD_BACKEND + "timeout_s: 0", "timeout_s: 0", "/backend/timeout_s", "Must be greater than 0"),
    (GOOD_BACKEND + "timeout_s: soon", "timeout_s: soon", "/backend/timeout_s", "Must be a number."),
    (GOOD_BACKEND + "retry:\n  attempts: 9", "attempts: 9", "/backend/retry/attempts", "Must be at most 5."),
    (
        GOOD_BACKEND + "breaker:\n  fails: 9",
        "fails: 9",
        "/backend/breaker/fails",
        "There is no key 'fails': use failures.",
    ),
    (GOOD_BACKEND + "auth:\n  kind: digest", "auth:", "/backend/auth", "Must be one of: 'basic', 'bearer'"),
    (
        GOOD_BACKEND + "auth: {token: {env: T}}",
        "auth: {token: {env: T}}",
        "/backend/auth",
        "The key 'kind' is missing.",
    ),
    (
        GOOD_BACKEND + "auth:\n  kind: basic\n  username: a\n  password: secret",
        "password: secret",
        "/backend/auth/password",
        "No value in a manifest: write {env: NAME}, {file: PATH} or {file_env: NAME}.",
    ),
    (
        GOOD_BACKEND + "auth:\n  kind: oauth2\n  client_id: a\n  client_secret: {env: S}",
        "auth:",
        "/backend/auth",
        "Give exactly one: token_path or token_url.",
    ),
    (
        GOOD_BACKEND + "auth:\n  - kind: bearer\n    tokn: {env: T}",
        "tokn: {env: T}",
        "/backend/auth/0/tokn",
        "There is no key 'tokn': use token.",
    ),
    (GOOD_BACKEND + "probe: {path: health}", "probe: {path: health}", "/backend/probe/path", "Must be of the form ^/"),
]


@pytest.mark.parametrize(("backend", "line", "place", "told"), BACKENDS)
def test_a_back_end_that_is_wrong(tmp_path: Path, backend: str, line: str, place: str, told: str) -> None:
    (found,) = complaints(tmp_path, manifest(backend, GOOD))
    assert found[0] == line
    assert found[1].startswith(f"{place}: {told}"), found[1]
    assert "secret" not in found[1]


CALLS = [
    ("call:\n  path: a", "path: a", "/call/path", "A path begins with / and is plain ASCII."),
    ("call:\n  path: /đất", "path: /đất", "/call/path", "A path begins with / and is plain ASCII."),
    ('call:\n  path: "/a?b={payload.x}"', 'path: "/a?b={payload.x}"', "/call/path", "Parameters stand in query"),
    ('call:\n  path: "/a/{payload.x"', 'path: "/a/{payload.x"', "/call/path", "The braces do not match"),
    ('call:\n  path: "/a/payload.x}"', 'path: "/a/payload.x}"', "/call/path", "The braces do not match"),
    ('call:\n  path: "/a/{}"', 'path: "/a/{}"', "/call/path", "Must be JMESPath, and not empty."),
    ('call:\n  path: "/a/{pay load}"', 'path: "/a/{pay load}"', "/call/path", "Not JMESPath at character 5, 'load'"),
    ("call: {}", "call: {}", "/call/path", "A required field is missing."),
    ("call:\n  path: /a\n  verb: GET", "verb: GET", "/call/verb", "There is no key 'verb': use method, path, query"),
    ("call:\n  path: /a\n  method: get", "method: get", "/call/method", "Must be one of: 'GET'"),
    ("call:\n  path: /a\n  json: payload", "call:", "/call", "GET has no body: use query, or method: POST."),
    ("call:\n  path: /a\n  method: PUT\n  json: id\n  form: {a: id}", "call:", "/call", "Give json or form, not both."),
    (
        "call:\n  path: /a\n  query:\n    a: body.x",
        "a: body.x",
        "/call/query/a",
        "There is no 'body' here: use payload, id",
    ),
    ("call:\n  path: /a\n  query:\n    a: 5", "a: 5", "/call/query/a", "Must be a JMESPath expression."),
    ("call:\n  path: /a\n  headers:\n    Host: id", "headers:", "/call/headers", "The header 'Host' has no place here"),
    (
        "call: {path: /a}\nreply:\n  a:\n    b: body.[",
        "b: body.[",
        "/reply/a/b",
        "Not JMESPath at character 7, '': mend the syntax.",
    ),
    ("call: {path: /a}\nreply: ''", "reply: ''", "/reply", "Must be JMESPath, and not empty."),
    (
        "call: {path: /a}\nreply: upcase(body)",
        "reply: upcase(body)",
        "/reply",
        "There is no function 'upcase': use abs,",
    ),
    ("call: {path: /a}\nreply: 'abs(body, id)'", "reply: 'abs(body, id)'", "/reply", "abs takes 1 arguments, not 2"),
    ("call: {path: /a}\nreply: 'lookup(`1`)'", "reply: 'lookup(`1`)'", "/reply", "lookup takes 2–3 arguments, not 1"),
    (
        "call: {path: /a}\nreply: lookup('none', body.x)",
        "reply: lookup('none', body.x)",
        "/reply",
        "There is no table 'none' in tables: forms.",
    ),
    (
        "call: {path: /a}\nreply: lookup(body.t, body.x)",
        "reply: lookup(body.t, body.x)",
        "/reply",
        "Argument 1 of lookup must be a text in single quotes",
    ),
    (
        "call: {path: /a}\nreply: iso_date(body.x, 'dd/mm/yyyy')",
        "reply: iso_date(body.x, 'dd/mm/yyyy')",
        "/reply",
        "The pattern 'dd/mm/yyyy' is none",
    ),
    (
        "call: {path: /a}\nreply: payload.x && purpose",
        "reply: payload.x && purpose",
        "/reply",
        "There is no 'purpose' here",
    ),
    ("call: {path: /a}\nreply: 'body[::0]'", "reply: 'body[::0]'", "/reply", "A slice's step must not be 0."),
    (
        "call: {path: /a}\noutcomes:\n  - {when: body.x, outcome: missing}",
        "- {when: body.x, outcome: missing}",
        "/outcomes/0/outcome",
        "Must be one of: 'ok', 'not-found'",
    ),
    (
        "call: {path: /a}\noutcomes:\n  - {if: body.x, outcome: ok}",
        "- {if: body.x, outcome: ok}",
        "/outcomes/0/if",
        "There is no key 'if'",
    ),
    (
        "call: {path: /a}\noutcomes:\n  - {when: body.x, outcome: failed, code: '{'}",
        "- {when: body.x, outcome: failed, code: '{'}",
        "/outcomes/0/code",
        "The braces do not match",
    ),
]


@pytest.mark.parametrize(("service", "line", "place", "told"), CALLS)
def test_a_call_that_is_wrong(tmp_path: Path, service: str, line: str, place: str, told: str) -> None:
    (found,) = complaints(tmp_path, manifest(GOOD_BACKEND, service))
    assert found[0] == line
    assert found[1].startswith(f"/services/0{place}: {told}"), found[1]


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    service = "call: {path: a, query: {x: bdy.x}}\nreply: '['\noutcomes:\n  - {when: '!', outcome: ok}"
    found = complaints(tmp_path, manifest(GOOD_BACKEND, service))
    assert [told.split(":")[0] for _, told in found] == [
        "/services/0/call/path",
        "/services/0/call/query/x",
        "/services/0/reply",
        "/services/0/outcomes/0/when",
    ]


def test_a_submission_whose_id_is_not_passed_on(tmp_path: Path) -> None:
    call = 'call:\n  method: POST\n  path: "/a/{payload.id}"\n  json: payload'
    ((line, told),) = complaints(tmp_path, manifest(GOOD_BACKEND, call, "submission"))
    assert line == "call:"
    assert "must pass the transaction's id: use id, such as headers: {Idempotency-Key: id}" in told


def test_a_back_end_that_cannot_keep_the_effect(tmp_path: Path) -> None:
    ((line, told),) = complaints(tmp_path, manifest(GOOD_BACKEND, GOOD, "submission", "transactional"))
    assert line == "effect: transactional"
    assert told == "/services/0/effect: Must be: idempotent, uncertain."


def test_a_call_without_a_back_end(tmp_path: Path) -> None:
    text = manifest(GOOD_BACKEND, GOOD).replace("backend:\n  kind: rest\n  url: {env: URL}\n", "")
    ((line, told),) = complaints(tmp_path, text)
    assert line == 'call: {path: "/a/{payload.x}"}'
    assert told == "/services/0/call: There is no back end to call: add backend."


def test_a_service_without_a_call_needs_a_function(tmp_path: Path) -> None:
    """It may be written in Python beside the declared ones; what has neither is told at the start."""
    path = tmp_path / "manifest.yaml"
    path.write_text(manifest(GOOD_BACKEND, "officer_required: false"), "utf-8")
    with pytest.raises(ManifestError, match="no function serves G12/test/v1"):
        Adapter.load(path).function("G12/test/v1")


def test_a_reply_without_a_call(tmp_path: Path) -> None:
    ((line, told),) = complaints(tmp_path, manifest(GOOD_BACKEND, "reply: body"))
    assert line == "reply: body"
    assert told == "/services/0/reply: Without call there is no answer: add call, or leave it out."


@pytest.mark.parametrize(
    ("schemas", "told"),
    [
        ("schemas: none", "none/request.json: The file cannot be read (No such file or directory)."),
        ("schemas: [a]", "the path of a folder, and neither request_schema nor reply_schema beside it."),
        (
            "schemas: a\nreply_schema: {}",
            "the path of a folder, and neither request_schema nor reply_schema beside it.",
        ),
        ("request_schema: none.json\nreply_schema: {}", "none.json: The file cannot be read"),
    ],
)
def test_schemas_that_are_missing(tmp_path: Path, schemas: str, told: str) -> None:
    text = manifest(GOOD_BACKEND, schemas + "\n" + GOOD)
    text = text.replace("    request_schema: {type: object}\n    reply_schema: {}\n", "")
    ((line, found),) = complaints(tmp_path, text)
    assert line == schemas.splitlines()[0]
    assert found.endswith(told) or told in found


def test_a_schema_that_is_none(tmp_path: Path) -> None:
    text = manifest(GOOD_BACKEND, GOOD).replace("{type: object}", "{type: objekt}")
    ((line, told),) = complaints(tmp_path, text)
    assert line == "request_schema: {type: objekt}"
    assert "Not a valid JSON Schema" in told


def test_vietnamese_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "vi")
    told = [
        complaints(tmp_path, manifest(backend, service))[0][1]
        for backend, service in [
            (GOOD_BACKEND + "timeout: 3", GOOD),
            ("kind: rest\nurl: http://10.0.0.1", GOOD),
            (GOOD_BACKEND, "call: {path: /a}\nreply: lookup('none', body.x)"),
            (GOOD_BACKEND, "call: {path: /a}\nreply: 'body['"),
        ]
    ]
    assert told == [
        "/backend/timeout: Không có khóa «timeout»: dùng timeout_s.",
        "/backend/url: Không ghi giá trị vào bản khai: hãy viết {env: TÊN}, {file: ĐƯỜNG_DẪN} hoặc {file_env: TÊN}.",
        "/services/0/reply: Không có bảng «none» trong tables: có forms.",
        "/services/0/reply: Biểu thức JMESPath sai ở ký tự 6, «»: hãy sửa cú pháp.",
    ]
