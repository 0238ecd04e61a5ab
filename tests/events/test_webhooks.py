"""One delivery to a webhook: what is sent, how it is signed, and what each answer comes to."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import structlog
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from ngsp import __version__
from ngsp.events.webhooks import LONGEST_RETRY_AFTER_S, MOST_ANSWER_BYTES
from ngsp.vault import Vault
from tests.backends.scripted import Answer, Asked, Scripted, always, never, raw, scripted
from tests.events.sending import BODY, ID, KEK, KEY, Sender, sealed, sender, subscription, told, written
from tests.support.problems import MARKER
from tests.support.waiting import until


def verified(asked: Asked, key: bytes = KEY) -> None:
    """By the official library."""
    Webhook(written(key)).verify(asked.body, asked.headers)


async def test_what_is_sent(receiver: Scripted, sending: Sender) -> None:
    sending.headers = {"Ngsp-Transaction": ID, "content-type": "text/plain", "Webhook-Id": "another"}
    attempt = await sending.to(f"{receiver.url}/in/%2e%2E/%C4%90?of=a%20b#never-sent")
    (asked,) = receiver.asked
    assert (attempt.accepted, attempt.gone, told(attempt)) == (True, False, (204, "", True))
    assert 0 < attempt.duration_us < 5_000_000
    assert (asked.method, asked.target) == ("POST", "/in/%2e%2E/%C4%90?of=a%20b"), "as it is written"
    timestamp, signature = asked.headers.pop("webhook-timestamp"), asked.headers.pop("webhook-signature")
    assert signature.startswith("v1,")
    assert abs(int(timestamp) - time.time()) < 60
    assert asked.headers == {
        "host": f"127.0.0.1:{receiver.port}",
        "accept": "*/*",
        "accept-encoding": "identity",
        "content-length": str(len(BODY)),
        "content-type": "application/cloudevents+json; charset=utf-8",
        "ngsp-transaction": ID,
        "user-agent": f"ngsp/{__version__}",
        "webhook-id": ID,
    }


async def test_the_official_library_takes_the_signature(receiver: Scripted, sending: Sender) -> None:
    await sending.to(receiver.url)
    (asked,) = receiver.asked
    verified(asked)
    for altered in (
        Asked(asked.method, asked.target, asked.headers, asked.body.replace(b"Th", b"th")),
        Asked(asked.method, asked.target, asked.headers | {"webhook-id": "another"}, asked.body),
        Asked(asked.method, asked.target, asked.headers | {"webhook-timestamp": str(int(time.time()) - 9)}, asked.body),
    ):
        with pytest.raises(WebhookVerificationError):
            verified(altered)
    with pytest.raises(WebhookVerificationError):
        verified(asked, b"x" * 32)


async def test_two_secrets_sign_while_both_are_valid(receiver: Scripted, sending: Sender) -> None:
    new, old, older = b"n" * 32, b"o" * 24, b"z" * 64
    now = datetime.now(UTC)
    secrets = [
        sealed(new),
        sealed(old, now + timedelta(minutes=5)),
        sealed(older, now - timedelta(seconds=1)),
    ]
    for _ in range(2):
        await sending.hooks.send(subscription(receiver.url, secrets), ID, BODY, {})
    for asked in receiver.asked:
        assert asked.headers["webhook-signature"].count("v1,") == 2
        verified(asked, new)
        verified(asked, old)
        with pytest.raises(WebhookVerificationError):
            verified(asked, older)


async def test_a_secret_that_cannot_be_used(receiver: Scripted, sending: Sender) -> None:
    ended = sealed(KEY, datetime.now(UTC) - timedelta(seconds=1))
    of_another = sealed(KEY, of="sub-2")
    for secrets in ([], [ended], [of_another], [sealed(KEY), of_another]):
        attempt = await sending.hooks.send(subscription(receiver.url, secrets), ID, BODY, {})
        assert told(attempt) == (None, "secret", False)
    async with sender(vault=Vault(b"another KEK, which holds nothing")) as stranger:
        assert told(await stranger.to(receiver.url)) == (None, "secret", False)
    assert receiver.connections == 0


async def test_a_secret_is_opened_once(receiver: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    vault, opened = Vault(KEK), []

    def opening(name: str, sealed: bytes) -> bytes:
        opened.append(name)
        return Vault(KEK).open_secret(name, sealed)

    monkeypatch.setattr(vault, "open_secret", opening)
    monkeypatch.setattr("ngsp.events.webhooks.MOST_SECRETS", 2)
    async with sender(vault=vault) as sending:

        async def send(id: str, key: bytes) -> None:
            kept = keys.setdefault((id, key), sealed(key, of=id))
            assert (await sending.hooks.send(subscription(receiver.url, [kept], id=id), ID, BODY, {})).accepted

        keys = {}  # type: ignore[var-annotated]
        for _ in range(3):
            await send("a", KEY)
        await send("b", KEY)
        assert opened == ["webhook a", "webhook b"]
        await send("c", KEY)
        await send("a", KEY)
        assert opened == ["webhook a", "webhook b", "webhook c", "webhook a"], "no more are remembered than that"


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        ("200 OK", ""),
        ("202 Accepted", ""),
        ("299 Fine", ""),
        ("301 Moved", "redirect"),
        ("304 Not Modified", "redirect"),
        ("307 Temporary", "redirect"),
        ("400 Bad", "status"),
        ("401 Who", "status"),
        ("404 Where", "status"),
        ("410 Gone", "status"),
        ("429 Slowly", "status"),
        ("500 Broken", "status"),
        ("503 Away", "status"),
        ("700 What", "status"),
    ],
)
async def test_each_status(receiver: Scripted, sending: Sender, status: str, problem: str) -> None:
    async with scripted() as elsewhere:
        receiver.answer = always(raw(status, Location=f"{elsewhere.url}/latest/meta-data", Retry_After="7"))
        attempt = await sending.to(receiver.url)
        assert elsewhere.connections == 0, "redirects are not followed"
    code = int(status[:3])
    assert told(attempt) == (code, problem, True)
    assert (attempt.accepted, attempt.gone) == (code < 300, code == 410)
    assert attempt.retry_after_s == (7.0 if code in (429, 503) else None)
    assert (len(receiver.asked), receiver.connections) == (1, 1)


@pytest.mark.parametrize(
    ("said", "least_s", "most_s"),
    [
        ("0", 0, 0),
        ("120", 120, 120),
        ("86401", LONGEST_RETRY_AFTER_S, LONGEST_RETRY_AFTER_S),
        ("9" * 4000, LONGEST_RETRY_AFTER_S, LONGEST_RETRY_AFTER_S),
        pytest.param(format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True), 3_000, 3_600, id="an hour"),
        pytest.param(
            format_datetime(datetime.now(UTC) + timedelta(days=9), usegmt=True),
            LONGEST_RETRY_AFTER_S,
            86_400,
            id="days",
        ),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0, 0),
        ("-1", None, None),
        ("1.5", None, None),
        ("soon", None, None),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None, None),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None, None),
        ("Wed, 21 Oct 999999999999999999999999999999 07:28:00 GMT", None, None),
        ("Wed, 21 Oct 2015 07:28:00 +99999999999999999999", None, None),
        ("", None, None),
    ],
)
async def test_when_to_come_again(
    receiver: Scripted, sending: Sender, said: str, least_s: float | None, most_s: float | None
) -> None:
    receiver.answer = always(raw("503 Away", Retry_After=said))
    found_s = (await sending.to(receiver.url)).retry_after_s
    if least_s is None or most_s is None:
        assert found_s is None
    else:
        assert found_s is not None
        assert least_s <= found_s <= most_s


def chunked(total: int) -> Answer:
    async def answered(asked: Asked, writer: asyncio.StreamWriter) -> None:
        """As much of it as anybody reads."""
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(total >> 20):
            writer.write(b"100000\r\n" + b" " * 0x100000 + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    return answered


async def unframed(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """300 MB until the connection closes."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(300):
        writer.write(b" " * 0x100000)
        await writer.drain()
    writer.close()


@pytest.mark.parametrize(
    "answer",
    [chunked(300 << 20), unframed, always(raw("200 OK", Content_Length="300000000"))],
    ids=["chunked", "unframed", "announced"],
)
async def test_an_answer_of_300_mb_is_not_read(receiver: Scripted, sending: Sender, answer: Answer) -> None:
    """Its status counts; its connection is closed, and the next delivery has another one."""
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    receiver.answer = answer
    assert told(await sending.to(receiver.url)) == (200, "", True)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 50_000
    receiver.answer = always(raw("200 OK", b"x" * MOST_ANSWER_BYTES))
    for _ in range(2):
        assert (await sending.to(receiver.url)).accepted
    assert receiver.connections == 2


def closing(answer: bytes = b"") -> Answer:
    return always(answer, then_close=True)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (closing(), "lost"),
        (closing(b"HTTP/1.1 200 O"), "lost"),
        (closing(raw("200 OK", b"fin", Content_Length="100")), "lost"),
        (closing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"), "lost"),
        (never, "timeout"),
        (always(b"HTTP/1.1 200 OK\r\n"), "timeout"),
        (always(raw("200 OK", Content_Length="5")), "timeout"),
        (always(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), "timeout"),
        (always(b"HTTP/1.1 102 Processing\r\n\r\n"), "timeout"),
        (always(b"220 mail.example ESMTP\r\n\r\n"), "not-http"),
        (always(raw("200 OK", X_Long="x" * 100_000)), "not-http"),
        (always(raw("200 OK", Content_Length="-1")), "not-http"),
    ],
)
async def test_an_answer_that_is_not_whole(receiver: Scripted, answer: Answer, problem: str) -> None:
    """Is none, and whether the delivery was taken is not known."""
    receiver.answer = answer
    async with sender(timeout_s=0.4) as sending:
        attempt = await sending.to(receiver.url)
        assert (told(attempt), attempt.accepted) == ((None, problem, True), False)
        assert attempt.duration_us < 3_000_000
        receiver.answer = always(raw("200 OK"))
        assert (await sending.to(receiver.url)).accepted
    assert len(receiver.asked) == 2


async def test_a_receiver_that_reads_nothing(sending: Sender) -> None:
    """It may have been sent all the same: nobody can know what the other machine had already."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        attempt = await sending.to(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert told(attempt) == (None, "lost", True)


async def test_an_answer_before_the_body_was_read(sending: Sender) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw("413 Too Large", Connection="close"))
        await writer.drain()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        attempt = await sending.to(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", b" " * (3 << 20))
    assert told(attempt) == (413, "status", True)


async def test_a_large_body_comes_whole(receiver: Scripted, sending: Sender) -> None:
    body = BODY.replace(b"7}", b"7" * (3 << 20) + b"}")
    assert (await sending.to(receiver.url, body)).accepted
    (asked,) = receiver.asked
    assert (asked.body, asked.headers["content-length"]) == (body, str(len(body)))
    verified(asked)


async def test_connections_are_used_again(receiver: Scripted, sending: Sender) -> None:
    receiver.answer = always(raw("200 OK", b"thanks"))
    for _ in range(10):
        assert (await sending.to(receiver.url)).accepted
    assert (receiver.connections, len(receiver.asked)) == (1, 10)
    receiver.answer = closing(raw("200 OK", Connection="close"))
    for _ in range(5):
        assert (await sending.to(receiver.url)).accepted
    assert receiver.connections == 5, "one that the receiver closes is not used again"


async def test_cookies_are_not_kept(receiver: Scripted, sending: Sender) -> None:
    receiver.answer = always(raw("200 OK", Set_Cookie="session=7; Path=/"))
    for _ in range(2):
        await sending.to(receiver.url)
    assert all("cookie" not in asked.headers for asked in receiver.asked)


async def test_surroundings_choose_no_proxy(receiver: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with sender() as sending:
            assert (await sending.to(receiver.url)).accepted
        assert proxy.connections == 0


async def test_whoever_is_cancelled_goes_at_once(receiver: Scripted, sending: Sender) -> None:
    receiver.answer = never
    task = asyncio.create_task(sending.to(receiver.url))
    await until(lambda: len(receiver.asked) == 1, "the delivery to be on its way")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_that_hangs_leaves_room_for_others(receiver: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ngsp.events.webhooks.CONNECTIONS_PER_RECEIVER", 2)
    async with scripted() as hanging, sender() as sending:
        hanging.answer = never
        stuck = [asyncio.create_task(sending.to(hanging.url)) for _ in range(8)]
        await until(lambda: len(hanging.asked) == 2, "all its connections to be taken")
        assert (await sending.to(receiver.url)).accepted
        assert hanging.connections == 2
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_waiting_for_a_connection_is_not_sending(receiver: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ngsp.events.webhooks.CONNECTIONS_PER_RECEIVER", 1)
    receiver.answer = never
    async with sender(timeout_s=1.0) as sending:
        first = asyncio.create_task(sending.to(receiver.url))
        await until(lambda: len(receiver.asked) == 1, "the first to be sent")
        assert told(await sending.to(receiver.url)) == (None, "timeout", False)
        assert told(await first) == (None, "timeout", True)


async def test_nothing_that_is_sent_is_logged(
    receiver: Scripted, sending: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    key = MARKER.encode() * 4
    with caplog.at_level(logging.DEBUG), structlog.testing.capture_logs() as logged:
        for url in (
            f"http://{MARKER}:{MARKER}@127.0.0.1:{receiver.port}/{MARKER}?token={MARKER}",
            f"http://{MARKER}.invalid/{MARKER}",
            f"ftp://{MARKER}/",
        ):
            for secret in (sealed(key), sealed(key, of=MARKER)):
                await sending.hooks.send(subscription(url, [secret]), ID, MARKER.encode(), {"X-Of": MARKER})
    assert len(receiver.asked) == 1
    assert {line["event"] for line in logged} == {"webhooks.secret_does_not_open"}
    assert MARKER not in caplog.text + repr(logged)
