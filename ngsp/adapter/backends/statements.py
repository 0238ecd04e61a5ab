"""SQL statements of a manifest: parameters are bound, never written into the text; what could be is refused at load."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import PlainValidator
from sqlalchemy import TextClause, text

from ngsp.text import Text, Wrong

LONGEST_STATEMENT = 20_000
READING = ("SELECT", "WITH", "VALUES", "TABLE", "CALL")
WRITING = (*READING, "INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE")

_QUOTED = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`""")
"""A doubled quote inside a quoted text is two texts side by side to this, which does no harm."""
_NAME = re.compile(r"(?<![:\w\\]):(\w+)")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_REFUSED = (
    (
        re.compile(r"[{}]|%\(\w*\)|'%[sdr]'"),
        Text(
            "Không ghép giá trị vào câu lệnh: viết :tên rồi ghi tên ở parameters.",
            "No value is put into a statement's text: write :name, and the name under parameters.",
        ),
    ),
    (
        re.compile(r"\\(?!:)|\x00"),
        Text(
            "Dấu \\ mỗi hệ quản trị hiểu một kiểu: dùng tham số :tên.",
            "A backslash means another thing to each database: use a parameter, :name.",
        ),
    ),
)
_REFUSED_OUTSIDE = (
    (
        re.compile(r"%[sdr]\b|\?|\$"),
        Text("Tham số viết là :tên.", "A parameter is written :name."),
    ),
    (
        re.compile(r";"),
        Text("Chỉ một câu lệnh, không có dấu ;.", "One statement, without a semicolon."),
    ),
    (
        re.compile(r"--|/\*|['\"`]"),
        Text(
            "Chú thích ghi bằng # của YAML; dấu nháy phải khớp.",
            "Comments belong to YAML, behind #; quotes must match.",
        ),
    ),
    (
        re.compile(r"::"),
        Text("Đổi kiểu bằng CAST(… AS …).", "Convert with CAST(… AS …)."),
    ),
)


class Statement:
    """`clause`, to be executed with a value for each of `names`. `verb`: its first word."""

    def __init__(self, clause: TextClause, names: frozenset[str], verb: str) -> None:
        self.clause, self.names, self.verb = clause, names, verb


def _statement(value: Any) -> Statement:
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_STATEMENT:
        raise Wrong(Text("Phải là một câu lệnh SQL.", "Must be an SQL statement."))
    outside = _QUOTED.sub("''", value).replace("''", " ")
    for searched, rules in ((value, _REFUSED), (outside, _REFUSED_OUTSIDE)):
        for pattern, remedy in rules:
            if pattern.search(searched):
                raise Wrong(remedy)
    for quoted in _QUOTED.findall(value):
        if found := _NAME.search(quoted):
            raise Wrong(
                Text(
                    f"{found.group()} nằm trong dấu nháy nên không phải tham số: bỏ dấu nháy, hoặc viết \\:.",
                    f"{found.group()} stands in quotes, so it is no parameter: take them off, or write \\:.",
                )
            )
    names = frozenset(_NAME.findall(outside))
    for name in sorted(names):
        if not _PLAIN_NAME.fullmatch(name):
            raise Wrong(
                Text(f":{name}: tên tham số chỉ gồm a-z, số và _.", f":{name}: a name is of a-z, digits and _.")
            )
    verb = value.split(maxsplit=1)[0].upper()
    if verb not in WRITING:
        known = ", ".join(WRITING)
        raise Wrong(Text(f"Phải bắt đầu bằng một trong: {known}.", f"Must begin with one of: {known}."))
    return Statement(text(value.strip()), names, verb)


SqlStatement = Annotated[Statement, PlainValidator(_statement)]
"""The type of a member of a pydantic model that holds a statement."""
