"""A WSDL's messages: a request's XML → a call, what was worked out → XML. Schemas and bindings are read by zeep.

A request is checked against the XSD by libxml2, which shares nothing with zeep: what a client gets wrong is seen here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zeep.wsdl
from lxml import etree
from zeep.helpers import serialize_object
from zeep.xsd.context import XmlParserContext

CLIENT, SERVER = "Client", "Server"
BAD_DATA = "SAI_DU_LIEU"
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Fault(Exception):
    """A soap:Fault. `code`: Client, Server, or a qualified name in Clark's notation; `error`: the detail's MaLoi."""

    def __init__(self, error: str, text: str, code: str = CLIENT) -> None:
        super().__init__(text)
        self.error, self.text, self.code = error, text, code


@dataclass(frozen=True, slots=True)
class Call:
    """One request: its operation, the blocks of its header by name, its body."""

    operation: str
    header: Mapping[str, Any]
    body: Mapping[str, Any]


class Contract:
    """The first port of a WSDL. `schema`: the XSD that describes its messages and the element `LoiNghiepVu`."""

    def __init__(self, wsdl: Path, schema: Path) -> None:
        self.files = {file.name: file.read_bytes() for file in (wsdl, schema)}
        self.wsdl = wsdl.name
        self._schema = etree.XMLSchema(file=str(schema))
        self._document = zeep.wsdl.Document(str(wsdl), _Files())
        (service,) = self._document.services.values()
        self._binding = next(iter(service.ports.values())).binding
        self.envelope = self._binding.nsmap["soap-env"]
        self._by_element = {operation.input.body.qname.text: operation for operation in self._binding.all().values()}
        self._detail = next(
            element for element in self._document.types.elements if element.qname.localname == "LoiNghiepVu"
        )

    def read(self, envelope: Any) -> Call:
        """What is asked. Fault where it is no request of this WSDL."""
        if envelope.tag != f"{{{self.envelope}}}Envelope":
            raise Fault(BAD_DATA, "Không phải phong bì SOAP 1.1", "VersionMismatch")
        body = envelope.find(f"{{{self.envelope}}}Body")
        asked = None if body is None or len(body) != 1 else body[0]
        operation = None if asked is None else self._by_element.get(asked.tag)
        if operation is None:
            raise Fault(BAD_DATA, "Không có thao tác này")
        found = self._valid(operation.input.body, asked)
        header: dict[str, Any] = {}
        for name, element in operation.input.header.type.elements:
            block = envelope.find(f"{{{self.envelope}}}Header/{element.qname.text}")
            if block is None:
                raise Fault(BAD_DATA, "Thiếu tiêu đề")
            header[name] = self._valid(element, block)
        return Call(operation.name, header, found)

    def _valid(self, element: Any, node: Any) -> Any:
        # A copy by itself: a namespace that the envelope declares must not be what makes it valid or not.
        if not self._schema.validate(etree.fromstring(etree.tostring(node, with_tail=False))):
            raise Fault(BAD_DATA, "Dữ liệu không đúng lược đồ")
        context = XmlParserContext(settings=self._document.settings)
        return serialize_object(element.parse(node, self._document.types, context=context), dict)

    def reply(self, operation: str, values: Mapping[str, Any]) -> bytes:
        """The envelope that answers `operation` with `values`."""
        return _written(self._binding.get(operation).output.serialize(**values).content)

    def fault(self, fault: Fault) -> bytes:
        """The envelope of a SOAP 1.1 fault."""
        soap = self.envelope
        envelope = etree.Element(f"{{{soap}}}Envelope", nsmap={"soap": soap})
        node = etree.SubElement(etree.SubElement(envelope, f"{{{soap}}}Body"), f"{{{soap}}}Fault")
        name = etree.QName(fault.code)
        code = etree.SubElement(node, "faultcode", nsmap={"f": name.namespace} if name.namespace else None)
        code.text = f"{'f' if name.namespace else 'soap'}:{name.localname}"
        etree.SubElement(node, "faultstring").text = _NOT_IN_XML.sub("?", fault.text)
        if fault.error:
            detail = etree.SubElement(node, "detail")
            self._detail.render(detail, self._detail(MaLoi=fault.error, MoTa=fault.text))
        return _written(envelope)


class _Files:
    """What zeep reads a WSDL through: files, and nothing from a network."""

    def load(self, location: str) -> bytes:
        return Path(location).read_bytes()


def parsed(content: bytes) -> Any:
    """The document element. Fault where it is not well-formed, or has a DTD."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError:
        raise Fault(BAD_DATA, "Không phải XML") from None
    if root.getroottree().docinfo.doctype:
        raise Fault(BAD_DATA, "Không nhận DTD")
    return root


def _written(envelope: Any) -> bytes:
    return bytes(etree.tostring(envelope, encoding="utf-8", xml_declaration=True))
