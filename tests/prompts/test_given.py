"""A user's own prompt: what a good file becomes, and one clear line for each bad one."""

import json
import pickle
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config_loader import load, load_use
from stj.errors import ConfigError
from stj.prompts.given import usable_formats, variant_of
from stj.use_config import VoteConfig

GOOD = """\
system: You compare two answers.
user: |-
  Question: {instruction}
  1: {response A}
  2: {response B}
  End with \\boxed{{A}} or \\boxed{{B}}.
"""


def write(tmp_path: Path, text: str, name: str = "mine.yaml") -> str:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    return str(file)


def asked(tmp_path: Path, text: str, wording: str | None = "boxed") -> VoteConfig:
    return VoteConfig(prompt=write(tmp_path, text), prompt_format=wording)


def test_a_file_is_asked_in_its_own_words_and_read_in_its_own_format(tmp_path: Path) -> None:
    variant = variant_of(asked(tmp_path, GOOD).prompt)
    words = variant.ask("{response B}", "first", "second")
    assert words.system == "You compare two answers."
    assert words.user == "Question: {response B}\n1: first\n2: second\nEnd with \\boxed{A} or \\boxed{B}."
    assert variant.parse("So it is \\boxed{B}", "strict") == "B"
    assert variant.parse("[[B]]", "distinct") is None


@pytest.mark.parametrize("wording", usable_formats())
def test_every_format_of_a_verdict_on_two_answers_can_be_named(wording: str, tmp_path: Path) -> None:
    assert variant_of(asked(tmp_path, GOOD, wording).prompt).wording.name == wording


def test_json_is_yaml_and_the_system_message_may_be_left_out(tmp_path: Path) -> None:
    words = {"user": "{instruction} {response A} {response B}"}
    variant = variant_of(VoteConfig(prompt=write(tmp_path, json.dumps(words), "mine.json"), prompt_format="letter").prompt)
    assert (variant.plain.system, variant.plain.user) == ("", words["user"])


def test_words_for_pairs_with_a_reference(tmp_path: Path) -> None:
    text = f"{GOOD}user_with_reference: '{{reference}} {{instruction}} {{response A}} {{response B}}'\n"
    variant = variant_of(asked(tmp_path, text).prompt)
    assert variant.ask("q", "a", "b", "r").user == "r q a b"
    assert variant.ask("q", "a", "b", "r").system == variant.ask("q", "a", "b").system == "You compare two answers."
    assert "r q" not in variant.ask("q", "a", "b").user
    both = variant_of(asked(tmp_path, f"{text}system_with_reference: You see a reference.\n").prompt)
    assert both.ask("q", "a", "b", "r").system == "You see a reference."


def test_the_words_travel_and_the_files_place_does_not_matter(tmp_path: Path) -> None:
    """The setting survives JSON (a server's environment) and pickle (Ray) on a machine that has no such file."""
    vote = asked(tmp_path, GOOD)
    (tmp_path / "mine.yaml").unlink()
    values = json.loads(json.dumps(asdict(vote)))
    decoding = vote.decoding
    assert VoteConfig(**values | {"decoding": decoding}) == pickle.loads(pickle.dumps(vote)) == vote
    elsewhere = VoteConfig(prompt=write(tmp_path, GOOD, "other.yaml"), prompt_format="boxed")
    assert elsewhere == vote
    assert replace(vote, prompt="arena").prompt == "arena"
    other = variant_of(asked(tmp_path, GOOD.replace("1:", "a:")).prompt)
    same_words = variant_of(asked(tmp_path, GOOD, "letter").prompt)
    hashes = [tuple(variant.hashes.items()) for variant in (variant_of(vote.prompt), other, same_words)]
    assert len(set(hashes)) == 3, "other words, or another format, are another prompt"


USER = "user: '{instruction} {response A} {response B}'\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no user: give the text of the user message, with {instruction}, {response A}, {response B}"),
        ("system: hello\n", "no user: give the text of the user message"),
        ("user: ' '\n", "no user: give the text of the user message"),
        ("user: '{instruction} {response A}'\n", "user lacks the placeholder {response B}"),
        ("user: '{{instruction}} {response A} {response B}'\n", "user lacks the placeholder {instruction}"),
        ("user: '{question} {response A} {response B}'\n", "unknown placeholder {question}"),
        ("user: '{answer_a} {instruction} {response A} {response B}'\n", "unknown placeholder {answer_a}"),
        (f"{USER}system: 'write \\boxed{{A}}'\n", "Write {{A}} for braces that are text"),
        (f"{USER[:-2]} {{reference}}'\n", "unknown placeholder {reference}; only user_with_reference shows a reference"),
        (f"{USER}user_with_reference: '{{instruction}} {{response A}} {{response B}}'\n", "lacks the placeholder {reference}"),
        (f"{USER}system_with_reference: hello\n", "system_with_reference needs user_with_reference"),
        (f"{USER}usr: hello\n", "line 2: unknown key 'usr'; a prompt has system, user"),
        (f"{USER}{USER}", "line 2"),
        ("user: [a]\n", "user: must be text"),
        ("user: {a: b}\n", "user: must be text"),
        ("user: 'a\n", "not YAML"),
        ("- user\n", "not a mapping of keys to values"),
        (f"{USER}system: 'costs ${{ 1'\n", "no setting may hold the characters ${"),
    ],
)
def test_one_clear_line_for_each_bad_file(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        asked(tmp_path, text)
    assert message in str(caught.value)
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_clear_line_for_a_file_or_a_format_that_is_not_there(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    (tmp_path / "latin").write_bytes(b"user: caf\xe9\n")
    for word, wording, message in (
        (file, None, "name the format of its verdicts with vote.prompt_format: figure8, "),
        (file, "boxd", "vote.prompt_format=boxd: no such format of a verdict on two answers (did you mean 'boxed'?)"),
        (file, "rating", "vote.prompt_format=rating: no such format of a verdict on two answers"),
        ("arnea", None, "vote.prompt=arnea: no such prompt or file (did you mean 'arena'?)"),
        (str(tmp_path), "boxed", "no such prompt or file"),
        (f"{tmp_path}/none.yaml", "boxed", "no such prompt or file"),
        ("a\0b", "boxed", "vote.prompt"),
        ("", None, "vote.prompt=: no such prompt or file"),
        (str(tmp_path / "latin"), "boxed", "latin"),
    ):
        with pytest.raises(ConfigError) as caught:
            VoteConfig(prompt=word, prompt_format=wording)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_settings_take_a_file_and_refuse_a_format_that_nothing_uses(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    vote = load_use([], ["model=package://mini/seed_model", f"vote.prompt={file}", "vote.prompt_format=boxed"]).vote
    assert load([], [f"prompt={file}", "prompt_format=boxed"]).prompt == vote.prompt
    with pytest.raises(ConfigError, match="prompt_format=boxed: prompt=figure8 has its own format"):
        load([], ["prompt_format=boxed"])


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_any_text_of_a_pair_is_shown_unchanged(question: str, first: str, second: str) -> None:
    prompt = json.dumps({"format": "boxed", "user": "<{instruction}|{response A}|{response B}>{{A}}"})
    assert variant_of(prompt).ask(question, first, second).user == f"<{question}|{first}|{second}>{{A}}"


@given(st.text(max_size=60))
def test_any_file_is_a_prompt_or_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(f"user: {text}".encode(errors="surrogatepass"))
    with pytest.raises(ConfigError) as caught:
        VoteConfig(prompt=str(file), prompt_format="boxed")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "wording", "message"),
    [
        ('{"format": "figure8"', None, "vote.prompt holds no packed prompt"),
        ('{"format": ' * 5000, None, "vote.prompt holds no packed prompt"),
        ('{"format": "oracle", "user": "x"}', None, "vote.prompt holds no packed prompt"),
        ('{"format": "figure8", "user": 3}', None, "vote.prompt holds no packed prompt"),
        ('{"format": "figure8", "more": "x"}', None, "vote.prompt holds no packed prompt"),
        ('{"format": "figure8"}', None, "vote.prompt: no user"),
        ('{"format": "figure8", "user": "{instruction}"}', None, "vote.prompt: user lacks the placeholder"),
        (
            '{"format": "figure8", "user": "{instruction} {response A} {response B}"}',
            "boxed",
            "have the format figure8; leave vote.prompt_format out",
        ),
    ],
)
def test_packed_words_that_were_not_packed_here_are_refused(word: str, wording: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VoteConfig(prompt=word, prompt_format=wording)
