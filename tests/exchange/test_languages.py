"""Errors in Vietnamese by default and in English where it is asked for; their codes are the same in both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx
import pytest

from ngsp.adapter import RecordNotFound, Request
from ngsp.error_texts import TEXTS
from ngsp.text import Language
from tests.support.gateway import Rig
from tests.support.problems import shaped

Ask = Callable[[Rig, str], Awaitable[httpx.Response]]


def calling(name: str = "look-up", body: object = None, **headers: str) -> Ask:
    async def ask(rig: Rig, language: str) -> httpx.Response:
        return await rig.call(name, body, Accept_Language=language, **headers)  # type: ignore[arg-type]

    return ask


async def without_a_record(rig: Rig, language: str) -> httpx.Response:
    async def act(request: Request) -> object:
        raise RecordNotFound("K-404")

    rig.provider.act = act  # type: ignore[method-assign]
    return await rig.call(Accept_Language=language)


async def elsewhere(rig: Rig, language: str) -> httpx.Response:
    return await rig.http.get("/v1/nothing", headers={"Accept-Language": language})


ERRORS: dict[str, Ask] = {
    "malformed-json": calling(content=b"{"),  # type: ignore[arg-type]
    "malformed-header": calling(Ngsp_Purpose="No Such Form"),
    "unauthenticated": calling(Authorization="Bearer x"),
    "access-denied": calling("nothing"),
    "unsupported-type": calling(Content_Type="text/plain"),
    "schema-mismatch": calling(body={"unknown": 1}),
    "invalid-identifier": calling("No-Such-Form"),
    "key-required": calling("send"),
    "body-too-large": calling(body={"note": "x" * 70_000}),
    "record-not-found": without_a_record,
    "not-found": elsewhere,
}
ACCEPTED: dict[str, Language] = {
    "": "vi",
    "vi": "vi",
    "vi-VN,vi;q=0.9,en;q=0.8": "vi",
    "en": "en",
    "en-GB": "en",
    "EN-us;q=0.9, fr;q=0.8": "en",
    "fr, en;q=0.5, vi;q=0.4": "en",
    "vi;q=0.3, en;q=0.7": "en",
    "en;q=0": "vi",
    "fr": "vi",
    "zh-Hans-CN;q=1.0": "vi",
    "*": "vi",
    "en;q=zqmarkerzq": "vi",
    "," * 500: "vi",
}


@pytest.mark.parametrize("code", ERRORS)
async def test_an_error_in_both_languages(rig: Rig, code: str) -> None:
    told: dict[Language, dict[str, object]] = {}
    for language in ("vi", "en"):
        answer = await ERRORS[code](rig, language)
        document = shaped(answer)
        assert document["code"] == code
        assert answer.headers["Content-Language"] == language
        text = TEXTS[code]
        assert (document["title"], document["remedy"]) == (text.title.in_(language), text.remedy.in_(language))
        told[language] = document
    vi, en = told["vi"], told["en"]
    assert vi["status"] == en["status"] and vi["type"] == en["type"]
    for member in ("title", "detail", "remedy"):
        assert vi[member] != en[member]
    assert str(en["title"]).isascii() and not str(vi["title"]).isascii()


@pytest.mark.parametrize("accepted", ACCEPTED)
async def test_what_is_asked_for(rig: Rig, accepted: str) -> None:
    for answer in (await rig.call("nothing", Accept_Language=accepted), await elsewhere(rig, accepted)):
        assert answer.headers["Content-Language"] == ACCEPTED[accepted]


async def test_faults_of_a_body_are_told_in_the_language_asked_for(rig: Rig) -> None:
    for language, words in (("vi", "Có trường không được khai báo."), ("en", "There is a field")):
        document = shaped(await rig.call(body={"unknown": 1}, Accept_Language=language))
        assert document["errors"][0]["pointer"] == ""
        assert document["errors"][0]["detail"].startswith(words)


async def test_without_the_header_it_is_vietnamese(rig: Rig) -> None:
    answer = await rig.call("nothing")
    assert answer.headers["Content-Language"] == "vi"
    assert answer.json()["title"] == TEXTS["access-denied"].title.vi
