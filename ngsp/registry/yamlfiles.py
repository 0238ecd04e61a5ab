"""YAML → values with their lines, read narrowly: JSON's types only, no aliases, no duplicate keys, nothing guessed.

YAML 1.1 would take `NO` for false, `12:30` for 750 and `2025-07-01` for a date; here these are texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ngsp import strictjson
from ngsp.errors import NgspError
from ngsp.registry.texts import pointer
from ngsp.text import Text, language_of_terminal

LARGEST_FILE_BYTES = 4 << 20
DEEPEST = 32
LARGEST_INTEGER = 2**53

Path_ = tuple[str | int, ...]


class DocumentError(Exception):
    """A declared document cannot be used: where, what is wrong, and what to do."""

    def __init__(self, file: Path, line: int, text: Text) -> None:
        super().__init__(f"{file}:{line}: {text.in_(language_of_terminal())}")
        self.file = file
        self.line = line
        self.text = text


@dataclass(frozen=True, slots=True)
class Source:
    """One YAML document: its value, and the line of every place in it by JSON pointer."""

    file: Path
    value: Any
    lines: dict[str, int]

    def line_of(self, place: str) -> int:
        """The line of `place`, or of the nearest thing around it that stands in this file."""
        while place not in self.lines:
            place = place.rpartition("/")[0]
        return self.lines[place]

    def wrong(self, place: str, text: Text) -> DocumentError:
        return DocumentError(self.file, self.line_of(place), text)


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the types of JSON."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own convention
    depth = 0

    def peeked(self) -> yaml.Event:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        return event

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise _Narrow(
                self.peeked().start_mark,
                Text("Không dùng được bí danh (*) của YAML: hãy viết ra đầy đủ.", "No YAML aliases (*): write it out."),
            )
        if self.depth >= DEEPEST:
            raise _Narrow(
                self.peeked().start_mark,
                Text(f"Lồng quá {DEEPEST} cấp: hãy giảm bớt.", f"Nested more than {DEEPEST} levels: make it flatter."),
            )
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _Narrow(Exception):
    def __init__(self, mark: Any, text: Text) -> None:
        super().__init__(text.en)
        self.line = mark.line + 1
        self.text = text


_TAG = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)$")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$")
for _name, _pattern, _firsts in (
    ("null", re.compile(r"(?:null|~|)$"), ["n", "~", ""]),
    ("bool", re.compile(r"(?:true|false)$"), ["t", "f"]),
    ("int", _INTEGER, list("-+0123456789")),
    ("float", _FLOAT, list("-+0123456789")),
):
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, _firsts)


def read_yaml(file: Path) -> list[Source]:
    """The documents of `file`, those that are empty left out. `DocumentError` with the line where it cannot be read."""
    loader = None
    try:
        text = _read(file).decode("utf-8")
        loader = _Loader(text)
        found = []
        while loader.check_node():
            node = loader.get_node()
            lines: dict[str, int] = {}
            value = _value(node, (), lines) if node is not None else None
            if value is not None:
                found.append(Source(file, value, lines))
    except UnicodeDecodeError as error:
        raise DocumentError(file, 1, Text("Tệp phải mã hóa UTF-8.", "The file must be UTF-8.")) from error
    except _Narrow as error:
        raise DocumentError(file, error.line, error.text) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or type(error).__name__
        raise DocumentError(
            file,
            mark.line + 1 if mark else 1,
            Text(
                f"Không phải YAML hợp lệ ({problem}): hãy sửa cú pháp.", f"Not valid YAML ({problem}): mend the syntax."
            ),
        ) from error
    finally:
        if loader is not None:
            loader.dispose()
    return found


def read_json(source: Source, place: str, relative: str) -> Any:
    """The JSON file that `source` names at `place`, relative to itself, read as strictly as a request."""
    file = source.file.parent / relative
    try:
        return strictjson.parse(_read(file))
    except NgspError as error:
        cause = error.detail or error.text().cause
        raise source.wrong(place, Text(vi=f"{file}: {cause.vi}", en=f"{file}: {cause.en}")) from error
    except DocumentError as error:
        raise source.wrong(place, Text(vi=f"{file}: {error.text.vi}", en=f"{file}: {error.text.en}")) from error


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > LARGEST_FILE_BYTES:
            raise DocumentError(file, 1, Text("Tệp lớn hơn 4 MiB: hãy chia nhỏ.", "Larger than 4 MiB: split it."))
        return file.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DocumentError(
            file, 1, Text(f"Không đọc được tệp ({reason}).", f"The file cannot be read ({reason}).")
        ) from error


def _value(node: yaml.Node, at: Path_, lines: dict[str, int]) -> Any:
    lines[pointer(at)] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        found: dict[str, Any] = {}
        for key, below, mark in _pairs(node):
            if key in found:
                raise _Narrow(below.start_mark, Text(f"Khóa «{key}» bị lặp: hãy bỏ một.", f"'{key}' twice: drop one."))
            found[key] = _value(below, (*at, key), lines)
            lines[pointer((*at, key))] = mark.line + 1  # of the key, which may stand above a block
        return found
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        return [_value(below, (*at, index), lines) for index, below in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    raise _unknown(node)


def _pairs(node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node, Any]]:
    for key, below in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag != _TAG + "str":
            raise _Narrow(
                key.start_mark,
                Text("Khóa phải là chữ: hãy đặt trong dấu nháy.", "A key must be text: put it in quotes."),
            )
        yield key.value, below, key.start_mark


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    if node.tag == _TAG + "str":
        return text
    if node.tag == _TAG + "null":
        return None
    if node.tag == _TAG + "bool" and text in ("true", "false"):
        return text == "true"
    if node.tag == _TAG + "int" and _INTEGER.match(text):
        if len(text) > 20 or abs(int(text)) > LARGEST_INTEGER:
            raise _Narrow(node.start_mark, Text("Số nguyên vượt quá ±2^53.", "An integer beyond ±2^53."))
        return int(text)
    if node.tag == _TAG + "float" and _FLOAT.match(text) and abs(float(text)) != float("inf"):
        return float(text)
    raise _unknown(node)


def _unknown(node: yaml.Node) -> _Narrow:
    return _Narrow(
        node.start_mark,
        Text(
            "Kiểu YAML này không dùng ở đây: chỉ dùng kiểu của JSON.", "This YAML type has no place here: use JSON's."
        ),
    )
