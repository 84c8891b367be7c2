"""Models that are removed: when, what stays of them, and what every verb then says."""

import json
from pathlib import Path

import pytest

from stj.cli import main
from stj.config_loader import load
from stj.errors import ArtifactError, ModelError
from stj.loop.doctor import diagnose_here, still_written
from stj.loop.iterate import iterate
from stj.loop.kinds import TrainingPhase
from stj.loop.phase import Phase
from stj.loop.phases import Run
from stj.loop.removal import remove_older_models, without_weights
from stj.loop.status import phase_states
from stj.loop.summary import run_facts
from stj.models.locate import model_identity
from stj.models.removed import REMOVED, removal_note, remove_weights
from stj.models.shapes import shape_of
from stj.plan.disk import disk_plan
from stj.storage.folder import Folder
from stj.storage.holds import hold

MINI = Path(__file__).parents[2] / "conf" / "mini.yaml"
GB = 10**9
WEIGHTS = ("config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "tokenizer.json")


def run_of(tmp_path: Path, *overrides: str) -> Run:
    return Run(load([MINI], [f"run_root={tmp_path}/run", "iterations=4", *overrides]))


def finish(phase: Phase) -> None:
    """Makes a phase as its run does, without its rows."""
    if phase.artifact.begin():
        if isinstance(phase, TrainingPhase):
            for name in WEIGHTS:
                phase.artifact.folder.write(name, b"0123456789")
        phase.artifact.finish()


def models(run: Run) -> list[str]:
    """The models whose weights are there."""
    return [training.name for training in trainings(run) if set(WEIGHTS) <= set(training.artifact.folder.names())]


def trainings(run: Run) -> list[TrainingPhase]:
    return [phase for phase in run.phases if isinstance(phase, TrainingPhase)]


def go_through(run: Run, lines: list[str], iterations: int) -> list[list[str]]:
    """The models that are there before each training, and at the end, as `stj run` goes through the phases."""
    seen = []

    def make(phase: Phase) -> None:
        if isinstance(phase, TrainingPhase):
            remove_older_models(run, lines.append)
            seen.append(models(run))
        finish(phase)

    for iteration in run.iterations[:iterations]:
        iterate(iteration, make)
    remove_older_models(run, lines.append)
    return [*seen, models(run)]


def test_a_model_goes_once_the_second_after_it_has_judged(tmp_path: Path) -> None:
    run, lines = run_of(tmp_path), []
    m1, m2, m3, m4 = (training.name for training in trainings(run))
    assert go_through(run, lines, 4) == [[], [m1], [m1, m2], [m2, m3], [m3, m4]]
    assert lines == [
        f"{m1}: 40 bytes of weights removed by keep_models=last, once M_3 had judged",
        f"{m2}: 40 bytes of weights removed by keep_models=last, once M_4 had judged",
    ]
    assert {state.state for state in phase_states(run.phases)} == {"done"}
    remove_older_models(run, lines.append)
    assert len(lines) == 2


def test_a_warm_up_goes_with_the_model_that_was_trained_from_it(tmp_path: Path) -> None:
    run = run_of(tmp_path, "train.objective=sft_then_dpo", "judge.sampling=first_pair")
    go_through(run, [], 4)
    assert models(run) == [training.name for training in trainings(run)[4:]]


def test_all_models_stay_if_the_config_says_so(tmp_path: Path) -> None:
    run = run_of(tmp_path, "keep_models=all")
    go_through(run, [], 4)
    assert len(models(run)) == 4


@pytest.mark.parametrize("overrides", [("heldout.path=null", "benchmarks=[]")])
def test_a_last_model_that_nothing_measures_has_not_judged(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    run = run_of(tmp_path, *overrides)
    go_through(run, [], 4)
    assert len(models(run)) == 3


def test_a_model_with_a_benchmark_left_to_judge_stays(tmp_path: Path) -> None:
    go_through(run_of(tmp_path, "keep_models=all"), [], 4)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"instruction": "Say 1.", "chosen": "1", "rejected": "no"}))
    run = run_of(tmp_path, f"benchmarks=[pairs:{pairs}]")
    remove_older_models(run, pytest.fail)
    for judge in (3, 4):  # as `stj iterate iteration=4` does
        for phase in run.benchmark_phases(judge):
            finish(phase)
    remove_older_models(run, pytest.fail)
    for phase in run.benchmark_phases(2):
        finish(phase)
    remove_older_models(run, [].append)
    assert models(run) == ["iteration_1/model", "iteration_3/model", "iteration_4/model"]


def test_a_benchmark_that_is_added_later_leaves_out_removed_judges_and_says_so(tmp_path: Path) -> None:
    go_through(run_of(tmp_path), [], 4)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"instruction": "Say 1.", "chosen": "1", "rejected": "no"}))
    run = run_of(tmp_path, f"benchmarks=[pairs:{pairs}]")
    missing = [phase for phase in run.phases if phase.artifact.state()[0] != "done"]
    lost = without_weights(run, missing)
    assert list(lost) == ["benchmarks_1/pairs", "benchmarks_2/pairs"]
    root = tmp_path / "run"
    assert lost["benchmarks_1/pairs"] == (
        "not judged: the weights of iteration_1/model were removed, by keep_models=last, once M_3 had judged; "
        f"delete {root}/iteration_1/model, and the same command trains it again"
    )
    assert lost["benchmarks_1/pairs"] in [finding.words for finding in diagnose_here(run.config)]
    for judge in (0, 3, 4):
        for phase in run.benchmark_phases(judge):
            finish(phase)
    assert run.next_iteration() is None


def test_a_pass_that_needs_removed_weights_is_refused_until_the_model_is_deleted(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    go_through(run, [], 4)
    judged = run.iterations[1].annotation[0]
    judged.artifact.folder.remove()
    missing: list[Phase] = [judged]
    with pytest.raises(ArtifactError) as refused:
        without_weights(run, missing)
    model = run.iterations[0].model
    assert str(refused.value) == (
        "iteration_2/judged needs the weights of iteration_1/model, which were removed, by keep_models=last, once M_3 had "
        f"judged: delete {model.artifact.folder.uri}, and the same command trains it again"
    )
    assert any(str(refused.value) == finding.words for finding in diagnose_here(run.config))
    model.artifact.folder.remove()
    assert without_weights(run, [model, judged]) == {}


@pytest.mark.slow
def test_status_show_and_whoever_loads_it_say_that_the_weights_are_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path)
    go_through(run, [], 4)
    place = tmp_path / "run/iteration_1/model"
    assert main(["show", str(place)]) == 0
    assert "weights removed by keep_models=last, once M_3 had judged" in capsys.readouterr().out
    assert main(["status", str(MINI), "iterations=4", f"run_root={tmp_path}/run"]) == 0
    assert "done      weights removed by keep_models=last, once M_3 had judged" in capsys.readouterr().out
    with pytest.raises(ModelError, match=r"its weights were removed, by keep_models=last, once M_3 had judged. Name another"):
        model_identity(load([MINI], [f"models.seed.path={place}"]).models.seed)


def test_a_model_that_a_process_uses_stays_for_now(tmp_path: Path) -> None:
    run, lines = run_of(tmp_path), []
    for phase in run.phases:
        finish(phase)
    hold(tmp_path / "run/iteration_1/model/manifest.json")
    remove_older_models(run, lines.append)
    assert lines[0] == "iteration_1/model: its weights stay for now: another process uses them"
    assert models(run) == ["iteration_1/model", "iteration_3/model", "iteration_4/model"]


def test_a_removal_that_is_killed_leaves_no_model_and_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder.at(tmp_path / "model")
    for name in (*WEIGHTS, "manifest.json", "started.json"):
        folder.write(name, b"{}")
    deleted: list[str] = []

    def killed(folder: Folder, name: str) -> None:
        deleted.append(name)
        if len(deleted) == 2:
            raise KeyboardInterrupt
        (tmp_path / "model" / name).unlink()

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_weights(folder, "for a test")
    assert deleted[0] == "config.json"
    assert removal_note(folder) == "for a test"
    assert remove_weights(folder, "for another") == 6
    assert folder.names() == ["manifest.json", REMOVED, "started.json"]
    assert remove_weights(folder, "once more") == 0
    folder.write(REMOVED, b"[]")
    assert removal_note(folder) == "its removed.json is damaged and does not say why"


def test_a_disk_that_was_large_enough_at_the_start_is_so_at_every_resume(tmp_path: Path) -> None:
    """What lies in run_root already is not written again: a run on a disk without a spare byte must resume."""
    conf = MINI.parent / "small.yaml"
    config = load([conf], [f"run_root={tmp_path}/run", "iterations=5", "ray.address=local"])
    shape = shape_of(config.models.seed)
    assert shape is not None
    disk = disk_plan(shape, 5, config).total
    used = 0
    for path, size in (
        ("iteration_1/model/model.safetensors", 16 * GB),
        ("iteration_2/model/model.safetensors", 16 * GB),
        ("iteration_3/checkpoints/step_1/states.pt", 96 * GB),
        ("iteration_3/checkpoints/step_2/states.pt", 96 * GB),
    ):
        assert still_written(config, shape, 5).total <= disk - used
        assert still_written(config, shape, 3).total <= disk - used
        file = tmp_path / "run" / path
        file.parent.mkdir(parents=True)
        with file.open("wb") as sparse:
            sparse.truncate(size)
        used += size
    assert still_written(config, shape, 3).total == disk - used
    assert still_written(config, shape, 0).total == 0


def test_what_stays_on_disk_is_in_no_key(tmp_path: Path) -> None:
    runs = [run_of(tmp_path, f"keep_models={value}") for value in ("last", "all")]
    first, second = ([phase.artifact.fingerprint for phase in run.phases] for run in runs)
    assert first == second


def test_the_report_names_removed_models(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    go_through(run, [], 4)
    removed = dict.fromkeys(f"weights of {name}" for name in ("iteration_1/model", "iteration_2/model"))
    assert [note for name, note in run_facts(run).items() if name in removed] == [
        f"removed by keep_models=last, once M_{judge} had judged" for judge in (3, 4)
    ]


def test_a_training_gives_way_to_no_model_that_is_still_needed(tmp_path: Path) -> None:
    other = ["models.generator.path=org/large", "models.first_judge.path=org/large"]
    objective = ["train.objective=sft_then_dpo", "judge.sampling=first_pair"]
    run = run_of(tmp_path, *other, *objective)
    seed, root = run.config.models.seed.path, f"{tmp_path}/run"
    for phase in trainings(run):
        needed = {seed, phase.artifact.folder.uri, f"{root}/iteration_{phase.iteration}/warm_up/model"}
        assert not needed & set(phase.done_models)
        later = [after for after in run.phases if after.iteration >= phase.iteration and isinstance(after, TrainingPhase)]
        assert not {after.model.path for after in later} & set(phase.done_models)
    assert set(trainings(run)[-1].done_models) == {
        "org/large",
        *(f"{root}/iteration_{number}/{name}" for number in (1, 2, 3) for name in ("model", "warm_up/model")),
    }
    assert trainings(run_of(tmp_path))[0].done_models == ()  # the seed made and judged the pairs itself
