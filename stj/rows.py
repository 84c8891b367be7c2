"""The vocabulary: the row that flows through every pass, the training example, and how both lie on disk.

    instruction ──► category ──► pair ──► judgments ──► kept        a training row, stage by stage
                                 pair ──► judgments                 a held-out row: it enters with its pair

One `Row` type serves the whole stream; each stage fills in its fields. A row that stops on the way is not lost. It stays as a
tombstone, and `dropped` or `error` gives the reason. An `Example` is what training reads, made from a kept judgment.

The Arrow schemas at the end are derived from the dataclasses. So a new field needs a default: older artifacts lack it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa

from stj.rubrics import Rubric
from stj.storage.arrow import Int8, Int16, Int32, reader_of, schema_of, table_of
from stj.verdict import Format, Label, Parser, Verdict, parse

TRAINING = "training"
HELDOUT = "heldout"
HELDOUT_GRADES = "heldout_grades"

MOST_DETAIL = 2000
"""Characters of `Row.detail`; the rest is cut."""

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
"""`method` of a pair whose better answer is not known: `chosen` is response A, `rejected` is response B."""

GIVEN = "given"
"""`method` of a pair that a source gives, with its better answer."""
TIED = "tied"
"""`method` of a pair that people call a tie: a judge is right if it calls it a tie too. `chosen` is the file's response A."""
TIED_HALF = "tied_half"
"""The same, but each verdict counts one half."""

WITHOUT_BETTER = (OPEN, TIED, TIED_HALF)
"""Methods of pairs of which neither answer is known to be better."""

Purpose = Literal["training", "sampled", "greedy", "rating"]
"""Why a judgment or grade is sampled: to train on, to measure the judge (sampled, or greedily), or to rate an answer."""

Answer = Literal["response", "chosen", "rejected"]
"""Which answer of a row is graded: its only one, or one of its pair."""

LabelledBy = Literal["construction", "human", "final_answer", "file"]
"""Who says which answer of a pair is better: how it was made, a human, its final number, or a file that does not say who."""

Kind = Literal["judgment", "verdict", "deduction", "grade"]
"""What a training example asks for: a judgment with its reasons, only the verdict, the responses behind it, or a grade."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One message of a dialogue."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Category:
    """What the model answers to the prompt of Figure 7."""

    name: str
    complexity: Int8
    """From 1 to 10."""
    length: str
    """Expected length of an answer, from "a" (1 sentence) to "e" (3 or more paragraphs)."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two answers to an instruction. `chosen` is the better one, by construction or by a human label, if `ranked`."""

    method: str
    chosen: str
    rejected: str
    modified_instruction: str | None = None
    attack: str | None = None
    """The attack that changed the rejected answer (stj/attacks/kinds.py); None if none did."""
    better_as: Label | None = None
    """The only label under which the better answer may be shown, because the rejected one names labels; None for any."""

    @property
    def ranked(self) -> bool:
        """Whether one of the answers is known to be better."""
        return self.method not in WITHOUT_BETTER


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a training pair comes from that is not synthetic."""

    source: str
    """Name of the source in `preferences`."""
    place: str
    """File and line, or data set and row."""
    labelled_by: LabelledBy
    """Who says which answer is better."""
    answer: str | None = None
    """The known answer to a question: a number, or words."""
    policy: str | None = None
    """The model that sampled its answers, and the identity of its weights; None if the generator did, or nobody."""


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """More than two answers, of which a judge picks the best or rates each (RewardBench 2)."""

    answers: tuple[str, ...]
    """Good answers first."""
    good: Int16
    """Number of good answers."""


@dataclass(frozen=True, kw_only=True)
class Judgment:
    """One judgment: of a pair in one order, of four answers in one order, or of a single answer (a rating)."""

    purpose: Purpose
    winner: Label
    """Label under which the better answer was shown; A for a rating."""
    index: Int16
    """Number of the sample among those of its purpose and order, from 0; for a rating, number of the answer."""
    text: str
    """The judgment, behind the thought of a thinking judge."""
    verdict: Verdict | None
    """Label or rating that the strict parser reads; None if it reads none."""
    finish_reason: str
    output_tokens: Int32
    thought: str = ""
    """What a thinking judge wrote before the judgment, with its tags (stj/thoughts.py)."""
    probability: float | None = None
    """Probability that the response shown as A is better, by the tokens of the verdict; None without a verdict, or if nobody
    asked for it."""

    @property
    def truncated(self) -> bool:
        """Whether max_tokens cut the judgment, or it ended inside its thought."""
        return self.finish_reason == "length"

    def read(self, wording: Format, parser: Parser) -> Verdict | None:
        """The verdict that a parser reads: none if the judgment was cut, except that official parsers ignore the cut."""
        return parse(self.text, wording, parser) if parser == "paper" or self.finish_reason == "stop" else None

    @property
    def correct(self) -> bool:
        """Whether the verdict is the label of the better answer."""
        return self.verdict == self.winner


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What a member of the panel says about a training pair (`judge.panel`). It is never learned."""

    member: str
    """Name of the member."""
    judgment: Judgment


@dataclass(frozen=True, kw_only=True)
class Rationale:
    """Reasons for the known label, by a judge that was told the label of a pair that it never got right (stages/rescue.py)."""

    judgment: Judgment
    checks: tuple[Judgment, ...] = ()
    """The verdicts of the judge that saw these reasons, and not the label."""
    rejected: str | None = None
    """Why it is not learned; None if it is."""


@dataclass(frozen=True, kw_only=True)
class Grade:
    """One grade of one answer by one rubric."""

    rubric: str
    """Name of the rubric."""
    answer: Answer
    index: Int16
    """Number of the sample among those of its rubric and answer, from 0."""
    asked: str
    """SHA-256 of the messages that the judge saw, in hex: the answer, the rubric and the reference that the grade is for."""
    text: str
    """The judgment, behind the thought of a thinking judge."""
    score: Int8 | None
    """The point of the scale that the parser reads; None if it reads none."""
    finish_reason: str
    output_tokens: Int32
    thought: str = ""
    """What a thinking judge wrote before the judgment, with its tags (stj/thoughts.py)."""
    shares: tuple[float, ...] = ()
    """Probability of each point of the scale, by the tokens of the score; empty without a score, or if nobody asked for it."""
    purpose: Purpose = "sampled"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One instruction on its way through the stages."""

    id: str
    position: int
    """Place in the input, from 0; "the first k rows" refers to it."""
    task: str = TRAINING
    """TRAINING, HELDOUT, or the name of a benchmark."""
    subset: str | None = None
    """Part of the benchmark."""
    turns: tuple[Turn, ...]
    language: str | None = None
    """Language of the dialogue, as its source names it."""
    toxic: bool | None = None
    """Whether the source marks the dialogue as toxic; None if it does not say."""
    redacted: bool | None = None
    """Whether the source marks the dialogue as redacted; None if it does not say."""
    category: Category | None = None
    pair: Pair | None = None
    origin: Origin | None = None
    """Where it comes from; None for a synthetic pair and for a benchmark's."""
    cluster: Int32 | None = None
    """Number of the instruction's cluster, by size from 0 (`curate.clustering`); None if it has none."""
    candidates: Candidates | None = None
    reference: str | None = None
    """A reference answer that the judge sees, if the benchmark shows one."""
    context: str | None = None
    """A context that the judge sees, such as documents that the answer must be faithful to."""
    response: str | None = None
    """The only answer of a row that is graded."""
    label: float | None = None
    """The true score of that answer, if somebody knows it."""
    rubrics: tuple[Rubric, ...] = ()
    """The rubrics that the row's answers are graded by, if it brings its own."""
    ungraded: str | None = None
    """Why the answers of its pair teach no grade, if the row itself goes on (stages/write_rubric.py, grade_pair.py)."""
    grades: tuple[Grade, ...] = ()
    kept_grades: Int16 | None = None
    """Index of the grades of both answers that train the next judge, among those of the row."""
    judgments: tuple[Judgment, ...] = ()
    kept: Int16 | None = None
    """Index into `judgments`: this judgment trains the next judge."""
    rationales: tuple[Rationale, ...] = ()
    """Tries to rescue a pair without a right judgment (`judge.rescue`); only the last may be learned."""
    opinions: tuple[Opinion, ...] = ()
    """What the members of the panel say that share the weights of the pass."""
    aborted: Int16 = 0
    """Samples that were started and then discarded, because lower indices were enough."""
    surplus_tokens: int = 0
    """Part of output_tokens: written by discarded samples that finished before they could be aborted."""
    dropped: str | None = None
    """Reason why the row went no further."""
    detail: str | None = None
    """Evidence for `dropped`: what the model wrote, what the row repeats, or the error message."""
    error: str | None = None
    """Message of the request that failed."""
    prompt_tokens: int = 0
    """Tokens of the prompts of all completed requests for this row."""
    output_tokens: int = 0
    """Tokens of the completions of all completed requests for this row."""

    @property
    def ended(self) -> bool:
        """Whether later stages skip the row."""
        return self.dropped is not None or self.error is not None

    @property
    def rescued(self) -> Judgment | None:
        """The judgment with reasons for the known label that trains the next judge; None if there is none."""
        return next((rationale.judgment for rationale in self.rationales if rationale.rejected is None), None)

    @property
    def chain(self) -> str:
        """Name of the chain of stages that the row passes through: its task, and the source of a pair that is not synthetic."""
        return self.task if self.origin is None else f"{self.task}/{self.origin.source}"

    @property
    def instruction(self) -> str:
        """The instruction as the prompts show it: a single turn unchanged, a dialogue with the role before each turn."""
        if len(self.turns) == 1:
            return self.turns[0].content
        return "\n\n".join(f"{turn.role.capitalize()}: {turn.content}" for turn in self.turns)

    def drop(self, reason: str, detail: str | None = None) -> "Row":
        """This row as a tombstone, with at most MOST_DETAIL characters of detail."""
        return replace(self, dropped=reason, detail=detail[:MOST_DETAIL] if detail else None)

    def in_cluster(self, cluster: int | None) -> "Row":
        """This row as a member of a cluster."""
        return self if cluster is None else replace(self, cluster=cluster)


@dataclass(frozen=True, kw_only=True)
class Example:
    """One training example: a prompt and the completion to learn. For kind "judgment" the prompt is the judge's."""

    id: str
    winner: Label | None = None
    """Label of the better answer; None for a grade."""
    score: Int8 | None = None
    """The grade; None for the other kinds."""
    kind: Kind = "judgment"
    messages: tuple[Turn, ...]
    completion: str
    rejected: str | None = None
    """Worse completion, for objectives that learn from pairs; for kind "judgment" a wrong judgment of the same pair."""
    thought: str = ""
    """Thought to learn before the completion, with its tags; "" for none."""
    rejected_thought: str = ""
    """Thought before `rejected`. Either both completions have a thought, or neither has."""
    difficulty: float | None = None
    """Place in a curriculum, from 0 (first) to 1; None if it has none (`select.disagreement.order`)."""


ROW_SCHEMA = schema_of(Row)
"""Columns of the Parquet files of a pass."""
EXAMPLE_SCHEMA = schema_of(Example)
"""Columns of the Parquet files of training examples."""


def rows_to_table(rows: Iterable[Row]) -> pa.Table:
    """Rows as an Arrow table of ROW_SCHEMA."""
    return table_of(rows, ROW_SCHEMA)


row_from_dict = reader_of(Row)
"""A row from the record that Arrow gives back; a field that an older artifact lacks takes its default."""


def examples_to_table(examples: Iterable[Example]) -> pa.Table:
    """Training examples as an Arrow table of EXAMPLE_SCHEMA."""
    return table_of(examples, EXAMPLE_SCHEMA)


example_from_dict = reader_of(Example)
"""A training example from the record that Arrow gives back."""
