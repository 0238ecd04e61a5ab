"""A WSDL with the schemas that it imports, read by zeep from files below one folder: nothing is fetched."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import zeep.exceptions
import zeep.settings
import zeep.wsdl
from lxml import etree
from zeep.wsdl.bindings import Soap11Binding, Soap12Binding

from ngsp.adapter.backends.xsd import Codec
from ngsp.adapter.backends.xsd_content import shape_of
from ngsp.text import Text, Wrong

LARGEST_WSDL_BYTES = 8 << 20
"""Of all its files together."""
MOST_FILES = 200
_NO_WSDL = (zeep.exceptions.Error, etree.LxmlError, LookupError, TypeError, ValueError, AttributeError)
"""What zeep raises for a file that is none, or that leaves out what it names."""


class Wsdl:
    """The file at `path`. `Wrong` where it, or a file that it imports, cannot be used.

    `left_out`: what zeep says of parts that are not whole; they are not there.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        settings = zeep.settings.Settings(forbid_dtd=True, forbid_external=True)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                self._document = zeep.wsdl.Document(str(path.absolute()), _Files(folder), settings=settings)
            except Wrong:
                raise
            except zeep.exceptions.ExternalReferenceForbidden as error:
                raise _leads_out(str(error.url)) from None
            except OSError as error:
                raise _unreadable(error.strerror or type(error).__name__) from None
            except _NO_WSDL as error:
                raise _unreadable(str(error)[:200]) from None
        self.left_out = " ".join(str(each.message) for each in told)[:500]
        self.codec = Codec(self._document.types)

    def binding(self, service: str | None, port: str | None) -> Any:
        """The SOAP binding of the port so named, of the first where none is. `Wrong` where there is none."""
        found = {name: binding for name, binding in self._ports(service) if port in (None, name)}
        if not found:
            known = ", ".join(f"{each}/{name}" for each in self._document.services for name, _ in self._ports(each))
            raise Wrong(
                Text(
                    f"WSDL không có cổng SOAP này: có {known or '–'} (service/port). {self.left_out}".strip(),
                    f"The WSDL has no such SOAP port: there is {known or '–'} (service/port). {self.left_out}".strip(),
                )
            )
        return next(iter(found.values()))

    def described(self) -> Iterator[str]:
        """Each operation of each port, its members as a manifest names them: `?` may be missing, `[]` is a list."""
        for service in self._document.services:
            for port, binding in self._ports(service):
                for name, operation in binding.all().items():
                    yield f"{service}/{port}  {name}"
                    blocks = [f"{part}: {shape_of(each.type)}" for part, each in operation.input.header.type.elements]
                    if blocks:
                        yield f"  headers: {{{', '.join(blocks)}}}"
                    for key, message in (("arguments", operation.input), ("body", operation.output)):
                        if message and message.body is not None:
                            yield f"  {key}: {shape_of(message.body.type)}"
        if self.left_out:
            yield f"! {self.left_out}"

    def _ports(self, service: str | None) -> Iterator[tuple[str, Any]]:
        for each in self._document.services.values():
            if service in (None, each.name):
                for name, port in each.ports.items():
                    if isinstance(port.binding, Soap11Binding | Soap12Binding):
                        yield name, port.binding


class _Files:
    """What zeep reads through: files below `folder`, within bounds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._left_bytes, self._left_files = LARGEST_WSDL_BYTES, MOST_FILES

    def load(self, location: str) -> bytes:
        path = Path(location)
        if urlsplit(location).scheme or not path.resolve().is_relative_to(self._folder):
            raise _leads_out(location)
        with path.open("rb") as file:
            content = file.read(self._left_bytes + 1)
        self._left_bytes -= len(content)
        self._left_files -= 1
        if self._left_bytes < 0 or self._left_files < 0:
            raise _unreadable(f"> {LARGEST_WSDL_BYTES >> 20} MiB, > {MOST_FILES} files")
        return content


def _leads_out(location: str) -> Wrong:
    return Wrong(
        Text(
            f"WSDL trỏ ra ngoài thư mục của bản khai ({location}): hãy lưu tệp đó bên cạnh và sửa schemaLocation hoặc "
            "location.",
            f"The WSDL leads out of the manifest's folder ({location}): save that file beside it and mend "
            "schemaLocation or location.",
        )
    )


def _unreadable(reason: str) -> Wrong:
    return Wrong(
        Text(f"WSDL không đọc được ({reason}): hãy sửa tệp.", f"The WSDL cannot be read ({reason}): mend the file.")
    )
