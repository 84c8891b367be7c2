"""Characters that a terminal, an encoding or a file may not take."""

import json
import re
import unicodedata
from functools import cache
from typing import TextIO

_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}  # control, format (bidi too), surrogate, private use, line and paragraph ends
_NO_CELL = {"Mn", "Me", "Cf"}  # accents and joiners
_HARMLESS = "\n\t\u200c\u200d"  # Persian and emoji need the joiners.
_NOT_PLAIN = re.compile(r"[^\n -~]")


def without_surrogates(text: str) -> str:
    """The text with each lone surrogate replaced by U+FFFD: UTF-8, Arrow and tokenizers fail on them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def visible(text: str) -> str:
    """The text with the code of every character that a terminal obeys or does not show: ESC becomes `\\x1b`."""
    lines_ended = text.replace("\r\n", "\n")
    return "".join(_code(c) if unicodedata.category(c) in _INVISIBLE and c not in _HARMLESS else c for c in lines_ended)


def visible_line(text: str) -> str:
    """The text, visible, as one line: data cannot end a line and pretend that the next is ours."""
    return visible(text).replace("\n", "\\n")


def shows_something(text: str) -> bool:
    """Whether a reader sees a character; spaces and marks of direction or joining are none."""
    return any(character.isprintable() and not character.isspace() for character in text)


def cells_of(text: str) -> int:
    """The cells of a terminal that a line takes: an East Asian character takes two, and an accent of its own none."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(character: str) -> int:
    if unicodedata.category(character) in _NO_CELL:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def in_ascii(text: str) -> str:
    """The text with the codes of all other characters: `\\u6570\\u636e.jsonl`."""
    return text.encode("ascii", "backslashreplace").decode()


def json_text(value: object, stream: TextIO, *, indent: int | None = None) -> str:
    """A value as JSON for a stream: text of every script as it is written, so that a person can read it.

    What the stream's encoding lacks, and what a terminal obeys or does not show, is a JSON escape.
    """
    return _json_text(value, stream.encoding or "utf-8", indent)


def json_line(value: object) -> bytes:
    """A value as one line of a .jsonl file in UTF-8, with the escapes of `json_text`."""
    return f"{_json_text(value, 'utf-8', None)}\n".encode()


def _json_text(value: object, encoding: str, indent: int | None) -> str:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _NOT_PLAIN.sub(lambda match: _json_character(match[0], encoding), text)


@cache
def _json_character(character: str, encoding: str) -> str:
    plain = character in _HARMLESS or unicodedata.category(character) not in _INVISIBLE
    lacking = not character.encode(encoding, "ignore")
    return character if plain and not lacking else json.dumps(character)[1:-1]


def _code(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"


def for_encoding(text: str, encoding: str) -> str:
    """The text with ASCII for our own signs if the encoding lacks them, so that tables stay aligned."""
    for sign, ascii_sign in (("–", "-"), ("…", "~")):
        if not sign.encode(encoding, "ignore"):
            text = text.replace(sign, ascii_sign)
    return text
