"""Who has judged the training pairs: the judges of the iterations and the members of the panel, and how often each is right.

    judge of a pass      its samples of Figure 8, which train
    member of the panel  its opinions, which only choose pairs; they lie in a pass with its weights (panel_passes.py)

Two prompts make two judges of the same weights, as far as errors go. Two temperatures do not: their samples are one judge's.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stj.config import JudgeConfig
from stj.loop.inputs import training_pairs
from stj.loop.pair_draws import PairDraws, RightOf, draws_by
from stj.panel import FIGURE_8, PanelMember
from stj.rows import Judgment, Row, row_from_dict
from stj.storage.artifacts import Artifact
from stj.verdict import Label

_NOT_OF_A_JUDGE = ("dtype", "max_model_len")
"""What a key has of a model that does not make another judge of the same weights."""


class PassOpinions(NamedTuple):
    """A pass that holds opinions of members of the panel."""

    artifact: Artifact
    members: Sequence[PanelMember]
    """Those of whom it holds the opinions that the config asks for."""


_LABELS: tuple[Label, Label] = ("A", "B")


@dataclass(frozen=True, kw_only=True)
class Voice:
    """One of those who have judged the pairs in a pass."""

    judge: bool = False
    """Whether it is the judge of the pass."""
    members: frozenset[str] = frozenset()
    """The members of the panel whose opinions are its own."""
    first_alone: bool
    """Whether only the first verdict of the judge is a fair draw: sampling stopped at a right one."""

    def count(self, row: Row) -> RightOf | None:
        """How many of its verdicts on a pair are right; None without any. A tie is no verdict."""
        own = [judgment for judgment in row.judgments if judgment.verdict in _LABELS] if self.judge else []
        given = [each.judgment for each in row.opinions if each.member in self.members and each.judgment.verdict in _LABELS]
        return RightOf.counted([*(own[:1] if self.first_alone else own), *given])


class PanelDraws:
    """The opinions on each pair, each with the same weight, however many samples it rests on."""

    def __init__(self, voices: Sequence[PairDraws]) -> None:
        self._voices = voices

    def of(self, row_id: str) -> RightOf | None:
        """How many opinions are right, each in part if its samples differ, of how many; None without any."""
        shares = [drawn.share for voice in self._voices if (drawn := voice.of(row_id)) is not None]
        return RightOf(sum(shares), len(shares)) if shares else None


def panel_draws(judged: Artifact, opinions: Sequence[PassOpinions], judge: JudgeConfig) -> PanelDraws:
    """The opinions of the judge, whose pass is `judged`, and of the panel beside it."""
    return PanelDraws([draws for _, draws in panel_voices(judged, opinions, judge)])


def panel_voices(judged: Artifact, opinions: Sequence[PassOpinions], judge: JudgeConfig) -> list[tuple[str, PairDraws]]:
    """The draws of the judge, under an empty name, and of each member of the panel, by name. Each pass is read once.

    Members without a model of their own are the judge: their opinions with other judges' weights are not theirs.
    """
    found: dict[str, PairDraws] = {}
    members = {each.artifact.folder.uri: each.members for each in opinions}
    for artifact in (judged, *(each.artifact for each in opinions if each.artifact.folder.uri != judged.folder.uri)):
        follows = _judge_in(artifact) == _judge_in(judged)
        names = [member.name for member in members.get(artifact.folder.uri, ()) if follows or member.model]
        voices = {name: _voice(judge, members=[name]) for name in names if name not in found}
        if artifact is judged:
            voices = {"": _voice(judge, own=True), **voices}
        found |= zip(voices, draws_of(artifact, list(voices.values())), strict=True)
    return [(name, found[name]) for name in ("", *(member.name for member in judge.panel)) if name in found]


def row_draws(judged: Row, others: Sequence[Row], judge: JudgeConfig) -> PanelDraws:
    """The same for a single pair, as the pass of its judge left it, and `others` that hold opinions for that judge."""
    voices = [PairDraws([judged], _voice(judge, own=True).count)]
    for member in judge.panel:
        rows = [row for row in (*others, judged) if _says(row, member)]
        voices.append(PairDraws(rows[:1], _voice(judge, members=[member.name]).count))
    return PanelDraws(voices)


def draws_of_judges(
    judged: Artifact, passes: Sequence[Artifact], opinions: Sequence[PassOpinions], judge: JudgeConfig
) -> list[PairDraws]:
    """The draws of each judge whose errors are its own: one for the prompts of some weights. That of the pass `judged` is last.

    `passes` are all in which the pairs were judged.
    """
    members = {each.artifact.folder.uri: each.members for each in opinions}
    by_judge: dict[tuple[str, str], list[PairDraws]] = {}
    for artifact in passes:
        voices = independent_judges(artifact, members.get(artifact.folder.uri, ()), judge)
        for prompt, draws in zip(voices, draws_of(artifact, list(voices.values())), strict=True):
            by_judge.setdefault((_judge_in(artifact), prompt), []).append(draws)
    weights = _judge_in(judged)
    current = by_judge.pop((weights, FIGURE_8))
    others = sorted(by_judge.items(), key=lambda item: item[0][0] == weights)  # other prompts of the current judge come last
    return [PairDraws.joined(draws) for draws in (*(draws for _, draws in others), current)]


def independent_judges(artifact: Artifact, members: Sequence[PanelMember], judge: JudgeConfig) -> Mapping[str, Voice]:
    """The judges in a pass whose errors are their own, by prompt; that of Figure 8, which trains, comes last."""
    by_prompt: dict[str, list[str]] = {FIGURE_8: []}
    for member in members:
        by_prompt.setdefault(member.prompt, []).append(member.name)
    own = "judge" in artifact.key
    plain = by_prompt.pop(FIGURE_8)
    others = {prompt: _voice(judge, members=names) for prompt, names in by_prompt.items()}
    return others | ({FIGURE_8: _voice(judge, own=own, members=plain)} if own or plain else {})


def draws_of(artifact: Artifact, voices: Sequence[Voice]) -> list[PairDraws]:
    """The verdicts of some judges on the training pairs of a pass, in one reading."""
    return draws_by(pairs_in(artifact), [voice.count for voice in voices]) if voices else []


def pairs_in(artifact: Artifact) -> Iterator[Row]:
    """The training pairs of a pass."""
    return training_pairs(map(row_from_dict, artifact.records()))


def opinions_of(row: Row, member: str) -> list[Judgment]:
    """What a member says about a pair."""
    return [opinion.judgment for opinion in row.opinions if opinion.member == member]


def _judge_in(artifact: Artifact) -> str:
    """Whose errors those in a pass are, whatever its prompts: the weights, and what their chat template is given."""
    model = artifact.key["model"]
    return json.dumps({name: value for name, value in model.items() if name not in _NOT_OF_A_JUDGE}, sort_keys=True)


def _says(row: Row, member: PanelMember) -> bool:
    return bool(opinions_of(row, member.name))


def _voice(judge: JudgeConfig, *, own: bool = False, members: Iterable[str] = ()) -> Voice:
    return Voice(judge=own, members=frozenset(members), first_alone=judge.sampling != "all")
