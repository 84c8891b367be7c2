"""Every setting has a docstring; the settings page of the documentation is generated from them."""

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import get_type_hints

import pytest

from stj.config import Config
from stj.errors import ConfigError
from stj.use_config import UseConfig

MOST_WORDS = 30


def dataclasses_under(root: type) -> Iterator[type]:
    """A dataclass and the dataclasses that its fields hold."""
    yield root
    for hint in get_type_hints(root).values():
        if isinstance(hint, type) and is_dataclass(hint):
            yield from dataclasses_under(hint)


def docstrings(group: type) -> dict[str, str]:
    """The string literal right under each field of a dataclass."""
    body = ast.parse(inspect.getsource(group)).body[0]
    assert isinstance(body, ast.ClassDef)
    strings = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            strings[ast.unparse(field.target)] = inspect.cleandoc(below.value.value)
    return strings


GROUPS = sorted({group for root in (Config, UseConfig) for group in dataclasses_under(root)}, key=lambda group: group.__name__)


def test_the_groups_of_settings_are_reached() -> None:
    assert {"Sampling", "PreferenceConfig", "VoteConfig", "Config", "UseConfig"} <= {group.__name__ for group in GROUPS}


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_every_setting_has_a_docstring_of_short_sentences(group: type) -> None:
    strings = docstrings(group)
    assert [field.name for field in fields(group)] == list(strings)
    for name, text in {**strings, group.__name__: inspect.cleandoc(group.__doc__ or "")}.items():
        assert text.endswith("."), name
        for sentence in re.split(r"(?<=[.!?])\s+", text):
            assert len(sentence.split()) <= MOST_WORDS, f"{name}: {sentence}"


def test_a_misspelt_choice_of_models_to_keep_is_refused_in_python_too() -> None:
    with pytest.raises(ConfigError, match="keep_models="):
        Config(keep_models="every")  # type: ignore[arg-type]
