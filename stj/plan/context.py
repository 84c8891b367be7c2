"""Whether the longest prompts that a run may write, with their answers, fit in the context of the model that reads them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stj.config import Config, ModelConfig
from stj.errors import ConfigError
from stj.models.chat import encode_chat
from stj.panel import PanelMember
from stj.prompts import CATEGORIZE, fill
from stj.prompts.given import variant_of
from stj.prompts.grading import Graded, GradePrompt, grade_prompt_of
from stj.prompts.variants import FIGURE_8, Variant
from stj.rows import Pair, Turn
from stj.rubrics import Rubric
from stj.stages.judge import judge_messages, messages_of
from stj.stages.pairs import PAIR_PROMPTS
from stj.stages.rescue import check_messages, hinted_messages
from stj.use_config import VoteConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_EMPTY_PAIR = Pair(method="given", chosen="", rejected="")


@dataclass(frozen=True, kw_only=True)
class LongestRequest:
    """A prompt around nothing, and the texts that come into it and out of it at their longest."""

    what: str
    messages: Sequence[Turn]
    texts: Mapping[str, int]
    """Most tokens of each text, by the setting that limits it."""


def generator_requests(config: Config) -> Iterator[LongestRequest]:
    """What the generator is asked: a category, an answer, and a worse one."""
    answer = {"pairs.answer.max_tokens": config.pairs.answer.max_tokens}
    rejected = {"pairs.rejected.max_tokens": config.pairs.rejected.max_tokens}
    category = {"categorize.decoding.max_tokens": config.categorize.decoding.max_tokens}
    sorting = fill(CATEGORIZE, {"instruction": ""})
    worse = fill(PAIR_PROMPTS[config.pairs.method], {"Instruction": "", "Baseline Response": ""})
    yield LongestRequest(what="categories", messages=_user(sorting), texts=category)
    yield from policy_requests(config)
    yield LongestRequest(what="worse answers", messages=_user(worse), texts=answer | rejected)


def policy_requests(config: Config) -> Iterator[LongestRequest]:
    """What a policy is asked: questions."""
    answer = {"pairs.answer.max_tokens": config.pairs.answer.max_tokens}
    yield LongestRequest(what="answers", messages=_user(""), texts=answer)


def judge_requests(config: Config) -> Iterator[LongestRequest]:
    """What a judge of training pairs is asked."""
    texts = _texts_of_judgment(config)
    yield LongestRequest(what="judgments", messages=_judging(FIGURE_8), texts=texts)
    if config.judge.rescue:
        yield LongestRequest(what="rationales", messages=hinted_messages("", _EMPTY_PAIR, "A"), texts=texts)
        twice = texts | {"judge.decoding.max_tokens of the reasons": config.judge.decoding.max_tokens}
        yield LongestRequest(what="checks of rationales", messages=check_messages("", _EMPTY_PAIR, "A", ""), texts=twice)


def opinion_requests(config: Config, members: Sequence[PanelMember]) -> Iterator[LongestRequest]:
    """What members of the panel are asked: the prompt of each, about a training pair."""
    for prompt in dict.fromkeys(member.prompt for member in members):
        variant = variant_of(prompt)
        yield LongestRequest(
            what=f"opinions by {variant.name}", messages=messages_of(variant.longest()), texts=_texts_of_judgment(config)
        )


def _texts_of_judgment(config: Config) -> dict[str, int]:
    """The most tokens of both answers and of a judgment, by the settings that limit them."""
    return {
        "pairs.answer.max_tokens": config.pairs.answer.max_tokens,
        "pairs.rejected.max_tokens": config.pairs.rejected.max_tokens,
        "judge.decoding.max_tokens": config.judge.decoding.max_tokens,
    }


def given_pairs_request(variant: Variant = FIGURE_8) -> LongestRequest:
    """What a judge of given pairs is asked. Nothing limits them; the engine cuts a judgment to the room that they leave."""
    return LongestRequest(what="judgments of given pairs", messages=messages_of(variant.longest()), texts={})


def given_responses_request(prompt: GradePrompt, rubrics: Sequence[Rubric]) -> LongestRequest:
    """What a judge of given responses is asked; the longest rubric counts."""
    asked = [prompt.ask(Graded(instruction="", response="", context="", reference=""), rubric) for rubric in rubrics]
    longest = max(asked, key=lambda words: len(words.system) + len(words.user))
    return LongestRequest(what="grades of given responses", messages=messages_of(longest), texts={})


def vote_request(config: VoteConfig) -> LongestRequest:
    """What a judge in use is asked about a pair, or about each response of one."""
    if config.mode == "pointwise":
        return given_responses_request(grade_prompt_of(config.prompt), [config.graded_by])
    return given_pairs_request(variant_of(config.prompt))


def check_requests(
    requests: Sequence[LongestRequest], model: ModelConfig, roles: Sequence[str], tokenizer: "PreTrainedTokenizerBase"
) -> str:
    """The room that is left for instructions, in words; empty if the model is asked nothing.

    Raises ConfigError if the context of the model's engine leaves none beside the longest texts.
    """
    rooms = []
    for request in requests:
        prompt = len(encode_chat(tokenizer, request.messages, model.chat_options))
        room = model.max_model_len - prompt - sum(request.texts.values())
        if room < 1:
            texts = " + ".join(f"{setting}={tokens}" for setting, tokens in request.texts.items())
            longest, remedy = (f", and its longest texts {texts}", "lower these, or ") if texts else ("", "")
            settings = ", ".join(f"{role}.max_model_len" for role in roles)
            raise ConfigError(
                f"{settings}={model.max_model_len} tokens cannot hold {request.what}: the prompt takes {prompt} tokens"
                f"{longest}: {remedy}raise max_model_len if the model's context allows it"
            )
        rooms.append(room)
    return "" if not rooms else f"{min(rooms):,} tokens are left for an instruction beside the longest texts"


def check_examples(config: Config, tokenizer: "PreTrainedTokenizerBase") -> str:
    """The room of a training example, in words. Raises ConfigError if the judge's prompt alone fills it."""
    prompt = len(encode_chat(tokenizer, _judging(FIGURE_8), config.models.seed.chat_options))
    settings = {"train.max_seq_len": config.train.max_seq_len}
    if config.train.objective != "sft":
        settings["train.preference.max_seq_len"] = config.train.preference.max_seq_len
    for setting, most in settings.items():
        if most <= prompt:
            raise ConfigError(
                f"{setting}={most} tokens cannot hold an example: the judge's prompt alone takes {prompt}. Raise {setting}"
            )
    return f"{min(settings.values()) - prompt:,} tokens are left for the texts of an example"


def _judging(variant: Variant) -> list[Turn]:
    return judge_messages("", _EMPTY_PAIR, "A", variant)


def _user(content: str) -> list[Turn]:
    return [Turn(role="user", content=content)]
