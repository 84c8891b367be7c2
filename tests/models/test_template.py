"""A chat template with its options written into it gives the same prompts to whoever renders it."""

import json
from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from stj.model_settings import ChatOptions
from stj.models.template import with_options

TEMPLATE = (
    "\n  {%- macro day() %}{{ strftime_now('%d-%m-%Y, %A %-d %B %y') }}{% endmacro %}\n{{ day() }} {{ value }}"
    "{% for m in messages %}{% if value is defined and value is not none %}{{ m['content'] }}{{ strftime_now('%Y') }}"
    "{% endif %}{% endfor %}{% generation %}x{% endgeneration %}"
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def rendered(template: str, **variables: Any) -> str:
    return str(render_jinja_template([[{"role": "user", "content": "Hi"}]], chat_template=template, **variables)[0][0])


def test_options_at_their_defaults_leave_the_template_alone() -> None:
    assert with_options(TEMPLATE, ChatOptions()) == TEMPLATE
    assert with_options("{{ messages }}", ChatOptions(date="2024-07-26")) == "{{ messages }}"


@pytest.mark.slow
@given(value=JSON)
def test_a_value_written_into_the_template_is_the_value_given_to_it(value: Any) -> None:
    dated = with_options(TEMPLATE, ChatOptions(date="2024-03-05"))
    written = with_options(TEMPLATE, ChatOptions(date="2024-03-05", template_kwargs=json.dumps({"value": value})))
    assert rendered(written) == rendered(dated, value=value)


def test_a_request_may_still_set_a_variable() -> None:
    written = with_options(TEMPLATE, ChatOptions(template_kwargs='{"value": 1}'))
    assert rendered(written, value=2) == rendered(TEMPLATE, value=2)


def test_the_date_fills_all_directives() -> None:
    written = with_options(TEMPLATE, ChatOptions(date="2024-03-05"))
    assert rendered(written, value=1) == "05-03-2024, Tuesday 5 March 24 1Hi2024x"


def test_a_trained_models_template_keeps_its_date_and_its_variables() -> None:
    trained = with_options(TEMPLATE, ChatOptions(date="2024-03-05", template_kwargs='{"value": 1}'))
    assert rendered(with_options(trained, ChatOptions(date="2030-01-01"))) == rendered(trained)
    assert rendered(with_options(trained, ChatOptions(template_kwargs='{"value": 2}'))) == rendered(trained, value=2)


@pytest.mark.parametrize("start", ["\n", "  \n", "{%- set x = 1 %}", "{# c #}\n", ""])
def test_nothing_of_the_template_is_lost(start: str) -> None:
    template = start + "x{{ value }}"
    assert rendered(with_options(template, ChatOptions(template_kwargs='{"value": 3}'))) == rendered(template, value=3)


def test_the_written_template_is_a_template() -> None:
    jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(
        with_options("{{ strftime_now('%Y') }}", ChatOptions(date="2024-03-05", thinking="off"))
    )
