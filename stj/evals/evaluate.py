"""`stj eval`: one judge on any number of benchmarks, in one pass through its weights.

    RUN_ROOT/evals/MODEL-KEY/
      rows/*.parquet, manifest.json    every judgment and verdict; a row holds all orders of an example
      scores.json                      every score, by every parser

The key holds what was judged and with which settings. The same command resumes a killed evaluation; a finished one is scored
again from its judgments.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from stj.config import Config, HeldoutConfig, ModelConfig
from stj.config_loader import load_model
from stj.errors import ConfigError, SourceError, StjError
from stj.evals.benchmarks import BENCHMARKS
from stj.evals.benchmarks.evaluation import read_evaluation
from stj.evals.benchmarks.refs import BenchmarkRef, part_of
from stj.evals.benchmarks.scoring import BenchmarkScores, scores_tables
from stj.evals.consistency import consistency_line
from stj.evals.evaluation_scores import graded_evaluation, score_evaluation, stopping_key, votes_asked
from stj.evals.graded_evaluation import graded_rows, grading_key, grading_of, is_graded
from stj.findings import Finding, look, require
from stj.generate import Generate
from stj.models.check import ModelUse
from stj.models.locate import loading_settings, model_identity, with_absolute_path
from stj.passes.check import check_place, gpu_findings, model_findings
from stj.passes.model_here import model_here
from stj.passes.node_check import checked_nodes
from stj.passes.run import run_pass
from stj.passes.session import driver_session, engine_demand
from stj.passes.spec import pass_under
from stj.plan.context import given_pairs_request
from stj.prompts import prompt_hash
from stj.prompts.given import variant_of
from stj.rows import Row
from stj.stages.grade import grade
from stj.stages.judge import MORE_ANSWERS_PROMPTS, JudgmentRequest, judge_in_every_order, rate, vote_in_every_order
from stj.stages.stopping import EVERY_VOTE, Stopping
from stj.storage.artifacts import Artifact, Key, fingerprint, plain
from stj.storage.folder import Folder
from stj.text import Show
from stj.verdict import Parser

_NAME_BYTES = 200  # A folder's name may have 255 bytes; a fingerprint follows.


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """An evaluation with its judgments written, and every score that could be computed."""

    folder: Folder
    refused: Mapping[str, str]
    """Why benchmarks could not be scored, by name."""

    def check(self) -> None:
        """Raises StjError if a benchmark could not be scored."""
        if self.refused:
            reasons = "; ".join(self.refused.values())
            raise StjError(f"{', '.join(self.refused)} not scored: {reasons} (all judgments and the other scores are kept)")


def evaluate(word: str, benchmarks: Sequence[BenchmarkRef], config: Config, show: Show) -> Evaluated:
    """Judges the benchmarks with the model that a word names, shows the tables, and returns the place of the evaluation.

    The word is a path, or a file NAME.yaml of a model's settings.

    Raises ConfigError, SourceError or ModelError before anything starts if an input is missing or wrong.
    """
    if not word:
        raise ConfigError("the name of the model is empty; name one, as in runs/mini/iteration_3/model")
    like = replace(config.models.seed, revision=None)
    model = model_here(with_absolute_path(load_model(word, like)), config.engine, config.ray)
    artifact = _artifact(model, benchmarks, config)
    graded = [ref for ref in benchmarks if is_graded(ref)]
    paired = [ref for ref in benchmarks if not is_graded(ref)]
    sizes = {ref.name: ref.size() for ref in paired}
    for ref in paired:
        show(f"{ref.name}: {checked_rows(ref, sizes[ref.name], config.heldout.limit)}")
    for ref in graded:
        show(f"{ref.name}: {_checked_responses(ref, config)}")
    if artifact.state()[0] != "done":
        require(_findings(model, config))
    if artifact.begin():
        _judge(artifact, model, benchmarks, config)
    scores, refused = score_evaluation(artifact, model.label if model.endpoint else word, benchmarks, config, sizes)
    for item in (item for ref in graded for item in graded_evaluation(artifact, ref).shown()):
        show(item)
    for item in scores_tables(parsed for parsed in scores if parsed.parser == config.judge.parser or _compares(parsed)):
        show(item)
    for name, votes in votes_asked(artifact, config.votes).items():
        show(f"{name}: {votes}")
    for name, counts in read_evaluation(artifact.folder.uri)[1]["scores"].items():
        if line := consistency_line(name, counts):
            show(line)
    show(f"judgments and scores: {artifact.folder.uri}")
    return Evaluated(folder=artifact.folder, refused=refused)


def _checked_responses(ref: BenchmarkRef, config: Config) -> str:
    """What will be graded, for the user. Reads and so checks all responses."""
    ref.require_place()
    by = Counter(row.rubrics[0].name for row in graded_rows(ref, config))
    rubrics = f"by {next(iter(by))}" if len(by) == 1 else f"by {len(by):,} rubrics"
    return f"{by.total():,} responses, {rubrics}"


def _findings(model: ModelConfig, config: Config) -> list[Finding]:
    """Every finding on the judge, its prompts and the machine."""
    use = ModelUse(roles=("models.seed",), model=model)
    asked = given_pairs_request(variant_of(config.prompt))
    engines = config.engine.min_replicas if config.engine.device == "gpu" else 0
    place = look("run_root", partial(check_place, config.run_root))
    return [*model_findings(use, [asked], config.ray), place, *gpu_findings({"models.seed": model.gpus * engines}, config.ray)]


def read_benchmarks(benchmarks: Sequence[BenchmarkRef], config: Config) -> Iterator[Row]:
    """The rows of all benchmarks, one benchmark after the other."""
    for ref in benchmarks:
        yield from graded_rows(ref, config) if is_graded(ref) else ref.rows(config.heldout.limit)


async def judge_benchmark(
    row: Row,
    generate: Generate,
    heldout: HeldoutConfig,
    votes: int,
    prompt: str = "figure8",
    parser: Parser = "distinct",
    stopping: Stopping = EVERY_VOTE,
) -> Row:
    """The row, judged by its benchmark's protocol: greedily, in samples, by votes, or with each answer rated alone."""
    benchmark = BENCHMARKS[row.task]
    if benchmark.rated(row):
        return await rate(row, generate, heldout.decoding, parser)
    if votes > 1:
        return await vote_in_every_order(row, generate, heldout.decoding, votes, stopping, parser, variant_of(prompt))
    requests: list[JudgmentRequest] = [("sampled", heldout.decoding, index) for index in range(benchmark.samples)]
    requests = requests or [("greedy", heldout.decoding.greedy(), 0)]
    return await judge_in_every_order(row, generate, requests, parser, variant_of(prompt))


def _artifact(model: ModelConfig, benchmarks: Sequence[BenchmarkRef], config: Config) -> Artifact:
    key: Key = {
        "step": "eval",
        "model": {"weights": model_identity(model), **loading_settings(model), **config.engine.drawn_by(config.seed)},
        "benchmarks": {ref.name: ref.identity for ref in benchmarks},
        "limit": config.heldout.limit,
        "decoding": plain(config.heldout.decoding),
        "votes": config.votes,
        "parser": config.judge.parser,
        "seed": config.seed,
        "prompts": {**variant_of(config.prompt).hashes, **{file: prompt_hash(file) for file in MORE_ANSWERS_PROMPTS}},
        **stopping_key(config),
        **({"grading": grading_key(config)} if any(map(is_graded, benchmarks)) else {}),
    }
    return Artifact(Folder.at(config.run_root) / f"evals/{_short_name(model)}-{fingerprint(key)[:8]}", key)


def _short_name(model: ModelConfig) -> str:
    """The last part of a model's path as part of a folder's name: no disk takes a name of more than 255 bytes."""
    name = re.sub(r"[^\w.-]", "-", (model.name or model.path).rstrip("/").rpartition("/")[2])
    return name.encode()[:_NAME_BYTES].decode(errors="ignore")


def checked_rows(ref: BenchmarkRef, size: int | None, limit: int | None) -> str:
    """What will be judged, for the user. Reads the hub's first row, so that errors come early."""
    if not (size if ref.is_local else any(True for _ in ref.rows(1))):
        raise SourceError(f"{ref.word}: holds no rows to judge")
    if ref.benchmark.limit_records and limit is not None:
        rows: int | None = sum(1 for _ in ref.rows(limit))
    else:
        rows = limit if size is None or limit is None else min(limit, size)
    part = part_of(rows, size, limit) if rows else ""
    return f"{part or f'{size:,}'} rows" if ref.is_local else f"{part} rows, from the hub" if part else "from the hub"


def _judge(artifact: Artifact, model: ModelConfig, benchmarks: Sequence[BenchmarkRef], config: Config) -> None:
    stage = partial(
        judge_benchmark,
        heldout=config.heldout,
        votes=config.votes,
        prompt=config.prompt,
        parser=config.judge.parser,
        stopping=Stopping(rule=config.vote_stop, error=config.vote_stop_error),
    )
    grading = partial(grade, config=grading_of(config))
    spec = pass_under(
        config,
        name=artifact.folder.uri.rpartition("/")[2],
        model=model,
        read=partial(read_benchmarks, benchmarks, config),
        stages={ref.name: [grading if is_graded(ref) else stage] for ref in benchmarks},
    )
    demand = engine_demand(config.engine, [model])
    with driver_session(artifact.folder, config.ray, [demand]), checked_nodes(config.ray, None, gpu=demand.gpus > 0):
        run_pass(spec, artifact, config.engine)


def _compares(parsed: BenchmarkScores) -> bool:
    """Whether published numbers compare with these: an attack card has none."""
    return parsed.parser == "paper" and parsed.attacks is None
