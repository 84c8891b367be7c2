"""Clues: planted ones are found, absent ones are at chance, and no answer is read by what it thought."""

import csv
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.curation import Clue as Balanced
from stj.evals.clue_features import FEATURES, RULES, feature_sign, opening
from stj.evals.clues import Clue, PairClues, PairSample
from stj.evals.learned_clues import FEWEST_INSTRUCTIONS, AnswerPair
from stj.evals.text_language import text_language
from tests.cpu_time import in_proportion

WORDS = ["river", "stone", "cloud", "seven", "paper", "light", "green", "table", "music", "window", "silver", "garden"]


def clues_of(pairs: list[AnswerPair], seed: int = 0) -> PairClues:
    sample = PairSample(seed)
    for pair in pairs:
        sample.add(pair)
    return sample.clues()


def named(clues: PairClues, name: str) -> Clue:
    return next(clue for clue in clues.clues if clue.name == name)


def text(rng: random.Random, words: int = 12) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def pairs_with(count: int, seed: int = 1, **planted: float) -> list[AnswerPair]:
    """Pairs of which a share has a feature on the better side; the others have it on the worse one."""
    rng, pairs = random.Random(seed), []
    for number in range(count):
        sides = ["", ""]
        for feature, share in planted.items():
            sides[rng.random() >= share] += {
                "length": " " + text(rng, 60),
                "markdown": "\n- **a point**\n- another",
                "refusals": " I'm sorry, but I cannot say.",
                "language": " und das ist nicht der Weg, den die anderen mit dem Hund und der Katze gehen",
                "words": " zebra",
            }[feature]
        chosen, rejected = (text(rng) + side for side in sides)
        pairs.append(
            AnswerPair(str(number), f"Why is the {number} of the sea in the north?", chosen, rejected, rng.choice((0, 1)))
        )
    return pairs


@pytest.mark.slow
@pytest.mark.parametrize("feature", ["length", "markdown", "refusals", "language", "words"])
def test_a_planted_clue_is_found_with_its_share_and_the_others_are_not(feature: str) -> None:
    for share in (0.5, 0.8):
        clues = clues_of(pairs_with(600, **{feature: share}))
        found = named(clues, feature)
        assert found.ci95[0] < share < found.ci95[1]
        assert found.tells == (share != 0.5)
        assert not named(clues, "position").tells
    assert clues.telling_words
    if feature == "words":
        assert clues.telling_words.better[0] == "zebra"


def test_a_rule_tells_below_chance_too_and_what_was_learned_does_not() -> None:
    rule = Clue(name="length", rule="the longer answer", differ=90, accuracy=0.3, ci95=(0.2, 0.4))
    assert rule.tells
    assert not replace(rule, learned=True).tells
    assert replace(rule, learned=True, accuracy=0.7, ci95=(0.6, 0.8)).tells
    assert not replace(rule, ci95=(0.4, 0.6)).tells


@pytest.mark.slow
def test_without_any_clue_nothing_tells() -> None:
    telling = [clue.name for seed in range(5) for clue in clues_of(pairs_with(400, seed=seed)).clues if clue.tells]
    assert len(telling) <= 4  # of 5 x 7 intervals of 95%, about 2 leave out the truth


def test_an_opening_tells_and_is_learned_on_other_instructions() -> None:
    rng = random.Random(3)
    pairs = []
    for number in range(300):
        opened, other = f"Sure, here is {text(rng)}", f"{text(rng, 3)} {text(rng)}"
        chosen, rejected = (opened, other) if rng.random() < 0.9 else (other, opened)
        pairs.append(AnswerPair(str(number), f"q{number}", chosen, rejected))
    assert 0.85 < named(clues_of(pairs), "opening").accuracy < 0.95
    alone = [AnswerPair(str(number), f"q{number}", f"unique{number} x", f"other{number} y") for number in range(300)]
    assert named(clues_of(alone), "opening").accuracy == 0.5  # what an instruction alone has cannot be learned from others


@pytest.mark.slow
def test_pairs_of_one_instruction_are_never_on_both_sides_of_a_fold() -> None:
    """Each instruction has its own word on the better side: pairs of it would give each other away."""
    rng = random.Random(5)
    pairs = [
        AnswerPair(f"{group}-{copy}", f"q{group}", f"{text(rng)} secret{group}", text(rng))
        for group in range(60)
        for copy in range(4)
    ]
    sides = [pair if rng.random() < 0.5 else pair._replace(chosen=pair.rejected, rejected=pair.chosen) for pair in pairs]
    assert 0.35 < named(clues_of(sides), "words").accuracy < 0.65
    clue = named(clues_of(pairs_with(200, length=0.7)), "length")
    repeated = [pair._replace(id=f"{pair.id}-{copy}") for pair in pairs_with(200, length=0.7) for copy in range(4)]
    wide, narrow = named(clues_of(repeated), "length").ci95, clue.ci95
    assert wide[1] - wide[0] == pytest.approx(narrow[1] - narrow[0], rel=0.05)  # copies make no interval narrower


@pytest.mark.slow
def test_the_order_of_arrival_and_pairs_beyond_the_sample_change_nothing() -> None:
    pairs = pairs_with(500, length=0.7, words=0.6)
    assert clues_of(pairs) == clues_of(pairs[::-1])
    small, again = PairSample(0, most=50), PairSample(0, most=50)
    for pair in pairs:
        small.add(pair)
    for pair in pairs[::-1]:
        again.add(pair)
    assert small.clues() == again.clues()
    assert (small.clues().pairs, small.clues().looked_at) == (500, 50)


def test_few_pairs_teach_nothing_and_no_pairs_are_no_clues() -> None:
    assert clues_of([]).clues == ()
    few = clues_of(pairs_with(FEWEST_INSTRUCTIONS - 1))
    assert {clue.name for clue in few.clues} == {*FEATURES, "position"}
    empty = clues_of([AnswerPair(str(number), f"q{number}", "!", "?") for number in range(50)])
    assert {clue.name for clue in empty.clues} == {*FEATURES, "opening"}


@given(st.text(), st.text(), st.text())
def test_any_text_has_every_feature_and_exchanging_the_answers_turns_the_sign(asked: str, first: str, second: str) -> None:
    for name in FEATURES:
        assert feature_sign(name, asked, first, second) == -feature_sign(name, asked, second, first)
    assert len(opening(first).split()) <= 3


def test_what_a_model_thought_is_no_feature() -> None:
    thought = "<think>\n" + "- a long point\n" * 50 + "</think>\n\n42"
    assert feature_sign("length", "q", thought, "no answer") == -1
    assert feature_sign("markdown", "q", thought, "42") == 0


@pytest.mark.parametrize(
    ("answer", "unfinished"),
    [
        ("It is so.", 0),
        ("It is", 1),
        ("First,", 1),
        ("x = 4", 0),
        ("```py\nx\n```", 0),
        ("```py\nx = 4", 1),
        ("", 0),
        ("Да, и", 1),
    ],
)
def test_an_answer_that_ends_inside_a_sentence(answer: str, unfinished: int) -> None:
    assert FEATURES["unfinished"]("q", answer) == unfinished


def test_what_can_be_balanced_is_what_has_a_rule() -> None:
    assert set(Balanced.__args__) == set(FEATURES) == set(RULES)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The cat is on the mat and it is happy with you.", "English"),
        ("Der Hund ist nicht auf dem Tisch, und das ist gut.", "German"),
        ("私は学生です。毎日勉強します。", "Japanese"),
        ("我今天去学校学习数学和物理。", "Chinese"),
        ("Я сегодня иду в школу учиться", "Cyrillic"),
        ("안녕하세요 저는 학생입니다", "Korean"),
        ("42", None),
        ("", None),
        ("```python\nfor the in is: and the of\n```", None),
        ("Xylophon Quark Zebra Fjord Gnu", None),
    ],
)
def test_languages(text: str, language: str | None) -> None:
    assert text_language(text) == language


def test_languages_of_real_dialogues_are_those_that_their_data_set_names(test_data: Path) -> None:
    """WildChat names the language of a dialogue, so an English one may hold a French answer: a few differ."""
    right = wrong = 0
    for line in (test_data / "wildchat_a" / "wildchat.jsonl").read_text(encoding="utf-8").splitlines():
        dialogue = json.loads(line)
        answer = next((turn["content"] for turn in dialogue["conversation"] if turn["role"] == "assistant"), "")
        if dialogue["language"] and (found := text_language(answer)):
            known = "Cyrillic" if dialogue["language"] in ("Russian", "Ukrainian") else dialogue["language"]
            right, wrong = right + (found == known), wrong + (found != known)
    assert right + wrong > 80
    assert wrong <= 0.06 * (right + wrong)


def test_refusals_are_those_that_people_named(test_data: Path) -> None:
    file = test_data / "xstest_gpt4" / "xstest_v2_completions_gpt4_gpteval.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    refused = {label: [FEATURES["refusals"](r["prompt"], r["completion"]) for r in rows if r["final_label"] == label]
               for label in ("1_full_compliance", "2_full_refusal")}  # fmt: skip
    assert sum(refused["2_full_refusal"]) >= 0.98 * len(refused["2_full_refusal"])
    assert sum(refused["1_full_compliance"]) <= 0.08 * len(refused["1_full_compliance"])


@pytest.mark.parametrize("unit", ["\n", " \n", "* ", "|a", "[", "` "])
def test_an_answer_that_repeats_itself_takes_time_in_proportion(unit: str) -> None:
    """Models that do not stop write thousands of line ends."""
    assert in_proportion(lambda text: FEATURES["markdown"]("", text), unit * 500, unit * 4000, 8)


@pytest.mark.parametrize(
    ("text", "marks"), [("\n\n  - one\n\n\t2) two\n", 2), ("\n | a | b | \n\n|c|\n", 2), (" ```\nx\n```", 2), ("a - b\n", 0)]
)
def test_marks_of_markdown_are_counted_behind_blank_lines_too(text: str, marks: int) -> None:
    assert FEATURES["markdown"]("", text) == marks


def test_time_grows_in_proportion_to_an_answer() -> None:
    def hostile(size: int) -> str:
        return "**a" * size + "[" * size + "`" * size + "\n|" * size + "- " * size + " " * size + "|" + " " * size

    def look(answer: str) -> None:
        for name in FEATURES:
            feature_sign(name, answer, answer, "b")

    assert in_proportion(look, hostile(1_000), hostile(8_000), 8)
