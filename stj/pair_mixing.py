"""How sources of training pairs are mixed: `examples.mixing`, `examples.human_share` and what happens if there is less."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from stj.errors import ConfigError
from stj.pair_sources import PairSource, human_share
from stj.setting_checks import check

Mixing = Literal["down", "up"]
HumanShareRule = Literal["refuse", "top_up"]

_NEAR = 1e-9  # The sum of 0.1, 0.2 and 0.3 is not 0.6.


def mixed_sources(
    sources: Sequence[PairSource], wanted: float | None, rule: HumanShareRule, labelled_share: float | None
) -> list[PairSource]:
    """The sources with the weights that they are mixed by, so that the share `wanted` of all examples rests on human labels.

    If their own weights give less, `top_up` multiplies the weights of the sources with human labels by one number, the least
    that is enough. `labelled_share` of the examples are no pairs, and do not count as labelled by humans.

    Raises ConfigError if the weights give less and `rule` is `refuse`, or if no weights are enough.
    """
    pairs = 1 - (labelled_share or 0)
    by_humans = human_share(sources)
    if wanted is None or pairs * by_humans >= wanted - _NEAR:
        return list(sources)
    setting = f"examples.human_share={wanted}: by the weights of `preferences`, {pairs * by_humans:.3g} of the examples rest"
    if rule == "refuse" or not by_humans:
        topping_up = "set examples.human_share_rule=top_up, or " if by_humans and wanted < pairs else ""
        raise ConfigError(
            f"{setting} on human labels: {topping_up}raise the weights of sources that humans labelled (helpsteer2, "
            "hh_rlhf, or pairs with human: true)"
        )
    if wanted >= pairs - _NEAR:
        raise ConfigError(f"{setting} on human labels, and no weights give so many: leave out what humans did not label")
    of_pairs = wanted / pairs
    factor = of_pairs * (1 - by_humans) / ((1 - of_pairs) * by_humans)
    return [replace(source, weight=source.weight * factor) if source.labelled_by == "human" else source for source in sources]


def raised_words(source: PairSource, mixed: Sequence[PairSource]) -> str:
    """That the weight of a source was raised; empty if it was not."""
    weight = next(other.weight for other in mixed if other.title == source.title)
    return "" if weight == source.weight else f"; examples.human_share raises its weight from {source.weight:g} to {weight:.3g}"


def check_mixing(mixing: Mixing, sources: Sequence[PairSource], objective: str, balanced: bool) -> None:
    """Raises ConfigError if examples are to be repeated where that would do nothing, or undo another setting."""
    if mixing == "down":
        return
    where = "examples.mixing=up"
    check(
        len(sources) > 1, f"{where}: nothing is mixed, so nothing would be repeated: name two or more sources in `preferences`"
    )
    check(
        objective != "sft_then_dpo",
        f"{where}: train.objective=sft_then_dpo learns twice from the same examples, which need other repeats each time: set "
        "examples.mixing=down, another objective, or train.preference.source=warm_up",
    )
    check(
        not balanced,
        f"{where}: repeats would bring back the clues that curate.balance takes out: leave one of them out",
    )
