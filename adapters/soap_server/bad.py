"""Answers that no SOAP server should give, each made from the one that would have been right."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_XML = "text/xml; charset=utf-8"
_DECLARATION = re.compile(rb"^<\?xml[^>]*\?>\s*")
_PAGE = "<!DOCTYPE html><html><title>Bảo trì</title><p>Hệ thống đang bảo trì.</html>".encode()
_LAUGHS = 12
"""Levels of ten: 10¹² letters, were it expanded."""


@dataclass(frozen=True, slots=True)
class Answer:
    body: bytes
    type: str = _XML
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def _with_dtd(envelope: bytes, dtd: str, reference: str) -> bytes:
    """The envelope behind a document type, with an entity in its first field."""
    body = _DECLARATION.sub(b"", envelope)
    first_text = re.sub(rb">[^<>]+<", b">" + reference.encode() + b"<", body, count=1)
    return f'<?xml version="1.0"?><!DOCTYPE e [{dtd}]>'.encode() + first_text


def _bomb(envelope: bytes) -> Answer:
    levels = "".join(f'<!ENTITY b{level} "{f"&b{level - 1};" * 10}">' for level in range(1, _LAUGHS + 1))
    return Answer(_with_dtd(envelope, f'<!ENTITY b0 "ha">{levels}', f"&b{_LAUGHS};"))


def _external(envelope: bytes) -> Answer:
    return Answer(_with_dtd(envelope, '<!ENTITY x SYSTEM "file:///etc/hostname">', "&x;"))


def _deep(envelope: bytes) -> Answer:
    return Answer(envelope.replace(b"Body>", b"Body>" + b"<a>" * 20_000, 1))


ANSWERS: Mapping[str, Callable[[bytes], Answer]] = {
    "overloaded": lambda envelope: Answer(_PAGE, "text/html; charset=utf-8", 503),
    "html": lambda envelope: Answer(_PAGE, "text/html; charset=utf-8"),
    "html-as-xml": lambda envelope: Answer(_PAGE),
    "text": lambda envelope: Answer("Lỗi: không kết nối được CSDL".encode(), "text/plain; charset=utf-8"),
    "empty": lambda envelope: Answer(b""),
    "redirect": lambda envelope: Answer(b"", status=302, headers={"Location": "/elsewhere"}),
    "huge": lambda envelope: Answer(envelope.replace(b"Body>", b"Body>" + b" " * (2 << 20), 1)),
    "truncated": lambda envelope: Answer(envelope[: len(envelope) * 2 // 3]),
    "gzip": lambda envelope: Answer(envelope, headers={"Content_Encoding": "gzip"}),
    "not-utf-8": lambda envelope: Answer(envelope.replace("ễ".encode(), b"\xe3").replace(b"</", b"\xca</", 1)),
    "charset-conflict": lambda envelope: Answer(envelope, "text/xml; charset=ISO-8859-1"),
    "unknown-charset": lambda envelope: Answer(envelope, "text/xml; charset=TCVN3"),
    "utf-16": lambda envelope: Answer(
        _DECLARATION.sub(b'<?xml version="1.0" encoding="utf-16"?>', envelope).decode().encode("utf-16"),
        "text/xml; charset=utf-16",
    ),
    "dtd": lambda envelope: Answer(_with_dtd(envelope, "", "x")),
    "bomb": _bomb,
    "external": _external,
    "deep": _deep,
    "soap-1.2": lambda envelope: Answer(
        envelope.replace(b"http://schemas.xmlsoap.org/soap/envelope/", b"http://www.w3.org/2003/05/soap-envelope")
    ),
    "no-envelope": lambda envelope: Answer(b'<?xml version="1.0"?><KetQua><MaLoi>00</MaLoi></KetQua>'),
    "no-body": lambda envelope: Answer(re.sub(rb"<([\w-]+:Body)>.*</[\w-]+:Body>", rb"<\1/>", envelope, flags=re.S)),
    "other": lambda envelope: Answer(re.sub(rb"SoDinhDanh>\d{12}<", b"SoDinhDanh>999999999999<", envelope)),
    "missing-field": lambda envelope: Answer(re.sub(rb"<(\w+:ThoiDiemTraLoi)>.*?</\1>", b"", envelope)),
}
"""Kind → what is sent in place of an envelope. utf-16: the right answer, in another coding; other: another person's."""
