"""What a card says of a judge: how it was made, of which data, and how good it is. Everything is read from the run's directory.

A figure is shown only if it was measured with the very weights that are published (stj/loop/run_folder.py).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stj.errors import ArtifactError
from stj.evals.benchmarks.evaluation import SCORES, read_scores
from stj.evals.intervals import Interval
from stj.loop.heldout import HeldoutScores
from stj.loop.heldout_grades import HeldoutGrades
from stj.loop.run_folder import RunFolder
from stj.prompts import prompt_hash
from stj.publishing.policies import policies_of
from stj.stages.judge import JUDGE_PROMPTS
from stj.storage.artifacts import Artifact
from stj.verdict import Parser

_BY = {
    "construction": "how the pair was made",
    "human": "people",
    "final_answer": "the known final answer",
    "file": "a file that does not say who",
}
"""Who says which answer is better, for a reader."""
_MAX_TOKENS = 2048  # Of a judgment, if no pass says how long it may be: the default of judge.decoding.


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Training data of one origin."""

    name: str
    by: str
    """Who says which answer is better, or what is right."""
    pairs: int
    """Pairs or labelled judgments that there were."""
    kept: int | None
    """Those with something to learn; None for labelled judgments, which are learned as they are."""
    learned: int
    """Examples; repeats count."""
    repeated: int = 0
    """Those of them that are repeats."""
    policy: str = ""
    """The model that sampled the answers to the questions of this origin; empty if it has none."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkFigures:
    """The overall score of the judge on one benchmark, by the run's parser."""

    name: str
    examples: int
    unjudged: int
    accuracy: float
    ci95: Interval
    position_consistent: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class JudgeFacts:
    """A judge that a run of stj trained."""

    judge: int
    """k of M_k."""
    stj: str
    """The version that trained it."""
    base: str | None
    """Where the model lay that training began from."""
    objective: str
    train: Mapping[str, Any]
    """The settings of its training."""
    manifest: Mapping[str, Any]
    """The facts of its training."""
    examples: int
    funnel: Mapping[str, Any]
    """Counts from instructions to pairs."""
    origins: tuple[Origin, ...]
    keep: str
    """What was kept of the judgments: "correct" or, in a control, "random"."""
    compares: bool
    grades: bool
    parser: Parser
    max_tokens: int
    max_model_len: int | None
    """The context that its engines had; None for all that the model has."""
    heldout: Mapping[str, HeldoutScores]
    """By judge, M_0 first."""
    heldout_grades: Mapping[str, HeldoutGrades]
    benchmarks: tuple[BenchmarkFigures, ...]


def judge_facts(run: RunFolder, judge: int) -> JudgeFacts:
    """The facts of M_k. Raises ArtifactError if its examples are gone, or if it learned other prompts than this stj has."""
    training, learned, judged = run.training(judge), run.learned(judge), run.judged_for(judge)
    if training is None or learned is None:
        raise ArtifactError(
            f"{run.folder.uri}: the examples that M_{judge} was trained on are gone, so its card cannot say what it learned: "
            "copy the run again as a whole, or copy its model's directory out of the run and publish that"
        )
    _refuse_other_prompts(learned, judge)
    manifest, examples = training.manifest(), learned.manifest()
    judging = judged.key["judge"] if judged else run.config.get("judge", {})
    task = judging.get("task", "pairwise")
    measured = {f"M_{number}": seen for number in dict.fromkeys((0, judge)) if (seen := run.measured(number))}
    return JudgeFacts(
        judge=judge,
        stj=manifest["stj"],
        base=run.base(judge),
        objective=_objective(run, judge, training),
        train=training.key["train"],
        manifest=manifest,
        examples=examples["rows"],
        funnel=examples.get("funnel", {}),
        origins=tuple(_origins(examples, policies_of(run.config))),
        keep=judging.get("keep", "correct"),
        compares=task != "absolute",
        grades=task != "pairwise",
        parser=judging.get("parser", "distinct"),
        max_tokens=judging.get("decoding", {}).get("max_tokens", _MAX_TOKENS),
        max_model_len=judged.key["model"].get("max_model_len") if judged else None,
        heldout={name: seen.pairs for name, seen in measured.items() if seen.pairs},
        heldout_grades={name: seen.grades for name, seen in measured.items() if seen.grades},
        benchmarks=tuple(_benchmarks(run, judge)),
    )


def _objective(run: RunFolder, judge: int, training: Artifact) -> str:
    warm_up = run.finished(f"iteration_{judge}/warm_up/model")
    warmed_up = warm_up is not None and training.key["seed_model"] == f"model {warm_up.fingerprint}"
    return "sft_then_dpo" if warmed_up else str(training.key["train"]["objective"])


def _refuse_other_prompts(learned: Artifact, judge: int) -> None:
    for name in JUDGE_PROMPTS:
        asked = learned.key.get("prompts", {}).get(name)
        if asked is not None and asked != prompt_hash(name):
            raise ArtifactError(
                f"{learned.folder.uri}: M_{judge} learned another text of the prompt {name} than this stj has, and its card "
                "would show a wrong one: export it with the version that trained it"
            )


def _origins(examples: Mapping[str, Any], policies: Mapping[str, str]) -> Iterator[Origin]:
    """The training data by origin: synthetic pairs, the sources that the run names, and labelled judgments."""
    judged, graded, sources = examples.get("judged", {}), examples.get("graded", {}), examples.get("sources") or {}
    labelled = examples.get("labelled")
    of_files = labelled["learned"] if labelled else 0
    for name, counts in sources.items():
        by = _BY[counts["labelled_by"]]
        numbers = {"kept": counts["kept"], "learned": counts["learned"], "repeated": counts.get("repeated", 0)}
        yield Origin(name=name, by=by, pairs=counts["judged"], policy=policies.get(name, ""), **numbers)
    if not sources and (pairs := max(judged.get("judged", 0), graded.get("graded", 0))):
        rescued = (examples.get("rescue") or {}).get("rescued", 0)
        kept = max(judged.get("kept", 0) + rescued, graded.get("kept", 0))
        made = examples["rows"] - of_files
        yield Origin(name="synthetic pairs", by=_BY["construction"], pairs=pairs, kept=kept, learned=made)
    if labelled:
        yield Origin(name="labelled judgments", by=_BY["file"], pairs=labelled["rows"], kept=None, learned=of_files)


def _benchmarks(run: RunFolder, judge: int) -> Iterator[BenchmarkFigures]:
    """The benchmarks with an overall score, by the parser of the run."""
    for name, artifact in run.benchmarks(judge).items():
        if not artifact.folder.exists(SCORES):
            continue
        record = read_scores(artifact.folder)
        scores = record["scores"].get(name, {})
        by_parser = scores.get(record["parser"], {})
        overall = by_parser.get("groups", {}).get("overall")
        if overall is None:
            continue
        yield BenchmarkFigures(
            name=f"{name}, {scores['part']}" if "part" in scores else name,
            examples=overall["examples"],
            unjudged=by_parser["unjudged"],
            accuracy=overall["accuracy"],
            ci95=tuple(overall["ci95"]),
            position_consistent=overall["position_consistent"],
            notes=tuple(filter(None, (*scores.get("notes", ()), by_parser.get("warning")))),
        )
