"""The prompt of a grade: what a judge sees of one response, and in which style it writes the score.

    grade    ours (grade_system.txt, grade_user.txt); [[4]] at the end
    FILE     the words of a published judge, in a YAML file, with the style of its scores (stj/verdict/scales.py)

The words show `{instruction}`, `{response}`, `{criterion}` and `{points}`, and may show `{context}`, `{reference}`, `{lowest}`
and `{highest}`. A paragraph with a context or a reference is left out if there is none, so it shows nothing else.
`user_with_reference` replaces `user` if there is a reference. `point` is how one point of the scale is written, by default
`Score {score}: {description}`.

What the rubric says comes last in our words: so the rubrics of one response share what the engine has computed of it.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from stj.prompts import GRADE_SYSTEM, GRADE_USER, fill_text, placeholders, prompt, prompt_hash
from stj.prompts.given import PromptFile, PromptKind, is_given
from stj.prompts.variants import Words
from stj.rubrics import Rubric
from stj.verdict import GRADE_STYLES, Format, grade_format

GRADE = "grade"
_POINT = "Score {score}: {description}"
_PARAGRAPHS = re.compile(r"(\n[ \t]*\n)")


@dataclass(frozen=True, kw_only=True)
class GradePromptFile(PromptFile):
    """The keys of a file with the words of a grade."""

    point: str | None = None


GRADES = PromptKind(
    about="a grade",
    file=GradePromptFile,
    names=(GRADE,),
    formats=tuple(GRADE_STYLES),
    needed={"instruction", "response", "criterion", "points"},
    optional={"context", "reference", "lowest", "highest"},
    parts={"point": {"score", "description"}},
)


@dataclass(frozen=True, kw_only=True)
class Graded:
    """What a grade is about."""

    instruction: str
    response: str
    context: str | None = None
    reference: str | None = None


@dataclass(frozen=True, kw_only=True)
class GradePrompt:
    """The words of a grade, and the style of its score."""

    name: str
    plain: Words
    with_reference: Words | None = None
    point: str = _POINT
    style: str
    """One of GRADE_STYLES."""
    hashes: Mapping[str, str]
    """SHA-256 of its words, by a name that does not depend on where they lie: part of every key that uses the prompt."""

    def ask(self, graded: Graded, rubric: Rubric) -> Words:
        """The messages about one response by one rubric."""
        words = self.with_reference if graded.reference is not None and self.with_reference else self.plain
        given = {"context": graded.context, "reference": graded.reference}
        there = {name: text for name, text in given.items() if text is not None}
        points = zip(rubric.points, rubric.descriptions, strict=True)
        values = there | {
            "instruction": graded.instruction,
            "response": graded.response,
            "criterion": rubric.criterion,
            "points": "\n".join(fill_text(self.point, {"score": str(score), "description": text}) for score, text in points),
            "lowest": str(rubric.points[0]),
            "highest": str(rubric.points[-1]),
        }
        absent = given.keys() - there.keys()
        return Words(system=_without(words.system, absent), user=_without(words.user, absent)).filled(values)

    def shows(self, name: str) -> bool:
        """Whether its words show an input."""
        shown = [self.plain.system, self.plain.user]
        if self.with_reference and name == "reference":
            shown.append(self.with_reference.user)
        return name in set().union(*map(placeholders, shown))

    def lost_with(self, name: str) -> set[str]:
        """What else its words do not show if a context or a reference is not there: what stands in the same paragraph."""
        words = [self.plain, *([self.with_reference] if self.with_reference and name != "reference" else [])]
        lost = set[str]()
        for whole in words:
            left = placeholders(_without(whole.system, {name})) | placeholders(_without(whole.user, {name}))
            lost |= (placeholders(whole.system) | placeholders(whole.user)) - left
        return lost - {name, "lowest", "highest"}

    def wording(self, rubric: Rubric) -> Format:
        """The format of its scores on the rubric's scale."""
        return grade_format(self.style, rubric.points)


OURS = GradePrompt(
    name=GRADE,
    plain=Words(system=prompt(GRADE_SYSTEM), user=prompt(GRADE_USER)),
    style="fastchat",
    hashes={name: prompt_hash(name) for name in (GRADE_SYSTEM, GRADE_USER)},
)


@cache
def grade_prompt_of(setting: str) -> GradePrompt:
    """The prompt of a setting, as `packed` makes it."""
    if not is_given(setting):
        return OURS
    values: dict[str, str] = json.loads(setting)
    digest = hashlib.sha256(setting.encode()).hexdigest()
    name = f"file-{digest[:8]}"
    plain = Words(system=values.get("system", ""), user=values["user"])
    with_reference = None
    if user := values.get("user_with_reference"):
        with_reference = Words(system=values.get("system_with_reference", plain.system), user=user)
    return GradePrompt(
        name=name,
        plain=plain,
        with_reference=with_reference,
        point=values.get("point", _POINT),
        style=values["format"],
        hashes={name: digest},
    )


def _without(text: str, names: frozenset[str] | set[str]) -> str:
    """The text without the paragraphs that show one of these inputs, and the blank line behind each."""
    if not names:
        return text
    parts = [*_PARAGRAPHS.split(text), ""]
    kept = [part + gap for part, gap in zip(parts[::2], parts[1::2], strict=True) if not placeholders(part) & names]
    return "".join(kept)
