"""The prompts hold exactly the paper's words."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.prompts import JUDGE_SYSTEM, JUDGE_USER, fill, prompt, prompt_hash

# SHA-256 of each figure's text in the paper, with runs of white space as one space.
PAPER = {
    "modified_instruction": "df50d65520e9025532dfaea28dfbd14edd5115e73e22ebf824d8116590c43c85",
    "categorize": "3ecebb07e2f6f2764bbf62109e54638a1e7e77fb0d1d3feae044a91d3b1e075c",
    "worse_answer": "5fb315b55aa06adf56308822a1ae9f19deeb8a71300bb108c8f2fc32b3e8c4cc",
}
FIGURE_8 = "d9f0e9cc736257ca206d5e943d0b5634eefef762d72dc74020165679fd0c716e"


def words_hash(text: str) -> str:
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()


@pytest.mark.parametrize("name", PAPER)
def test_a_prompt_is_the_figures_text(name: str) -> None:
    assert words_hash(prompt(name)) == PAPER[name]


def test_the_judge_prompt_is_figure_8() -> None:
    assert words_hash(f"{prompt(JUDGE_SYSTEM)} {prompt(JUDGE_USER)}") == FIGURE_8


@given(st.text(), st.text(), st.text())
def test_values_are_put_in_as_they_are(instruction: str, first: str, second: str) -> None:
    filled = fill(JUDGE_USER, {"instruction": instruction, "response A": first, "response B": second})
    assert filled == (
        f"[[User Question]]\n{instruction}\n\n[The Start of Assistant A’s Answer]\n{first}\n[The End of Assistant A’s Answer]"
        f"\n\n[The Start of Assistant B’s Answer]\n{second}\n[The End of Assistant B’s Answer]"
    )


def test_a_placeholder_inside_a_value_is_text() -> None:
    filled = fill(JUDGE_USER, {"instruction": "{response B}", "response A": "{instruction}", "response B": "b"})
    assert "[[User Question]]\n{response B}\n" in filled


def test_the_hash_is_of_the_file() -> None:
    assert prompt_hash("categorize") == hashlib.sha256(prompt("categorize").encode()).hexdigest()
