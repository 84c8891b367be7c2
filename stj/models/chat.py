"""From messages to token ids through a model's chat template, with the content kept apart from the template.

Text from data may hold strings that look like control tokens (`<|eot_id|>`). So the template is rendered around markers, and
only the template's own pieces may become control tokens; each message is tokenised as plain text. Sampling and training both
come through here, so a judge is trained on the ids that it is later asked with.
"""

import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from stj.errors import ModelError
from stj.rows import Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SPACE = "\u2003"  # an em space: white space to a template that trims, and in no template itself
_MARKER = f"{_SPACE}\ue000{{}}\ue001{_SPACE}"  # private-use characters: no template holds them
_TEMPLATES_KEPT = 256
_KEPT_CHARACTERS = 20_000
_TEXTS_KEPT = 512  # a judge's system prompt, and prompts of which several samples are asked for at once
_MARKED = re.compile(f"({_SPACE}?)\ue000(\\d+)\ue001{_SPACE}?")


def encode_chat(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Turn]) -> list[int]:
    """Token ids of the prompt that asks for the assistant's next message.

    A template that refuses a system message, or leaves it out, gets it at the head of the first user message.

    Raises ModelError where the tokenizer has no chat template, or one that leaves other messages out.
    """
    require_template(tokenizer)
    try:
        return _encode(tokenizer, messages)
    except (TemplateError, ModelError):
        if messages[0].role != "system" or len(messages) < 2:
            raise
        first = Turn(role=messages[1].role, content=f"{messages[0].content}\n\n{messages[1].content}")
        return _encode(tokenizer, [first, *messages[2:]])


def require_template(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raises ModelError where the tokenizer has no chat template."""
    if not tokenizer.chat_template:
        raise ModelError(
            f"model {tokenizer.name_or_path}: its tokenizer has no chat template. Use an instruction-tuned model, or put "
            "chat_template.jinja beside its tokenizer.json"
        )


def encode_text(tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[int, ...]:
    """Token ids of plain text: nothing in it becomes a control token."""
    return _encode_text(tokenizer, text) if len(text) <= _KEPT_CHARACTERS else _encode_text.__wrapped__(tokenizer, text)


@lru_cache(maxsize=_TEXTS_KEPT)
def _encode_text(tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a template shows a message."""

    before: tuple[int, ...]
    """The template's own tokens since the message before."""
    message: int
    trimmed: bool
    """Whether it shows the message without the white space around it."""


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """What a template makes of messages with certain roles."""

    places: tuple[_Place, ...]
    end: tuple[int, ...]
    """Its own tokens after the last message."""


def _encode(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Turn]) -> list[int]:
    shown = _shown(tokenizer, str(tokenizer.chat_template), tuple(turn.role for turn in messages))
    if isinstance(shown, Exception):
        raise shown.with_traceback(None)
    ids: list[int] = []
    for place in shown.places:
        content = messages[place.message].content
        ids += place.before
        ids += encode_text(tokenizer, content.strip() if place.trimmed else content)
    ids += shown.end
    return ids


@lru_cache(maxsize=_TEMPLATES_KEPT)
def _shown(tokenizer: "PreTrainedTokenizerBase", template: str, roles: tuple[str, ...]) -> _Shown | TemplateError | ModelError:
    """What the tokenizer's template makes of messages with these roles, whatever they say, or why it does not take them."""
    marked = [{"role": role, "content": _MARKER.format(i)} for i, role in enumerate(roles)]
    try:
        rendered = str(tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=True))
    except TemplateError as error:
        return error
    found = list(_MARKED.finditer(rendered))
    if (numbers := [int(match[2]) for match in found]) != list(range(len(roles))):
        return ModelError(
            f"model {tokenizer.name_or_path}: of messages {', '.join(roles)} its chat template shows number {numbers} alone"
        )
    own = _for_templates(tokenizer)

    def encode(start: int, end: int) -> tuple[int, ...]:
        return tuple(own(rendered[start:end], add_special_tokens=False)["input_ids"])

    starts = [0, *(match.end() for match in found)]
    places = tuple(
        _Place(before=encode(start, match.start()), message=int(match[2]), trimmed=not match[1])
        for start, match in zip(starts, found, strict=False)
    )
    return _Shown(places=places, end=encode(starts[-1], len(rendered)))


@lru_cache(maxsize=8)
def _for_templates(tokenizer: "PreTrainedTokenizerBase") -> "PreTrainedTokenizerBase":
    """A tokenizer for templates alone: whether text may become control tokens is a switch of the whole tokenizer.

    While one thread has it on for a template, another that encodes a long text would find it on.
    """
    return deepcopy(tokenizer)
