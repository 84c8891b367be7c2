"""What each parser reads from recorded judgments: how many, how often as the benchmark's own code did, how often rightly.

    STJ_TEST_DATA=DATA python benchmarks/parsers.py

DATA holds judgments of JudgeBench, LLMBar and MT-Bench as their authors publish them. Two of the three say which answer is
better. The judgments that `distinct` reads and `strict` does not are counted apart: are they right as often as the others?
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from stj.verdict import FIVE_WAY, OUTPUT, PAIR_OR_TIE, PARSERS, TIE, Format, Verdict, other, parse

RESULT = Path(__file__).parent / "results" / "parsers.json"


class Recorded(NamedTuple):
    """One judgment."""

    text: str
    stored: Verdict | None
    """Verdict that the benchmark's own code read."""
    better: Verdict | None
    """Label of the better answer; None if nobody knows it."""


def judgebench(data: Path) -> Iterator[Recorded]:
    """Judgments of o1-mini."""
    stored = {"A>B": "A", "B>A": "B", "A=B": TIE, None: None}
    for line in (data / "judgebench_a_judgments" / "arena_hard_outputs.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        first = "A" if row["label"] == "A>B" else "B"
        for game, better in zip(row["judgments"], (first, other(first)), strict=True):  # type: ignore[arg-type]
            yield Recorded(game["judgment"]["response"], stored[game["decision"]], better)


def llmbar(data: Path, judge: str) -> Iterator[Recorded]:
    """Judgments of one judge."""
    for file in sorted((data / "llmbar_a_judgments").glob(f"*__{judge}.json")):
        for row in json.loads(file.read_text(encoding="utf-8")):
            for swapped, first in (("False", "1"), ("True", "2")):
                recorded = row["results"][-1][f"swap = {swapped}"]
                stored = None if recorded["winner"] is None else "A" if recorded["winner"] == first else "B"
                yield Recorded(recorded["completion"][0], stored, "A" if str(row["label"]) == first else "B")


def mtbench(data: Path, judge: str) -> Iterator[Recorded]:
    """Judgments of one judge; which answer is better is not recorded."""
    stored = {"A": "A", "B": "B", "tie": TIE, "error": None}
    for file in sorted((data / "mtbench_judgments_a").glob(f"*{judge}__pairwise*.jsonl")):
        for row in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            for order in ("ab", "ba"):
                yield Recorded(row[f"judgment_{order}"], stored[row[f"winner_{order}"]], None)


def measure(judgments: Iterator[Recorded], wording: Format) -> dict[str, Any]:
    """Counts of the verdicts that each parser reads."""
    counts, alone = {parser: Counter[str]() for parser in PARSERS}, Counter[str]()
    total = 0
    for judgment in judgments:
        total += 1
        verdicts = {parser: parse(judgment.text, wording, parser) for parser in PARSERS}
        for parser, verdict in verdicts.items():
            counts[parser].update(_kinds(judgment, verdict))
        if verdicts["strict"] is None:
            alone.update(_kinds(judgment, verdicts["distinct"]))
    return {"judgments": total, **counts, "distinct_where_strict_has_none": alone}


def _kinds(judgment: Recorded, verdict: Verdict | None) -> Iterator[str]:
    if verdict is not None:
        yield "read"
        yield "as_stored" if verdict == judgment.stored else "not_as_stored"
        if judgment.better is not None:
            yield "right" if verdict == judgment.better else "wrong"


if __name__ == "__main__":
    data = Path(os.environ["STJ_TEST_DATA"])
    judges = ("GPT-4_CoT", "GPT-4_Swap_CoT", "GPT-4_Vanilla", "ChatGPT_CoT", "Falcon_CoT")
    measured = {
        "JudgeBench, o1-mini": measure(judgebench(data), FIVE_WAY),
        **{f"LLMBar, {judge}": measure(llmbar(data, judge), OUTPUT) for judge in judges},
        **{f"MT-Bench, {judge}": measure(mtbench(data, judge), PAIR_OR_TIE) for judge in ("gpt4omini", "32B")},
    }
    RESULT.write_text(json.dumps(measured, indent=1) + "\n")
    print(RESULT.read_text())
