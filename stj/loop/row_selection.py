"""Which rows of an artifact `stj show` shows, and which of their fields."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from stj.errors import ConfigError
from stj.rows import WITHOUT_BETTER
from stj.storage.artifacts import Artifact

Record = Mapping[str, Any]
_FORMS = "wrong, flipped, dropped, dropped=REASON or id=ID"


@dataclass(frozen=True, kw_only=True)
class RowSelection:
    """Some rows of an artifact, in the order in which they lie there. Raises ConfigError if `where` is no condition."""

    where: str | None = None
    """`wrong`: fewer than half of the judgments are right. `flipped`: the two orders prefer different answers. `dropped`,
    `dropped=REASON`, `id=ID`. None for all rows."""
    offset: int = 0
    """Rows of these that are left out at the begin."""
    limit: int = 5
    columns: tuple[str, ...] = ()
    """The fields to show, dotted for one inside another; empty for all."""

    def __post_init__(self) -> None:
        _condition(self.where)

    def records(self, artifact: Artifact) -> Iterator[Record]:
        """The rows. Raises ConfigError if a row has no such column."""
        wanted = _condition(self.where)
        matching = (record for record in artifact.records() if wanted(record))
        for record in islice(matching, self.offset, self.offset + self.limit):
            yield {name: _field(record, name) for name in self.columns} if self.columns else record


def _condition(where: str | None) -> Callable[[Record], bool]:
    if where is None:
        return lambda record: True
    name, equals, value = where.partition("=")
    if name == "dropped":
        return lambda record: record.get("dropped") is not None and value in ("", record["dropped"])
    if name == "id" and value:
        return lambda record: record.get("id") == value
    if not equals and name in _OF_JUDGMENTS:
        return _OF_JUDGMENTS[name]
    raise ConfigError(f"--where {where}: no condition; give {_FORMS}")


def _judgments(record: Record, winner: str | None = None) -> list[bool]:
    """Whether each judgment names the better answer, or response A if nobody knows which is better."""
    judgments = [each for each in record.get("judgments") or () if each["purpose"] != "rating"]
    return [each["verdict"] == each["winner"] for each in judgments if winner in (None, each["winner"])]


def _is_wrong(record: Record) -> bool:
    is_known = (record.get("pair") or {}).get("method") not in WITHOUT_BETTER
    right = _judgments(record)
    return is_known and bool(right) and 2 * sum(right) < len(right)


def _is_flipped(record: Record) -> bool:
    with_verdict = {**record, "judgments": [each for each in record.get("judgments") or () if each["verdict"] is not None]}
    orders = [_judgments(with_verdict, winner) for winner in ("A", "B")]
    preferred = [2 * sum(order) - len(order) for order in orders]
    return preferred[0] * preferred[1] < 0


_OF_JUDGMENTS = {"wrong": _is_wrong, "flipped": _is_flipped}


def _field(record: Record, name: str) -> Any:
    value: Any = record
    for part in name.split("."):
        if value is None:  # a row without a pair has no pair.chosen
            return None
        if not isinstance(value, Mapping) or part not in value:
            known = f"the fields there are {', '.join(value)}" if isinstance(value, Mapping) else "it has no fields"
            raise ConfigError(f"--columns {name}: no field '{part}'; {known}")
        value = value[part]
    return value
