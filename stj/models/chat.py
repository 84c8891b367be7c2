"""From messages to token ids: exactly those of the model's own chat template, but no text from data becomes a control token.

    1. hold      control tokens in the messages get made-up names             "<|im_end|>" -> 4071...
    2. render    the model's template around the messages
    3. hide      control tokens, now only the template's, get other made-up names
    4. restore   the messages' text, and encode it all in one piece (stj/models/control_tokens.py)

Engine, training and server use this module, so a judge is trained on the prompt ids that it later sees. For Mistral's own
format, mistral_common's encoder takes the place of all four steps.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

from stj.errors import ModelError, PromptTooLong
from stj.model_settings import NO_CHAT_OPTIONS, ChatOptions
from stj.models.control_tokens import Names, plain_tokenizer
from stj.models.fewest_tokens import FewestTokens
from stj.models.template import check_options, template_of, with_options
from stj.rows import Turn
from stj.text import without_surrogates
from stj.thoughts import CLOSE, OPEN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_OUTLINES_CACHED = 256  # Cache this many renderings: one for each sequence of roles.
_CACHED_CHARACTERS = 20_000  # Do not cache longer prompts.
_PROMPTS_CACHED = 512  # Cache this many prompts: a prompt that is sampled several times is encoded once.
_OTHER_THOUGHTS = ("[THINK]", "<|channel|>", "<seed:think>", "◁think▷")  # Magistral, GPT-OSS, Seed-OSS, Kimi
_ASKED = (("user",), ("system", "user"), ("user", "assistant", "user"), ("system", "user", "assistant", "user"))
"""The dialogues that stj asks about."""


def encode_chat(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Turn],
    options: ChatOptions = NO_CHAT_OPTIONS,
    most_tokens: int | None = None,
) -> list[int]:
    """Token ids of the prompt that asks for the assistant's next message.

    If the template refuses or omits a system message, its text goes to the head of the first user message. If it also refuses
    two messages of one role in a row, they become one, with a blank line between them. A lone surrogate becomes U+FFFD.

    A long prompt that cannot have as few tokens as `most_tokens` is refused without being tokenized. Any other may have more.

    Raises ModelError if there is no chat template, or if it refuses or omits messages, and PromptTooLong.
    """
    turns = tuple(messages)
    if sum(len(turn.content) for turn in turns) > _CACHED_CHARACTERS:
        return list(_encode.__wrapped__(tokenizer, _template(tokenizer), turns, options, most_tokens))
    return list(_encode(tokenizer, _template(tokenizer), turns, options))


def encode_reply(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Turn],
    reply: str,
    options: ChatOptions = NO_CHAT_OPTIONS,
    thought: str = "",
    most_tokens: int | None = None,
) -> list[int]:
    """Token ids of the prompt and of the reply behind it, without its end; the prompt's ids are those of `encode_chat`.

    Nothing in the reply becomes a control token, and in the thought before it only the tags of a thought (stj/thoughts.py).
    Raises ModelError and PromptTooLong as `encode_chat` does.
    """
    prompt = encode_chat(tokenizer, messages, options, most_tokens)
    if most_tokens and len(thought) + len(reply) > _CACHED_CHARACTERS:
        untagged = thought.replace(OPEN, "").replace(CLOSE, "") + reply
        _check_length(fewest_tokens(tokenizer), without_surrogates(untagged).lstrip(), most_tokens)
    if is_mistral(tokenizer):
        return prompt + encode_text(tokenizer, thought + reply)
    plain, text = plain_tokenizer(tokenizer), _prompt(tokenizer, _template(tokenizer), messages, options)
    written = plain.hide_only(without_surrogates(thought), (OPEN, CLOSE)) + without_surrogates(reply)
    if not plain.ends_with_control(text):
        together = plain.encode(text + written)
        if together[: len(prompt)] == prompt:
            return together
    return prompt + plain.encode_behind_control(written)


def encode_text(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Token ids of plain text behind a prompt; nothing in it becomes a control token."""
    text = without_surrogates(text)
    if not is_mistral(tokenizer):
        return plain_tokenizer(tokenizer).encode_behind_control(text)
    encoder = tokenizer.tokenizer.instruct_tokenizer.tokenizer
    spaced = type(encoder).__name__ == "SentencePieceTokenizer"  # it puts a space before the text
    ids: list[int] = encoder.encode(text.removeprefix(" ") if spaced else text, bos=False, eos=False)
    return ids


def check_chat(tokenizer: "PreTrainedTokenizerBase", options: ChatOptions = NO_CHAT_OPTIONS) -> None:
    """Checks that the chat template can serve what stj asks of it, before anything starts.

    Raises ModelError if there is no template, if it refuses or omits messages, if it does not begin the assistant's answer, if
    an option would have no effect, or if the model writes its thoughts in marks that are not known.
    """
    if is_mistral(tokenizer):
        if options.variables:
            raise ModelError(
                f"model {tokenizer.name_or_path}: mistral_common's encoder takes no thinking and no chat_template_kwargs; "
                "leave them out"
            )
    else:
        check_options(template_of(tokenizer), options, tokenizer)
        _check_thought_marks(tokenizer)
    for roles in _ASKED:
        encode_chat(tokenizer, [Turn(role=role, content="?") for role in roles], options)
    if not is_mistral(tokenizer):
        _check_generation_prompt(tokenizer, options)


def _check_thought_marks(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raises ModelError if the template shows that thoughts stand between other marks than `<think>`: they would be answers."""
    template = template_of(tokenizer)
    marks = [mark for mark in _OTHER_THOUGHTS if mark in template]
    if marks and CLOSE not in template:
        raise ModelError(
            f"model {tokenizer.name_or_path}: it writes its thoughts behind {marks[0]}, and stj knows only {OPEN}: they would "
            "count as answers. Serve it with a server that separates its thoughts, and name that as an endpoint"
        )


def is_mistral(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether mistral_common reads the tokenizer; it has no chat template."""
    return type(tokenizer).__name__ == "MistralCommonBackend"


@lru_cache(maxsize=_PROMPTS_CACHED)
def _encode(
    tokenizer: "PreTrainedTokenizerBase",
    template: str,
    turns: tuple[Turn, ...],
    options: ChatOptions,
    most_tokens: int | None = None,
) -> tuple[int, ...]:
    if is_mistral(tokenizer):
        if most_tokens:
            _check_length(
                fewest_tokens(tokenizer), "".join(without_surrogates(turn.content).strip() for turn in turns), most_tokens
            )
        return _mistral_ids(tokenizer, turns)
    text = _prompt(tokenizer, template, turns, options)  # a template may leave out a part of a message, so it comes first
    if most_tokens:
        _check_length(fewest_tokens(tokenizer), text, most_tokens)
    return tuple(plain_tokenizer(tokenizer).encode(text))


def _check_length(fewest: FewestTokens, text: str, most_tokens: int) -> None:
    """Raises PromptTooLong if the text has more tokens for sure."""
    least = fewest(text)
    if least > most_tokens:
        raise PromptTooLong(f"prompt of at least {least} tokens")


def fewest_tokens(tokenizer: "PreTrainedTokenizerBase") -> FewestTokens:
    """Counts the fewest tokens of texts."""
    return _mistral_fewest(tokenizer) if is_mistral(tokenizer) else plain_tokenizer(tokenizer).fewest


@lru_cache(maxsize=8)
def _mistral_fewest(tokenizer: "PreTrainedTokenizerBase") -> FewestTokens:
    """The count for Mistral's newer tokenizer, Tekken; for the older ones nothing is known."""
    encoder = tokenizer.tokenizer.instruct_tokenizer.tokenizer
    tekken = type(encoder).__name__ == "Tekkenizer"
    return FewestTokens.of_tokens(encoder.id_to_byte_piece(number) for number in range(encoder.n_words) if tekken)


def _prompt(tokenizer: "PreTrainedTokenizerBase", template: str, turns: Sequence[Turn], options: ChatOptions) -> str:
    """The prompt's text; the template's control tokens have their hidden names."""
    plain, dated = plain_tokenizer(tokenizer), with_options(template, options)
    shown = _shown(tokenizer, dated, turns)
    outline = _outline(tokenizer, dated, tuple(turn.role for turn in shown))
    if isinstance(outline, ModelError):
        raise outline.with_traceback(None)
    names = Names()
    held = [replace(turn, content=plain.hold(without_surrogates(turn.content), names)) for turn in shown]
    text = _render(tokenizer, dated, held)
    if plain.find(text) != outline:  # a message may have completed a control token that the template's text begins
        text = _render(tokenizer, dated, [replace(turn, content=_hold_ends(turn.content, names)) for turn in held])
    return names.restore(plain.hide(text))


def _hold_ends(text: str, names: Names) -> str:
    """The text with its first and last visible character under names, so that it completes no word of the template's."""
    return re.sub(r"^\s*\S|\S\s*$", lambda match: match[0].replace(match[0].strip(), names.of(match[0].strip())), text)


def _shown(tokenizer: "PreTrainedTokenizerBase", template: str, turns: Sequence[Turn]) -> Sequence[Turn]:
    """The dialogue in the first form in which the template shows all of it; the dialogue itself if there is none."""
    for form in _forms(turns):
        if not isinstance(_outline(tokenizer, template, tuple(turn.role for turn in form)), ModelError):
            return form
    return turns


def _forms(turns: Sequence[Turn]) -> Iterator[Sequence[Turn]]:
    """The dialogue as it is, without a system message of its own, and without two messages of one role in a row."""
    yield turns
    if turns[0].role == "system" and len(turns) > 1:
        turns = [_joined(turns[:2]), *turns[2:]]
        yield turns
    yield [_joined(list(same)) for _, same in groupby(turns, key=lambda turn: turn.role)]


def _joined(turns: Sequence[Turn]) -> Turn:
    return Turn(role=turns[-1].role, content="\n\n".join(turn.content for turn in turns))


@lru_cache(maxsize=_OUTLINES_CACHED)
def _outline(tokenizer: "PreTrainedTokenizerBase", template: str, roles: tuple[str, ...]) -> tuple[str, ...] | ModelError:
    """The template's control tokens around messages that have none, or the error if it refuses or omits such messages."""
    names = Names()
    turns = [Turn(role=role, content=names.of(str(number))) for number, role in enumerate(roles)]
    try:
        text = _render(tokenizer, template, turns)
    except ModelError as error:
        return error
    shown = [number for number, turn in enumerate(turns) if turn.content in text]
    if len(shown) < len(roles):
        return ModelError(
            f"model {tokenizer.name_or_path}: its chat template shows only the messages {shown} of {', '.join(roles)}, "
            "counted from 0. Use a model whose template shows every message"
        )
    return plain_tokenizer(tokenizer).find(text)


def _render(
    tokenizer: "PreTrainedTokenizerBase", template: str, turns: Sequence[Turn], *, add_generation_prompt: bool = True
) -> str:
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    try:
        return str(
            tokenizer.apply_chat_template(
                messages, chat_template=template, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        )
    except Exception as error:  # a template is a program: it may raise anything
        roles, cause = ", ".join(turn.role for turn in turns), " ".join(str(error).split()) or type(error).__name__
        raise ModelError(
            f"model {tokenizer.name_or_path}: its chat template refuses {roles}: {cause}. "
            "Put one that takes them in chat_template.jinja"
        ) from None


def _mistral_ids(tokenizer: "PreTrainedTokenizerBase", turns: Sequence[Turn]) -> tuple[int, ...]:
    refusals: list[Exception] = []
    for form in _forms(turns):
        messages = [{"role": turn.role, "content": without_surrogates(turn.content)} for turn in form]
        try:
            return tuple(tokenizer.apply_chat_template(messages, return_dict=False))
        except Exception as error:  # mistral_common has a dozen errors for what its formats refuse
            refusals.append(error)
    roles = ", ".join(turn.role for turn in turns)
    raise ModelError(f"model {tokenizer.name_or_path}: mistral_common's encoder refuses {roles}: {refusals[0]}")


def _template(tokenizer: "PreTrainedTokenizerBase") -> str:
    return "" if is_mistral(tokenizer) else template_of(tokenizer)


def _check_generation_prompt(tokenizer: "PreTrainedTokenizerBase", options: ChatOptions) -> None:
    """Raises ModelError if the prompt stops before the words that begin an assistant's message."""
    names = Names()
    turns = [Turn(role="user", content=names.of("question")), Turn(role="assistant", content=names.of("answer"))]
    template = with_options(template_of(tokenizer), options)
    asked, unasked = (_render(tokenizer, template, turns[:1], add_generation_prompt=asks) for asks in (True, False))
    try:
        answered = _render(tokenizer, template, turns, add_generation_prompt=False)
    except ModelError:
        return
    tail = asked.rpartition(turns[0].content)[2]
    header = answered.rpartition(turns[0].content)[2].partition(turns[1].content)[0]
    missing = header.removeprefix(tail).strip()
    if asked == unasked and header.startswith(tail) and missing:
        raise ModelError(
            f"model {tokenizer.name_or_path}: its chat template has no generation prompt: it writes {missing!r} before an "
            "assistant's message, but not where add_generation_prompt asks for one. Add that to its chat_template.jinja"
        )
