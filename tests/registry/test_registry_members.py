"""Members over REST: who may, lost updates, names that are refused, pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.registry import member_document, text

if TYPE_CHECKING:
    from tests.support.registry import Rig


async def test_member_is_created_replaced_and_read(rig: Rig) -> None:
    document = member_document(name={"vi": "Bộ Tài chính", "en": "Ministry of Finance"}, old_code="000.00.00.G12")
    created = await rig.call("PUT", "/v1/members/G12", json=document)
    assert (created.status_code, created.headers["etag"]) == (201, '"1"')
    again = await rig.call("PUT", "/v1/members/G12", json=document)
    assert (again.status_code, again.headers["etag"]) == (200, '"1"'), "nothing changed, so nothing moved"
    replaced = await rig.call("PUT", "/v1/members/G12", json={**document, "valid_to": "2030-01-01"})
    assert (replaced.status_code, replaced.headers["etag"]) == (200, '"2"')
    read = await rig.call("GET", "/v1/members/G12", by="h14-registry")
    assert read.headers["etag"] == '"2"'
    assert read.json() == {
        "code": "G12",
        "old_code": "000.00.00.G12",
        "name": {"vi": "Bộ Tài chính", "en": "Ministry of Finance"},
        "valid_from": "2020-01-01",
        "valid_to": "2030-01-01",
        "zone": "national",
    }
    assert rig.registry.snapshot.members["G12"].name.en == "Ministry of Finance", "seen at once where it was written"


async def test_lost_update_is_refused(rig: Rig) -> None:
    await rig.call("PUT", "/v1/members/G30", json=member_document())
    seen = (await rig.call("GET", "/v1/members/G30")).headers["etag"]
    first = await rig.call("PUT", "/v1/members/G30", json=member_document(zone="ministry"), headers={"If-Match": seen})
    assert first.status_code == 200
    second = await rig.call("PUT", "/v1/members/G30", json=member_document(zone="province"), headers={"If-Match": seen})
    assert (second.status_code, second.json()["code"]) == (412, "precondition-failed")
    assert (await rig.call("GET", "/v1/members/G30")).json()["zone"] == "ministry"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-Match": "*"}, 412),
        ({"If-Match": '"1"'}, 412),
        ({"If-None-Match": "*"}, 201),
        ({"If-None-Match": "*"}, 412),
        ({"If-Match": "*"}, 200),
        ({"If-Match": 'W/"1"'}, 412),
        ({"If-Match": '"7", "1"'}, 200),
        ({"If-Match": "1"}, 400),
        ({"If-Match": '"1'}, 400),
        ({"If-Match": ""}, 400),
        ({"If-None-Match": '"1"'}, 400),
    ],
)
async def test_conditions(rig: Rig, headers: dict[str, str], status: int) -> None:
    """In this order: at first there is no such member."""
    found = await rig.call("PUT", "/v1/members/G31", json=member_document(), headers=headers)
    assert found.status_code == status


@pytest.mark.parametrize(
    "code", ["..%2F..%2Fetc", "%2E%2E", "G1", "g12", "G12.", "G12..A", "G%D9%A0%D9%A1", "G12%E2%80%8B", "A" * 40, ""]
)
async def test_odd_codes_are_refused(rig: Rig, code: str) -> None:
    found = await rig.call("PUT", f"/v1/members/{code}", json=member_document())
    assert (found.status_code, found.json()["code"]) == (422, "invalid-identifier")
    assert found.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("field", "value", "pointer"),
    [
        ("name", {"vi": "Bo\u0323\u0302 Tài chính", "en": "x"}, "/name/vi"),
        ("name", {"vi": "Bộ\u200bTài chính", "en": "x"}, "/name/vi"),
        ("name", {"vi": "Bộ", "en": "Mini\u202estry"}, "/name/en"),
        ("name", {"vi": "Bộ\nTài chính", "en": "x"}, "/name/vi"),
        ("name", {"vi": "  ", "en": "x"}, "/name/vi"),
        ("name", {"vi": "Bộ"}, "/name/en"),
        ("old_code", "000.00.G12", "/old_code"),
        ("zone", "moon", "/zone"),
        ("valid_from", "2020-02-30", "/valid_from"),
        ("valid_from", 20200101, "/valid_from"),
        ("valid_to", "2019-01-01", ""),
        ("surprise", 1, "/*"),
    ],
)
async def test_documents_that_are_refused(rig: Rig, field: str, value: Any, pointer: str) -> None:
    found = await rig.call("PUT", "/v1/members/G40", json=member_document(**{field: value}))
    assert found.status_code == 422
    assert [fault["pointer"] for fault in found.json()["errors"]] == [pointer]
    assert (await rig.call("GET", "/v1/members/G40")).status_code == 404


async def test_only_operators_add_members_and_change_their_dates(rig: Rig) -> None:
    document = member_document(name=text("Nghệ An"))
    for path in ("/v1/members/G50", "/v1/members/H14"):
        found = await rig.call("PUT", path, json=document, by="h41-registry")
        assert (found.status_code, found.json()["code"]) == (403, "scope-missing")
    renamed = await rig.call(
        "PUT", "/v1/members/H41", json=member_document(name=text("Tỉnh Nghệ An")), by="h41-registry"
    )
    assert renamed.status_code == 200
    moved = await rig.call("PUT", "/v1/members/H41", json=member_document(zone="internet"), by="h41-registry")
    assert (moved.status_code, moved.json()["code"]) == (403, "scope-missing")
    unproved = await rig.http.put("/v1/members/H41", json=document)
    assert unproved.status_code == 401


async def test_pages(rig: Rig) -> None:
    for number in range(60, 67):
        await rig.call("PUT", f"/v1/members/K{number}", json=member_document())
    seen: list[str] = []
    cursor: str | None = ""
    pages = 0
    while cursor is not None:
        parameters = {"limit": "3", **({"cursor": cursor} if cursor else {})}
        page = (await rig.call("GET", "/v1/members", params=parameters, by="h41-registry")).json()
        assert len(page["items"]) <= 3
        seen += [member["code"] for member in page["items"]]
        cursor = page["next"]
        pages += 1
    assert seen == sorted(seen)
    assert len(seen) == len(set(seen))
    assert {"G22", "H41", "K60", "K66"} <= set(seen)
    assert pages == -(-len(seen) // 3)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "limit=x",
        "cursor=!!",
        "cursor=WyJjbGllbnRzIiwiYSJd",
        "cursor=bnVsbA",
        "page=2",
        "limit=1&limit=2",
    ],
)
async def test_pages_refuse_what_they_do_not_know(rig: Rig, query: str) -> None:
    found = await rig.call("GET", f"/v1/members?{query}")
    assert (found.status_code, found.json()["code"]) == (400, "malformed-parameter")
