"""The judge prompts: each asks for the verdicts that its parser reads, and only for those."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.prompts.two_turns import SECOND_ANSWER, SECOND_QUESTION, SECOND_REFERENCE
from stj.prompts.variants import ARENA, FIGURE_8, PAIR_V2, PROMETHEUS, VARIANTS, Variant
from stj.use_config import VoteConfig

TAGS_BY_VERDICT = {
    "figure8": {"A": ["[[A]]"], "B": ["[[B]]"], None: ["[[C]]"]},
    "arena": {"A": ["[[A>>B]]", "[[A>B]]"], "B": ["[[B>A]]", "[[B>>A]]"], None: ["[[A=B]]", "[[A]]", "[[A>>>B]]"]},
    "prometheus": {
        "A": ["[RESULT] A", "[RESULT] (A)", "[RESULT]: A"],
        "B": ["[RESULT] B"],
        None: ["[RESULT] C", "[RESULT] AB"],
    },
    "mtbench": {"A": ["[[A]]"], "B": ["[[B]]"], None: ["[[C]]", "[[D]]"]},
}
CASES = [
    (name, verdict, tag) for name, by_verdict in TAGS_BY_VERDICT.items() for verdict, tags in by_verdict.items() for tag in tags
]
TAGS = [tag for _, _, tag in CASES]


def test_every_variant_can_be_named_in_a_config() -> None:
    assert all(name == variant.name == VoteConfig(prompt=name).prompt for name, variant in VARIANTS.items())


@pytest.mark.parametrize(("name", "verdict", "tag"), CASES)
def test_each_reads_its_own_verdicts(name: str, verdict: str | None, tag: str) -> None:
    parse = VARIANTS[name].parse
    for parser in ("strict", "distinct"):
        assert parse(f"A is shorter.\n\n{tag}", parser) == verdict
        assert parse(f"**{tag}**.\n", parser) == verdict
    assert parse(f"{tag} But then again.", "strict") is None
    assert parse(f"{tag} But then again.", "distinct") == verdict


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
def test_opposite_verdicts_in_one_judgment_are_none(variant: Variant) -> None:
    a, b = (TAGS_BY_VERDICT[variant.name][label][0] for label in ("A", "B"))
    for parser in ("strict", "distinct"):
        assert variant.parse(f"Neither {a} nor {b}", parser) is None
        assert variant.parse(f"{b} {b}", parser) == "B"


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
def test_the_system_or_user_prompt_names_the_verdicts_and_shows_the_pair(variant: Variant) -> None:
    asked = variant.ask("{response B}", "first", "second")
    tag = {"figure8": "[[A]]", "arena": "[[B>>A]]", "prometheus": "[RESULT]", "mtbench": '"[[C]]" for a tie'}[variant.name]
    assert tag in asked.system + asked.user
    assert asked.user.index("{response B}") < asked.user.index("first") < asked.user.index("second")


@pytest.mark.skipif("STJ_TEST_DATA" not in os.environ, reason="needs FastChat's prompts in STJ_TEST_DATA")
def test_mtbenchs_words_are_fastchats_and_plain_ascii() -> None:
    file = Path(os.environ["STJ_TEST_DATA"]) / "mt_bench_questions" / "judge_prompts.jsonl"
    published = {record["name"]: record for record in map(json.loads, file.read_text().splitlines())}
    joined = (SECOND_QUESTION.join("QR"), SECOND_ANSWER.join("ac"), SECOND_ANSWER.join("bd"), SECOND_REFERENCE.join("xy"))
    first = {"question": "Q", "answer_a": "a", "answer_b": "b", "ref_answer_1": "x"}
    turns = {f"{name}_1": value for name, value in zip(("question", "answer_a", "answer_b", "ref_answer"), "Qabx", strict=True)}
    turns |= {
        f"{name}_2": value for name, value in zip(("question", "answer_a", "answer_b", "ref_answer"), "Rcdy", strict=True)
    }
    for name, asked, values in (
        ("pair-v2", PAIR_V2.ask("Q", "a", "b"), first),
        ("pair-math-v1", PAIR_V2.ask("Q", "a", "b", "x"), first),
        ("pair-v2-multi-turn", PAIR_V2.ask(*joined[:3]), turns),
        ("pair-math-v1-multi-turn", PAIR_V2.ask(*joined), turns),
    ):
        assert asked.system == published[name]["system_prompt"]
        assert asked.user == published[name]["prompt_template"].format(**values)
        assert (asked.system + asked.user).isascii()


def test_a_reference_stands_behind_the_question_of_a_prompt_that_has_no_words_for_it() -> None:
    asked = FIGURE_8.ask("Why {response A}?", "first", "second", "{instruction}")
    assert asked.system == FIGURE_8.ask("", "", "").system
    assert asked.user.startswith(
        "[[User Question]]\nWhy {response A}?\n\n"
        "[The Start of Reference Answer]\n{instruction}\n[The End of Reference Answer]\n\n"
        "[The Start of Assistant A’s Answer]\nfirst\n"
    )


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
def test_the_longest_words_leave_no_placeholder(variant: Variant) -> None:
    longest = variant.longest()
    assert len(longest.user) + len(longest.system) >= len(variant.ask("", "", "").user)
    assert "{" not in longest.user + longest.system


@given(st.lists(st.sampled_from(TAGS) | st.text(max_size=5), max_size=6).map("".join))
def test_any_text_gives_a_verdict_that_stands_at_its_end_or_none(text: str) -> None:
    for variant, tags in ((ARENA, ("[[A>", "[[B>")), (PROMETHEUS, ("[RESULT]",))):
        verdict = variant.parse(text, "strict")
        assert verdict in ("A", "B", None)
        if verdict:
            assert text.rfind(tags[0] if len(tags) == 1 or verdict == "A" else tags[1]) >= 0


@given(st.text())
def test_a_tag_inside_the_reasoning_does_not_count_after_the_final_one(reasoning: str) -> None:
    assert ARENA.parse(f"{reasoning}[[A>B]] is what I would say, if it were right", "strict") is None
    assert PROMETHEUS.parse(f"{reasoning}[RESULT] A is what I would say", "strict") is None
