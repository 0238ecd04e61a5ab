"""Upgrades under a version: what is taken, what is refused where, and how it is told."""

from __future__ import annotations

import time

import pytest

from ngsp.errors import Fault
from ngsp.registry.compatibility import promise_faults, schema_faults
from ngsp.registry.inclusion import findings
from tests.registry.schema_pairs import AT, INCLUDED, INTEGER, NOT_INCLUDED, NUMBER, PERSON, STRING, Schema, obj


@pytest.mark.parametrize("name", INCLUDED)
def test_what_is_taken(name: str) -> None:
    narrower, wider = INCLUDED[name]
    assert findings(narrower, wider) == []
    if isinstance(narrower, dict) and isinstance(wider, dict):
        assert schema_faults("request", narrower, wider, AT) == []
        assert schema_faults("reply", wider, narrower, AT) == []


@pytest.mark.parametrize("name", NOT_INCLUDED)
def test_what_is_not_taken_and_where(name: str) -> None:
    narrower, wider, places = NOT_INCLUDED[name]
    found = findings(narrower, wider)
    assert ["".join(f"/{step}" for step in (*one.wider, one.word) if step != "") for one in found] == places


def told(faults: list[Fault]) -> dict[str, tuple[str, str]]:
    return {fault.pointer: (fault.detail.vi, fault.detail.en) for fault in faults}


def test_conflicts_are_explained_in_both_languages_at_their_place_in_the_new_document() -> None:
    old = obj({"id": {"type": "string", "maxLength": 12}, "sex": {"enum": ["nam", "nữ"]}}, required=["id"])
    new = obj({"id": {"type": "string", "maxLength": 10}, "sex": {"enum": ["nam"]}}, required=["id", "sex"])
    requests = told(schema_faults("request", old, new, ("services", 3, "request_schema")))
    assert requests == {
        "/services/3/request_schema/properties/id/maxLength": (
            "Chặt hơn trước, nên yêu cầu từng hợp lệ sẽ bị từ chối: maxLength 12 → 10.",
            "Stricter than before, so that requests that were valid would be refused: maxLength 12 → 10.",
        ),
        "/services/3/request_schema/properties/sex/enum": (
            "Giá trị từng được nhận nay bị từ chối: nữ.",
            "Values that were taken are refused now: nữ.",
        ),
        "/services/3/request_schema/required": ("Trường trở thành bắt buộc: sex.", "Becomes required: sex."),
    }
    assert schema_faults("reply", old, new, AT) == [], "the same change is welcome in a reply"
    replies = told(schema_faults("reply", new, old, ("services", 3, "reply_schema")))
    assert replies == {
        "/services/3/reply_schema/properties/id/maxLength": (
            "Rộng hơn điều đã hứa với bên khai thác: maxLength 10 → 12.",
            "Wider than what consumers were promised: maxLength 10 → 12.",
        ),
        "/services/3/reply_schema/properties/sex/enum": (
            "Có thể là giá trị chưa từng hứa: nữ.",
            "May be a value that was not promised: nữ.",
        ),
        "/services/3/reply_schema/required": (
            "Trường không còn chắc chắn có: sex.",
            "Is not certain to be there any more: sex.",
        ),
    }


def test_a_new_field_in_a_reply_is_told_by_its_name() -> None:
    new = obj({**PERSON["properties"], "salary": INTEGER}, required=["name"])
    found = told(schema_faults("reply", PERSON, new, AT))
    assert [texts[1] for texts in found.values()] == ["May hold fields that were not promised: salary."]
    assert told(schema_faults("reply", PERSON, {"type": "object", "required": ["name"]}, AT)).keys() == {
        "/services/0/schema/properties/name/type", "/services/0/schema/properties/age/type",
        "/services/0/schema/additionalProperties",
    }  # fmt: skip


def test_what_is_promised_beside_the_schemas() -> None:
    old = {"mode": "query", "effect": "idempotent", "subjects": ["/id"], "officer_required": False, "order": None,
           "deadline_s": 5.0, "max_body_bytes": 4096}  # fmt: skip
    assert list(promise_faults(old, {**old, "deadline_s": 8.5, "max_body_bytes": 9000}, AT)) == []
    changed = {"mode": "submission", "effect": "uncertain", "subjects": [], "officer_required": True, "order": "/id",
               "deadline_s": 4.0, "max_body_bytes": 1000}  # fmt: skip
    found = list(promise_faults(old, changed, AT))
    assert [fault.pointer.rpartition("/")[2] for fault in found] == list(changed)
    assert found[-2].detail.en == "May only grow: 5 → 4."


def test_entangled_schemas_end_in_time_and_count_as_a_conflict() -> None:
    def maze(leaf: Schema) -> Schema:
        """Alternatives within alternatives, all alike, so that every split leads to more of them."""
        levels = {f"d{n}": {"anyOf": [obj({"a": {"$ref": f"#/$defs/d{n + 1}"}, f"x{k}": STRING}) for k in range(6)]}
                  for n in range(12)}  # fmt: skip
        return {"$ref": "#/$defs/d0", "$defs": {**levels, "d12": leaf}}

    began_s = time.monotonic()
    found = schema_faults("request", maze(NUMBER), maze(INTEGER), AT)
    assert found and time.monotonic() - began_s < 20
    wide = obj({f"field-{n}": {"type": "string", "maxLength": n + 5} for n in range(1500)})
    wider = obj({f"field-{n}": {"type": "string", "maxLength": n + 6} for n in range(1500)})
    began_s = time.monotonic()
    assert schema_faults("request", wide, wider, AT) == []
    assert time.monotonic() - began_s < 10
