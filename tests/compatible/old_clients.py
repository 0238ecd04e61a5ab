"""Clients as agencies wrote them for the platforms they have: they know nothing of this bus but its address.

Shapes as seen in the field: a national one with its consumer key, a token endpoint and services by path; a provincial
one that proves itself by the header `lgspaccesstoken`, to the token endpoint and beside the token; one that sends this
header alone; and one that sends the same value as `Authorization`.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass
class NationalClient:
    """Consumer key and secret → a token, kept until it expires → `GET /api…/1.0/…?…` and `POST` with JSON."""

    http: httpx.AsyncClient
    consumer_key: str
    consumer_secret: str
    token: str = ""
    lives_s: int = 0

    async def get_token(self) -> dict[str, Any]:
        credentials = base64.b64encode(f"{self.consumer_key}:{self.consumer_secret}".encode()).decode()
        answer = await self.http.post(
            "/token",
            headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/x-www-form-urlencoded"},
            content="grant_type=client_credentials",
        )
        found: dict[str, Any] = answer.json()
        self.token, self.lives_s = found["access_token"], found["expires_in"]
        return found

    def _headers(self) -> dict[str, str]:
        # The content type goes with every request of such clients, with a body or not.
        return {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            "Accept": "application/json",
        }

    async def get(self, path: str, **query: str) -> httpx.Response:
        if not self.token:
            await self.get_token()
        return await self.http.get(path, params=query, headers=self._headers())

    async def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        if not self.token:
            await self.get_token()
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(path, content=json.dumps(body), headers=self._headers() | more)


def partner_header(access_key: str, secret_key: str, unit: str, customer: str | None = None) -> str:
    """`customer`: PartnerCodeCus, the same unit where it is not given."""
    members = {
        "AccessKey": access_key,
        "SecretKey": secret_key,
        "AppName": "Phần mềm một cửa",
        "PartnerCode": unit,
        "PartnerCodeCus": unit if customer is None else customer,
    }
    return base64.b64encode(json.dumps(members, ensure_ascii=False).encode()).decode()


@dataclass
class ProvincialClient:
    """Proves itself by its connection string, to the token endpoint first, then again beside the token."""

    http: httpx.AsyncClient
    connection: str

    async def get_token(self) -> httpx.Response:
        return await self.http.post(
            "/token", headers={"lgspaccesstoken": self.connection}, data={"grant_type": "client_credentials"}
        )

    async def send(self, path: str, body: Any) -> httpx.Response:
        bearer = "Bearer " + (await self.get_token()).json()["access_token"]
        headers = {"lgspaccesstoken": self.connection, "Authorization": bearer}
        return await self.http.post(path, json=body, headers=headers)

    async def look_up(self, path: str, **query: str) -> httpx.Response:
        """Without a token at all."""
        return await self.http.get(path, params=query, headers={"lgspaccesstoken": self.connection})

    async def look_up_otherwise(self, path: str, **query: str) -> httpx.Response:
        """The same value under the other name."""
        return await self.http.get(path, params=query, headers={"Authorization": self.connection})
