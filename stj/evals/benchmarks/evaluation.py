"""An evaluation on disk, what `stj eval` writes: from the rows of its pass to what the benchmarks score."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from stj.errors import ArtifactError
from stj.evals.benchmarks.base import Benchmark, JudgedExample
from stj.evals.metrics import VerdictsByOrder, lengths
from stj.rows import Judgment, Row
from stj.storage.artifacts import Artifact, read_artifact
from stj.storage.folder import Folder
from stj.verdict import BEST_OF_FOUR, PAIR, RATING, Format, Label, Parser, Verdict, majority, parse, rating

SCORES = "scores.json"
"""Beside the rows: what was evaluated on what, and every score."""
NO_BETTER = ("same_answers", "equal_scores")
"""Why a row was dropped of which its own benchmark says that no answer is better."""


def read_evaluation(location: str) -> tuple[Artifact, dict[str, Any]]:
    """The rows of a finished evaluation, and what its scores.json says. Raises ArtifactError where there is none."""
    artifact = read_artifact(Folder.at(location))
    if not artifact.folder.exists(SCORES):
        raise ArtifactError(f"{location}: no finished evaluation (no {SCORES}); give the directory that `stj eval` names")
    try:
        facts: dict[str, Any] = json.loads(artifact.folder.read(SCORES))
        whole = (
            all(isinstance(word, str) for word in facts["benchmarks"])
            and isinstance(facts["votes"], int)
            and all(isinstance(scores, dict) for scores in facts["scores"].values())
        )
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise ArtifactError(f"{location}: {SCORES} is damaged; the same `stj eval` again writes it anew from the judgments")
    return artifact, facts


def judged_rows(
    rows: Iterable[Row], benchmark: Benchmark, parser: Parser, *, votes: bool, wording: Format = PAIR
) -> Iterator[JudgedExample]:
    """What was said in each row; of sampled judgments the majority where they are votes.

    The official parser of pairs is that of the `wording` that they were judged in. A row that was not judged says why, and
    stands there as one without verdict; where it has no better answer, with nothing.
    """
    for row in rows:
        if not row.judgments:
            yield _unjudged(row, benchmark)
        elif row.judgments[0].purpose == "rating":
            yield _rated(row, parser)
        else:
            yield _judged(row, parser, wording if row.candidates is None else BEST_OF_FOUR, votes=votes)


def _unjudged(row: Row, benchmark: Benchmark) -> JudgedExample:
    reason = "failed" if row.error else row.dropped or "not judged"
    one = JudgedExample(id=_id(row), subset=row.subset or "", said={}, unjudged=reason)
    if reason in NO_BETTER:
        return one
    if row.candidates is None:
        return replace(one, said={"A": [None], "B": [None]})
    if benchmark.rated(row):
        return replace(one, ratings=(None,) * len(row.candidates.answers), good=row.candidates.good)
    return replace(one, said={"A": [None], "B": [None], "C": [None], "D": [None]})


def _judged(row: Row, parser: Parser, wording: Format, *, votes: bool) -> JudgedExample:
    said: dict[Label, list[Verdict | None]] = {}
    for judgment in sorted(row.judgments, key=lambda judgment: judgment.index):
        said.setdefault(judgment.winner, []).append(_verdict(judgment, wording, parser))
    voted: VerdictsByOrder = {label: [majority(own)] for label, own in said.items()}
    return JudgedExample(id=_id(row), subset=row.subset or "", said=voted if votes else said, sizes=_sizes(row))


def _rated(row: Row, parser: Parser) -> JudgedExample:
    assert row.candidates is not None, f"row {row.id} was rated without candidates"
    ordered = sorted(row.judgments, key=lambda judgment: judgment.index)
    ratings = tuple(rating(_verdict(judgment, RATING, parser)) for judgment in ordered)
    return JudgedExample(
        id=_id(row), subset=row.subset or "", said={}, sizes=_sizes(row), ratings=ratings, good=row.candidates.good
    )


def _verdict(judgment: Judgment, wording: Format, parser: Parser) -> Verdict | None:
    """The strict one is in the row, where a judgment that was cut has none; the official parsers do not ask."""
    return judgment.verdict if parser == "strict" else parse(judgment.text, wording, parser)


def _sizes(row: Row) -> tuple[int, ...]:
    if row.candidates is not None:
        return tuple(len(answer) for answer in row.candidates.answers)
    assert row.pair is not None, f"row {row.id} was judged without a pair"
    return lengths(row.pair)


def _id(row: Row) -> str:
    return row.id.removeprefix(f"{row.task}/")
