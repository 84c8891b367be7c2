"""The prompts that a judge may see, by name, each with the format of its verdict.

    figure8      the paper's prompt; training always uses it
    arena        the form of Arena-Hard: five verdicts, [[A>>B]] to [[B>>A]]
    prometheus   the form of Prometheus: feedback, then [RESULT] A or B
    mtbench      MT-Bench's own (FastChat's pair-v2 and pair-math-v1, Apache-2.0), in plain ASCII: [[A]], [[B]] or [[C]]

The words of `arena` and `prometheus` are ours, so scores made with them do not compare with published ones. They show how much
a judge's verdict depends on its prompt. given.py reads the prompt of a published judge from a file.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from stj.prompts import JUDGE_SYSTEM, JUDGE_USER, fill_text, prompt, prompt_hash
from stj.prompts.two_turns import SECOND_ANSWER, SECOND_QUESTION, SECOND_REFERENCE, TwoTurns, split_turns
from stj.verdict import FIVE_ALONE, PAIR, PAIR_OR_TIE, RESULT, Format, Label, Parser, parse

_REFERENCE = "{instruction}\n\n[The Start of Reference Answer]\n{reference}\n[The End of Reference Answer]"
"""FastChat's lines around a reference answer, behind the question of a prompt that has no words for it."""


@dataclass(frozen=True, kw_only=True)
class Words:
    """The two messages of a prompt."""

    system: str
    """Text of the system message; empty for no such message."""
    user: str
    """Text of the user message."""

    def filled(self, values: Mapping[str, str]) -> "Words":
        """The same words with their placeholders replaced."""
        return Words(system=fill_text(self.system, values), user=fill_text(self.user, values))


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A judge prompt: its words for each kind of pair, and the format of the verdict."""

    name: str
    plain: Words
    """Words with `{instruction}`, `{response A}` and `{response B}`."""
    with_reference: Words | None = None
    """Words that show a `{reference}` too. Without them a reference stands behind the instruction."""
    two_turns: Words | None = None
    """Words for answers to two turns (`{first question}`, `{first answer A}`, ...). Without them the turns are joined."""
    two_turns_with_reference: Words | None = None
    """Words for two turns that show `{first reference}` and `{second reference}` too."""
    wording: Format
    """Format of the verdict that this prompt asks for."""
    hashes: Mapping[str, str]
    """SHA-256 of its words, by a name that does not depend on where they lie: part of every key that uses the prompt."""

    def ask(self, instruction: str, first: str, second: str, reference: str | None = None) -> Words:
        """The messages about a pair of responses, the first one shown as A."""
        values = {"instruction": instruction, "response A": first, "response B": second}
        by_turn = _by_turn(values, reference)
        words = self.two_turns if reference is None else self.two_turns_with_reference
        if words and by_turn:
            return words.filled(by_turn)
        if reference is None:
            return self.plain.filled(values)
        if self.with_reference:
            return self.with_reference.filled(values | {"reference": reference})
        return self.plain.filled(values | {"instruction": fill_text(_REFERENCE, values | {"reference": reference})})

    def longest(self) -> Words:
        """The longest of its words, around nothing."""
        kinds = (self.plain, self.with_reference, self.two_turns, self.two_turns_with_reference)
        empty = [words.filled(_NOTHING) for words in kinds if words]
        return max(empty, key=lambda words: len(words.system) + len(words.user))

    def parse(self, text: str, parser: Parser) -> Label | None:
        """The verdict of a judgment; None for a tie or an unreadable judgment."""
        verdict = parse(text, self.wording, parser)
        return "A" if verdict == "A" else "B" if verdict == "B" else None


_TURNS = tuple(f"{place} {name}" for place in TwoTurns._fields for name in ("question", "answer A", "answer B", "reference"))
_NOTHING = dict.fromkeys(("instruction", "response A", "response B", "reference", *_TURNS), "")


def _by_turn(values: Mapping[str, str], reference: str | None) -> dict[str, str] | None:
    """The texts of a pair, turn by turn; None unless all of them hold two turns."""
    texts = [
        ("question", values["instruction"], SECOND_QUESTION),
        ("answer A", values["response A"], SECOND_ANSWER),
        ("answer B", values["response B"], SECOND_ANSWER),
        *([("reference", reference, SECOND_REFERENCE)] if reference is not None else []),
    ]
    turns = {name: split_turns(text, mark) for name, text, mark in texts}
    by_turn = {f"{place} {name}": getattr(both, place) for name, both in turns.items() if both for place in both._fields}
    return by_turn if all(turns.values()) else None


def of_files(name: str, wording: Format, files: tuple[str, str], **more: tuple[str, str]) -> Variant:
    """A variant of this package, from the names of its prompt files: system and user for each kind of words."""
    words = {kind: Words(system=prompt(system), user=prompt(user)) for kind, (system, user) in more.items()}
    hashes = {file: prompt_hash(file) for pair in (files, *more.values()) for file in pair}
    return Variant(
        name=name, wording=wording, plain=Words(system=prompt(files[0]), user=prompt(files[1])), hashes=hashes, **words
    )


FIGURE_8 = of_files("figure8", PAIR, (JUDGE_SYSTEM, JUDGE_USER))
ARENA = of_files("arena", FIVE_ALONE, ("arena_system", "arena_user"))
PROMETHEUS = of_files("prometheus", RESULT, ("prometheus_system", "prometheus_user"))
PAIR_V2 = of_files(
    "mtbench",
    PAIR_OR_TIE,
    ("mtbench_system", "mtbench_user"),
    with_reference=("mtbench_reference_system", "mtbench_reference_user"),
    two_turns=("mtbench_turns_system", "mtbench_turns_user"),
    two_turns_with_reference=("mtbench_turns_reference_system", "mtbench_turns_reference_user"),
)

VARIANTS = {variant.name: variant for variant in (FIGURE_8, ARENA, PROMETHEUS, PAIR_V2)}
