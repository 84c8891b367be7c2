"""The vocabulary: the row that flows through every pass, the training example, and their Arrow schemas.

One row type serves the whole stream. A row enters as an instruction and gains a category, a pair and judgments on its way; a
held-out row enters with its pair. A row that stops on the way stays, as a tombstone that says why (`dropped`, `error`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa

from stj.storage.arrow import Int8, Int16, Int32, reader_of, schema_of, table_of
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
    complexity: Int8
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
    good: Int16


@dataclass(frozen=True, kw_only=True)
class Judgment:
    """One judgment: of a pair in one order, of four answers in one order, or of one answer by itself."""

    purpose: Purpose
    winner: Label
    """The label under which the better answer was shown; A where one answer is rated."""
    index: Int16
    """Which sample of its purpose and order this is, from 0; of a rating, which answer."""
    text: str
    verdict: Verdict | None
    """What the strict parser reads: a label, or a rating."""
    finish_reason: str
    output_tokens: Int32

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
    kept: Int16 | None = None
    """Index into `judgments` of the one that trains the next judge."""
    aborted: Int16 = 0
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


ROW_SCHEMA = schema_of(Row)
EXAMPLE_SCHEMA = schema_of(Example)
_read_row = reader_of(Row)
_read_example = reader_of(Example)


def rows_to_table(rows: Iterable[Row]) -> pa.Table:
    """Rows as an Arrow table of ROW_SCHEMA."""
    return table_of(rows, ROW_SCHEMA)


def row_from_dict(record: Mapping[str, Any]) -> Row:
    """A row from the record that Arrow gives back; a field that an older artifact lacks takes its default."""
    return _read_row(record)


def examples_to_table(examples: Iterable[Example]) -> pa.Table:
    """Training examples as an Arrow table of EXAMPLE_SCHEMA."""
    return table_of(examples, EXAMPLE_SCHEMA)


def example_from_dict(record: Mapping[str, Any]) -> Example:
    """A training example from the record that Arrow gives back; older artifacts lack `kind`: all are judgments."""
    return _read_example(record)
