"""XML of a schema's types ↔ JSON-like values, compiled once for each type from the schema as zeep has read it.

    element with elements       object; of an element that may come more than once, always a list
    attribute                   a member beside the elements; the text of an element that has attributes: `_value_1`
    xs:boolean, integers        true, false, whole number; floats: number
    all other simple types      text, as it is written: dates, times and decimals, which JSON cannot hold exactly
    xsi:nil                     null; an empty element of a type other than text too
    element that is not there   no member
    what the schema leaves open elements by their local names, texts; a list where one comes more than once

Zeep's own objects are not used: they read an empty text and *nil* alike, give null for a value off its type, and write
that value to the log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lxml import etree
from zeep import xsd

from ngsp.adapter.backends.xsd_content import TEXT, Content, Field, content_of
from ngsp.adapter.backends.xsd_values import TRUE, OffSchema, converter, lexical, plain
from ngsp.text import Text, Wrong

Read = Callable[[Any], Any]
"""An element → its value; OffSchema where it is not of its type."""
Write = Callable[[Any, Any], None]
"""(parent, value): puts the element below `parent`; OffSchema where the value is not of its type."""

_XSI = "{http://www.w3.org/2001/XMLSchema-instance}"
_NIL, _TYPE = f"{_XSI}nil", f"{_XSI}type"


class Codec:
    """Readers and writers for the elements of one schema (`zeep.xsd.Schema`)."""

    def __init__(self, schema: Any) -> None:
        self._readers: dict[int, Read] = {}
        self._writers: dict[int, Write] = {}
        # All that xsi:type may name, now: messages are read in threads too.
        named = [type_ for type_ in schema.types if type_.qname is not None]
        self._types = {type_.qname.text: self._type_reader(type_) for type_ in named}

    def reader(self, element: Any) -> Read:
        """Of `element` (`zeep.xsd.Element`): its text and elements, or null where it is nil."""
        declared = self._type_reader(element.type)

        def read(node: Any) -> Any:
            if node.attrib:
                if node.get(_NIL) in TRUE:
                    return None
                if _TYPE in node.attrib:
                    return self._derived(node, declared)(node)
            return declared(node)

        return read

    def writer(self, element: Any) -> Write:
        tag, write_type = element.qname.text, self._type_writer(element.type)

        def write(parent: Any, value: Any) -> None:
            write_type(etree.SubElement(parent, tag), value)

        return write

    def _derived(self, node: Any, declared: Read) -> Read:
        """The reader of the type that `xsi:type` names, or of the declared one where the schema knows none."""
        prefix, _, name = node.get(_TYPE).strip().rpartition(":")
        return self._types.get(f"{{{node.nsmap.get(prefix or None)}}}{name}", declared)

    def _type_reader(self, type_: Any) -> Read:
        key = id(type_)
        if key not in self._readers:

            def made(node: Any) -> Any:
                return self._readers[key](node)

            self._readers[key] = made  # for a type that holds itself
            self._readers[key] = self._made_reader(type_)
        return self._readers[key]

    def _made_reader(self, type_: Any) -> Read:
        if isinstance(type_, xsd.ComplexType):
            content = content_of(type_)
            return _text_reader(content) if content.text is not None else self._object_reader(content)
        if isinstance(type_, xsd.AnySimpleType):
            return _simple_reader(type_)
        return untyped

    def _object_reader(self, content: Content) -> Read:
        found_by = {field.tag: (field, self.reader(field.element)) for field in content.fields}
        # Servers that qualify local elements where the schema does not, or the other way round, are common.
        unqualified = {etree.QName(tag).localname: known for tag, known in found_by.items()}
        attributes = _attribute_reader(content) if content.attributes else None
        fields, open_ = content.fields, content.open

        def read(node: Any) -> Any:
            found: dict[str, Any] = {}
            extra: dict[str, list[Any]] = {}
            for child in node:
                known = found_by.get(child.tag) or _loosely(child, unqualified)
                if known is not None:
                    field, read_child = known
                    if field.many:
                        found.setdefault(field.name, []).append(read_child(child))
                    elif field.name in found:
                        raise OffSchema("an element comes twice")
                    else:
                        found[field.name] = read_child(child)
                elif open_:
                    extra.setdefault(etree.QName(child).localname, []).append(untyped(child))
            value = {name: given[0] if len(given) == 1 else given for name, given in extra.items()}
            for field in fields:
                if field.name in found:
                    value[field.name] = found[field.name]
                elif field.least:
                    raise OffSchema("an element is missing")
                elif field.many:
                    value[field.name] = []
            return value | attributes(node) if attributes else value

        return read

    def _type_writer(self, type_: Any) -> Write:
        key = id(type_)
        if key not in self._writers:

            def made(node: Any, value: Any) -> None:
                self._writers[key](node, value)

            self._writers[key] = made
            self._writers[key] = self._made_writer(type_)
        return self._writers[key]

    def _made_writer(self, type_: Any) -> Write:
        """Of the content of an element that is there already."""
        if not isinstance(type_, xsd.ComplexType):
            written = lexical(type_)

            def write_simple(node: Any, value: Any) -> None:
                node.text = written(value)

            return write_simple
        content = content_of(type_)
        names = frozenset(content.names())
        text = None if content.text is None else lexical(content.text)
        attributes = [(name, attribute, lexical(attribute.type)) for name, attribute in content.attributes]
        fields = [(field, self.writer(field.element)) for field in content.fields if not field.woven]

        def write(node: Any, value: Any) -> None:
            if text is not None and not isinstance(value, dict):
                value = {TEXT: value}
            if not isinstance(value, dict) or not value.keys() <= names:
                raise OffSchema("not an object of this type")
            if text is not None and value.get(TEXT) is not None:
                node.text = text(value[TEXT])
            for name, attribute, written in attributes:
                if value.get(name) is not None:
                    node.set(attribute.qname.text, written(value[name]))
                elif attribute.required:
                    raise OffSchema("an attribute is missing")
            for field, write_field in fields:
                _write_field(node, field, write_field, value.get(field.name))

        return write

    def check(self, type_: Any, shape: Any, path: tuple[str, ...]) -> None:
        """`Wrong` where `shape`, an object of expressions as a manifest has it at `path`, gives no value of `type_`."""
        if not isinstance(shape, dict):
            return
        content = content_of(type_) if isinstance(type_, xsd.ComplexType) else Content((), ())
        known = list(content.names())
        for name, below in shape.items():
            if name not in known:
                there = ", ".join(known) or "–"
                text = Text(f"WSDL không có «{name}» ở đây: có {there}.", f"The WSDL has no '{name}' here: {there}.")
                raise Wrong(text, (*path, name))
            for field in content.fields:
                if field.name == name and field.woven:
                    raise Wrong(_WOVEN, (*path, name))
                if field.name == name:
                    self.check(field.element.type, below, (*path, name))
        for field in content.fields:
            if field.least and not field.element.nillable and field.name not in shape:
                text = Text(
                    f"Thiếu «{field.name}» mà WSDL yêu cầu.", f"'{field.name}' is missing: the WSDL requires it."
                )
                raise Wrong(text, path)


_WOVEN = Text(
    "Phần tử thuộc một nhóm lặp lại trong WSDL, bản khai không ghi được: hãy viết bộ kết nối Python.",
    "The element is within a group that the WSDL repeats, which no manifest can write: use a Python adapter.",
)


def _write_field(node: Any, field: Field, write: Write, value: Any) -> None:
    values = value if field.many and isinstance(value, list) else [] if value is None else [value]
    if not values and field.least:
        if not field.element.nillable:
            raise OffSchema("an element is missing")
        etree.SubElement(node, field.tag).set(_NIL, "true")
        return
    if values and not field.least <= len(values) <= (field.most or len(values)):
        raise OffSchema("too few elements, or too many")
    for each in values:
        if each is not None:
            write(node, each)
        elif field.element.nillable:
            etree.SubElement(node, field.tag).set(_NIL, "true")
        else:
            raise OffSchema("null in a list")


def _loosely(child: Any, unqualified: dict[str, tuple[Field, Read]]) -> tuple[Field, Read] | None:
    """The field of that name, where either it or the element has no namespace."""
    name = etree.QName(child)
    known = unqualified.get(name.localname)
    if known is None or (name.namespace and known[0].tag.startswith("{")):
        return None
    return known


def _text_of(node: Any) -> str:
    if len(node):
        raise OffSchema("elements where a text must stand")
    return node.text or ""


def _simple_reader(type_: Any) -> Read:
    convert = converter(type_)
    return lambda node: convert(_text_of(node))


def _text_reader(content: Content) -> Read:
    convert, attributes = converter(content.text), _attribute_reader(content)
    return lambda node: {TEXT: convert(_text_of(node))} | attributes(node)


def _attribute_reader(content: Content) -> Callable[[Any], dict[str, Any]]:
    known = [(attribute.qname.text, name, converter(attribute.type)) for name, attribute in content.attributes]
    return lambda node: {name: convert(node.get(tag)) for tag, name, convert in known if tag in node.attrib}


def untyped(node: Any) -> Any:
    """An element of no known type: its text, or an object of its elements by local name."""
    if node.get(_NIL) in TRUE:
        return None
    if not len(node):
        return node.text or ""
    found: dict[str, list[Any]] = {}
    for child in node:
        found.setdefault(etree.QName(child).localname, []).append(untyped(child))
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def untyped_writer(tag: str) -> Write:
    """Puts an element that no schema describes: members become elements of its namespace, null none, a list several."""
    name = etree.QName(tag)

    def write(parent: Any, value: Any) -> None:
        _put_untyped(etree.SubElement(parent, name), name.namespace, value)

    return write


def _put_untyped(node: Any, namespace: str | None, value: Any) -> None:
    if not isinstance(value, dict):
        node.text = "" if value is None else plain(value)
        return
    for name, below in value.items():
        for each in below if isinstance(below, list) else [below]:
            if each is not None:
                _put_untyped(etree.SubElement(node, etree.QName(namespace, name)), namespace, each)
