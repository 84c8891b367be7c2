"""The vocabulary: the row that flows through every pass, the training example, and their Arrow schemas.

One row type serves the whole stream. A row enters as an instruction and gains a category, a pair and judgments on its way; a
held-out row enters with its pair. A row that stops on the way stays, as a tombstone that says why (`dropped`, `error`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import pyarrow as pa

from stj.verdict import Label, Verdict

TRAINING = "training"
HELDOUT = "heldout"

CATEGORIES = (
    "Coding",
    "Mathematical reasoning",
    "Asking for Advice",
    "Brainstorming",
    "Classification",
    "Closed Question Answering",
    "Creative Writing",
    "Extraction",
    "Inhabiting a Character/Persona",
    "Open Question Answering",
    "Rewriting",
    "Summarization",
    "Knowledge and Reasoning",
    "Humanity, History or Social Studies",
    "Other",
)
"""The categories of Figure 7."""

OPEN = "open"
"""Method of a pair of which it is asked which answer is better: `chosen` is response A, `rejected` response B."""

Purpose = Literal["training", "sampled", "greedy", "rating"]

Kind = Literal["judgment", "verdict", "deduction"]
"""What a training example asks for: a judgment with its reasons, the verdict alone, or the responses of a judgment."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One message of a dialogue."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Category:
    """What the Figure 7 prompt says of an instruction."""

    name: str
    complexity: int
    """From 1 to 10."""
    length: str
    """Expected length of the answer, "a" (1 sentence) to "e" (3 or more paragraphs)."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two answers of which the first is better, by construction or by somebody's word (but see OPEN)."""

    method: str
    chosen: str
    rejected: str
    modified_instruction: str | None = None


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """More answers than two, to choose the best of or to rate one by one (RewardBench 2)."""

    answers: tuple[str, ...]
    """The good ones first."""
    good: int


@dataclass(frozen=True, kw_only=True)
class Judgment:
    """One judgment: of a pair in one order, of four answers in one order, or of one answer by itself."""

    purpose: Purpose
    winner: Label
    """The label under which the better answer was shown; A where one answer is rated."""
    index: int
    """Which sample of its purpose and order this is, from 0; of a rating, which answer."""
    text: str
    verdict: Verdict | None
    """What the strict parser reads: a label, or a rating."""
    finish_reason: str
    output_tokens: int

    @property
    def correct(self) -> bool:
        """Whether the verdict is the label of the better answer."""
        return self.verdict == self.winner


@dataclass(frozen=True, kw_only=True)
class Row:
    """One instruction on its way through the stages."""

    id: str
    position: int
    """Place in the input, from 0: what "the first k" means."""
    task: str = TRAINING
    """TRAINING, HELDOUT, or the name of a benchmark."""
    subset: str | None = None
    """The part of its benchmark."""
    turns: tuple[Turn, ...]
    language: str | None = None
    toxic: bool | None = None
    redacted: bool | None = None
    category: Category | None = None
    pair: Pair | None = None
    candidates: Candidates | None = None
    judgments: tuple[Judgment, ...] = ()
    kept: int | None = None
    """Index into `judgments` of the one that trains the next judge."""
    aborted: int = 0
    """Samples that were started beside `judgments`, and ended because a lower index was enough."""
    surplus_tokens: int = 0
    """Of output_tokens, those of samples that were finished before that was known."""
    dropped: str | None = None
    """Why the row went no further."""
    detail: str | None = None
    """What explains `dropped`: what the model wrote, or what the row repeats."""
    error: str | None = None
    """The request that failed, if one did."""
    prompt_tokens: int = 0
    output_tokens: int = 0

    @property
    def ended(self) -> bool:
        """Whether later stages pass the row by."""
        return self.dropped is not None or self.error is not None

    @property
    def instruction(self) -> str:
        """The instruction as the prompts show it: a single turn as it is, a dialogue with its roles named."""
        if len(self.turns) == 1:
            return self.turns[0].content
        return "\n\n".join(f"{turn.role.capitalize()}: {turn.content}" for turn in self.turns)

    def drop(self, reason: str, detail: str | None = None) -> "Row":
        """This row as a tombstone; at most 2,000 characters of detail stay."""
        return replace(self, dropped=reason, detail=detail[:2000] if detail else None)


@dataclass(frozen=True, kw_only=True)
class Example:
    """One training example: a prompt, which is the judge's but for the rarer kinds, and what to write there."""

    id: str
    winner: Label
    kind: Kind = "judgment"
    messages: tuple[Turn, ...]
    completion: str
    rejected: str | None = None
    """What is wrong there, a wrong judgment of the same comparison for instance, for objectives that learn from pairs."""


_TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

ROW_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("position", pa.int64()),
        ("task", pa.string()),
        ("subset", pa.string()),
        ("turns", _TURNS),
        ("language", pa.string()),
        ("toxic", pa.bool_()),
        ("redacted", pa.bool_()),
        ("category", pa.struct([("name", pa.string()), ("complexity", pa.int8()), ("length", pa.string())])),
        (
            "pair",
            pa.struct(
                [
                    ("method", pa.string()),
                    ("chosen", pa.string()),
                    ("rejected", pa.string()),
                    ("modified_instruction", pa.string()),
                ]
            ),
        ),
        ("candidates", pa.struct([("answers", pa.list_(pa.string())), ("good", pa.int16())])),
        (
            "judgments",
            pa.list_(
                pa.struct(
                    [
                        ("purpose", pa.string()),
                        ("winner", pa.string()),
                        ("index", pa.int16()),
                        ("text", pa.string()),
                        ("verdict", pa.string()),
                        ("finish_reason", pa.string()),
                        ("output_tokens", pa.int32()),
                    ]
                )
            ),
        ),
        ("kept", pa.int16()),
        ("aborted", pa.int16()),
        ("surplus_tokens", pa.int64()),
        ("dropped", pa.string()),
        ("detail", pa.string()),
        ("error", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
    ]
)

EXAMPLE_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("winner", pa.string()),
        ("kind", pa.string()),
        ("messages", _TURNS),
        ("completion", pa.string()),
        ("rejected", pa.string()),
    ]
)


def rows_to_table(rows: Iterable[Row]) -> pa.Table:
    """Rows as an Arrow table of ROW_SCHEMA."""
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=ROW_SCHEMA)


def row_from_dict(record: Mapping[str, Any]) -> Row:
    """A row from what Arrow gives back for it; a field that an older artifact does not have yet keeps its default."""
    values = {field.name: record[field.name] for field in fields(Row) if field.name in record}
    values["turns"] = turns_from_dicts(record["turns"])
    values["category"] = Category(**record["category"]) if record["category"] else None
    values["pair"] = Pair(**record["pair"]) if record["pair"] else None
    if found := record.get("candidates"):
        values["candidates"] = Candidates(answers=tuple(found["answers"]), good=found["good"])
    values["judgments"] = tuple(Judgment(**judgment) for judgment in record["judgments"])
    return Row(**values)


def turns_from_dicts(turns: Sequence[Mapping[str, str]]) -> tuple[Turn, ...]:
    """Turns from what Arrow gives back for a list of them."""
    return tuple(Turn(role=turn["role"], content=turn["content"]) for turn in turns)


def examples_to_table(examples: Iterable[Example]) -> pa.Table:
    """Training examples as an Arrow table of EXAMPLE_SCHEMA."""
    return pa.Table.from_pylist([asdict(example) for example in examples], schema=EXAMPLE_SCHEMA)


def example_from_dict(record: Mapping[str, Any]) -> Example:
    """A training example from what Arrow gives back for it; in an older artifact all are judgments."""
    return Example(
        id=record["id"],
        winner=record["winner"],
        kind=record.get("kind", "judgment"),
        messages=turns_from_dicts(record["messages"]),
        completion=record["completion"],
        rejected=record["rejected"],
    )
