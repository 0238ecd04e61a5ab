"""What a complex type holds, made flat: its elements by name, at whatever depth of sequences, choices and groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zeep import xsd

TEXT = "_value_1"
"""The text of an element that has attributes; zeep's name for it, too."""


@dataclass(frozen=True, slots=True)
class Field:
    """An element within a complex type. `most` None: without end. `woven`: within a group that may come several times,
    so that its place among the others is lost."""

    name: str
    tag: str
    element: Any
    least: int
    most: int | None
    woven: bool = False

    @property
    def many(self) -> bool:
        return self.most != 1


@dataclass(frozen=True, slots=True)
class Content:
    """What a complex type holds. `text`: the type of its text, where it has no elements; `open`: whatever else."""

    fields: tuple[Field, ...]
    attributes: tuple[tuple[str, Any], ...]
    text: Any = None
    open: bool = False

    def names(self) -> Iterator[str]:
        """The members of an object of this type."""
        yield from (field.name for field in self.fields)
        yield from (name for name, _ in self.attributes)
        if self.text is not None:
            yield TEXT


def content_of(type_: Any) -> Content:
    """The content of a `zeep.xsd.ComplexType`."""
    attributes = tuple(
        (name, attribute) for name, attribute in type_.attributes if isinstance(attribute, xsd.Attribute)
    )
    fields: dict[str, Field] = {}
    open_ = False
    for _, inner in type_.elements_nested:
        if isinstance(inner, xsd.Element) and isinstance(inner.type, xsd.AnySimpleType):
            return Content((), attributes, inner.type)
        for found in _flat(inner, optional=False, woven=False):
            if found is None:
                open_ = True
            else:
                before = fields.get(found.name)
                fields[found.name] = found if before is None else _merged(before, found)
    return Content(tuple(fields.values()), attributes, open=open_)


def _merged(one: Field, other: Field) -> Field:
    """The same name at two places: of a choice, or before and after another."""
    most = 1 if one.least == other.least == 0 and one.most == other.most == 1 else None
    return Field(one.name, one.tag, one.element, min(one.least, other.least), most, one.woven or other.woven)


def _flat(inner: Any, optional: bool, woven: bool) -> Iterator[Field | None]:
    """The elements within an indicator, at whatever depth; None for xs:any."""
    if isinstance(inner, xsd.Any):
        yield None
        return
    if isinstance(inner, xsd.Element):
        most = None if inner.max_occurs == "unbounded" or woven else int(inner.max_occurs)
        least = 0 if optional else int(inner.min_occurs)
        yield Field(inner.qname.localname, inner.qname.text, inner, least, most, woven)
        return
    optional = optional or inner.is_optional or isinstance(inner, xsd.Choice)
    below = [inner.child] if isinstance(inner, xsd.Group) else list(inner)
    woven = woven or (inner.accepts_multiple and (len(below) > 1 or not isinstance(below[0], xsd.Element)))
    for each in below:
        for found in _flat(each, optional, woven):
            yield _repeated(found, inner) if found is not None and inner.accepts_multiple and not woven else found


def _repeated(field: Field, indicator: Any) -> Field:
    """A group of one element that may come several times is that element, several times."""
    return Field(field.name, field.tag, field.element, field.least, None)


def shape_of(type_: Any, within: frozenset[int] = frozenset()) -> str:
    """The members of an object of this type, and theirs: `{HoTen, Con[]: {Ten, NgaySinh?}}`; empty for a plain value.

    `within`: the types it stands in; of one that holds itself the members are shown once.
    """
    if not isinstance(type_, xsd.ComplexType):
        return ""
    if id(type_) in within:
        return "…"
    content = content_of(type_)
    members = [_member(field, within | {id(type_)}) for field in content.fields]
    members += [name if attribute.required else f"{name}?" for name, attribute in content.attributes]
    members += [TEXT] if content.text is not None else []
    return f"{{{', '.join(members + ['…'] * content.open)}}}"


def _member(field: Field, within: frozenset[int]) -> str:
    name = f"{field.name}{'[]' if field.many else '' if field.least else '?'}"
    below = shape_of(field.element.type, within)
    return f"{name}: {below}" if below else name
