"""Questions on a terminal, in place of flags that were left out."""

import sys
from collections.abc import Callable
from typing import TypeVar

import typer

from stj.errors import ConfigError, StjError
from stj.text import show

_Seen = TypeVar("_Seen")


def can_ask() -> bool:
    """Whether somebody sits at a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask(flag: str, question: str, given: str | None, look: Callable[[str], _Seen], default: str | None = None) -> _Seen:
    """What `look` sees at the word of a flag. Without the flag the question is asked on a terminal, until an answer is right.

    Where nobody can be asked, the default is taken. Raises ConfigError if there is none, and what `look` raises for a word that
    was not asked for.
    """
    if given is not None or not can_ask():
        word = default if given is None else given
        if word is None:
            raise ConfigError(f"{flag} is missing: {question}. Give the flag; stdin is no terminal to ask at")
        return look(word)
    while True:
        try:
            answer = typer.prompt(question, default=default, err=True, type=str)
        except typer.Abort:
            raise KeyboardInterrupt from None
        try:
            return look(answer.strip())
        except StjError as error:
            show(f"  {error}", sys.stderr)
