"""HelpSteer2 (Wang et al., 2024): a response to a prompt, with five attributes from 0 to 4 by human annotators.

Each attribute is a true score by a rubric of the library, on its scale from 1 to 5: an attribute of 0 is a score of 1.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any

from stj.errors import SourceError
from stj.rows import Turn
from stj.sources.dialogue import number_of, wrong_type
from stj.sources.records import Located

RUBRICS: Mapping[str, tuple[str, ...]] = {
    "helpfulness": ("helpfulness",),
    "correctness": ("correctness_without_reference", "correctness"),
    "coherence": ("coherence",),
    "complexity": ("complexity",),
    "verbosity": ("verbosity",),
}
"""The rubrics of each attribute. Annotators saw no reference."""
WEIGHTS: Mapping[str, float] = {
    "helpfulness": 0.65,
    "correctness": 0.8,
    "coherence": 0.45,
    "complexity": 0.55,
    "verbosity": -0.4,
}
"""The weights of the attributes in the score of a response (section 4.1 of the self-taught evaluators)."""
_MOST = 4
_SPEAKER = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")
"""Separates the turns of a prompt that is a dialogue."""


def has_attributes(values: Mapping[str, Any]) -> bool:
    """Whether a record has all five attributes, beside its prompt and response."""
    return all(values.get(name) is not None for name in ("prompt", "response", *RUBRICS))


def true_scores(values: Mapping[str, Any], where: str) -> dict[str, int]:
    """The true scores of a record by the names of rubrics. Raises SourceError if an attribute is not 0 to 4."""
    scores: dict[str, int] = {}
    for name, rubrics in RUBRICS.items():
        scores |= dict.fromkeys(rubrics, _attribute(values[name], name, where) + 1)
    return scores


def _attribute(value: object, name: str, where: str) -> int:
    """An attribute, or its digits as CSV holds them."""
    wrong = wrong_type(value, name, f"a whole number from 0 to {_MOST}", where)
    try:
        number = number_of(value, name, where)
    except SourceError:
        raise wrong from None
    if number not in range(_MOST + 1):
        raise wrong
    return int(number)


def weighted_score(values: Mapping[str, Any], where: str, weights: Mapping[str, float] = WEIGHTS) -> float:
    """The weighted sum of a response's attributes. Raises SourceError if one is no number."""
    weighted = (weight * number_of(values[name], name, where) for name, weight in weights.items())
    return round(sum(weighted), 6)  # Equal scores stay equal: floating-point sums differ in the last digits.


def of_one_prompt(records: Iterable[Located]) -> Iterator[tuple[Located, Located]]:
    """The two responses of each prompt, which are adjacent. Raises SourceError if two adjacent rows have different prompts."""
    stream = iter(records)
    for first, second in zip_longest(stream, stream):
        if second is None or first[1]["prompt"] != second[1]["prompt"]:
            raise SourceError(
                f"{first[0]}: the next row has another prompt; HelpSteer2 has the two responses of a prompt in adjacent rows"
            )
        yield first, second


def turns_of(prompt: str) -> tuple[Turn, ...]:
    """The turns of a prompt, which may be a dialogue in one text."""
    first, *rest = _SPEAKER.split(prompt)
    spoken = [("User", first), *zip(rest[::2], rest[1::2], strict=True)]
    return tuple(Turn(role=speaker.lower(), content=content) for speaker, content in spoken)
