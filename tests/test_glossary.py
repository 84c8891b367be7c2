"""Every word of a table and of a live line has a definition, which `stj explain` and docs/reading-results.md show."""

import ast
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.cli import main
from stj.config_loader import load
from stj.errors import ConfigError
from stj.evals.clues import PairSample
from stj.evals.learned_clues import AnswerPair
from stj.glossary import explain, sections
from stj.loop.outlook import Outlook
from stj.loop.phases import Run
from stj.passes.progress import Progress
from stj.text import Column, Part
from stj.train.metrics import StepMetrics, step_parts

PACKAGE = Path(__file__).parents[1] / "stj"
RULES = ("reject_unasked", "reject_categorized")


@cache
def parsed() -> dict[str, ast.Module]:
    """The package's files. They are read when a test asks, not while tests are collected."""
    return {str(file.relative_to(PACKAGE)): ast.parse(file.read_text()) for file in sorted(PACKAGE.rglob("*.py"))}


def calls(function: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call of this function or method in the package, with its file."""
    for file, module in parsed().items():
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and function in (getattr(node.func, "id", ""), getattr(node.func, "attr", "")):
                yield file, node


def columns() -> Iterator[tuple[str, Column]]:
    """Every Column that the package makes, with its place. A head that is not written there must have a `word` that is."""
    for place, call in calls("Column"):
        names = ("upper", "lower", "group", "priority", "word")
        given = dict(zip(names, call.args, strict=False)) | {keyword.arg: keyword.value for keyword in call.keywords}
        known = {name: value.value for name, value in given.items() if isinstance(value, ast.Constant)}
        assert {"upper", "lower"} <= known.keys() or known.get("word"), f"{place}: name the column by word="
        yield place, Column(known.get("upper", ""), known.get("lower", ""), word=known.get("word", ""))


def reasons() -> Iterator[tuple[str, str]]:
    """Every reason for which the package drops a row: the first argument of `drop`, and what the rules return."""
    constants = {
        target.id: statement.value.value
        for module in parsed().values()
        for statement in module.body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    for place, call in calls("drop"):
        given = call.args[0] if call.args else None  # A subscript is a reason that was recorded before.
        for node in ast.walk(given) if given and not isinstance(given, ast.Starred | ast.Subscript) else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield place, node.value
            elif isinstance(node, ast.Name) and isinstance(constants.get(node.id), str):
                yield place, constants[node.id]
    for function in ast.walk(parsed()["stages/select.py"]):
        for node in ast.walk(function) if getattr(function, "name", "") in RULES else ():
            if isinstance(node, ast.Return) and isinstance(node.value, ast.Constant) and node.value.value:
                yield "stages/select.py", node.value.value


def defined(word: str) -> str | None:
    """The word that defines this one, if there is one."""
    with suppress(ConfigError):
        found = explain(word)
        return found.word if found.text else None
    return None


def test_every_column_of_every_table_is_defined() -> None:
    assert [(place, column.name) for place, column in columns() if not defined(column.word or column.name)] == []


def test_every_reason_to_drop_a_row_is_defined() -> None:
    assert [(place, reason) for place, reason in sorted(set(reasons())) if defined(reason) != reason] == []


def live_parts() -> list[Part]:
    """Every part of every live line, as the code makes them: a pass and a training with all that they can show."""
    progress = Progress(name="pairs", total=9, done=3, failed=1, in_flight=2, tokens_per_s=9, draws=4, kept=2, eta_s=60)
    progress.judged["Coding"] = progress.accepted["Coding"] = 2
    step = StepMetrics(step=3, epoch=0, loss=0.4, preferred=0.7, lr=1e-6, grad_norm=0.8, tokens_per_s=8000, mfu=0.4)
    run = Run(load([str(PACKAGE.parent / "conf/mini.yaml")], ["run_root=/nowhere/run"]))
    outlook = Outlook(run.phases, run.config, dollars=5.0)
    outlook.begin(run.phases[0])
    return [*progress.parts(), *step_parts(step, 9, eta_s=60, checkpoint=2), *outlook.parts(60, 1.0)]


def test_every_word_of_the_live_lines_is_defined() -> None:
    for part in live_parts():
        if part.before == " ":  # categories, which the data names
            continue
        words = [word for word in part.text.split() if not any(character.isdigit() for character in word)]
        word = "$" if part.text.startswith("$") else " ".join(words).removeprefix("pairs: ")
        assert defined(word), word


def test_the_live_lines_have_all_their_parts() -> None:
    assert len(list(live_parts())) == 8 + 9 + 3


@pytest.mark.slow
def test_the_walk_over_the_package_finds_its_columns_and_reasons() -> None:
    assert len(list(columns())) > 80
    assert {"toxic", "pair_identical", "answer_truncated", "near_duplicate"} <= {reason for _, reason in reasons()}


def test_no_form_of_a_word_has_two_definitions() -> None:
    for section in sections():
        for word in section.words:
            assert {explain(form).word for form in (word.word, *word.also)} == {word.word}


@pytest.mark.parametrize(
    "asked", ["KAPPA", "Cohen's kappa", "draws/kept", "draws per kept judgment", "winner   first", "$", "lr"]
)
def test_a_word_is_found_in_any_of_its_forms(asked: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *asked.split(" ")]) == 0
    assert explain(asked).text in capsys.readouterr().out


def test_an_unknown_word_is_one_line_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "kapa"]) == 2
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith("stj: kapa: no word of a table or a live line; the nearest are kappa,")
    )


@given(st.text(max_size=40))
def test_any_word_is_explained_or_refused(asked: str) -> None:
    with suppress(ConfigError):
        assert explain(asked).text


def test_every_clue_is_defined() -> None:
    """Clues are heads of rows, and not of columns."""
    pairs = [
        AnswerPair(id=str(n), instruction=f"instruction {n}", chosen=f"yes {n}", rejected=f"no {n}", first=True)
        for n in range(200)
    ]
    sample = PairSample(0)
    for pair in pairs:
        sample.add(pair)
    clues = [clue.name for clue in sample.clues().clues]
    assert {"length", "position", "opening", "words"} <= set(clues)
    for name in clues:
        assert "clue: " in explain(name).text
