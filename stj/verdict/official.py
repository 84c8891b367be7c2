"""The official parsers of published judges, with their errors, so that scores compare with published ones.

Each reads a whole text as it is. They differ from the published code in two ways. They take time in proportion to the text.
And a text without a verdict has none, where the code of JudgeLM and PandaLM calls it a tie.
"""

import json
import re
from collections.abc import Callable, Sequence

from stj.verdict.reading import TIE, Verdict

_FIVE: dict[str, Verdict] = {"A>>B": "A", "A>B": "A", "A=B": TIE, "B=A": TIE, "B>A": "B", "B>>A": "B"}
_LETTERS: dict[str, Verdict] = {"A": "A", "B": "B", "C": TIE}
_NUMBERED: dict[str, Verdict] = {"1": "A", "2": "B", "tie": TIE}
_STOP_TOKEN = re.compile(r"</?s>|<(?:unk|pad)>|<\|endoftext\|>|\[(?:PAD|UNK|CLS|MASK)\]")


def first_of(*rules: tuple[str, Verdict]) -> Callable[[str], Verdict | None]:
    """A parser that searches the whole text for each pattern in turn; the first pattern that matches decides."""
    compiled = [(re.compile(pattern), verdict) for pattern, verdict in rules]
    return lambda text: next((verdict for pattern, verdict in compiled if pattern.search(text)), None)


def five_alone(tag: str) -> Verdict | None:
    """The verdict of one of Arena-Hard's five, A>>B to B>>A."""
    return _FIVE.get(tag)


def five_way(tag: str) -> Verdict | None:
    """The verdict of one of Arena-Hard's five, or of A or B alone."""
    return tag if tag in ("A", "B") else _FIVE.get(tag)


def letter_or_tie(letter: str) -> Verdict | None:
    """A or B, and C for a tie."""
    return _LETTERS.get(letter)


def arena_hard(text: str) -> Verdict | None:
    """The rule of Arena-Hard, which JudgeBench uses too: one distinct tag, anywhere in the text."""
    distinct = set(re.findall(r"\[\[([AB<>=]+)\]\]", text))
    return five_way(distinct.pop()) if len(distinct) == 1 else None


def prometheus(text: str) -> Verdict | None:
    """The rule of prometheus-eval for two responses: the first result that names A or B, in either case."""
    named = r"(?:\[RESULT\](?:\s++Response)?|\[RESULT:|\[RESPONSE\s|^RESULT:?)\s*+([AB])(?:\]|\s|$)"
    match = re.search(named, text, re.IGNORECASE | re.MULTILINE)
    return match[1].upper() if match else None


def prometheus_absolute(text: str, scale: Sequence[int] = range(1, 6)) -> Verdict | None:
    """The rule of prometheus-eval for one response: the first number behind a result or score, if it is from 1 to 5.

    On another scale, that scale's last point stands for the rule's 5.
    """
    top = scale[-1]
    end = rf"[)\]\s]|$|/\s*+{top}|\s*+OUT\s*+OF\s*+{top}"
    behind = rf"(?:\[(?:RESULT|SCORE)\]:?|(?:SCORE|RESULT):?|SCORE\s++OF)[\s(\[]*+(\d++)(?:{end})"
    match = re.search(behind, text, re.IGNORECASE | re.ASCII)
    return _on_scale(match and match[1], scale)


def flow_grade(text: str, scale: Sequence[int]) -> Verdict | None:
    """Flow-Judge's rule: the first whole number between score tags, if the text has a feedback between its tags too."""
    _, opened, rest = text.partition("<feedback>")
    match = re.search(r"<score>\s*+(\d++)\s*+</score>", text, re.ASCII)
    return _on_scale(match and match[1], scale) if opened and "</feedback>" in rest else None


def selene_grade(text: str, scale: Sequence[int]) -> Verdict | None:
    """The word behind the first "**Result:**", as Atla's prompt asks for it, if it is a point; no parser is published."""
    match = re.search(r"\*\*Result:\*\*\s*+(\S++)", text)
    return _on_scale(match and match[1], scale)


def leading_number(text: str, scale: Sequence[int]) -> Verdict | None:
    """G-Eval's rule: the number with which the text begins, if it is a point of the scale; 4.0 is 4."""
    match = re.match(r" ?([0-9.]++)", text)
    return _on_scale(match and match[1], scale)


def json_grade(text: str, scale: Sequence[int]) -> Verdict | None:
    """The rule of most scripts: the text, or what its first fence holds, is a JSON object with a whole number as `score`."""
    fenced = re.search(r"```(?:json)?(.*?)```", text, re.DOTALL)
    try:
        grade = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None
    score = grade.get("score") if isinstance(grade, dict) else None
    return str(score) if type(score) is int and score in scale else None


def fastchat_point(text: str, scale: Sequence[int]) -> Verdict | None:
    """FastChat's rule for single answers, if the number that it reads is a point of the scale; 4.0 is 4."""
    return _on_scale(fastchat_grade(text), scale)


def _on_scale(number: str | None, scale: Sequence[int]) -> Verdict | None:
    whole = re.fullmatch(r"0*+([0-9]*+)(?:\.0*+)?", number or "")
    point = (whole[1] or "0") if whole and number else ""
    return point if point in map(str, scale) else None


def judgelm(text: str) -> Verdict | None:
    """The rule of JudgeLM: two numbers, and nothing else, on the first line; the higher one wins."""
    words = text.partition("\n")[0].replace(",", " ").split(" ")
    try:
        first, second = map(float, words)
    except ValueError:
        return None
    return higher(first, second)


def higher(first: float, second: float) -> Verdict:
    """The answer with the higher score, or a tie."""
    return "A" if first > second else "B" if second > first else TIE


def pandalm(text: str) -> Verdict | None:
    """The rule of PandaLM: the first line is 1, 2 or Tie."""
    line = _STOP_TOKEN.sub("", text).strip().partition("\n")[0]
    return _NUMBERED.get(line.lower())


def auto_j(text: str) -> Verdict | None:
    """The rule of Auto-J: what the last "final decision is " says, in either case."""
    _, decided, rest = text.strip().rpartition("final decision is ")
    says = rest.strip()[: len("response 1")].lower() if decided else ""
    return {"response 1": "A", "response 2": "B"}.get(says, TIE if says.startswith("tie") else None)


def last_boxed(text: str) -> Verdict | None:
    r"""The rule of most answer checkers: the content of the last \boxed{}, if it is a letter."""
    boxes = re.findall(r"\\boxed\{([^{}]*)\}", text)
    return letter_or_tie(boxes[-1].strip()) if boxes else None


def lone_letter(text: str) -> Verdict | None:
    """A text that is nothing but a letter."""
    return letter_or_tie(text.strip())


def decision(text: str) -> Verdict | None:
    """A decision as JudgeBench stores it: A>B, B>A or A=B, and nothing else."""
    return {"A>B": "A", "B>A": "B", "A=B": TIE}.get(text)


def fastchat_grade(text: str) -> Verdict | None:
    """FastChat's rule for single answers: the first [[number]], else the first [number]."""
    number = r"\[(\d+(?:\.\d*)?)\]"  # FastChat's own \d+\.?\d* means the same, in quadratic time.
    match = re.search(rf"\[{number}\]", text, re.ASCII) or re.search(number, text, re.ASCII)
    return match[1] if match else None


def last_whole_number(text: str) -> Verdict | None:
    """RewardBench 2's rule: a whole number from 1 to 10 at the very end; it reads "9/10" as 10 and "8.5" as 5."""
    match = re.search(r"\b([1-9]|10)\Z", text.strip())
    return match[1] if match else None
