"""Which answer of a back end is a reply, and which is one of the four ways not to give one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ngsp.adapter.models import Part
from ngsp.mapping import Expression, Root, Template

Kind = Literal["ok", "not-found", "refused", "failed", "retry", "unknown"]
"""`retry`: nothing was done, ask again; `unknown`: it may have been done."""


class Rule(Part):
    """The first whose `when` is true decides. `code`: the provider's own, shown to the caller; a template."""

    when: Expression
    outcome: Kind
    code: Annotated[Template, Field(default_factory=lambda: Template(lambda root: "", frozenset()))]


def decide(rules: tuple[Rule, ...], root: Root) -> tuple[Kind, str] | None:
    """Outcome and code by the first rule that fits; None where none does."""
    for rule in rules:
        if rule.when(root) not in (None, False, "", [], {}):
            return rule.outcome, rule.code(root)
    return None
