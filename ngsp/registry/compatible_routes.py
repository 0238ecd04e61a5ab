"""Compatible routes: put, find, list. What a route promises is checked here, so that a call cannot find it broken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from ngsp.errors import ERRORS, Fault, InvalidRegistration, NotFound, ScopeMissing, StateConflict
from ngsp.mapping import Expression, MappingError, Shape
from ngsp.messages import uuid7
from ngsp.registry import rows
from ngsp.registry.change import ANY, Change, Condition, Row, Stored, fetch, find
from ngsp.registry.documents import RouteDocument
from ngsp.registry.routes import ASKING, CompatibleRoute, compiled, conflict
from ngsp.registry.tables import agreements, compatible_routes, services
from ngsp.text import Text

Compiled = Mapping[str, Expression | Shape]


async def put_route(
    change: Change, route_id: str, document: RouteDocument, condition: Condition = ANY
) -> Stored[CompatibleRoute]:
    """Creates or replaces a route. 403 for anyone but an operator: an address belongs to the platform, not to a member.

    422 with every fault found; 409 where another active route would be meant by the same request.
    """
    if not change.actor.is_operator:
        raise ScopeMissing(
            Text("Chỉ người vận hành (scope operator) đặt tuyến tương thích.", "Only an operator sets up a route."),
            reason="not an operator",
        )
    row = await change.find(compatible_routes, id=route_id)
    condition.check(row["row_version"] if row else None)
    expressions, faults = compiled(document.terms())
    service = await change.find(services, path=document.service)
    if service is None:
        faults.append(Fault("/service", Text("Không có dịch vụ này.", "There is no such service.")))
    else:
        faults += _faults(document, service, expressions)
    ids, wrong = await _agreements(change, document)
    if faults or wrong:
        raise InvalidRegistration(faults=(*faults, *wrong), reason="route refused")
    values = {
        "title_vi": document.title.vi,
        "title_en": document.title.en,
        "methods": sorted(document.methods),
        "path": document.path,
        "service": document.service,
        "agreements": ids,
        "terms": document.terms(),
        "active": document.active,
    }
    route = rows.compatible_route({"id": route_id, **values})
    await _check_conflicts(change, route)
    version, changes = await change.put(compatible_routes, {"id": route_id}, values, row)
    return Stored(route, version, row is None, changes)


def _faults(document: RouteDocument, service: Row, expressions: Compiled) -> Iterator[Fault]:
    if service["mode"] == "event":
        yield Fault("/service", Text("Dịch vụ sự kiện không được gọi.", "A service of events is not called."))
        return
    if "GET" in document.methods:
        if service["mode"] == "submission":
            yield Fault("/methods", Text("Không gửi hồ sơ bằng GET.", "A submission is never a GET."))
        asking = [one for name, one in expressions.items() if name in ASKING]
        if document.request is None or any("body" in one.reads for one in asking):
            said = Text("GET không có nội dung: request phải lấy từ query.", "A GET has no body: read query instead.")
            yield Fault("/request", said)
    if service["mode"] == "submission" and document.key is None:
        yield Fault(
            "/key",
            Text(
                "Dịch vụ này là gửi hồ sơ: cần biết mã yêu cầu nằm ở đâu, để gửi lại không thành hai lần.",
                "This service is a submission: say where the request's own code stands, so that a repeat is one.",
            ),
        )
    if service["officer_required"] and document.officer is None:
        yield Fault("/officer", Text("Dịch vụ này cần mã cán bộ.", "This service needs the officer."))
    for name, roots in (("error", _errors()), ("reply", _replies(service)), ("accepted", _acceptances())):
        if name in expressions:
            yield from _failing(expressions[name], name, roots)


def _failing(expression: Expression | Shape, name: str, roots: Iterator[tuple[Text, Any]]) -> Iterator[Fault]:
    """A fault where the expression cannot be worked out for one of `roots`, or gives what is no JSON."""
    for what, root in roots:
        try:
            orjson.dumps(expression(root))
        except (MappingError, TypeError):
            said = Text(f"Không tính được với {what.vi}.", f"It cannot be worked out for {what.en}.")
            yield Fault(f"/{name}", said)
            return


def _errors() -> Iterator[tuple[Text, Any]]:
    for code, error in ERRORS.items():
        root = {"errors": None, "provider_code": None, **error().problem("vi"), "id": uuid7()}
        yield Text(f"lỗi {code}", f"the error {code}"), root


def _replies(service: Row) -> Iterator[tuple[Text, Any]]:
    """What a reply may be: the service's examples, and one of which nothing was granted."""
    for number, example in enumerate(service["examples"], 1):
        if "reply" in example:
            root = {"body": example["reply"], "payload": example["request"], "id": uuid7()}
            yield Text(f"ví dụ {number} của dịch vụ", f"the service's example {number}"), root
    nothing: Any = [] if service["reply_schema"].get("type") == "array" else {}
    without = Text(
        "câu trả lời không có trường nào (thỏa thuận có thể không cấp)",
        "a reply without any field (an agreement may not grant it)",
    )
    yield without, {"body": nothing, "payload": {}, "id": uuid7()}


def _acceptances() -> Iterator[tuple[Text, Any]]:
    root = {"location": f"/v1/transactions/{uuid7()}", "payload": {}, "id": uuid7()}
    yield Text("một lần tiếp nhận", "an acceptance"), root


async def _agreements(change: Change, document: RouteDocument) -> tuple[list[str], list[Fault]]:
    """Their ids, whether given so or as `consumer/reference`; one for each consumer, all of the route's service."""
    ids: list[str] = []
    faults: list[Fault] = []
    consumers: set[str] = set()
    for index, name in enumerate(document.agreements):
        consumer, _, reference = name.rpartition("/")
        key = {"consumer": consumer, "reference": reference} if consumer else {"id": name}
        row = await change.find(agreements, **key)
        if row is None or row["service"] != document.service:
            said = Text("Không có thỏa thuận này cho dịch vụ.", "There is no such agreement for the service.")
            faults.append(Fault(f"/agreements/{index}", said))
        elif row["consumer"] in consumers:
            said = Text("Cơ quan này đã có một thỏa thuận ở đây.", "This consumer has an agreement here already.")
            faults.append(Fault(f"/agreements/{index}", said))
        else:
            consumers.add(row["consumer"])
            ids.append(str(row["id"]))
    return sorted(ids), faults


async def _check_conflicts(change: Change, route: CompatibleRoute) -> None:
    if not route.active:
        return
    statement = select(compatible_routes).where(compatible_routes.c.active, compatible_routes.c.id != route.id)
    for row in await fetch(change.connection, statement):
        if conflict(route, row["path"], row["methods"]):
            raise StateConflict(
                Text(
                    f"Đường dẫn trùng với tuyến «{row['id']}»: có yêu cầu sẽ thuộc về cả hai.",
                    f"The path meets that of the route '{row['id']}': some request would be for both.",
                ),
                reason="the path of another route",
                members={"route": row["id"]},
            )


async def get_route(connection: AsyncConnection, route_id: str) -> Stored[CompatibleRoute]:
    """`NotFound` where there is none."""
    row = await find(connection, compatible_routes, id=route_id)
    if row is None:
        raise NotFound(reason="no such route")
    return Stored(rows.compatible_route(row), row["row_version"])


async def list_routes(connection: AsyncConnection, after: str, limit: int) -> list[Stored[CompatibleRoute]]:
    """At most `limit` routes whose id comes after `after`, by id."""
    statement = (
        select(compatible_routes).where(compatible_routes.c.id > after).order_by(compatible_routes.c.id).limit(limit)
    )
    return [Stored(rows.compatible_route(row), row["row_version"]) for row in await fetch(connection, statement)]
