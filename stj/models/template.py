"""A model's chat template with its options written into it: one text to render, to serve, and to keep beside a trained model.

    {#- today: 2024-07-26 #}{%- macro strftime_now(format) %}...        the date, in place of the clock
    {%- if enable_thinking is not defined %}{%- set enable_thinking = False ...    defaults of the template's variables
    the model's own template

So a trained judge gets the prompts that it was trained on in every program that loads it. A request may still set a variable.
"""

import re
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser

from stj.errors import ModelError
from stj.model_settings import TEMPLATE_DATE, THINKING_VARIABLE, ChatOptions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CLOCK = "strftime_now"
_WRITTEN_DATE = re.compile(r"\{#- today: (\S+) #\}")
_DIRECTIVE = re.compile(r"%-?[a-zA-Z]")
_NO_NEWLINE_LOST = "{{- '' }}"  # Jinja removes a line break behind a block, and a template may begin with one.
_GIVEN = {"messages", "tools", "documents", "add_generation_prompt", "raise_exception", _CLOCK}
"""Variables that stj or transformers sets."""


def template_of(tokenizer: "PreTrainedTokenizerBase") -> str:
    """The tokenizer's chat template; of several, the default one. Raises ModelError if there is none."""
    try:
        return str(tokenizer.get_chat_template())
    except (ValueError, TypeError):
        raise ModelError(
            f"model {tokenizer.name_or_path}: its tokenizer has no chat template. Use an instruction-tuned model, or put "
            "chat_template.jinja beside its tokenizer.json"
        ) from None


@lru_cache(maxsize=64)
def with_options(template: str, options: ChatOptions) -> str:
    """The template with the options written into it; the template itself if they change nothing."""
    defaults = [
        f"{{%- if {name} is not defined %}}{{%- set {name} = {value!r} %}}{{%- endif %}}"
        for name, value in options.variables.items()
    ]
    date = options.date and _CLOCK in _variables(template) and _clock_at(options.date, template)
    head = (date or "") + "".join(defaults)
    return head + _NO_NEWLINE_LOST + template if head else template


def check_options(template: str, options: ChatOptions, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raises ModelError if an option would have no effect on the template."""
    model = f"model {tokenizer.name_or_path}: "
    try:
        read = _variables(template)
    except TemplateError as error:
        raise ModelError(
            f"{model}its chat template cannot be read: {error}. Put one of its family in chat_template.jinja"
        ) from None
    given = _GIVEN | set(tokenizer.special_tokens_map)
    kwargs = options.variables.keys() - {THINKING_VARIABLE}
    if taken := sorted(kwargs & given):
        raise ModelError(f"{model}chat_template_kwargs.{taken[0]} cannot be set: stj gives it to the template itself")
    if unread := sorted(kwargs - read):
        raise ModelError(
            f"{model}its chat template never reads chat_template_kwargs.{unread[0]}; it reads "
            f"{', '.join(sorted(read - given)) or 'no such variable'}"
        )
    if THINKING_VARIABLE in options.variables and THINKING_VARIABLE not in read and not kwargs:
        raise ModelError(
            f"{model}its chat template has no {THINKING_VARIABLE}, so thinking={options.thinking} would change nothing. Leave "
            "it at auto, or name the template's own variable in chat_template_kwargs"
        )
    written = _WRITTEN_DATE.match(template)
    if options.date not in (None, TEMPLATE_DATE, written and written[1]) and _CLOCK not in read:
        keeps = f"keeps the date {written[1]}, with which it was trained" if written else "never asks for the date"
        raise ModelError(f"{model}its chat template {keeps}; leave template_date={options.date} out")


class _GenerationTag(Extension):
    """Reads `{% generation %}`, by which templates mark an assistant's text for training."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it as a variable of the instance

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Returns the statements inside the tag."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache(maxsize=64)
def _variables(template: str) -> frozenset[str]:
    environment: Any = Environment(extensions=[_GenerationTag, "jinja2.ext.loopcontrols"], autoescape=False)
    return frozenset(find_undeclared_variables(environment.parse(template)))


def _clock_at(date: str, template: str) -> str:
    """A macro in place of the function of that name: it fills in the directives that the template uses."""
    day = datetime.fromisoformat(date)
    directives = sorted(set(_DIRECTIVE.findall(template)))
    filled = "".join(f" | replace({directive!r}, {day.strftime(directive)!r})" for directive in directives)
    return f"{{#- today: {date} #}}{{%- macro {_CLOCK}(format) %}}{{{{- format{filled} }}}}{{%- endmacro %}}"
