"""Rules between groups of a run's settings. Each raises ConfigError with the key, its value, and what to set.

What one group demands of its own fields stands with the group, in stj/config.py.
"""

from typing import TYPE_CHECKING

from stj.errors import ConfigError
from stj.pair_mixing import check_mixing, mixed_sources
from stj.pair_sources import PairSource, check_sources
from stj.panel import check_panel
from stj.setting_checks import check

if TYPE_CHECKING:
    from stj.config import Config


def check_objective(config: "Config") -> None:
    """What is trained must come of what is judged."""
    warm_up = config.train.preference.source == "warm_up"
    check(
        not warm_up or config.train.objective == "sft_then_dpo",
        f"train.preference.source=warm_up: train.objective={config.train.objective} has no warm-up; "
        "set train.objective=sft_then_dpo",
    )
    learns_pairs = config.judge.compares and not config.examples.labelled_alone
    check(
        learns_pairs or config.train.selection.path is None,
        "train.selection.path: checkpoints are chosen by how they judge pairs, and with judge.task=absolute or "
        "examples.labelled_share=1 training may hold none: leave it out, or set judge.task=both",
    )
    check(
        not config.examples.labelled_alone or config.iterations == 1,
        f"iterations={config.iterations}: examples.labelled_share=1 trains on the same examples in each; set iterations=1",
    )
    check(
        config.judge.compares or config.examples.judgments_alone,
        f"examples.verdicts={config.examples.verdicts}, examples.deductions={config.examples.deductions}: are made of "
        "judgments of pairs, and judge.task=absolute makes none: set both to 0, or judge.task=both",
    )
    if config.train.objective != "sft":
        _check_learned_preferences(config)


def _check_learned_preferences(config: "Config") -> None:
    """An objective of preferences needs a right and a wrong judgment of a pair."""
    check(
        not config.examples.labelled,
        "examples.labelled: labelled judgments have no wrong one beside them, which "
        f"train.objective={config.train.objective} needs: set train.objective=sft, or leave them out",
    )
    check(
        not config.judge.grades,
        f"judge.task={config.judge.task}: grades are learned as they are, and train.objective={config.train.objective} learns "
        "right judgments over wrong ones: set train.objective=sft, or judge.task=pairwise",
    )
    check(
        config.judge.keep == "correct",
        f"train.objective={config.train.objective} needs a right and a wrong judgment of a pair, and judge.keep=random "
        "stops at the first: set judge.keep=correct, or train.objective=sft",
    )
    check(
        config.judge.samples > 1,
        f"train.objective={config.train.objective} needs a right and a wrong judgment of a pair, and "
        f"judge.samples={config.judge.samples} gives one: set judge.samples=2 or more, or train.objective=sft",
    )


def check_curation(config: "Config") -> None:
    """Raises ConfigError if the clusters or samples that a setting needs are not made, or nothing is to be curated."""
    per_cluster = config.select.per_cluster
    check(
        per_cluster is None or config.curate.clustering is not None,
        f"select.per_cluster={per_cluster}: no clusters are made: set curate.clustering=kmeans or hdbscan",
    )
    check(
        per_cluster is None or config.select.limit is None,
        f"select.per_cluster={per_cluster}, select.limit={config.select.limit}: the first rows of each cluster are not the "
        "first rows of all: leave one of them out, or bound the rows before categories with curate.sample_size",
    )
    check(
        not config.curate.embeds or (config.makes_synthetic and not config.examples.labelled_alone),
        "curate: no instructions become pairs, so there is nothing to curate: leave it out",
    )
    judge = config.judge
    compares = judge.compares and not config.examples.labelled_alone
    check_panel(
        judge.panel,
        config.models.first_judge,
        judge.decoding.temperature,
        compares=judge.compares,
        judges=not config.examples.labelled_alone,
    )
    if config.select.disagreement:
        config.select.disagreement.check(
            sampling=judge.sampling,
            samples=judge.samples,
            keep=judge.keep,
            compares=compares,
            iterations=config.iterations,
            panel=bool(judge.panel),
        )
    check(
        judge.rescue is None or not config.examples.labelled_alone,
        "judge.rescue: examples.labelled_share=1 judges no pairs: leave it out, or choose a smaller share",
    )
    config.curate.check_noise(compares=compares, judges=config.iterations + config.has_second_judge)
    config.curate.check_balance(config.train.objective, config.judge.task, bool(config.examples.labelled))


def check_preferences(config: "Config") -> None:
    """Raises ConfigError if the sources of pairs do not fit the other settings."""
    examples, train = config.examples, config.train
    check(
        examples.human_share is None or not examples.labelled or examples.labelled_share is not None,
        f"examples.human_share={examples.human_share}: examples.labelled has no share, so that of human labels is not "
        "known: set examples.labelled_share",
    )
    mixed_sources(config.preferences, examples.human_share, examples.human_share_rule, examples.labelled_share)
    objective = "dpo" if train.preference.source == "warm_up" else train.objective
    check_mixing(examples.mixing, config.preferences, objective, bool(config.curate.balance))
    if not config.preferences:
        return
    check_sources(config.preferences, config.select.categories)
    check(
        not config.judge.grades,
        f"judge.task={config.judge.task}: with sources of pairs in `preferences`, a judge learns pairs alone: set "
        "judge.task=pairwise",
    )
    check(
        not config.examples.labelled_alone,
        "examples.labelled_share=1: no pair is made or judged; leave `preferences` out, or choose a smaller share",
    )
    check(
        config.makes_synthetic or config.select.limit is None,
        f"select.limit={config.select.limit}: counts synthetic pairs, and `preferences` has none: set limit of its sources",
    )
    for source in config.preferences:
        _check_answers(config, source)


def _check_answers(config: "Config", source: PairSource) -> None:
    """Answers to the questions of a source must differ, and judges and training must have room for them."""
    if not source.asks:
        return
    try:
        sampling = config.answer_sampling(source)
    except ConfigError as error:
        raise ConfigError(f"{source.key}.{error}") from None
    key = "pairs.answer" if source.temperature is None else source.key
    check(
        sampling.temperature > 0,
        f"{key}.temperature=0: {source.kind} needs different answers to a question: set a temperature above 0",
    )
    most = config.pairs.answer.max_tokens
    check(
        sampling.max_tokens <= most,
        f"{source.key}.max_tokens={sampling.max_tokens} tokens: judges and training have room for answers of "
        f"pairs.answer.max_tokens={most}: raise that, or lower this",
    )
