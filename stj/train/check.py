"""The driver's checks before any rank takes a GPU; each refusal is one line."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from stj.config import ModelConfig
from stj.errors import ModelError, TrainingFailed
from stj.models.chat import check_chat
from stj.models.locate import local_model
from stj.models.tokenizer import load_tokenizer
from stj.storage.artifacts import read_artifact
from stj.storage.folder import Folder
from stj.train.committed import check_world_size, committed
from stj.train.data import end_of_turn, read_tokens
from stj.train.job import CHECKPOINTS, TrainingJob
from stj.train.packing import micro_batches, plan_packing

_AFTER_THE_HEAD = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")


def check(job: TrainingJob) -> int:
    """Returns the number of steps that the whole training will take.

    Fetches the model's tokenizer and config if they are not local, but not its weights.

    Raises TrainingFailed or ModelError if training could not begin, or would not teach to judge.
    """
    for newest in committed(Folder.at(job.folder) / CHECKPOINTS, job.fingerprint)[:1]:
        check_world_size(newest, job.config.workers)
    labels = {record["id"]: record["winner"] for record in read_artifact(Folder.at(job.examples)).records(["id", "winner"])}
    if not labels:
        raise TrainingFailed(f"{job.examples}: no examples to train on: it is empty. Select more")
    _check_labels(labels.values(), job)
    return _check_examples(job, check_model(job.seed_model), labels)


def check_model(model: ModelConfig) -> Path:
    """The directory of a model that training can begin from, maybe without its weights.

    Raises ModelError if the tokenizer cannot be read, has no chat template that can serve, or has more ids than the embedding
    has rows. Also raises it if the head is more than a matrix product.
    """
    directory = local_model(model, weights=False)
    tokenizer = load_tokenizer(directory, model.path)
    check_chat(tokenizer, model.chat_options)
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"model {model.path}: its config.json cannot be read ({error}). Save it again") from None
    end_of_turn(tokenizer, directory, model.chat_options)
    _check_config(config, tokenizer, model.path)
    return directory


def _check_labels(labels: Iterable[str], job: TrainingJob, of_what: str = "") -> None:
    counts = Counter(labels)
    if len(counts) == 1:
        (label,) = counts
        raise TrainingFailed(
            f"{job.examples}: all {counts.total()} examples{of_what} have the label {label}: a judge would learn to say "
            "nothing else. Balance them: select as many with A as with B"
        )


def _check_config(config: dict[str, Any], tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    text = config.get("text_config", config)
    rows = text.get("vocab_size")
    if rows is None:
        raise ModelError(f"model {name}: its config.json names no vocab_size. Save it again")
    ids = max(tokenizer.get_vocab().values(), default=-1) + 1
    if ids > rows:
        raise ModelError(
            f"model {name}: its tokenizer has ids up to {ids - 1:,} and its embedding {rows:,} rows: "
            "they belong to different models. Put the tokenizer that it was trained with beside its weights"
        )
    if changed := [setting for setting in _AFTER_THE_HEAD if text.get(setting) not in (None, 1)]:
        raise ModelError(f"model {name}: {changed[0]} changes its logits, and the training loss cannot compute it")


def _check_examples(job: TrainingJob, directory: Path, labels: Mapping[str, str]) -> int:
    """Encodes all examples once, checks those that are left, and returns the number of steps.

    Nothing must be divisible by the number of ranks: a step's last rows may be empty, and ZeRO-3 pads what it divides. But
    there must be a row for each rank.
    """
    config = job.config
    tokens, dropped = read_tokens(job, directory)
    of_what = f" that are left (dropped: {', '.join(f'{count} {reason}' for reason, count in dropped.items())})"
    _check_labels((labels[row.id] for row in tokens), job, of_what)
    ids, lengths = [row.id for row in tokens], [row.length for row in tokens]
    rows = len(micro_batches(ids, lengths, config.max_num_tokens, config.seed, 0))
    if rows < config.workers:
        raise TrainingFailed(
            f"train.workers={config.workers} ranks cannot share the examples, which fill {rows} rows of "
            f"train.max_num_tokens={config.max_num_tokens} tokens: set train.workers={rows} or less, or lower max_num_tokens"
        )
    return len(plan_packing(ids, lengths, config, config.workers))
