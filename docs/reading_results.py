"""The page of words, docs/reading-results.md, from stj/glossary/words.yaml.

    python docs/reading_results.py       writes the page

`stj explain WORD` reads the same file. tests/test_docs.py fails if the page is older than the words.
"""

from collections.abc import Iterator
from pathlib import Path

from stj.glossary import Section, sections

PAGE = Path(__file__).with_name("reading-results.md")
COMMAND = ".venv/bin/python docs/reading_results.py"

_BEGINNING = """\
<!-- Do not edit: docs/reading_results.py makes this page from stj/glossary/words.yaml. -->

# Reading results

Every word of a table and of a live line, by where you meet it. The command line explains them too:

```bash
stj explain kappa
# a head of two lines, in one
stj explain draws / kept
# all words
stj explain
```

On a terminal that is too narrow for a table, the columns that matter least are left out, and a line below names them. `--wide`
shows all of them. A pipe, a file and `--json` always have all of them.
"""


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join([_BEGINNING, *(line for section in sections() for line in _lines(section))])


def _lines(section: Section) -> Iterator[str]:
    yield from (f"## {section.title}", "", section.about, "", "| word | meaning |", "|---|---|")
    yield from (f"| {_name(word.word)} | {word.text} |" for word in section.words)
    yield ""


def _name(word: str) -> str:
    """A reason is shown as code, as the rows have it."""
    return f"`{word}`" if "_" in word else word


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
