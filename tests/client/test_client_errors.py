"""The client's errors are those of the bus, under the same names; and nothing the client says shows what it carries."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterator

import httpx
import pytest

from ngsp import errors as bus_errors
from ngsp.client import CallError, Problem, errors
from ngsp.client.wire import Send, trouble
from ngsp.text import Text
from tests.client.between import Between
from tests.client.hands import KIND, LOOK_UP, SEND, hands
from tests.support.gateway import Rig
from tests.support.problems import MARKER, NUMBER

_WRONG = Text("sai", "wrong")


def tree(family: type[Exception]) -> Iterator[tuple[str, str]]:
    """Name and parent's name of everything below `family`."""
    for kind in family.__subclasses__():
        if not kind.__module__.endswith(".errors"):
            continue  # of one part of the gateway, which tells its callers the parent
        yield kind.__name__, family.__name__
        yield from tree(kind)


def test_the_tree_is_the_one_of_the_bus() -> None:
    ours = {name: "NgspError" if parent == "Problem" else parent for name, parent in tree(Problem)}
    assert ours == dict(tree(bus_errors.NgspError))
    assert {code: kind.__name__ for code, kind in errors.PROBLEMS.items()} == {
        code: kind.__name__ for code, kind in bus_errors.ERRORS.items()
    }


@pytest.mark.parametrize("code", sorted(bus_errors.ERRORS))
def test_each_error_of_the_bus_comes_as_its_class(code: str) -> None:
    told = bus_errors.ERRORS[code](faults=(bus_errors.Fault("/a", _WRONG),))
    error = errors.problem_of(told.problem("en", "/v1/transactions/x"), told.status)
    assert type(error).__name__ == type(told).__name__
    assert (error.code, error.status, error.title) == (code, told.status, told.text().title.en)
    assert (error.remedy, error.faults) == (told.text().remedy.en, (errors.Fault("/a", "wrong"),))
    assert str(error).startswith(f"{code} ({told.status}): ")


@pytest.mark.parametrize(
    ("status", "family"),
    [
        (400, errors.MalformedRequest),
        (403, errors.Forbidden),
        (409, errors.Conflict),
        (418, errors.CallerError),
        (422, errors.Unprocessable),
        (429, errors.LimitReached),
        (500, errors.BusError),
        (502, errors.ProviderBroken),
        (503, errors.Unavailable),
        (504, errors.ProviderError),
    ],
)
def test_a_code_of_a_newer_gateway_comes_as_its_family(status: int, family: type[Problem]) -> None:
    error = errors.problem_of({"code": "not-yet-known", "title": "New", "errors": "none", "remedy": 7}, status)
    assert (type(error), error.code, error.faults, error.remedy) == (family, "not-yet-known", (), "")


def test_an_untrusted_certificate_is_named() -> None:
    cause = ssl.SSLCertVerificationError()
    cause.verify_message = "self-signed certificate"
    error = httpx.ConnectError("x")
    error.__cause__ = cause
    told = trouble(error, "en")
    assert isinstance(told, errors.Unreachable)
    assert "self-signed certificate" in str(told)
    assert isinstance(trouble(httpx.ReadTimeout("x"), "en"), errors.ConnectionLost)
    assert isinstance(trouble(httpx.PoolTimeout("x"), "en"), errors.Unreachable)


async def test_nothing_is_logged_or_shown_of_what_is_carried(
    rig: Rig, kind: KIND, proxy: Between, caplog: pytest.LogCaptureFixture
) -> None:
    """At the finest level, libraries included; in no text of an error or a value."""
    shown: list[str] = []

    async def attempt(work: object) -> None:
        try:
            shown.append(repr(await work))  # type: ignore[misc]
        except CallError as error:
            shown.extend([repr(error), str(error), repr(error.__cause__), str(error.args)])

    payload = {"note": MARKER, "id": NUMBER}
    with caplog.at_level(logging.DEBUG):
        async with hands(kind, rig, proxy.url) as bus:
            prepared = await bus.do("prepare", SEND, payload)
            shown.append(repr(prepared))
            await attempt(bus.call(LOOK_UP, payload))
            await attempt(bus.call(LOOK_UP, payload | {"id": 7}))
            submission = await bus.send(prepared)
            shown.append(repr(submission))
            await attempt(bus.wait(submission))
            proxy.lose = 1
            await attempt(bus.call("H41/uncertain/v1", payload))
            await proxy.stop()
            await attempt(bus.submit(SEND, payload))
            bearers = {headers["Authorization"] for headers in bus.requests.headers}
        async with hands(kind, rig, by="stranger") as stranger:
            await attempt(stranger.call(LOOK_UP, payload))
    shown.append(repr(Send("POST", "/", 1.0, {"Authorization": MARKER}, {"q": MARKER}, MARKER.encode())))
    secrets = [MARKER, NUMBER, rig.secrets["caller"], *(value.split()[1] for value in bearers)]
    assert len(secrets) >= 5
    for secret in secrets:
        assert secret not in caplog.text
        assert not [text for text in shown if secret in text]


async def test_a_client_that_is_stopped_goes_at_once(rig: Rig) -> None:
    """Whoever cancels a call of the client on asyncio is not kept waiting, nor is the connection left open."""
    began, gone = asyncio.Event(), asyncio.Event()

    async def act(request: object) -> object:
        began.set()
        await gone.wait()
        return {"did": "it"}

    rig.provider.act = act  # type: ignore[method-assign]
    async with hands("asyncio", rig) as bus:
        calling = asyncio.create_task(bus.call())
        await began.wait()
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
    gone.set()


async def test_errors_speak_the_clients_language(kind: KIND, rig: Rig, proxy: Between) -> None:
    await proxy.stop()
    for language, words in (("vi", "Không kết nối được"), ("en", "cannot be reached")):
        async with hands(kind, rig, proxy.url, language=language) as bus:
            with pytest.raises(errors.Unreachable, match=words):
                await bus.call()
