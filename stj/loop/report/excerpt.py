"""Texts of data in a report: cut, so that a page stays small, and with the cut said."""

from dataclasses import dataclass

from stj.text import visible

_SAMPLE = 6000  # characters of each text of a sample: a long judgment, whole


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """The beginning of a text."""

    title: str
    text: str
    characters: int
    """Length of the whole text."""

    @classmethod
    def of(cls, title: str, text: str, most: int) -> "Excerpt":
        """The first `most` characters of a text."""
        return cls(title=title, text=text[:most], characters=len(text))

    @property
    def shown(self) -> str:
        """The text with codes for characters that a reader does not see, such as escapes and marks that turn the direction."""
        return visible(self.text)

    @property
    def cut(self) -> str:
        """What is left out, in words; empty if nothing is."""
        shown = len(self.text)
        return f"the first {shown:,} of {self.characters:,} characters" if shown < self.characters else ""


def cut_text(text: str) -> str:
    """A text of a sample, with the same codes, and a last line that says what is left out."""
    excerpt = Excerpt.of("", text, _SAMPLE)
    return f"{excerpt.shown}\n[{excerpt.cut}]" if excerpt.cut else excerpt.shown
