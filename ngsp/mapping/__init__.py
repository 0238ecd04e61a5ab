"""Expressions in what people declare: JMESPath (jmespath.org) with functions of ours, compiled once, when it is read.

`Expression` is one; `Shape` an object of them, as YAML nests them; `Template` a text with expressions in braces. They
are types for pydantic models: `model_validate(…, context=Scope(…))` compiles, and what is wrong is refused there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from ngsp.mapping.compiler import BROKEN, Evaluate, check_names, closure, parse
from ngsp.mapping.compiler import MappingError as MappingError
from ngsp.text import Text, Wrong

Root = dict[str, Any]


@dataclass(frozen=True)
class Scope:
    """What an expression may name: the members of the root, and tables for `lookup`."""

    names: tuple[str, ...]
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class _Compiled:
    """`reads`: the members of the root that it looks at."""

    __slots__ = ("_evaluate", "reads")

    def __init__(self, evaluate: Evaluate, reads: frozenset[str]) -> None:
        self._evaluate, self.reads = evaluate, reads

    def __call__(self, root: Root) -> Any:
        """The value for this root; MappingError where a function cannot take what it is given."""
        try:
            return self._evaluate(root)
        except BROKEN as error:
            raise MappingError(type(error).__name__) from None

    @classmethod
    def compile(cls, value: Any, scope: Scope) -> Self:
        """`Wrong` with the place and the remedy where it cannot be compiled."""
        raise NotImplementedError

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def validated(value: Any, info: core_schema.ValidationInfo) -> _Compiled:
            if not isinstance(info.context, Scope):
                raise TypeError("expressions are validated with a Scope")
            return cls.compile(value, info.context)

        return core_schema.with_info_plain_validator_function(validated)


class Expression(_Compiled):
    """One JMESPath expression."""

    __slots__ = ()

    @classmethod
    def compile(cls, value: Any, scope: Scope) -> Self:
        return cls(*compiled(value, scope))


class Shape(_Compiled):
    """An expression, or an object whose members are shapes; a number, true, false and null stand for themselves."""

    __slots__ = ()

    @classmethod
    def compile(cls, value: Any, scope: Scope) -> Self:
        return cls(*_shape(value, scope))


class Template(_Compiled):
    """A text with expressions in braces: `{body.MA_LOI}`. `literal`: the text without them."""

    __slots__ = ("literal",)

    def __init__(self, evaluate: Evaluate, reads: frozenset[str], literal: str = "") -> None:
        super().__init__(evaluate, reads)
        self.literal = literal

    @classmethod
    def compile(cls, value: Any, scope: Scope) -> Self:
        if not isinstance(value, str):
            raise Wrong(Text("Phải là chữ.", "Must be text."))
        parts: list[str | Evaluate] = []
        reads: set[str] = set()
        for is_expression, text in _parts(value):
            if is_expression:
                evaluate, read = compiled(text, scope)
                parts.append(evaluate)
                reads |= read
            else:
                parts.append(text)

        def filled(root: Root) -> str:
            return "".join(part if isinstance(part, str) else cls.written(part(root)) for part in parts)

        return cls(filled, frozenset(reads), "".join(part for part in parts if isinstance(part, str)))

    @staticmethod
    def written(value: Any) -> str:
        """The text of one value; MappingError for an object, a list or nothing."""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise MappingError("not a text or number")
        return str(value)


class PathTemplate(Template):
    """`/citizens/{payload.SoDinhDanh}`: each value is one percent-encoded segment, never empty, never `..`."""

    __slots__ = ()

    @staticmethod
    def written(value: Any) -> str:
        text = Template.written(value)
        if text in ("", ".", ".."):
            raise MappingError("not a segment of a path")
        return quote(text, safe="")


def compiled(source: Any, scope: Scope) -> tuple[Evaluate, frozenset[str]]:
    """What evaluates `source`, and the members of the root that it reads. `Wrong` where it is no expression."""
    tree = parse(source)
    reads = check_names(tree, scope.names)
    return closure(tree, scope.tables), reads


def _shape(value: Any, scope: Scope) -> tuple[Evaluate, frozenset[str]]:
    if isinstance(value, dict):
        members = {str(name): _member(str(name), below, scope) for name, below in value.items()}
        pairs = [(name, evaluate) for name, (evaluate, _) in members.items()]
        reads = frozenset[str]().union(*(reads for _, reads in members.values()))
        return lambda root: {name: evaluate(root) for name, evaluate in pairs}, reads
    if value is None or isinstance(value, bool | int | float):
        return lambda root: value, frozenset()
    return compiled(value, scope)


def _member(name: str, value: Any, scope: Scope) -> tuple[Evaluate, frozenset[str]]:
    try:
        return _shape(value, scope)
    except Wrong as error:
        raise Wrong(error.text, (name, *error.path)) from None


def _parts(text: str) -> Iterator[tuple[bool, str]]:
    """(whether it is an expression, the text) from left to right. `Wrong` where braces do not match."""
    at = 0
    for opened, closed in _braces(text):
        if opened > at:
            yield False, text[at:opened]
        yield True, text[opened + 1 : closed]
        at = closed + 1
    if at < len(text):
        yield False, text[at:]


_TOKEN = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|`(?:\\.|[^`\\])*`|[{}]""")


def _braces(text: str) -> Iterator[tuple[int, int]]:
    at, depth, opened = 0, 0, 0
    while (opened := text.find("{", at)) >= 0:
        if "}" in text[at:opened]:
            break
        depth, at = 1, opened + 1
        while depth:
            found = _TOKEN.search(text, at)
            if found is None:
                raise _unbalanced()
            at = found.end()
            depth += {"{": 1, "}": -1}.get(found.group(), 0)
        yield opened, at - 1
    if "}" in text[at:]:
        raise _unbalanced()


def _unbalanced() -> Wrong:
    return Wrong(
        Text("Ngoặc nhọn không khớp: hãy viết {biểu_thức}.", "The braces do not match: write {expression}."),
    )
