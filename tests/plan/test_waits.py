"""What a run does besides its tokens, against bytes over bandwidths; and the errors of a machine's file."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config_loader import load
from stj.errors import ConfigError
from stj.plan import Plan, plan
from stj.plan.phase_cost import PhasePlan

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
WEIGHTS = 141.1
"""GB of the 70B in bf16."""


def planned(*words: str, files: tuple[str, ...] = ("paper.yaml",)) -> Plan:
    return plan(load([CONF / name for name in files], words))


def phase(run: Plan, name: str) -> PhasePlan:
    return next(phase for phase in run.phases if phase.name == name)


def seconds(run: Plan, name: str) -> float:
    return (phase(run, name).hours or 0) * 3600


def test_a_wait_says_what_it_is_made_of_and_drops_no_examples() -> None:
    run = planned()
    assert phase(run, "first starts").parts.startswith("network ")
    assert phase(run, "first starts").line().endswith(phase(run, "first starts").parts)
    assert {phase.name for phase in run.phases if phase.dropped} == {"fine-tuning"}
    assert not phase(run, "fine-tuning").parts


PART = 12 * 70.55 / 4
"""GB of a machine's part of a checkpoint of the 70B, which its 8 ranks copy and hash."""
LINKS = ("hardware.disk_gbs=4", "hardware.fetch_gbs=2")


def test_a_checkpoint_stops_the_steps_for_a_copy_in_memory() -> None:
    for run_root in ("s3://b/p", "/shared/p"):
        assert seconds(planned(f"run_root={run_root}", *LINKS), "checkpoints") == pytest.approx(PART / 8 / 3, rel=0.01)


def test_without_room_in_memory_it_stops_them_until_its_files_are_written() -> None:
    full = (*LINKS, f"hardware.host_memory_gb={2 * PART - 1}")
    assert seconds(planned("run_root=s3://b/p", *full), "checkpoints") == pytest.approx(PART / 4, rel=0.01)
    assert seconds(planned("run_root=/shared/p", *full), "checkpoints") == pytest.approx(PART / 2, rel=0.01)
    assert planned("run_root=s3://b/p", *full).fits


def test_what_the_steps_do_not_hide_is_waited_for() -> None:
    """Three checkpoints: after the first two come 100 steps each, after the last one the rest."""
    slow = ("run_root=s3://b/p", "hardware.disk_gbs=4", "hardware.fetch_gbs=0.2")
    run = planned(*slow)
    training = phase(run, "fine-tuning")
    step = 3600 * (training.hours or 0) / training.steps
    behind = PART / 4 + PART / 8 / 1.2 + PART / 0.2
    left = [max(0.0, behind - steps * step) for steps in (100, 100, training.steps - 300)]
    assert left[0] > 0
    assert 3 * seconds(run, "checkpoints") == pytest.approx(3 * PART / 8 / 3 + sum(left), rel=0.01)
    assert phase(run, "checkpoints").bound == "network"


def test_a_checkpoint_that_is_judged_is_waited_for_in_full() -> None:
    pairs = "train.selection.path=package://mini/data/dev.jsonl"
    judged, links = planned("run_root=s3://b/p", pairs, *LINKS), PART / 4 + PART / 8 / 1.2 + PART / 2
    assert seconds(judged, "checkpoints") == pytest.approx(PART / 8 / 3 + links, rel=0.01)


def test_checkpoints_are_those_that_the_training_writes() -> None:
    """One after each 100 steps except for the last step, after which the model itself is written."""
    steps = phase(planned(), "fine-tuning").steps
    assert 300 < steps < 400
    assert phase(planned(), "checkpoints").times == (3,) * 5
    assert phase(planned("train.max_steps=200"), "checkpoints").times == (1,) * 5
    assert phase(planned("train.max_steps=201"), "checkpoints").times == (2,) * 5
    assert not [row for row in planned("train.checkpoint_every_steps=1000").phases if row.name == "checkpoints"]


def test_an_export_is_gathered_by_all_and_written_in_parts() -> None:
    run = planned("hardware.network_gbs=12.5", "hardware.disk_gbs=4", "run_root=s3://b/p")
    gathered = WEIGHTS * 31 / 32 / 12.5 / 0.8
    hashed = WEIGHTS / 32 / 1.2
    assert seconds(run, "export") == pytest.approx(gathered + hashed + WEIGHTS / 4 / 4 + WEIGHTS / 4 / 2, rel=0.01)


def test_a_pass_starts_once_for_each_set_of_weights() -> None:
    def starts(*words: str) -> dict[str, tuple[int, ...]]:
        return {row.name: row.times for row in planned(*words).phases if row.name.endswith("starts")}

    assert starts() == {"first starts": (1, 0, 0, 0, 0), "later starts": (0, 1, 1, 1, 2), "rank starts": (1,) * 5}
    unmeasured = starts("heldout.path=null", "benchmarks=[]")
    assert unmeasured["later starts"] == (0, 1, 1, 1, 1)
    assert "later starts" not in starts("iterations=1", "heldout.path=null", "benchmarks=[]")
    again = starts("train.objective=sft_then_dpo", "train.preference.source=warm_up", "train.preference.max_seq_len=2048")
    assert again["later starts"] == (1, 2, 2, 2, 3)
    assert again["rank starts"] == (2,) * 5


def test_weights_that_a_machine_holds_are_not_fetched_again() -> None:
    both = "{path: meta-llama/Meta-Llama-3-70B-Instruct, revision: null, tensor_parallel_size: 4}"
    roles = [f"models.{role}={both}" for role in ("generator", "first_judge", "seed")]
    shared, other = planned(*roles), planned(*roles, "models.seed.max_model_len=2048")
    later = seconds(planned("run_root=s3://b/p"), "later starts") + WEIGHTS / 4 / 2
    assert seconds(shared, "first starts") == pytest.approx(later, rel=1e-4)
    assert seconds(other, "first starts") == pytest.approx(2 * later - WEIGHTS / 2, rel=0.01)
    alone = planned(*roles, "models.share_first_pass=false")
    assert seconds(alone, "first starts") == pytest.approx(2 * later - WEIGHTS / 2, rel=0.01)
    assert not [row for row in (*shared.phases, *other.phases) if row.name == "seed fetch"]
    unmeasured = planned("heldout.path=null", "benchmarks=[]")
    assert seconds(unmeasured, "seed fetch") == pytest.approx(WEIGHTS / 2, rel=0.01)


@pytest.mark.slow
def test_a_judge_is_read_from_where_its_training_has_written_it() -> None:
    """Each machine keeps what it has exported to an object store. A path is shared storage, or one machine's disk."""
    rest = seconds(planned("run_root=s3://b/p", "hardware.fetch_gbs=1000", "hardware.disk_gbs=1000"), "later starts")

    def fetch(run_root: str, *words: str) -> float:
        return seconds(planned(f"run_root={run_root}", *words), "later starts") - rest

    assert fetch("s3://b/p") == pytest.approx(3 / 4 * WEIGHTS / 2 + WEIGHTS / 6, rel=0.01)
    assert fetch("/shared/p") == pytest.approx(WEIGHTS / 2, rel=0.01)
    assert fetch("runs/paper") == fetch("/shared/p")  # A directory, though it looks like an id on the hub.
    alone = ("train.workers=8", "engine.max_replicas=2", "hardware.gpu_memory_gb=1000")
    small = seconds(planned("run_root=s3://b/p", *alone, "hardware.disk_gbs=1000"), "later starts")
    assert fetch("s3://b/p", *alone) == pytest.approx(fetch("/data/p", *alone))
    assert seconds(planned("run_root=/data/p", *alone), "later starts") - small == pytest.approx(WEIGHTS / 6, rel=0.02)


def test_engines_on_machines_without_ranks_fetch_the_whole_judge() -> None:
    words = ("run_root=s3://b/p", "train.workers=8", "hardware.gpu_memory_gb=1000")
    one, two = planned(*words), planned(*words, "engine.min_replicas=4")
    assert (one.timeline and one.timeline.machines, two.timeline and two.timeline.machines) == (1, 4)
    assert seconds(two, "later starts") - seconds(one, "later starts") == pytest.approx(
        WEIGHTS / 2, rel=0.1
    )  # and more last rows


def test_a_judge_of_adapters_is_fetched_without_its_seed() -> None:
    adapters = ("train.lora={}", "train.lora.export=adapter")
    for run_root in ("s3://b/p", "/shared/p"):
        whole, alone = (seconds(planned(f"run_root={run_root}", *words), "later starts") for words in ((), adapters))
        held = {"s3://b/p": 3 / 4 * WEIGHTS / 2, "/shared/p": WEIGHTS / 2 - WEIGHTS / 6}[run_root]
        assert whole - alone == pytest.approx(held, rel=0.01)


def test_dollars_of_waiting_are_those_of_the_gpus_held() -> None:
    run = planned("hardware.dollars_per_gpu_hour=3")
    for row in run.phases:
        assert row.gpu_hours is not None
        assert row.dollars == pytest.approx(3 * row.gpu_hours)
        assert 0 <= row.waiting <= row.gpu_hours
        assert row.bound in {"compute", "network", "disk", "memory", "engines"}


@pytest.mark.slow
def test_the_narrowest_link_bounds_a_phase() -> None:
    def bounds(*words: str) -> dict[str, str]:
        return {row.name: row.bound for row in planned("run_root=s3://b/p", *words).phases}

    assert bounds()["fine-tuning"] == "compute"
    assert bounds("hardware.network_gbs=12.5")["fine-tuning"] == "network"
    assert bounds("hardware.fetch_gbs=0.5")["later starts"] == "network"
    assert bounds("hardware.disk_gbs=0.5")["later starts"] == "disk"
    assert bounds("hardware.fetch_gbs=100", "hardware.disk_gbs=100")["later starts"] == "engines"
    assert bounds()["checkpoints"] == "memory"
    assert bounds("hardware.host_memory_gb=100")["checkpoints"] == "disk"


def test_a_machine_without_gpus_has_no_hours() -> None:
    none = planned("hardware.gpus=0")
    assert not none.fits
    assert all(row.gpu_hours is None for row in none.phases)
    assert none.timeline is None


def test_a_cpu_run_and_a_model_of_unknown_shape_wait_for_unknown_times() -> None:
    assert not [row for row in planned(files=("mini.yaml",)).phases if row.bound or row.waiting]
    unknown = planned("models.seed.path=nobody/unknown-7b")
    assert phase(unknown, "rank starts").gpu_hours is None
    assert phase(unknown, "later starts").gpu_hours is None
    assert unknown.timeline is None


def test_a_model_behind_an_api_starts_no_engine() -> None:
    api = "{endpoint: https://api.example.com/v1, name: large}"
    run = planned(f"models.generator={api}", f"models.first_judge={api}", "heldout.path=null", "benchmarks=[]")
    assert [row.name for row in run.phases if row.name.endswith("starts")] == ["later starts", "rank starts"]


PAPER = load([CONF / "paper.yaml"], ["run_root=s3://b/p"])


@pytest.mark.slow
@given(
    speeds=st.tuples(st.floats(0.01, 1000), st.floats(0.01, 1000)),
    link=st.sampled_from(["network_gbs", "disk_gbs", "fetch_gbs", "nvlink_gbs"]),
    workers=st.sampled_from([8, 32, 64]),
)
def test_a_faster_link_never_costs_more(speeds: tuple[float, float], link: str, workers: int) -> None:
    train = replace(PAPER.train, workers=workers)
    slow, fast = (
        plan(replace(PAPER, train=train, hardware=replace(PAPER.hardware, **{link: speed}))) for speed in sorted(speeds)
    )
    for slower, faster in zip(_with_checkpoints(slow), _with_checkpoints(fast), strict=True):
        assert faster <= slower * (1 + 1e-9)


def _with_checkpoints(run: Plan) -> list[float]:
    """GPU-hours of all phases in one iteration; a checkpoint hides behind steps, so theirs are one sum."""
    hours = {row.name: (row.gpu_hours or 0) * row.times[0] for row in run.phases}
    hours["fine-tuning"] += hours.pop("checkpoints", 0.0)
    return list(hours.values())


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("network_gbs=3200", "network_gbs=3200.0 GB/s: must be 0.01 to 1500 GB/s in one direction; divide Gbit/s by 8"),
        ("network_gbs=0", "network_gbs=0.0 GB/s: must be"),
        ("network_gbs=inf", "network_gbs=inf GB/s: must be"),
        ("nvlink_gbs=-1", "nvlink_gbs=-1.0 GB/s: must be"),
        ("disk_gbs=7000", "disk_gbs=7000.0 GB/s: must be .* MB/s by 1000"),
        ("fetch_gbs=nan", "fetch_gbs=nan GB/s: must be"),
        ("gpu_memory_gb=81920", "gpu_memory_gb=81920.0 GB: must be 0.1 to 2000 GB of one GPU; divide MB by 1000"),
        ("gpu_tflops=989000", "gpu_tflops=989000.0 TFLOP/s: must be .* divide GFLOP/s by 1000"),
        ("gpu_bandwidth_gbs=0.5", "gpu_bandwidth_gbs=0.5 GB/s: must be .* multiply TB/s by 1000"),
        ("gpus=1000", "gpus=1000 GPUs: must be 0 to 256 GPUs of one machine, not of the cluster"),
        ("dollars_per_gpu_hour=20000", "dollars_per_gpu_hour=20000.0 dollars: must be"),
        ("training_share=56", "training_share=56.0: must be a share of gpu_tflops, above 0 and up to 1; 0.56 is 56%"),
        ("training_share=0", "training_share=0.0: must be a share"),
    ],
)
def test_an_absurd_value_is_one_line_with_key_value_unit_and_remedy(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^hardware\.{message}") as caught:
        load([], [f"hardware.{word}"])
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_file_of_another_machine_without_its_network_is_refused_only_if_a_run_spans_machines(tmp_path: Path) -> None:
    """It does not inherit the network of the machine that it replaces, and a later file or word may give it."""
    mine = tmp_path / "mine.yaml"
    mine.write_text("hardware: {name: 8 x L40S, gpus: 8, gpu_memory_gb: 48, gpu_tflops: 362, gpu_bandwidth_gbs: 864}")
    files = [CONF / "paper.yaml", CONF / "hardware" / "8xh100-80.yaml", mine]
    with pytest.raises(ConfigError, match=r"^hardware.network_gbs=null GB/s: the run takes 4 machines of 8 GPUs \(8 x L40S\)"):
        plan(load(files))
    assert load(files).hardware.disk_gb is None
    assert plan(load([*files, CONF / "hardware" / "ethernet-100.yaml"])).timeline is not None
    assert load(files, ["hardware.network_gbs=25"]).hardware.network_gbs == 25
    words = ["hardware.network_gbs=25", "hardware.name=mine"]
    assert [load([], word).hardware.network_gbs for word in (words, words[::-1], words[1:])] == [25, 25, None]
    alone = plan(load([CONF / "small.yaml", mine]))
    assert alone.timeline is not None


def test_the_plan_of_a_missing_network_fails_in_one_line_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match="conf/hardware has more"):
        planned("hardware.network_gbs=null")
    assert asdict(planned())["timeline"]["machines"] == 4
