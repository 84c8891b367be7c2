"""The judge prompts: each asks for the verdicts that its parser reads, and only for those."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config import PromptName
from stj.prompts import fill, prompt
from stj.prompts.variants import ARENA, PROMETHEUS, VARIANTS, Variant

TAGS_BY_VERDICT = {
    "figure8": {"A": ["[[A]]"], "B": ["[[B]]"], None: ["[[C]]"]},
    "arena": {"A": ["[[A>>B]]", "[[A>B]]"], "B": ["[[B>A]]", "[[B>>A]]"], None: ["[[A=B]]", "[[A]]", "[[A>>>B]]"]},
    "prometheus": {
        "A": ["[RESULT] A", "[RESULT] (A)", "[RESULT]: A"],
        "B": ["[RESULT] B"],
        None: ["[RESULT] C", "[RESULT] AB"],
    },
}
CASES = [
    (name, verdict, tag) for name, by_verdict in TAGS_BY_VERDICT.items() for verdict, tags in by_verdict.items() for tag in tags
]
TAGS = [tag for _, _, tag in CASES]


def test_every_variant_can_be_named_in_a_config() -> None:
    assert set(get_args(PromptName)) == set(VARIANTS)
    assert all(name == variant.name for name, variant in VARIANTS.items())


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
    asked = prompt(variant.system) + prompt(variant.user)
    assert {"figure8": "[[A]]", "arena": "[[B>>A]]", "prometheus": "[RESULT]"}[variant.name] in asked
    shown = fill(variant.user, {"instruction": "{response B}", "response A": "first", "response B": "second"})
    assert shown.index("{response B}") < shown.index("first") < shown.index("second")


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
