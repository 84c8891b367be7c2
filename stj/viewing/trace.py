"""The lineage of rows in a run's folder: from a training row back to its source, and from a source row to what came of it.

    source row ──► row of a pass: instruction, category, pair ──► judgments of each judge ──► examples ──► model

The links are those that `stj` itself rests on. Rows of all passes share an id. A pass names its weights, examples the pass that
judged them, and a model its examples, each by a fingerprint (stj/storage/artifacts.py). Only what is on disk is read: neither
the models nor the data must still be there. Of each artifact two columns are read as a stream, and whole only the rows sought.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from stj.config import Config, JudgeConfig
from stj.errors import NoArtifact
from stj.loop.phases import CURATED
from stj.loop.status import read_run_config
from stj.models.removed import removal_note
from stj.pair_sources import ANSWERS
from stj.panel import OPINIONS, other_weights
from stj.passes.ledger import read_ledger
from stj.rows import TRAINING, Example, Row, example_from_dict, row_from_dict
from stj.sources.ids import REPEAT
from stj.sources.labelled import KEY as LABELLED
from stj.storage.artifacts import Artifact, State
from stj.storage.folder import Folder
from stj.viewing.columns import field_at
from stj.viewing.not_learned import LEFT_OUT, NOT_FINISHED, not_learned, rules_of
from stj.viewing.origins import Origins, Sought, SourcePlace
from stj.viewing.sources import ArtifactSource, artifacts_in

_GRADES = ("/grade-chosen", "/grade-rejected")
"""Ends of the ids of examples that teach a grade."""
_LIKE = 3  # Ids that an error shows.


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The model of a pass."""

    name: str
    """M_k for a model that the run trained, else the setting that names the model."""
    path: str
    """Where it lies; the name and address of a model behind an API."""
    identity: str
    removed: str | None = None
    """Why its weights are gone; None if they are not."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A row's part of what a pass cost: the part that its output tokens are of all that the engines wrote in the pass."""

    share: float
    engine_seconds: float
    dollars: float | None
    """None without a price of the machines, or if the pass is not finished."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A row as one pass left it."""

    name: str
    """The folder of the pass in the run."""
    state: State
    fingerprint: str
    makes_pairs: bool
    weights: Weights
    prompts: Mapping[str, str]
    """SHA-256 of the prompts of the pass, by name."""
    row: Row
    record: Mapping[str, Any]
    """The row as it lies on disk."""
    cost: Cost | None
    """None if no engine wrote anything."""


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What one training set has of a row."""

    name: str
    """The folder of the examples in the run."""
    judged: str | None
    """The pass whose judgments it was selected from; None for labelled judgments, or if it is gone."""
    examples: tuple[Example, ...]
    reason: str | None
    """Why there are none; None if there are."""
    rules: tuple[str, ...]
    """The rules of which one leaves it out, if that is all that is known."""
    model: str | None
    """The folder of the model that learned the training set; None if there is none yet."""
    state: State
    """State of that model."""
    steps: int | None
    """Updates of its weights."""
    removed: str | None


@dataclass(kw_only=True)
class RowTrace:
    """All that a run holds of one row."""

    id: str
    place: SourcePlace
    cluster: str | None = None
    """Number and characteristic words of its cluster; None if it has none."""
    steps: list[Step] = field(default_factory=list)
    learned: list[Learned] = field(default_factory=list)
    absent: str | None = None
    """Why no pass holds the row; None if one does, or if it needs none."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The rows that a word names in a run."""

    run: str
    asked: str
    rows: Sequence[RowTrace]


def trace(place: str, word: str) -> Trace:
    """The rows that a word names: by id, by their id in their source, or by FILE:LINE.

    Raises NoArtifact if the folder holds no run, or the run no such row.
    """
    folder = Folder.at(place)
    config = read_run_config(folder)
    tracer = _Tracer(folder, config)
    return Trace(run=folder.uri, asked=word, rows=tracer.rows(word))


class _Tracer:
    """The artifacts of a run, joined by their fingerprints."""

    def __init__(self, folder: Folder, config: Config) -> None:
        self._config = config
        found = [(name, artifact) for name, artifact in artifacts_in(folder) if not name.startswith("evals/")]
        self._of_step = {
            step: sorted((each for each in found if each[1].key.get("step") in kinds), key=lambda each: _order(each[0]))
            for step, kinds in {"pass": ("pass", "benchmark"), "examples": ("examples",), "model": ("model",)}.items()
        }
        curated = next((each for name, each in found if name == CURATED and each.state()[0] == "done"), None)
        self._clusters = {each["number"]: each["name"] for each in curated.manifest()["clusters"]} if curated else {}
        self._folder = folder
        self._origins = Origins(config)

    def rows(self, word: str) -> list[RowTrace]:
        sought = self._origins.sought(re.sub(REPEAT, "", word))
        by_id: dict[str, list[Step]] = {}
        for name, artifact in self._of_step["pass"]:
            state, makes_pairs = artifact.state()[0], "categorize" in artifact.key
            for record in _records(artifact, lambda batch: _of_rows(batch, sought)):
                row = row_from_dict(record)
                by_id.setdefault(row.id, []).append(self._step(name, artifact, state, makes_pairs, row, record))
        sets = [
            (name, artifact, self._examples(artifact, {*by_id, *sought.ids})) for name, artifact in self._of_step["examples"]
        ]
        labelled = {row_id for *_, examples in sets for row_id in examples} - by_id.keys()
        ids = [*by_id, *sorted(labelled | (sought.known.keys() - by_id.keys()))]
        if not ids:
            raise self._unknown(word, sought)
        places = self._origins.places({row_id: steps[0].row for row_id, steps in by_id.items()}, sought, ids)
        return [self._row(row_id, by_id.get(row_id, []), sets, places[row_id]) for row_id in ids]

    def _row(
        self,
        row_id: str,
        steps: list[Step],
        sets: Sequence[tuple[str, Artifact, Mapping[str, list[Example]]]],
        place: SourcePlace,
    ) -> RowTrace:
        learned = [self._learned(name, artifact, steps, examples.get(row_id, [])) for name, artifact, examples in sets]
        made = [each for each in learned if each is not None]
        absent = None if steps or any(each.examples for each in made) else self._absent(place)
        number = steps[0].row.cluster if steps else None
        cluster = None if number is None else f"{number} ({self._clusters.get(number, 'its words are gone')})"
        return RowTrace(id=row_id, place=place, cluster=cluster, steps=steps, learned=made, absent=absent)

    def _step(
        self, name: str, artifact: Artifact, state: State, makes_pairs: bool, row: Row, record: Mapping[str, Any]
    ) -> Step:
        return Step(
            name=name,
            state=state,
            fingerprint=artifact.fingerprint,
            makes_pairs=makes_pairs,
            weights=self._weights(name, artifact),
            prompts=artifact.key.get("prompts", {}),
            row=row,
            record=record,
            cost=_cost(artifact, state, row),
        )

    def _weights(self, name: str, artifact: Artifact) -> Weights:
        identity = artifact.key.get("model", {}).get("weights", "")
        for trained, model in self._of_step["model"]:
            if identity == f"model {model.fingerprint}":
                number = trained.split("/")[0].removeprefix("iteration_")
                called = f"M_{number}" if trained == f"iteration_{number}/model" else f"M_{number} after its warm-up"
                return Weights(name=called, path=model.folder.uri, identity=identity, removed=removal_note(model.folder))
        roles = {"pairs": "models.generator", "iteration_1/judged": "models.first_judge"}
        if name.startswith(ANSWERS):
            roles[name] = f"preferences[{name.removeprefix(ANSWERS)}].model"
        if name.startswith(OPINIONS):
            roles[name] = self._setting_of_member(name.removeprefix(OPINIONS))
        setting = roles.get(name, "models.seed")
        given = self._config.named_models.get(setting)
        return Weights(name=setting, path=given.label if given else "not in the config any more", identity=identity)

    def _setting_of_member(self, name: str) -> str:
        """The setting that names the weights of a member of the panel; members with the same weights share one."""
        panel = self._config.judge.panel
        model = next((member.model for member in panel if member.name == name), None)
        title = next((title for title, known in other_weights(panel).items() if known == model), None)
        follows = model is None and any(member.name == name for member in panel)
        return "models.first_judge" if follows else f"judge.panel[{title or name}].model"

    def _examples(self, artifact: Artifact, ids: set[str]) -> dict[str, list[Example]]:
        """The examples of rows, by the rows' ids."""
        wanted = pa.array([f"{row_id}{end}" for row_id in sorted(ids) for end in ("", *_GRADES)], pa.string())
        by_row: dict[str, list[Example]] = {}
        for record in _records(artifact, lambda batch: pc.is_in(_without_repeat(field_at(batch, "id")), value_set=wanted)):
            example = example_from_dict(record)
            by_row.setdefault(_row_id(example), []).append(example)
        return by_row

    def _learned(self, name: str, artifact: Artifact, steps: Sequence[Step], examples: list[Example]) -> Learned | None:
        """What a training set has of a row; None if the row was never to be in it."""
        judged = next((step for step in steps if step.fingerprint == artifact.key.get("judged")), None)
        if not examples and (judged is None or judged.row.task != TRAINING):
            return None
        done = artifact.state()[0] == "done"
        reason = None if examples else _reason(judged, steps, artifact, self._config.judge) if judged and done else NOT_FINISHED
        trained = next((each for each in self._of_step["model"] if each[1].key.get("examples") == artifact.fingerprint), None)
        state: State = trained[1].state()[0] if trained else "absent"
        return Learned(
            name=name,
            judged=judged.name if judged else None,
            examples=tuple(examples),
            reason=reason,
            rules=tuple(rules_of(artifact.key)) if reason == LEFT_OUT else (),
            model=trained[0] if trained else None,
            state=state,
            steps=trained[1].manifest().get("steps") if trained and state == "done" else None,
            removed=removal_note(trained[1].folder) if trained else None,
        )

    def _absent(self, place: SourcePlace) -> str:
        """Why the run does not hold a row that its source holds."""
        if place.source == LABELLED:
            return "no training set has it: it was dropped or left out, as the manifests of the examples count (labelled)"
        pairs = next((artifact for name, artifact in self._of_step["pass"] if name == "pairs"), None)
        if pairs is None:
            return "the pass that makes pairs has not begun"
        if pairs.state()[0] != "done":
            return f"{pairs.folder.uri} is not finished; the same `stj run` resumes it"
        if (limit := self._config.select.limit) is not None:
            return f"the pass ended before it, at select.limit={limit:,}"
        return "the source was changed since the pass read it"

    def _unknown(self, word: str, sought: Sought) -> NoArtifact:
        """The error for a word that names no row: rows with similar ids, else an id of the run."""
        if sought.refusal:
            return NoArtifact(f"{word}: {sought.refusal}")
        like, first = list[str](), None  # the same id is in the passes of all judges
        for _, artifact in self._of_step["pass"]:
            for ids in ArtifactSource(artifact, "").batches(("id",)):
                column = field_at(ids, "id")
                first = first or (column[0].as_py() if len(column) else None)
                if word and len(like) < _LIKE:
                    like += column.filter(pc.match_substring(column, word, ignore_case=True)).to_pylist()[: _LIKE - len(like)]
        if like:
            return NoArtifact(
                f"{word}: no row of {self._folder.uri} has this id; some that hold it: {', '.join(dict.fromkeys(like))}"
            )
        if first is None:
            return NoArtifact(f"{word}: {self._folder.uri} holds no rows yet; the same `stj run` makes them")
        return NoArtifact(
            f"{word}: no row of {self._folder.uri} has this id. An id looks like {first}; FILE:LINE names a row of the source, "
            "and `stj show` lists rows"
        )


def _order(name: str) -> tuple[int, int, str]:
    """The order in which a run makes its artifacts: by iteration, the judgments of a benchmark behind those of pairs."""
    number = "".join(filter(str.isdigit, name.split("/")[0]))
    measures = name.startswith(("heldout_", "benchmarks_"))
    if name.startswith(ANSWERS):
        return -1, 0, name
    if name.startswith(OPINIONS):
        return 0, 1, name
    return (0, 0, "") if name == "pairs" else (int(number or 0) + measures, int(measures), name)


def _records(artifact: Artifact, holds: Callable[[pa.RecordBatch], pa.Array]) -> Iterator[dict[str, Any]]:
    """The rows of an artifact for which `holds` is true, by their ids and places alone."""
    source, start = ArtifactSource(artifact, ""), 0
    for batch in source.batches(("id", "origin.place")):
        hits = pc.indices_nonzero(pc.fill_null(holds(batch), fill_value=False))
        yield from (source.record(start + number) for number in hits.to_pylist())
        start += batch.num_rows


def _of_rows(batch: pa.RecordBatch, sought: Sought) -> pa.Array:
    by_id = pc.is_in(field_at(batch, "id"), value_set=pa.array(sorted(sought.ids), pa.string()))
    if not sought.places:
        return by_id
    places = pc.cast(field_at(batch, "origin.place"), pa.string())
    return pc.or_(by_id, pc.is_in(places, value_set=pa.array(sorted(sought.places), pa.string())))


def _without_repeat(ids: pa.Array) -> pa.Array:
    """The ids of examples; that of a repeat is the id of the example which it repeats."""
    return pc.replace_substring_regex(ids, REPEAT, "")


def _row_id(example: Example) -> str:
    example_id = re.sub(REPEAT, "", example.id)
    return next((example_id.removesuffix(end) for end in _GRADES if example_id.endswith(end)), example_id)


def _reason(judged: Step, steps: Sequence[Step], examples: Artifact, judge: JudgeConfig) -> str:
    """Why a row of a finished pass is in no training set that was selected from it."""
    folder = judged.name.partition("/")[0]
    before = [step for step in steps[: steps.index(judged)] if "/warm_up/" not in step.name]
    earlier = [step.row for step in before if step.name.partition("/")[0] != folder]
    return not_learned(judged.row, earlier, list(_opinions(judged, steps, examples, judge)), examples.key, judge)


def _opinions(judged: Step, steps: Sequence[Step], examples: Artifact, judge: JudgeConfig) -> Iterator[Row]:
    """A row in the other passes whose opinions chose a training set, those with opinions alone first: they came later.

    Members without a model of their own are the judge, so they say nothing with other weights.
    """
    read = set(examples.key.get("opinions", {}).values())
    named = {member.name for member in judge.panel if member.model}
    for step in sorted((step for step in steps if step.fingerprint in read), key=lambda step: bool(step.row.judgments)):
        follows = step.weights.identity == judged.weights.identity
        yield replace(step.row, opinions=tuple(each for each in step.row.opinions if follows or each.member in named))


def _cost(artifact: Artifact, state: State, row: Row) -> Cost | None:
    """A row's part of the cost of its pass, also of one that is not finished."""
    manifest = artifact.manifest() if state == "done" else {}
    ledger = manifest.get("ledger")
    if ledger is None:
        spent = read_ledger(artifact.folder)
        ledger = {"engine_seconds": spent.engine_seconds, "output_tokens": spent.usage.output_tokens, "dollars": None}
    if not ledger["output_tokens"]:
        return None
    share = min(1.0, row.output_tokens / ledger["output_tokens"])
    dollars = cast(float | None, ledger["dollars"])
    return Cost(
        share=share,
        engine_seconds=share * ledger["engine_seconds"],
        dollars=None if dollars is None else share * dollars,
    )
