"""The setting `judge.panel`: further judges of the same training pairs, by other weights, prompts or temperatures.

A panel is what Verga et al. (2024, "Replacing Judges with Juries") call several models that judge the same answers. Its
opinions say which pairs are contested and which labels are doubtful. They are never training text.
"""

import math
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from stj.model_settings import ModelConfig
from stj.prompts.given import packed
from stj.setting_checks import check

FIGURE_8 = "figure8"
OPINIONS = "opinions/"
"""With the name of a member behind it: the pass in which weights judge that no other pass loads."""
_MOST = 100  # Opinions of a member on a pair: more say nothing new.
_FOLDER = re.compile(r"\w[\w.-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class PanelMember:
    """One further judge of the training pairs. It differs from the judge in weights, prompt or temperature."""

    name: str = ""
    """Its name in reports, and of the folder of its pass if it has one."""
    model: ModelConfig | None = None
    """Its weights, as in `{path: org/judge}`; they give their opinions once, in iteration 1. `null` is the judge of each
    iteration. Weights that a pass loads anyway judge in that pass, others in one pass of their own that members share."""
    prompt: str = FIGURE_8
    """The prompt that it sees: `figure8`, `arena`, `prometheus`, `mtbench`, or a YAML file with `system` and `user`."""
    prompt_format: str | None = None
    """Only with a file in `prompt`: the format of its verdicts, by its name in stj/verdict/formats.py."""
    temperature: float | None = None
    """Temperature of its samples, from 0 (greedy) to 2; `null` is that of `judge.decoding`, whose other settings it shares."""
    samples: int = 1
    """Opinions on each pair, from 1 to 100. All are sampled, in the A/B order that the judge sees."""

    def __post_init__(self) -> None:
        words = packed(self.prompt, self.prompt_format, f"{self.key}.prompt")
        check(
            self.prompt_format is None or words != self.prompt,
            f"{self.key}.prompt_format={self.prompt_format}: prompt={self.prompt} has its own format: leave it out",
        )
        if words != self.prompt:
            object.__setattr__(self, "prompt", words)  # as frozen dataclasses do in __init__
            object.__setattr__(self, "prompt_format", None)  # the words hold it
        check(1 <= self.samples <= _MOST, f"{self.key}.samples={self.samples} opinions a pair: must be 1 to {_MOST}")
        warm = self.temperature
        check(
            warm is None or (math.isfinite(warm) and 0 <= warm <= 2), f"{self.key}.temperature={warm}: must be 0 (greedy) to 2"
        )
        check(
            self.model is None or bool(self.model.path or self.model.endpoint),
            f"{self.key}.model.path is empty; name a model, or leave model out for the judge of each iteration",
        )
        check(
            warm is None or self.model is None or not self.model.fixed_sampling,
            f"{self.key}.temperature={warm}: its model has fixed_sampling=true, which sends none: leave one of them out",
        )

    @property
    def key(self) -> str:
        """Its setting, for errors."""
        return f"judge.panel[{self.name}]"


def check_panel(
    panel: Sequence[PanelMember], first_judge: ModelConfig, temperature: float, *, compares: bool, judges: bool
) -> None:
    """Raises ConfigError if two members are the same, if one is the judge itself, or if there are no pairs to judge."""
    if not panel:
        return
    check(compares, "judge.panel: judge.task=absolute compares no pairs: set judge.task=pairwise or both, or leave it out")
    check(judges, "judge.panel: examples.labelled_share=1 judges no pairs: leave it out, or choose a smaller share")
    names = [member.name for member in panel]
    bad = next((name for name in names if not _FOLDER.fullmatch(name)), None)
    check(
        bad is None,
        f"judge.panel: name={bad!r}: can name a folder, so it must be at most 64 letters, digits, '.', '_' and '-', and begin "
        "with a letter or digit",
    )
    twice = next((name for name in names if names.count(name) > 1), None)
    check(twice is None, f"judge.panel: {twice} comes twice; give each member a name of its own")
    known = {_identity(PanelMember(name="judge"), first_judge, temperature): "the judge itself"}
    for member in panel:
        warm = temperature if member.temperature is None else member.temperature
        check(
            warm > 0 or member.samples == 1 or (member.model or first_judge).fixed_sampling,
            f"{member.key}.samples={member.samples}: at temperature=0 all are the same: set samples=1, or a temperature",
        )
        who = _identity(member, first_judge, temperature)
        check(
            who not in known,
            f"{member.key}: has the model, prompt and temperature of {known.get(who)}: change one of them, or leave it out",
        )
        known[who] = member.name


def other_weights(panel: Sequence[PanelMember]) -> dict[str, ModelConfig]:
    """The weights that members name, each once, by the name of the first member that has them."""
    names: dict[str, ModelConfig] = {}
    for member in panel:
        if member.model is not None and member.model not in names.values():
            names[member.name] = member.model
    return names


def following(panel: Sequence[PanelMember]) -> tuple[PanelMember, ...]:
    """The members that are the judge of each iteration, with another prompt or temperature."""
    return tuple(member for member in panel if member.model is None)


def first_weights(panel: Sequence[PanelMember], first_judge: ModelConfig) -> list[ModelConfig]:
    """The weights with which members judge in iteration 1, each once."""
    return list(dict.fromkeys(member.model or first_judge for member in panel))


def members_with(panel: Sequence[PanelMember], weights: ModelConfig, first_judge: ModelConfig) -> tuple[PanelMember, ...]:
    """The members that judge with these weights in iteration 1."""
    return tuple(member for member in panel if (member.model or first_judge) == weights)


def second_judge(panel: Sequence[PanelMember], first_judge: ModelConfig) -> bool:
    """Whether some member has other weights or another prompt than the judge of iteration 1: its errors are its own."""
    first = _judge_by(first_judge)
    return any(member.prompt != FIGURE_8 or _judge_by(member.model or first_judge) != first for member in panel)


def _identity(member: PanelMember, first_judge: ModelConfig, temperature: float) -> tuple[Hashable, ...]:
    model = member.model or first_judge
    warm = temperature if member.temperature is None else member.temperature
    return _judge_by(model), member.prompt, None if model.fixed_sampling else warm


def _judge_by(model: ModelConfig) -> tuple[Hashable, ...]:
    """The weights of a model, and how it is prompted: a longer context or more GPUs make no other judge."""
    weights = (model.path, model.revision, model.load_format, model.endpoint, model.name)
    return *weights, model.chat_options, model.fixed_sampling
