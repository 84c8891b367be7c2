"""Answers that repeat a benchmark: 20 telling words in a row."""

import json
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.loop.named_pairs import BenchmarkPlace
from stj.rows import Pair, Row, Turn
from stj.sources.answer_overlap import AnswerPhrases, answers_of, drop_repeats
from stj.sources.overlap import Place, phrases_of
from tests.conftest import make_row

TWENTY = " ".join(f"word{number}" for number in range(20))
REAL = ("judgebench:judgebench_a/judgebench.jsonl", "rmbench:rmbench_chat/chat_filtered.json", "llmbar:llmbar_a")
REAL += ("rmbench:rmbench_safety_response/safety-response_filtered.json", "hhh:hhh_alignment/hhh_alignment_eval.json")


@dataclass(frozen=True)
class Texts(Place):
    """A benchmark of these instructions and texts."""

    texts: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def by_instruction(self):  # type: ignore[no-untyped-def]
        return iter(self.texts)

    def records(self):  # type: ignore[no-untyped-def]
        return iter([text for _, texts in self.texts for text in texts] or ["none"])


def bench(*texts: tuple[str, tuple[str, ...]], with_answers: bool = True) -> list[Place]:
    return [Texts("source.keep_out", "bench", with_answers, texts)]


def pair(chosen: str, rejected: str = "no", **values: object) -> Row:
    return make_row(pair=Pair(method="given", chosen=chosen, rejected=rejected), **values)


def test_twenty_words_of_an_answer_are_an_overlap_and_nineteen_are_not() -> None:
    kept_out = bench(("Why?", (f"So: {TWENTY}!",)))
    rows = [pair(f"Sure. {TWENTY.upper()} again"), pair("yes", TWENTY.replace(" ", ", ")), pair(TWENTY.rpartition(" ")[0])]
    dropped = [row.detail for row in drop_repeats(rows, kept_out)]
    assert dropped == [f"bench, in an answer: {TWENTY}"] * 2 + [None]


def test_every_answer_of_a_row_counts() -> None:
    known = AnswerPhrases(bench(("Why?", (TWENTY,))))
    turns = (Turn(role="user", content="hi"), Turn(role="assistant", content=TWENTY), Turn(role="user", content="and?"))
    rows = [make_row(turns=turns), make_row(response=TWENTY), pair("a", TWENTY), pair("a", "b"), make_row(text=TWENTY)]
    assert [known.first_overlap(row) is not None for row in rows] == [True, True, True, False, False]


@pytest.mark.parametrize(("instructions", "telling"), [(1, True), (2, True), (3, False), (9, False)])
def test_what_answers_many_instructions_is_a_set_phrase(instructions: int, telling: bool) -> None:
    texts = [(f"Question {number}", (TWENTY, "other")) for number in range(instructions)]
    one, split = [*bench(*texts)], [place for text in texts for place in bench(text)]
    for places in (one, split):  # in one benchmark, or in several
        assert (AnswerPhrases(places).first_overlap(pair(TWENTY)) is not None) == telling


def test_a_phrase_that_one_instruction_repeats_in_many_answers_still_tells() -> None:
    known = AnswerPhrases(bench(("Why?", (TWENTY,) * 9), ("Why?", (f"well {TWENTY}",) * 9)))
    assert known.first_overlap(pair(TWENTY)) is not None


def test_without_answers_only_the_user_is_compared() -> None:
    kept_out = bench(("Why?", (TWENTY,)), with_answers=False)
    assert [row.dropped for row in drop_repeats([pair(TWENTY), make_row(text=TWENTY)], kept_out)] == [None, "benchmark_overlap"]


def test_nothing_to_keep_out_and_rows_that_are_dropped_stay() -> None:
    rows = [pair(TWENTY), pair(TWENTY).drop("same_answers")]
    assert list(drop_repeats(rows, [])) == rows
    assert list(drop_repeats(rows[1:], bench(("Why?", (TWENTY,))))) == rows[1:]
    assert AnswerPhrases(bench()).first_overlap(rows[0]) is None


@given(words=st.lists(st.text("abé1", min_size=1, max_size=3), max_size=40), lead=st.text(max_size=20))
def test_an_answer_repeats_itself_if_it_has_twenty_words(words: list[str], lead: str) -> None:
    answer = " ".join(words)
    known = AnswerPhrases(bench(("Why?", (answer,))))
    assert (known.first_overlap(pair(f"{lead} {answer}")) is not None) == (len(words) >= 20)


@pytest.mark.long
def test_real_answers_are_found_in_real_conversations_and_nothing_else_is(test_data: Path) -> None:
    words = [(name, test_data / file) for name, _, file in (word.partition(":") for word in REAL)]
    kept_out = [BenchmarkPlace("source.keep_out", f"{name}:{file}", with_answers=True) for name, file in words]
    planted = [
        pair("no", f"Sure! {answer}", task=place.location)
        for place in kept_out
        for row in place.ref.rows(None)
        for answer in answers_of(row)
        if phrases_of(answer, 20)
    ]
    lines = (test_data / "wildchat_a" / "wildchat.jsonl").read_text(encoding="utf-8").splitlines()
    spoken = [turn["content"] for line in lines for turn in json.loads(line)["conversation"] if turn["role"] == "assistant"]
    hh = map(json.loads, (test_data / "hh_harmless_test_a" / "test.jsonl").read_text(encoding="utf-8").splitlines())
    spoken += [pair[name].rpartition("\n\nAssistant:")[2] for pair in hh for name in ("chosen", "rejected")]
    known = AnswerPhrases(kept_out)
    found = sum(known.first_overlap(row) is not None for row in planted)
    false = [overlap for answer in spoken if (overlap := known.first_overlap(pair("no", answer))) is not None]
    assert found == len(planted) > 5000
    assert len(spoken) > 3000
    assert not false
    instructions = chain.from_iterable(([instruction] for place in kept_out for instruction, _ in place.by_instruction()))
    asked = [make_row(text=f"Please: {text}") for text in instructions if len(phrases_of(text)) > 0]
    dropped = [row.dropped for row in drop_repeats(asked, kept_out)]
    assert dropped == ["benchmark_overlap"] * len(asked)
