"""HelpSteer2 (Wang et al., 2024): a response to a prompt, with five attributes from 0 to 4 by human annotators.

Each attribute is a true score by a rubric of the library, on its scale from 1 to 5: an attribute of 0 is a score of 1.
"""

import re
from collections.abc import Mapping
from typing import Any

from stj.errors import SourceError
from stj.rows import Turn
from stj.sources.dialogue import number_of, wrong_type

RUBRICS: Mapping[str, tuple[str, ...]] = {
    "helpfulness": ("helpfulness",),
    "correctness": ("correctness_without_reference", "correctness"),
    "coherence": ("coherence",),
    "complexity": ("complexity",),
    "verbosity": ("verbosity",),
}
"""The rubrics of each attribute. Annotators saw no reference."""
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


def turns_of(prompt: str) -> tuple[Turn, ...]:
    """The turns of a prompt, which may be a dialogue in one text."""
    first, *rest = _SPEAKER.split(prompt)
    spoken = [("User", first), *zip(rest[::2], rest[1::2], strict=True)]
    return tuple(Turn(role=speaker.lower(), content=content) for speaker, content in spoken)
