"""A judgment as a reader sees it, and whether only closing marks are left behind a place in it."""

import re
import unicodedata

_BLANKS = re.compile(r" [ \n]+|\n[ \n]+")  # A blank or line break alone stays as it is: most are.
_ESCAPED_BRACKET = re.compile(r"\\([\[\]])")  # Markdown may write [[A]] as \[\[A\]\].
_END_TAG = re.compile(r"</[^<>\s]{1,40}>|<\|[^<>\s]{1,40}\|>|<(?:end_of_turn|eos)>")  # </answer>, <|im_end|>


def plainly(text: str) -> str:
    r"""The text without invisible characters and escapes, with ASCII for full-width forms, and one blank for a run of blanks.

    Unicode's NFKC is no help: it takes quadratic time for a run of combining marks, and it writes 7½ as 71⁄2.
    """
    return _ESCAPED_BRACKET.sub(r"\1", _BLANKS.sub(_one_blank, text.translate(_PLAIN)))


def closes(rest: str) -> bool:
    """Whether only closing marks follow a verdict: punctuation, markup, rules, end tags and stop tokens."""
    return all(map(_is_closing_mark, _END_TAG.sub("", rest)))


def _one_blank(run: re.Match[str]) -> str:
    return "\n" if "\n" in run[0] else " "


class _PlainCharacters(dict[int, str | None]):
    """A table for `str.translate`, filled with the characters that have come."""

    def __missing__(self, code: int) -> str | None:
        self[code] = written = _plain_character(chr(code))
        return written


def _plain_character(character: str) -> str | None:
    """None for a character to leave out: zero-width blanks, byte order marks, directional and other invisible marks."""
    if character.isspace():
        return character if character == "\n" else " "
    if "！" <= character <= "～":  # The full-width forms stand in the order of ASCII.
        return chr(ord(character) - ord("！") + ord("!"))
    return None if unicodedata.category(character) in ("Cf", "Cc") else character


_PLAIN = _PlainCharacters()


def _is_closing_mark(character: str) -> bool:
    """Blanks, punctuation of any script except opening brackets (Ps), and signs such as $ and | (S), but no emoji (So)."""
    category = unicodedata.category(character)
    return character.isspace() or (category[0] in "PS" and category not in ("Ps", "So"))
