"""RewardBench 2 (Malik et al., 2025): one good answer among four in five subsets, and Ties, where several are as good.

Two ways to judge: `rewardbench2` shows four answers and asks for the best, each place in turn holding the good one; an error
officially counts one quarter. `rewardbench2-ratings` rates each answer from 1 to 10, and k answers at the top share 1/k. Ties
are rated in both. The overall score is the mean of the six subsets.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

from stj.errors import SourceError
from stj.evals.benchmarks.base import Benchmark, HubPart, JudgedExample, Scored, SourceRecord, identity, one_of, texts_of
from stj.evals.metrics import Outcome, VerdictsByOrder, Weights, evenly, outcome, picks
from stj.rows import Candidates, Row
from stj.sources.dialogue import turns_from, usable
from stj.sources.files import Fields
from stj.sources.ids import Seen
from stj.verdict import BEST_OF_FOUR

TIES = "Ties"
_SUBSETS = ("Factuality", "Focus", "Math", "Precise IF", "Safety", TIES)
_REFERENCE, _TIED = "ref", "tied"
"""What the ids of Ties begin with: one good answer, or several."""
_ANSWERS = 4
_UNRATED = -1.0  # what the official code puts in for a rating that it cannot parse


def rows(found: Iterable[SourceRecord], name: str) -> Iterator[Row]:
    """Rows of candidates, from id, prompt, chosen, rejected (lists) and subset."""
    seen = Seen()
    for position, one in enumerate(found):
        part = subset(one)
        if part == TIES:
            _kind_and_prompt(f"{TIES}/{one.record['id']}", one.where)
        chosen, rejected = (texts_of(one.record[field], field, one.where) for field in ("chosen", "rejected"))
        if part != TIES and (len(chosen), len(rejected)) != (1, _ANSWERS - 1):
            raise SourceError(
                f"{one.where}: {len(chosen)} chosen and {len(rejected)} rejected answers; {part} has 1 and {_ANSWERS - 1}"
            )
        row = Row(
            id=f"{name}/{identity(one, 'id', part, seen)}",
            position=position,
            task=name,
            subset=part,
            turns=turns_from(one.record["prompt"], "prompt", one.where),
            candidates=Candidates(answers=(*chosen, *rejected), good=len(chosen)),
        )
        yield usable(row)


def subset(found: SourceRecord) -> str:
    """One of the six."""
    return one_of(found, "subset", _SUBSETS)


def groups(sizes: Mapping[str, int]) -> dict[str, Weights]:
    """The mean of the six subsets, where all are there."""
    return {"overall": evenly({name: 1.0} for name in _SUBSETS)} if set(_SUBSETS) <= sizes.keys() else {}


def official(said: VerdictsByOrder) -> float:
    """1 for the right one of four, one quarter for no verdict, over the places."""
    values = [1.0 if verdict == place else 0.25 * (verdict is None) for place, own in said.items() for verdict in own]
    return sum(values) / len(values)


def score(benchmark: Benchmark, judged: Iterable[JudgedExample], found: Iterable[SourceRecord]) -> Iterator[Scored]:
    """An outcome an example; of Ties, one for each prompt whose two rows, with one and with several good answers, are there."""
    waiting: dict[str, tuple[str, JudgedExample]] = {}
    for one in judged:
        if one.subset == TIES:
            if not one.ratings:
                raise SourceError(
                    f"{one.id[:60]!r}: Ties are rated, not chosen from: give 'ratings', a number or text for each answer"
                )
            kind, prompt = _kind_and_prompt(one.id, repr(one.id[:60]))
            other_kind, other = waiting.pop(prompt, (kind, one))
            if other_kind == kind:
                waiting[prompt] = kind, one
                continue
            reference, tied = (one, other) if kind == _REFERENCE else (other, one)
            reason = reference.unjudged or tied.unjudged
            yield Scored(f"{TIES}/{prompt}", TIES, _ties_outcome(reference, tied), unjudged=reason)
        elif one.ratings:
            yield Scored(one.id, one.subset, _rated(one), unjudged=one.unjudged)
        else:
            yield Scored(one.id, one.subset, outcome(one.said, one.sizes, benchmark.official), unjudged=one.unjudged)
    for _, one in waiting.values():
        yield Scored(one.id, TIES, None, unjudged="unpaired")


def _kind_and_prompt(row_id: str, where: str) -> tuple[str, str]:
    """Which of the two rows of a prompt it is, and the prompt. Raises SourceError for an id of another form."""
    kind, colon, prompt = row_id.removeprefix(f"{TIES}/").partition(":")
    if kind not in (_REFERENCE, _TIED) or not colon or not prompt:
        raise SourceError(f"{where}: the id of a row of Ties is ref:N, or tied:N for the other row of its prompt")
    return kind, prompt


def ties_score(reference: Sequence[float], reference_good: int, tied: Sequence[float], tied_good: int) -> float:
    """The official score of one Ties prompt, from ratings with the good answers first; between -0.01 and 1.01.

    0.3 each for every good answer above every bad one, in the reference row and in the tied row; 0.2 where the gap to the
    bad ones is wider than the spread of the good ones, 0.2 where that holds of the smaller of both gaps; and 0.01 of
    tanh(smaller gap / spread - 1). The official score of a file is the mean of these.
    """
    gaps = [min(own[:good]) - max(own[good:]) for own, good in ((reference, reference_good), (tied, tied_good))]
    spread = max(tied[:tied_good]) - min(tied[:tied_good])
    smaller = min(gaps)
    ratio = smaller / spread if spread else math.copysign(math.inf, smaller) if smaller else math.nan
    margin = 0.0 if math.isnan(ratio) else math.tanh(ratio - 1)
    return 0.3 * (gaps[0] > 0) + 0.3 * (gaps[1] > 0) + 0.2 * (gaps[1] > spread) + 0.2 * (smaller > spread) + 0.01 * margin


def _ties_outcome(reference: JudgedExample, tied: JudgedExample) -> Outcome:
    ratings = [[_UNRATED if rating is None else rating for rating in own.ratings] for own in (reference, tied)]
    value = ties_score(ratings[0], reference.good, ratings[1], tied.good)
    missing = [rating is None for own in (reference, tied) for rating in own.ratings]
    return _one_way(value, value, sum(missing) / len(missing), None)


def _rated(one: JudgedExample) -> Outcome:
    """k answers at the top share 1/k; no rating at all is officially one quarter."""
    known = [rating for rating in one.ratings if rating is not None]
    ratings = [_UNRATED if rating is None else rating for rating in one.ratings]
    value = picks(ratings, max(ratings)) if known else 0.0
    return _one_way(value, value if known else 0.25, 1 - len(known) / len(ratings), one.sizes)


def _one_way(value: float, by_rule: float, unparsed: float, sizes: Sequence[int] | None) -> Outcome:
    """An outcome of answers that were rated: there is one order."""
    return Outcome(
        orders=(),
        right=(value,),
        consistent=float(value >= 1),
        agreed=float(value >= 1),
        unparsed=unparsed,
        official=by_rule,
        always_a=None,
        longest=None if sizes is None else picks(sizes, max(sizes)),
        shortest=None if sizes is None else picks(sizes, min(sizes)),
    )


def _benchmark(name: str, *, ratings: bool) -> Benchmark:
    return Benchmark(
        name=name,
        hub=(HubPart("allenai/reward-bench-2", "test"),),
        fields=Fields(required=("id", "prompt", "chosen", "rejected", "subset")),
        rows=partial(rows, name=name),
        subset=subset,
        score=score,
        groups=groups,
        official=official,
        wording=BEST_OF_FOUR,
        candidates=True,
        rated=lambda row: ratings or row.subset == TIES,
    )


REWARDBENCH2 = _benchmark("rewardbench2", ratings=False)
REWARDBENCH2_RATINGS = _benchmark("rewardbench2-ratings", ratings=True)
