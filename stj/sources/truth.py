"""Which of two responses is better, by the fields of a row that say so.

    label                    wins, with chosen and rejected, over winner
    chosen and rejected      the better response and the worse one. Beside response_a and response_b their texts say which is
                             which; without those two the first response is the chosen one
    winner                   the truth only if a row has none of the others, and no judge wrote it

A judge's word is never the truth. FastChat and others write the judge's own verdict as `winner`, beside its verdicts in each
order or beside its name; there `winner` is left out. If label and chosen contradict each other, the row is refused. `stj judge`
names its judge too, but its `winner` is that of the pairs' file.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from stj.errors import SourceError
from stj.sources.dialogue import wrong_type
from stj.text import visible_line
from stj.verdict import TIE, Label, Verdict

RESPONSES = (("response_a", "response_b"), ("response_A", "response_B"), ("output_1", "output_2"))
"""Names of the fields that hold the first response and the second."""
CHOSEN = ("chosen", "rejected")
JUDGES_WINNERS = ("winner_ab", "winner_ba", "g1_winner", "g2_winner")
"""Fields with a judge's own verdicts; beside them `winner` is the judge's word too."""
JUDGE_FIELDS = ("judge", "judge_name", "judge_id", "judge_model", "annotator", "evaluator")
"""Fields that name a judge. FastChat's `judge` is a list of the model and its prompt, which differs by question."""

_FIRST = ("A", "response_a", "response_A", "model_a", "model_1", "A>B", "A>>B", "1", "1.0", "output_1")
_SECOND = ("B", "response_b", "response_B", "model_b", "model_2", "B>A", "B>>A", "2", "2.0", "output_2")
_EQUAL = ("A=B", "C")
_EMPTY = (None, "")
_SHOWN = 60  # characters of a value in an error
_NAMED = 20  # fields in an error


def better_response(values: Mapping[str, Any], where: str) -> Label | None:
    """The better response, A for the first one; None if no field says it.

    Raises SourceError if a field names neither response, or if two fields contradict each other.
    """
    label = None if values.get("label") in _EMPTY else named_response(values["label"], "label", where)
    chosen = _of_chosen(values, where)
    if label and chosen and label not in chosen:
        raise SourceError(
            f"{where}: field 'chosen' is {_shown(values.get('chosen'))}, the {_place(chosen[0])} response, but 'label' is "
            f"{_shown(values['label'])}, the {_place(label)}: they contradict each other"
        )
    return label or (chosen[0] if chosen else _of_winner(values, where))


def required_better(values: Mapping[str, Any], where: str) -> Label:
    """The better response, A for the first one. Raises SourceError if no field says it."""
    better = better_response(values, where)
    if better is not None:
        return better
    if values.get("winner") is not None and is_judges_word(values):
        raise SourceError(
            f"{where}: field 'winner' stands beside '{_judges_field(values)}', so it is the judge's word and not the truth; "
            "give what is right as 'label', or as 'chosen' and 'rejected'"
        )
    given = [repr(name) for name, value in values.items() if value is not None]
    fields = ", ".join(given[:_NAMED]) or "none"
    raise SourceError(
        f"{where}: no field 'winner' or 'label', nor 'chosen' and 'rejected', says which response is better; "
        f"the fields there are {fields}"
    )


def is_judges_word(values: Mapping[str, Any]) -> bool:
    """Whether a judge wrote the row's `winner`."""
    return _judges_field(values) is not None


def named_response(value: object, field: str, where: str) -> Label:
    """The response that a value names: A is the first one.

    Raises SourceError for a tie, which has no better response, and for any other word.
    """
    # pandas writes whole numbers as 1.0 if the column has a gap.
    word = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    verdict = named_verdict(word)
    if verdict == "A":
        return "A"
    if verdict == "B":
        return "B"
    if verdict == TIE:
        raise SourceError(
            f"{where}: field '{field}' is {word[:_SHOWN]!r}; ties are not allowed here: each pair needs a better answer"
        )
    raise wrong_type(value, field, "A or B (also response_a, model_a, A>B or 1 for the first)", where)


def named_verdict(word: str) -> Verdict | None:
    """The verdict that a word names: A is the first response, B the second, TIE neither; None for any other word."""
    if word in _FIRST:
        return "A"
    if word in _SECOND:
        return "B"
    return TIE if is_tie(word) or word in _EQUAL else None


def is_tie(word: str) -> bool:
    """Whether a winner's name means a tie, as "tie" and "tie (inconsistent)" do; Katie is a winner."""
    return re.match(r"tie\b", word, re.IGNORECASE) is not None


def _judges_field(values: Mapping[str, Any]) -> str | None:
    """The field by which the row's `winner` is a judge's; None if it has none."""
    names = JUDGES_WINNERS if values.get("votes") is not None else (*JUDGES_WINNERS, *JUDGE_FIELDS)
    return next((name for name in names if values.get(name) not in _EMPTY), None)


def _of_winner(values: Mapping[str, Any], where: str) -> Label | None:
    winner = values.get("winner")
    return None if winner in _EMPTY or is_judges_word(values) else named_response(winner, "winner", where)


def _of_chosen(values: Mapping[str, Any], where: str) -> Sequence[Label]:
    """The places of the chosen response: none if the row has no such field, both if both responses are the same text."""
    if all(values.get(name) in _EMPTY for name in CHOSEN):
        return ()
    names = next((names for names in RESPONSES if all(values.get(name) is not None for name in names)), None)
    if names is None:
        return ("A",)
    responses = [values[name] for name in names]
    chosen, rejected = (values.get(name) for name in CHOSEN)
    orders: Mapping[Label, list[Any]] = {"A": responses, "B": responses[::-1]}
    matches = [label for label, (better, worse) in orders.items() if chosen in (better, None) and rejected in (worse, None)]
    if not matches:
        raise SourceError(
            f"{where}: fields 'chosen' and 'rejected' are {_shown(chosen)} and {_shown(rejected)}, which are not the texts of "
            f"'{names[0]}' and '{names[1]}'"
        )
    return matches


def _place(label: Label) -> str:
    return "first" if label == "A" else "second"


def _shown(value: object) -> str:
    text = visible_line(repr(value))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
