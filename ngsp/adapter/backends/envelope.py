"""SOAP envelopes as bytes: parsed as what a stranger sent, faults read, requests written."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable
from typing import Any

from lxml import etree

from ngsp.adapter.backends.xsd import untyped
from ngsp.adapter.definition import Failed

SOAP_11 = "http://schemas.xmlsoap.org/soap/envelope/"
SOAP_12 = "http://www.w3.org/2003/05/soap-envelope"

_MEDIA_TYPES = frozenset(("text/xml", "application/xml", "application/soap+xml"))
_DECLARED = re.compile(rb"""\A(?:\xef\xbb\xbf)?<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_CODE = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,39}")


def parsed(content: bytes, content_type: str) -> Any:
    """The document element of an answer.

    Failed where it is not XML, or has a document type (no SOAP message has one: SOAP 1.1 §3), or where the HTTP header
    and the XML declaration contradict each other: a text read in the wrong coding is a wrong name. Entities are never
    expanded, and nothing outside is ever looked at.
    """
    media_type, _, parameters = content_type.partition(";")
    if media_type.strip().lower() not in _MEDIA_TYPES:
        raise Failed("backend-not-xml")
    coding = _coding(content, parameters)
    try:
        parser = etree.XMLParser(
            encoding=coding,
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
            remove_comments=True,
            remove_pis=True,
        )
        root = etree.fromstring(content, parser)
    except LookupError:
        raise Failed("backend-charset") from None
    except (etree.XMLSyntaxError, ValueError):
        raise Failed("backend-not-xml") from None
    if root.getroottree().docinfo.doctype:
        raise Failed("backend-xml-dtd")
    return root


def _coding(content: bytes, parameters: str) -> str | None:
    """The coding that the HTTP header names; None where it names none. Failed where it is not the document's own."""
    named = ""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            named = value.strip().strip("\"'")
    if not named:
        return None
    declared = _DECLARED.match(content)
    try:
        coding = codecs.lookup(named).name
        if declared and codecs.lookup(declared[1].decode("ascii")).name != coding:
            raise Failed("backend-charset")
    except LookupError:
        raise Failed("backend-charset") from None
    return named


def body_of(root: Any, soap: str) -> Any:
    """The first element within the body, None for an empty one. Failed where it is no envelope of this SOAP version."""
    body = root.find(f"{{{soap}}}Body") if root.tag == f"{{{soap}}}Envelope" else None
    if body is None:
        raise Failed("backend-not-soap")
    return body[0] if len(body) else None


def fault_in(node: Any, soap: str) -> dict[str, Any] | None:
    """`code` (local name), `subcodes`, `string`, `actor`, `detail` of a fault; None where `node` is none."""
    if node is None or node.tag != f"{{{soap}}}Fault":
        return None
    if soap == SOAP_11:
        codes = [node.findtext("faultcode")]
        string, actor, detail = node.findtext("faultstring"), node.findtext("faultactor"), node.find("detail")
    else:
        codes = [value.text for value in node.iterfind(f"{{{soap}}}Code//{{{soap}}}Value")]
        string = node.findtext(f"{{{soap}}}Reason/{{{soap}}}Text")
        actor, detail = node.findtext(f"{{{soap}}}Role"), node.find(f"{{{soap}}}Detail")
    local = [_local(code) for code in codes] or [""]
    return {
        "code": local[0],
        "subcodes": local[1:],
        "string": string or "",
        "actor": actor or "",
        "detail": None if detail is None else untyped(detail),
    }


def _local(code: str | None) -> str:
    """The local name of a fault's code: a qualified name, as it is written."""
    name = (code or "").strip().rpartition(":")[2]
    return name if _CODE.fullmatch(name) else ""


def envelope(soap: str, blocks: Iterable[Callable[[Any], None]], body: Callable[[Any], None]) -> Any:
    """An envelope: each of `blocks` puts something below its header, `body` below its body."""
    root = etree.Element(f"{{{soap}}}Envelope", nsmap={"soap": soap})
    header = etree.SubElement(root, f"{{{soap}}}Header")
    for block in blocks:
        block(header)
    body(etree.SubElement(root, f"{{{soap}}}Body"))
    return root


def written(root: Any) -> bytes:
    return bytes(etree.tostring(root, encoding="utf-8", xml_declaration=True))
