"""A panel of judges in a run's plan: who shares a pass, what a change makes stale, what it costs, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stj.config_loader import from_plain
from stj.errors import ConfigError, PassFailed
from stj.evals.agreement import kappa
from stj.loop.doctor import diagnose_here
from stj.loop.label_flags import judges_draws, label_flags
from stj.loop.opinions import independent_judges, panel_voices, row_draws
from stj.loop.panel_figures import figures_of, panel_figures, panel_words
from stj.loop.phases import Run
from stj.panel import PanelMember
from stj.passes.commit import RowCommitter
from stj.passes.source import unfinished
from stj.plan import plan
from stj.rows import Opinion, Row, rows_to_table
from stj.stages.judge import label_of_winner
from stj.storage.artifacts import Artifact, differences, plain
from tests.loop.test_examples import judged, judgment, write
from tests.loop.test_mixing import key_of
from tests.loop.test_phases import ALONE, config, passes

HOT, ARENA = "{name: hot, temperature: 1.2}", "{name: arena, prompt: arena}"
MODEL = "model: {path: package://mini/grading_seed, max_model_len: 1024}"
SECOND = f"{{name: second, {MODEL}}}"
API = "{endpoint: 'http://127.0.0.1:9/v1', name: reasoner, fixed_sampling: true}"
PROMPT = "user: 'Q {instruction} one {response A} two {response B}. Which, in a box?'\n"


def panel(*members: str) -> str:
    return f"judge.panel=[{', '.join(members)}]"


def members(run: Run) -> dict[str, list[str]]:
    return {phase.name: [member.name for member in phase.members] for phase in run.passes if phase.members}


def test_members_judge_in_the_passes_of_their_weights(tmp_path: Path) -> None:
    third = f"{{name: third, {MODEL}, prompt: arena}}"
    run = Run(config(tmp_path, "iterations=2", panel(HOT, SECOND, ARENA, third)))
    assert members(run) == {
        "pairs": ["hot", "arena"],
        "opinions/second": ["second", "third"],
        "iteration_2/judged": ["hot", "arena"],
    }
    parts = {name: set(parts) for name, parts in passes(run).items()}
    assert parts["pairs"] == {"pairs", "opinions", "judge", "heldout"}
    assert parts["opinions/second"] == {"opinions"}
    chain = [stage.func.__name__ for stage in run.iterations[1].annotation[0].stages(None)["training"]]  # type: ignore[attr-defined]
    assert chain == ["give_opinions", "judge"]  # a pair that the judge never gets right ends there


def test_the_generator_and_the_measured_seed_give_opinions_in_their_passes(tmp_path: Path) -> None:
    for folder in ("third", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(f'{{"named": "{folder}"}}')
    words = [f"models.{role}.path={tmp_path}/{folder}" for role, folder in (("first_judge", "other"), ("generator", "third"))]
    three = config(tmp_path, "iterations=1", *words)
    writer, seed = (PanelMember(name=role, model=getattr(three.models, role)) for role in ("generator", "seed"))
    sharing = replace(three.judge, panel=[writer, seed, PanelMember(name="hot", temperature=1.2)])
    run = Run(replace(three, judge=sharing))
    assert members(run) == {"pairs": ["generator"], "iteration_1/judged": ["hot"], "heldout_0": ["seed"]}
    alone = Run(replace(three, judge=sharing, models=replace(three.models, share_first_pass=False)))
    assert list(members(alone)) == ["iteration_1/judged", "heldout_0", "opinions/generator"]
    (tmp_path / "pairs.jsonl").write_text('{"instruction": "1 + 1?", "chosen": "2", "rejected": "3"}')
    unmeasured = replace(
        three, judge=sharing, heldout=replace(three.heldout, path=None), benchmarks=(f"pairs:{tmp_path}/pairs.jsonl",)
    )
    by_name = {phase.name: [each.name for each in phase.benchmarks] for phase in Run(unmeasured).passes}
    assert by_name["opinions/seed"] == ["benchmarks_0/pairs"]  # the only pass with the weights of M_0


def test_a_run_without_a_panel_has_no_word_of_it_in_its_keys(tmp_path: Path) -> None:
    run = Run(config(tmp_path, "iterations=2", "judge.panel=[]"))
    assert "panel" not in str([phase.artifact.key for phase in run.phases])
    assert "opinions" not in str([phase.artifact.key for phase in run.phases])
    assert [phase.name for phase in run.phases] == [phase.name for phase in Run(config(tmp_path, "iterations=2")).phases]


def test_a_member_with_a_pass_of_its_own_makes_only_what_it_chooses_stale(tmp_path: Path) -> None:
    def keys(*words: str) -> tuple[Any, Any]:
        run = Run(config(tmp_path, "iterations=1", *words))
        return key_of(run, "pairs"), key_of(run, "iteration_1/examples")

    without, with_second = keys(panel(ARENA)), keys(panel(ARENA, SECOND))
    assert without == with_second  # only the report shows it
    for rule in ("curate.label_noise=0.9", "select.disagreement={draws: panel, weighted: true}"):
        without, with_second = keys(panel(ARENA), rule), keys(panel(ARENA, SECOND), rule)
        assert without[0] == with_second[0]
        [changed] = differences(without[1], with_second[1])
        assert changed.startswith("opinions: nothing")


def test_a_member_of_a_shared_pass_leaves_the_pairs_if_they_have_a_pass_of_their_own(tmp_path: Path) -> None:
    before, after = (Run(config(tmp_path, ALONE, "iterations=1", *more)) for more in ((), (panel(HOT),)))
    assert key_of(before, "pairs") == key_of(after, "pairs")
    changed = differences(key_of(before, "iteration_1/judged"), key_of(after, "iteration_1/judged"))
    assert {line.partition(".")[0].partition(":")[0] for line in changed} == {"panel"}


def test_a_prompt_of_ones_own_is_in_the_key_by_its_words_and_survives_the_saved_config(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(PROMPT)
    words = ("iterations=1", panel(f"{{name: mine, prompt: {file}, prompt_format: boxed}}"))
    saved = config(tmp_path, *words)
    keys = [key_of(Run(saved), "pairs"), key_of(Run(from_plain(plain(saved))), "pairs")]
    file.write_text(PROMPT.replace("Which", "Which one"))
    keys.append(key_of(Run(config(tmp_path, *words)), "pairs"))
    assert keys[0] == keys[1]
    assert all(line.startswith("panel.mine.prompt") for line in differences(keys[0], keys[2]))
    assert differences(keys[0], keys[2])


def test_the_plan_counts_the_tokens_of_members(tmp_path: Path) -> None:
    more = (HOT.replace("}", ", samples: 3}"), ARENA, SECOND)
    planned = {phase.name: phase for phase in plan(config(tmp_path, "iterations=3", panel(*more))).phases}
    judgments = planned["opinions/second"].tokens_out
    assert judgments > 0
    assert planned["opinions 1"].tokens_out == pytest.approx(4 * judgments)
    assert planned["opinions 1"].tokens_in == pytest.approx(2 * planned["opinions/second"].tokens_in)  # two prompts
    assert (planned["opinions 1"].times, planned["opinions 2+"].times) == ((1, 0, 0), (0, 1, 1))
    assert not [name for name in (phase.name for phase in plan(config(tmp_path)).phases) if "opinion" in name]
    words = ("iterations=2", "train.objective=sft_then_dpo", "train.preference.source=warm_up", panel(*more))
    warmed_up = {phase.name: phase for phase in plan(config(tmp_path, *words)).phases}["opinions again"]
    assert (warmed_up.times, warmed_up.tokens_out) == ((1, 1), pytest.approx(4 * judgments))


@pytest.mark.slow
def test_doctor_looks_at_the_models_and_prompts_of_members(tmp_path: Path) -> None:
    absent = f"{{name: gone, model: {{path: {tmp_path}/nowhere}}}}"
    [finding] = [each for each in diagnose_here(config(tmp_path, panel(absent))) if not each.ok]
    assert "judge.panel[gone].model" in finding.subject
    assert "does not exist" in finding.words
    short = "{name: short, model: {path: package://mini/grading_seed, max_model_len: 400}, prompt: mtbench}"
    [finding] = [each for each in diagnose_here(config(tmp_path, panel(short))) if not each.ok]
    assert "judge.panel[short].model.max_model_len=400 tokens cannot hold opinions by mtbench" in finding.words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([panel(HOT, HOT)], "judge.panel: hot comes twice"),
        ([panel("{name: me}")], r"judge.panel\[me\]: has the model, prompt and temperature of the judge itself"),
        ([panel("{name: me, temperature: 0.7}"), "judge.decoding.temperature=0.7"], "of the judge itself"),
        ([panel(HOT, "{name: twin, temperature: 1.2, samples: 4}")], r"judge.panel\[twin\]: has .* of hot"),
        ([panel("{name: odd, prompt: arenna}")], r"judge.panel\[odd\].prompt=arenna: no such prompt .*did you mean 'arena'"),
        ([panel("{name: odd, prompt: arena, prompt_format: boxed}")], "prompt=arena has its own format"),
        ([panel("{prompt: arena}")], "judge.panel: name='': can name a folder"),
        ([panel("{name: a/b, prompt: arena}")], "judge.panel: name='a/b': can name a folder"),
        ([panel('{name: "a\\nb", prompt: arena}')], r"judge.panel: name='a\\nb': can name a folder"),
        ([panel(f"{{name: {'a' * 65}, prompt: arena}}")], "must be at most 64 letters"),
        ([panel("{name: hot, temperature: 2.5}")], "temperature=2.5: must be 0"),
        ([panel("{name: hot, temperature: .nan}")], "must be a number"),
        ([panel("{name: greedy, temperature: 0, samples: 2}")], "samples=2: at temperature=0 all are the same"),
        ([panel("{name: many, prompt: arena, samples: 0}")], "samples=0 opinions a pair: must be 1 to 100"),
        ([panel("{name: other, model: {}}")], r"judge.panel\[other\].model.path is empty"),
        (
            [panel(f"{{name: api, temperature: 1.2, model: {API}}}")],
            r"judge.panel\[api\].temperature=1.2: its model has fixed_sa",
        ),
        ([panel(HOT), f"models.first_judge={API}"], r"judge.panel\[hot\]: has .* of the judge itself"),  # in iteration 1
        ([panel(ARENA), "judge.task=absolute"], "judge.panel: judge.task=absolute compares no pairs"),
        (["select.disagreement={draws: panel, low: 0.2}"], "draws=panel: judge.panel has no members"),
        (["curate.label_noise=0.9", "iterations=1", panel(HOT)], "with one judge, its errors and wrong labels look the same"),
    ],
)
def test_bad_panels_are_refused(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        config(tmp_path, *words)
    assert "\n" not in str(refused.value)


def said(position: int, outcome: str, **by_member: str) -> Row:
    """A pair with the judge's samples and those of members: right ("+"), wrong ("-"), or without a verdict ("?")."""
    row = judged(position, outcome)
    winner = label_of_winner(0, row.id)
    opinions = tuple(
        Opinion(member=member, judgment=judgment(winner, index, right, member))
        for member, samples in by_member.items()
        for index, right in enumerate(samples)
    )
    return replace(row, opinions=opinions)


def test_each_opinion_has_the_same_weight_and_only_a_fair_verdict_of_the_judge_counts(tmp_path: Path) -> None:
    judge = config(tmp_path, panel("{name: hot, temperature: 1.2, samples: 4}", SECOND)).judge
    pair, other = said(1, "--+", hot="++-?"), said(1, "", second="+")
    drawn = row_draws(pair, [other], judge).of(pair.id)
    assert drawn is not None
    assert drawn.right == pytest.approx(0 + 2 / 3 + 1)
    assert drawn.samples == 3
    silent = said(2, "?", hot="????")
    assert row_draws(silent, [], judge).of(silent.id) is None


def test_temperatures_are_one_judge_and_prompts_are_two(tmp_path: Path) -> None:
    run = Run(config(tmp_path, "iterations=1", "judge.sampling=all", panel(HOT, ARENA, SECOND)))
    write(next(run.passes), [said(0, "+-", hot="+", arena="-")])
    [pairs, other] = run.iterations[0].annotation
    voices = list(independent_judges(pairs.artifact, pairs.members, run.config.judge).values())
    assert [sorted(voice.members) for voice in voices] == [["arena"], ["hot"]]
    drawn = voices[1].count(said(0, "+-", hot="+", arena="-"))
    assert drawn == (2, 3)
    [voice] = independent_judges(other.artifact, other.members, run.config.judge).values()
    assert sorted(voice.members) == ["second"]
    write(other, [said(0, "", second="+")])
    names = [name for name, _ in panel_voices(pairs.artifact, run.iterations[0].examples.heard, run.config.judge)]
    assert names == ["", "hot", "arena", "second"]


def test_a_member_that_does_not_follow_its_prompt_is_no_judge_and_is_named(tmp_path: Path) -> None:
    words = ("iterations=1", "judge.sampling=all", "curate.label_noise=1", panel(HOT, ARENA))
    run = Run(config(tmp_path, *words))
    [pairs] = run.iterations[0].annotation
    write(pairs, [said(number, "+-", hot="+-"[number % 2], arena="?") for number in range(8)])
    heard = run.iterations[0].examples.heard
    assert len(judges_draws(pairs.artifact, [], run.config, heard)) == 1
    assert label_flags(pairs.artifact, [], run.config, heard) is None
    figures = panel_figures(pairs.artifact, heard, run.config.judge)
    assert figures is not None
    assert [(member.name, member.pairs, member.accuracy) for member in figures.members[1:]] == [
        ("hot", 8, 0.5),
        ("arena", 0, None),
    ]
    assert figures.silent == ["", "arena"]  # as many of the judge's samples are right as wrong
    assert (figures.all_right, figures.split, figures.all_wrong) == (4, 0, 4)
    assert "WARNING: no verdict of the judge, arena counts" in panel_words(figures)


def test_a_panel_that_leaves_no_pair_says_who_is_silent(tmp_path: Path) -> None:
    run = Run(config(tmp_path, "iterations=1", "select.disagreement={draws: panel, low: 0.3}", panel(ARENA)))
    write(next(run.passes), [said(number, "-+", arena="?") for number in range(8)])
    with pytest.raises(PassFailed, match=r"8 too_hard.* WARNING: no verdict of arena counts"):
        run.iterations[0].examples.run()


def test_figures_of_a_panel_by_hand() -> None:
    nan = float("nan")
    right = {"": np.array([1.0, 1, 0, 0, nan]), "x": np.array([1.0, 0, 0, 0, 1])}
    figures = figures_of(right, np.array([True, False, True, False, True]))
    assert [(member.pairs, member.accuracy) for member in figures.members] == [(4, 0.5), (5, 0.4)]
    [two] = figures.twos
    assert (two.pairs, two.agree) == (4, 0.75)
    assert two.kappa == kappa(np.array([[1, 1], [0, 2]])).value == 0.5
    assert (figures.all_right, figures.split, figures.all_wrong) == (1, 1, 2)
    assert panel_words(figures) == (
        "the judge and the panel all have a verdict on 4 pairs: all find the label of 1, 1 are split, "
        "all contradict the label of 2"
    )


def test_a_pass_of_opinions_that_was_killed_asks_only_for_the_rest(tmp_path: Path) -> None:
    run = Run(config(tmp_path, "iterations=1", panel(SECOND)))
    [pairs, other] = run.iterations[0].annotation
    write(pairs, [said(number, "+-") for number in range(4)])
    other.artifact.begin()
    writer = RowCommitter(other.artifact, run.config.engine, None)
    writer.add(rows_to_table([said(number, "", second="+") for number in (1, 3)]))
    writer.commit()
    again = RowCommitter(Artifact(other.artifact.folder, other.artifact.key), run.config.engine, None)
    left = list(unfinished(other.read_training, again.finished))
    assert [row.id for row in left] == ["row-000", "row-002"]
    assert all(row.pair and not row.judgments and not row.opinions for row in left)  # nothing of the judge's comes along


def test_a_longer_context_makes_no_other_judge(tmp_path: Path) -> None:
    seed = "package://mini/seed_model"
    with pytest.raises(ConfigError, match="of the judge itself"):
        config(tmp_path, panel(f"{{name: me, model: {{path: {seed}, max_model_len: 1024}}}}"))
    warm = panel(f"{{name: me, temperature: 1.1, model: {{path: {seed}, max_model_len: 1024}}}}")
    with pytest.raises(ConfigError, match="with one judge, its errors and wrong labels look the same"):
        config(tmp_path, warm, "iterations=1", "curate.label_noise=0.9")
