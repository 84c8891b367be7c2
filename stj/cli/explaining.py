"""The verb that explains a word: explain."""

from typing import Annotated

import typer

from stj.cli.app import verb
from stj.text import Passage, Span, show


@verb("explain", "stj explain kappa", "stj explain draws / kept", "stj explain pair_identical", docs="reading-results")
def _explain(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORD", help="The head of a column, a word of a live line, or a reason; none lists all."),
    ] = None,
) -> None:
    """Explains a word of a table or of a live line."""
    from stj.glossary import explain, sections

    if words:
        word = explain(" ".join(words))
        show(Passage(line=[Span(f"{word.word}: ", "bold"), Span(word.text)]))
        return
    for section in sections():
        listed = ", ".join(word.word for word in section.words)
        show(Passage(line=[Span(f"{section.title}: ", "bold"), Span(listed)]))
