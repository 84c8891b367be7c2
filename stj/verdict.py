"""From the text of a judgment to its verdict: the label of the better answer, a tie, a rating, or None.

The text is only the judge's output. Tags inside the responses under judgment never reach this module.

Each prompt asks for its verdict in its own `Format`. Three parsers read every format:

    distinct   the one distinct tag, anywhere in the text: the paper's own judgments give reasons behind it (Figure 9)
    strict     the same tag, but only if nothing except closing marks follows it
    paper      the benchmark's official rule, with its errors, so that scores compare with published ones

`distinct` and `strict` read the text as `_plainly` writes it. Two tags that differ are no verdict, and neither is a tag that is
negated ("not [[A]]"). So a strict verdict is always the distinct one too. `paper` reads the text as it is.

Every parser takes time in proportion to the text, because a model can write 100,000 blanks or brackets.

The formats are at the end of this file, each with the rules that it needs before it.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Label = Literal["A", "B", "C", "D"]
"""Label under which a judge sees an answer: A or B in a pair, A to D among four."""
Verdict = str
"""A label, TIE, or a rating as the judge wrote it."""
Parser = Literal["strict", "distinct", "paper"]
PARSERS: tuple[Parser, ...] = ("strict", "distinct", "paper")
TIE = "tie"

_BLANKS = re.compile(r"\s{2,}|[^\S \n]")  # A blank or line break alone stays as it is: most are.
_ESCAPED_BRACKET = re.compile(r"\\([\[\]])")  # Markdown may write [[A]] as \[\[A\]\].
_END_TAG = re.compile(r"</[^<>\s]{1,40}>|<\|[^<>\s]{1,40}\|>|<(?:end_of_turn|eos)>")  # </answer>, <|im_end|>
_NEGATION = re.compile(r"(?:\b(?:not|nor|neither|never)|n['’]t)(?: (?:be|quite|really))?[ *_`'\"‘“(]{1,8}\Z", re.IGNORECASE)
"""Before a tag: is **not** "[[A]]", shouldn't be [[A]]."""
_NEGATION_REACH = 100  # Characters before a tag among which a negation is looked for: more than any pattern needs.


@dataclass(frozen=True, kw_only=True)
class Format:
    """One way to write a verdict."""

    form: str
    """How it is written, for a reader."""
    tag: re.Pattern[str]
    """Pattern of a verdict in a plainly written text; the group that matched holds its value."""
    means: Callable[[str], Verdict | None]
    """Verdict of a value without its blanks; None for a value that the prompt did not offer."""
    paper: Callable[[str], Verdict | None]
    """Official parser of a whole text."""
    negation: re.Pattern[str] = _NEGATION
    """Pattern of the text before a tag that is negated."""
    only_at_end: bool = False
    """Whether only its place at the end makes a tag a verdict, as for a bare number: `distinct` reads it like `strict`."""


def parse(text: str, wording: Format, parser: Parser) -> Verdict | None:
    """The verdict of a judgment in this format, read by the named parser; None if that parser finds none."""
    return wording.paper(text) if parser == "paper" else _distinct(_plainly(text), wording, at_end=parser == "strict")


def rating(verdict: Verdict | None) -> float | None:
    """A rating as a number."""
    return None if verdict is None else float(verdict)


def majority(verdicts: Sequence[Verdict | None]) -> Verdict | None:
    """The most frequent verdict; None if two are equally frequent, or if there is no verdict."""
    given = [verdict for verdict in verdicts if verdict is not None]
    counts = sorted(((given.count(verdict), verdict) for verdict in set(given)), reverse=True)
    if not counts or (len(counts) > 1 and counts[0][0] == counts[1][0]):
        return None
    return counts[0][1]


def other(label: Label) -> Label:
    """The other label of a pair."""
    return "B" if label == "A" else "A"


def _distinct(text: str, wording: Format, *, at_end: bool) -> Verdict | None:
    tags = list(wording.tag.finditer(text))
    if wording.only_at_end:
        tags, at_end = tags[-1:], True
    if not tags or (at_end and not _closes(text[tags[-1].end() :])):
        return None
    values = {"".join(tag[tag.lastindex or 0].split()) for tag in tags}
    if len(values) > 1 or any(_is_negated(text, tag.start(), wording) for tag in tags):
        return None
    return wording.means(values.pop())


def _plainly(text: str) -> str:
    r"""The text without invisible characters and escapes, with ASCII for full-width forms, and one blank for a run of blanks.

    Unicode's NFKC is no help: it takes quadratic time for a run of combining marks, and it writes 7½ as 71⁄2.
    """
    return _ESCAPED_BRACKET.sub(r"\1", _BLANKS.sub(_one_blank, text.translate(_PLAIN)))


def _one_blank(run: re.Match[str]) -> str:
    return "\n" if "\n" in run[0] else " "


class _PlainCharacters(dict[int, str | None]):
    """A table for `str.translate`, filled with the characters that have come."""

    def __missing__(self, code: int) -> str | None:
        self[code] = written = _plain_character(chr(code))
        return written


def _plain_character(character: str) -> str | None:
    """None for a character to leave out: zero-width blanks, byte order marks, directional and other invisible marks."""
    if "！" <= character <= "～":  # The full-width forms stand in the order of ASCII.
        return chr(ord(character) - ord("！") + ord("!"))
    invisible = unicodedata.category(character) in ("Cf", "Cc") and not character.isspace()
    return None if invisible else character


_PLAIN = _PlainCharacters()


def _closes(rest: str) -> bool:
    """Whether only closing marks follow a verdict: punctuation, markup, rules, end tags and stop tokens."""
    return all(map(_is_closing_mark, _END_TAG.sub("", rest)))


def _is_closing_mark(character: str) -> bool:
    """Blanks, punctuation of any script except opening brackets (Ps), and signs such as $ and | (S), but no emoji (So)."""
    category = unicodedata.category(character)
    return character.isspace() or (category[0] in "PS" and category not in ("Ps", "So"))


def _is_negated(text: str, start: int, wording: Format) -> bool:
    return wording.negation.search(text[max(0, start - _NEGATION_REACH) : start]) is not None


def _first(*rules: tuple[str, Verdict]) -> Callable[[str], Verdict | None]:
    """A parser that searches the whole text for each pattern in turn; the first pattern that matches decides."""
    compiled = [(re.compile(pattern), verdict) for pattern, verdict in rules]
    return lambda text: next((verdict for pattern, verdict in compiled if pattern.search(text)), None)


def _letters(offered: Sequence[Label]) -> Callable[[str], Verdict | None]:
    return lambda letter: letter if letter in offered else None


def _letter_or_tie(letter: str) -> Verdict | None:
    return TIE if letter == "C" else _letters(("A", "B"))(letter)


def _five_way(tag: str) -> Verdict | None:
    return {"A>>B": "A", "A>B": "A", "A=B": TIE, "B=A": TIE, "B>A": "B", "B>>A": "B", "A": "A", "B": "B"}.get(tag)


def _arena_hard(text: str) -> Verdict | None:
    """The rule of Arena-Hard, which JudgeBench uses too: one distinct tag, anywhere in the text."""
    distinct = set(re.findall(r"\[\[([AB<>=]+)\]\]", text))
    return _five_way(distinct.pop()) if len(distinct) == 1 else None


def _five_alone(tag: str) -> Verdict | None:
    return _five_way(tag) if len(tag) > 1 else None


def _prometheus(text: str) -> Verdict | None:
    """The rule of prometheus-eval for two responses: the first result that names A or B, in either case."""
    named = r"(?:\[(?:RESULT\]|RESULT:|RESPONSE\s)|^RESULT:?)\s*([AB])(?:\]|\s|$)"
    match = re.search(named, text, re.IGNORECASE | re.MULTILINE)
    return match[1].upper() if match else None


def _one_to_ten(number: str) -> Verdict | None:
    return number if 1 <= float(number) <= 10 else None


def _out_of_ten(value: str) -> Verdict | None:
    """The number of "7", "7/10" or "7(outof10)"; None for "7and8", "7,5" and "4outof5"."""
    match = re.fullmatch(rf"(\d+(?:\.\d+)?)(?:{_SCALE})?", value, re.ASCII)
    return _one_to_ten(match[1]) if match else None


def _fastchat_grade(text: str) -> Verdict | None:
    """FastChat's rule for single answers: the first [[number]], else the first [number]."""
    number = r"\[(\d+(?:\.\d*)?)\]"  # FastChat's own \d+\.?\d* means the same, in quadratic time.
    match = re.search(rf"\[{number}\]", text, re.ASCII) or re.search(number, text, re.ASCII)
    return match[1] if match else None


def _last_whole_number(text: str) -> Verdict | None:
    """RewardBench 2's rule: a whole number from 1 to 10 at the very end; it reads "9/10" as 10 and "8.5" as 5."""
    match = re.search(r"\b([1-9]|10)\Z", text.strip())
    return match[1] if match else None


_LETTER = re.compile(r"\[\[\s?([A-Z])\s?\]\]")
_FIVE_WAY_TAG = re.compile(r"\[\[\s?([A-Z<>=]+|[A-Z]\s?[<>=]+\s?[A-Z])\s?\]\]")
_NEGATED_CLAUSE = re.compile(r"\b(?:not|never|neither|nor|no|cannot|hardly|\w{2,8}n['’]t)\b[^.,;:!?\n]{0,80}\Z", re.IGNORECASE)
_JOINED_LETTER = r"\s?(?:[/&=]|,\s?[AB]\b|(?:and|or|tie|draw)\b)"  # "A or B", "A, B", "A tie"
_SCALE = r"\s?(?:/|\(?\s?(?:out\s?)?of)\s?10\b\)?"
_NUMBER = rf"\d++(?:[.,]\d++)?+(?:{_SCALE})?+"
_JOINED = r"\s?(?:and|or|to|(?:out\s)?of|[/,;&–—-])\s?"

PAIR = Format(
    form="[[A]] or [[B]]",
    tag=_LETTER,
    means=_letters(("A", "B")),
    paper=_first((r"\[\[A\]\]", "A"), (r"\[\[B\]\]", "B")),
)
"""Figure 8, and RewardBench's generative judges: [[A]] or [[B]]. The official parser looks for [[A]] first."""
PAIR_OR_TIE = Format(
    form="[[A]], [[B]] or [[C]]",
    tag=_LETTER,
    means=_letter_or_tie,
    paper=_first((r"\[\[A\]\]", "A"), (r"\[\[B\]\]", "B"), (r"\[\[C\]\]", TIE)),
)
"""FastChat's pairwise judges on MT-Bench: [[A]], [[B]], or [[C]] for a tie."""
BEST_OF_FOUR = Format(
    form="[[A]] to [[D]]",
    tag=_LETTER,
    means=_letters(("A", "B", "C", "D")),
    paper=_first(*((rf"\[\[{letter}\]\]", letter) for letter in "ABCD")),
)
"""RewardBench 2's four answers: [[A]] to [[D]]."""
FIVE_WAY = Format(form="[[A>>B]] to [[B>>A]]", tag=_FIVE_WAY_TAG, means=_five_way, paper=_arena_hard)
"""JudgeBench's Arena-Hard judges: [[A>>B]] to [[B>>A]]. Some of its judges write [[A]] or [[B]], which is read too."""
FIVE_ALONE = Format(form="[[A>>B]] to [[B>>A]]", tag=_FIVE_WAY_TAG, means=_five_alone, paper=_arena_hard)
"""Our prompt `arena`, which offers only the five verdicts [[A>>B]] to [[B>>A]]."""
RESULT = Format(
    form="[RESULT] A or [RESULT] B",
    tag=re.compile(rf"(?i:\[RESULT(?:\]|:)(?:\W*Response\b)?)\W*(\w*+)(?!{_JOINED_LETTER})"),
    means=_letters(("A", "B")),
    paper=_prometheus,
)
"""Prometheus: feedback, then [RESULT] A or [RESULT] B; also "[Result]: **A**", "[RESULT: A]" and "[RESULT] Response A"."""
OUTPUT = Format(
    form="Output (a) is better",
    tag=re.compile(r"\A\s?Output \(([ab])\)(?=\W*\Z)|Output \(([ab])\) is better"),
    means=str.upper,
    negation=_NEGATED_CLAUSE,
    paper=_first(
        (r"Output \(a\) is better", "A"),
        (r"Output \(b\) is better", "B"),
        (r"\A\s*Output \(a\)\W*\Z", "A"),
        (r"\A\s*Output \(b\)\W*\Z", "B"),
    ),
)
"""LLMBar: only "Output (a)", or "Therefore, Output (a) is better." The official parser looks for (a) first, negated or not."""
GRADE = Format(
    form="[[1]] to [[10]]", tag=re.compile(r"\[\[\s?(\d+(?:\.\d+)?)\s?\]\]", re.ASCII), means=_one_to_ten, paper=_fastchat_grade
)
"""FastChat's grades of single answers, [[1]] to [[10]]."""
RATING = Format(
    form="1 to 10",
    tag=re.compile(rf"(?<![\w.,/-])({_NUMBER}(?:{_JOINED}{_NUMBER})*+)(?!\s?%)", re.ASCII),
    means=_out_of_ten,
    paper=_last_whole_number,
    only_at_end=True,
)
"""RewardBench 2's ratings: a number from 1 to 10 at the end of the text, "7", "7/10" or "7 out of 10"."""
