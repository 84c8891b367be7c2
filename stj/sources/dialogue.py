"""From whatever a file holds to the turns of a dialogue that asks for an answer."""

from collections.abc import Sequence
from dataclasses import replace

from stj.errors import SourceError
from stj.rows import Row, Turn

_REPLACEMENT = "\ufffd"


class ContentNotText(SourceError):
    """What a turn says is no text: one bad row, where another wrong type means another schema."""


def clean(text: str) -> str:
    """The text with NUL and lone surrogates replaced: neither survives UTF-8, Arrow and every tokenizer."""
    text = text.replace("\0", _REPLACEMENT)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def turns_from(value: object, field: str, where: str) -> tuple[Turn, ...]:
    """The turns up to the last one of the user: a string is one turn, a list holds {role, content}; null is none.

    Other members of a turn (moderation, ip, country) are not looked at. Raises SourceError for any other type, ContentNotText
    where it is that of a turn's content.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        return (Turn(role="user", content=clean(value)),)
    if not isinstance(value, Sequence):
        raise wrong_type(value, field, "a string or a list of {role, content}", where)
    turns = [_turn(member, field, where) for member in value]
    last = max((index for index, turn in enumerate(turns) if turn.role == "user"), default=-1)
    return tuple(turns[: last + 1])


def with_turns(row: Row, value: object, field: str, where: str) -> Row:
    """The row with the turns of `value`, or its tombstone where they are no text or no chat template could show them.

    Raises SourceError as `turns_from` does for values that no row of the schema can have.
    """
    try:
        return usable(replace(row, turns=turns_from(value, field, where)))
    except ContentNotText as error:
        return row.drop("content_not_text", clean(str(error)))  # a file may have any name


def usable(row: Row) -> Row:
    """The row, or its tombstone where no chat template could show its turns."""
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


def wrong_type(value: object, field: str, wanted: str, where: str) -> SourceError:
    """The error for a field whose value is not what its reader needs."""
    return SourceError(f"{where}: field '{field}' is {_shown(value)}; it must be {wanted}")


def _turn(value: object, field: str, where: str) -> Turn:
    if not isinstance(value, dict) or "role" not in value or "content" not in value:
        raise wrong_type(value, f"{field}[]", "an object with role and content", where)
    role, content = optional_text(value["role"], f"{field}[].role", where), value["content"]
    if content is not None and not isinstance(content, str):
        raise ContentNotText(str(wrong_type(content, f"{field}[].content", "a string", where)))
    return Turn(role=role or "", content=clean(content or ""))


def _shown(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
