"""Cycles among a judge's preferences: A over B, B over C, and C over A, for three answers to one instruction.

A judge with any ranking in mind has none. Instructions and answers are the same if their texts are. So MT-Bench's answers of
many models are covered, and every file of pairs with three answers to an instruction.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from stj.rows import TRAINING, Row

_ROWS_NAMED = 20  # A report names the rows of this many cycles.
_MOST_ANSWERS = 64  # Of one instruction: above it the triples are too many to count (41,664 of 64).


@dataclass(frozen=True, kw_only=True)
class Cycles:
    """The cycles of a judge."""

    triples: int
    """Triples of answers of which every two were judged, with a preference."""
    count: int
    """Triples among them whose preferences form a cycle."""
    rows: tuple[tuple[str, ...], ...]
    """Ids of the three rows of each cycle, for the first ones."""


class Preferences:
    """A judge's preferences between answers, by instruction. Memory: about 200 bytes for each pair added."""

    def __init__(self) -> None:
        self._balance: dict[bytes, dict[tuple[bytes, bytes], int]] = {}
        self._ids: dict[tuple[bytes, bytes, bytes], str] = {}

    def add(self, row: Row) -> None:
        """Adds the judgments of a pair. Training pairs do not count: their instructions have one pair each."""
        if row.pair is None or row.task == TRAINING or row.pair.chosen == row.pair.rejected or not row.judgments:
            return
        balance = sum(vote_balance(judgment.verdict, judgment.winner) for judgment in row.judgments)
        self.prefer(row.instruction, row.pair.chosen, row.pair.rejected, balance, row.id)

    def prefer(self, instruction: str, first: str, second: str, balance: int, row_id: str) -> None:
        """Adds judgments of two answers to an instruction: `balance` more of them are for the first than for the second."""
        question, first_answer, second_answer = map(_digest, (instruction, first, second))
        low, high = sorted((first_answer, second_answer))
        pairs = self._balance.setdefault(question, {})
        pairs[low, high] = pairs.get((low, high), 0) + (balance if low == first_answer else -balance)
        self._ids.setdefault((question, low, high), row_id)

    def cycles(self) -> Cycles:
        """All cycles of three."""
        triples, count, named = 0, 0, list[tuple[str, ...]]()
        for instruction, pairs in self._balance.items():
            for edges in _triples({pair: balance for pair, balance in pairs.items() if balance}):
                triples += 1
                if _is_cycle(edges):
                    count += 1
                    if len(named) < _ROWS_NAMED:
                        named.append(tuple(self._ids[instruction, low, high] for low, high in edges))
        return Cycles(triples=triples, count=count, rows=tuple(named))


def vote_balance(verdict: str | None, winner: str) -> int:
    """1 for the first answer, -1 for the second, 0 for neither; `winner` is the label of the first."""
    return 0 if verdict not in ("A", "B") else 1 if verdict == winner else -1


def _triples(pairs: dict[tuple[bytes, bytes], int]) -> Iterator[dict[tuple[bytes, bytes], int]]:
    """The preferences among each three answers, if there are all three."""
    answers = sorted({answer for pair in pairs for answer in pair})
    if len(answers) < 3 or len(answers) > _MOST_ANSWERS:
        return
    for low, middle, high in combinations(answers, 3):
        edges = (low, middle), (middle, high), (low, high)
        if all(edge in pairs for edge in edges):
            yield {edge: pairs[edge] for edge in edges}


def _is_cycle(edges: dict[tuple[bytes, bytes], int]) -> bool:
    """Whether each answer is preferred exactly once."""
    preferred = {low if balance > 0 else high for (low, high), balance in edges.items()}
    return len(preferred) == len(edges)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
