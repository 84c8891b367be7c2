"""What makes a phase stale: the key of each kind of phase.

A key holds the settings that matter to the phase and the hashes of its prompts. It also holds the identity of its weights and
the fingerprints of the phases that it reads. A phase is stale if its key differs from the key on disk
(stj/storage/artifacts.py). A setting that is not in a key can be changed without redoing anything.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from stj.attacks.use import attacks_identity
from stj.config import Config, ExamplesConfig, JudgeConfig, ModelConfig
from stj.curating.embedding import embedding_identity
from stj.curation import CurateConfig
from stj.evals.benchmarks.refs import BenchmarkRef
from stj.loop.all_benchmarks import keeps_out_all, not_kept_out
from stj.loop.inputs import SELECTED_ON, PassPart, kept_out, sources_key
from stj.loop.named_pairs import heldout_key
from stj.loop.questions import questions_key
from stj.loop.tasks import PROMPTS as EXAMPLE_PROMPTS
from stj.models.locate import chat_settings, loading_settings
from stj.models.pooling import pooling_identity
from stj.pair_fields import key_without_defaults
from stj.panel import PanelMember
from stj.prompts import CATEGORIZE, WRITE_RUBRIC, prompt_hash
from stj.prompts.given import variant_of
from stj.prompts.variants import FIGURE_8
from stj.sources.heldout import heldout_identity
from stj.sources.heldout_grades import heldout_grades_identity
from stj.sources.labelled import labelled_identities
from stj.sources.overlap import places_identity
from stj.stages import judge as judging
from stj.stages import pairs as pairing
from stj.stages.opinions import decoding_of
from stj.stages.rescue import RESCUE_PROMPTS
from stj.storage.artifacts import Key, fingerprint, plain
from stj.train_config import Objective, TrainConfig

_OPERATIONAL = (
    "device",
    "cpus_per_worker",
    "place",
    "max_failures",
    "checkpoint_every_steps",
    "shard_gb",
    "offload",
    "activation_checkpointing",
    "activation_checkpointing_every",
    "shard_within_machine",
    "trackers",
)
"""Settings of training that decide when and where it computes, not what."""
_TRAIN = TrainConfig()
_CURATE = CurateConfig()


def pass_key(
    config: Config,
    parts: Collection[PassPart],
    model: ModelConfig,
    weights: str,
    pairs: str | None,
    curated: str | None = None,
    answered: Mapping[str, str] | None = None,
    panel: Mapping[str, Key] | None = None,
) -> Key:
    """The key of a pass; `pairs` is the fingerprint of the pass that made the pairs, None if this pass makes them.

    `curated` says what was decided about its instructions (`decisions_identity`), None without curation. `answered` are the
    fingerprints of the passes in which policies answered questions, by the name of the source.
    `panel` says which members of the panel give opinions in it, and how (`panel_key`).
    """
    key: Key = {"step": "pass", "model": {"weights": weights, **loading_settings(model), **config.engine.drawn_by(config.seed)}}
    if "answers" in parts:
        source = {**questions_key(config, model), **_keep_out_settings(config)}
        return key | {"source": source, "answers": plain(config.pairs.answer), "prompts": {}}
    prompts: list[str] = []
    judges = "judge" in parts or "judge_again" in parts
    if "pairs" in parts:
        key["source"] = _source_settings(config)
        if curated is not None:
            key["curated"] = curated
        if answered:
            key["answered"] = dict(answered)
        key["select"] = plain(config.select)
        del key["select"]["disagreement"]  # It chooses among judged pairs, and rejects no instruction.
        if config.select.per_cluster is None:
            del key["select"]["per_cluster"]
        key |= {"categorize": plain(config.categorize), "pairs": _pairs_settings(config)}
        prompts += [CATEGORIZE, pairing.PAIR_PROMPTS[config.pairs.method]]
        if config.judge.grades and config.grading.written:
            key["rubrics"] = {
                **config.grading.writing_key,
                "parser": config.judge.parser,
                "checking": plain(config.judge.decoding.greedy()),
            }
            prompts.append(WRITE_RUBRIC)
    elif judges or panel:
        key["pairs"] = pairs
    if judges:
        judge = config.judge.again if "judge_again" in parts else config.judge
        key |= {"judge": _judging_settings(judge), "seed": config.seed}  # the seed orders A and B
        if judge.grades:
            key["grading"] = config.grading.key
    if panel:
        key |= {"panel": dict(panel), "seed": config.seed}
    if "heldout" in parts:
        key["heldout"] = _heldout_settings(config)
    if judges or "heldout" in parts:
        prompts += judging.JUDGE_PROMPTS
    if judges and config.judge.rescue:
        prompts += RESCUE_PROMPTS
    return key | {"prompts": _hashes(prompts)}


def curation_key(config: Config) -> Key:
    """The key of curating the instructions: what they are, which of them may become pairs, and how they are curated."""
    by = plain(replace(config.curate, balance=(), label_noise=None))  # They choose among judged pairs.
    if (model := config.curate.pooled_model) is None:
        by["embedding"] = embedding_identity(config.curate.embedding)
        del by["embedding_model"]  # so that a key is as it was before this setting
    else:
        by["embedding_model"] = {"files": pooling_identity(model), **loading_settings(model)}
    asked = ("languages", "toxic", "redacted", "min_turns", "max_turns")  # what a row is screened by before a model is asked
    screen = {name: value for name, value in plain(config.select).items() if name in asked}
    return {"step": "curated", "source": _source_settings(config), "select": screen, "curate": by, "seed": config.seed}


def decisions_identity(curation: Key) -> str:
    """What the decisions about the instructions depend on, by the key of their curation: all but the map."""
    return fingerprint({**curation, "curate": {**curation["curate"], "map": _CURATE.map}})


def _source_settings(config: Config) -> Key:
    """The settings and the content of all that pairs are made of."""
    settings: Key = {**plain(config.source), **sources_key(config), **_keep_out_settings(config)}
    if config.source.config_name is None:
        del settings["config_name"]  # so that a key is as it was before this setting
    return settings


def _keep_out_settings(config: Config) -> Key:
    """The texts that are kept out of the training pairs."""
    settings: Key = {"keep_out": places_identity(kept_out(config))}
    if keeps_out_all(config.source):
        settings["all_benchmarks"] = {"not_read": not_kept_out(config.source)}
    return settings


def _heldout_settings(config: Config) -> Key:
    """The settings of measuring a judge. Without held-out grades they are as before there were any."""
    settings: Key = {
        **key_without_defaults(plain(config.heldout)),
        "path": heldout_key(config.heldout),
        "parser": config.judge.parser,
    }
    if config.heldout.grades is None:
        del settings["grades"]
        return settings
    grading = config.grading.key
    by = {name: grading[name] for name in ("rubric", "prompt")}
    return {**settings, "grades": heldout_grades_identity(config), "grading": by}


def _judging_settings(judge: JudgeConfig) -> Key:
    """The settings of judging pairs. Without grades or rescue they are as before there were any."""
    settings: Key = plain(judge)
    del settings["panel"]  # Who of it judges in a pass is in the key of that pass.
    if not judge.grades:
        del settings["task"]
    if judge.rescue is None:
        del settings["rescue"]
    return settings


def panel_key(judge: JudgeConfig, members: Sequence[PanelMember]) -> dict[str, Key]:
    """What the opinions of members depend on beside their weights, by the name of the member."""
    return {
        member.name: {
            "prompt": dict(variant_of(member.prompt).hashes),
            "decoding": plain(decoding_of(member, judge)),
            "samples": member.samples,
            "parser": judge.parser,
        }
        for member in members
    }


def _pairs_settings(config: Config) -> Key:
    """The settings of making pairs. Without attacks they are as before there were any."""
    settings: Key = plain(config.pairs)
    if not config.pairs.attacked:
        del settings["attacked"]
        return settings
    return {**settings, "attacks": attacks_identity("training"), "seed": config.seed}  # the seed draws them


def benchmark_key(config: Config, ref: BenchmarkRef, model: ModelConfig, weights: str) -> Key:
    """The key of a benchmark that these weights judge. No other key names it: nothing but the report depends on it."""
    more = judging.MORE_ANSWERS_PROMPTS if ref.benchmark.candidates else ()
    return {
        "step": "benchmark",
        "model": {"weights": weights, **loading_settings(model), **config.engine.drawn_by(config.seed)},
        "benchmark": {ref.name: ref.identity},
        "decoding": plain(config.heldout.decoding),
        "parser": config.judge.parser,
        "prompts": {**FIGURE_8.hashes, **_hashes(more)},
    }


def examples_key(
    config: Config,
    judged: str | None,
    objective: Objective,
    *,
    first: bool,
    opinions: Mapping[str, str] | None = None,
    unread: Mapping[str, Sequence[str]] | None = None,
) -> Key:
    """The key of selecting examples from the pass with the fingerprint `judged`; None if all examples are labelled.

    `first` says whether no judge has judged the pairs before: rules that need an earlier one do nothing then.
    `opinions` are the fingerprints of the other passes that hold opinions of the panel, by name. `unread` are the members of
    passes whose opinions no longer count, by the name of the pass.
    """
    key: Key = {"step": "examples", "judged": judged, "objective": objective, "seed": config.seed}
    prompts: tuple[str, ...] = judging.JUDGE_PROMPTS
    kinds = plain(config.examples)
    thoughts = kinds.pop("thoughts")
    del kinds["human_share"], kinds["human_share_rule"]  # A run that they change mixes by other weights.
    mixing = kinds.pop("mixing")
    labelled, share = kinds.pop("labelled"), kinds.pop("labelled_share")
    if labelled:
        words = config.grading.key
        by = {name: words[name] for name in ("rubric", "prompt")}
        key["labelled"] = {"files": labelled_identities(config.examples.labelled), "share": share, **by}
        key["labelled"]["keep_out"] = places_identity(kept_out(config))
    if keeps_out_all(config.source):
        key["answers_keep_out"] = places_identity(kept_out(config))
    if config.preferences:
        key["sources"] = [[source.title, source.weight, source.categories] for source in config.mixed_preferences]
        if config.tops_up:
            key["human_share"] = config.examples.human_share
        if mixing != "down":
            key["mixing"] = mixing
    disagreement = config.select.disagreement
    if disagreement and not (first and disagreement.draws == "last"):
        key["disagreement"] = plain(disagreement)
    doubts = config.curate.label_noise is not None and not (first and not config.has_second_judge)
    if doubts:
        key["label_noise"] = config.curate.label_noise
    if doubts or (disagreement and disagreement.draws == "panel"):
        key |= {name: plain(value) for name, value in (("opinions", opinions), ("unread", unread)) if value}
    if config.curate.balance:
        key["balance"] = list(config.curate.balance)
    if config.judge.task == "both":
        key["share"] = config.grading.share
    if not config.examples.judgments_alone:
        key["examples"] = kinds
        prompts += EXAMPLE_PROMPTS
    if thoughts != ExamplesConfig().thoughts:
        key["thoughts"] = thoughts
    return key | {"prompts": _hashes(prompts)}


def training_key(
    config: Config, examples: str, objective: Literal["sft", "dpo", "rpo"], model: ModelConfig, weights: str
) -> Key:
    """The key of a training that begins from these weights and learns the examples with the fingerprint `examples`."""
    train = config.train.stage(objective)
    settings = plain(train)
    for unneeded in (*_OPERATIONAL, "selection", *(["preference"] if objective == "sft" else [])):
        del settings[unneeded]
    if train.lora is None:  # trainings of all weights keep the keys that they had before there were adapters
        del settings["lora"]
    for name in ("gradient_dtype", "deepspeed"):  # so that a key is as it was before these settings
        if settings[name] == getattr(_TRAIN, name):
            del settings[name]
    settings.get("preference", {}).pop("source", None)  # the key of the examples names the pass that judged
    key: Key = {"step": "model", "examples": examples, "seed_model": weights, "train": settings}
    if chat := chat_settings(model):
        key["chat"] = chat
    if train.selection.path:
        identity = heldout_identity(config.selected_on, SELECTED_ON)
        pairs = {**key_without_defaults(plain(config.selected_on)), "path": identity, "parser": config.judge.parser}
        del pairs["grades"]  # No checkpoint is chosen by them.
        steps: dict[str, float] = {"patience": train.selection.patience, "checkpoint_every_steps": train.checkpoint_every_steps}
        if train.selection.position_weight:  # A key of before this setting is of accuracy alone, as with a weight of 0.
            steps["position_weight"] = train.selection.position_weight
        prompts = _hashes(judging.JUDGE_PROMPTS)
        key["selection"] = {
            **steps,
            "pairs": pairs,
            "prompts": prompts,
            "engine": {**loading_settings(model), **config.engine.drawn_by(config.seed)},
        }
    return key


def without_content(key: Key, *, makes_pairs: bool) -> Key:
    """The key of a pass without the content of files, and without the fingerprint of the pairs, which names that content too.

    The texts to keep out are content as well: they only make tombstones, for which no model is asked.
    """
    key = {name: dict(value) if isinstance(value, dict) else value for name, value in key.items()}
    if isinstance(source := key.get("source"), dict) and "preferences" in source:
        source["preferences"] = [_without_file(given) for given in source["preferences"]]
    for place, name in (("source", "path"), ("source", "keep_out"), ("source", "all_benchmarks"), ("heldout", "path")):
        if isinstance(key.get(place), dict):
            key[place].pop(name, None)
    if not makes_pairs:
        key.pop("pairs", None)
    return key


def _without_file(given: Key) -> Key:
    """What a key holds of a source of pairs, without the content of its files. A data set of the hub is no file to repair."""
    on_hub = "@" in given["content"]
    return {name: value for name, value in given.items() if name != "content" or on_hub}


def _hashes(prompts: Sequence[str]) -> dict[str, str]:
    return {prompt: prompt_hash(prompt) for prompt in prompts}
