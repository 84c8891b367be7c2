"""What a real ZeRO-3 rank gathers in a step: whole layers, two or three at once, of frozen weights too."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from transformers import LlamaForCausalLM

from stj.train.data import encode_examples, kept_examples
from stj.train.packing import PackedStep
from stj.train.step import StepInputs, train_step
from stj.train_config import LoraConfig, TrainConfig
from tests.train.conftest import llama_config, make_example, make_tokenizer

ROOT = Path(__file__).parents[2]
LAYERS = 10
pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("gathered")
    tokenizer = make_tokenizer()
    config = llama_config(tokenizer, tie_word_embeddings=False)
    config.num_hidden_layers = LAYERS
    LlamaForCausalLM(config).save_pretrained(folder / "seed")
    tokenizer.save_pretrained(folder / "seed")
    subprocess.run([sys.executable, "-m", __name__, str(folder)], cwd=ROOT, check=True, timeout=600)
    made: dict[str, Any] = json.loads((folder / "seen.json").read_text())
    return made


@pytest.mark.parametrize("case", ["all", "adapters"])
def test_a_step_holds_few_layers_at_once(seen: dict[str, Any], case: str) -> None:
    """Beside the embedding and the head: the layer at work, the next one, and one that is kept for its second use."""
    assert 1 <= seen[case]["most_layers"] <= 3.5


@pytest.mark.parametrize("case", ["all", "adapters"])
def test_a_layer_is_gathered_whole_and_ahead_of_its_use(seen: dict[str, Any], case: str) -> None:
    """Forward and backward gather each layer, and a little more for the ends. Module by module there are 87 gathers, or 100."""
    assert LAYERS <= seen[case]["gathers"] <= 5 * LAYERS


def main(folder: Path) -> None:
    """A rank, alone: it takes steps with all weights and with adapters, and keeps what was gathered in the last one."""
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
    seen = {"all": gathered(folder / "seed", None), "adapters": gathered(folder / "seed", LoraConfig(rank=4))}
    (folder / "seen.json").write_text(json.dumps(seen))
    os._exit(0)  # Gloo's threads may abort a process that Python ends.


def gathered(seed: Path, lora: LoraConfig | None) -> dict[str, float]:
    """The most parameters that are gathered at once, in layers and without embedding and head, and the number of gathers."""
    from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus
    from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator as Coordinator

    from stj.train.model import load_engine

    layer = sum(p.numel() for p in LlamaForCausalLM.from_pretrained(seed).model.layers[0].parameters())
    sizes = {"stage3_max_live_parameters": 2.2, "stage3_max_reuse_distance": 2.2, "stage3_prefetch_bucket_size": 1.0}
    zero = {"stage3_param_persistence_threshold": 100} | {name: int(share * layer) for name, share in sizes.items()}
    config = TrainConfig(
        workers=1, device="cpu", max_num_tokens=512, max_seq_len=512, lora=lora, deepspeed={"zero_optimization": zero}
    )
    tokens = kept_examples(encode_examples(make_tokenizer(), [make_example(i) for i in range(4)], [259], config))[0]
    engine = load_engine(seed, config)
    inside = [parameter for name, parameter in engine.module.named_parameters() if ".layers." in name]
    fetch, gather = Coordinator.fetch_sub_module, Coordinator._PartitionedParameterCoordinator__all_gather_params_
    held, calls = [0], [0]

    def noted_fetch(self: Any, module: Any, forward: bool) -> None:
        fetch(self, module, forward)
        here = (p for p in inside if p.ds_status != ZeroParamStatus.NOT_AVAILABLE and not p.ds_persist)
        held.append(sum(parameter.ds_numel for parameter in here))

    def noted_gather(self: Any, params: Any, *rest: Any, **named: Any) -> None:
        calls[0] += any(parameter.ds_status == ZeroParamStatus.NOT_AVAILABLE for parameter in params)
        gather(self, params, *rest, **named)

    Coordinator.fetch_sub_module = noted_fetch
    Coordinator._PartitionedParameterCoordinator__all_gather_params_ = noted_gather
    step = PackedStep(epoch=0, micro_batches=((0, 1, 2, 3),))
    for number in range(3):  # ZeRO-3 learns the order of the modules from the first steps.
        held[:], calls[:] = [0], [0]
        train_step(engine, StepInputs(tokens, None, config), step, number, 10)
    Coordinator.fetch_sub_module, Coordinator._PartitionedParameterCoordinator__all_gather_params_ = fetch, gather
    return {"most_layers": max(held) / layer, "gathers": calls[0]}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
