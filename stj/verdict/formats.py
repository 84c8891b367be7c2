"""The formats in which published judges write their verdicts, by name."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from stj.verdict import official
from stj.verdict.official import first_of, five_alone, five_way, higher, letter_or_tie
from stj.verdict.reading import TIE, Format, Label, Verdict
from stj.verdict.scales import grade_format


def _letters(offered: Sequence[Label]) -> Callable[[str], Verdict | None]:
    return lambda letter: letter if letter in offered else None


def _two_scores(value: str) -> Verdict | None:
    first, second = map(float, value.split(","))
    return higher(first, second) if max(first, second) <= _MOST_SCORE else None


def _numbered(value: str) -> Verdict | None:
    return {"1": "A", "2": "B"}.get(value, TIE)


def _letter_or_word(value: str) -> Verdict | None:
    return letter_or_tie(value) if len(value) == 1 else TIE


def _from_one_to(most: int) -> Callable[[str], Verdict | None]:
    return lambda number: number if 1 <= float(number) <= most else None


def _out_of_ten(value: str) -> Verdict | None:
    """The number of "7", "7/10" or "7(outof10)"; None for "7and8", "7,5" and "4outof5"."""
    match = re.fullmatch(rf"(\d+(?:\.\d+)?)(?:{_SCALE})?", value, re.ASCII)
    return _from_one_to(10)(match[1]) if match else None


_MOST_SCORE = 10
_LETTER = re.compile(r"\[\[\s?([A-Z])\s?\]\]")
_FIVE_WAY_TAG = re.compile(r"\[\[\s?([A-Z<>=]+|[A-Z]\s?[<>=]+\s?[A-Z])\s?\]\]")
_NEGATED_CLAUSE = re.compile(r"\b(?:not|never|neither|nor|no|cannot|hardly|\w{2,8}n['’]t)\b[^.,;:!?\n]{0,80}\Z", re.IGNORECASE)
_JOINED_LETTER = r"\s?(?:[/&=]|,\s?[AB]\b|(?:and|or|tie|draw)\b)"  # "A or B", "A, B", "A tie"
_SCALE = r"\s?(?:/|\(?\s?(?:out\s?)?of)\s?10\b\)?"
_NUMBER = rf"\d++(?:[.,]\d++)?+(?:{_SCALE})?+"
_JOINED = r"\s?(?:and|or|to|(?:out\s)?of|[/,;&–—-])\s?"
_MARKS = r"[^\w\n]{0,8}"  # Markup and quotes around a value; bounded, so that a run of them takes linear time.
_LINE_REST = r"(?:[^\w\n<:\[\]]|</?[^<>\s]{1,40}>|<\|[^<>\s]{1,40}\|>)*+(?=\n|\Z)"  # Marks and end tags up to its end.
_SCORE = r"(\d{1,3}+(?:\.\d{1,3}+)?+)(?:\s?/\s?10)?+"
_ANSWER_WORD = r"(?i:response|assistant|answer|output|option|model)"
_LEADING_WORD = (
    rf"(?:{_ANSWER_WORD}|(?i:my|the|final|better|best|preferred|verdict|decision|choice|winner|is|result(?=\W{{0,3}}:)))"
)

PAIR = Format(
    name="figure8",
    form="[[A]] or [[B]]",
    tag=_LETTER,
    means=_letters(("A", "B")),
    paper=first_of((r"\[\[A\]\]", "A"), (r"\[\[B\]\]", "B")),
)
"""Figure 8, and RewardBench's generative judges: [[A]] or [[B]]. The official parser looks for [[A]] first."""
PAIR_OR_TIE = Format(
    name="fastchat",
    form="[[A]], [[B]] or [[C]]",
    tag=_LETTER,
    means=letter_or_tie,
    paper=first_of((r"\[\[A\]\]", "A"), (r"\[\[B\]\]", "B"), (r"\[\[C\]\]", TIE)),
)
"""FastChat's pairwise judges on MT-Bench: [[A]], [[B]], or [[C]] for a tie."""
FIVE_ALONE = Format(name="arena", form="[[A>>B]] to [[B>>A]]", tag=_FIVE_WAY_TAG, means=five_alone, paper=official.arena_hard)
"""Arena-Hard, and our prompt `arena`: the five verdicts [[A>>B]] to [[B>>A]]."""
FIVE_WAY = Format(name="judgebench", form="[[A>>B]] to [[B>>A]]", tag=_FIVE_WAY_TAG, means=five_way, paper=official.arena_hard)
"""JudgeBench's Arena-Hard judges: [[A>>B]] to [[B>>A]]. Some of its judges write [[A]] or [[B]], which is read too."""
RESULT = Format(
    name="prometheus",
    form="[RESULT] A or [RESULT] B",
    tag=re.compile(rf"(?i:\[RESULT(?:\]|:)(?:\W*Response\b)?)\W*(\w*+)(?!{_JOINED_LETTER})"),
    means=_letters(("A", "B")),
    paper=official.prometheus,
)
"""Prometheus: feedback, then [RESULT] A or [RESULT] B; also "[Result]: **A**", "[RESULT: A]" and "[RESULT] Response A"."""
OUTPUT = Format(
    name="llmbar",
    form="Output (a) is better",
    tag=re.compile(r"\A\s?Output \(([ab])\)(?=\W*\Z)|Output \(([ab])\) is better"),
    means=str.upper,
    negation=_NEGATED_CLAUSE,
    paper=first_of(
        (r"Output \(a\) is better", "A"),
        (r"Output \(b\) is better", "B"),
        (r"\A\s*Output \(a\)\W*\Z", "A"),
        (r"\A\s*Output \(b\)\W*\Z", "B"),
    ),
)
"""LLMBar: only "Output (a)", or "Therefore, Output (a) is better." The official parser looks for (a) first, negated or not."""
TWO_SCORES = Format(
    name="judgelm",
    form='two scores on the first line, as in "8 9"',
    tag=re.compile(rf"\A\s?{_SCORE}[ ,;|]{{1,3}}{_SCORE}(?={_LINE_REST})", re.ASCII),
    means=_two_scores,
    paper=official.judgelm,
)
"""JudgeLM, and Vicuna's first judges: the scores of both answers on the first line, then perhaps reasons."""
NUMBERED = Format(
    name="pandalm",
    form="1, 2 or Tie on the first line",
    tag=re.compile(rf"\A{_MARKS}\s?(?:([12])|(?i:(t)ie))(?={_LINE_REST})"),
    means=_numbered,
    paper=official.pandalm,
)
"""PandaLM: 1, 2 or Tie on the first line, then reasons and a reference answer."""
FINAL_DECISION = Format(
    name="auto-j",
    form='"final decision is Response 1", Response 2 or Tie',
    tag=re.compile(rf"(?i:final decision is){_MARKS}(?:(?i:response)\s?([12])\b|(?i:(t)ie)\b)"),
    means=_numbered,
    paper=official.auto_j,
)
"""Auto-J's pairwise judgments: "the final decision is Response 1", Response 2 or Tie."""
BOXED = Format(
    name="boxed",
    form=r"\boxed{A} or \boxed{B}",
    tag=re.compile(
        rf"\\boxed\s?\{{{_MARKS}(?:(?:text|textbf|mathrm|mathbf){_MARKS})?(?:{_ANSWER_WORD}{_MARKS})?"
        rf"([A-Z](?!\w)|(?i:tie)){_MARKS}\}}"
    ),
    means=_letter_or_word,
    paper=official.last_boxed,
)
r"""Judges that reason as in mathematics: \boxed{A}, \boxed{\text{B}}, and \boxed{C} or \boxed{Tie} for a tie."""
BARE_LETTER = Format(
    name="letter",
    form="A or B alone on a line",
    tag=re.compile(
        rf"^[^\w\n\[\]]{{0,8}}(?:<[a-z]{{1,20}}>\s?)?(?:{_LEADING_WORD}[^\w\n\[\]]{{1,8}}){{0,5}}([A-Z])(?={_LINE_REST})",
        re.MULTILINE,
    ),
    means=letter_or_tie,
    paper=official.lone_letter,
)
"""A letter alone on a line, or behind words such as "Answer:"; C is a tie. A heading such as "Assistant A:" is no verdict."""
DECISION = Format(
    name="decision",
    form="the recorded decision A>B, B>A or A=B",
    tag=re.compile(r"\A\s?(A\s?[<>=]{1,2}\s?B|B\s?[<>=]{1,2}\s?A)(?=\W*\Z)"),
    means=five_alone,
    paper=official.decision,
)
"""A decision that the file records beside the text, as of JudgeBench's reward models, which write no text."""
BEST_OF_FOUR = Format(
    name="best-of-four",
    form="[[A]] to [[D]]",
    tag=_LETTER,
    means=_letters(("A", "B", "C", "D")),
    paper=first_of(*((rf"\[\[{letter}\]\]", letter) for letter in "ABCD")),
    answers=4,
)
"""RewardBench 2's four answers: [[A]] to [[D]]."""
RATING = Format(
    name="rating",
    form="1 to 10 at the end",
    tag=re.compile(rf"(?<![\w.,/-])({_NUMBER}(?:{_JOINED}{_NUMBER})*+)(?!\s?%)", re.ASCII),
    means=_out_of_ten,
    paper=official.last_whole_number,
    answers=1,
    only_at_end=True,
)
"""RewardBench 2's ratings: a number from 1 to 10 at the end of the text, "7", "7/10" or "7 out of 10"."""
GRADE = Format(
    name="fastchat-grade",
    form="[[1]] to [[10]]",
    tag=re.compile(r"\[\[\s?(\d+(?:\.\d+)?)\s?\]\]", re.ASCII),
    means=_from_one_to(10),
    paper=official.fastchat_grade,
    answers=1,
)
"""FastChat's grades of single answers, [[1]] to [[10]], and Auto-J's."""
ABSOLUTE = replace(grade_format("prometheus", (1, 2, 3, 4, 5)), name="prometheus-grade")
"""Prometheus's grades of single answers, [RESULT] 1 to [RESULT] 5."""

FORMATS: Mapping[str, Format] = {
    wording.name: wording
    for wording in (
        *(PAIR, PAIR_OR_TIE, FIVE_ALONE, FIVE_WAY, RESULT, OUTPUT, TWO_SCORES, NUMBERED, FINAL_DECISION, BOXED, BARE_LETTER),
        *(DECISION, BEST_OF_FOUR, GRADE, ABSOLUTE, RATING),
    )
}
"""Every format by its name. A format that offers fewer verdicts comes before one that offers the same and more."""
