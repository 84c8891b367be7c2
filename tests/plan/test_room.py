"""The room of a run on its machines, against sizes counted by hand."""

from pathlib import Path

import pytest

from stj.config_loader import load
from stj.models.shapes import shape_of
from stj.plan import plan
from stj.plan.disk import disk_plan
from stj.plan.room import JUDGES, RoomPlan, room_plan

CONF = Path(__file__).parents[2] / "conf"
MIXTRAL, LLAMA = 281.3, 141.1  # GB in bf16
CHECKPOINT = 846.6  # GB: 12 bytes for each of 70.55e9 parameters
STORE = "run_root=s3://bucket/paper"


def room(*overrides: str, file: str = "paper.yaml") -> RoomPlan:
    planned = room_plan(load([CONF / file], overrides))
    assert planned is not None
    return planned


def gigabytes_of(planned: RoomPlan) -> dict[str, list[float]]:
    return {phase.phase: [part.size / 1e9 for part in phase.parts] for phase in planned.phases}


def test_a_run_in_an_object_store_fetches_its_models_and_writes_parts_of_checkpoints_to_scratch() -> None:
    planned = room(STORE)
    assert gigabytes_of(planned) == {
        "pairs, judgments 1": pytest.approx([MIXTRAL], rel=0.001),
        "measuring M_0": pytest.approx([LLAMA], rel=0.001),
        JUDGES: pytest.approx([LLAMA], rel=0.001),
        "training": pytest.approx([LLAMA, CHECKPOINT / 4, LLAMA / 4], rel=0.001),
    }
    assert planned.most_gb == pytest.approx(LLAMA + CHECKPOINT / 4 + LLAMA / 4, rel=0.001)
    assert planned.copies_gb == pytest.approx(MIXTRAL + 5 * LLAMA + CHECKPOINT / 4 + LLAMA / 4, rel=0.001)


def test_a_run_on_a_shared_disk_fetches_only_from_the_hub() -> None:
    planned = room("run_root=/shared/paper")
    assert gigabytes_of(planned)[JUDGES] == []
    assert gigabytes_of(planned)["training"] == pytest.approx([LLAMA], rel=0.001)
    assert planned.most_gb == pytest.approx(MIXTRAL, rel=0.001)


def test_on_a_single_machine_the_run_itself_is_on_its_disk() -> None:
    planned = room("run_root=/data/small", file="small.yaml")
    assert planned.most_gb == pytest.approx((planned.written.total + max(p.disk_bytes for p in planned.phases)) / 1e9)


def test_engines_on_a_second_machine_need_a_disk_that_both_share() -> None:
    alone = room("run_root=/data/small", file="small.yaml")
    more = room("run_root=/data/small", "engine.min_replicas=2", "engine.max_replicas=2", file="small.yaml")
    assert (alone.disk, more.disk) == ("a disk of the machine", "a disk that all machines share")
    assert more.most_gb == pytest.approx(alone.most_gb - alone.written.total / 1e9)


def test_local_models_take_no_room(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100}'
    )
    models = [f"models.{role}.path={tmp_path}" for role in ("generator", "first_judge", "seed")]
    assert all(sizes == [] for sizes in gigabytes_of(room(*models)).values())


@pytest.mark.parametrize(
    ("disk_gb", "words"),
    [
        (6000, "of 6,000 GB: fits"),
        (1000, "of 1,000 GB: fits, and copies give way from iteration 4 on"),
        (
            380,
            "of 380 GB: DOES NOT FIT: training fills the disk with 141 GB of meta-llama/Meta-Llama-3-70B-Instruct in the "
            "hub's cache (HF_HOME), 212 GB of a checkpoint's part in TMPDIR, 35.3 GB of exported shards in stj's cache of "
            "models: take machines with larger disks, or more machines",
        ),
        (None, "set hardware.disk_gb to see whether that fits"),
    ],
)
def test_the_plan_says_whether_the_disk_is_enough_and_names_what_fills_it(disk_gb: int | None, words: str) -> None:
    config = load([CONF / "paper.yaml"], [STORE, f"hardware.disk_gb={'null' if disk_gb is None else disk_gb}"])
    planned = plan(config)
    (line,) = [line for line in planned.lines() if "of a machine's disk in one phase" in line]
    assert line.endswith(words)
    assert planned.fits == ("DOES NOT FIT" not in words)


def test_the_store_of_ray_and_the_offloaded_optimizer_share_the_memory() -> None:
    assert (room(STORE).store_gb, room(STORE).memory) == (200, "")
    offloaded = room("hardware.host_memory_gb=170", file="small.yaml")
    assert offloaded.store_gb == pytest.approx(51)
    assert "with 128 GB of the training that may be more than the machine's 170 GB" in offloaded.memory


def test_engines_of_several_workers_take_shared_memory() -> None:
    shm = {phase.phase: phase.shm_gb for phase in room(STORE).phases}
    assert shm["pairs, judgments 1"] == pytest.approx(0.168 + 8 * 0.252)
    assert shm[JUDGES] == pytest.approx(2 * (0.168 + 4 * 0.252))
    assert all(phase.shm_gb == 0 for phase in room(file="small.yaml").phases)


def test_run_root_holds_three_models_at_once_unless_all_are_kept() -> None:
    last, every = (load([CONF / "paper.yaml"], words) for words in ([], ["keep_models=all"]))
    shape = shape_of(last.models.seed)
    assert shape is not None
    assert disk_plan(shape, 5, last).models / 1e9 == pytest.approx(3 * LLAMA, rel=0.001)
    assert disk_plan(shape, 5, every).models / 1e9 == pytest.approx(5 * LLAMA, rel=0.001)
