"""The webhook of the demo takes what the bus has signed, and nothing else."""

from __future__ import annotations

import hmac
import time
from base64 import b64encode

import httpx
import orjson
import pytest

from ngsp.demo.events import receiving

KEY = bytes(range(32))
SECRET = "whsec_" + b64encode(KEY).decode()
EVENT = {"specversion": "1.0", "id": "7-1/QĐ-VPCP", "source": "/g22", "type": "vn.g22.x", "data": {"so": 7}}
BODY = orjson.dumps(EVENT)


def headers(key: bytes = KEY) -> dict[str, str]:
    at = int(time.time())
    signature = b64encode(hmac.digest(key, b"message-1.%d.%b" % (at, BODY), "sha256")).decode()
    return {
        "webhook-id": "message-1",
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{signature}",
        "content-type": "application/cloudevents+json",
    }


async def test_it_takes_what_is_signed() -> None:
    with receiving() as receiver:
        async with httpx.AsyncClient() as client:
            assert (await client.post(receiver.url, content=BODY, headers=headers())).status_code == 401
            receiver.secrets.append(SECRET)
            altered = BODY.replace(b"7-1", b"7-2")
            for body, signed_by in ((altered, KEY), (BODY, b"x" * 32)):
                answer = await client.post(receiver.url, content=body, headers=headers(signed_by))
                assert answer.status_code == 401
            assert receiver.taken == {}
            for _ in range(2):
                assert (await client.post(receiver.url, content=BODY, headers=headers())).status_code == 204
            assert [event.data for event in receiver.taken.values()] == [{"so": 7}]
    with pytest.raises(httpx.TransportError):  # nobody listens there, or a stranger who has the port now
        httpx.post(receiver.url, content=BODY)
