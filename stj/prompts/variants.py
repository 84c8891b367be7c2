"""The prompts that a judge may see, by name, each with the format of its verdict.

    figure8      the paper's prompt; training always uses it
    arena        the form of Arena-Hard: five verdicts, [[A>>B]] to [[B>>A]]
    prometheus   the form of Prometheus: feedback, then [RESULT] A or B

The words of the last two are ours, so scores made with them do not compare with published ones. They show how much a judge's
verdict depends on its prompt.
"""

from dataclasses import dataclass

from stj.prompts import JUDGE_SYSTEM, JUDGE_USER
from stj.verdict import FIVE_ALONE, PAIR, RESULT, Format, Label, Parser, parse


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A judge prompt: two prompt files and the format of the verdict."""

    name: str
    system: str
    """Prompt file of the system message."""
    user: str
    """Prompt file of the user message."""
    wording: Format
    """Format of the verdict that this prompt asks for."""

    def parse(self, text: str, parser: Parser) -> Label | None:
        """The verdict of a judgment; None for a tie or an unreadable judgment."""
        verdict = parse(text, self.wording, parser)
        return "A" if verdict == "A" else "B" if verdict == "B" else None


FIGURE_8 = Variant(name="figure8", system=JUDGE_SYSTEM, user=JUDGE_USER, wording=PAIR)
ARENA = Variant(name="arena", system="arena_system", user="arena_user", wording=FIVE_ALONE)
PROMETHEUS = Variant(name="prometheus", system="prometheus_system", user="prometheus_user", wording=RESULT)

VARIANTS = {variant.name: variant for variant in (FIGURE_8, ARENA, PROMETHEUS)}
