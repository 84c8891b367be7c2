"""`stj judge`: judges the pairs of a file in a pass, and reports each result as it arrives.

A juror is a model with one prompt. The prompts of one model share its pass, so its weights are loaded once. Several jurors are
compared on the same pairs. If the file says which response is better, each juror is scored.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from stj.config import ModelConfig, check_format_is_used, check_run_root
from stj.errors import PassFailed
from stj.evals.benchmarks.unread import VOTE_REMEDY, Survey, Unread
from stj.judging.calibration import Abstention
from stj.judging.file_pass import FilePass, run_passes
from stj.judging.identity import judge_facts, model_facts
from stj.judging.jury import Agreement, Opinion, agreement
from stj.models.locate import with_absolute_path
from stj.pair_fields import Ties, key_without_defaults
from stj.passes.model_here import model_here
from stj.plan.context import vote_request
from stj.prompts.grading import GradePrompt
from stj.prompts.variants import VARIANTS, Variant
from stj.rows import Row
from stj.sources.ids import id_in_task
from stj.sources.pairs import ALL
from stj.sources.responses import PairLabel, read_labels, read_responses, responses_identity
from stj.stages.judge import LABELS
from stj.stages.runner import Stage
from stj.stages.stopping import VotesAsked
from stj.stages.vote import PairVerdict, first_rounds, pair_verdict, vote
from stj.storage.artifacts import Artifact, Key, fingerprint, plain
from stj.storage.folder import Folder, absolute_path
from stj.use_config import UseConfig, VoteConfig
from stj.verdict import TIE, Verdict, parse

TakeResult = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Several models, each with every prompt, on the pairs of one file."""

    file: str
    models: tuple[ModelConfig, ...]
    prompts: tuple[str, ...]
    """Prompts as `vote.prompt` holds them."""
    config: UseConfig
    texts: bool = False
    """Whether each result holds the instruction and both responses."""
    abstention: Abstention | None = None
    """When the judge does not answer; only for one model with one prompt."""

    @cached_property
    def votes(self) -> dict[str, VoteConfig]:
        """How each prompt is asked, by its name, which is the task of the judged rows."""
        asked = [replace(self.config.vote, prompt=prompt) for prompt in self.prompts]
        return {vote.words.name: vote for vote in asked}

    @property
    def folder(self) -> Folder:
        """The folder of the judged rows. Raises ConfigError if a Ray job would lose them."""
        run_root = self.config.run_root or f"runs/judge/{Path(self.file).stem}"
        check_run_root(run_root)
        return Folder.at(run_root)


@dataclass(frozen=True, kw_only=True)
class Sitting(FilePass):
    """One model's pass over the pairs."""

    judges: Mapping[str, str]
    """Fingerprint of the judge that the model is with each prompt."""


def judge_file(panel: Panel, on_result: TakeResult, *, overwrite: bool = False) -> Agreement:
    """Judges the pairs that are not judged yet, reports every result, and writes the jurors' agreement to agreement.json.

    The file is read and checked before anything starts. Results of an earlier start come first, so every start reports all
    results. New results follow as they are finished, failed ones last.

    Raises ConfigError if a format of verdicts is named that no prompt needs, and SourceError if a row cannot be read. Raises
    ModelError if a model is missing, and ArtifactError if the folder was made with other settings. Also raises the errors of
    `run_pass`.
    """
    check_format_is_used(panel.config.vote.prompt_format, panel.prompts, "vote.prompt")
    labels = read_labels(panel.file, panel.config.fields, panel.config.ties)
    winners = {row_id: label.winner for row_id, label in labels.items()}
    report_labelled = _labelled(on_result, labels, panel.config.ties)
    sittings = _sittings(panel)

    def report(sitting: Sitting, rows: Iterable[Row]) -> None:
        for row in rows:
            report_labelled(result(row, sitting, panel), _opinion(row, panel.config.vote))

    requests = [vote_request(vote) for vote in panel.votes.values()]
    run_passes(sittings, requests, panel.folder, panel.config, report, overwrite=overwrite)
    subsets = {row_id: label.subset or ALL for row_id, label in labels.items()}
    compared = _compared(panel, sittings, winners, subsets)
    panel.folder.write_json("agreement.json", asdict(compared))
    return compared


def _labelled(take: TakeResult, labels: Mapping[str, PairLabel], ties: Ties) -> Callable[[Mapping[str, Any], Opinion], None]:
    """Takes results with the id, the subset and the winner that their file has, so that `stj score` reads them as they are.

    If the winner is known, `outcome` is right, wrong or no verdict; failed if the pair could not be judged. A tie has one only
    with ties=count: with ties=half no verdict is right or wrong.
    """

    def take_labelled(result: Mapping[str, Any], opinion: Opinion) -> None:
        label = labels[result["id"]]
        given = {"id": label.id, "subset": label.subset, "winner": label.winner}
        known = {name: value for name, value in given.items() if value is not None}
        rated = label.winner is not None and (label.winner != TIE or ties == "count")
        outcome = {"outcome": _outcome(result, opinion, label.winner)} if rated else {}
        take({**known, **outcome, **{name: value for name, value in result.items() if name != "id"}})

    return take_labelled


def _outcome(result: Mapping[str, Any], opinion: Opinion, winner: Verdict | None) -> str:
    if result["error"]:
        return "failed"
    if winner == TIE and opinion.calls_a_tie:
        return "right"
    return "no verdict" if result["verdict"] is None else "right" if result["verdict"] == winner else "wrong"


def judged_pairs(panel: Panel) -> Iterator[tuple[str, PairVerdict]]:
    """The verdict of the panel's first model on each pair that is judged, by the id that `read_winners` gives."""
    for row in _sittings(panel)[0].rows():
        yield id_in_task(row), pair_verdict(row, panel.config.vote)


def result(row: Row, sitting: Sitting, panel: Panel) -> dict[str, Any]:
    """One judged pair as a JSON object."""
    verdict = pair_verdict(row, panel.config.vote)
    if panel.abstention:
        verdict = panel.abstention.applied(verdict)
    judge = {"model": sitting.model.label, "prompt": row.task, "judge": sitting.judges[row.task]}
    words = panel.votes[row.task].words
    wording = {}
    if isinstance(words, Variant) and words.name not in VARIANTS:
        wording = {"format": words.wording.name}  # Nobody knows a file's prompt by its name.
    texts = {}
    if panel.texts and row.pair is not None:
        texts = {"instruction": row.instruction, "response_a": row.pair.chosen, "response_b": row.pair.rejected}
    return {"id": id_in_task(row), **texts, **judge, **wording, **verdict.plain()}


def unread_votes(panel: Panel) -> Iterator[str]:
    """A line for each juror whose judgments often hold no verdict in the format of its prompt.

    Raises PassFailed, after the lines, if a juror gave no verdict at all.
    """
    silent = []
    parser = panel.config.vote.parser
    for sitting in _sittings(panel):
        surveys: dict[str, Survey] = {name: Survey(parser) for name in panel.votes}
        for row in sitting.rows():
            surveys[row.task].add(*_read(row, panel.votes[row.task]))
        for prompt, survey in surveys.items():
            juror, readings = f"{sitting.model.label}, prompt {prompt}", survey.readings()
            if warning := readings.warning(juror, VOTE_REMEDY):
                yield f"warning: {warning}"
            if readings.silent:
                silent.append(juror)
    if silent:
        raise PassFailed(
            f"{'; '.join(silent)}: not one judgment holds a verdict: the model may be damaged, or asked in words that it was "
            "never trained on. All results are kept"
        )


def _read(row: Row, config: VoteConfig) -> tuple[int, list[Unread]]:
    """The number of a row's judgments, and those without a verdict, or without a score."""
    words = config.words
    if isinstance(words, GradePrompt):
        wording = words.wording(config.graded_by)
        judged = [(grade.text, grade.finish_reason) for grade in row.grades if grade.score is None]
    else:
        wording = words.wording
        judged = [(judgment.text, judgment.finish_reason) for judgment in row.judgments if judgment.verdict is None]
    unread = [
        Unread(text, wording, cut=reason != "stop") for text, reason in judged if parse(text, wording, config.parser) is None
    ]
    return len(row.judgments) + len(row.grades), unread


def _sittings(panel: Panel) -> list[Sitting]:
    sittings = []
    for number, named in enumerate(panel.models, start=1):
        model = model_here(with_absolute_path(named), panel.config.engine, panel.config.ray)
        facts = model_facts(model)
        artifact = Artifact(panel.folder / f"judge_{number}", _key(panel, facts))  # run_root may hold other files.
        judges: dict[str, str] = {name: fingerprint(judge_facts(facts, asked)) for name, asked in panel.votes.items()}
        stages: dict[str, Sequence[Stage]] = {name: [partial(vote, config=asked)] for name, asked in panel.votes.items()}
        read = partial(read_responses, absolute_path(panel.file), list(panel.votes), panel.config.fields)
        sittings.append(Sitting(file=panel.file, model=model, artifact=artifact, read=read, stages=stages, judges=judges))
    return sittings


def _key(panel: Panel, model: Mapping[str, Any]) -> Key:
    votes = plain(panel.config.vote.key)
    del votes["prompt"]  # "prompts" holds the panel's prompts.
    return {
        "step": "judge_file",
        "model": {**model, **panel.config.engine.drawn_by(panel.config.seed)},
        "file": responses_identity(panel.file),
        **key_without_defaults({"fields": plain(panel.config.fields)}),
        "vote": votes,
        "prompts": {name: digest for asked in panel.votes.values() for name, digest in asked.words.hashes.items()},
    }


def _compared(
    panel: Panel, sittings: Sequence[Sitting], winners: Mapping[str, Verdict | None], subsets: Mapping[str, str]
) -> Agreement:
    """The jurors' agreement. Memory holds two numbers for each juror and pair."""
    by_juror: dict[str, dict[str, Opinion]] = {}
    votes = VotesAsked()
    for model, sitting in zip(panel.models, sittings, strict=True):
        names: dict[str, str] = {name: _name(model.label, name, panel) for name in panel.votes}
        by_juror |= {name: {} for name in names.values()}
        for row in sitting.rows():
            verdict = pair_verdict(row, panel.config.vote)
            by_juror[names[row.task]][id_in_task(row)] = _opinion(row, panel.config.vote)
            votes += VotesAsked(asked=len(verdict.votes), most=verdict.most_votes)
    opinions = {row_id: [by_id[row_id] for by_id in by_juror.values()] for row_id in winners}
    known = {row_id: winner for row_id, winner in winners.items() if winner}
    compared = agreement(list(by_juror), opinions, known, subsets, half_ties=panel.config.ties == "half")
    return replace(compared, votes=votes)


def _name(model: str, prompt: str, panel: Panel) -> str:
    """A juror's name: its model, its prompt, or both if the panel has several of both."""
    if len(panel.models) == 1:
        return prompt
    return model if len(panel.prompts) == 1 else f"{model} {prompt}"


def _opinion(row: Row, config: VoteConfig) -> Opinion:
    verdict = pair_verdict(row, config)
    for_a, for_b = verdict.shares
    first = replace(verdict, votes=verdict.votes[: len(LABELS) * first_rounds(config)])
    ties = sum(vote.scores is not None and None not in vote.scores and vote.verdict is None for vote in verdict.votes)
    ties += sum(judgment.verdict == TIE for judgment in row.judgments)
    for_tie = ties / max(1, len(verdict.votes)) if verdict.distribution is None else 0.0
    return Opinion(for_a=for_a, for_b=for_b, for_tie=for_tie, first=first.shares)
