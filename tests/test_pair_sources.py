"""The setting `preferences`: what a list of sources may hold, and one line for what it may not."""

import pytest

from stj.config_loader import from_plain, load
from stj.errors import ConfigError
from stj.model_settings import ModelConfig
from stj.pair_sources import PairSource, policies, synthetic_source
from stj.storage.artifacts import plain


def test_sources_are_read_from_words_and_files_and_written_back(tmp_path: object) -> None:
    config = load([], ["preferences=[{kind: helpsteer2, weight: 5, margin: 0.5}, {}]"])
    assert config.preferences == [PairSource(kind="helpsteer2", weight=5.0, margin=0.5), PairSource()]
    assert from_plain(plain(config)) == config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("[{kid: gsm8k}]", "unknown key 'kid' in a list of groups; did you mean 'kind'"),
        ("[{zzz: gsm8k}]", "unknown key 'zzz' in a list of groups; the keys are kind, name"),
        ("[{kind: gsm8k, kind: pairs}]", "kind is set twice"),
        ("[gsm8k]", "a list of groups of settings"),
        ("gsm8k", "must be a list"),
        ("[null]", "a list of groups of settings"),
        ("[{kind: wildchat}]", "must be one of"),
        ("[{weight: 0}]", r"preferences\[synthetic\].weight=0.0: must be a number above 0"),
        ("[{weight: nan}]", r"preferences\[synthetic\].weight=nan: must be a number above 0"),
        ("[{weight: -1}]", r"preferences\[synthetic\].weight=-1.0: must be a number above 0"),
        ("[{weight: heavy}]", "must be a number"),
        ("[{kind: pairs}]", r"\[pairs\].path is empty"),
        ("[{path: a.jsonl}]", r"\[synthetic\].path=a.jsonl: kind=synthetic has no such setting"),
        ("[{kind: gsm8k, margin: 1}]", r"\[gsm8k\].margin=1.0: kind=gsm8k has no such setting"),
        ("[{kind: hh_rlhf, margin: 1}]", "kind=hh_rlhf has no such setting"),
        ("[{kind: hh_rlhf, categories: [Cooking]}]", r"preferences\[hh_rlhf\].categories=Cooking: no such category"),
        ("[{kind: helpsteer2, margin: -1}]", "must be at least 0"),
        ("[{kind: gsm8k, samples: 1}]", "must be 2 to 1000"),
        ("[{kind: gsm8k, per_question: 0}]", "must be 1 to 100"),
        ("[{kind: gsm8k, limit: 0}]", "must be at least 1"),
        ("[{kind: gsm8k, name: a/b}]", "without a slash"),
        ("[{kind: gsm8k}, {kind: gsm8k}]", "gsm8k comes twice"),
        ("[{}, {name: more}]", r"preferences\[more\]: the sources before it take all its categories"),
        ("[{kind: gsm8k, path: ''}]", r"\[gsm8k\].path is empty"),
        ("[{kind: questions}]", r"\[questions\].path is empty"),
        (
            "[{kind: questions, path: q, top_p: 0.9, model: {endpoint: 'http://h/v1', name: m, fixed_sampling: true}}]",
            r"\[questions\].top_p=0.9: its model has fixed_sampling=true",
        ),
        ("[{kind: questions, path: q.jsonl, model: {}}]", r"\[questions\].model.path is empty"),
        ("[{kind: gsm8k, model: org/policy}]", "model has one value instead of a group of settings"),
        ("[{kind: gsm8k, model: {pth: org/policy}}]", "unknown key 'pth' in a list of groups; did you mean 'path'"),
        ("[{kind: gsm8k, model: {path: org/policy, max_model_len: long}}]", "must be a whole number"),
        ("[{kind: gsm8k, model: {endpoint: 'http://h/v1'}}]", "set name to the name of a model there"),
        ("[{kind: hh_rlhf, model: {path: org/policy}}]", r"\[hh_rlhf\].model=org/policy: kind=hh_rlhf has no such setting"),
        ("[{kind: gsm8k, name: ../mine, model: {path: org/policy}}]", "without a slash"),
        ("[{kind: gsm8k, name: .., model: {path: org/policy}}]", "lie in a folder of this name"),
        ("[{weight: inf}]", "must be a number above 0"),
        ("[{revision: abc}]", "kind=synthetic has no such setting"),
        (
            "[{categories: [Coding, Extraction]}, {name: m, categories: [Coding, Other]}]",
            r"preferences\[m\]: a source before it takes Coding already",
        ),
        ("[{categories: [Cooking]}]", "categories=Cooking: no such category"),
        ("[{categories: []}]", "no pair can be of it"),
        ("[{categories: [Mathematical reasoning]}]", "no source takes the synthetic pairs of Knowledge and Reasoning"),
        ("[{categories: [Coding]}, {name: rest}]", "select.categories drops Coding"),
    ],
)
def test_what_cannot_be_is_one_line(sources: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load([], [f"preferences={sources}"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["judge.task=both"], "judge.task=pairwise"),
        (["examples.labelled=[a.jsonl]", "examples.labelled_share=1", "iterations=1"], "no pair is made or judged"),
        (["examples.human_share=0.1"], "examples.human_share=0.1: by the weights of `preferences`, 0 of the examples"),
        (["examples.human_share=0", "examples.labelled=[a.jsonl]"], "set examples.labelled_share"),
        (["examples.human_share=2"], "must be 0 to 1"),
        (["select.limit=5"], "set limit of its sources"),
        (["pairs.answer.temperature=0"], "different answers"),
    ],
)
def test_sources_that_do_not_fit_other_settings_are_one_line(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load([], ["preferences=[{kind: gsm8k}]", *words])


def test_the_share_of_human_labels_is_that_of_the_weights() -> None:
    sources = "preferences=[{weight: 2}, {kind: pairs, name: ours, path: a.jsonl, human: true}, {kind: hh_rlhf, weight: 2}]"
    assert load([], [sources, "examples.human_share=0.6"]).preferences[1].labelled_by == "human"
    with pytest.raises(ConfigError, match=r"examples.human_share=0.61: by the weights of `preferences`, 0.6 of the examples"):
        load([], [sources, "examples.human_share=0.61"])
    mixed = [sources, "examples.labelled=[a.jsonl]", "examples.labelled_share=0.5", "examples.human_share=0.4"]
    with pytest.raises(ConfigError, match=r"0\.3 of the examples rest on human labels"):
        load([], mixed)
    with pytest.raises(ConfigError, match="0 of the examples rest on human labels"):
        load([], ["examples.human_share=0.5"])
    with pytest.raises(ConfigError, match="kind=gsm8k has no such setting"):
        load([], ["preferences=[{kind: gsm8k, human: true}]"])


def test_a_synthetic_pair_is_of_the_first_source_that_takes_its_category() -> None:
    sources = [
        PairSource(kind="gsm8k"),
        PairSource(name="code", categories=("Coding",)),
        PairSource(name="rest"),
    ]
    taken = [synthetic_source(sources, category) for category in ("Coding", "Other", None)]
    assert [source.title for source in taken if source] == ["code", "rest", "rest"]
    assert synthetic_source([PairSource(kind="gsm8k")], "Coding") is None


def test_a_policy_is_written_as_a_model_and_keeps_what_is_written() -> None:
    sources = "[{kind: gsm8k, model: {path: 010, revision: 8601e45, max_model_len: 512, chat_template_kwargs: {a: 1}}}, {}]"
    model = load([], [f"preferences={sources}"]).preferences[0].model
    assert model == ModelConfig(path="010", revision="8601e45", max_model_len=512, chat_template_kwargs={"a": 1})


def test_sources_with_the_same_policy_share_it_under_the_name_of_the_first() -> None:
    one, other = ModelConfig(path="org/one"), ModelConfig(path="org/other")
    sources = [
        PairSource(kind="gsm8k"),
        PairSource(kind="gsm8k", name="first", model=one),
        PairSource(kind="questions", name="second", path="q.jsonl", model=other),
        PairSource(kind="questions", name="third", path="q.jsonl", model=one),
    ]
    assert policies(sources) == {"first": one, "second": other}
