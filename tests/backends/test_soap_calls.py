"""SOAP back ends: what goes out by the WSDL, what comes back, faults and outcomes; mistakes, before anything runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from structlog.testing import capture_logs

from adapters.soap_server.security import Account, Guard
from ngsp.adapter import Failed, ManifestError, Unavailable
from ngsp.adapter.references import Surroundings
from tests.backends.declaring import LOCAL, load, manifest, served
from tests.backends.scripted import Asked, Scripted, always, never, raw

WSDL = Path(__file__).parent / "wsdl"
SOAP_11 = "http://schemas.xmlsoap.org/soap/envelope/"
SOAP_12 = "http://www.w3.org/2003/05/soap-envelope"
TYPES = "urn:test:types"
BACKEND = "kind: soap\nwsdl: values.wsdl\nurl: {env: URL}\nretry: {attempts: 1}\n"
ECHO = "call: {operation: Echo, arguments: {needed: payload.text}, headers: {Who: {app: \"'ngsp'\"}}}"
TEXT_TYPE = "text/xml; charset=utf-8"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for file in WSDL.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path


def envelope(inside: str, soap: str = SOAP_11) -> bytes:
    return f'<s:Envelope xmlns:s="{soap}"><s:Body>{inside}</s:Body></s:Envelope>'.encode()


def values(inside: str) -> str:
    return f'<v:Values xmlns:v="{TYPES}">{inside}</v:Values>'


def answer(inside: str, status: str = "200 OK", content_type: str = TEXT_TYPE, soap: str = SOAP_11) -> bytes:
    return raw(status, envelope(inside, soap), Content_Type=content_type)


def fault(code: str, detail: str = "") -> bytes:
    inside = f"<s:Fault><faultcode>{code}</faultcode><faultstring>không</faultstring>{detail}</s:Fault>"
    return answer(inside, "500 Internal Server Error")


def body_of(asked: Asked, soap: str = SOAP_11) -> Any:
    return etree.fromstring(asked.body).find(f"{{{soap}}}Body")[0]


async def test_a_message_is_what_the_wsdl_says(server: Scripted, folder: Path) -> None:
    server.answer = always(answer(values("<v:needed>có</v:needed>")))
    async with served(folder, manifest(BACKEND, ECHO), URL=f"{server.url}/dich-vu") as door:
        assert await door.answer({"text": "ệ <&> ]]>"}) == {"needed": "có", "many": [], "two": []}
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/dich-vu")
    assert (asked.headers["content-type"], asked.headers["soapaction"]) == (TEXT_TYPE, '"urn:test:echo"')
    root = etree.fromstring(asked.body)
    assert root.findtext(f"{{{SOAP_11}}}Body/{{{TYPES}}}Values/{{{TYPES}}}needed") == "ệ <&> ]]>"
    assert root.findtext(f"{{{SOAP_11}}}Header/{{urn:test:wsdl}}Who/{{urn:test:wsdl}}app") == "ngsp"


async def test_header_blocks_of_all_operations_and_of_one(server: Scripted, folder: Path) -> None:
    server.answer = always(answer(values("<v:needed/>")))
    common = BACKEND + "headers: {Who: {app: purpose, key: id}}\n"
    bare = "call: {operation: Echo, arguments: {needed: payload.text}}"
    for service, app in ((bare, "test"), (ECHO, "ngsp")):
        async with served(folder, manifest(common, service), URL=server.url) as door:
            await door.answer({"text": "a"})
        root = etree.fromstring(server.asked[-1].body)
        assert root.findtext(".//{urn:test:wsdl}app") == app


async def test_soap_1_2(server: Scripted, folder: Path) -> None:
    kind = "application/soap+xml; charset=utf-8"
    server.answer = always(answer(values("<v:needed>12</v:needed>"), content_type=kind, soap=SOAP_12))
    backend, call = BACKEND + "port: Twelve\n", "call: {operation: Echo, arguments: {needed: payload.text}}"
    rules = "\noutcomes:\n  - {when: \"body.fault.subcodes[0] == 'Lo'\", outcome: refused, code: '{status}'}"
    async with served(folder, manifest(backend, call + rules), URL=server.url) as door:
        assert (await door.answer({"text": "a"}))["needed"] == "12"
        assert server.asked[0].headers["content-type"] == f'{kind}; action="urn:test:echo"'
        assert body_of(server.asked[0], SOAP_12).findtext(f"{{{TYPES}}}needed") == "a"
        code = "<s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>x:Lo</s:Value></s:Subcode></s:Code>"
        no = f"<s:Fault>{code}<s:Reason><s:Text>không</s:Text></s:Reason></s:Fault>"
        server.answer = always(answer(no, "400 Bad Request", kind, SOAP_12))
        reply = await door.ask({"text": "a"})
    assert (reply.status, reply.code) == ("refused", "Sender")


async def test_rpc(server: Scripted, folder: Path) -> None:
    server.answer = always(answer('<r:AddResponse xmlns:r="urn:test:sums"><sum>3</sum></r:AddResponse>'))
    call = "call: {operation: Add, arguments: {a: payload.a, b: payload.b}}\nreply: body.sum"
    async with served(folder, manifest(BACKEND + "port: Sums\n", call), URL=server.url) as door:
        assert await door.answer({"a": 1, "b": 2}) == 3
    body = body_of(server.asked[0])
    assert (body.tag, body.findtext("a"), body.findtext("b")) == ("{urn:test:sums}Add", "1", "2")


@pytest.mark.parametrize("given", [raw("202 Accepted"), raw("200 OK"), answer("")])
async def test_a_message_that_nobody_answers(server: Scripted, folder: Path, given: bytes) -> None:
    server.answer = always(given)
    call = "call: {operation: Note, arguments: {needed: id}}\nreply: {noted: '`true`'}"
    async with served(folder, manifest(BACKEND, call), URL=server.url) as door:
        assert await door.answer({}) == {"noted": True}


@pytest.mark.parametrize("digest", [True, False])
async def test_the_username_token_is_one_that_a_guard_lets_in_once(
    server: Scripted, folder: Path, digest: bool
) -> None:
    (folder / "password").write_text("mật khẩu \"&<>' 1\n", "utf-8")
    security = f"security: {{username: ngsp, password: {{file: password}}, digest: {str(digest).lower()}}}\n"
    server.answer = always(answer(values("<v:needed/>")))
    async with served(folder, manifest(BACKEND + security, ECHO), URL=server.url) as door:
        for _ in range(2):
            await door.answer({"text": "a"})
    guard = Guard(Account("ngsp", "mật khẩu \"&<>' 1", digest))
    sent = [etree.fromstring(asked.body) for asked in server.asked]
    for message in sent:
        guard.check(message)
    assert (b"1</" in server.asked[0].body) is not digest, "a digest tells no password"
    if digest:
        with pytest.raises(Exception, match="Không xác thực"):
            guard.check(sent[0])


@pytest.mark.parametrize("block", ["Who", "{urn:other}Auth"])
async def test_credentials_in_a_header_block_of_the_systems_own(server: Scripted, folder: Path, block: str) -> None:
    (folder / "key").write_text("bí mật <&>\n", "utf-8")
    security = f"security: {{block: '{block}', values: {{app: ngsp, key: {{file: key}}}}}}\n"
    server.answer = always(answer(values("<v:needed/>")))
    bare = "call: {operation: Echo, arguments: {needed: payload.text}}"
    async with served(folder, manifest(BACKEND + security, bare), URL=server.url) as door:
        await door.answer({"text": "a"})
    namespace = "urn:other" if block.startswith("{") else "urn:test:wsdl"
    (sent,) = etree.fromstring(server.asked[0].body).find(f"{{{SOAP_11}}}Header")
    assert [(each.tag, each.text) for each in sent] == [
        (f"{{{namespace}}}app", "ngsp"),
        (f"{{{namespace}}}key", "bí mật <&>"),
    ]


async def test_header_blocks_that_the_wsdl_does_not_know(server: Scripted, folder: Path) -> None:
    server.answer = always(answer(values("<v:needed/>")))
    headers = "headers: {'{http://www.w3.org/2005/08/addressing}MessageID': \"join(':', ['urn', id])\", "
    headers += "'{urn:o}Who': {app: {name: purpose, tags: payload.tags, none: payload.none}}}\n"
    bare = "call: {operation: Echo, arguments: {needed: payload.text}}"
    async with served(folder, manifest(BACKEND + headers, bare), URL=server.url) as door:
        await door.answer({"text": "a", "tags": [1, True]})
    first, second = etree.fromstring(server.asked[0].body).find(f"{{{SOAP_11}}}Header")
    assert first.text.startswith("urn:0")
    assert [(etree.QName(each).localname, each.text) for each in second.iter()] == [
        *(("Who", None), ("app", None), ("name", "test"), ("tags", "1"), ("tags", "true")),
    ]


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        (fault("s:Client", "<detail><a><MaLoi>KHONG_CO</MaLoi></a></detail>"), "not-found", "KHONG-CO"),
        (fault("s:Client", "<detail><a><MaLoi>CAM</MaLoi></a></detail>"), "refused", "CAM"),
        (fault("s:Client"), "failed", "backend-fault-Client"),
        (fault("x:Server.Busy"), "failed", "backend-fault-Server.Busy"),
        (fault("wsse:InvalidSecurityToken"), "retry", "backend-fault-InvalidSecurityToken"),
        (fault("&lt;script&gt;"), "failed", "backend-fault-fault"),
        (fault(""), "failed", "backend-fault-fault"),
        (answer("<s:Fault><faultcode>s:Server</faultcode></s:Fault>"), "failed", "backend-fault-Server"),
        (answer(values("<v:needed/>"), "500 Internal Server Error"), "failed", "backend-status-500"),
        (answer("<o:Other xmlns:o='urn:o'/>"), "failed", "backend-off-wsdl"),
        (raw("500 Oops", b"<html>", Content_Type="text/html"), "failed", "backend-status-500"),
        (raw("503 Busy", b"<html>", Content_Type="text/html"), "retry", "backend-status-503"),
        (raw("504 Late", b"", Content_Type="text/html"), "retry", "backend-status-504"),
        (raw("404 Nowhere", b"", Content_Type="text/xml"), "failed", "backend-status-404"),
        (raw("200 OK", b"--x\r\n", Content_Type="multipart/related; boundary=x"), "failed", "backend-not-xml"),
        (raw("200 OK", envelope(values("<v:needed/>"))), "failed", "backend-not-xml"),
    ],
)
async def test_faults_and_statuses_by_rule_and_without(
    server: Scripted, folder: Path, given: bytes, status: str, code: str
) -> None:
    rules = """
        outcomes:
          - {when: body.fault.detail.a.MaLoi == 'KHONG_CO', outcome: not-found, code: KHONG-CO}
          - {when: body.fault.detail.a.MaLoi, outcome: refused, code: "{body.fault.detail.a.MaLoi}"}
    """
    server.answer = always(given)
    async with served(folder, manifest(BACKEND, ECHO + re.sub("\n {8}", "\n", rules)), URL=server.url) as door:
        reply = await door.ask({"text": "a"})
    assert (reply.status, reply.code, reply.body) == (status, code, b"")


@pytest.mark.parametrize(("faultcode", "opens"), [("s:Client", False), ("s:Server", True), ("s:Server.Busy", True)])
async def test_a_fault_that_says_not_yet_opens_no_breaker(
    server: Scripted, folder: Path, faultcode: str, opens: bool
) -> None:
    """Unless it is one of the server's own."""
    server.answer = always(fault(faultcode, "<detail><a><MaLoi>DANG_XU_LY</MaLoi></a></detail>"))
    backend = BACKEND + "breaker: {failures: 2, open_s: 600}\n"
    rule = "\noutcomes:\n  - {when: body.fault.detail.a.MaLoi == 'DANG_XU_LY', outcome: retry, code: DANG-XU-LY}"
    async with served(folder, manifest(backend, ECHO + rule), URL=server.url) as door:
        codes = [(await door.ask({"text": "a"})).code for _ in range(3)]
    assert codes == (["DANG-XU-LY"] * 2 + ["backend-left-alone"] if opens else ["DANG-XU-LY"] * 3)


@pytest.mark.parametrize(
    ("coding", "content_type", "declared"),
    [
        ("utf-8", "text/xml", ""),
        ("utf-8", "application/xml;charset=UTF-8", "utf8"),
        ("utf-8-sig", "text/xml; charset=utf-8", "utf-8"),
        ("utf-16", "text/xml; charset=utf-16", ""),
        ("utf-16", "text/xml", "utf-16"),
        ("windows-1258", 'text/xml; charset="windows-1258"', ""),
        ("iso-8859-1", "application/soap+xml; action=a", "ISO-8859-1"),
    ],
)
async def test_a_coding_that_is_named_is_read(
    server: Scripted, folder: Path, coding: str, content_type: str, declared: str
) -> None:
    prologue = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    content = (prologue + envelope(values("<v:needed>é</v:needed>")).decode()).encode(coding)
    server.answer = always(raw("200 OK", content, Content_Type=content_type))
    async with served(folder, manifest(BACKEND, ECHO), URL=server.url) as door:
        assert (await door.answer({"text": "a"}))["needed"] == "é"


@pytest.mark.parametrize(
    ("coding", "content_type", "code"),
    [
        ("utf-8", "text/xml; charset=rot13", "backend-charset"),
        ("utf-8", "text/xml; charset=TCVN3", "backend-charset"),
        ("utf-8", "text/xml; charset=", "backend-off-wsdl"),
        ("windows-1258", "text/xml", "backend-not-xml"),
        ("utf-16", "text/xml; charset=utf-8", "backend-not-xml"),
    ],
)
async def test_a_coding_that_is_wrong_is_no_name(
    server: Scripted, folder: Path, coding: str, content_type: str, code: str
) -> None:
    content = envelope(values("<v:text>é</v:text>")).decode().encode(coding)
    server.answer = always(raw("200 OK", content, Content_Type=content_type))
    async with served(folder, manifest(BACKEND, ECHO), URL=server.url) as door:
        reply = await door.ask({"text": "a"})
    assert (reply.status, reply.code) == ("failed", code)


async def test_no_log_tells_what_an_answer_held(
    server: Scripted, folder: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A value off its type, an unknown element and a fault's text: all may be a citizen's."""
    bad = [
        answer(values("<v:int>PLANTED</v:int><v:needed/>")),
        answer("<PLANTED/>"),
        answer(values("<v:needed>PLANTED</v:needed><v:needed/>")),
        raw("200 OK", b"<PLANTED", Content_Type=TEXT_TYPE),
        fault("s:Client", "<faultactor>PLANTED</faultactor><detail>PLANTED</detail>"),
    ]
    caplog.set_level("DEBUG")
    with capture_logs() as logs:
        async with served(folder, manifest(BACKEND, ECHO), URL=server.url) as door:
            for given in bad:
                server.answer = always(given)
                assert (await door.ask({"text": "PLANTED"})).status == "failed"
    assert "PLANTED" not in caplog.text + repr(logs) + "".join(capsys.readouterr())


async def test_a_submission_that_cannot_be_understood_may_have_been_done(server: Scripted, folder: Path) -> None:
    server.answer = always(answer(values("")))
    text = manifest(BACKEND, ECHO, mode="submission", effect="uncertain")
    async with served(folder, text, URL=server.url) as door:
        reply = await door.ask({"text": "a"})
    assert (reply.status, reply.code) == ("unknown", "backend-off-wsdl")


@pytest.mark.parametrize("text", ["a\x00b", "￾", {"not": "text"}, None, ["a", "b"]])
async def test_what_gives_no_message_is_not_sent(server: Scripted, folder: Path, text: Any) -> None:
    call = "call: {operation: Echo, arguments: {needed: \"'x'\", code: payload.text, shape: {name: payload.text}}}"
    async with served(folder, manifest(BACKEND + "port: Twelve\n", call), URL=server.url) as door:
        reply = await door.ask({"text": text})
    assert (reply.status, reply.code, server.asked) == ("failed", "no-call", [])


async def test_nothing_that_an_answer_names_is_fetched(server: Scripted, folder: Path) -> None:
    leads_out = (
        f'<!DOCTYPE v [<!ENTITY % d SYSTEM "{server.url}/d.dtd">%d;<!ENTITY x SYSTEM "{server.url}/x">]>',
        f'<!DOCTYPE v SYSTEM "{server.url}/v.dtd">',
        f'<?xml-stylesheet href="{server.url}/s.xsl"?>',
    )
    async with served(folder, manifest(BACKEND, ECHO), URL=server.url) as door:
        for prologue in leads_out:
            content = prologue.encode() + envelope(values("<v:needed>&x;</v:needed>" if "ENTITY" in prologue else ""))
            server.answer = always(raw("200 OK", content, Content_Type=TEXT_TYPE))
            assert (await door.ask({"text": "a"})).status == "failed"
    assert {asked.method for asked in server.asked} == {"POST"}
    assert len(server.asked) == len(leads_out)


async def test_a_probe_asks_for_the_wsdl_and_ends_in_time(server: Scripted, folder: Path) -> None:
    backend = load(folder, manifest(BACKEND + "timeout_s: 0.3\n", ECHO)).backend
    assert backend is not None
    await backend.open(Surroundings(folder, (LOCAL | {"URL": f"{server.url}/a"}).get))
    try:
        server.answer = always(raw("404 Not Found"))
        await backend.probe()
        assert (server.asked[0].method, server.asked[0].target) == ("GET", "/a?wsdl")
        server.answer = always(raw("500 Oops"))
        with pytest.raises(Failed, match="backend-status-500"):
            await backend.probe()
        server.answer = never
        with pytest.raises(Unavailable, match="backend-timeout"):
            await backend.probe()
    finally:
        await backend.close()


async def test_an_answer_as_large_as_allowed_is_read_beside_the_loop(server: Scripted, folder: Path) -> None:
    server.answer = always(answer(values("<v:needed/>" + "<v:many>ệ</v:many>" * 20_000)))
    async with served(folder, manifest(BACKEND, ECHO + "\nreply: length(body.many)"), URL=server.url) as door:
        assert await door.answer({"text": "a"}) == 20_000


@pytest.mark.parametrize(("levels", "status", "code"), [(200, "ok", ""), (400, "failed", "backend-not-xml")])
async def test_a_type_within_itself_may_go_as_deep_as_the_parser_lets_it(
    server: Scripted, folder: Path, levels: int, status: str, code: str
) -> None:
    server.answer = always(answer(values("<v:part>" * levels + "<v:needed/>" + "</v:part><v:needed/>" * levels)))
    async with served(folder, manifest(BACKEND, ECHO + "\nreply: body.part.part.needed"), URL=server.url) as door:
        reply = await door.ask({"text": "a"})
    assert (reply.status, reply.code) == (status, code)


@pytest.mark.parametrize(
    ("backend", "service", "line", "said"),
    [
        ("kind: soap\nwsdl: none.wsdl\nurl: {env: URL}", ECHO, 5, "/backend/wsdl: The WSDL cannot be read"),
        (
            "kind: soap\nwsdl: types.xsd\nurl: {env: URL}",
            ECHO,
            3,
            "/backend: The WSDL has no such SOAP port: there is",
        ),
        ("kind: soap\nwsdl: ../values.wsdl\nurl: {env: URL}", ECHO, 5, "leads out of the manifest's folder"),
        ("kind: soap\nwsdl: /etc/passwd\nurl: {env: URL}", ECHO, 5, "leads out of the manifest's folder"),
        ("kind: soap\nwsdl: out.wsdl\nurl: {env: URL}", ECHO, 5, "leads out of the manifest's folder (/etc/passwd)"),
        ("kind: soap\nwsdl: net.wsdl\nurl: {env: URL}", ECHO, 5, "leads out of the manifest's folder (http://"),
        ("kind: soap\nwsdl: dtd.wsdl\nurl: {env: URL}", ECHO, 5, "/backend/wsdl: The WSDL cannot be read"),
        ("kind: soap\nwsdl: {env: X}\nurl: {env: URL}", ECHO, 5, "Must be the name of a WSDL file"),
        (BACKEND + "port: Nine", ECHO, 8, "Desk/Eleven, Desk/Twelve, Desk/Sums"),
        (BACKEND, "call: {operation: Eco}", 20, "no operation 'Eco': there is Echo, Note, Two"),
        (BACKEND, "call: {operation: Two, arguments: {one: id}}", 20, "several parts in its body"),
        (BACKEND, ECHO.replace("needed", "neded"), 20, "/services/0/call/arguments/neded: The WSDL has no 'neded'"),
        (
            BACKEND,
            "call: {operation: Echo, arguments: {needed: id}, headers: {What: {}}}",
            20,
            "no header 'What' here: there is Who",
        ),
        (BACKEND + "headers: {Wo: {app: id}}", ECHO, 8, "no header 'Wo' here"),
        (BACKEND + "security: {block: Wo, values: {app: a}}", ECHO, 8, "no header 'Wo' here"),
        (
            BACKEND,
            ECHO.replace("app", "ap"),
            20,
            "/services/0/call/headers/Who/ap: The WSDL has no 'ap' here: app, key",
        ),
        (BACKEND + "security: {username: a, password: secret}", ECHO, 8, "No value in a manifest"),
    ],
)
def test_a_mistake_is_told_with_its_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, backend: str, service: str, line: int, said: str
) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")
    text = (folder / "values.wsdl").read_text("utf-8")
    (folder / "out.wsdl").write_text(text.replace("types.xsd", "/etc/passwd"), "utf-8")
    (folder / "net.wsdl").write_text(text.replace("types.xsd", "http://127.0.0.1:9/types.xsd"), "utf-8")
    (folder / "dtd.wsdl").write_text(text.replace("?>", '?><!DOCTYPE d [<!ENTITY a "b">]>', 1), "utf-8")
    with pytest.raises(ManifestError) as raised:
        load(folder, manifest(backend, service))
    assert said in str(raised.value)
    assert f"manifest.yaml:{line}:" in str(raised.value)


def test_without_soap_nobody_pays_for_it() -> None:
    """Neither a gateway nor an adapter of another kind imports zeep."""
    program = (
        "import sys, gateway, ngsp.adapter.declared, ngsp.adapter.process, ngsp.adapter.backends.rest\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('zeep', 'lxml')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
