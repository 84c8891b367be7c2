"""`stj compare` of two whole runs: which settings differ, and each judge of one against the same judge of the other.

Judges are compared on the same held-out pairs: same instruction and same answers, whatever their ids and files. Runs of other
lengths are compared at each iteration that both have, and last against last. Benchmarks that both have judged come along.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from stj.config_loader import from_plain
from stj.errors import ConfigError, SourceError, StjError
from stj.evals.changed_rows import changed_rows
from stj.evals.compare import (
    EvalComparison,
    changes_lines,
    compare_evaluations,
    compare_examples,
    comparisons_json,
    comparisons_table,
)
from stj.loop.run_folder import Measured, RunFolder, is_run, rows_of
from stj.rows import HELDOUT
from stj.storage.artifacts import differences, plain
from stj.storage.folder import Folder
from stj.text import Table

_PLACES = ("run_root", "iteration")
"""Settings that say where and which, not how."""
_LONGEST = 100  # Characters of a setting for a reader, as a rubric is long; JSON has all of it.
_OTHER = ("path", "limit", "grades", "grading")
"""Held-out settings that change no judgment of a pair: which pairs there are, as these are compared, and how responses are
graded."""


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """Two runs, A and B."""

    settings: tuple[str, ...]
    """The settings that differ, `name: of A -> of B`."""
    comparisons: tuple[EvalComparison, ...]
    """Each judge on the held-out pairs, then on each benchmark."""
    notes: tuple[str, ...]
    """What a reader must know of the figures."""

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {"settings": self.settings, "comparisons": comparisons_json(self.comparisons), "notes": self.notes}

    def shown(self, rows: int) -> Iterator[str | Table]:
        """For a reader: settings, figures, and at most `rows` rows of each kind that the last judges judge differently."""
        yield f"settings that differ, A -> B: {len(self.settings) or 'none'}"
        yield from (f"  {line if len(line) <= _LONGEST else f'{line[:_LONGEST]}…'}" for line in self.settings)
        yield ""
        if self.comparisons:
            yield comparisons_table(self.comparisons)
            last = {comparison.benchmark.partition(", ")[0]: comparison for comparison in self.comparisons}
            yield from changes_lines(list(last.values()), rows)
        yield from self.notes


def are_runs(location_a: str, location_b: str) -> bool:
    """Whether these are the directories of two runs. Raises ConfigError if only one of them is."""
    first, second = (is_run(Folder.at(location)) for location in (location_a, location_b))
    if first != second:
        run, other = (location_a, location_b) if first else (location_b, location_a)
        raise ConfigError(f"{run} is a run and {other} is none: compare two runs, or two evaluations, or two files of results")
    return first


def compare_runs(location_a: str, location_b: str) -> RunComparison:
    """The comparison of two runs, finished or not. Raises ArtifactError if a record or a file of rows is damaged."""
    first, second = (RunFolder(Folder.at(location)) for location in (location_a, location_b))
    made = _Comparing(first, second)
    comparisons = tuple(made.all())
    return RunComparison(settings=tuple(_settings(first, second)), comparisons=comparisons, notes=tuple(made.notes))


def _settings(first: RunFolder, second: RunFolder) -> list[str]:
    config_a, config_b = (
        {name: value for name, value in _with_defaults(run.config).items() if name not in _PLACES} for run in (first, second)
    )
    return differences(config_a, config_b)


def _with_defaults(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A config with the settings that its version did not have yet at their defaults; as it is if this one cannot read it."""
    try:
        return dict(plain(from_plain(dict(config))))
    except (StjError, TypeError):
        return config


class _Comparing:
    """Compares judge by judge; each pass is read once."""

    def __init__(self, first: RunFolder, second: RunFolder) -> None:
        self._first, self._second = first, second
        self._read: dict[tuple[str, int], Measured | None] = {}
        self.notes: list[str] = []

    def all(self) -> Iterator[EvalComparison]:
        """On the held-out pairs, and then on benchmarks."""
        judges = list(self._judges())
        heldout = [compared for pair in judges if (compared := self._on_heldout(*pair))]
        if not heldout:
            self.notes.append("held-out pairs: no judge of both runs was measured on the same ones")
        yield from heldout
        for judge_a, judge_b in judges:
            yield from self._on_benchmarks(judge_a, judge_b)

    def _judges(self) -> Iterator[tuple[int, int]]:
        """The judges to compare: those of the same iteration, and the last ones."""
        last_a, last_b = (max((0, *run.trained())) for run in (self._first, self._second))
        yield from ((judge, judge) for judge in range(min(last_a, last_b) + 1))
        if last_a != last_b and min(last_a, last_b) > 0:
            yield last_a, last_b

    def _on_heldout(self, judge_a: int, judge_b: int) -> EvalComparison | None:
        a, b = self._measured(self._first, judge_a), self._measured(self._second, judge_b)
        if a is None or b is None:
            return None
        judged_a, judged_b = ({row_id: each.shown[row_id] for row_id in each.results} for each in (a, b))
        matched = dict(same_pairs(judged_a, judged_b))
        by_a = {row_id: a.results[row_id] for row_id in matched}
        by_b = {row_id: b.results[other] for row_id, other in matched.items()}
        compared = compare_examples(f"held-out, {_named(judge_a, judge_b)}", by_a, by_b)
        if not compared.examples:
            return None
        self._note_settings(judge_a, judge_b)
        right_a, right_b = ({name: result.right for name, result in results.items()} for results in (by_a, by_b))
        judged = self._first.measured_in(judge_a)
        rows = (row for row in rows_of(judged) if row.task == HELDOUT) if judged else ()
        return replace(compared, changed=changed_rows(right_a, right_b, rows))

    def _note_settings(self, judge_a: int, judge_b: int) -> None:
        """Notes what else differs in how the judges were measured: then a difference is not the judges' alone."""
        first, second = self._first.measured_in(judge_a), self._second.measured_in(judge_b)
        asked_a, asked_b = (_of_pairs(artifact.key["heldout"]) if artifact else {} for artifact in (first, second))
        for line in differences(asked_a, asked_b):
            note = f"held-out pairs were measured with other settings: heldout.{line}"
            if note not in self.notes:
                self.notes.append(note)

    def _on_benchmarks(self, judge_a: int, judge_b: int) -> Iterator[EvalComparison]:
        of_a, of_b = self._first.benchmarks(judge_a), self._second.benchmarks(judge_b)
        for name in sorted(of_a.keys() & of_b.keys()):
            try:
                compared = compare_evaluations(of_a[name].folder.uri, of_b[name].folder.uri)
            except SourceError as error:  # The others are compared all the same.
                self.notes.append(f"{name}, {_named(judge_a, judge_b)}: {error}")
                continue
            yield from (replace(each, benchmark=f"{name}, {_named(judge_a, judge_b)}") for each in compared)

    def _measured(self, run: RunFolder, judge: int) -> Measured | None:
        place = (run.folder.uri, judge)
        if place not in self._read:
            self._read[place] = run.measured(judge)
        return self._read[place]


def same_pairs(shown_a: Mapping[str, bytes], shown_b: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """The id in A and the id in B of each pair that both have, from a digest of its texts by its id.

    Of several with the same texts those of one id are the same, and the others in the order of their ids.
    """
    by_text: dict[bytes, tuple[list[str], list[str]]] = {}
    for side, shown in enumerate((shown_a, shown_b)):
        for row_id in sorted(shown):
            by_text.setdefault(shown[row_id], ([], []))[side].append(row_id)
    for in_a, in_b in by_text.values():
        named_alike = {*in_a} & {*in_b}
        rest = ([row_id for row_id in ids if row_id not in named_alike] for ids in (in_a, in_b))
        yield from ((row_id, row_id) for row_id in in_a if row_id in named_alike)
        yield from zip(*rest, strict=False)


def _named(judge_a: int, judge_b: int) -> str:
    return f"M_{judge_a}" if judge_a == judge_b else f"M_{judge_a}/M_{judge_b}"


def _of_pairs(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in _OTHER}
