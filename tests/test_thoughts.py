"""What is thought and what is answer: for every text, in linear time."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stj.thoughts import (
    CLOSE,
    OPEN,
    PromptThought,
    answer_of,
    comparable_thoughts,
    join_thought,
    shown_response,
    split_thought,
    thought_behind,
)

TEXTS = st.lists(
    st.one_of(
        st.sampled_from([OPEN, CLOSE, "\n", "\r\n", " ", "\t", "\u3000", "\v", "\x85", "[[A]]", "`", "```\n", "</thin", "k>"]),
        st.text(max_size=8),
    ),
    max_size=12,
).map("".join)


@pytest.mark.parametrize(
    ("output", "thought", "text"),
    [
        ("A is right. [[A]]", "", "A is right. [[A]]"),
        ("  A is right.\n", "", "  A is right.\n"),
        ("<think>\nB?\n</think>\n\nA. [[A]]", "<think>\nB?\n</think>\n\n", "A. [[A]]"),
        ("<think>\r\nB?\r\n</think>\r\n\r\nA. [[A]]\r\n", "<think>\r\nB?\r\n</think>\r\n\r\n", "A. [[A]]\r\n"),
        ("<think></think>A", "<think></think>", "A"),
        ("B, or [[B]]?</think> A", "B, or [[B]]?</think> ", "A"),
        ("<think>a</think>b<think>c</think>d", "<think>a</think>b<think>c</think>", "d"),
        ("<think>a <think>b</think> c</think>d", "<think>a <think>b</think> c</think>", "d"),
        ("<think>B?</think>", "<think>B?</think>", ""),
        ("<think>B?</think>\n\n", "<think>B?</think>\n\n", ""),
        ("It writes `<think>` in its answer. [[B]]", "", "It writes `<think>` in its answer. [[B]]"),
        ("<think>x</think>It writes `<think>` first. [[B]]", "<think>x</think>", "It writes `<think>` first. [[B]]"),
        ("<THINK>B?</THINK>A", "", "<THINK>B?</THINK>A"),
    ],
)
def test_the_answer_is_behind_the_last_closing_tag(output: str, thought: str, text: str) -> None:
    reply = split_thought(output)
    assert (reply.thought, reply.text, reply.closed) == (thought, text, True)
    assert answer_of(output) == text


@pytest.mark.parametrize(
    "output",
    [
        "<think>",
        "<think>\nSo it is [[A]].",
        "\n \t<think>So it is [[A]].",
        "I think first.\n<think>\nSo it is [[A]].",
        "<think>a</think>b [[A]]\n  <think>c [[A]]",
        "<think>a</think>\u3000<think>c [[A]]",
    ],
)
def test_a_thought_that_is_not_closed_leaves_no_answer(output: str) -> None:
    for opened in (False, True):
        reply = split_thought(output, opened=opened)
        assert (reply.thought, reply.text) == (output, "")
        assert not reply.closed or (opened and CLOSE in output)


def test_behind_a_template_that_opens_the_thought_an_output_without_a_tag_is_a_thought() -> None:
    assert split_thought("So it is [[A]].", opened=True).text == ""
    assert not split_thought("", opened=True).closed
    assert split_thought("Is it B?\n</think>\n\n[[A]]", opened=True) == split_thought("Is it B?\n</think>\n\n[[A]]")


@given(TEXTS, st.booleans())
@example("<think>a</think>\v<think>b", False)
def test_the_parts_are_the_output_and_an_answer_has_no_thought(output: str, opened: bool) -> None:
    reply = split_thought(output, opened=opened)
    assert reply.thought + reply.text == output
    assert CLOSE not in reply.text
    assert split_thought(reply.text).text == reply.text
    assert split_thought(reply.text).closed
    assert reply.closed or not reply.text
    if CLOSE in output and reply.closed:
        assert reply.text == output.rpartition(CLOSE)[2].lstrip()
    if OPEN not in output and CLOSE not in output and not opened:
        assert reply.text == output


@pytest.mark.parametrize("part", [OPEN, CLOSE, OPEN + CLOSE, " ", "\t", "\n", " \n", "\n<thin", "<", "a</think>\n<think>b"])
def test_the_time_grows_with_the_length_alone(part: str) -> None:
    """A million characters take a second at most, on any machine; a quadratic rule would take hours."""
    started = time.thread_time()
    for output in (part * (1_000_000 // len(part)), OPEN + part * (1_000_000 // len(part)) + "[[A]]"):
        split_thought(output)
        split_thought(output, opened=True)
        thought_behind("opened", output)
    assert time.thread_time() - started < 10  # CPU time: a busy machine takes longer


@pytest.mark.parametrize(
    ("thought", "text", "expected", "answer", "closed"),
    [
        (None, "A. [[A]]", "", "A. [[A]]", True),
        ("", "A. [[A]]", "", "A. [[A]]", True),
        (None, "<think>B?</think>A", "<think>B?</think>", "A", True),
        ("B?\n", "A", "<think>\nB?\n</think>\n\n", "A", True),
        ("B?", "more</think>A", "<think>\nB?\n</think>\n\nmore</think>", "A", True),
        ("B? [[A]]", None, "<think>\nB? [[A]]\n", "", False),
        ("B? </think> [[A]]", "", "<think>\nB? </think> [[A]]\n", "", False),
        (None, None, "", "", True),
    ],
)
def test_a_server_may_give_the_thought_apart(
    thought: str | None, text: str | None, expected: str, answer: str, closed: bool
) -> None:
    reply = join_thought(thought, text)
    assert (reply.thought, reply.text, reply.closed) == (expected, answer, closed)


@pytest.mark.parametrize(
    ("prompt", "thought", "written"),
    [
        ("none", "", ""),
        ("none", "<think>\nB?\n</think>\n\n", "<think>\nB?\n</think>\n\n"),
        ("none", "B?\n</think>\n\n", "<think>\nB?\n</think>\n\n"),
        ("opened", "", "\n</think>\n\n"),
        ("opened", "B?\n</think>\n\n", "B?\n</think>\n\n"),
        ("opened", "<think>\nB?\n</think>\n\n", "B?\n</think>\n\n"),
        ("opened", "\n <think>B?</think>", "B?</think>"),
        ("closed", "", ""),
        ("closed", "<think>\nB?\n</think>\n\n", ""),
    ],
)
def test_a_thought_is_written_as_the_prompt_requires(prompt: PromptThought, thought: str, written: str) -> None:
    assert thought_behind(prompt, thought) == written


@pytest.mark.slow
@given(TEXTS, st.sampled_from(["none", "opened", "closed"]))
def test_what_is_written_behind_a_prompt_is_read_back(output: str, prompt: PromptThought) -> None:
    reply = split_thought(output)
    if reply.closed:
        written = split_thought(thought_behind(prompt, reply.thought) + reply.text, opened=prompt == "opened")
        assert written.closed
        assert written.text.lstrip() == reply.text.lstrip()
        assert bool(written.thought) == (prompt == "opened" or (prompt == "none" and bool(reply.thought)))


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("4", "4"),
        (" <think>\n2 + 2\n</think>\n\n4", "4"),
        ("2 + 2\n</think>\n\n4", "4"),
        ("<think>2 + 2 is", ""),
        ("Write <think>, then a thought, then </think>, then 4.", "Write <think>, then a thought, then </think>, then 4."),
        ("Write <think>.", "Write <think>."),
        ("The tag `</think>` closes a thought.", "The tag `</think>` closes a thought."),
        ("So it is 4.</think>\n4", "4"),
    ],
)
def test_a_response_is_shown_without_its_thought(response: str, answer: str) -> None:
    assert shown_response(response) == answer


def test_two_thoughts_stand_side_by_side_only_if_both_say_something() -> None:
    assert comparable_thoughts("<think>a</think>", "b</think>")
    assert comparable_thoughts("", "")
    assert comparable_thoughts("<think></think>", "<think></think>")
    assert not comparable_thoughts("<think>a</think>", "")
    assert not comparable_thoughts("<think>a</think>", "<think>\n\n</think>\n\n")
    assert not comparable_thoughts("", "<think></think>")
