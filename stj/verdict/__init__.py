"""From the text of a judgment to its verdict: the label of the better answer, a tie, a rating, or None.

The text is only the judge's output. Tags inside the responses under judgment never reach this package.

Each judge writes its verdict in its own `Format`. Three parsers read every format:

    distinct   the one distinct tag, anywhere in the text: the paper's own judgments give reasons behind it (Figure 9)
    strict     the same tag, but only if nothing except closing marks follows it
    paper      the official rule of the benchmark or judge, with its errors, so that scores compare with published ones

`distinct` and `strict` read the text as `plain.py` writes it. Two tags that differ are no verdict, and neither is a tag that is
negated ("not [[A]]"). So a strict verdict is always the distinct one too. `paper` reads the text as it is.

Every parser takes time in proportion to the text, because a model can write 100,000 blanks or brackets.
"""

from stj.verdict.formats import (
    ABSOLUTE,
    BARE_LETTER,
    BEST_OF_FOUR,
    BOXED,
    DECISION,
    FINAL_DECISION,
    FIVE_ALONE,
    FIVE_WAY,
    FORMATS,
    GRADE,
    NUMBERED,
    OUTPUT,
    PAIR,
    PAIR_OR_TIE,
    RATING,
    RESULT,
    TWO_SCORES,
)
from stj.verdict.plain import plainly
from stj.verdict.reading import PARSERS, TIE, Format, Label, Parser, Verdict, distinct_verdicts, majority, other, parse, rating
from stj.verdict.scales import GRADE_STYLES, grade_format, written_grade

__all__ = [
    "ABSOLUTE",
    "BARE_LETTER",
    "BEST_OF_FOUR",
    "BOXED",
    "DECISION",
    "FINAL_DECISION",
    "FIVE_ALONE",
    "FIVE_WAY",
    "FORMATS",
    "GRADE",
    "GRADE_STYLES",
    "NUMBERED",
    "OUTPUT",
    "PAIR",
    "PAIR_OR_TIE",
    "PARSERS",
    "RATING",
    "RESULT",
    "TIE",
    "TWO_SCORES",
    "Format",
    "Label",
    "Parser",
    "Verdict",
    "distinct_verdicts",
    "grade_format",
    "majority",
    "other",
    "parse",
    "plainly",
    "rating",
    "written_grade",
]
