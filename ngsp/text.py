"""User-facing text: always both languages, so that a missing one is a type error and not a surprise.

Vietnamese is the default language of the house; English is the other.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

Language = Literal["vi", "en"]
LANGUAGES: tuple[Language, ...] = ("vi", "en")


@dataclass(frozen=True, slots=True)
class Text:
    """One text in Vietnamese (`vi`) and English (`en`); `{name}` places are filled by `format`."""

    vi: str
    en: str

    def in_(self, language: Language) -> str:
        return self.vi if language == "vi" else self.en

    def format(self, **values: object) -> Text:
        return Text(vi=self.vi.format(**values), en=self.en.format(**values))


class Wrong(ValueError):
    """What is wrong with a value that somebody declared, and what to do; inside a pydantic validator, its finding.

    `path`: where in the value it is.
    """

    def __init__(self, text: Text, path: tuple[str, ...] = ()) -> None:
        super().__init__(text.en)
        self.text = text
        self.path = path


def language_of(accept_language: str | None) -> Language:
    """The language an `Accept-Language` header asks for (RFC 9110 §12.5.4): `en` only where it outranks `vi`."""
    if not accept_language:
        return "vi"
    weights: dict[str, float] = {}
    for part in accept_language[:200].split(","):
        tag, _, parameters = part.strip().partition(";")
        primary = tag.split("-")[0].strip().lower()
        quality = parameters.strip().removeprefix("q=")
        try:
            weight = float(quality) if quality else 1.0
        except ValueError:
            weight = 0.0
        weights[primary] = max(weight, weights.get(primary, 0.0))
    return "en" if weights.get("en", 0.0) > weights.get("vi", 0.0) else "vi"


def language_of_terminal() -> Language:
    """The language of the command line: `NGSP_LANGUAGE`, else Vietnamese unless the locale is English."""
    chosen = os.environ.get("NGSP_LANGUAGE") or os.environ.get("LC_ALL") or os.environ.get("LANG") or "vi"
    return "en" if chosen.lower().startswith("en") else "vi"


def tr(vi: str, en: str) -> str:
    """The command line's text in the terminal's language."""
    return Text(vi=vi, en=en).in_(language_of_terminal())
