"""Whether an answer is right, by a known number or known words: a wrong label is worse than a lost answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.final_answer import can_be_known, is_right

NAMES = st.sampled_from(["Paris", "New York", "O'Brien", "Saint-Denis", "東京", "yes"])


@pytest.mark.parametrize(
    ("text", "known", "right"),
    [
        ("It has 18 eggs.", "18", True),
        ("It has 17 eggs.", "18", False),
        ("It has many eggs.", "18", None),
        ("eighteen", "18", None),
        ("Paris.", "paris", True),
        ("London", "Paris", False),
        ("The capital is Paris.", "Paris", None),  # Who knows what a whole sentence ends with?
        ("Let me think.\nThe answer is **Paris**.", "Paris", True),
        ("**Final answer:** Rome", "Paris", False),
        ("Let me think.\nIt may be Rome.", "Paris", None),
        ("The answer is not Paris but Rome.", "Paris", None),
        ("First: #### Rome\nNo, wait.\n#### Paris", "Paris", True),
        ("#### Result\nIt is Paris, of course.", "Paris", None),
        ("The answer is below.\nIt is Paris, of course.", "Paris", None),
        (r"So \boxed{\text{New York}}", "New York", True),
        (r"So \boxed{\frac{3}{4}}", "New York", None),
        ("New York City", "New York", None),
        ("York", "New York", None),
        ("7", "seven", None),
        ("(B) Paris", "B", True),
        ("Answer: C. London", "B", False),
        ("A good question", "B", None),
        ("Paris", "B", None),
        ("", "Paris", None),
        ("...", "Paris", None),
    ],
)
def test_an_answer_is_right_wrong_or_neither(text: str, known: str, right: bool | None) -> None:
    assert is_right(text, known) is right


@given(NAMES, NAMES, st.sampled_from(["{}", "answer: {}", "I see.\nThe answer is {}.", "#### {}", r"\boxed{{{}}}", "**{}**"]))
def test_known_words_are_found_whatever_marks_them_and_other_words_are_never_right(known: str, said: str, form: str) -> None:
    assert is_right(form.format(said.upper()), known) is (known == said)


@given(st.text(), NAMES)
def test_no_text_without_the_known_words_is_right(text: str, known: str) -> None:
    if known.casefold() not in text.casefold():
        assert is_right(text, known) is not True


@pytest.mark.parametrize("answer", ["18", "$1,200", "-3.5", "New York", "B", "no"])
def test_numbers_and_words_can_be_known(answer: str) -> None:
    assert can_be_known(answer)


@pytest.mark.parametrize("answer", ["", " ", "3/4", "x^2", r"\frac{3}{4}", "12 apples", "1969-07-20", "C++", "...", "1e5"])
def test_what_can_be_written_in_several_ways_cannot(answer: str) -> None:
    assert not can_be_known(answer)
