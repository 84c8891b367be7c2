"""Checks that groups of settings share. Each raises ConfigError with the key, the value and what is right."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import get_args

from stj.errors import ConfigError

MAX_SEED = 2**31 - 1
"""The largest seed that every random generator takes."""

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"  # Ray takes labels of Kubernetes' form.
_LABEL_KEY = re.compile(rf"(?:[a-zA-Z0-9.-]{{1,253}}/)?{_LABEL}")
_LABEL_SELECTOR = re.compile(rf"!?(?:{_LABEL}|in\({_LABEL}(?:, ?{_LABEL})*\))")


def check(condition: bool, message: str) -> None:
    """Raises ConfigError with a message if a condition is not met."""
    if not condition:
        raise ConfigError(message)


def numbers(key: str, settings: object, names: Sequence[str], right: Callable[[float], bool], words: str) -> None:
    """Checks settings that are numbers, tuples of numbers, or None. None is always valid; infinity and NaN never are."""
    for name in names:
        value = getattr(settings, name)
        for number in value if isinstance(value, tuple) else (value,):
            right_or_none = number is None or (math.isfinite(number) and right(number))
            check(right_or_none, f"{key}{name}={number}: must be {words}")


def at_least(low: int, key: str, settings: object, *names: str) -> None:
    """Checks that settings are `low` or more, or None."""
    numbers(key, settings, names, lambda number: number >= low, f"{low} or more")


def above_0(key: str, settings: object, *names: str) -> None:
    """Checks that settings are above 0, or None."""
    numbers(key, settings, names, lambda number: number > 0, "above 0")


def zero_to_one(key: str, settings: object, *names: str) -> None:
    """Checks that settings are from 0 to 1, or None."""
    numbers(key, settings, names, lambda number: 0 <= number <= 1, "a share between 0 and 1")


def one_of(key: str, value: object, options: object) -> None:
    """Checks a value against a Literal. A file's are checked as it is read; this also checks those that Python code gives."""
    known = get_args(options)
    check(value in known, f"{key}={value}: must be one of {', '.join(map(repr, known))}")


def stop_error(key: str, error: float) -> None:
    """Checks the stated error of a rule that stops votes."""
    number = isinstance(error, int | float)
    check(number and 0 < error <= 0.5, f"{key}={error}: must be a share above 0, up to 0.5")


def label_selectors(key: str, place: Mapping[str, str]) -> None:
    """Refuses label selectors that Ray would refuse later, when machines are asked for."""
    for label, wanted in place.items():
        check(
            isinstance(wanted, str) and bool(_LABEL_KEY.fullmatch(label) and _LABEL_SELECTOR.fullmatch(wanted)),
            f"{key}={{{label}: {wanted}}}: not a label selector of Ray; write a label with value, !value, in(a,b) or !in(a,b)",
        )
