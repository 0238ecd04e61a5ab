"""The catalogue as a Bruno collection: a folder of text files that an API client opens, with every service and example.

Bruno keeps collections as plain files and needs no account, so that what is tried stays on the machine. Other clients
import the same from `/openapi.json`. The files are made from what `GET /v1/services` and `GET /v1/agreements` tell the
client that will use them; secrets never stand in them.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ngsp.text import Language, Text

OFFICER = "canbo-0017"
TRIAL = "trial"
"""A purpose for the sandbox, where no agreement has to name it."""
_STATUSES = {"ok": 200, "not-found": 404, "refused": 409}
"""Outcome of an example → what a query is answered with; others are for the sandbox."""
ENVIRONMENT = "environments/ngsp.bru"
BEFORE, SERVICES, AFTER = "1-before", "2-services", "3-after"
"""The folders, in the order in which they are run."""
_TITLE = Text("NGSP: các dịch vụ", "NGSP: services")
_ABOUT = Text(
    "Chạy «Mã truy cập» trước; đặt clientSecret trong môi trường (Bruno giữ nó ngoài các tệp này).",
    "Run 'Access token' first; set clientSecret in the environment (Bruno keeps it outside these files).",
)
_BEFORE = Text("Trước khi gọi", "Before calling")
_SERVICES = Text("Các dịch vụ", "Services")
_AFTER = Text("Sau khi gọi", "After calling")
_TOKEN = Text("Mã truy cập", "Access token")
_WAIT = Text("Chờ kết quả", "Wait for the outcome")
_REPLY = Text("Trả lời của hồ sơ", "The submission's reply")
_LIST = Text("Giao dịch gần đây", "Recent transactions")
_CATALOGUE = Text("Danh mục dịch vụ", "The catalogue of services")
_NO_AGREEMENT = Text(
    "Chưa có thỏa thuận đang hiệu lực: lời gọi sẽ bị từ chối (403).",
    "No agreement in force yet: the call will be refused (403).",
)
_EVENTS = Text(
    "Dịch vụ sự kiện không được gọi: đăng ký nhận qua /v1/subscriptions, khi có thỏa thuận.",
    "A service of events is not called: subscribe at /v1/subscriptions, where there is an agreement.",
)
_EXAMPLE = Text("Ví dụ", "Example")


def bruno_collection(
    services: Iterable[Mapping[str, Any]],
    agreements: Iterable[Mapping[str, Any]],
    *,
    base_url: str,
    client: str,
    member: str,
    language: Language,
    sandbox: bool = False,
    scopes: Collection[str] = (),
) -> dict[str, str]:
    """Path → text of every file. `services`, `agreements`: as the interface lists them; `member`: who will call, and
    whether from the sandbox, where no agreement is needed. `scopes`: of the client; one of its own member that may
    publish gets the events of its services too."""
    grants = {
        each["service"]: each for each in agreements if each["consumer"] == member and each["state"] == "accepted"
    }
    described = {"version": "1", "name": _TITLE.in_(language), "type": "collection", "ignore": ["node_modules", ".git"]}
    files = {
        "bruno.json": json.dumps(described, ensure_ascii=False, indent=2) + "\n",
        "collection.bru": _blocks(
            auth={"mode": "bearer"}, auth_bearer={"token": "{{token}}"}, docs=_ABOUT.in_(language)
        ),
        ENVIRONMENT: _environment(base_url, client, TRIAL if sandbox else ""),
        f"{BEFORE}/folder.bru": _folder(_BEFORE.in_(language), 1),
        f"{BEFORE}/token.bru": _token(language),
        f"{BEFORE}/catalogue.bru": _get(_CATALOGUE.in_(language), 2, "/v1/services?limit=500"),
        f"{SERVICES}/folder.bru": _folder(_SERVICES.in_(language), 2),
        f"{AFTER}/folder.bru": _folder(_AFTER.in_(language), 3),
    }
    waiting, one = {"Prefer": "wait=30"}, "/v1/transactions/{{transaction}}"
    files[f"{AFTER}/wait.bru"] = _get(_WAIT.in_(language), 1, one, waiting)
    files[f"{AFTER}/reply.bru"] = _get(_REPLY.in_(language), 2, f"{one}/reply")
    files[f"{AFTER}/transactions.bru"] = _get(_LIST.in_(language), 3, "/v1/transactions?limit=20")
    for number, service in enumerate(services, 1):
        if service["mode"] == "event":
            own = service["provider"] == member and "adapter" in scopes and not sandbox
            files |= _events(service, own, number, language)
        else:
            files |= _service(service, _Terms(grants.get(service["path"]), sandbox), number, language)
    return files


@dataclass(frozen=True, slots=True)
class _Terms:
    """What holds between the caller and a service: their agreement, None without; or the sandbox."""

    grant: Mapping[str, Any] | None
    sandbox: bool

    def headers(self) -> dict[str, str]:
        version = _in_force(self.grant) if self.grant else {}
        found = {"Ngsp-Purpose": next(iter(version.get("purposes", ())), "{{purpose}}")}
        if version.get("consent_required"):
            found["Ngsp-Consent"] = "{{consent}}"
        return found | ({"Ngsp-Sandbox": "true"} if self.sandbox else {})

    @property
    def allowed(self) -> bool:
        return self.sandbox or self.grant is not None


def _service(service: Mapping[str, Any], terms: _Terms, number: int, language: Language) -> dict[str, str]:
    files = _opening(service, number, language, "" if terms.allowed else _NO_AGREEMENT.in_(language))
    for number, example in enumerate(service["examples"], 1):
        file, title = _named(service, example, number, language)
        files[file] = _call(service, terms, example, title, number)
    return files


def _events(service: Mapping[str, Any], own: bool, number: int, language: Language) -> dict[str, str]:
    """A service of events: its provider's client publishes the examples, anybody else is told how to get them."""
    files = _opening(service, number, language, "" if own else _EVENTS.in_(language))
    for number, example in enumerate(service["examples"] if own else (), 1):
        file, title = _named(service, example, number, language)
        files[file] = _publish(service, example, title, number)
    return files


def _opening(service: Mapping[str, Any], number: int, language: Language, note: str) -> dict[str, str]:
    """The folder of a service, with what it is."""
    about = f"{service['description'][language]}\n\n{service['path']}, {service['mode']}"
    name = f"{service['provider']}: {service['title'][language]}"
    return {f"{_place(service)}/folder.bru": _folder(name, number, f"{about}\n\n{note}" if note else about)}


def _place(service: Mapping[str, Any]) -> str:
    return f"{SERVICES}/{service['path'].replace('/', '-')}"


def _named(service: Mapping[str, Any], example: Mapping[str, Any], number: int, language: Language) -> tuple[str, str]:
    """The file of an example, and its title."""
    titles = example.get("title") or {"vi": f"{_EXAMPLE.vi} {number}", "en": f"{_EXAMPLE.en} {number}"}
    return f"{_place(service)}/{number:02d}-{_slug(titles['en'])}.bru", titles[language]


def _publish(service: Mapping[str, Any], example: Mapping[str, Any], title: str, number: int) -> str:
    return _blocks(
        meta={"name": _line(title), "type": "http", "seq": str(number)},
        post={"url": f"{{{{baseUrl}}}}/v1/events/{service['path']}", "body": "json", "auth": "inherit"},
        headers={"Content-Type": "application/cloudevents+json"},
        body_json=json.dumps(example["request"], ensure_ascii=False, indent=2),
        **{"assert": {"res.status": "eq 202"}},
    )


def _call(service: Mapping[str, Any], terms: _Terms, example: Mapping[str, Any], title: str, number: int) -> str:
    submission = service["mode"] == "submission"
    headers = terms.headers()
    if service["officer_required"]:
        headers["Ngsp-Officer"] = "{{officer}}"
    if submission:
        headers["Idempotency-Key"] = "{{$guid}}"
    expected = 202 if submission else _STATUSES.get(example.get("outcome", "ok"))
    told = terms.allowed and expected is not None and (not terms.sandbox or example.keys() & {"reply", "outcome"})
    return _blocks(
        meta={"name": _line(title), "type": "http", "seq": str(number)},
        post={"url": f"{{{{baseUrl}}}}/v1/services/{service['path']}", "body": "json", "auth": "inherit"},
        headers=headers,
        body_json=json.dumps(example["request"], ensure_ascii=False, indent=2),
        # Of one that is refused there is no reply to ask for later.
        vars_post_response={"transaction": "res.headers['ngsp-transaction']"} if submission and terms.allowed else {},
        **({"assert": {"res.status": f"eq {expected}"}} if told else {}),
    )


def _in_force(agreement: Mapping[str, Any]) -> Mapping[str, Any]:
    """The version that governs the agreement."""
    versions: list[Mapping[str, Any]] = agreement["versions"]
    return next(version for version in versions if version["version"] == agreement["version"])


def _token(language: Language) -> str:
    return _blocks(
        meta={"name": _TOKEN.in_(language), "type": "http", "seq": "1"},
        post={"url": "{{baseUrl}}/oauth2/token", "body": "formUrlEncoded", "auth": "basic"},
        auth_basic={"username": "{{clientId}}", "password": "{{clientSecret}}"},
        body_form_urlencoded={"grant_type": "client_credentials"},
        vars_post_response={"token": "res.body.access_token"},
        **{"assert": {"res.status": "eq 200"}},
    )


def _folder(name: str, number: int, docs: str = "") -> str:
    return _blocks(meta={"name": _line(name), "seq": str(number)}, docs=docs)


def _get(title: str, number: int, path: str, headers: Mapping[str, str] | None = None) -> str:
    return _blocks(
        meta={"name": title, "type": "http", "seq": str(number)},
        get={"url": f"{{{{baseUrl}}}}{path}", "body": "none", "auth": "inherit"},
        headers=headers or {},
        **{"assert": {"res.status": "eq 200"}},
    )


def _environment(base_url: str, client: str, purpose: str) -> str:
    known = {"baseUrl": base_url, "clientId": client, "officer": OFFICER, "purpose": purpose, "consent": ""}
    return _blocks(vars=known) + "vars:secret [\n  clientSecret\n]\n"


def _blocks(**blocks: Mapping[str, str] | str) -> str:
    """The text of a file. A name's `_` stands for `:` or `-` as Bruno has it; empty blocks are left out."""
    found = []
    for name, content in blocks.items():
        if not content:
            continue
        lines = (
            content.splitlines() if isinstance(content, str) else [f"{key}: {value}" for key, value in content.items()]
        )
        inside = "\n".join(f"  {line}" if line else "" for line in lines)
        found.append(f"{_NAMES.get(name, name)} {{\n{inside}\n}}\n\n")
    return "".join(found)


_NAMES = {
    "auth_bearer": "auth:bearer",
    "auth_basic": "auth:basic",
    "body_json": "body:json",
    "body_form_urlencoded": "body:form-urlencoded",
    "vars_post_response": "vars:post-response",
}


def _line(text: str) -> str:
    return " ".join(text.split())


def _slug(text: str) -> str:
    """A file's name: plain letters, digits and dashes, at most sixty."""
    plain = unicodedata.normalize("NFD", text.replace("đ", "d").replace("Đ", "D"))
    letters = "".join(letter for letter in plain if not unicodedata.combining(letter)).lower()
    return re.sub(r"[^a-z0-9]+", "-", letters).strip("-")[:60].strip("-") or "example"
