"""The manifest of an adapter: which services it serves, with schemas, mode, effect and deadline.

As a file it is YAML with paths to schemas; as `PUT /v1/adapters/{id}` takes it, it is JSON with the schemas in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator


class ManifestError(ValueError):
    """The manifest cannot be used; the message names the file, the field and what to do."""


class Bilingual(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    vi: Annotated[str, Field(min_length=1, max_length=2000)]
    en: Annotated[str, Field(min_length=1, max_length=2000)]


class ServiceManifest(BaseModel):
    """One service as the adapter's author declares it. `deadline_s`: how long a call or submission may wait."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    service: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=64)]
    version: Annotated[str, Field(pattern=r"^v[1-9]\d{0,3}$")]
    mode: Literal["query", "submission"]
    effect: Literal["transactional", "idempotent", "uncertain"]
    deadline_s: Annotated[float, Field(gt=0, le=86_400 * 90)]
    max_body_bytes: Annotated[int, Field(ge=2, le=16 << 20)]
    title: Bilingual
    description: Bilingual
    request_schema: dict[str, Any]
    reply_schema: dict[str, Any]
    examples: list[dict[str, Any]] = []
    subjects: list[str] = []
    officer_required: bool = False


class Manifest(BaseModel):
    """An adapter. `database_url_env` names the variable that holds the provider's database; never a value."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    provider: Annotated[str, Field(pattern=r"^[A-Z]\d{2}(\.[0-9A-Z]+)*$", max_length=35)]
    services: Annotated[list[ServiceManifest], Field(min_length=1, max_length=200)]
    database_url_env: Annotated[str | None, Field(pattern=r"^[A-Z][A-Z0-9_]+$")] = None

    @field_validator("services")
    @classmethod
    def _each_once(cls, services: list[ServiceManifest]) -> list[ServiceManifest]:
        names = [f"{service.service}/{service.version}" for service in services]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name} is declared twice")
        return services

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read `path` and the schemas and examples it points to. ManifestError with the place and the remedy."""
        document = _read_yaml(path)
        services = document.get("services")
        if not isinstance(services, list):
            raise ManifestError(
                f"{path}: «services» must be a list – thêm danh sách dịch vụ / add the list of services"
            )
        for index, service in enumerate(services):
            if not isinstance(service, dict):
                raise ManifestError(f"{path}: services[{index}] must be a mapping")
            for name in ("request_schema", "reply_schema"):
                if isinstance(service.get(name), str):
                    service[name] = _read_json(path, f"services[{index}].{name}", service[name])
            if isinstance(service.get("examples"), str):
                service["examples"] = _read_examples(path, f"services[{index}].examples", service["examples"])
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(step) for step in first["loc"])
            raise ManifestError(f"{path}: {place}: {first['msg']}") from None

    def registration(self) -> dict[str, Any]:
        """The JSON that `PUT /v1/adapters/{id}` takes: what concerns only the adapter's own process stays out."""
        return self.model_dump(mode="json", exclude={"database_url_env"})


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ManifestError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise ManifestError(f"{path}: a manifest is a mapping of names to values")
    return document


def _read_json(manifest: Path, place: str, relative: str) -> dict[str, Any]:
    path = manifest.parent / relative
    try:
        document = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise ManifestError(f"{manifest}: {place}: {path}: {error}") from error
    if not isinstance(document, dict):
        raise ManifestError(f"{manifest}: {place}: {path} must hold a JSON object")
    return document


def _read_examples(manifest: Path, place: str, relative: str) -> list[dict[str, Any]]:
    folder = manifest.parent / relative
    if not folder.is_dir():
        raise ManifestError(f"{manifest}: {place}: {folder} is not a folder")
    return [_read_json(manifest, place, str(Path(relative) / path.name)) for path in sorted(folder.glob("*.json"))]
