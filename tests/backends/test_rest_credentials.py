"""How a REST back end shows who it is; and that no secret gets anywhere else."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import orjson
import pytest

from ngsp.adapter import ManifestError
from tests.adapters.door import door_to
from tests.backends.certificates import Certificates
from tests.backends.declaring import LOCAL, load, manifest, served
from tests.backends.scripted import Asked, Scripted, always, json_answer, raw, scripted

CALL = "call: {path: /a, query: {n: payload.n}}"
OAUTH = "{kind: oauth2, token_path: /token, client_id: g12-adapter, client_secret: {env: SECRET}}"
SECRET = "planted & secret"


def backend(auth: str, more: str = "") -> str:
    return f"kind: rest\nurl: {{env: URL}}\nretry: {{attempts: 1}}\nauth: {auth}\n{more}"


async def sent(server: Scripted, folder: Path, auth: str, **environment: str) -> dict[str, str]:
    """The headers that the server saw."""
    async with served(folder, manifest(backend(auth), CALL), URL=server.url, **environment) as door:
        await door.answer({})
    return server.asked[-1].headers


async def test_basic(server: Scripted, tmp_path: Path) -> None:
    auth = "{kind: basic, username: 'sở', password: {env: SECRET}}"
    found = await sent(server, tmp_path, auth, SECRET=SECRET)
    assert base64.b64decode(found["authorization"].removeprefix("Basic ")).decode() == f"sở:{SECRET}"


async def test_bearer_from_a_file(server: Scripted, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc.def\n")
    found = await sent(server, tmp_path, "{kind: bearer, token: {file: token}}")
    assert found["authorization"] == "Bearer abc.def"


async def test_a_header_from_a_file_that_a_variable_names(server: Scripted, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k-1")
    auth = "{kind: header, name: X-Api-Key, value: {file_env: KEY_FILE}}"
    assert (await sent(server, tmp_path, auth, KEY_FILE=str(tmp_path / "key")))["x-api-key"] == "k-1"


async def test_the_header_of_provincial_platforms(server: Scripted, tmp_path: Path) -> None:
    auth = (
        "{kind: lgspaccesstoken, access_key: {env: ACCESS}, secret_key: {env: SECRET}, app_name: mot-cua,"
        " partner_code: H41, partner_code_cus: {env: CUS}}"
    )
    found = await sent(server, tmp_path, auth, ACCESS="a-1", SECRET=SECRET, CUS="H41.2")
    assert orjson.loads(base64.b64decode(found["lgspaccesstoken"])) == {
        "AccessKey": "a-1",
        "SecretKey": SECRET,
        "AppName": "mot-cua",
        "PartnerCode": "H41",
        "PartnerCodeCus": "H41.2",
    }


class TokenServer:
    """Gives out tokens and takes only the newest. `life_s`: what it says of them."""

    def __init__(self, server: Scripted) -> None:
        self.fetched: list[Asked] = []
        self.life_s: Any = 3600
        self.taken = True
        self.answer: bytes | None = None
        self.held = asyncio.Event()
        self.held.set()
        server.answer = self._answer

    async def _answer(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.path == "/token":
            self.fetched.append(asked)
            await self.held.wait()
            token = {"access_token": f"t{len(self.fetched)}", "token_type": "Bearer", "expires_in": self.life_s}
            writer.write(self.answer or json_answer(token))
            return
        good = asked.headers["authorization"] == f"Bearer t{len(self.fetched)}" and self.taken
        writer.write(json_answer({"n": asked.query}) if good else raw("401 Unauthorized"))


async def test_client_credentials_are_fetched_once_for_all(server: Scripted, tmp_path: Path) -> None:
    tokens = TokenServer(server)
    tokens.held.clear()
    async with served(tmp_path, manifest(backend(OAUTH), CALL), URL=server.url, SECRET=SECRET) as door:
        calls = [asyncio.create_task(door.answer({"n": number})) for number in range(20)]
        async with asyncio.timeout(10):
            while not tokens.fetched:
                await asyncio.sleep(0.01)
        tokens.held.set()
        await asyncio.gather(*calls)
    (fetch,) = tokens.fetched
    assert (fetch.method, fetch.body) == ("POST", b"grant_type=client_credentials")
    assert fetch.headers["content-type"] == "application/x-www-form-urlencoded"
    shown = base64.b64decode(fetch.headers["authorization"].removeprefix("Basic ")).decode()
    assert shown == "g12-adapter:planted%20%26%20secret"


async def test_client_credentials_in_the_form_with_a_scope(server: Scripted, tmp_path: Path) -> None:
    tokens = TokenServer(server)
    auth = OAUTH.replace("{env: SECRET}", "{env: SECRET}, credentials: form, scope: 'a b'")
    async with served(tmp_path, manifest(backend(auth), CALL), URL=server.url, SECRET=SECRET) as door:
        await door.answer({})
    assert tokens.fetched[0].body == (
        b"grant_type=client_credentials&scope=a+b&client_id=g12-adapter&client_secret=planted+%26+secret"
    )
    assert "authorization" not in tokens.fetched[0].headers


async def test_a_token_server_elsewhere(server: Scripted, tmp_path: Path) -> None:
    async with scripted() as elsewhere:
        elsewhere.answer = always(json_answer({"access_token": "other", "expires_in": 60}))
        auth = OAUTH.replace("token_path: /token", "token_url: {env: TOKEN_URL}")
        environment = {"SECRET": SECRET, "TOKEN_URL": f"{elsewhere.url}/oauth/token"}
        assert (await sent(server, tmp_path, auth, **environment))["authorization"] == "Bearer other"
        assert elsewhere.asked[0].path == "/oauth/token"


async def test_a_token_is_renewed_before_it_ends(server: Scripted, tmp_path: Path) -> None:
    tokens = TokenServer(server)
    tokens.life_s = 0.000_001
    async with served(tmp_path, manifest(backend(OAUTH), CALL), URL=server.url, SECRET=SECRET) as door:
        for _ in range(3):
            await door.answer({})
        assert len(tokens.fetched) == 3
        tokens.life_s = "3600"
        for _ in range(3):
            await door.answer({})
        assert len(tokens.fetched) == 4
    assert all(asked.path == "/token" or asked.headers["authorization"] for asked in server.asked)
    assert sum(asked.path == "/a" for asked in server.asked) == 6, "none was refused"


async def test_a_token_that_is_refused_is_renewed_once(server: Scripted, tmp_path: Path) -> None:
    tokens = TokenServer(server)
    async with served(tmp_path, manifest(backend(OAUTH), CALL), URL=server.url, SECRET=SECRET) as door:
        await door.answer({})
        tokens.fetched.append(tokens.fetched[0])  # the server forgets what it gave: t1 is not the newest any more
        await door.answer({})
        assert [asked.path for asked in server.asked] == ["/token", "/a", "/a", "/token", "/a"]
        tokens.taken = False
        refused = await door.ask({})
        assert (refused.status, refused.code) == ("retry", "backend-status-401")
        assert [asked.path for asked in server.asked][5:] == ["/a", "/token", "/a"]


@pytest.mark.parametrize(
    "answer",
    [
        json_answer({"error": "invalid_client"}, "401 Unauthorized"),
        json_answer({"token_type": "Bearer"}),
        json_answer({"access_token": "a\nb"}),
        json_answer({"access_token": 5}),
        json_answer([]),
        json_answer({"access_token": "x", "expires_in": -1}),
        raw("200 OK", b"<p>", Content_Type="text/html"),
        raw("302 Found", b"", Location="/token2"),
    ],
)
async def test_a_token_server_that_gives_none(
    server: Scripted, tmp_path: Path, answer: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = TokenServer(server)
    tokens.answer = answer
    async with served(tmp_path, manifest(backend(OAUTH), CALL), URL=server.url, SECRET=SECRET) as door:
        refused = await door.ask({})
        assert (refused.status, refused.code) == ("retry", "backend-token-refused")
        tokens.answer = None
        await door.answer({})
    assert "planted" not in "".join(capsys.readouterr())


async def test_an_adapter_that_stops_waits_for_no_token(server: Scripted, tmp_path: Path) -> None:
    """Whoever asked is gone; the fetch that others might have waited for goes too."""
    tokens = TokenServer(server)
    tokens.held.clear()
    async with served(tmp_path, manifest(backend(OAUTH), CALL), URL=server.url, SECRET=SECRET) as door:
        reply = await door.ask({}, deadline_s=0.5)
        assert (reply.status, reply.code) == ("retry", "backend-timeout")
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in others if "_fetch" in repr(task)]
    tokens.held.set()


def test_an_adapter_serves_again_on_another_loop(tmp_path: Path) -> None:
    """A module's adapter is opened anew by each run of a test or of the author's tool."""

    async def call_at_once() -> None:
        async with scripted() as server, door_to(adapter, tmp_path, (LOCAL | {"URL": server.url}).get) as door:
            await asyncio.gather(*(door.answer({}) for _ in range(10)))

    adapter = load(tmp_path, manifest("kind: rest\nurl: {env: URL}\nconnections: 1", CALL))
    for _ in range(2):
        asyncio.run(call_at_once())


async def test_a_token_server_that_is_away(server: Scripted, tmp_path: Path) -> None:
    async with scripted() as gone:
        url = gone.url
    auth = OAUTH.replace("token_path: /token", "token_url: {env: TOKEN_URL}")
    text = manifest(backend(auth), CALL)
    async with served(tmp_path, text, URL=server.url, SECRET=SECRET, TOKEN_URL=url) as door:
        reply = await door.ask({})
    assert (reply.status, reply.code, server.asked) == ("retry", "backend-down", [])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates.make(tmp_path_factory.mktemp("certificates"))
    made.issue("registry")
    made.issue("g12-adapter")
    return made


def tls(certificates: Certificates, *names: str) -> str:
    files = {"ca": "ca.pem", "certificate": "g12-adapter.pem", "key": "g12-adapter.key"}
    chosen = ", ".join(f"{name}: {{file: {certificates.folder / files[name]}}}" for name in names)
    return f"kind: rest\nurl: {{env: URL}}\nretry: {{attempts: 1}}\ntls: {{{chosen}}}\n"


async def test_mutual_tls(certificates: Certificates, tmp_path: Path) -> None:
    async with scripted(certificates.server("registry", wants_client=True)) as server:
        text = manifest(tls(certificates, "ca", "certificate", "key"), CALL)
        async with served(tmp_path, text, URL=server.url) as door:
            await door.answer({})
        assert server.asked[0].certificate == "g12-adapter"
        async with served(tmp_path, manifest(tls(certificates, "ca"), CALL), URL=server.url) as door:
            assert (await door.ask({})).status == "retry"
        assert len(server.asked) == 1


async def test_a_server_that_nobody_vouches_for(certificates: Certificates, tmp_path: Path) -> None:
    async with scripted(certificates.server("registry", wants_client=False)) as server:
        async with served(tmp_path, manifest("kind: rest\nurl: {env: URL}", CALL), URL=server.url) as door:
            reply = await door.ask({})
        assert (reply.status, reply.code, server.asked) == ("retry", "backend-down", [])


@pytest.mark.parametrize(
    ("text", "environment", "complaint"),
    [
        (backend("{kind: bearer, token: {env: SECRET}}"), {}, "SECRET is not set"),
        (backend("{kind: bearer, token: {file: none}}"), {}, "none: cannot be read (No such file or directory)"),
        (backend("{kind: bearer, token: {file_env: F}}"), {"F": "/none"}, "/none (F): cannot be read"),
        (backend("{kind: bearer, token: {env: SECRET}}"), {"SECRET": "mật"}, "no HTTP header can carry"),
        ("kind: rest\nurl: {env: NO_URL}", {}, "NO_URL is not set"),
        ("kind: rest\nurl: {env: URL}\ntls: {ca: {file: ca}}", {}, "with tls the address is https"),
        ("kind: rest\nurl: {env: S}\ntls: {ca: {file: ca}}", {"S": "https://a.vn"}, "holds no PEM certificate"),
    ],
)
async def test_what_is_missing_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, environment: dict[str, str], complaint: str
) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")
    (tmp_path / "ca").write_text("no certificate")
    adapter = load(tmp_path, manifest(text, CALL))
    with pytest.raises(ManifestError) as found:
        async with adapter.open_resources((LOCAL | {"URL": "http://127.0.0.1:1"} | environment).get):
            pass
    assert complaint in str(found.value)


@pytest.mark.parametrize(
    "url",
    [
        "registry:8080",
        "ftp://registry.gov.vn",
        "http://",
        "http://u:p@registry.gov.vn",
        "http://registry.gov.vn/?a=1",
        "http://registry.gov.vn:99999",
        "http://registry.gov.vn/a b",
        "http://sở.gov.vn",
    ],
)
async def test_an_address_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")
    adapter = load(tmp_path, manifest("kind: rest\nurl: {env: URL}", CALL))
    with pytest.raises(ManifestError, match=r"backend\.url"):
        async with adapter.open_resources({"URL": url}.get):
            pass
