"""The three kinds of phases: a pass, the selection of examples, and a training. Each knows how to run.

Ray and Ray Train take seconds to import, so a phase imports them when it runs: `stj status` and a dry run only look at the
phases.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from stj.config import HeldoutConfig, ModelConfig
from stj.errors import PassFailed
from stj.loop.all_benchmarks import not_read_words
from stj.loop.benchmarks import BenchmarkPhase, artifacts_beside, benchmark_stages, claim, read_with_benchmarks
from stj.loop.clue_balance import ClueBalanceCounts, balance_words
from stj.loop.counts import Funnel, GradingCounts, JudgingCounts, RescueCounts, by_parser, by_score, rescue_words
from stj.loop.examples import ExampleSelection
from stj.loop.inputs import PassPart, count_inputs, kept_out, read_measured, read_training
from stj.loop.label_flags import LabelNoise, noise_words
from stj.loop.opinions import PassOpinions
from stj.loop.phase import Phase
from stj.loop.questions import answered_by, count_questions, no_pair_words, read_questions
from stj.models.shapes import shape_of
from stj.models.zero import CHECKPOINT_BYTES
from stj.pair_sources import PairSource
from stj.panel import PanelMember
from stj.plan.disk import WEIGHT_BYTES
from stj.plan.training import exported_parameters, trained_parameters
from stj.rows import HELDOUT, HELDOUT_GRADES, TRAINING, Row, row_from_dict
from stj.sources.unread import UNREAD
from stj.stages.answer_question import pair_of_answers
from stj.stages.categorize import categorize
from stj.stages.grade import grade_heldout
from stj.stages.grade_pair import grade_pair, judge_and_grade
from stj.stages.judge import judge, judge_heldout
from stj.stages.keep_categories import keep_categories
from stj.stages.opinions import give_opinions
from stj.stages.pairs import attack_pair, make_pair
from stj.stages.rescue import judge_or_rescue
from stj.stages.runner import Stage
from stj.stages.select import ClusterGate, Gate, screen, select
from stj.stages.write_rubric import write_rubric
from stj.storage.artifacts import Artifact
from stj.text import LiveLine, duration
from stj.train.job import CHECKPOINTS, TrainingRoom
from stj.train_config import Objective, TrainConfig

if TYPE_CHECKING:
    from stj.passes.cluster_gate import RayClusterGate
    from stj.passes.gate import RayGate
    from stj.train.launch import TrainingSegment

_MOST_UNREAD = 0.01  # Above this share a file was torn or misread, rather than one row of it odd.


@dataclass(frozen=True, kw_only=True)
class PassPhase(Phase):
    """One stream of rows through one set of weights."""

    model: ModelConfig
    parts: tuple[PassPart, ...]
    """What the pass does."""
    judge: int = 0
    """k of the M_k that judges in this pass; 0 also if the first judge is not the seed."""
    pairs: "PassPhase | None" = None
    """The pass that made the pairs; None if this one makes them, or answers questions."""
    answered: tuple["PassPhase", ...] = ()
    """The passes in which policies answered questions, whose pairs this one takes among those that it makes."""
    curated: Artifact | None = None
    """What curation decided about the instructions; None without it, or if this pass makes no pairs."""
    members: tuple[PanelMember, ...] = ()
    """The members of the panel that share its weights, and give their opinions in it."""
    benchmarks: tuple[BenchmarkPhase, ...] = ()
    """The benchmarks of the same judge: the pass judges those that are missing too."""

    @property
    def engine_model(self) -> ModelConfig:
        """The model that the rows pass through."""
        return self.model

    @property
    def answers(self) -> bool:
        """Whether a policy answers questions in this pass."""
        return "answers" in self.parts

    @property
    def unread(self) -> list[str]:
        """The members of the panel that it was begun with, and that the config does not have any more."""
        return sorted(self.artifact.key.get("panel", {}).keys() - {member.name for member in self.members})

    @property
    def makes_pairs(self) -> bool:
        """Whether this pass turns instructions into pairs."""
        return "pairs" in self.parts

    def run(self, line: LiveLine | None = None) -> None:
        """Streams the rows through the model. Raises PassFailed if no instruction, or no question, became a pair."""
        from stj.passes.run import run_pass
        from stj.passes.spec import pass_under

        beside = claim(self.benchmarks)
        gate, clusters = self._gate(), self._cluster_gate()
        spec = pass_under(
            self.config,
            name=self.name,
            model=self.model,
            read=self._read_training,
            read_after=partial(
                read_with_benchmarks, partial(read_measured, self.config, self.parts), [phase.ref for phase in beside]
            ),
            total=None if beside else self._total(),
            stages={**self.stages(gate, clusters), **benchmark_stages(beside)},
            limit=self.limit,
            per_cluster=self.per_cluster,
            gate=gate,
        )
        run_pass(spec, self.artifact, self.config.engine, beside=artifacts_beside(beside), live_line=line)
        for phase in beside:
            phase.write_scores()
        self.require_usable()

    def read_training(self) -> Iterator[Row]:
        """The training rows that go into the pass. Raises SourceError if the source is no longer what the key says."""
        return self._read_training()

    @property
    def _read_training(self) -> Callable[[], Iterator[Row]]:
        made_of = self.artifact.key.get("source", {})
        identity = {name: made_of[name] for name in ("path", "preferences") if name in made_of}
        if self.answers:
            weights: str = self.artifact.key["model"]["weights"]
            return partial(read_questions, self.config, self.model, weights, kept_out(self.config), identity)
        answered = {source.title: phase.artifact for phase in self.answered for source in answered_by(self.config, phase.model)}
        return partial(read_training, self.config, self.parts, self._pairs, identity or None, self.curated, answered)

    def require_usable(self) -> None:
        """Raises PassFailed if no instruction, or no question, became a pair."""
        if self.answers and not self.artifact.manifest()["pairs"]:
            raise PassFailed(no_pair_words(self.config, self.artifact, self.model))
        self._require_pairs()

    @property
    def limit(self) -> int | None:
        """N: the first N instructions that pass the rule are kept; None for a pass that does not select."""
        return self.config.select.limit if self.makes_pairs else None

    @property
    def per_cluster(self) -> int | None:
        """The first N instructions of each cluster that pass the rule are kept; None for a pass that does not select."""
        return self.config.select.per_cluster if self.makes_pairs else None

    def count_inputs(self) -> int | None:
        """About how many rows go in; None if that is not known."""
        if self.answers:
            return count_questions(self.config, self.model)
        return count_inputs(self.config, self.parts, self._pairs)

    def _total(self) -> int | None:
        """About how many rows go in; None if that is not known, or if the limit may end reading before."""
        count = self.count_inputs()
        return None if count is None or (self.limit is not None and count > self.limit) else count

    def stages(self, gate: Gate | None, clusters: ClusterGate | None = None) -> dict[str, Sequence[Stage]]:
        """The chain of stages for each task: sections 3.2, 3.3 and 3.4 of the paper."""
        config = self.config
        judging = self._judging()
        chains = {TRAINING: [*self._making_pairs(gate, clusters), *judging]}
        for source in config.preferences:
            if source.given:
                chains[f"{TRAINING}/{source.title}"] = [*self._answering(source), *judging]
        parser = config.judge.parser
        graded = partial(grade_heldout, config=config.heldout, words=config.grading.words, parser=parser)
        return {
            **chains,
            HELDOUT: [partial(judge_heldout, config=config.heldout, parser=parser)],
            HELDOUT_GRADES: [graded],
        }

    def _making_pairs(self, gate: Gate | None, clusters: ClusterGate | None) -> list[Stage]:
        """From an instruction to a synthetic pair."""
        if not self.makes_pairs:
            return []
        config = self.config
        stages: list[Stage] = [
            partial(screen, rule=config.select, gate=gate, clusters=clusters),
            partial(categorize, config=config.categorize),
            partial(select, rule=config.select, gate=gate, clusters=clusters),
            partial(make_pair, config=config.pairs),
        ]
        if config.pairs.attacked:
            stages.append(partial(attack_pair, share=config.pairs.attacked, seed=config.seed))
        if config.judge.grades and config.grading.written:
            stages.append(partial(write_rubric, config=config.grading, judge=config.judge))
        return stages

    def _answering(self, source: PairSource) -> list[Stage]:
        """From a question to a pair of answers; a pair that is given, or that a policy has made, is at most sorted."""
        stages: list[Stage] = []
        if self.makes_pairs and source.categories is not None:
            stages.append(partial(keep_categories, config=self.config.categorize, categories=source.categories))
        by_policy = self.answers and source.asks and source.model == self.model
        if by_policy or (self.makes_pairs and self.config.asks_generator(source)):
            stages.append(partial(pair_of_answers, sampling=self.config.answer_sampling(source), samples=source.samples))
        return stages

    def _judging(self) -> list[Stage]:
        """What the judge does with a training pair: compares its answers, grades each, or both; and the panel's opinions."""
        config, stages = self.config, list[Stage]()
        if self.members:
            stages.append(partial(give_opinions, members=self.members, config=config.judge, seed=config.seed))
        pairwise = judge_or_rescue if config.judge.rescue else judge
        if "judge" in self.parts and not config.judge.grades:
            stages.append(partial(pairwise, config=config.judge, seed=config.seed))
        elif "judge" in self.parts and not config.judge.compares:
            stages.append(partial(grade_pair, config=config.judge, grading=config.grading))
        elif "judge" in self.parts:
            stages.append(partial(judge_and_grade, config=config.judge, grading=config.grading, seed=config.seed))
        if "judge_again" in self.parts:
            stages.append(partial(pairwise, config=config.judge.again, seed=config.seed))
        return stages

    def rows(self) -> Iterator[Row]:
        """The rows on disk."""
        return map(row_from_dict, self.artifact.records())

    def summary(self) -> str:
        """Rows, tokens, drops by reason, failures, and the cost."""
        manifest = self.artifact.manifest()
        dropped = ", ".join(f"{count} {reason}" for reason, count in manifest["dropped"].items()) or "none"
        ledger = manifest["ledger"]
        dollars = "" if ledger["dollars"] is None else f", ${ledger['dollars']:,.2f}"
        wasted = ledger["wasted_tokens"] / max(1, ledger["output_tokens"])
        return (
            f"{manifest['rows']} rows, {manifest['output_tokens']:,} tokens written, dropped: {dropped}{self._warning()}"
            f"{not_read_words(self.not_kept_out)}; "
            f"failed: {manifest['failed']}; {duration(ledger['engine_seconds'])} of engines{dollars}, "
            f"{wasted:.0%} of all tokens wasted"
        )

    @property
    def not_kept_out(self) -> list[str]:
        """The benchmarks that `source.keep_out=all` could not read for this pass."""
        names: list[str] = self.artifact.key.get("source", {}).get("all_benchmarks", {}).get("not_read", [])
        return names

    def _warning(self) -> str:
        """A warning if so many rows could not be read that their file should be repaired."""
        manifest = self.artifact.manifest()
        unread = sum(count for reason, count in manifest["dropped"].items() if reason in UNREAD)
        if unread <= _MOST_UNREAD * manifest["rows"]:
            return ""
        columns = ["position", "dropped", "detail"]
        details = ((row["position"], row["detail"]) for row in self.artifact.records(columns) if row["dropped"] in UNREAD)
        return (
            f". WARNING: {unread:,} of {manifest['rows']:,} rows could not be read; the first: {min(details)[1]}. Their repair "
            "keeps all other rows"
        )

    @property
    def _pairs(self) -> Artifact | None:
        return self.pairs.artifact if self.pairs else None

    def _gate(self) -> "RayGate | None":
        if self.limit is None:
            return None
        from stj.passes.gate import RayGate

        return RayGate(self.limit, self.artifact)

    def _cluster_gate(self) -> "RayClusterGate | None":
        if self.per_cluster is None:
            return None
        from stj.passes.cluster_gate import RayClusterGate

        return RayClusterGate(self.per_cluster, self.artifact)

    def _require_pairs(self) -> None:
        """Raises PassFailed, with the counts of what was dropped, if no instruction became a pair."""
        if not self.makes_pairs or self.artifact.manifest()["pairs"]:
            return
        funnel = Funnel.of(self.rows())
        dropped = ", ".join(f"{count} {reason}" for reason, count in funnel.dropped.items())
        cut = any(reason.endswith("_truncated") for reason in funnel.dropped)
        more_tokens = "Raise max_tokens in categorize.decoding, pairs.answer and pairs.rejected, which holds the thoughts too. "
        raise PassFailed(
            f"none of {funnel.instructions_in} instructions became a pair; {funnel.selected} passed the rule "
            f"(dropped: {dropped}). {more_tokens if cut else ''}"
            f"Look at select.*, and with `stj show {self.artifact.folder.uri}` at what the model writes"
        )


@dataclass(frozen=True, kw_only=True)
class ExamplesPhase(Phase):
    """Selects the training examples from the judgments of one pass."""

    judged: PassPhase | None
    """None if all examples are labelled."""
    pairs: PassPhase | None
    """The pass that made the pairs, for the counts from instructions to examples."""
    earlier: tuple[PassPhase, ...]
    """The passes that judged the pairs in the iterations before."""
    opinions: tuple[PassPhase, ...]
    """The other passes in which members of the panel judged the pairs (stj/loop/panel_passes.py)."""
    objective: Objective
    """What the examples are for."""

    @property
    def heard(self) -> list[PassOpinions]:
        """Each pass that holds opinions of the panel: also those of the judges, that of the current one last."""
        passes = {phase.name: phase for phase in (*self.opinions, *self.earlier, self.judged) if phase}
        return [PassOpinions(phase.artifact, phase.members) for phase in passes.values() if phase.members]

    def run(self, line: LiveLine | None = None) -> None:
        """Keeps one right judgment a pair, with as many labels A as B. Raises PassFailed if there is nothing to learn."""
        selection = ExampleSelection(
            name=self.name,
            judged=self.judged.artifact if self.judged else None,
            pairs=self.pairs.artifact if self.pairs else None,
            earlier=[phase.artifact for phase in self.earlier],
            opinions=self.heard,
            objective=self.objective,
            config=self.config,
        )
        selection.write(self.artifact)

    def summary(self) -> str:
        """Examples, acceptance, draws and the balance of labels."""
        manifest = self.artifact.manifest()
        judged = JudgingCounts(**manifest["judged"])
        graded = GradingCounts(**manifest["graded"]) if "graded" in manifest else None
        labelled = _labelled_words(manifest.get("labelled"))
        if "rescue" in manifest:
            labelled += f"; {rescue_words(RescueCounts(**manifest['rescue']))}"
        if "label_noise" in manifest:
            labelled += f"; {noise_words(LabelNoise(**manifest['label_noise']))}"
        if "balanced" in manifest:
            labelled += f"; {balance_words(ClueBalanceCounts(**manifest['balanced']))}"
        if self.judged is None:
            return f"{manifest['rows']} examples{labelled}"
        if not self.config.judge.compares and graded:
            return f"{manifest['rows']} examples; {_grades_words(graded)}{labelled}"
        rarer = [f"{count} {kind}s" for kind, count in manifest["kinds"].items() if kind != "judgment"]
        among = f" ({', '.join(rarer)})" if rarer else ""
        cut = f", {judged.truncated:,} of {judged.draws:,} judgments truncated" if judged.truncated else ""
        return (
            f"{manifest['rows']} examples{among} of {judged.judged} judged pairs; accepted {judged.accepted:.1%}, "
            f"{judged.draws_per_kept:.2f} draws per kept judgment, A/B {judged.label_a}/{judged.label_b}{cut}, "
            f"kept by parser: {by_parser(judged.kept_by_parser)}{f'; {_grades_words(graded)}' if graded else ''}{labelled}"
        )


def _grades_words(graded: GradingCounts) -> str:
    """What was graded, and the scores of the examples."""
    accepted = f"{graded.accepted:.1%}" if graded.accepted is not None else "none"
    draws = f"{graded.draws_per_kept:.2f} samples per kept one, " if graded.draws_per_kept else ""
    return f"{graded.graded} pairs graded, accepted {accepted}, {draws}scores {by_score(graded.learned) or 'none'}"


def _labelled_words(counts: Mapping[str, Any] | None) -> str:
    """How many labelled judgments there are, and why some are not learned; empty without any."""
    if counts is None:
        return ""
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in counts["dropped"].items())
    return f"; {counts['learned']:,} of {counts['rows']:,} labelled judgments{f' (dropped: {dropped})' if dropped else ''}"


@dataclass(frozen=True, kw_only=True)
class TrainingPhase(Phase):
    """Fine-tunes the seed model, or the model warmed up from it, anew in each iteration, on the examples of that iteration."""

    model: ModelConfig
    """Where training begins."""
    examples: ExamplesPhase
    train: TrainConfig
    selected_on: HeldoutConfig | None
    """The pairs by which its checkpoints are chosen; None if the last checkpoint is the model."""
    done_models: tuple[str, ...] = ()
    """Models that no later phase needs, by path: their copies on the machines give way to what the training writes."""

    @property
    def engine_model(self) -> ModelConfig | None:
        """Its checkpoints judge if the config names pairs to choose them by."""
        return self.model if self.selected_on else None

    def run(self, line: LiveLine | None = None) -> None:
        """Trains, and selects among the checkpoints if the config asks for it."""
        from stj.loop.checkpoint_selection import CheckpointSelection

        if self.selected_on:
            CheckpointSelection(training=self, pairs=self.selected_on, line=line).run()
        else:
            self.fine_tune(self.artifact, line=line)

    def fine_tune(self, output: Artifact, segment: "TrainingSegment | None" = None, line: LiveLine | None = None) -> None:
        """Trains the model of this phase, or the beginning of it that is a segment, into an artifact."""
        from stj.passes.waiting import waiting_ranks
        from stj.train.launch import train

        examples, waiting = self.examples.artifact, waiting_ranks(self.train)
        train(self.train, self.model, examples, output, self.config.ray, segment, self._room(), waiting, line)

    def _room(self) -> TrainingRoom:
        """What the training takes of disks."""
        shape = shape_of(self.config.models.seed)
        if shape is None:
            return TrainingRoom(done_models=self.done_models)
        return TrainingRoom(
            checkpoint_bytes=CHECKPOINT_BYTES * trained_parameters(shape, self.train),
            model_bytes=WEIGHT_BYTES * exported_parameters(shape, self.train),
            done_models=self.done_models,
        )

    @property
    def in_order(self) -> bool:
        """Whether the checkpoints are gone."""
        return not (self.artifact.folder.parent / CHECKPOINTS).exists()

    def clean_up(self) -> None:
        """Removes the checkpoints: a kill can come after the model is done and before they are removed."""
        (self.artifact.folder.parent / CHECKPOINTS).remove()

    def summary(self) -> str:
        """Steps, losses and why this checkpoint was chosen."""
        manifest = self.artifact.manifest()
        trained = f"{manifest['steps']} steps, loss {manifest['loss_first']:.3f} -> {manifest['loss_last']:.3f}"
        return f"{trained}; {manifest['selection']['why']}" if "selection" in manifest else trained
