"""A run on disk: its phases, where each one lies, and the key that says what it was made from.

    RUN_ROOT/
      pairs/                  rows: instructions, categories, pairs (and what shares the generator's weights)
      iteration_1/judged/     rows: the judgments of the pairs, and of the held-out pairs, by M_0
      iteration_1/examples/   the training set
      iteration_1/warm_up/    what M_1 is trained from, where the objective is sft_then_dpo: model/; and where it judges again
                              what to prefer (train.preference.source: warm_up), judged/ and examples/
      iteration_1/model/      M_1
      iteration_1/candidates/ its checkpoints as they judged held-out pairs, where train.selection chooses among them
      iteration_2/...
      heldout_3/              rows: the held-out pairs judged by the last model
      report.json, report.html

Which passes there are follows from the weights: what the same weights do is one pass. Where one model generates and judges
first, `pairs` holds the judgments of iteration 1 too, and there is no `iteration_1/judged`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import islice
from typing import Literal

from stj.config import Config, ExamplesConfig, HeldoutConfig, JudgeConfig, ModelConfig, Objective, TrainConfig, check_run_root
from stj.errors import ArtifactError, ConfigError, SourceError
from stj.evals.benchmarks.refs import is_benchmark
from stj.loop.tasks import PROMPTS as EXAMPLE_PROMPTS
from stj.models.locate import loading_settings, model_identity
from stj.prompts import CATEGORIZE, prompt_hash
from stj.rows import HELDOUT, TRAINING, Row, row_from_dict
from stj.sources import read_rows, source_identity, source_size
from stj.sources.files import at_most
from stj.sources.heldout import heldout_identity, heldout_size, read_pairs
from stj.sources.hub import is_hub_dataset
from stj.sources.near_duplicates import drop_near_duplicates
from stj.sources.overlap import Place, drop_overlaps, places, places_identity, read_texts
from stj.stages import judge as judging
from stj.stages import pairs as pairing
from stj.stages.categorize import categorize
from stj.stages.runner import Stage
from stj.stages.select import Gate, apply_limit, reject_unasked, screen, select, without_results
from stj.storage.artifacts import Artifact, Key, plain
from stj.storage.folder import Folder, absolute_path

PassPart = Literal["pairs", "judge", "judge_again", "heldout"]
"""What a pass does; the training pairs are judged again by a model that was warmed up."""

_FIRST_ROWS = 100

_OPERATIONAL = (
    "device",
    "cpus_per_worker",
    "max_failures",
    "checkpoint_every_steps",
    "shard_gb",
    "offload",
    "activation_checkpointing",
    "trackers",
)
"""Settings of training that say when and where it computes, not what."""
_SELECTED_ON = "train.selection.path"


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One step of a run, done when its artifact is."""

    name: str
    """Its directory under run_root."""
    iteration: int
    kind: Literal["pass", "examples", "model"]
    artifact: Artifact
    model: ModelConfig
    """Whose weights a pass goes through, or training begins from."""
    judge: int = 0
    """k of the M_k that judges in this pass; 0 also where the first judge is another model."""
    parts: tuple[PassPart, ...] = ()
    """What a pass does."""
    source: "Phase | None" = None
    """The pass whose judgments examples are selected from, or the examples that a training learns."""
    objective: Objective | None = None
    """What examples are for."""
    train: TrainConfig | None = None
    """Settings of a training."""
    selected_on: HeldoutConfig | None = None
    """The pairs that a training's checkpoints are chosen by; None where the last one is the model."""


class Run:
    """The phases of one config, in the order in which they run, with their keys; nothing is run by making it.

    Raises ConfigError, SourceError or ModelError where the config names what is not there.
    """

    def __init__(self, config: Config) -> None:
        check_run_root(config.run_root)
        self.config = _with_absolute_paths(config)
        self.folder = Folder.at(config.run_root)
        self.phases = self._phases()

    def _phases(self) -> list[Phase]:
        found: list[Phase] = []
        for iteration in range(1, self.config.iterations + 1):
            found += self._first_passes() if iteration == 1 else [self._judging(iteration, found)]
            found += self._learning(iteration, found)
        return [*found, *self._last_heldout(found)]

    def of_iteration(self, iteration: int) -> list[Phase]:
        """The phases of one iteration; the last one also measures M_T."""
        return [phase for phase in self.phases if phase.iteration == iteration]

    def phases_of_one(self) -> list[Phase]:
        """The phases of the iteration that the config names, else of the first that is not finished; none where all are.

        Raises ArtifactError where an iteration before it is not finished.
        """
        unfinished = [phase for phase in self.phases if phase.artifact.state()[0] != "done"]
        iteration = self.config.iteration or next((phase.iteration for phase in unfinished), None)
        if iteration is None:
            return []
        if unfinished and unfinished[0].iteration < iteration:
            raise ArtifactError(
                f"iteration {iteration} rests on {unfinished[0].name}, which is not done: run iteration="
                f"{unfinished[0].iteration}"
            )
        return self.of_iteration(iteration)

    def phase_that(self, part: PassPart, iteration: int) -> Phase:
        """The pass that does a part for an iteration."""
        return next(p for p in self.phases if part in p.parts and (p.iteration == iteration or part == "pairs"))

    def heldout_phase(self, judge: int) -> Phase | None:
        """The pass in which M_k judges the held-out pairs, if there are any."""
        return next((p for p in self.phases if "heldout" in p.parts and p.judge == judge), None)

    def rows_of(self, phase: Phase) -> Iterator[Row]:
        """Rows of a finished pass; those that went on over the limit as tombstones."""
        limit = self.config.select.limit if "pairs" in phase.parts else None
        return apply_limit(lambda: map(row_from_dict, phase.artifact.records()), limit)

    def check_inputs(self) -> None:
        """Reads the held-out pairs, what is kept out, and of instructions that lie on this machine the first few.

        It is to refuse early what is wrong. Raises SourceError, and ConfigError for a tracker that is not installed.
        """
        for name in self.config.train.trackers:
            spec = find_spec(name)
            if spec is None or spec.origin is None:  # without an origin it is a mere directory of this name
                raise ConfigError(f"train.trackers: {name} is not installed: pip install 'stj[trackers]', or leave it out")
        for _ in read_pairs(self.config.heldout):
            pass
        for _ in self.read_selection_pairs():
            pass
        for place in self._kept_out():
            for _ in read_texts(place):
                pass
        if not is_hub_dataset(self.config.source.path):
            first = list(islice(read_rows(self.config.source), _FIRST_ROWS))
            if first and all(row.dropped == "content_not_text" for row in first):
                raise SourceError(
                    f"source.path={self.config.source.path}: {first[0].detail}; so it is in each of the first rows"
                )

    def read_selection_pairs(self) -> Iterator[Row]:
        """The held-out pairs that checkpoints are chosen by, if there are any."""
        return read_pairs(self.config.selected_on, _SELECTED_ON)

    def selection_pairs(self) -> int | None:
        """About how many there are."""
        return heldout_size(self.config.selected_on, _SELECTED_ON)

    def read_inputs(self, phase: Phase) -> Iterator[Row]:
        """The rows that go into a pass, in input order; the held-out pairs come last, to fill the engine's tail."""
        if "pairs" in phase.parts:
            yield from self._instructions()
        elif "judge" in phase.parts or "judge_again" in phase.parts:
            for row in self.rows_of(self.phase_that("pairs", 1)):
                if row.task == TRAINING and row.pair is not None:  # held-out pairs may have shared that pass
                    yield replace(without_results(row), pair=row.pair, prompt_tokens=0, output_tokens=0)
        if "heldout" in phase.parts:
            yield from read_pairs(self.config.heldout)

    def inputs_of(self, phase: Phase) -> int | None:
        """How many rows go into a pass, about; None where a source does not tell."""
        counts: list[int | None] = []
        if "pairs" in phase.parts:
            counts.append(source_size(self.config.source))
        elif "judge" in phase.parts or "judge_again" in phase.parts:
            pairs = self.phase_that("pairs", 1).artifact.manifest().get("pairs")
            counts.append(None if pairs is None else at_most(self.config.select.limit, pairs))
        if "heldout" in phase.parts:
            counts.append(heldout_size(self.config.heldout))
        return None if None in counts else sum(count for count in counts if count is not None)

    def _instructions(self) -> Iterator[Row]:
        """The source's rows, of which those that repeat a benchmark or an earlier row come as tombstones.

        What the rule will reject unasked hides no other row: where the first copy is marked toxic, the second goes on.
        """
        source, rule = self.config.source, self.config.select
        rows = drop_overlaps(read_rows(source), self._kept_out())
        if source.near_duplicates is None:
            return rows
        return drop_near_duplicates(rows, source.near_duplicates, lambda row: reject_unasked(row, rule) is None)

    def _kept_out(self) -> list[Place]:
        heldout, selected_on = self.config.heldout, self.config.train.selection.path
        more = [(_SELECTED_ON, selected_on)] if selected_on and selected_on != heldout.path else []
        return places(self.config.source, heldout) + more

    def stages(self, phase: Phase, gate: Gate | None) -> dict[str, Sequence[Stage]]:
        """The chains of a pass, by the task of a row."""
        config = self.config
        training: list[Stage] = []
        if "pairs" in phase.parts:
            training += [
                partial(screen, rule=config.select, gate=gate),
                partial(categorize, config=config.categorize),
                partial(select, rule=config.select, gate=gate),
                partial(pairing.make_pair, config=config.pairs),
            ]
        if "judge" in phase.parts or "judge_again" in phase.parts:
            training.append(partial(judging.judge, config=self._judge_config(phase.parts), seed=config.seed))
        return {TRAINING: training, HELDOUT: [partial(judging.judge_heldout, config=config.heldout)]}

    def _first_passes(self) -> list[Phase]:
        """The passes of iteration 1: generating, the first judging and measuring M_0, one for each set of weights."""
        models = self.config.models
        roles: list[tuple[PassPart, ModelConfig]] = [("pairs", models.generator), ("judge", models.first_judge)]
        if self.config.heldout.path:
            roles.append(("heldout", models.seed))
        shared: list[tuple[ModelConfig, list[PassPart]]] = []
        for part, model in roles:
            parts = next((parts for other, parts in shared if _same(other, model)), None)
            if parts is None:
                shared.append((model, [part]))
            else:
                parts.append(part)
        found: list[Phase] = []
        for model, members in shared:
            name = "pairs" if "pairs" in members else "iteration_1/judged" if "judge" in members else "heldout_0"
            found.append(self._pass(name, 1, model, tuple(members), model_identity(model), found))
        return found

    def _judging(self, iteration: int, before: list[Phase]) -> Phase:
        """The pass of M_{i-1}: the training pairs for iteration i, and the held-out pairs for its own report."""
        parts: tuple[PassPart, ...] = ("judge", "heldout") if self.config.heldout.path else ("judge",)
        model, weights = self._trained(iteration - 1, before)
        return self._pass(f"iteration_{iteration}/judged", iteration, model, parts, weights, before, judge=iteration - 1)

    def _last_heldout(self, before: list[Phase]) -> list[Phase]:
        last = self.config.iterations
        if not self.config.heldout.path:
            return []
        model, weights = self._trained(last, before)
        return [self._pass(f"heldout_{last}", last, model, ("heldout",), weights, before, judge=last)]

    def _pass(
        self,
        name: str,
        iteration: int,
        model: ModelConfig,
        parts: tuple[PassPart, ...],
        weights: str,
        before: list[Phase],
        judge: int = 0,
    ) -> Phase:
        config = self.config
        key: Key = {"step": "pass", "model": {"weights": weights, **loading_settings(model)}}
        prompts: list[str] = []
        judges = "judge" in parts or "judge_again" in parts
        if "pairs" in parts:
            identities = {"path": source_identity(config.source), "keep_out": places_identity(self._kept_out())}
            key["source"] = {**plain(config.source), **identities}
            key["select"] = plain(config.select)
            key |= {"categorize": plain(config.categorize), "pairs": plain(config.pairs)}
            prompts += [CATEGORIZE, pairing.PROMPTS[config.pairs.method]]
        elif judges:
            key["pairs"] = before[0].artifact.fingerprint
        if judges:
            key |= {"judge": plain(self._judge_config(parts)), "seed": config.seed}  # the seed orders A and B
        if "heldout" in parts:
            key["heldout"] = {**plain(config.heldout), "path": heldout_identity(config.heldout)}
        if judges or "heldout" in parts:
            prompts += judging.PROMPTS
        key["prompts"] = {prompt: prompt_hash(prompt) for prompt in prompts}
        artifact = Artifact(self.folder / name, key)
        return Phase(name=name, iteration=iteration, kind="pass", artifact=artifact, model=model, judge=judge, parts=parts)

    def _judge_config(self, parts: Sequence[PassPart]) -> JudgeConfig:
        """How a pass judges."""
        return self.config.judge.again if "judge_again" in parts else self.config.judge

    def _learning(self, iteration: int, before: list[Phase]) -> list[Phase]:
        """Selecting the training examples of an iteration, and fine-tuning the seed on them."""
        here, seed, train = f"iteration_{iteration}", self.config.models.seed, self.config.train
        judged = next(p for p in before if "judge" in p.parts and p.iteration == iteration)
        again = train.preference.source == "warm_up"
        examples = self._examples(f"{here}/examples", judged, "sft" if again else train.objective)
        start = seed, model_identity(seed)
        if train.objective != "sft_then_dpo":
            return [examples, self._training(f"{here}/model", examples, train.objective, start)]
        warm_up = self._training(f"{here}/warm_up/model", examples, "sft", start)
        start = model_in(warm_up.artifact, seed), f"model {warm_up.artifact.fingerprint}"
        found = [examples, warm_up]
        if again:
            judged = self._pass(f"{here}/warm_up/judged", iteration, start[0], ("judge_again",), start[1], before)
            examples = self._examples(f"{here}/warm_up/examples", judged, "dpo")
            found += [judged, examples]
        return [*found, self._training(f"{here}/model", examples, "dpo", start)]

    def _examples(self, name: str, judged: Phase, objective: Objective) -> Phase:
        """Selecting, from the judgments of one pass, what is to be learned."""
        config = self.config
        key: Key = {"step": "examples", "judged": judged.artifact.fingerprint, "objective": objective, "seed": config.seed}
        prompts: tuple[str, ...] = judging.PROMPTS
        if config.examples != ExamplesConfig():
            key["examples"] = plain(config.examples)
            prompts += EXAMPLE_PROMPTS
        key["prompts"] = {prompt: prompt_hash(prompt) for prompt in prompts}
        return Phase(
            name=name,
            iteration=judged.iteration,
            kind="examples",
            artifact=Artifact(self.folder / name, key),
            model=config.models.seed,
            source=judged,
            objective=objective,
        )

    def _training(
        self,
        name: str,
        examples: Phase,
        objective: Literal["sft", "dpo", "rpo"],
        start: tuple[ModelConfig, str],
    ) -> Phase:
        """One training, from a model and what its weights are."""
        train = self.config.train.stage(objective)
        settings = plain(train)
        for unneeded in (*_OPERATIONAL, "selection", *(["preference"] if objective == "sft" else [])):
            del settings[unneeded]
        settings.get("preference", {}).pop("source", None)  # the examples' key says whose judgments they are
        key: Key = {"step": "model", "examples": examples.artifact.fingerprint, "seed_model": start[1], "train": settings}
        selected_on = None
        if train.selection.path:
            selected_on = self.config.selected_on
            pairs = {**plain(selected_on), "path": heldout_identity(selected_on, _SELECTED_ON)}
            prompts = {prompt: prompt_hash(prompt) for prompt in judging.PROMPTS}
            steps = {"patience": train.selection.patience, "checkpoint_every_steps": train.checkpoint_every_steps}
            key["selection"] = {**steps, "pairs": pairs, "prompts": prompts, "engine": loading_settings(start[0])}
        artifact = Artifact(self.folder / name, key)
        return Phase(
            name=name,
            iteration=examples.iteration,
            kind="model",
            artifact=artifact,
            model=start[0],
            source=examples,
            train=train,
            selected_on=selected_on,
        )

    def _trained(self, iteration: int, before: list[Phase]) -> tuple[ModelConfig, str]:
        """M_i as a model to load, and what its weights are."""
        artifact = next(p.artifact for p in before if p.name == f"iteration_{iteration}/model")
        return model_in(artifact, self.config.models.seed), f"model {artifact.fingerprint}"


def _with_absolute_paths(config: Config) -> Config:
    """The config with paths that other processes, in other working directories, will understand."""
    models = replace(
        config.models,
        generator=replace(config.models.generator, path=absolute_path(config.models.generator.path)),
        first_judge=replace(config.models.first_judge, path=absolute_path(config.models.first_judge.path)),
        seed=replace(config.models.seed, path=absolute_path(config.models.seed.path)),
    )
    heldout = (
        config.heldout if config.heldout.path is None else replace(config.heldout, path=absolute_path(config.heldout.path))
    )
    selection = config.train.selection
    if selection.path is not None:
        if is_benchmark(selection.path):
            raise ConfigError(
                f"{_SELECTED_ON}={selection.path}: a benchmark is reported, never selected on: name a file of other pairs"
            )
        selection = replace(selection, path=absolute_path(selection.path))
    train = replace(config.train, selection=selection)
    keep_out = tuple(map(absolute_path, config.source.keep_out))
    source = replace(config.source, path=absolute_path(config.source.path), keep_out=keep_out)
    return replace(config, models=models, source=source, heldout=heldout, train=train)


def model_in(artifact: Artifact, like: ModelConfig) -> ModelConfig:
    """A trained model, to be loaded like the one that it was trained from."""
    return replace(like, path=artifact.folder.uri, revision=None)


def _same(one: ModelConfig, other: ModelConfig) -> bool:
    """Whether two roles go through the same weights on the same engine."""
    return one == other
