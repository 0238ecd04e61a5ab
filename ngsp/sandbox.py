"""The sandbox: a service answered from its examples, for who tries a program before anything real is at stake.

What an example says is made into the reply of an adapter, and from there everything goes the usual way: it is held
against the schema, cut to the granted fields, told as an error where the example is one. Nothing of it reaches the bus.
"""

from __future__ import annotations

from typing import Any

import orjson

from ngsp.errors import NoExample
from ngsp.messages import Reply
from ngsp.registry.model import Service

MOST_TITLES = 20


def rehearse(service: Service, request: object, id: str) -> Reply:
    """What an adapter would have answered to `request`, as the service's examples tell it.

    By the example with this very request; else by the first whose request has the same shape. `NoExample` (404) names
    the examples there are.
    """
    examples = [example for example in service.examples if "reply" in example or "outcome" in example]
    found = next((example for example in examples if example["request"] == request), None)
    if found is None:
        wanted = shape(request)
        found = next((example for example in examples if shape(example["request"]) == wanted), None)
    if found is None:
        titles = [_title(example, number) for number, example in enumerate(examples, 1)]
        raise NoExample(members={"examples": titles[:MOST_TITLES]}, reason="no example of this shape")
    if "outcome" in found:
        return Reply(id, service.path, found["outcome"], code=found.get("code", ""))
    return Reply(id, service.path, "ok", orjson.dumps(found["reply"]))


def shape(value: object) -> object:
    """What a value is like, whatever stands in it: names and kinds; of a list the kinds of its items."""
    if isinstance(value, dict):
        return frozenset((name, shape(below)) for name, below in value.items())
    if isinstance(value, list):
        return ("list", frozenset(map(shape, value)))
    if isinstance(value, bool) or value is None:
        return str(type(value).__name__)
    return "number" if isinstance(value, int | float) else "text"


def _title(example: dict[str, Any], number: int) -> dict[str, str]:
    title = example.get("title")
    return title if isinstance(title, dict) else {"vi": f"Ví dụ {number}", "en": f"Example {number}"}
