"""The attack card: any file of labelled pairs, each of them judged as it is and under every attack (stj/attacks/).

All rows are one benchmark, so an evaluation judges them in one pass, and each unattacked pair once. The subset of a row is its
attack. An attack whose words name a label makes a row for each order.

    attacks/SUBSET/PAIR/unattacked/AB    both orders
    attacks/SUBSET/PAIR/padding/AB
    attacks/SUBSET/PAIR/verdict/A        only the order with the better answer as A
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from stj.attacks.kinds import ATTACKS, Attack
from stj.attacks.use import attacked, attacks_identity
from stj.errors import SourceError
from stj.evals.benchmarks import pairs
from stj.evals.benchmarks.base import NOT_APPLICABLE, Benchmark, SourceRecord
from stj.pair_fields import OWN_FIELDS, PairFields, Ties
from stj.rows import Row
from stj.sources.ids import id_in_task, id_parts, joined_id
from stj.sources.pairs import fields_to_read
from stj.verdict import Label

NAME = "attacks"
UNATTACKED = "unattacked"
_SEED = 0  # The same pairs are attacked in the same way in every run, so that cards compare.
_ORDERS: tuple[Label, Label] = ("A", "B")


class AttackedId(NamedTuple):
    """The id of an example."""

    subset: str
    """The pair's subset in its file."""
    pair: str
    """The pair's id in this subset."""
    attack: str
    """A name of ATTACKS, or UNATTACKED."""
    orders: str
    """AB, or the only label under which the better answer is shown."""


def rows(records: Iterable[SourceRecord], fields: PairFields = OWN_FIELDS) -> Iterator[Row]:
    """Each pair as it is, then under every attack; a pair that cannot be judged stands alone."""
    position = 0
    for pair in pairs.rows(records, fields):
        for row in _versions(pair):
            yield replace(row, position=position)
            position += 1


def read_as(fields: PairFields, ties: Ties) -> Benchmark:
    """The attack card of a file whose fields have these names. A tie has no worse answer to attack, whatever `ties` says."""
    return replace(ATTACK_CARD, fields=fields_to_read(fields), rows=partial(rows, fields=fields))


def attacked_id(text: str) -> AttackedId:
    """The parts of a row's id, without the benchmark's name."""
    return AttackedId(*id_parts(text, len(AttackedId._fields)))


def _versions(row: Row) -> Iterator[Row]:
    yield _named(row, UNATTACKED)
    if row.ended:
        return
    for attack in ATTACKS.values():
        for order in _ORDERS if attack.names_label else _ORDERS[:1]:
            yield _attacked(row, attack, order)


def _attacked(row: Row, attack: Attack, better_as: Label) -> Row:
    """The row under an attack; a tombstone if it cannot apply."""
    assert row.pair is not None, f"row {row.id} has no pair"
    pair = attacked(row.pair, attack, better_as, _SEED, id_in_task(row), "card")
    version = _named(row, attack.name, better_as if attack.names_label else "AB")
    return replace(version, pair=pair) if pair else version.drop(NOT_APPLICABLE)


def _named(row: Row, subset: str, orders: str = "AB") -> Row:
    pair = id_parts(id_in_task(row), 2)
    return replace(row, id=f"{NAME}/{joined_id(*pair, subset, orders)}", task=NAME, subset=subset)


def _recorded_subset(record: SourceRecord) -> str:
    raise SourceError(f"{record.where}: an attack card is made from a model's judgments only: `stj attack MODEL PAIRS`")


ATTACK_CARD = Benchmark(
    name=NAME,
    hub=(),
    fields=pairs.PAIRS.fields,
    rows=rows,
    subset=_recorded_subset,
    row_parts=attacked_id,
    cluster=lambda example: example[:2],
    limit_records=True,
    edition=partial(attacks_identity, "card"),
    attacks=True,
    read_as=read_as,
)
