"""`stj judge`: judges the pairs of a file in a pass, and reports each result as it arrives.

A juror is a model with one prompt. The prompts of one model share its pass, so its weights are loaded once. Several jurors are
compared on the same pairs. If the file says which response is better, each juror is scored.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from stj.config import ModelConfig, PromptName, UseConfig, VoteConfig, check_run_root
from stj.findings import require
from stj.judging.calibration import Abstention
from stj.judging.identity import judge_facts, model_facts
from stj.judging.jury import Agreement, Opinion, agreement
from stj.models.check import ModelUse
from stj.models.locate import with_absolute_path, within_context
from stj.passes.check import judge_findings
from stj.passes.run import run_pass
from stj.passes.session import driver_session, engine_demand
from stj.passes.spec import pass_under
from stj.prompts import prompt_hash
from stj.prompts.variants import VARIANTS
from stj.rows import Row, row_from_dict
from stj.sources.ids import id_in_task
from stj.sources.responses import read_responses, read_winners, responses_identity
from stj.stages.judge import LABELS
from stj.stages.runner import Stage
from stj.stages.stopping import VotesAsked
from stj.stages.vote import PairVerdict, first_rounds, pair_verdict, vote
from stj.storage.artifacts import Artifact, Key, artifacts_to_make, fingerprint, plain
from stj.storage.folder import Folder, absolute_path
from stj.verdict import Label

TakeResult = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Several models, each with every prompt, on the pairs of one file."""

    file: str
    models: tuple[ModelConfig, ...]
    prompts: tuple[PromptName, ...]
    config: UseConfig
    abstention: Abstention | None = None
    """When the judge does not answer; only for one model with one prompt."""

    @property
    def folder(self) -> Folder:
        """The folder of the judged rows. Raises ConfigError if a Ray job would lose them."""
        run_root = self.config.run_root or f"runs/judge/{Path(self.file).stem}"
        check_run_root(run_root)
        return Folder.at(run_root)


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """One model's pass over the file."""

    model: ModelConfig
    artifact: Artifact
    judges: Mapping[str, str]
    """Fingerprint of the judge that the model is with each prompt."""


def judge_file(panel: Panel, on_result: TakeResult, *, overwrite: bool = False) -> Agreement:
    """Judges the pairs that are not judged yet, reports every result, and writes the jurors' agreement to agreement.json.

    The file is read and checked before anything starts. Results of an earlier start come first, so every start reports all
    results. New results follow as they are finished, failed ones last.

    Raises SourceError if a row cannot be read, ModelError if a model is missing, and ArtifactError if the folder was made with
    other settings. Also raises the errors of `run_pass`.
    """
    winners = read_winners(panel.file)
    sittings = _sittings(panel)
    to_make = artifacts_to_make([sitting.artifact for sitting in sittings], overwrite=overwrite)
    waiting = [sitting for sitting in sittings if sitting.artifact in to_make]
    for sitting in sittings:
        if sitting not in waiting:
            _report_rows(sitting, _rows(sitting), on_result, panel)
    if waiting:
        uses = [ModelUse(roles=("model",), model=sitting.model, limited=False) for sitting in waiting]
        variants = [VARIANTS[prompt] for prompt in panel.prompts]
        require(judge_findings(uses, variants, panel.folder.uri, panel.config))
        demand = engine_demand(panel.config.engine, [sitting.model for sitting in waiting])
        with driver_session(panel.folder, panel.config.ray, [demand]):
            for sitting in waiting:
                _judge(sitting, panel, on_result, overwrite=overwrite)
    compared = _compared(panel, sittings, winners)
    panel.folder.write_json("agreement.json", asdict(compared))
    return compared


def judged_pairs(panel: Panel) -> Iterator[tuple[str, PairVerdict]]:
    """The verdict of the panel's first model on each pair that is judged, by the id that `read_winners` gives."""
    for row in _rows(_sittings(panel)[0]):
        yield id_in_task(row), pair_verdict(row, panel.config.vote)


def result(row: Row, sitting: Sitting, panel: Panel) -> dict[str, Any]:
    """One judged pair as a JSON object."""
    verdict = pair_verdict(row, panel.config.vote)
    if panel.abstention:
        verdict = panel.abstention.applied(verdict)
    judge = {"model": sitting.model.label, "prompt": row.task, "judge": sitting.judges[row.task]}
    return {"id": id_in_task(row), **judge, **verdict.plain()}


def _sittings(panel: Panel) -> list[Sitting]:
    sittings = []
    for number, named in enumerate(panel.models, start=1):
        model = within_context(with_absolute_path(named))
        facts = model_facts(model)
        votes = {prompt: replace(panel.config.vote, prompt=prompt) for prompt in panel.prompts}
        artifact = Artifact(panel.folder / f"judge_{number}", _key(panel, facts))  # run_root may hold other files.
        judges: dict[str, str] = {prompt: fingerprint(judge_facts(facts, asked)) for prompt, asked in votes.items()}
        sittings.append(Sitting(model=model, artifact=artifact, judges=judges))
    return sittings


def _key(panel: Panel, model: Mapping[str, Any]) -> Key:
    votes = plain(panel.config.vote.key)
    del votes["prompt"]  # "prompts" holds the panel's prompts.
    files = [name for prompt in panel.prompts for name in (VARIANTS[prompt].system, VARIANTS[prompt].user)]
    return {
        "step": "judge_file",
        "model": {**model, **panel.config.engine.drawn_by(panel.config.seed)},
        "file": responses_identity(panel.file),
        "vote": votes,
        "prompts": {name: prompt_hash(name) for name in files},
    }


def _judge(sitting: Sitting, panel: Panel, on_result: TakeResult, *, overwrite: bool) -> None:
    sitting.artifact.begin(overwrite=overwrite)
    report = partial(_report_rows, sitting, on_result=on_result, panel=panel)
    report(row for row in _rows(sitting) if not row.error)
    chains: dict[str, Sequence[Stage]] = {
        prompt: [partial(vote, config=replace(panel.config.vote, prompt=prompt))] for prompt in panel.prompts
    }
    read = partial(read_responses, absolute_path(panel.file), panel.prompts)
    spec = pass_under(panel.config, name=Path(panel.file).name, model=sitting.model, read=read, stages=chains)
    run_pass(spec, sitting.artifact, panel.config.engine, lambda row: report([row]))
    report(row for row in _rows(sitting) if row.error)


def _report_rows(sitting: Sitting, rows: Iterable[Row], on_result: TakeResult, panel: Panel) -> None:
    for row in rows:
        on_result(result(row, sitting, panel))


def _compared(panel: Panel, sittings: Sequence[Sitting], winners: Mapping[str, Label | None]) -> Agreement:
    """The jurors' agreement. Memory holds two numbers for each juror and pair."""
    by_juror: dict[str, dict[str, Opinion]] = {}
    votes = VotesAsked()
    for model, sitting in zip(panel.models, sittings, strict=True):
        names: dict[str, str] = {prompt: _name(model.label, prompt, panel) for prompt in panel.prompts}
        by_juror |= {name: {} for name in names.values()}
        for row in _rows(sitting):
            verdict = pair_verdict(row, panel.config.vote)
            by_juror[names[row.task]][id_in_task(row)] = _opinion(verdict, panel.config.vote)
            votes += VotesAsked(asked=len(verdict.votes), most=verdict.most_votes)
    opinions = {row_id: [by_id[row_id] for by_id in by_juror.values()] for row_id in winners}
    compared = agreement(list(by_juror), opinions, {row_id: winner for row_id, winner in winners.items() if winner})
    return replace(compared, votes=votes)


def _name(model: str, prompt: str, panel: Panel) -> str:
    """A juror's name: its model, its prompt, or both if the panel has several of both."""
    if len(panel.models) == 1:
        return prompt
    return model if len(panel.prompts) == 1 else f"{model} {prompt}"


def _opinion(verdict: PairVerdict, config: VoteConfig) -> Opinion:
    for_a, for_b = verdict.shares
    first = replace(verdict, votes=verdict.votes[: len(LABELS) * first_rounds(config)])
    return Opinion(for_a=for_a, for_b=for_b, first=first.shares)


def _rows(sitting: Sitting) -> Iterator[Row]:
    return map(row_from_dict, sitting.artifact.records())
