"""`ngsp adapter check`, `register` and `status`: the adapter against its own schemas, and against a gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from ngsp.adapter.declared import Declared
from ngsp.adapter.definition import Adapter
from ngsp.adapter.manifest import EventServiceManifest, ManifestError, ServiceManifest
from ngsp.adapter.registering import connected, put_manifest, refusal
from ngsp.client import AsyncClient, errors
from ngsp.registry.compatibility import FIXED, GROWING, promise_faults, schema_faults
from ngsp.registry.event_schemas import event_conflicts
from ngsp.registry.pointers import has_room
from ngsp.text import language_of_terminal, tr

Gateway = Callable[[], tuple[str, str, str]]
"""Address, client and secret."""


def check_adapter(adapter: Adapter) -> list[str]:
    """What a manifest that can be read may still have wrong: services that nobody serves, a mapping off its schema."""
    found = []
    for path, service in adapter.declared().items():
        try:
            serve = adapter.function(path)
        except ManifestError as error:
            found.append(str(error))
            continue
        if isinstance(serve, Declared):
            found += (f"{path}: {line}" for line in _mapping_faults(service))
        if not any("request" in example for example in service.examples):
            found.append(f"{path}: {_no_example()}")
    for path, events in adapter.published().items():
        found += (f"{path}: {line}" for line in _source_faults(events))
        if not events.examples:
            found.append(f"{path}: {_no_example()}")
    return found


def _no_example() -> str:
    return tr("thiếu ví dụ: hãy thêm ít nhất một", "no example: add at least one")


def _mapping_faults(service: ServiceManifest) -> Iterator[str]:
    """Members of `reply` that the schema has no room for, and those it requires that `reply` does not give."""
    if not isinstance(service.reply, dict):
        return
    for place in _places(service.reply, ""):
        if not has_room(service.reply_schema, place):
            yield tr(f"reply{place}: lược đồ trả lời không có", f"reply{place}: the reply schema has no such member")
    for name in service.reply_schema.get("required", ()):
        if name not in service.reply:
            yield tr(f"reply/{name}: lược đồ bắt buộc mà thiếu", f"reply/{name}: the schema requires it")


def _source_faults(events: EventServiceManifest) -> Iterator[str]:
    """Members of `data` that no type of event has room for."""
    data = events.source.event.get("data") if events.source else None
    for place in _places(data, "") if isinstance(data, dict) else ():
        if not any(has_room(schema, place) for schema in events.schemas.values()):
            yield f"source/event/data{place}: " + tr("không loại sự kiện nào có", "no type of event has such a member")


def _places(value: dict[str, Any], at: str) -> Iterator[str]:
    for name, below in value.items():
        place = f"{at}/{name.replace('~', '~0').replace('/', '~1')}"
        yield place
        if isinstance(below, dict):
            yield from _places(below, place)


async def compare_with_registered(adapter: Adapter, gateway: Gateway) -> list[str]:
    """Where a registered version would not take this one, place by place. ManifestError where the gateway is away."""
    found: list[str] = []
    async with _connected(gateway) as client:
        for path, service in (adapter.declared() | adapter.published()).items():
            try:
                registered = await client.service(path)
            except errors.NotFound:
                continue
            found += (f"{path}: {line}" for line in _differences(registered, service))
    return found


def _differences(registered: dict[str, Any], service: ServiceManifest | EventServiceManifest) -> Iterator[str]:
    mine = registered | service.model_dump(include={*FIXED, *GROWING})
    faults = list(promise_faults(registered, mine, ()))
    if registered["mode"] == "event" and isinstance(service, EventServiceManifest):
        declared = {name: {"schema": schema} for name, schema in service.schemas.items()}
        faults += event_conflicts(registered["events"], declared, ("events",))
    elif registered["mode"] != "event" and isinstance(service, ServiceManifest):
        faults += schema_faults("request", registered["request_schema"], service.request_schema, ("request_schema",))
        faults += schema_faults("reply", registered["reply_schema"], service.reply_schema, ("reply_schema",))
    for fault in faults:
        yield f"{fault.pointer}: {fault.detail.in_(language_of_terminal())}"


async def register_adapter(adapter: Adapter, gateway: Gateway) -> str:
    """Registers or upgrades; a line that says which. ManifestError with every place that the gateway refuses."""
    async with _connected(gateway) as client:
        answer = await put_manifest(client, adapter)
    services = ", ".join(f"{found['path']} {found['state']}" for found in answer.json()["services"])
    made = answer.status == 201
    return (
        tr("Đã đăng ký" if made else "Đã cập nhật", "Registered" if made else "Updated") + f" {adapter.id}: {services}"
    )


async def adapter_status(id: str, gateway: Gateway) -> list[str]:
    """The adapter as the gateway knows it, a line each. ManifestError where it does not."""
    async with _connected(gateway) as client:
        found = await client.get(f"/v1/adapters/{quote(id, safe='')}")
    never = tr("chưa bao giờ", "never")
    lines = [
        f"{found['id']}  {found['provider']}  {found['state']}",
        tr("Báo lần cuối", "Last heartbeat") + f": {found['seen_at'] or never}  {found['build']}".rstrip(),
    ]
    lines += [f"  ! {complaint['what']}: {complaint['name']}" for complaint in found["degraded"]]
    lines += [
        f"  {process['process']}  {process['build']}  " + tr("đang xử lý", "in work") + f": {process['in_work']}"
        for process in found["processes"]
    ]
    return lines + [f"  {service['path']}  {service['state']}" for service in found["services"]]


@asynccontextmanager
async def _connected(gateway: Gateway) -> AsyncIterator[AsyncClient]:
    """The gateway, and what goes wrong with it as ManifestError."""
    async with connected(*gateway()) as client:
        try:
            yield client
        except errors.Problem as problem:
            raise ManifestError(refusal(problem)) from None
        except errors.TokenRefused:
            raise ManifestError(
                tr(
                    "Cổng không nhận tài khoản: hãy xem NGSP_ADAPTER_CLIENT_ID và NGSP_ADAPTER_CLIENT_SECRET_FILE",
                    "The gateway does not take the client: see NGSP_ADAPTER_CLIENT_ID and "
                    "NGSP_ADAPTER_CLIENT_SECRET_FILE",
                )
            ) from None
        except errors.CallError as error:
            raise ManifestError(tr("Không tới được cổng", "The gateway cannot be reached") + f": {error}") from None
