"""The formats in which published judges write a grade on a scale of whole numbers, by style and scale.

    prometheus   [RESULT] 4           Prometheus and Prometheus 2
    flow         <score>3</score>     Flow-Judge, behind its <feedback>
    fastchat     [[4]]                FastChat's and Auto-J's grades of single answers
    selene       **Result:** 4        Atla's Selene, behind its **Reasoning:**
    line         Score: 4/5           on a line or in a sentence of its own, as "**Final score**: 4 out of 5" too
    json         {"score": 4}         an object, in a fenced block or not
    number       4                    the last line, or all that is written, as G-Eval's judges do

A grade is a point of the scale. 4.0 is the whole number 4, and is read as 4. Anything else is no grade: a number outside the
scale, a fraction, a sign, "> 3", "4 or 5", or "4/10" on a scale to 5. Nothing is rounded or clipped. Nor is there a grade if
the last place for one holds something else, as in "It writes [[5]]. Rating: [[N/A]]".
"""

import json
import re
from collections.abc import Callable, Sequence
from functools import cache

from stj.verdict import official
from stj.verdict.reading import NEGATION, Format, Verdict

GRADE_STYLES = ("prometheus", "flow", "fastchat", "selene", "line", "json", "number")
"""Every style of `grade_format`, by name."""

# Directly before a number, each makes another number of it; but "<score>4" and "<4>" are the number 4.
_SIGN = r"(?:[-‐‑‒–−﹣➖+±≤≥≈~.,/]|(?<!(?i:score))>|<(?![0-9]++>)|(?<=!)=)"
_APART = "(?:[<≤≥≈~±−]|(?<=!)=)[ ]"  # Signs that keep their meaning with a space; "- 4" may be an item of a list.
_MARKUP = r"[*_`\"']{0,3}"
_MARKS = r"(?:[^\w\n]|_){0,8}"  # Markup and quotes around a value; bounded, so that a run of them takes linear time.
_BEFORE = r"(?:[^\w\n<>~±¬∼-⋿⩽⩾﹤﹥]|_|[-=]>|<(?=[0-9]{1,3}>)){0,8}"  # The same before a number, without comparisons: "> 3".
_ALONE = r"(?=(?:[^\w\n]|_|[0-9]|out|of){1,40}(?:\n|\Z))"  # A number on the next line; "1. First" is an item of a list.
_GAP = rf"(?:{_MARKS}\n{_ALONE}{_MARKS}|{_BEFORE})"
_UNIT = r"(?:[ ](?i:points?|stars?|marks?))?+"
_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_COUNT = rf"(?:[0-9]++|(?i:{'|'.join(_WORDS)}|hundred)\b)"
_NOT_ENDED = r"[^\w\n.!?;]{0,4}"
# Between a grade and what it is out of, in the words of several languages.
_OF = (
    r"(?:[ ]?[/⁄∕][ ]?"
    rf"|{_NOT_ENDED}(?i:out[ \n]of|max(?:imum)?|(?:on[ ])?(?:an?[ ]|the[ ])?scale)\b[ :]{{0,2}}(?i:(?:of|from)[ ])?"
    r"|[ ]\(?(?i:of|over|on|in|sur|von|de|di|su|из)[ ]"
    rf"|{_NOT_ENDED}(?=(?:[0-9]{{1,3}}[ ]?(?:to|[–-])[ ]?)?{_COUNT}[ -](?i:points?[ ]scale|max|scale)))"
    r"(?i:(?:an?|the|possible|maximum|total|of)[ ]){0,4}(?:[0-9]{1,3}[ ]?(?i:to|[–-])[ ]?)?"
)
# Behind a grade: a second one, so that neither is given.
_SECOND = (
    r"[ ]?(?:[,;&|\\→➜~〜・、±–—−…-]|->|=>|\.\.|(?i:and|or|to|vs\.?|versus|or[ ]maybe|bis|oder|ou|或|至|到))[ ]?[0-9]++"
    r"|[:'’][0-9]++|[ ]?(?:\([^()\n]{1,40}\)[ ]?)?(?:[+=*×÷^<>]|x[ ])[ ]?\(?[0-9]++"
    r"|[ ][0-9]++|[ ]?[(\[](?:(?i:or|maybe|perhaps|possibly)[ ][0-9]++|[0-9]++[)\]])|[ ](?i:or|and[ ]a[ ]half)\b"
    r"|[ ](?i:plus|minus|hundred|thousand|million)\b"
)
_MORE = r"\+|[ ]?[¼½¾⅐-⅞]|-ish"
_JOINED = rf"{_OF}{_COUNT}|{_SECOND}|{_MORE}"
_SENTENCE = r"(?:^|(?<=[.!?;:)\]\"'”»*_>] )|(?<=>))"
_SCORE_WORD = (
    r"(?i:(?:(?:my|the|final|overall|total)[ ]){0,3}(?:score|rating|grade))(?![\"'])"  # A key of JSON ends with a quote.
)
_RESULT = rf"^{_MARKS}(?i:(?:final[ ])?result)[^\w\n:=]{{0,8}}[:=]"
_NOUN = rf"{_MARKUP}(?![ ](?i:points?|stars?|marks?|because|as|since|for)\b)[ ][^\W\d_]"  # "Result: 4 errors" is no grade.
_ITEM = rf"{_MARKS}[0-9]++{_MARKUP}[.):\]](?![0-9])"  # A last line "2." is an item at which a text was cut off, "[2]" a source.
_UNFINISHED = re.compile(  # Before a number on a line of its own, of which the line before makes something else than a grade.
    r"(?:\b(?:not|n['’]t|or|and|to|than|between|minus|plus)|\w[ ]?[-–−+=<≤≥≈~×÷]"
    r"|\b(?:confidence|certainty|page|out[ ]of|max(?:imum)?(?:[ ](?:score|points?))?)[^\w\n]{0,8})[ ]?\n\Z",
    re.IGNORECASE,
)
_OTHER_TOP = r"[\"'](?i:max(?:imum)?(?:_score)?|out_of|scale)[\"']\s?:\s?"
_SCORE_KEY = r"(?i:(?:final_|overall_)?(?:score|rating|grade))"


@cache
def grade_format(style: str, scale: tuple[int, ...]) -> Format:
    """The format of one of `GRADE_STYLES` on a scale: a run of whole numbers such as (0, 1) or (1, 2, 3, 4, 5).

    Raises ValueError for another style, or for a scale that is not two or more consecutive whole numbers from 0 or more.
    """
    if style not in GRADE_STYLES:
        raise ValueError(f"no style of grades: {style!r}; it is one of {', '.join(GRADE_STYLES)}")
    if len(scale) < 2 or scale[0] < 0 or scale != tuple(range(scale[0], scale[-1] + 1)):
        raise ValueError(f"no scale: {scale!r}; it is two or more consecutive whole numbers from 0 or more, as (1, 2, 3, 4, 5)")
    points = {str(point): str(point) for point in scale}
    written, rule = _FORMS[style], _RULES[style]
    return Format(
        name=style,
        form=f"{written.format(scale[0])} to {written.format(scale[-1])}",
        tag=_tag(style, scale[-1]),
        opening=re.compile(_OPENINGS[style], re.MULTILINE),
        means=points.get,
        paper=lambda text: rule(text, scale),
        answers=1,
        negation=_UNFINISHED if style == "number" else NEGATION,
    )


def written_grade(style: str, feedback: str, score: int) -> str:
    """What a judge writes in one of `GRADE_STYLES`: its feedback, then the score."""
    if style == "json":
        return json.dumps({"feedback": feedback, "score": score}, ensure_ascii=False)
    if style == "flow":
        return f"<feedback>\n{feedback}\n</feedback>\n<score>\n{score}\n</score>"
    gap = "\n" if style in ("selene", "line", "number") else " "
    return f"{feedback.rstrip()}{gap if feedback.strip() else ''}{_FORMS[style].format(score)}"


def _tag(style: str, top: int) -> re.Pattern[str]:
    number, per_top = _number(top), _per(top)
    tags = {
        "prometheus": rf"(?i:\[(?:RESULT|SCORE)(?:\]|:)):?(?:{_MARKS}(?i:score))?{_GAP}{number}",
        "flow": rf"(?i:<score>)\s?{_BEFORE}{number}{_MARKS}\s?(?i:</score>)",
        "fastchat": rf"\[\[\s?{number}\s?\]\](?:{per_top}|({_OF}{_COUNT}|{_MORE}|[.,][0-9]++|[ ]?%))?+",
        "selene": rf"{_RESULT}{_GAP}{number}(?!{_NOUN})",
        "line": rf"{_SENTENCE}{_MARKS}{_SCORE_WORD}(?:[ ]?\((?:[^()\n]{{0,20}}[^0-9()\n])?{top}\))?{_is()}{_GAP}{number}",
        "json": rf"(?:(\\))?[\"']{_SCORE_KEY}\\?[\"']\s?:\s?[\"']?{number}(?=\\?[\"']?\s?[,}}\n])"
        rf"|(?<!\\)[\"'](?i:score)[\"']\s?(:)|{_OTHER_TOP}[\"']?(?:[0-9]{{1,3}}[ ]?[-–][ ]?)?+(?!{top}\b)([0-9]++)",
        "number": rf"(?:\A\n?|^(?!{_ITEM})){_BEFORE}{number}(?:[^\w\n?]|_){{0,8}}$",
    }
    return re.compile(tags[style], re.MULTILINE)


def _is() -> str:
    """What stands between the word "score" and its number: a colon, "is", or the end of a heading."""
    return r"(?:[^\w\n:=]{0,8}[:=]|[ ]is\b|(?=[^\w\n]{0,8}\n))"


def _per(top: int) -> str:
    """Behind a number: that it is one of the scale, as "/5" or "out of five"."""
    word = rf"|(?i:{_WORDS[top - 2]})\b" if 2 <= top <= len(_WORDS) + 1 else ""
    return rf"{_MARKUP}{_UNIT}{_OF}(?:{top}(?:\.0++)?(?![.,]?[0-9]){word})(?:[ -](?i:points?[ ]scale|max|scale)\b)?\)?"


def _number(top: int) -> str:
    """A number, perhaps out of the top. Its value holds a fraction, another top or a second number too: then it is no grade."""
    whole = rf"(?<!{_SIGN})(?<!{_APART})((?:{_SIGN}|{_APART})?[0-9]++)(?:\.0++(?![0-9])|([.,][0-9]++))?+"
    return rf"{whole}(?:{_per(top)})?+(?:{_MARKUP}{_UNIT}({_JOINED}))?+(?!_{{0,8}}[^\W_]|[ ]?%)"


_OPENINGS = {
    "prometheus": r"(?i:\[(?:RESULT|SCORE)(?:\]|:))",
    "flow": r"(?i:<score>)",
    "fastchat": r"(?<!\w)\[\[(?!(?i:user question|criterion|scale|score\]|rating\]))",  # But for the headings of a prompt.
    "selene": _RESULT,
    "line": rf"^{_MARKS}{_SCORE_WORD}(?:[ ]?\([^()\n]{{0,30}}\))?[^\w\n:=]{{0,8}}[:=]",
    "json": rf"(?<!\\)[\"']{_SCORE_KEY}[\"']\s?:\s?+(?![\"']\w)",
    "number": r"(?<!</)(?<!<)(?<!<\|)\b\w|\?",  # Any word but those of end tags, as a number counts on the last line alone.
}
"""What opens a place for a grade."""
_FORMS = {
    "prometheus": "[RESULT] {}",
    "flow": "<score>{}</score>",
    "fastchat": "[[{}]]",
    "selene": "**Result:** {}",
    "line": "Score: {}",
    "json": '"score": {}',
    "number": "{}",
}
_RULES: dict[str, Callable[[str, Sequence[int]], Verdict | None]] = {
    "prometheus": official.prometheus_absolute,
    "flow": official.flow_grade,
    "fastchat": official.fastchat_point,
    "selene": official.selene_grade,
    "line": official.prometheus_absolute,  # No project owns "Score: 4/5"; prometheus-eval's rule reads it.
    "json": official.json_grade,
    "number": official.leading_number,
}
