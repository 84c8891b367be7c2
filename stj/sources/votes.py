"""The labels of several people on one pair, and the one that most of them gave."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from stj.sources.dialogue import clean, wrong_type
from stj.sources.truth import named_verdict
from stj.verdict import TIE, Verdict

UNSURE = "unsure"
"""The label of an annotator who cannot tell: no label, and counted."""
ANNOTATORS = "annotators"
"""The field with the labels of all annotators of a pair."""


def members_of(value: object, where: str, field: str = ANNOTATORS) -> Iterator[tuple[object, str, object]]:
    """The name, the field and the label of each annotator in the value of a field.

    Raises SourceError unless it is an object {name: label} or a list of labels, whose names are then 1, 2 and so on.
    """
    if isinstance(value, Mapping):
        yield from ((name, f"{field}.{name}", label) for name, label in value.items())
    elif isinstance(value, list) and all(isinstance(member, tuple) and len(member) == 2 for member in value):
        yield from ((name, f"{field}.{name}", label) for name, label in value)  # Arrow's maps
    elif isinstance(value, list):
        yield from ((number, f"{field}[{number - 1}]", label) for number, label in enumerate(value, start=1))
    else:
        raise wrong_type(value, field, "an object {name: label} or a list of labels", where)


def pair_label(value: object, name: str, where: str, remedy: str = "") -> str | None:
    """The label of a pair that a value means: A, B, TIE or UNSURE; None if it is null or empty.

    Raises SourceError for anything else; `remedy` ends its message.
    """
    if value is None or value == "":
        return None
    word = label_word(value)
    if word.casefold() == UNSURE:
        return UNSURE
    label = next(filter(None, map(named_verdict, (word, word.lower(), word.upper()))), None)
    if label is None:
        raise wrong_type(value, name, f"A, B, tie or {UNSURE} (also response_a, model_a or 1 for A){remedy}", where)
    return label


def label_word(value: Any) -> str:
    """A label as text without spaces around it; empty if it is none. A number is written without .0: pandas adds it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else "" if value != value else str(value)
    return clean(str(value)).strip() if isinstance(value, str | int) else ""


def label_of_most(labels: Iterable[str | None]) -> Verdict | None:
    """The label that most gave, `unsure` apart; None if two come first together, or if there is none."""
    first = Counter(label for label in labels if label not in (None, UNSURE)).most_common(2)
    if not first or (len(first) > 1 and first[0][1] == first[1][1]):
        return None
    label = first[0][0]
    return "A" if label == "A" else "B" if label == "B" else TIE
