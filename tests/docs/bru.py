"""Runs a Bruno collection the way `bru run -r` does, as far as ours goes: blocks, variables, bearer tokens, asserts."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

_BLOCK = re.compile(r"^([a-z][a-z:-]*) (?:\{\n(.*?)^\}|\[\n(.*?)^\])$", re.MULTILINE | re.DOTALL)
_TEXT = ("body:json", "docs")


def read(text: str) -> dict[str, Any]:
    """Block → its text, or its pairs, or its list. ValueError where something stands outside a block."""
    if rest := _BLOCK.sub("", text).strip():
        raise ValueError(f"no block: {rest[:80]}")
    found: dict[str, Any] = {}
    for name, inside, listed in _BLOCK.findall(text):
        lines = [line.removeprefix("  ") for line in (inside or listed).splitlines()]
        if listed:
            found[name] = [line.strip(", ") for line in lines]
        elif name in _TEXT:
            found[name] = "\n".join(lines)
        else:
            found[name] = {key: value for key, _, value in (line.partition(": ") for line in lines)}
    return found


@dataclass
class Run:
    """One run over `folder`; `variables` begin with the environment's."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    asserted: int = 0
    failed: list[str] = field(default_factory=list)

    def files(self) -> list[Path]:
        """Requests in the order of their numbers, folder by folder."""

        def number(path: Path) -> int:
            return int(read(path.read_text("utf-8"))["meta"]["seq"])

        def within(folder: Path) -> list[Path]:
            below = sorted((path for path in folder.iterdir() if (path / "folder.bru").exists()), key=_numbered)
            own = (path for path in folder.glob("*.bru") if path.name not in ("folder.bru", "collection.bru"))
            return [file for each in below for file in within(each)] + sorted(own, key=number)

        def _numbered(folder: Path) -> int:
            return number(folder / "folder.bru")

        return within(self.folder)

    def run(self, environment: str, **secrets: str) -> None:
        told = read((self.folder / environment).read_text("utf-8"))
        self.variables |= told["vars"] | secrets
        assert set(told["vars:secret"]) == set(secrets)
        collection = read((self.folder / "collection.bru").read_text("utf-8"))
        assert collection["auth"]["mode"] == "bearer"
        with httpx.Client(timeout=60) as http:
            for file in self.files():
                self._one(http, file, collection["auth:bearer"]["token"])

    def _one(self, http: httpx.Client, file: Path, token: str) -> None:
        request = read(file.read_text("utf-8"))
        method = "post" if "post" in request else "get"
        to = request[method]
        options: dict[str, Any] = {
            "headers": {name: self._put(value) for name, value in request.get("headers", {}).items()}
        }
        if to["auth"] == "basic":
            basic = request["auth:basic"]
            options["auth"] = (self._put(basic["username"]), self._put(basic["password"]))
        else:
            options["headers"]["Authorization"] = f"Bearer {self._put(token)}"
        if to["body"] == "json":
            options["json"] = json.loads(self._put(request["body:json"]))
        elif to["body"] == "formUrlEncoded":
            options["data"] = {name: self._put(value) for name, value in request["body:form-urlencoded"].items()}
        answer = http.request(method.upper(), self._put(to["url"]), **options)
        for name, where in request.get("vars:post-response", {}).items():
            self.variables[name] = _part(answer, where)
        for what, wanted in request.get("assert", {}).items():
            assert (what, wanted.partition(" ")[0]) == ("res.status", "eq")
            self.asserted += 1
            if str(answer.status_code) != wanted.partition(" ")[2]:
                self.failed.append(f"{file.relative_to(self.folder)}: {wanted}, but {answer.status_code} {answer.text}")

    def _put(self, text: str) -> str:
        """With every `{{name}}` filled in that has a value; the others stay, as Bruno leaves them."""
        return re.sub(r"\{\{(\$?\w+)\}\}", lambda found: self._value(found[1]), text)

    def _value(self, name: str) -> str:
        return str(uuid.uuid4()) if name == "$guid" else self.variables.get(name, f"{{{{{name}}}}}")


def _part(answer: httpx.Response, where: str) -> str:
    """`res.body.name` or `res.headers['name']`."""
    if found := re.fullmatch(r"res\.body\.(\w+)", where):
        return str(answer.json()[found[1]])
    header = re.fullmatch(r"res\.headers\['([a-z-]+)'\]", where)
    assert header is not None, where
    return str(answer.headers.get(header[1], ""))
