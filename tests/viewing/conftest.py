"""Rows of every kind, as artifacts, for the tests of the page."""

from pathlib import Path

import pytest

from stj.rows import HELDOUT, Category, Judgment, Pair, Purpose, Row, Turn, rows_to_table
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from stj.verdict import Label

HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">&lt;b&gt; \u202e\x00\u2028"
)


def judged(
    verdict: str | None, winner: Label = "A", *, text: str = "Both were read.", purpose: Purpose = "sampled"
) -> Judgment:
    """A judgment with a verdict at its end."""
    return Judgment(
        purpose=purpose,
        winner=winner,
        index=0,
        text=f"{text} [[{verdict}]]" if verdict else text,
        verdict=verdict,
        finish_reason="stop" if verdict else "length",
        output_tokens=7,
    )


def pair_row(name: str, *judgments: Judgment, chosen: str = "nine", rejected: str = "eight sheep", **values: object) -> Row:
    """A held-out pair, judged."""
    settings: dict[str, object] = {
        "id": f"{HELDOUT}/{name}",
        "position": 0,
        "task": HELDOUT,
        "turns": (Turn(role="user", content=f"How many are left, {name}?"),),
        "pair": Pair(method="given", chosen=chosen, rejected=rejected),
        "judgments": judgments,
        **values,
    }
    return Row(**settings)  # type: ignore[arg-type]


def write_rows(path: Path, *parts: list[Row], step: str = "pass") -> Path:
    """A finished artifact with these parts."""
    artifact = Artifact(Folder.at(path), {"step": step})
    artifact.begin()
    for number, rows in enumerate(parts):
        artifact.write_part(f"part-{number}", rows_to_table(rows))
    artifact.finish()
    return path


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one iteration: M_0 judged six pairs, M_1 two of them; one instruction was dropped. Tests only read it."""
    coding = Category(name="Coding", complexity=7, length="c")
    longer = "a much longer answer than the other"
    rows = [
        pair_row("right", judged("A"), judged("B", "B"), category=coding),
        pair_row("wrong", judged("B"), judged("A", "B"), chosen=longer, rejected="eight"),
        pair_row("biased", judged("A"), judged("A", "B")),
        pair_row("silent", judged(None), judged("B", "B")),
        pair_row("against", judged("A", text="So Assistant B is better."), judged("B", "B")),
        pair_row(
            "hostile",
            judged("A", text=HOSTILE),
            judged("B", "B"),
            chosen=HOSTILE,
            turns=(Turn(role="user", content=HOSTILE),),
        ),
    ]
    later = [
        pair_row("wrong", judged("A"), judged("B", "B"), chosen=longer, rejected="eight"),
        pair_row("right", judged("A"), judged("B", "B"), category=coding),
    ]
    dropped = Row(id="t1", position=1, turns=(Turn(role="user", content="Sing."),), dropped="category")
    root = tmp_path_factory.mktemp("viewed") / "run"
    write_rows(root / "pairs", [dropped, *rows[:2]], rows[2:])
    write_rows(root / "heldout_1", later)
    return root
