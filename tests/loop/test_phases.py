"""The phases of a run: which passes there are, what shares one, and what a change makes stale."""

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from stj.attacks.use import attacks_identity
from stj.config import Config
from stj.config_loader import load
from stj.engine.scripted import ScriptedEngine
from stj.errors import ConfigError, ModelError, SourceError
from stj.loop.inputs import check_inputs, read_measured, read_training
from stj.loop.kinds import ExamplesPhase, PassPhase, TrainingPhase
from stj.loop.phase import Phase
from stj.loop.phases import Run
from stj.loop.status import phase_states, read_run_config, write_run_config
from stj.passes.commit import RowCommitter
from stj.passes.row_bitmap import RowBitmap
from stj.passes.source import unfinished
from stj.rows import HELDOUT, TRAINING, Pair, Row, rows_to_table
from stj.sources.heldout import read_pairs
from stj.stages.pairs import attack_pair
from stj.stages.runner import run_stages
from stj.storage.artifacts import differences
from stj.storage.folder import Folder
from tests.conftest import make_row

MINI = Path(__file__).parents[2] / "conf" / "mini.yaml"
SEED = Path(__file__).parents[2] / "stj" / "mini" / "seed_model"
OTHER = "models.first_judge.path=org/other"


def config(tmp_path: Path, *overrides: str) -> Config:
    return load([MINI], [f"run_root={tmp_path}/run", *overrides])


def passes(run: Run) -> dict[str, tuple[str, ...]]:
    return {phase.name: phase.parts for phase in run.passes}


def pass_that(run: Run, part: str, iteration: int) -> PassPhase:
    return next(phase for phase in run.passes if part in phase.parts and phase.iteration == iteration)


def rows_into(phase: PassPhase) -> Iterator[Row]:
    """The rows that the pass of a phase reads."""
    yield from read_training(phase.config, phase.parts, phase.pairs.artifact if phase.pairs else None)
    yield from read_measured(phase.config, phase.parts)


def others(run: Run, iteration: int) -> list[Phase]:
    return [phase for phase in run.iterations[iteration - 1].phases if not isinstance(phase, PassPhase)]


def test_one_model_in_all_roles_shares_the_first_pass(tmp_path: Path) -> None:
    assert passes(Run(config(tmp_path))) == {
        "pairs": ("pairs", "judge", "heldout"),
        "iteration_2/judged": ("judge", "heldout"),
        "iteration_3/judged": ("judge", "heldout"),
        "heldout_3": ("heldout",),
    }


ALONE = "models.share_first_pass=false"


def test_pairs_can_have_a_pass_of_their_own(tmp_path: Path) -> None:
    run = Run(config(tmp_path, ALONE, "iterations=1"))
    assert passes(run) == {"pairs": ("pairs",), "iteration_1/judged": ("judge", "heldout"), "heldout_1": ("heldout",)}
    assert run.iterations[0].examples.judged is pass_that(run, "judge", 1)
    assert pass_that(run, "judge", 1).pairs is run.pairs


@pytest.mark.slow
@pytest.mark.parametrize(
    "override",
    ["judge.samples=8", "judge.parser=strict", "judge.keep=random", "heldout.samples=5", "heldout.limit=10", "seed=7"],
)
def test_then_a_setting_of_judging_makes_no_pairs_stale(tmp_path: Path, override: str) -> None:
    before, after = (
        {phase.name: phase.artifact.fingerprint for phase in Run(config(tmp_path, ALONE, *more)).phases}
        for more in ([], [override])
    )
    assert [name for name in before if before[name] == after[name]] == ["pairs"]


@pytest.mark.slow
def test_sharing_the_first_pass_is_the_default_and_in_no_key(tmp_path: Path) -> None:
    shared, third = (OTHER, "models.generator.path=org/third"), "models.share_first_pass=true"
    for words in ([], list(shared)):
        assert [phase.artifact.key for phase in Run(config(tmp_path, *words)).phases] == [
            phase.artifact.key for phase in Run(config(tmp_path, *words, third)).phases
        ]
    assert [phase.artifact.key for phase in Run(config(tmp_path, *shared)).phases] == [
        phase.artifact.key for phase in Run(config(tmp_path, *shared, ALONE)).phases
    ]


def test_the_papers_roles_share_what_they_can(tmp_path: Path) -> None:
    same = config(tmp_path, "iterations=1", OTHER, "models.generator.path=org/other")
    assert passes(Run(same)) == {"pairs": ("pairs", "judge"), "heldout_0": ("heldout",), "heldout_1": ("heldout",)}


def test_three_models_are_three_passes(tmp_path: Path) -> None:
    three = config(tmp_path, "iterations=1", OTHER, "models.generator.path=org/third")
    assert passes(Run(three)) == {
        "pairs": ("pairs",),
        "iteration_1/judged": ("judge",),
        "heldout_0": ("heldout",),
        "heldout_1": ("heldout",),
    }


def test_every_judge_is_measured_once(tmp_path: Path) -> None:
    for overrides in ([], [OTHER], [OTHER, "models.generator.path=org/other"]):
        run = Run(config(tmp_path, *overrides))
        assert [phase.judge for phase in run.passes if "heldout" in phase.parts] == [0, 1, 2, 3]


def test_each_judge_reads_every_pair_once_though_held_out_ones_shared_the_first_pass(tmp_path: Path) -> None:
    overrides = ("train.objective=sft_then_dpo", "train.preference.source=warm_up", "iterations=2")
    run = Run(config(tmp_path, *overrides))
    first = run.pairs
    assert first.parts == ("pairs", "judge", "heldout")
    heldout = list(read_pairs(run.config.heldout))
    training = [
        make_row(0),
        make_row(1, pair=heldout[0].pair, aborted=2, surplus_tokens=9, output_tokens=9),
        make_row(2, pair=heldout[1].pair),
    ]
    first.artifact.begin()
    writer = RowCommitter(first.artifact, run.config.engine, None)
    writer.add(rows_to_table([*training, *heldout]))
    writer.commit()
    writer.finish(None)
    second, again = pass_that(run, "judge", 2), pass_that(run, "judge_again", 1)
    assert [row.id for row in rows_into(second)] == ["row-1", "row-2", *(row.id for row in heldout)]
    assert {(row.aborted, row.surplus_tokens, row.output_tokens) for row in rows_into(second)} == {(0, 0, 0)}
    assert second.count_inputs() == 2 + len(heldout)
    assert [row.id for row in rows_into(again)] == ["row-1", "row-2"]


def test_without_held_out_pairs_nothing_is_measured(tmp_path: Path) -> None:
    run = Run(config(tmp_path, "heldout.path=null"))
    assert not [phase for phase in run.passes if "heldout" in phase.parts]
    assert run.heldout_phase(0) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "stale_from"),
    [
        ("judge.samples=8", "pairs"),
        ("judge.parser=strict", "pairs"),
        ("train.lr=1e-5", "iteration_1/model"),
        ("train.lora={}", "iteration_1/model"),
        ("train.lora=null", None),
        ("train.shard_within_machine=true", None),
        ("train={activation_checkpointing: true, activation_checkpointing_every: 2}", None),
        ("train.gradient_dtype=fp32", None),
        ("train.gradient_dtype=bf16", "iteration_1/model"),
        ("train.deepspeed={}", None),
        ("train.deepspeed.zero_optimization.reduce_bucket_size=100000000", "iteration_1/model"),
        ("seed=7", "pairs"),
        ("source.near_duplicates=0.8", "pairs"),
        ("engine.max_num_seqs=7", None),
        ("train.checkpoint_every_steps=7", None),
        ("ray.address=auto", None),
        ("iterations=5", None),
    ],
)
def test_a_change_makes_stale_what_it_matters_to_and_all_that_follows(
    tmp_path: Path, override: str, stale_from: str | None
) -> None:
    before = {phase.name: phase.artifact.fingerprint for phase in Run(config(tmp_path)).phases}
    after = {phase.name: phase.artifact.fingerprint for phase in Run(config(tmp_path, override)).phases}
    changed = [name for name in before if name in after and before[name] != after[name]]
    expected = list(before)[list(before).index(stale_from) :] if stale_from else []
    assert changed == expected


def test_a_warm_up_comes_between_the_examples_and_the_model(tmp_path: Path) -> None:
    run = Run(config(tmp_path, "train.objective=sft_then_dpo", "iterations=2"))
    names = [phase.name for phase in others(run, 1)]
    assert names == ["iteration_1/examples", "iteration_1/warm_up/model", "iteration_1/model"]
    _, warm_up, model = others(run, 1)
    assert isinstance(warm_up, TrainingPhase)
    assert isinstance(model, TrainingPhase)
    assert (warm_up.train.objective, warm_up.train.lr) == ("sft", 5e-4)
    assert (model.train.objective, model.train.lr) == ("dpo", 5.5e-8)
    assert (warm_up.model.path, model.model.path) == (run.config.models.seed.path, warm_up.artifact.folder.uri)
    assert pass_that(run, "judge", 2).model.path == model.artifact.folder.uri


def test_what_was_warmed_up_judges_again_what_it_will_prefer(tmp_path: Path) -> None:
    rise = ("train.objective=sft_then_dpo", "train.preference.source=warm_up", "iterations=2")
    run = Run(config(tmp_path, *rise))
    for iteration in (1, 2):
        phases = {phase.name.removeprefix(f"iteration_{iteration}/"): phase for phase in run.iterations[iteration - 1].phases}
        names = [name for name in phases if not name.startswith(("heldout", "pairs", "judged"))]
        assert names == ["examples", "warm_up/model", "warm_up/judged", "warm_up/examples", "model"]
        first, warm_up, again, second, model = (phases[name] for name in names)
        assert isinstance(first, ExamplesPhase)
        assert isinstance(warm_up, TrainingPhase)
        assert isinstance(again, PassPhase)
        assert isinstance(second, ExamplesPhase)
        assert isinstance(model, TrainingPhase)
        assert (first.objective, second.objective) == ("sft", "dpo")
        assert first.judged == pass_that(run, "judge", iteration)
        assert (warm_up.examples, second.judged, model.examples) == (first, again, second)
        assert again.model.path == model.model.path == warm_up.artifact.folder.uri
        assert again.artifact.key["pairs"] == run.pairs.artifact.fingerprint
        assert again.artifact.key["judge"]["sampling"] == "first_pair"
        assert len(again.stages(None)[TRAINING]) == 1
    assert run.phases[0].artifact.key["judge"]["sampling"] == "first_correct"
    every = Run(config(tmp_path, *rise, "judge.sampling=all")).passes
    assert {p.artifact.key["judge"]["sampling"] for p in every if p.parts != ("heldout",)} == {"all"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.preference.source=warm_up"], "train.objective=sft has no warm-up; set train.objective=sft_then_dpo"),
        (["train.preference.source=warm_up", "train.objective=dpo"], "train.objective=dpo has no warm-up"),
        (["train.objective=sft_then_dpo", "judge.keep=random"], "judge.keep=random stops at the first"),
        (["train.objective=dpo", "judge.samples=1"], "judge.samples=1 gives one: set judge.samples=2 or more"),
    ],
)
def test_what_gives_no_preferences_to_learn_is_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, *overrides)


def test_kinds_of_examples_matter_to_the_examples_alone_and_only_where_there_are_any(tmp_path: Path) -> None:
    before, same, djpo = (
        {phase.name: phase.artifact.fingerprint for phase in Run(config(tmp_path, *extra)).phases}
        for extra in ([], ["examples.verdicts=0"], ["examples.verdicts=0.15"])
    )
    assert same == before
    assert [name for name in before if djpo[name] != before[name]] == list(before)[1:]


def test_settings_for_pairs_do_not_matter_to_sft(tmp_path: Path) -> None:
    one, other = (Run(config(tmp_path, *extra)) for extra in ([], ["train.preference.beta=0.5"]))
    assert [phase.artifact.fingerprint for phase in one.phases] == [phase.artifact.fingerprint for phase in other.phases]
    dpo, beta = (
        Run(config(tmp_path, "train.objective=dpo", *extra)).iterations[0].model.artifact.fingerprint
        for extra in ([], ["train.preference.beta=0.5"])
    )
    assert dpo != beta


def test_adapters_are_in_the_key_of_a_training_only_if_there_are_any(tmp_path: Path) -> None:
    """Models that were trained before there were adapters stay as they are."""
    whole, adapters, alone = (
        Run(config(tmp_path, *extra)).iterations[0].model.artifact
        for extra in ([], ["train.lora.rank=8"], ["train.lora.rank=8", "train.lora.export=adapter"])
    )
    assert "lora" not in whole.key["train"]
    assert adapters.key["train"]["lora"]["rank"] == 8
    assert len({whole.fingerprint, adapters.fingerprint, alone.fingerprint}) == 3


@pytest.mark.parametrize(
    "override", ["thinking=off", "chat_template_kwargs={effort: low}", "template_date=2025-01-01", "thinking=auto"]
)
def test_what_the_chat_template_is_given_matters_to_passes_and_training_if_it_is_not_the_default(
    tmp_path: Path, override: str
) -> None:
    before, after = (Run(config(tmp_path, *more)) for more in ([], [f"models.seed.{override}"]))
    changed = override != "thinking=auto"
    training = [next(p for p in run.phases if isinstance(p, TrainingPhase)).artifact for run in (before, after)]
    assert (training[0].key.get("chat") != training[1].key.get("chat")) == changed
    heldout = [pass_that(run, "heldout", 1).artifact.key["model"] for run in (before, after)]
    assert (heldout[0] != heldout[1]) == changed
    assert "chat" not in training[0].key


def test_status_names_what_is_stale_and_why(tmp_path: Path) -> None:
    run = Run(config(tmp_path))
    run.phases[0].artifact.begin()
    assert [state.state for state in phase_states(run.phases)] == ["partial"] + ["absent"] * 9
    changed = phase_states(Run(config(tmp_path, "judge.samples=8")).phases)[0]
    assert (changed.state, changed.changed) == ("stale", ["judge.samples: 15 -> 8"])


@pytest.mark.parametrize(("parser", "read"), [("strict", False), ("distinct", True), ("paper", True)])
def test_training_and_held_out_judgments_are_read_by_the_parser_of_the_run(tmp_path: Path, parser: str, read: bool) -> None:
    run = Run(config(tmp_path, f"judge.parser={parser}", "judge.samples=1"))
    pair = Pair(method="given", chosen="good", rejected="bad")
    engine = ScriptedEngine(lambda messages, sampling: "[[A]] is my verdict, because it is right.")
    [*_, judge] = pass_that(run, "judge", 2).stages(None)[TRAINING]
    [heldout] = pass_that(run, "judge", 2).stages(None)[HELDOUT]
    for task, stage in ((TRAINING, judge), (HELDOUT, heldout)):
        row = asyncio.run(run_stages(make_row(task=task, pair=pair), [stage], engine.generate))
        assert {judgment.verdict for judgment in row.judgments} == {"A" if read else None}


@pytest.mark.slow
@pytest.mark.parametrize("parser", ["strict", "paper"])
def test_no_verdict_is_reused_as_that_of_another_parser(tmp_path: Path, parser: str) -> None:
    """Judgments, held-out scores and the choice of a checkpoint each name the parser that read them."""
    pairs = f"train.selection.path={tmp_path / 'selection.jsonl'}"
    (tmp_path / "selection.jsonl").write_text('{"instruction": "?", "chosen": "a", "rejected": "b"}\n')
    before, after = (Run(config(tmp_path, pairs, *words)) for words in ([], [f"judge.parser={parser}"]))
    changed = {
        phase.name: differences(phase.artifact.key, other.artifact.key)
        for phase, other in zip(before.phases, after.phases, strict=True)
    }
    line = f'"distinct" -> "{parser}"'
    assert changed["pairs"] == [f"heldout.parser: {line}", f"judge.parser: {line}"]
    assert f"selection.pairs.parser: {line}" in changed["iteration_1/model"]
    assert f"heldout.parser: {line}" in changed[before.phases[-1].name]


@pytest.mark.slow
def test_a_run_directory_knows_its_config(tmp_path: Path) -> None:
    given = config(tmp_path, "judge.samples=8")
    write_run_config(Run(given))
    assert read_run_config(Folder.at(given.run_root)) == given
    moved = Path(given.run_root).rename(tmp_path / "elsewhere")
    assert read_run_config(Folder.at(moved)) == replace(given, run_root=str(moved))


def test_each_task_has_its_chain(tmp_path: Path) -> None:
    run = Run(config(tmp_path))
    assert [len(phase.stages(None)[TRAINING]) for phase in run.passes] == [5, 1, 1, 0]
    assert all(len(phase.stages(None)[HELDOUT]) == 1 for phase in run.passes)


def test_inside_a_ray_job_a_relative_run_root_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(ConfigError, match="run_root=runs/mini is relative"):
        Run(load([MINI]))


def test_missing_inputs_are_reported_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="model /nope: the directory does not exist"):
        Run(config(tmp_path, "models.seed.path=/nope"))
    with pytest.raises(SourceError, match=r"source.path=/nope.jsonl"):
        Run(config(tmp_path, "source.path=/nope.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"holds no config.json"):
        Run(config(tmp_path, f"models.seed.path={tmp_path}/empty"))


QUESTION = "If every one of the seven dwarfs eats two apples, how many apples do they all eat?"
EXERCISE = (
    "Prove that the sum of two odd numbers is always even, and say for which other numbers your proof would hold as well."
)


@pytest.fixture
def repeats(tmp_path: Path) -> Callable[..., Run]:
    """A run on conversations: one is in a benchmark, one is a near-duplicate, and one repeats a toxic one."""
    texts = [(QUESTION, False), (EXERCISE, True), (EXERCISE, False), (f"{EXERCISE} Please.", False), ("What is love?", False)]
    records = [
        {"conversation_hash": f"c{i}", "conversation": [{"role": "user", "content": text}], "toxic": toxic}
        for i, (text, toxic) in enumerate(texts)
    ]
    (tmp_path / "pool.jsonl").write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "bench.jsonl").write_text(json.dumps({"id": 1, "question": QUESTION}))

    def run(*overrides: str) -> Run:
        named = [
            f"source.path={tmp_path}/pool.jsonl",
            "source.near_duplicates=0.8",
            f"source.keep_out=[{tmp_path}/bench.jsonl]",
        ]
        return Run(config(tmp_path, *named, "heldout.path=null", *overrides))

    return run


def dropped(run: Run) -> list[tuple[str, str | None]]:
    return [(row.id, row.dropped) for row in rows_into(run.pairs)]


def test_what_repeats_a_benchmark_or_an_earlier_row_is_dropped_before_any_model_is_asked(repeats: Callable[..., Run]) -> None:
    expected = [("c0", "benchmark_overlap"), ("c1", None), ("c2", None), ("c3", "near_duplicate"), ("c4", None)]
    assert dropped(repeats()) == expected
    assert dropped(repeats("select.toxic=true"))[2] == ("c2", "near_duplicate")
    assert not any(reason for _, reason in dropped(repeats("source.near_duplicates=null", "source.keep_out=[]")))


def test_a_resumed_pass_decides_as_it_did_before(repeats: Callable[..., Run]) -> None:
    run = repeats()
    read = partial(rows_into, run.pairs)
    whole = {row.id: row for row in read()}
    for done in [{"c2"}, {"c0", "c2"}, {"c0", "c1", "c2", "c4"}]:  # c2 is what c3 repeats
        finished = RowBitmap()
        for row_id in done:
            finished.add(TRAINING, whole[row_id].position)
        assert list(unfinished(read, finished)) == [row for row_id, row in whole.items() if row_id not in done]


def test_what_is_kept_out_is_part_of_the_key_by_its_content(tmp_path: Path, repeats: Callable[..., Run]) -> None:
    before = repeats().phases[0].artifact.fingerprint
    assert repeats().phases[0].artifact.fingerprint == before
    (tmp_path / "bench.jsonl").write_text('{"question": "another"}')
    assert repeats().phases[0].artifact.fingerprint != before


def test_the_held_out_pairs_are_kept_out_of_the_training_pairs(tmp_path: Path, repeats: Callable[..., Run]) -> None:
    pair = {"instruction": EXERCISE, "chosen": "x", "rejected": "y"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair))
    run = repeats(f"heldout.path={tmp_path}/pairs.jsonl")
    assert [row_id for row_id, reason in dropped(run) if reason == "benchmark_overlap"] == ["c0", "c1", "c2", "c3"]


def test_bad_files_to_keep_out_are_refused_before_anything_starts(tmp_path: Path, repeats: Callable[..., Run]) -> None:
    with pytest.raises(SourceError, match=r"source\.keep_out=.*/nope\.jsonl: no such file"):
        repeats("source.keep_out=[/nope.jsonl]")
    (tmp_path / "bench.jsonl").write_text('{"question": oops}')
    with pytest.raises(SourceError, match=r"bench\.jsonl, line 1, column 14: not JSON"):
        check_inputs(repeats().config)


def test_a_source_of_another_kind_is_refused_before_anything_starts_and_one_bad_row_is_not(tmp_path: Path) -> None:
    file = tmp_path / "numbers.jsonl"
    source = (f"source.path={file}", "source.kind=instructions", "source.limit=null")
    file.write_text('{"instruction": 5}\n' * 3)
    with pytest.raises(SourceError, match=r"line 1: field 'instruction' is int 5; it must be a string"):
        check_inputs(Run(config(tmp_path, *source)).config)
    file.write_text('{"instruction": 5}\n{"instruction": "Why?"}')
    check_inputs(Run(config(tmp_path, *source)).config)


def test_the_mini_world_loses_nothing_to_what_is_kept_out(tmp_path: Path) -> None:
    run = Run(config(tmp_path))
    assert not {row.dropped for row in rows_into(run.pairs)} & {"near_duplicate", "benchmark_overlap"}


def test_a_seed_that_decides_every_answer_is_in_the_keys(tmp_path: Path) -> None:
    plain, fixed = (Run(config(tmp_path, f"engine.deterministic={word}")) for word in ("false", "true"))
    other = Run(config(tmp_path, "engine.deterministic=true", "seed=1"))
    assert [phase.artifact.fingerprint for phase in plain.phases] == [
        phase.artifact.fingerprint for phase in Run(config(tmp_path)).phases
    ]
    assert all("request_seed" not in json.dumps(phase.artifact.key) for phase in plain.phases)
    models = [pass_that(run, "pairs", 1).artifact.key["model"] for run in (plain, fixed, other)]
    assert models == [models[0], models[0] | {"request_seed": 0}, models[0] | {"request_seed": 1}]


def test_a_config_of_a_data_set_is_in_the_key_only_if_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / "a.jsonl").write_text(json.dumps({"conversation_hash": "a", "conversation": []}))
    for setting, named in (("source.config_name=null", False), ("source.config_name=en", True)):
        run = Run(config(tmp_path, f"source.path={tmp_path}", setting))
        assert ("config_name" in pass_that(run, "pairs", 1).artifact.key["source"]) == named


@pytest.mark.slow
def test_names_of_fields_and_ties_are_in_the_keys_only_if_they_change_anything(tmp_path: Path) -> None:
    def keys(*words: str) -> list[str]:
        return [phase.artifact.fingerprint for phase in Run(config(tmp_path, *words)).phases]

    selecting = f"train.selection.path={SEED.parent}/data/dev.jsonl"
    plain, told = Run(config(tmp_path, selecting)), keys(selecting, "heldout.ties=skip", "heldout.fields.instruction=null")
    assert not any(word in json.dumps(phase.artifact.key) for phase in plain.phases for word in ('"ties"', '"fields"'))
    assert [phase.artifact.fingerprint for phase in plain.phases] == told
    for word in ("heldout.ties=half", "heldout.fields.instruction=q", "train.selection.ties=count"):
        assert keys(selecting, word) != told


def test_attacks_on_training_pairs_are_in_the_key_only_if_there_are_any(tmp_path: Path) -> None:
    """Without them a key is as before there were any; with them it holds their words, and the seed that draws them."""
    three = (OTHER, "models.generator.path=org/third")
    plain, hard, other = (
        pass_that(Run(config(tmp_path, *three, *settings)), "pairs", 1)
        for settings in ((), ("pairs.attacked=0.3",), ("pairs.attacked=0.3", "seed=1"))
    )
    assert plain.artifact.key["pairs"].keys() == {"method", "answer", "rejected"}
    assert hard.artifact.key["pairs"]["attacked"] == 0.3
    assert hard.artifact.key["pairs"]["attacks"] == attacks_identity("training")
    assert hard.artifact.fingerprint != other.artifact.fingerprint
    stages = [[stage.func for stage in phase.stages(None)["training"]] for phase in (plain, hard)]  # type: ignore[attr-defined]
    assert stages[1] == [*stages[0], attack_pair]


def test_what_lies_beside_a_model_or_the_data_makes_no_phase_stale(tmp_path: Path) -> None:
    shutil.copytree(SEED, tmp_path / "model")
    (tmp_path / "pool").mkdir()
    shutil.copy(SEED.parent / "data" / "instructions.jsonl", tmp_path / "pool" / "a.JSONL")
    settings = [f"models.{role}.path={tmp_path}/model" for role in ("generator", "first_judge", "seed")]

    def fingerprints() -> list[str]:
        return [phase.artifact.fingerprint for phase in Run(config(tmp_path, *settings, f"source.path={tmp_path}/pool")).phases]

    before = fingerprints()
    for folder in (tmp_path / "model", tmp_path / "pool"):
        (folder / "README.md").write_text("new")
        (folder / ".cache" / "huggingface").mkdir(parents=True)
        (folder / ".cache" / "huggingface" / "a.jsonl").write_text("{}")
    assert fingerprints() == before
    (tmp_path / "pool" / "b.ndjson.gz").write_bytes(b"more")
    assert fingerprints() != before
