"""A manifest as a file: YAML that names schemas and examples by path, read into one document with its lines.

The registry and the adapter's own process read the same file; what only the process needs is left out of what is
registered.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ngsp.registry.yamlfiles import DocumentError, Source, read_json, read_yaml
from ngsp.text import Text

DEFAULTS: dict[str, Any] = {"mode": "query", "effect": "idempotent", "max_body_bytes": 65_536}
"""Of a service that does not say."""
_OWN = frozenset(("database_url_env", "backend", "tables", "outcomes"))
_OWN_OF_SERVICE = frozenset(("cache_s", "call", "max_in_work", "outcomes", "reply", "source"))


def read_manifest(file: Path) -> Source:
    """The one document of `file`, whole (see `whole`). `DocumentError` with line and remedy where there is none."""
    documents = read_yaml(file)
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise DocumentError(
            file,
            1,
            Text(
                "Cần đúng một tài liệu, là một bảng khóa – giá trị: hãy viết id, provider, services.",
                "Must hold exactly one document that maps names to values: write id, provider, services.",
            ),
        )
    return whole(documents[0])


def whole(source: Source) -> Source:
    """`source` with schemas and examples read in, and with `DEFAULTS`."""
    value = dict(source.value)
    services = value.get("services")
    if not isinstance(services, list):
        raise source.wrong(
            "/services",
            Text("/services: phải là danh sách dịch vụ: hãy thêm.", "/services: must be the list of services: add it."),
        )
    value["services"] = [_service(source, index, service) for index, service in enumerate(services)]
    return Source(source.file, value, source.lines)


def registered(manifest: dict[str, Any]) -> dict[str, Any]:
    """`manifest` as `PUT /v1/adapters/{id}` takes it: without what concerns the adapter's own process only."""
    found = {name: value for name, value in manifest.items() if name not in _OWN}
    found["services"] = [
        {name: value for name, value in service.items() if name not in _OWN_OF_SERVICE}
        for service in manifest["services"]
    ]
    return found


def _service(source: Source, index: int, service: Any) -> dict[str, Any]:
    place = f"/services/{index}"
    if not isinstance(service, dict):
        raise source.wrong(
            place,
            Text(f"{place}: phải là một bảng khóa – giá trị.", f"{place}: must map names to values."),
        )
    if service.get("mode") == "event":
        return _events(source, place, {"max_body_bytes": DEFAULTS["max_body_bytes"], **service})
    found = DEFAULTS | service
    if "schemas" in found:
        _open_folder(source, place, found)
    for name in ("request_schema", "reply_schema"):
        if isinstance(found.get(name), str):
            found[name] = _schema(source, f"{place}/{name}", found[name])
    if isinstance(found.get("examples"), str):
        found["examples"] = _examples(source, f"{place}/examples", found["examples"])
    return found


def _events(source: Source, place: str, found: dict[str, Any]) -> dict[str, Any]:
    """A service of events. `schemas: FOLDER` means FOLDER/events/TYPE.json for each type that has no schema of its own,
    and the examples if there are any; no file there is left over."""
    folder = found.pop("schemas", None)
    if folder is not None and not isinstance(folder, str):
        said = Text("ghi đường dẫn thư mục.", "must be the path of a folder.")
        raise source.wrong(f"{place}/schemas", Text(f"{place}/schemas: {said.vi}", f"{place}/schemas: {said.en}"))
    if isinstance(found.get("events"), dict):
        found["events"] = {
            name: _event(source, f"{place}/events/{name}", folder and f"{folder}/events/{name}.json", event)
            for name, event in found["events"].items()
        }
        if folder:
            _none_left(source, f"{place}/schemas", source.file.parent / folder / "events", found["events"])
    if folder and (source.file.parent / folder / "examples").is_dir():
        found.setdefault("examples", f"{folder}/examples")
    if isinstance(found.get("examples"), str):
        found["examples"] = _examples(source, f"{place}/examples", found["examples"])
    return found


def _event(source: Source, place: str, file: str | None, event: Any) -> Any:
    if not isinstance(event, dict):
        return event
    schema = event.get("schema", file)
    if not isinstance(schema, str):
        return event
    return event | {"schema": _schema(source, f"{place}/schema", schema)}


def _none_left(source: Source, place: str, folder: Path, events: dict[str, Any]) -> None:
    left = sorted(file.name for file in folder.glob("*.json") if file.stem not in events)
    if left:
        raise source.wrong(
            place,
            Text(
                f"{place}: {folder / left[0]}: loại sự kiện này chưa có trong events: hãy thêm, hoặc bỏ tệp.",
                f"{place}: {folder / left[0]}: events has no such type: add it, or drop the file.",
            ),
        )


def _open_folder(source: Source, place: str, service: dict[str, Any]) -> None:
    """`schemas: FOLDER` means request.json and reply.json in it, and the examples if there are any."""
    folder = service.pop("schemas")
    place += "/schemas"
    doubled = sorted({"request_schema", "reply_schema"} & service.keys())
    if not isinstance(folder, str) or doubled:
        raise source.wrong(
            place,
            Text(
                f"{place}: ghi đường dẫn thư mục, không ghi thêm request_schema hay reply_schema.",
                f"{place}: the path of a folder, and neither request_schema nor reply_schema beside it.",
            ),
        )
    for name in ("request", "reply"):
        service[f"{name}_schema"] = _schema(source, place, f"{folder}/{name}.json")
    if (source.file.parent / folder / "examples").is_dir():
        service.setdefault("examples", f"{folder}/examples")


def _schema(source: Source, place: str, relative: str) -> dict[str, Any]:
    found = _json(source, place, relative)
    if not isinstance(found, dict):
        file = source.file.parent / relative
        raise source.wrong(
            place, Text(f"{place}: {file}: phải là đối tượng JSON.", f"{place}: {file}: must hold a JSON object.")
        )
    return found


def _examples(source: Source, place: str, relative: str) -> list[Any]:
    folder = source.file.parent / relative
    if not folder.is_dir():
        raise source.wrong(
            place,
            Text(
                f"{place}: không có thư mục {folder}: hãy tạo, hoặc sửa đường dẫn.",
                f"{place}: there is no folder {folder}: make it, or mend the path.",
            ),
        )
    files = sorted(file.name for file in folder.glob("*.json"))
    return [_json(source, place, str(Path(relative) / file)) for file in files]


def _json(source: Source, place: str, relative: str) -> Any:
    try:
        return read_json(source, place, relative)
    except DocumentError as error:
        text = error.text
        raise source.wrong(place, Text(f"{place}: {text.vi}", f"{place}: {text.en}")) from None
