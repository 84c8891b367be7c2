"""The benchmarks of a run: each judge M_0 to M_T judges them, in a pass that its weights take anyway.

    RUN_ROOT/benchmarks_2/rewardbench/
      rows/*.parquet, manifest.json    every judgment of M_2, as `stj eval` would write it
      scores.json                      every score, by every parser: `stj compare` takes two such folders

Each benchmark of each judge is an artifact of its own. If one is added to a finished run, it is judged and nothing else is
made again: neither judgments of training pairs nor a model depends on it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from stj.config import Config, ModelConfig
from stj.errors import ConfigError, SourceError, StjError
from stj.evals.benchmarks.evaluation import SCORES, judged_examples, read_scores
from stj.evals.benchmarks.refs import BenchmarkRef, benchmark_refs
from stj.evals.benchmarks.scoring import BenchmarkScores, score_judged
from stj.evals.benchmarks.unread import Readings
from stj.evals.compare import ExampleResult, example_results
from stj.evals.evaluation_scores import score_evaluation
from stj.evals.graded_evaluation import is_graded
from stj.evals.table import interval, percent
from stj.loop.phase import Phase
from stj.prompts.given import variant_of
from stj.rows import Row, row_from_dict
from stj.sources.directory import files_at
from stj.stages.runner import Stage
from stj.storage.artifacts import Artifact
from stj.text import LiveLine


def run_benchmarks(config: Config) -> list[BenchmarkRef]:
    """The benchmarks of a run.

    Raises ConfigError for an unknown name, a name that comes twice, one that is not on the hub and has no place, or a place
    without files.
    """
    try:
        refs = benchmark_refs(config.benchmarks, config.heldout.fields, config.heldout.ties)
        for ref in refs:
            ref.require_place()
            if is_graded(ref):
                raise ConfigError(f"'{ref.word}': a run grades responses from heldout.grades; name the file there")
            if ref.is_local:
                files_at(ref.place or "", ref.name)
        return refs
    except (ConfigError, SourceError) as error:
        raise ConfigError(f"benchmarks: {error}") from None


def unused_settings(config: Config) -> str:
    """The settings of `stj eval` that a run's benchmarks do not follow, for the user; empty if there are none."""
    given = {"votes": config.votes, "prompt": variant_of(config.prompt).name}
    unused = [f"{name}={value}" for name, value in given.items() if value != getattr(Config(), name)]
    if not config.benchmarks or not unused:
        return ""
    return f"{' and '.join(unused)} is for `stj eval` alone: a run asks without votes, with {Config().prompt}"


@dataclass(frozen=True, kw_only=True)
class BenchmarkPhase(Phase):
    """One benchmark, judged by one judge. A pass with the same weights judges it too, unless that pass is done already."""

    model: ModelConfig
    ref: BenchmarkRef
    judge: int
    """k of the M_k that judges."""
    later: tuple["BenchmarkPhase", ...] = ()
    """The judge's benchmarks after this one: a pass for one of them is a pass for all that are missing."""

    @property
    def engine_model(self) -> ModelConfig:
        """The judge."""
        return self.model

    def run(self, line: LiveLine | None = None) -> None:
        """Judges this benchmark and the judge's later ones, in one pass."""
        from stj.passes.run import run_pass
        from stj.passes.spec import pass_under

        beside = claim(self.later)
        phases = [self, *beside]
        spec = pass_under(
            self.config,
            name=self.name,
            model=self.model,
            read=partial(read_with_benchmarks, None, [phase.ref for phase in phases]),
            stages=benchmark_stages(phases),
        )
        run_pass(spec, self.artifact, self.config.engine, beside=artifacts_beside(beside), live_line=line)
        for phase in phases:
            phase.write_scores()

    @property
    def in_order(self) -> bool:
        """Whether the scores are there."""
        return self.artifact.folder.exists(SCORES)

    def clean_up(self) -> None:
        """Writes the scores, if a kill came before them."""
        if not self.in_order:
            self.write_scores()

    def write_scores(self) -> None:
        """Writes scores.json, as `stj eval` does. A benchmark that cannot be scored has its reason there."""
        whole = replace(self.config.heldout, limit=None)
        config = replace(self.config, votes=1, prompt="figure8", heldout=whole)  # These settings are for `stj eval` alone.
        judge = f"M_{self.judge} of {self.config.run_root}"
        score_evaluation(self.artifact, judge, [self.ref], config, {self.ref.name: None})

    def scores(self) -> BenchmarkScores:
        """The judge's scores by the parser of the run. Raises StjError if the benchmark cannot be scored."""
        benchmark = self.ref.benchmark
        examples = judged_examples(self._rows(), benchmark, None, votes=False)
        return score_judged(benchmark, self.config.judge.parser, examples, self.ref.records())

    def results(self) -> dict[str, ExampleResult]:
        """The judge's result on each example, for paired comparisons. Raises StjError if the benchmark cannot be scored."""
        return example_results(self.ref, self._rows())

    def notes(self) -> list[str]:
        """What makes the scores differ from those by the benchmark's own code, as scores.json says, if it is written yet."""
        if not self.artifact.folder.exists(SCORES):
            return []
        scores = read_scores(self.artifact.folder)["scores"].get(self.ref.name, {})
        return list(scores.get("notes", []))

    def summary(self) -> str:
        """Rows, and the accuracy with its interval."""
        rows = f"{self.artifact.manifest()['rows']:,} rows"
        try:
            scores = self.scores()
        except StjError as error:
            return f"{rows}, not scored: {error}"
        unread = "".join(f"; {note}" for note in unread_notes(scores.readings))
        overall = scores.groups.get("overall")
        if overall is None:
            return f"{rows}; some of its parts were not judged, so it has no overall score{unread}"
        return f"{rows}, {percent(overall.accuracy)}% right {interval(overall.ci95)}{unread}"

    def _rows(self) -> Iterator[Row]:
        return map(row_from_dict, self.artifact.records())


def unread_notes(readings: Readings) -> list[str]:
    """A note if so many judgments hold no verdict that the scores say little."""
    return [f"WARNING {readings.shortfall()}"] if readings.is_warned_of else []


def claim(phases: Sequence[BenchmarkPhase]) -> list[BenchmarkPhase]:
    """The phases that are missing, with their artifacts claimed. What is stale was refused before, unless it may be deleted."""
    return [phase for phase in phases if phase.artifact.begin(overwrite=True)]


def read_with_benchmarks(read: Callable[[], Iterator[Row]] | None, refs: Sequence[BenchmarkRef]) -> Iterator[Row]:
    """The rows of a pass, then those of its benchmarks: they fill the engine while the last training rows finish."""
    if read is not None:
        yield from read()
    for ref in refs:
        yield from ref.rows(None)


def benchmark_stages(phases: Sequence[BenchmarkPhase]) -> dict[str, Sequence[Stage]]:
    """The stages of each benchmark, by its name."""
    if not phases:
        return {}
    from stj.evals.evaluate import judge_benchmark  # Ray takes seconds to import.

    config = phases[0].config
    stage = partial(judge_benchmark, heldout=config.heldout, votes=1, parser=config.judge.parser)
    return {phase.ref.name: [stage] for phase in phases}


def artifacts_beside(phases: Sequence[BenchmarkPhase]) -> dict[str, Artifact]:
    """The artifacts of benchmarks that a pass takes along, by name."""
    return {phase.ref.name: phase.artifact for phase in phases}
