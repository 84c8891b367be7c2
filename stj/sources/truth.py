"""Which of two responses is better, by the fields of a row that say so.

    label                    wins, with chosen and rejected, over winner
    chosen and rejected      the better response and the worse one. Beside response_a and response_b their texts say which is
                             which; without those two the first response is the chosen one
    winner                   the truth only if a row has none of the others, and no judge wrote it

A judge's word is never the truth. FastChat and others write the judge's own verdict as `winner`, beside its verdicts in each
order; there `winner` is left out. If label and chosen contradict each other, the row is refused.
"""

import re
from collections.abc import Mapping
from typing import Any

from stj.errors import SourceError
from stj.sources.dialogue import wrong_type
from stj.sources.files import Fields
from stj.text import visible_line
from stj.verdict import Label

RESPONSES = (("response_a", "response_b"), ("response_A", "response_B"), ("output_1", "output_2"))
"""Names of the fields that hold the first response and the second."""
CHOSEN = ("chosen", "rejected")
JUDGES_WINNERS = ("winner_ab", "winner_ba", "g1_winner", "g2_winner")
"""Fields with a judge's own verdicts; beside them `winner` is the judge's word too."""

_FIRST = ("A", "response_a", "response_A", "model_a", "model_1", "A>B", "A>>B", "1", "output_1")
_SECOND = ("B", "response_b", "response_B", "model_b", "model_2", "B>A", "B>>A", "2", "output_2")
_EMPTY = (None, "")
_SHOWN = 60  # characters of a value in an error


def better_response(values: Mapping[str, Any], where: str) -> Label | None:
    """The better response, A for the first one; None if no field says it.

    Raises SourceError if a field names neither response, or if two fields contradict each other.
    """
    label = None if values.get("label") in _EMPTY else named_response(values["label"], "label", where)
    chosen = _of_chosen(values, where)
    if label and chosen and label != chosen:
        raise SourceError(
            f"{where}: field 'chosen' is {_shown(values.get('chosen'))}, the {_place(chosen)} response, but field 'label' is "
            f"{_shown(values['label'])}, the {_place(label)}: they contradict each other"
        )
    return label or chosen or _of_winner(values, where)


def required_better(values: Mapping[str, Any], where: str) -> Label:
    """The better response, A for the first one. Raises SourceError if no field says it."""
    better = better_response(values, where)
    if better is not None:
        return better
    if values.get("winner") is not None and is_judges_word(values):
        beside = next(name for name in JUDGES_WINNERS if values.get(name) is not None)
        raise SourceError(
            f"{where}: field 'winner' stands beside '{beside}', so it is the judge's word and not the truth; "
            "give 'label', or 'chosen' and 'rejected'"
        )
    Fields(required=("winner",)).check(values, where)
    return named_response(values["winner"], "winner", where)


def is_judges_word(values: Mapping[str, Any]) -> bool:
    """Whether a judge wrote the row's `winner`."""
    return any(values.get(name) is not None for name in JUDGES_WINNERS)


def named_response(value: object, field: str, where: str) -> Label:
    """The response that a value names: A is the first one.

    Raises SourceError for a tie, which has no better response, and for any other word.
    """
    if isinstance(value, float) and value.is_integer():  # pandas writes whole numbers so, if the column has a gap.
        value = int(value)
    word = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if word in _FIRST:
        return "A"
    if word in _SECOND:
        return "B"
    if is_tie(word) or word in {"A=B", "C"}:
        raise SourceError(
            f"{where}: field '{field}' is {word[:_SHOWN]!r}; ties are not allowed here: each pair needs a better answer"
        )
    raise wrong_type(value, field, "A or B (also response_a, model_a, A>B or 1 for the first)", where)


def is_tie(word: str) -> bool:
    """Whether a winner's name means a tie, as "tie" and "tie (inconsistent)" do; Katie is a winner."""
    return re.match(r"tie\b", word, re.IGNORECASE) is not None


def _of_winner(values: Mapping[str, Any], where: str) -> Label | None:
    winner = values.get("winner")
    return None if winner in _EMPTY or is_judges_word(values) else named_response(winner, "winner", where)


def _of_chosen(values: Mapping[str, Any], where: str) -> Label | None:
    """The place of the chosen response; None if the row has none, or if both responses are the same text."""
    if all(values.get(name) in _EMPTY for name in CHOSEN):
        return None
    names = next((names for names in RESPONSES if all(values.get(name) is not None for name in names)), None)
    if names is None:
        return "A"
    responses = [values[name] for name in names]
    chosen, rejected = (values.get(name) for name in CHOSEN)
    matches = [
        label
        for label, (better, worse) in zip(("A", "B"), (responses, responses[::-1]), strict=True)
        if chosen in (better, None) and rejected in (worse, None)
    ]
    if not matches:
        raise SourceError(
            f"{where}: fields 'chosen' and 'rejected' are {_shown(chosen)} and {_shown(rejected)}, which are not the texts of "
            f"'{names[0]}' and '{names[1]}'"
        )
    return None if len(matches) > 1 else "A" if matches == ["A"] else "B"


def _place(label: Label) -> str:
    return "first" if label == "A" else "second"


def _shown(value: object) -> str:
    text = visible_line(repr(value))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
