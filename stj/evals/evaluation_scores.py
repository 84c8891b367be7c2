"""The scores of an evaluation, computed from its judgments by every parser: scores.json."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from stj.config import Config
from stj.errors import StjError
from stj.evals.benchmarks.evaluation import SCORES, judged_examples
from stj.evals.benchmarks.refs import BenchmarkRef, part_of
from stj.evals.benchmarks.scoring import BenchmarkScores, score_judged, scores_json
from stj.evals.benchmarks.unread import EVAL_REMEDY
from stj.evals.consistency import consistency_by_task
from stj.evals.graded_evaluation import GradedEvaluation, is_graded, without_figures
from stj.prompts.given import variant_of
from stj.prompts.variants import FIGURE_8, Variant
from stj.rows import row_from_dict
from stj.stages.stopping import VotesAsked
from stj.storage.artifacts import Artifact, Key
from stj.storage.sealed import write_sealed
from stj.verdict import PARSERS, Parser


def score_evaluation(
    artifact: Artifact,
    judge: str,
    benchmarks: Sequence[BenchmarkRef],
    config: Config,
    sizes: Mapping[str, int | None],
) -> tuple[list[BenchmarkScores], dict[str, str]]:
    """Scores judged benchmarks by every parser and writes scores.json; `judge` names the judge there.

    `sizes` are the numbers of all rows of each benchmark, None if not known.

    Returns the scores, and by name why benchmarks could not be scored.
    """
    counted = Counter(record["task"] for record in artifact.records(["task"]))
    graded = {ref.name: graded_evaluation(artifact, ref) for ref in benchmarks if is_graded(ref)}
    named, benchmarks = benchmarks, [ref for ref in benchmarks if not is_graded(ref)]
    parts = {ref.name: part_of(counted[ref.name], sizes[ref.name], config.heldout.limit) for ref in benchmarks}
    notes = {ref.name: _notes(artifact, ref, variant_of(config.prompt)) for ref in benchmarks}
    scores: list[BenchmarkScores] = []
    refused = {name: why for name, evaluation in graded.items() if (why := without_figures(evaluation))}
    for ref in benchmarks:
        try:
            made = [_scores(artifact, ref, parser, config) for parser in PARSERS]
            if all(parsed.readings.silent for parsed in made):
                raise StjError(f"{ref.name}: not one judgment holds a verdict; {made[0].readings.hint(EVAL_REMEDY)}")
            scores += [replace(parsed, part=parts[ref.name], notes=notes[ref.name]) for parsed in made]
        except StjError as error:  # The other benchmarks are still scored.
            refused[ref.name] = str(error)
    about = {ref.name: _about(counted[ref.name], parts[ref.name], notes[ref.name]) for ref in benchmarks}
    compared = (row for row in map(row_from_dict, artifact.records()) if row.task not in graded)
    for name, counts in consistency_by_task(compared).items():
        about[name] |= counts
    for name, evaluation in graded.items():
        about[name] = {"rows": counted[name], config.judge.parser: evaluation.plain()}
    _write_scores(artifact, judge, named, config, about, scores, refused)
    return scores, refused


def graded_evaluation(artifact: Artifact, ref: BenchmarkRef) -> GradedEvaluation:
    """The figures of the graded responses of an evaluation."""
    return GradedEvaluation.of(row for row in map(row_from_dict, artifact.records()) if row.task == ref.name)


def stopping_key(config: Config) -> Key:
    """What decides which votes are asked; nothing if all are."""
    if config.votes == 1 or config.vote_stop == "all":
        return {}
    return {"stop": config.vote_stop, **({"stop_error": config.vote_stop_error} if config.vote_stop == "unlikely" else {})}


def votes_asked(artifact: Artifact, votes: int) -> dict[str, VotesAsked]:
    """The votes of each benchmark that was judged by votes."""
    asked: dict[str, VotesAsked] = {}
    for record in artifact.records(["task", "judgments.list.element.purpose", "judgments.list.element.winner"]):
        sampled = [judgment for judgment in record["judgments"] if judgment["purpose"] == "sampled"]
        if votes > 1 and sampled:
            most = votes * len({judgment["winner"] for judgment in sampled})
            before = asked.get(record["task"], VotesAsked())
            asked[record["task"]] = before + VotesAsked(asked=len(sampled), most=most)
    return asked


def _scores(artifact: Artifact, ref: BenchmarkRef, parser: Parser, config: Config) -> BenchmarkScores:
    rows = (row for row in map(row_from_dict, artifact.records()) if row.task == ref.name)
    wording = variant_of(config.prompt).wording
    examples = judged_examples(rows, ref.benchmark, parser, votes=config.votes > 1, wording=wording)
    return score_judged(ref.benchmark, parser, examples, ref.records())


def _about(rows: int, part: str, notes: tuple[str, ...]) -> dict[str, Any]:
    """What scores.json says of the rows of a benchmark."""
    return {"rows": rows, **({"part": part} if part else {}), **({"notes": list(notes)} if notes else {})}


def _notes(artifact: Artifact, ref: BenchmarkRef, prompt: Variant) -> tuple[str, ...]:
    """What makes these scores differ from those by the benchmark's own code: its reference answers, or another prompt."""
    return tuple(filter(None, (_without_reference(artifact, ref), _in_other_words(ref, prompt))))


def _without_reference(artifact: Artifact, ref: BenchmarkRef) -> str:
    answers = ref.benchmark.reference_answers
    if answers is None:
        return ""
    rows = (row for row in map(row_from_dict, artifact.records()) if row.task == ref.name and answers.wanted(row))
    wanted = Counter(row.reference is not None for row in rows)
    missing = f"{wanted[False]:,} of {wanted.total():,} pairs judged without one {answers.where}"
    return f"NO REFERENCE ANSWERS: {missing}" if wanted[False] else ""


def _in_other_words(ref: BenchmarkRef, prompt: Variant) -> str:
    if not ref.benchmark.candidates or prompt is FIGURE_8:
        return ""
    return (
        f"NOT ASKED WITH prompt={prompt.name}, which compares two answers: stj's own words ask about four, or about each alone"
    )


def _write_scores(
    artifact: Artifact,
    path: str,
    benchmarks: Sequence[BenchmarkRef],
    config: Config,
    about: Mapping[str, dict[str, Any]],
    scores: Sequence[BenchmarkScores],
    refused: Mapping[str, str],
) -> None:
    """Writes scores.json."""
    asked = votes_asked(artifact, config.votes)
    by_benchmark: dict[str, dict[str, Any]] = {
        name: {
            **rows,
            **({"votes": asdict(asked[name])} if name in asked else {}),
            **{s.parser: scores_json(s) for s in scores if s.benchmark == name},
        }
        for name, rows in about.items()
    }
    for name, reason in refused.items():
        by_benchmark[name] = {**about[name], "error": reason}
    settings = {
        "model": path,
        "prompt": variant_of(config.prompt).name,
        "votes": config.votes,
        **stopping_key(config),
        "parser": config.judge.parser,
    }
    record = {**settings, "benchmarks": [ref.word for ref in benchmarks], "scores": by_benchmark}
    write_sealed(artifact.folder, SCORES, record)
