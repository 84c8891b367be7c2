"""From messages to token ids through a model's chat template; text from data never becomes a control token.

Text from data may hold strings that look like control tokens (`<|eot_id|>`). So the template is rendered around markers.
Only the template's own pieces may become control tokens; each message is tokenised as plain text. Sampling and training both
use this module, so a judge is trained on the same prompt ids that it later sees.
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

_SPACE = "\u2003"  # An em space: a template that trims removes it, and no template contains it.
_MARKER = f"{_SPACE}\ue000{{}}\ue001{_SPACE}"  # Private-use characters: no template contains them.
_TEMPLATES_CACHED = 256  # Cache this many renderings: one for each sequence of roles.
_CACHED_CHARACTERS = 20_000  # Do not cache longer texts.
_TEXTS_CACHED = 512  # Cache this many texts: the judge's system prompt, and prompts that are sampled several times.
_MARKED = re.compile(f"({_SPACE}?)\ue000(\\d+)\ue001{_SPACE}?")


def encode_chat(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Turn]) -> list[int]:
    """Token ids of the prompt that asks for the assistant's next message.

    If the template refuses or omits a system message, its text goes to the head of the first user message.

    Raises ModelError if the tokenizer has no chat template, or if the template omits other messages.
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
    """Raises ModelError if the tokenizer has no chat template."""
    if not tokenizer.chat_template:
        raise ModelError(
            f"model {tokenizer.name_or_path}: its tokenizer has no chat template. Use an instruction-tuned model, or put "
            "chat_template.jinja beside its tokenizer.json"
        )


def encode_text(tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[int, ...]:
    """Token ids of plain text; nothing in it becomes a control token."""
    return _encode_text(tokenizer, text) if len(text) <= _CACHED_CHARACTERS else _encode_text.__wrapped__(tokenizer, text)


@lru_cache(maxsize=_TEXTS_CACHED)
def _encode_text(tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


@dataclass(frozen=True, kw_only=True)
class _Slot:
    """The place of a message in a rendered template."""

    before: tuple[int, ...]
    """The template's own tokens since the previous message."""
    message: int
    """Index of the message."""
    trimmed: bool
    """Whether the template strips the white space around the message."""


@dataclass(frozen=True, kw_only=True)
class _Rendering:
    """A template rendered for one sequence of roles, with slots for the messages."""

    slots: tuple[_Slot, ...]
    end: tuple[int, ...]
    """The template's own tokens after the last message."""


def _encode(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Turn]) -> list[int]:
    rendering = _render(tokenizer, str(tokenizer.chat_template), tuple(turn.role for turn in messages))
    if isinstance(rendering, Exception):
        raise rendering.with_traceback(None)
    ids: list[int] = []
    for slot in rendering.slots:
        content = messages[slot.message].content
        ids += slot.before
        ids += encode_text(tokenizer, content.strip() if slot.trimmed else content)
    ids += rendering.end
    return ids


@lru_cache(maxsize=_TEMPLATES_CACHED)
def _render(
    tokenizer: "PreTrainedTokenizerBase", template: str, roles: tuple[str, ...]
) -> _Rendering | TemplateError | ModelError:
    """The tokenizer's template around any messages with these roles, or the error if it refuses such roles."""
    marked = [{"role": role, "content": _MARKER.format(i)} for i, role in enumerate(roles)]
    try:
        rendered = str(tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=True))
    except TemplateError as error:
        return error
    markers = list(_MARKED.finditer(rendered))
    if (numbers := [int(marker[2]) for marker in markers]) != list(range(len(roles))):
        return ModelError(
            f"model {tokenizer.name_or_path}: its chat template shows only the messages {numbers} of {', '.join(roles)}, "
            "counted from 0. Use a model whose template shows every message"
        )
    template_tokenizer = _for_templates(tokenizer)

    def encode(start: int, end: int) -> tuple[int, ...]:
        return tuple(template_tokenizer(rendered[start:end], add_special_tokens=False)["input_ids"])

    starts = [0, *(marker.end() for marker in markers)]
    slots = tuple(
        _Slot(before=encode(start, marker.start()), message=int(marker[2]), trimmed=not marker[1])
        for start, marker in zip(starts, markers, strict=False)
    )
    return _Rendering(slots=slots, end=encode(starts[-1], len(rendered)))


@lru_cache(maxsize=8)
def _for_templates(tokenizer: "PreTrainedTokenizerBase") -> "PreTrainedTokenizerBase":
    """A copy of the tokenizer, used only for templates.

    Whether text may become control tokens is a switch of the whole tokenizer. With one shared tokenizer, a thread could encode
    data while another has the switch on for a template.
    """
    return deepcopy(tokenizer)
