"""The setting `preferences`: which sources training pairs come from, and in what proportions (Tables 4 to 6)."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stj.model_settings import ModelConfig
from stj.pair_fields import OWN_FIELDS, PairFields
from stj.rows import CATEGORIES, LabelledBy
from stj.setting_checks import check

PairSourceKind = Literal["synthetic", "helpsteer2", "hh_rlhf", "gsm8k", "questions", "pairs"]
_LABELLED_BY: dict[PairSourceKind, LabelledBy] = {
    "synthetic": "construction",
    "helpsteer2": "human",
    "hh_rlhf": "human",
    "gsm8k": "final_answer",
    "questions": "final_answer",
    "pairs": "file",
}
ANSWERS = "answers/"
"""With the name of a source behind it: the pass in which a policy answers its questions."""
_MOST_SAMPLES = 1000
_FOLDER = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True, kw_only=True)
class PairSource:
    """One source of training pairs."""

    kind: PairSourceKind = "synthetic"
    """`synthetic` pairs are made of the instructions of `source`. `helpsteer2` and `hh_rlhf` (harmless-base) have human labels.
    `gsm8k` has questions with known answers: each is answered several times, and a right answer is better than a wrong one.
    `questions` is any file of such questions (`question` or `instruction` or `prompt`, and `answer`). `pairs` is any file of
    labelled pairs, as `stj eval pairs:FILE` reads it."""
    name: str = ""
    """Its name in reports and ids; empty stands for its kind. Two sources of one kind need names."""
    path: str | None = None
    """A file, a directory or a data set of the hub; `null` is the published data set of the kind. Of a directory in the layout
    of that data set, its training split is read; `pairs` and `questions` read every file. `synthetic` has none: its
    instructions are those of `source.path`."""
    revision: str | None = None
    """Only on the hub: the commit or tag of the data set; `null` is its newest one. Set it if you may resume the run later."""
    weight: float = 1.0
    """Its part of the examples, in proportion to the other weights, above 0. `examples.mixing` says whether examples are left
    out or repeated for it."""
    categories: tuple[str, ...] | None = None
    """The pairs whose instructions are of these categories of Figure 7. For `synthetic`, no other source names them, and `null`
    takes all that no source before it takes. Of other sources the generator sorts the instructions first; `null` keeps all, and
    asks nothing."""
    human: bool = False
    """Only `pairs`: humans labelled them. The published sets with human labels are known."""
    fields: PairFields = OWN_FIELDS
    """Only `pairs`: the names of its fields, if they are others than stj's own. A pair that people call a tie is dropped."""
    limit: int | None = None
    """Not for `synthetic`, which has `select.limit`: read only this many pairs, or questions; `null` reads all."""
    margin: float = 0.0
    """Only `helpsteer2`: the better response's score is at least this much higher. Equal scores are always left out."""
    per_question: int = 1
    """Only `gsm8k`, `questions`: pairs of each question, from 1 to 100. Each samples its own answers, so two may be alike."""
    samples: int = 8
    """Only `gsm8k`, `questions`: the most answers for a pair, from 2 to 1000. They end with the first right and wrong one."""
    model: ModelConfig | None = None
    """Only `gsm8k`, `questions`: the policy that answers, as in `{path: org/policy}`, so that the judge learns from what this
    model gets right and wrong. It has a pass of its own, which sources with the same model share. `null` is the generator, and
    so is a model with its weights and settings, unless `models.share_first_pass` is false.
    `pairs.answer` says how either samples, where the three settings below do not."""
    temperature: float | None = None
    """Only `gsm8k`, `questions`: temperature of the answers, above 0 and up to 2; `null` is that of `pairs.answer`."""
    top_p: float | None = None
    """Only `gsm8k`, `questions`: `top_p` of the answers; `null` is that of `pairs.answer`."""
    max_tokens: int | None = None
    """Only `gsm8k`, `questions`: longest answer in tokens, at most `pairs.answer.max_tokens`, which is also what `null` stands
    for."""

    def __post_init__(self) -> None:
        _check_option("kind", self.kind, _LABELLED_BY)
        where = self.key
        check(math.isfinite(self.weight) and self.weight > 0, f"{where}.weight={self.weight}: must be a number above 0")
        check("/" not in self.name and self.name.isprintable(), "preferences: a name must be printable, without a slash")
        self._check_use(where)
        check(self.limit is None or self.limit >= 1, f"{where}.limit={self.limit} pairs: must be at least 1")
        check(math.isfinite(self.margin) and self.margin >= 0, f"{where}.margin={self.margin}: must be at least 0")
        check(1 <= self.per_question <= 100, f"{where}.per_question={self.per_question} pairs: must be 1 to 100")
        check(2 <= self.samples <= _MOST_SAMPLES, f"{where}.samples={self.samples} answers: must be 2 to {_MOST_SAMPLES}")
        unknown = sorted(set(self.categories or ()) - set(CATEGORIES))
        check(not unknown, f"{where}.categories={', '.join(unknown)}: no such category; Figure 7 has {'; '.join(CATEGORIES)}")
        check(self.categories != (), f"{where}.categories=[]: no pair can be of it; null takes all")
        self._check_model(where)

    @property
    def title(self) -> str:
        """Its name."""
        return self.name or self.kind

    @property
    def key(self) -> str:
        """Its setting, for errors."""
        return f"preferences[{self.title}]"

    @property
    def given(self) -> bool:
        """Whether its pairs, or questions, are read, and not made of the run's instructions."""
        return self.kind != "synthetic"

    @property
    def filtered(self) -> bool:
        """Whether the generator sorts its instructions into categories, and only some of its pairs stay."""
        return self.given and self.categories is not None

    @property
    def asks(self) -> bool:
        """Whether it has questions, whose answers are sampled."""
        return self.kind in ("gsm8k", "questions")

    @property
    def sampling(self) -> dict[str, float]:
        """Its own settings of how answers are sampled, by their names in `pairs.answer`."""
        own = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}
        return {name: value for name, value in own.items() if value is not None}

    @property
    def things(self) -> str:
        """What it holds, in words."""
        return "questions" if self.asks else "pairs"

    @property
    def labelled_by(self) -> LabelledBy:
        """Who says which of its answers are better."""
        return "human" if self.human else _LABELLED_BY[self.kind]

    def _check_use(self, where: str) -> None:
        """Raises ConfigError for a setting that this kind does not have."""
        only = {
            "path": self.given,
            "revision": self.given,
            "limit": self.given,
            "human": self.kind == "pairs",
            "fields": self.kind == "pairs",
            "margin": self.kind == "helpsteer2",
            "per_question": self.asks,
            "samples": self.asks,
            "model": self.asks,
            "temperature": self.asks,
            "top_p": self.asks,
            "max_tokens": self.asks,
        }
        for name, used in only.items():
            value = getattr(self, name)
            check(
                used or value == getattr(PairSource, name),
                f"{where}.{name}={_shown(value)}: kind={self.kind} has no such setting; leave it out",
            )
        empty = self.path == "" or (self.kind in ("pairs", "questions") and self.path is None)
        check(not empty, f"{where}.path is empty; name a file, a directory or a data set on the hub")

    def _check_model(self, where: str) -> None:
        """Raises ConfigError if the policy is not named, or its name can be no folder."""
        if self.model is None:
            return
        check(bool(self.model.path or self.model.endpoint), f"{where}.model.path is empty; name a model")
        unsent = [f"{where}.{name}={value}" for name, value in self.sampling.items() if name != "max_tokens"]
        check(
            not unsent or not self.model.fixed_sampling,
            f"{', '.join(unsent)}: its model has fixed_sampling=true, which sends neither temperature nor top_p: leave one of "
            "them out",
        )
        check(
            bool(_FOLDER.fullmatch(self.title)),
            f"{where}: the answers of its model lie in a folder of this name; let it hold letters, digits, '.', '_' and '-' "
            "alone, and begin with a letter or digit",
        )


def check_sources(sources: Sequence[PairSource], selected: tuple[str, ...] | None) -> None:
    """Raises ConfigError if two sources have the same name, or if a synthetic pair would be of no source.

    `selected` are the categories that `select` keeps; None for all.
    """
    titles = [source.title for source in sources]
    twice = next((title for title in titles if titles.count(title) > 1), None)
    check(twice is None, f"preferences: {twice} comes twice; give each source a name of its own")
    made = [source for source in sources if not source.given]
    taken: set[str] = set()
    for source in made:
        twice_named = ", ".join(sorted(taken.intersection(source.categories or ())))
        check(not twice_named, f"{source.key}: a source before it takes {twice_named} already; name each category once")
        left = set(source.categories or selected or CATEGORIES) - taken
        check(bool(left), f"{source.key}: the sources before it take all its categories; leave it out")
        taken |= left
    lost = sorted(set(selected or CATEGORIES) - taken)
    check(
        not (made and lost),
        f"preferences: no source takes the synthetic pairs of {', '.join(lost)}, which select.categories keeps: add a source "
        "with these categories, or select fewer",
    )
    absent = sorted({name for source in made for name in source.categories or ()} - set(selected or CATEGORIES))
    check(not absent, f"preferences: select.categories drops {', '.join(absent)}, which a source takes: select them too")


def policies(sources: Sequence[PairSource]) -> dict[str, ModelConfig]:
    """The policies that answer questions, each once, by the name of the first source that it answers for."""
    names: dict[str, ModelConfig] = {}
    for source in sources:
        if source.model is not None and source.model not in names.values():
            names[source.title] = source.model
    return names


def human_share(sources: Sequence[PairSource]) -> float:
    """Share of the examples that rest on human labels, by the weights of their sources."""
    whole = sum(source.weight for source in sources)
    return sum(source.weight for source in sources if source.labelled_by == "human") / whole if whole else 0.0


def synthetic_source(sources: Sequence[PairSource], category: str | None) -> PairSource | None:
    """The source of a synthetic pair whose instruction is of this category."""
    made = (source for source in sources if not source.given)
    return next((source for source in made if source.categories is None or category in source.categories), None)


def _shown(value: object) -> object:
    return value.label if isinstance(value, ModelConfig) else value


def _check_option(name: str, value: object, options: Sequence[str] | dict[PairSourceKind, LabelledBy]) -> None:
    check(value in options, f"preferences: {name}={value}: must be one of {', '.join(options)}")
