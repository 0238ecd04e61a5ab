"""JMESPath's syntax tree → one Python closure, made once. `jmespath` parses; its own interpreter is slower.

What an expression means is what `jmespath` 1.1 says: tests compare both over generated expressions and documents. What
can be known before the first document is refused here: names, functions, the number of their arguments, patterns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jmespath
from jmespath import exceptions, functions

from ngsp.mapping.functions import OURS, Ours, Tables
from ngsp.text import Text, Wrong

LONGEST_EXPRESSION = 8_000

Evaluate = Callable[[Any], Any]
Node = Mapping[str, Any]


class MappingError(Exception):
    """The expression cannot be worked out for this value. The value is not in the message."""


BROKEN = (ValueError, TypeError, AttributeError, ArithmeticError, LookupError, RecursionError)
"""What functions raise where they cannot take what they are given; JMESPath's own errors are ValueErrors."""


def parse(source: Any) -> Node:
    """The syntax tree. `Wrong` with the character at which it is none."""
    if not isinstance(source, str) or len(source) > LONGEST_EXPRESSION:
        raise Wrong(Text("Phải là biểu thức JMESPath.", "Must be a JMESPath expression."))
    try:
        tree: Node = jmespath.compile(source).parsed
    except exceptions.ParseError as error:
        at = min(error.lex_position, len(source))
        near = source[at : at + 10]
        raise Wrong(
            Text(
                f"Biểu thức JMESPath sai ở ký tự {at + 1}, «{near}»: hãy sửa cú pháp.",
                f"Not JMESPath at character {at + 1}, '{near}': mend the syntax.",
            )
        ) from None
    except (exceptions.JMESPathError, RecursionError):
        raise Wrong(Text("Phải là biểu thức JMESPath, không trống.", "Must be JMESPath, and not empty.")) from None
    return tree


def check_names(tree: Node, names: Sequence[str]) -> frozenset[str]:
    """The members of the root that `tree` reads. `Wrong` for one that is not among `names`."""
    reads = frozenset(_roots(tree))
    for name in sorted(reads - set(names)):
        known = ", ".join(names)
        raise Wrong(Text(f"Ở đây không có «{name}»: dùng {known}.", f"There is no '{name}' here: use {known}."))
    return reads


_INNER = frozenset(("projection", "value_projection", "filter_projection", "subexpression", "index_expression", "pipe"))
"""Nodes of which only the first child sees what the node itself sees."""


def _roots(node: Node) -> list[str]:
    if node["type"] == "field":
        return [node["value"]]
    if node["type"] in ("expref", "slice"):
        return []
    children = node["children"][:1] if node["type"] in _INNER else node["children"]
    return [name for child in children for name in _roots(child)]


def closure(tree: Node, tables: Tables) -> Evaluate:
    """What evaluates `tree`. `Wrong` where it calls a function that is not there, or not as it wants to be called."""
    return _Compiler(tables).of(tree)


class _Compiler:
    """One method for each kind of node, named as `jmespath` names it."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def of(self, node: Node) -> Evaluate:
        made: Evaluate = getattr(self, f"_{node['type']}")(node)
        return made

    def _all(self, node: Node) -> list[Evaluate]:
        return [self.of(child) for child in node["children"]]

    def _identity(self, node: Node) -> Evaluate:
        return lambda value: value

    _current = _identity

    def _literal(self, node: Node) -> Evaluate:
        literal = node["value"]
        return lambda value: literal

    def _field(self, node: Node) -> Evaluate:
        return _path((node["value"],))

    def _subexpression(self, node: Node) -> Evaluate:
        if all(child["type"] == "field" for child in node["children"]):
            return _path(tuple(child["value"] for child in node["children"]))
        return self._pipe(node)

    def _pipe(self, node: Node) -> Evaluate:
        first, *others = self._all(node)
        if len(others) == 1:
            then = others[0]
            return lambda value: then(first(value))

        def piped(value: Any) -> Any:
            value = first(value)
            for step in others:
                value = step(value)
            return value

        return piped

    _index_expression = _pipe

    def _index(self, node: Node) -> Evaluate:
        at = node["value"]

        def indexed(value: Any) -> Any:
            if isinstance(value, list) and -len(value) <= at < len(value):
                return value[at]
            return None

        return indexed

    def _slice(self, node: Node) -> Evaluate:
        part = slice(*node["children"])
        if part.step == 0:
            raise Wrong(Text("Bước của lát cắt không được là 0.", "A slice's step must not be 0."))
        return lambda value: value[part] if isinstance(value, list) else None

    def _flatten(self, node: Node) -> Evaluate:
        (base,) = self._all(node)

        def flattened(value: Any) -> Any:
            found = base(value)
            if not isinstance(found, list):
                return None
            merged: list[Any] = []
            for element in found:
                if isinstance(element, list):
                    merged.extend(element)
                else:
                    merged.append(element)
            return merged

        return flattened

    def _projection(self, node: Node) -> Evaluate:
        base, each = self._all(node)

        def projected(value: Any) -> Any:
            found = base(value)
            if not isinstance(found, list):
                return None
            return [current for element in found if (current := each(element)) is not None]

        return projected

    def _value_projection(self, node: Node) -> Evaluate:
        base, each = self._all(node)

        def projected(value: Any) -> Any:
            found = base(value)
            if not isinstance(found, dict):
                return None
            return [current for element in found.values() if (current := each(element)) is not None]

        return projected

    def _filter_projection(self, node: Node) -> Evaluate:
        base, each, condition = self._all(node)

        def filtered(value: Any) -> Any:
            found = base(value)
            if not isinstance(found, list):
                return None
            return [
                current
                for element in found
                if not is_false(condition(element)) and (current := each(element)) is not None
            ]

        return filtered

    def _multi_select_dict(self, node: Node) -> Evaluate:
        members = [(child["value"], self.of(child["children"][0])) for child in node["children"]]
        return lambda value: None if value is None else {name: member(value) for name, member in members}

    def _multi_select_list(self, node: Node) -> Evaluate:
        members = self._all(node)
        return lambda value: None if value is None else [member(value) for member in members]

    def _or_expression(self, node: Node) -> Evaluate:
        left, right = self._all(node)

        def either(value: Any) -> Any:
            found = left(value)
            return right(value) if is_false(found) else found

        return either

    def _and_expression(self, node: Node) -> Evaluate:
        left, right = self._all(node)

        def both(value: Any) -> Any:
            found = left(value)
            return found if is_false(found) else right(value)

        return both

    def _not_expression(self, node: Node) -> Evaluate:
        (inner,) = self._all(node)

        def negated(value: Any) -> bool:
            return is_false(inner(value))

        return negated

    def _comparator(self, node: Node) -> Evaluate:
        left, right = self._all(node)
        if node["value"] == "eq":
            return lambda value: equal(left(value), right(value))
        if node["value"] == "ne":
            return lambda value: not equal(left(value), right(value))
        return _ordering(node["value"], left, right)

    def _function_expression(self, node: Node) -> Evaluate:
        name, arguments = node["value"], node["children"]
        if name in OURS:
            return self._ours(OURS[name], name, arguments)
        known = _STANDARD.FUNCTION_TABLE.get(name)
        if known is None:
            names = ", ".join(sorted({*OURS, *_STANDARD.FUNCTION_TABLE}))
            raise Wrong(Text(f"Không có hàm «{name}»: dùng {names}.", f"There is no function '{name}': use {names}."))
        signature = known["signature"]
        endless = bool(signature and signature[-1].get("variadic"))
        _check_number(name, len(arguments), len(signature), None if endless else len(signature))
        return _standard(name, known["function"], signature, [self._argument(child) for child in arguments])

    def _argument(self, node: Node) -> Evaluate:
        if node["type"] != "expref":
            return self.of(node)
        reference = _Expression(self.of(node["children"][0]))
        return lambda value: reference

    def _expref(self, node: Node) -> Evaluate:
        raise Wrong(Text("& chỉ dùng trong đối số của hàm.", "& has its place in a function's arguments only."))

    def _ours(self, ours: Ours, name: str, arguments: Sequence[Node]) -> Evaluate:
        _check_number(name, len(arguments), ours.least, ours.most)
        fixed = ours.fixed
        if fixed is None:
            return _called(ours.function, [self.of(child) for child in arguments])
        literal = arguments[fixed]
        if literal["type"] != "literal" or not isinstance(literal["value"], str):
            raise Wrong(
                Text(
                    f"Đối số {fixed + 1} của {name} phải là chữ trong dấu nháy đơn: {ours.example}.",
                    f"Argument {fixed + 1} of {name} must be a text in single quotes: {ours.example}.",
                )
            )
        prepared = ours.prepare(literal["value"], self._tables)
        others = [self.of(child) for number, child in enumerate(arguments) if number != fixed]
        return _called(lambda *values: ours.function(prepared, *values), others)


def _path(names: tuple[str, ...]) -> Evaluate:
    """`a.b.c`, the most frequent expression by far."""
    if len(names) == 1:
        (only,) = names
        return lambda value: value.get(only) if isinstance(value, dict) else None
    if len(names) == 2:
        first, second = names

        def two(value: Any) -> Any:
            value = value.get(first) if isinstance(value, dict) else None
            return value.get(second) if isinstance(value, dict) else None

        return two

    def found(value: Any) -> Any:
        for name in names:
            if not isinstance(value, dict):
                return None
            value = value.get(name)
        return value

    return found


def _called(function: Callable[..., Any], arguments: list[Evaluate]) -> Evaluate:
    if len(arguments) == 1:
        (only,) = arguments
        return lambda value: function(only(value))
    return lambda value: function(*[argument(value) for argument in arguments])


class _Expression:
    """An expression given to a function; its class's name and its shape are what `jmespath`'s functions expect."""

    def __init__(self, expression: Evaluate) -> None:
        self.expression = expression

    def visit(self, expression: Evaluate, value: Any) -> Any:
        return expression(value)


_STANDARD = functions.Functions()
_TYPES: dict[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
    "string": (str,),
    "number": (float, int),
    "expref": (_Expression,),
}


def _standard(name: str, function: Any, signature: Any, arguments: list[Evaluate]) -> Evaluate:
    """One of JMESPath's own functions, behind a check of types that costs less than the library's."""
    wanted = [_kinds(each["types"]) for each in signature]

    def called(value: Any) -> Any:
        values = [argument(value) for argument in arguments]
        for given, (kinds, items) in zip(values, wanted, strict=False):
            if kinds and type(given) not in kinds:
                raise MappingError(f"{name}: wrong type")
            if items and isinstance(given, list) and not any(all(type(one) in of for one in given) for of in items):
                raise MappingError(f"{name}: wrong type of an item")
        return function(_STANDARD, *values)

    return called


def _kinds(types: Sequence[str]) -> tuple[frozenset[type], list[frozenset[type]]]:
    """The types an argument may have, none for any; and those of a list's items, all of one of them."""
    parts = [kind.partition("-") for kind in types]
    outer = frozenset(kind for name, _, _ in parts for kind in _TYPES[name])
    return outer, [frozenset(_TYPES[item]) for _, _, item in parts if item]


def _check_number(name: str, given: int, least: int, most: int | None) -> None:
    if given < least or (most is not None and given > most):
        wanted = f"{least}" if least == most else f"{least}–{most}" if most else f"{least}+"
        raise Wrong(
            Text(
                f"Hàm {name} cần {wanted} đối số, không phải {given}.", f"{name} takes {wanted} arguments, not {given}"
            )
        )


def is_false(value: Any) -> bool:
    """What JMESPath takes for false: null, false, and an empty text, list or object."""
    return value is None or value is False or (not value and isinstance(value, str | list | dict))


def equal(left: Any, right: Any) -> bool:
    """JSON's equality: 1 is not true, 0 is not false."""
    if isinstance(left, bool) is not isinstance(right, bool):
        return False
    return bool(left == right)


def _ordering(name: str, left: Evaluate, right: Evaluate) -> Evaluate:
    def compared(value: Any) -> Any:
        one, other = left(value), right(value)
        if not (_has_order(one) and _has_order(other)):
            return None
        if name == "lt":
            return one < other
        if name == "lte":
            return one <= other
        return one > other if name == "gt" else one >= other

    return compared


def _has_order(value: Any) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)
