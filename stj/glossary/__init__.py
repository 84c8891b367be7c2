"""What the words of tables and live lines mean: the one source of docs/reading-results.md and `stj explain`."""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from stj.errors import ConfigError

_BRACKETED = re.compile(r"\[.*?\]")
_NEAREST = 3  # words that an error names


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word as a reader meets it."""

    word: str
    text: str
    """Its meaning, in sentences; settings and files stand in backquotes."""
    also: tuple[str, ...] = ()
    """Its other forms."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """The words of one kind of table or line."""

    title: str
    about: str
    words: tuple[Word, ...]


@cache
def sections() -> tuple[Section, ...]:
    """All words, by where a reader meets them."""
    record = yaml.safe_load(files(__package__).joinpath("words.yaml").read_text(encoding="utf-8"))
    return tuple(
        Section(
            title=section["title"],
            about=section["about"],
            words=tuple(Word(**{**word, "also": tuple(word.get("also", ()))}) for word in section["words"]),
        )
        for section in record
    )


def explain(asked: str) -> Word:
    """The word, in any case, with or without hyphens, brackets and percent signs.

    Raises ConfigError, which names the nearest words, if there is none.
    """
    known = _by_form()
    if (found := known.get(_form(asked))) is not None:
        return found
    near = difflib.get_close_matches(_form(asked), known, n=2 * _NEAREST, cutoff=0.5)
    named = list(dict.fromkeys(known[form].word for form in near))[:_NEAREST]
    nearest = f"the nearest are {', '.join(named)}" if named else "`stj explain` alone lists all words"
    raise ConfigError(f"{asked}: no word of a table or a live line; {nearest}")


def _form(text: str) -> str:
    """What is compared: letters, digits and a few signs that are words of their own."""
    kept = re.sub(r"[^a-z0-9$]", "", _BRACKETED.sub("", text).casefold())
    return kept or text.strip()


@cache
def _by_form() -> dict[str, Word]:
    return dict(_forms())


def _forms() -> Iterator[tuple[str, Word]]:
    """The written forms; a word wins over another word's other form."""
    words = [word for section in sections() for word in section.words]
    yield from ((_form(form), word) for word in words for form in word.also)
    yield from ((_form(word.word), word) for word in words)
