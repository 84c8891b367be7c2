"""How diverse the instructions of a run are: its clusters, thin regions, near-duplicates, and the map of the report."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from markupsafe import Markup

from stj.loop.curated import NOT_SAMPLED, Decision, decision_from_dict
from stj.loop.curation import curation_words
from stj.loop.map_plot import Colouring, Point, map_plot
from stj.loop.phases import Run
from stj.loop.report.cells import Cell, table_of
from stj.loop.report.templates import render
from stj.loop.report.words import number
from stj.rows import TRAINING
from stj.stages.select import passed_rule
from stj.storage.artifacts import Artifact
from stj.text import Column

_SYNTHETIC = "instructions of source.path"
_NO_CLUSTER = "no cluster"
_UNCATEGORIZED = "not categorised"
_COLUMNS = ["id", "task", "cluster", "category.name", "dropped", "error", "pair.method", "kept", "kept_grades"]
_NAMED_THIN = 12  # Thin clusters that a sentence names; the table marks all.

_Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ClusterCounts:
    """What became of the rows of one cluster."""

    number: int
    name: str
    """Its characteristic words."""
    rows: int
    kept: int
    """Those that were sampled; all, if nothing is sampled."""
    selected: int | None = None
    """Instructions that passed the rule of `select`."""
    pairs: int | None = None
    accepted: int | None = None
    """Pairs with a kept judgment of the newest judge."""
    thin: bool
    """Whether it has less than a quarter of an equal part of what was kept."""


_CELLS = (
    Cell[ClusterCounts](Column("", "cluster"), lambda cluster: f"{cluster.number} {cluster.name}"),
    Cell[ClusterCounts](Column("", "rows", word="rows of a cluster"), lambda cluster: number(cluster.rows)),
    Cell[ClusterCounts](Column("", "kept", word="kept of a cluster"), lambda cluster: number(cluster.kept)),
    Cell[ClusterCounts](Column("", "selected"), lambda cluster: number(cluster.selected)),
    Cell[ClusterCounts](Column("", "pairs", word="pairs made"), lambda cluster: number(cluster.pairs)),
    Cell[ClusterCounts](Column("", "accepted", word="accepted of a cluster"), lambda cluster: number(cluster.accepted)),
    Cell[ClusterCounts](Column("", "thin"), lambda cluster: "thin" if cluster.thin else ""),
)


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """What curation found, and what became of it in the passes. Empty for a run that curates nothing."""

    facts: Mapping[str, Any] | None = None
    """The counts of the manifest."""
    words: tuple[str, ...] = ()
    clusters: tuple[ClusterCounts, ...] = ()
    points: tuple[Point, ...] = ()

    name = "diversity"

    @classmethod
    def of(cls, run: Run) -> "Diversity":
        """Reads the finished phases of a run: decisions, pairs, and the newest judgments of the training pairs."""
        if run.curation is None or run.curation.artifact.state()[0] != "done":
            return cls()
        manifest = run.curation.artifact.manifest()
        decisions = [decision_from_dict(record) for record in run.curation.artifact.records() if record["x"] is not None]
        shown = {decision.id for decision in decisions}
        made = _Passed.of(run.pairs.artifact if run.pairs else None, shown)
        judged = _Passed.of(_newest_judged(run), shown)
        names = {cluster["number"]: cluster["name"] for cluster in manifest["clusters"]}
        return cls(
            facts={name: manifest[name] for name in ("rows", "embedded", "near_duplicates", "sampled", "map")},
            words=tuple(curation_words(manifest)),
            clusters=tuple(_counts(manifest["clusters"], made, judged)),
            points=tuple(_point(decision, names, made.shown, judged.shown) for decision in decisions),
        )

    def plain(self) -> dict[str, Any] | None:
        """All numbers as JSON values; the points of the map are in the page alone. None for a run that curates nothing."""
        if self.facts is None:
            return None
        return {"facts": dict(self.facts), "clusters": [asdict(cluster) for cluster in self.clusters]}

    def html(self) -> Markup:
        """The part of the page; empty for a run that curates nothing."""
        if self.facts is None:
            return Markup()
        thin = [cluster for cluster in self.clusters if cluster.thin]
        return render(
            "diversity.html.jinja",
            facts=self.facts,
            words=self.words,
            clusters=self.clusters,
            table=table_of(_CELLS, self.clusters),
            thin=thin[:_NAMED_THIN],
            unnamed=len(thin[_NAMED_THIN:]),
            map=map_plot(self.points, _colourings(self.points)),
        )


@dataclass(kw_only=True)
class _Passed:
    """What became of the training rows of a finished pass: counts by cluster, and the rows that the map shows."""

    done: bool = False
    selected: Counter[int] = field(default_factory=Counter)
    pairs: Counter[int] = field(default_factory=Counter)
    accepted: Counter[int] = field(default_factory=Counter)
    shown: dict[str, _Record] = field(default_factory=dict)

    @classmethod
    def of(cls, artifact: Artifact | None, shown: Collection[str]) -> "_Passed":
        """Reads the rows of a pass; nothing if it is not finished."""
        passed = cls(done=artifact is not None and artifact.state()[0] == "done")
        if artifact is None or not passed.done:
            return passed
        for record in artifact.records(_COLUMNS):
            if record["task"] == TRAINING:
                passed._add(record, shown)
        return passed

    def _add(self, record: _Record, shown: Collection[str]) -> None:
        self.selected[record["cluster"]] += passed_rule(record["category"], record["dropped"])
        self.pairs[record["cluster"]] += record["pair"] is not None
        self.accepted[record["cluster"]] += _accepted(record)
        if record["id"] in shown:
            self.shown[record["id"]] = record


def _newest_judged(run: Run) -> Artifact | None:
    """Where the newest judge judged the training pairs."""
    passes = [iteration.examples.judged for iteration in reversed(run.iterations)]
    return next((judged.artifact for judged in passes if judged and judged.artifact.state()[0] == "done"), None)


def _accepted(record: _Record) -> bool:
    return record["kept"] is not None or record["kept_grades"] is not None


def _counts(clusters: Iterable[_Record], made: _Passed, judged: _Passed) -> Iterator[ClusterCounts]:
    """The clusters with the counts of the passes, as far as there are any."""
    for cluster in clusters:
        number = cluster["number"]
        yield ClusterCounts(
            **cluster,
            selected=made.selected[number] if made.done else None,
            pairs=made.pairs[number] if made.done else None,
            accepted=judged.accepted[number] if judged.done else None,
        )


def _point(decision: Decision, names: Mapping[int, str], made: Mapping[str, _Record], judged: Mapping[str, _Record]) -> Point:
    assert decision.x is not None, "only rows on the map are points"
    assert decision.y is not None, "only rows on the map are points"
    record = made.get(decision.id)
    category = record["category"]["name"] if record and record["category"] else _UNCATEGORIZED
    return Point(
        x=decision.x,
        y=decision.y,
        text=decision.text or "",
        classes=(
            category,
            _NO_CLUSTER if decision.cluster is None else names[decision.cluster],
            _outcome(decision, record, judged),
            decision.source or _SYNTHETIC,
        ),
    )


def _outcome(decision: Decision, made: _Record | None, judged: Mapping[str, _Record]) -> str:
    """How far a row came."""
    if decision.dropped:
        return "not sampled" if decision.dropped == NOT_SAMPLED else decision.dropped.replace("_", " ")
    if made is None:
        return "not yet read"
    if made["pair"] is None:
        return _without_pair(decision, made)
    if decision.id not in judged:
        return "pair, not yet judged"
    return "accepted" if _accepted(judged[decision.id]) else "pair, not accepted"


def _without_pair(decision: Decision, made: _Record) -> str:
    """Why a row that curation kept is no pair."""
    if made["error"] is not None:
        return "failed"
    of_rule = decision.source is None and not passed_rule(made["category"], made["dropped"])
    return "not selected" if of_rule else "no pair made"


def _colourings(points: Iterable[Point]) -> list[Colouring]:
    """The ways to colour the map: the classes of each, the most frequent first."""
    counted = [Counter[str](), Counter[str](), Counter[str](), Counter[str]()]
    for point in points:
        for counts, name in zip(counted, point.classes, strict=True):
            counts[name] += 1
    titles = ("category", "cluster", "outcome", "source")
    return [
        Colouring(title=title, classes=tuple(name for name, _ in counts.most_common()))
        for title, counts in zip(titles, counted, strict=True)
    ]
