"""The clues of a run: in the held-out pairs, in the judged training pairs, and in what the first and the last judge learn.

A judge learns its examples, so a clue in them is what it can learn in place of judging. A clue that the judged pairs do not
have, but the examples do, comes from the judge before: it gets those pairs right that the clue gives away.
"""

import heapq
from collections.abc import Iterator, Mapping

from stj.evals.clues import MOST_PAIRS, Clue, PairClues, PairSample, clue_draw
from stj.evals.learned_clues import AnswerPair
from stj.evals.table import interval, percent
from stj.loop.iteration import Iteration
from stj.loop.phases import Run
from stj.rows import HELDOUT, TRAINING, Row
from stj.sources.ids import LABELLED_PREFIX, REPEAT_PREFIX
from stj.text import Column, Table

HELDOUT_SET, TRAINING_SET = "held-out pairs", "training pairs"
_NONE = "–"


class ClueSets:
    """Samples the pairs of a run from its judged rows, row by row."""

    def __init__(self, run: Run) -> None:
        self._seed = run.config.seed
        self._measured: int | None = None
        self._samples: dict[str, PairSample] = {}
        self._learned: dict[int, tuple[str, frozenset[str]]] = {}
        self._sizes: dict[str, int] = {}
        for iteration in {each.number: each for each in (run.iterations[0], run.iterations[-1])}.values():
            if iteration.examples.artifact.state()[0] == "done":
                self._choose_learned(iteration)

    def add(self, judge: int, row: Row) -> None:
        """Adds a row that M_k judged; one without a pair whose better answer is known does not count."""
        if row.pair is None or not row.pair.ranked or not row.judgments:
            return
        if row.task == HELDOUT:
            self._measured = judge if self._measured is None else self._measured
            if judge == self._measured:  # Every judge has the same pairs.
                self._sample(HELDOUT_SET).add(_pair(row))
        elif row.task == TRAINING:
            if judge == 0:
                self._sample(TRAINING_SET).add(_pair(row))
            name, learned = self._learned.get(judge + 1, ("", frozenset[str]()))
            if row.id in learned:
                self._sample(name).add(_pair(row))

    def result(self) -> dict[str, PairClues]:
        """The clues of each set that has pairs."""
        return {
            name: self._samples[name].clues(self._sizes.get(name))
            for name in (HELDOUT_SET, TRAINING_SET, *self._sizes)
            if name in self._samples
        }

    def _choose_learned(self, iteration: Iteration) -> None:
        """Samples the examples on pairs of one iteration by their ids, so that not all ids are in memory; without repeats."""
        name, size = f"learned by M_{iteration.number}", 0

        def ids() -> Iterator[str]:
            nonlocal size
            for record in iteration.examples.artifact.records(["id", "winner"]):
                if record["winner"] is not None and not record["id"].startswith((LABELLED_PREFIX, REPEAT_PREFIX)):
                    size += 1
                    yield record["id"]

        lowest = heapq.nsmallest(MOST_PAIRS, ids(), key=lambda row_id: clue_draw(self._seed, row_id))
        self._learned[iteration.number] = name, frozenset(lowest)
        self._sizes[name] = size

    def _sample(self, name: str) -> PairSample:
        return self._samples.setdefault(name, PairSample(self._seed))


def clue_table(sets: Mapping[str, PairClues]) -> Table:
    """A row for each clue, a column for each set of pairs; no rows without pairs."""
    names = clue_names(sets)
    title = "a clue alone chooses the better answer, % [95%]; chance is 50"
    columns = [Column("", "clue")]
    columns += [Column(*_split(name), title if number == 0 else "", word="pairs of a set") for number, name in enumerate(sets)]
    return Table(columns=columns, rows=[[name, *(_cell(each, name) for each in sets.values())] for name in names])


def clue_names(sets: Mapping[str, PairClues]) -> list[str]:
    """The clues that any of the sets has."""
    return list(dict.fromkeys(clue.name for each in sets.values() for clue in each.clues))


def clue_of(clues: PairClues, name: str) -> Clue | None:
    """One clue by its name."""
    return next((clue for clue in clues.clues if clue.name == name), None)


def _split(name: str) -> tuple[str, str]:
    upper, _, lower = name.rpartition(" ")
    return upper, lower


def _cell(clues: PairClues, name: str) -> str:
    clue = clue_of(clues, name)
    if clue is None:
        return _NONE
    return f"{percent(clue.accuracy)} {interval(clue.ci95) if clue.differ else 'none differ'}"


def _pair(row: Row) -> AnswerPair:
    assert row.pair is not None, "only rows with a pair are sampled"
    first = sum(judgment.winner == "A" for judgment in row.judgments) / len(row.judgments)
    return AnswerPair(row.id, row.instruction, row.pair.chosen, row.pair.rejected, first)
