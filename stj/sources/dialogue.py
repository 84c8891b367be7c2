"""From the values of a file to the turns of a dialogue that asks for an answer."""

import math
from collections.abc import Sequence
from dataclasses import replace

from stj.errors import SourceError
from stj.rows import Row, Turn
from stj.text import without_surrogates
from stj.thoughts import answer_of

NOT_TEXT = "content_not_text"
_REPLACEMENT = "\ufffd"


class ContentNotText(SourceError):
    """A value is neither text nor turns of text: one bad row."""


def clean(text: str) -> str:
    """The text with NUL and lone surrogates replaced: UTF-8, Arrow or some tokenizer would fail on them."""
    return without_surrogates(text.replace("\0", _REPLACEMENT))


def turns_from(value: object, field: str, where: str) -> tuple[Turn, ...]:
    """The turns up to the user's last one. A string is one turn, a list holds {role, content}, and null has no turns.

    An assistant's turn loses its thought, which was never a part of the dialogue. Other members of a turn (moderation, IP
    address, country) are ignored. Raises ContentNotText for any other type.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        return (Turn(role="user", content=clean(value)),)
    if not isinstance(value, Sequence):
        raise _not_text(value, field, "a string or a list of {role, content}", where)
    turns = [_turn(member, field, where) for member in value]
    last = max((index for index, turn in enumerate(turns) if turn.role == "user"), default=-1)
    return tuple(turns[: last + 1])


def with_turns(row: Row, value: object, field: str, where: str) -> Row:
    """The row with the turns of `value`, or its tombstone if they are not text or do not fit a chat template."""
    try:
        return usable(replace(row, turns=turns_from(value, field, where)))
    except ContentNotText as error:
        return row.drop(NOT_TEXT, clean(str(error)))  # a file may have any name


def usable(row: Row) -> Row:
    """The row, or its tombstone if its turns do not fit a chat template."""
    roles = [turn.role for turn in row.turns]
    if "user" not in roles:
        return row.drop("no_user_turn")
    if not all(turn.content.strip() for turn in row.turns):
        return row.drop("empty_turn")
    spoken = roles[1:] if roles[0] == "system" else roles
    if spoken != ["user", "assistant"] * (len(spoken) // 2) + ["user"]:
        return row.drop("turn_order", " ".join(roles))
    return row


def text_of(value: object, field: str, where: str) -> str:
    """A string field, cleaned. Raises SourceError for another type."""
    if not isinstance(value, str):
        raise wrong_type(value, field, "a string", where)
    return clean(value)


def optional_text(value: object, field: str, where: str) -> str | None:
    """A string field that may be null. Raises SourceError for another type."""
    return None if value is None else text_of(value, field, where)


def optional_bool(value: object, field: str, where: str) -> bool | None:
    """A boolean field that may be null. Raises SourceError for another type."""
    if value is None or isinstance(value, bool):
        return value
    raise wrong_type(value, field, "true, false or null", where)


def number_of(value: object, field: str, where: str) -> float:
    """A number, or its digits as CSV holds them. Raises SourceError if the value is not a finite number.

    Python would read "1_0" as ten, as it does in a program.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str) or "_" in str(value):
        raise wrong_type(value, field, "a number", where)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise wrong_type(value, field, "a number", where)
    return number


def wrong_type(value: object, field: str, wanted: str, where: str) -> SourceError:
    """The error for a field whose value has the wrong type."""
    return SourceError(f"{where}: field '{field}' is {_shown(value)}; it must be {wanted}")


def _turn(value: object, field: str, where: str) -> Turn:
    if not isinstance(value, dict) or "role" not in value or "content" not in value:
        raise _not_text(value, f"{field}[]", "an object with role and content", where)
    role, content = (_text_or_none(value[name], f"{field}[].{name}", where) for name in ("role", "content"))
    content = answer_of(content or "") if role == "assistant" else content or ""
    return Turn(role=clean(role or ""), content=clean(content))


def _text_or_none(value: object, field: str, where: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise _not_text(value, field, "a string", where)


def _not_text(value: object, field: str, wanted: str, where: str) -> ContentNotText:
    return ContentNotText(str(wrong_type(value, field, wanted, where)))


def _shown(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
