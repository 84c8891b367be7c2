"""The phases of a run in the order of section 3 of the paper, and where each one lies on disk.

    RUN_ROOT/
      curated/                          only with `curate.*`: the cluster of each instruction, and which of them stay
      answers/NAME/                     only with a policy in `preferences`, rows: the questions of the source NAME and others
                                        of the same policy, each with a right and a wrong answer
      opinions/NAME/                    only with other weights in `judge.panel`, or members that came later, rows: the pairs
                                        judged by its member NAME and others of the same weights
      pairs/                  3.2, 3.3  rows: instructions, categories, pairs
      iteration_1/judged/     3.4       rows: the judgments of the pairs, and of the held-out pairs, by M_0
      iteration_1/examples/   3.4       the training set: one right judgment a pair, as many labels A as B
      iteration_1/warm_up/              only if the objective is sft_then_dpo: model/, from which M_1 is trained; judged/ and
                                        examples/ too if the warmed-up model judges again (train.preference.source: warm_up)
      iteration_1/model/      3.5       M_1, fine-tuned from the seed
      iteration_1/candidates/           its checkpoints and their judgments, if train.selection chooses among them
      iteration_2/...                   with opinions/NAME/ of members that came later and are the judge of each iteration
      heldout_3/                        rows: the held-out pairs judged by the last model
      benchmarks_0/NAME/ ...            rows: each benchmark judged by each M_k, in the pass that M_k's weights take anyway
      report.json, report.html

All work with the same weights is one pass. If one model generates and judges first, `pairs` holds the judgments of iteration 1
too, and there is no `iteration_1/judged`, unless models.share_first_pass=false.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

from stj.config import Config, ModelConfig, check_run_root
from stj.errors import ArtifactError
from stj.loop.absolute_paths import with_absolute_paths
from stj.loop.benchmarks import BenchmarkPhase, run_benchmarks
from stj.loop.curation import CurationPhase
from stj.loop.inputs import PassPart
from stj.loop.iteration import Iteration, Weights
from stj.loop.keys import benchmark_key, curation_key, decisions_identity, examples_key, panel_key, pass_key, training_key
from stj.loop.kinds import ExamplesPhase, PassPhase, TrainingPhase
from stj.loop.panel_passes import panel_of_pass
from stj.loop.phase import Phase
from stj.loop.questions import answered_by
from stj.models.removed import removal_note
from stj.pair_sources import ANSWERS
from stj.panel import OPINIONS, PanelMember, first_weights, following, members_with, other_weights
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from stj.train_config import Objective

CURATED = "curated"
"""The folder of the decisions about the instructions."""


class Run:
    """The iterations of one config with their phases and keys. Making a Run runs nothing.

    Raises ConfigError, SourceError or ModelError if the config names something that does not exist.
    """

    def __init__(self, config: Config) -> None:
        check_run_root(config.run_root)
        self.config = with_absolute_paths(config)
        self.folder = Folder.at(config.run_root)
        self.seed = Weights.of(self.config.models.seed)
        self._refs = run_benchmarks(self.config)
        self.curation = self._curation() if config.curate.embeds else None
        self.answers = tuple(self._answering())
        self.iterations: list[Iteration] = []
        for number in range(1, config.iterations + 1):
            self.iterations.append(self._iteration(number))

    @property
    def phases(self) -> list[Phase]:
        """All phases, in the order in which they run."""
        return [phase for iteration in self.iterations for phase in iteration.phases]

    @property
    def passes(self) -> Iterator[PassPhase]:
        """The passes, in the order in which they run."""
        return (phase for phase in self.phases if isinstance(phase, PassPhase))

    @property
    def pairs(self) -> PassPhase | None:
        """The pass that makes the pairs; None if all examples are labelled."""
        return self.iterations[0].examples.pairs

    def heldout_phase(self, judge: int) -> PassPhase | None:
        """The pass in which M_k judges the held-out pairs, if there are any."""
        return next((phase for phase in self.passes if "heldout" in phase.parts and phase.judge == judge), None)

    def benchmark_phases(self, judge: int) -> list[BenchmarkPhase]:
        """The benchmarks that M_k judges."""
        return [phase for phase in self.phases if isinstance(phase, BenchmarkPhase) and phase.judge == judge]

    def next_iteration(self) -> Iteration | None:
        """The iteration that the config names, else the first that is not finished; None if all are finished.

        Raises ArtifactError if an iteration before it is not finished.
        """
        unfinished = next((phase for phase in self.phases if self._is_unfinished(phase)), None)
        number = self.config.iteration or (unfinished.iteration if unfinished else None)
        if number is None:
            return None
        if unfinished and unfinished.iteration < number:
            raise ArtifactError(
                f"iteration {number} rests on {unfinished.name}, which is not done: run iteration={unfinished.iteration}"
            )
        return self.iterations[number - 1]

    def _is_unfinished(self, phase: Phase) -> bool:
        """Whether a phase is still to be made. A benchmark whose judge's weights were removed cannot be."""
        if phase.artifact.state()[0] == "done":
            return False
        return not (isinstance(phase, BenchmarkPhase) and phase.judge and removal_note(Folder.at(phase.model.path)))

    def _iteration(self, number: int) -> Iteration:
        """One iteration of section 3."""
        judge = self.seed if number == 1 else Weights.trained(self.iterations[number - 2].model)
        benchmarks = self._benchmarks(number - 1, number, judge)
        annotation = self._first_passes(benchmarks) if number == 1 else self._judging(number, judge, benchmarks)
        pairs = next((phase for phase in annotation if phase.makes_pairs), None) if number == 1 else self.pairs
        judged = next((phase for phase in annotation if "judge" in phase.parts), None)
        train, here = self.config.train, f"iteration_{number}"
        prefers_again = train.preference.source == "warm_up"
        objective_of_examples: Objective = "sft" if prefers_again else train.objective
        passes = [*(phase for before in self.iterations for phase in before.annotation), *annotation]
        opinions = _with_opinions(passes, judged)
        examples = self._examples(f"{here}/examples", number, judged, pairs, objective_of_examples, opinions)
        warm_up, again, learned, start = None, tuple[Phase, ...](), examples, self.seed
        objective = train.objective
        if objective == "sft_then_dpo":
            warm_up, objective = self._training(f"{here}/warm_up/model", examples, "sft", self.seed), "dpo"
            start = Weights.trained(warm_up)
            if prefers_again:
                judged_again, *more = self._judged_by(start, f"{here}/warm_up", number, ("judge_again",), pairs)
                opinions = _with_opinions([*passes, *more], judged_again)
                learned = self._examples(f"{here}/warm_up/examples", number, judged_again, pairs, "dpo", opinions)
                again = judged_again, *more, learned
        model = self._training(f"{here}/model", learned, objective, start)
        return Iteration(
            number=number,
            curation=self.curation if number == 1 else None,
            answers=self.answers if number == 1 else (),
            annotation=annotation,
            benchmarks=benchmarks,
            examples=examples,
            warm_up=warm_up,
            again=again,
            model=model,
            measured=self._measuring(number, Weights.trained(model), pairs) if number == self.config.iterations else (),
        )

    def _curation(self) -> CurationPhase:
        """What happens to the instructions before the first pass."""
        artifact = Artifact(self.folder / CURATED, curation_key(self.config))
        return CurationPhase(config=self.config, name=CURATED, iteration=1, artifact=artifact)

    def _answering(self) -> Iterator[PassPhase]:
        """The passes in which policies answer questions. Sources with the same policy share one."""
        for title, model in self.config.policies.items():
            yield self._pass(f"{ANSWERS}{title}", 1, Weights.of(model), ("answers",), None)

    def _measuring(self, number: int, judge: Weights, pairs: PassPhase | None) -> tuple[PassPhase | BenchmarkPhase, ...]:
        """What measures the last judge."""
        benchmarks = self._benchmarks(number, number, judge)
        if not self.config.heldout.measures:
            return benchmarks
        return (self._pass(f"heldout_{number}", number, judge, ("heldout",), pairs, number, benchmarks), *benchmarks)

    def _first_passes(self, benchmarks: tuple[BenchmarkPhase, ...]) -> tuple[PassPhase, ...]:
        """Making pairs, the first judging and measuring M_0: one pass for each set of weights, or one more for the pairs."""
        models = self.config.models
        roles: list[tuple[PassPart, ModelConfig]] = [("pairs", models.generator), ("judge", models.first_judge)]
        if self.config.examples.labelled_alone:
            roles = []
        if self.config.heldout.measures:
            roles.append(("heldout", models.seed))
        panel = self.config.judge.panel
        roles += [("opinions", model) for model in first_weights(panel, models.first_judge)]
        parts_of: list[tuple[ModelConfig, list[PassPart]]] = []
        for part, model in roles:
            sharing = next((parts for other, parts in parts_of if other == model and self._is_shared(parts)), None)
            if sharing is None:
                parts_of.append((model, [part]))
            else:
                sharing.append(part)
        last_of_seed = next((parts for model, parts in reversed(parts_of) if model == models.seed), None)
        passes: list[PassPhase] = []
        apart: list[PassPhase] = []
        names: dict[PassPart, str] = {"pairs": "pairs", "judge": "iteration_1/judged", "heldout": "heldout_0"}
        for model, parts in parts_of:
            weights, members = Weights.of(model), members_with(panel, model, models.first_judge) if "opinions" in parts else ()
            made, measured = passes[0] if passes else None, benchmarks if parts is last_of_seed else ()
            if name := next((names[part] for part in names if part in parts), None):
                passes.append(self._pass(name, 1, weights, parts, made, benchmarks=measured, members=members))
                members, measured = _absent(members, passes[-1]), ()
            apart += self._opinions(OPINIONS, 1, weights, made or passes[0], members, measured)
        return (*passes, *apart)

    def _is_shared(self, parts: Sequence[PassPart]) -> bool:
        """Whether a pass with these parts takes more of them, if the same model has them."""
        return self.config.models.share_first_pass or "pairs" not in parts

    def _judging(self, number: int, judge: Weights, benchmarks: tuple[BenchmarkPhase, ...]) -> tuple[PassPhase, ...]:
        """The pass of M_{i-1}: it judges the training pairs for iteration i, and what measures it for its own report."""
        parts: tuple[PassPart, ...] = ("judge", "heldout") if self.config.heldout.measures else ("judge",)
        return self._judged_by(judge, f"iteration_{number}", number, parts, self.pairs, number - 1, benchmarks)

    def _judged_by(
        self,
        weights: Weights,
        folder: str,
        number: int,
        parts: tuple[PassPart, ...],
        pairs: PassPhase | None,
        judge: int = 0,
        benchmarks: tuple[BenchmarkPhase, ...] = (),
    ) -> tuple[PassPhase, ...]:
        """The pass of a trained judge, with the panel that follows it; then those of members that came later."""
        members = following(self.config.judge.panel)
        judged = self._pass(f"{folder}/judged", number, weights, parts, pairs, judge, benchmarks, members)
        return judged, *self._opinions(f"{folder}/{OPINIONS}", number, weights, pairs, _absent(members, judged))

    def _opinions(
        self,
        folder: str,
        number: int,
        weights: Weights,
        pairs: PassPhase | None,
        members: Sequence[PanelMember],
        benchmarks: tuple[BenchmarkPhase, ...] = (),
    ) -> Iterator[PassPhase]:
        """The passes in which members of the same weights do nothing else: one, and more for those that came later."""
        while members:
            names = dict.fromkeys([*(member.name for member in members), *(self.folder / folder.rstrip("/")).folders()])
            named = [self._pass(f"{folder}{name}", number, weights, (), pairs, 0, benchmarks, members) for name in names]
            begun = (phase for phase in named if phase.artifact.state()[0] in ("done", "partial"))
            yield (phase := next(begun, named[0]))
            members = _absent(members, phase)

    def _benchmarks(self, judge: int, iteration: int, weights: Weights) -> tuple[BenchmarkPhase, ...]:
        """The benchmarks of M_k; each knows the later ones."""
        phases: tuple[BenchmarkPhase, ...] = ()
        for ref in reversed(self._refs):
            name = f"benchmarks_{judge}/{ref.name}"
            phase = BenchmarkPhase(
                config=self.config,
                name=name,
                iteration=iteration,
                artifact=Artifact(self.folder / name, benchmark_key(self.config, ref, weights.model, weights.identity)),
                model=weights.model,
                ref=ref,
                judge=judge,
                later=phases,
            )
            phases = (phase, *phases)
        return phases

    def _pass(
        self,
        name: str,
        iteration: int,
        weights: Weights,
        parts: Sequence[PassPart],
        pairs: PassPhase | None,
        judge: int = 0,
        benchmarks: tuple[BenchmarkPhase, ...] = (),
        members: Sequence[PanelMember] = (),
    ) -> PassPhase:
        """A pass with the given parts; members of the panel give opinions in it unless it was begun without them."""
        made_from = pairs.artifact.fingerprint if pairs else None
        curated = self.curation.artifact if self.curation and "pairs" in parts else None
        decided = decisions_identity(curated.key) if curated else None
        answered = self.answers if "pairs" in parts else ()
        answers = self._fingerprints(answered)
        key_with = partial(pass_key, self.config, parts, weights.model, weights.identity, made_from, decided, answers)
        folder, asked = self.folder / name, panel_key(self.config.judge, members)
        panel = panel_of_pass(folder, asked, key_with, alone=not parts)
        members = tuple(member for member in members if panel.get(member.name) == asked[member.name])
        others: tuple[PassPart, ...] = tuple(part for part in parts if part != "opinions")
        return PassPhase(
            config=self.config,
            name=name,
            iteration=iteration,
            artifact=Artifact(folder, key_with(panel)),
            model=weights.model,
            parts=("opinions", *others) if members else others,
            judge=judge,
            pairs=pairs,
            answered=answered,
            curated=curated,
            members=members,
            benchmarks=benchmarks,
        )

    def _fingerprints(self, answered: Sequence[PassPhase]) -> dict[str, str]:
        """The fingerprints of policies' answers, by the name of the source."""
        return {
            source.title: phase.artifact.fingerprint for phase in answered for source in answered_by(self.config, phase.model)
        }

    def _examples(
        self,
        name: str,
        iteration: int,
        judged: PassPhase | None,
        pairs: PassPhase | None,
        objective: Objective,
        opinions: tuple[PassPhase, ...],
    ) -> ExamplesPhase:
        made_from = judged.artifact.fingerprint if judged else None
        earlier = tuple(before.examples.judged for before in self.iterations[: iteration - 1] if before.examples.judged)
        given = {phase.name: phase.artifact.fingerprint for phase in opinions}
        unread = {phase.name: phase.unread for phase in (*opinions, *earlier, judged) if phase and phase.unread}
        key = examples_key(self.config, made_from, objective, first=not earlier, opinions=given, unread=unread)
        return ExamplesPhase(
            config=self.config,
            name=name,
            iteration=iteration,
            artifact=Artifact(self.folder / name, key),
            judged=judged,
            pairs=pairs,
            earlier=earlier,
            opinions=opinions,
            objective=objective,
        )

    def _training(
        self, name: str, examples: ExamplesPhase, objective: Literal["sft", "dpo", "rpo"], start: Weights
    ) -> TrainingPhase:
        key = training_key(self.config, examples.artifact.fingerprint, objective, start.model, start.identity)
        train = self.config.train.stage(objective)
        return TrainingPhase(
            config=self.config,
            name=name,
            iteration=examples.iteration,
            artifact=Artifact(self.folder / name, key),
            model=start.model,
            examples=examples,
            train=train,
            selected_on=self.config.selected_on if train.selection.path else None,
            done_models=tuple(self._done_before_training(examples.iteration)),
        )

    def _done_before_training(self, number: int) -> Iterator[str]:
        """Models that no phase needs once the pairs of an iteration are judged: those that made pairs, and earlier judges."""
        models = self.config.models
        panel = other_weights(self.config.judge.panel).values()
        first = (models.generator, models.first_judge, *self.config.policies.values(), *panel)
        yield from {model.path for model in first if model.path} - {models.seed.path}
        for iteration in self.iterations[: number - 1]:
            yield from (training.artifact.folder.uri for training in (iteration.model, iteration.warm_up) if training)


def _with_opinions(passes: Sequence[PassPhase], judged: PassPhase | None) -> tuple[PassPhase, ...]:
    """The passes, beside the one that judged, with opinions that no judge's pass has: of weights with names, or later ones."""
    apart = (phase for phase in passes if phase.parts == ("opinions",) or any(member.model for member in phase.members))
    return tuple(phase for phase in apart if judged is None or phase.name != judged.name)


def _absent(members: Sequence[PanelMember], phase: PassPhase) -> tuple[PanelMember, ...]:
    """The members that do not judge in a pass."""
    return tuple(member for member in members if member not in phase.members)
