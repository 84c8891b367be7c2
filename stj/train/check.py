"""The driver's checks before any rank takes a GPU; each refusal is one line."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stj.config import ModelConfig
from stj.errors import ModelError, TrainingFailed
from stj.models.chat import check_chat
from stj.models.check import check_trainable, check_vocabulary, check_whole
from stj.models.config_json import read_config, text_config
from stj.models.fetch import local_model
from stj.models.tokenizer import load_tokenizer
from stj.storage.artifacts import read_artifact
from stj.storage.folder import Folder
from stj.train.committed import check_world_size, committed
from stj.train.data import ExampleTokens, encoded_examples, end_of_turn, require_examples
from stj.train.job import CHECKPOINTS, TrainingJob
from stj.train.packing import micro_batches
from stj.train.zero import check_deepspeed
from stj.train_config import LoraConfig

_SCORE = "score "
_AFTER_THE_HEAD = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")


def check(job: TrainingJob) -> None:
    """Checks whether a training could begin, and would teach to judge.

    Fetches the model's tokenizer and config if they are not local, but not its weights.

    Raises TrainingFailed, ModelError or ConfigError if training could not begin, or would not teach to judge.
    """
    for newest in committed(Folder.at(job.folder) / CHECKPOINTS, job.fingerprint)[:1]:
        check_world_size(newest, job.config.workers)
    check_deepspeed(job.config)
    columns = ["id", "winner", "score"]
    labels = {record["id"]: _label(record) for record in read_artifact(Folder.at(job.examples)).records(columns)}
    if not labels:
        raise TrainingFailed(f"{job.examples}: no examples to train on: it is empty. Select more")
    _check_labels(labels.values(), job)
    _check_examples(job, check_model(job.seed_model, job.config.lora), labels)


def check_model(model: ModelConfig, lora: LoraConfig | None = None) -> Path:
    """The directory of a model that training can begin from, maybe without its weights.

    Raises ModelError if the tokenizer cannot be read, has no chat template that can serve, or has more ids than the embedding
    has rows. Also raises it if the model is quantized or an adapter, if its head is more than a matrix product, or if adapters'
    targets do not exist.
    """
    check_whole(model)
    directory = local_model(model, weights=False)
    config = read_config(model)
    tokenizer = load_tokenizer(directory, model.path)
    check_chat(tokenizer, model.chat_options)
    end_of_turn(tokenizer, directory, model.chat_options)
    check_vocabulary(config, tokenizer, model.path)
    check_trainable(config, model.path)
    _check_head(config, model.path)
    if lora:
        from stj.train.lora import check_targets  # peft takes seconds to import

        check_targets(directory, lora)
    return directory


def _label(record: Mapping[str, Any]) -> str:
    """What an example teaches to say: a label, or a score."""
    winner: str | None = record["winner"]
    return f"{_SCORE}{record.get('score')}" if winner is None else winner


def _check_labels(labels: Iterable[str], job: TrainingJob, of_what: str = "") -> None:
    """Raises TrainingFailed if all verdicts, or all grades, say the same."""
    everything = list(labels)
    grades = Counter(label for label in everything if label.startswith(_SCORE))
    verdicts = Counter(label for label in everything if not label.startswith(_SCORE))
    if len(verdicts) == 1:
        raise TrainingFailed(
            f"{job.examples}: all {verdicts.total()} examples{of_what} have the label {next(iter(verdicts))}: a judge would "
            "learn to say nothing else. Balance them: select as many with A as with B"
        )
    if len(grades) == 1:
        raise TrainingFailed(
            f"{job.examples}: all {grades.total()} grades{of_what} have the {next(iter(grades))}: a judge would learn to say "
            "nothing else. Give examples of several scores"
        )


def _check_head(config: Mapping[str, Any], name: str) -> None:
    text = text_config(config)
    if changed := [setting for setting in _AFTER_THE_HEAD if text.get(setting) not in (None, 1)]:
        raise ModelError(f"model {name}: {changed[0]} changes its logits, and the training loss cannot compute it")


def _check_examples(job: TrainingJob, directory: Path, labels: Mapping[str, str]) -> None:
    """Encodes examples until enough are left: both labels, and a full row for each rank. If all are not enough, checks these.

    Nothing must be divisible by the number of ranks: a step's last rows may be empty, and ZeRO-3 pads what it divides. But
    there must be a row for each rank. The ranks encode all examples, each a part.
    """
    config, enough, tokens = job.config, job.config.workers * job.config.max_num_tokens, 0
    left, dropped, seen = list[ExampleTokens](), Counter[str](), set[str]()
    for example in encoded_examples(job, directory):
        if isinstance(example, str):
            dropped[example] += 1
            continue
        left.append(example)
        seen.add(labels[example.id])
        tokens += example.length
        if tokens >= enough and len(seen) > 1:
            return
    require_examples(job, len(left), dropped)
    of_what = f" that are left (dropped: {', '.join(f'{count} {reason}' for reason, count in dropped.items())})"
    _check_labels((labels[row.id] for row in left), job, of_what)
    ids, lengths = [row.id for row in left], [row.length for row in left]
    rows = len(micro_batches(ids, lengths, config.max_num_tokens, config.seed, 0))
    if rows < config.workers:
        raise TrainingFailed(
            f"train.workers={config.workers} ranks cannot share the examples, which fill {rows} rows of "
            f"train.max_num_tokens={config.max_num_tokens} tokens: set train.workers={rows} or less, or lower max_num_tokens"
        )
