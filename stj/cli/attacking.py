"""The verb that attacks a judge."""

from functools import partial
from typing import Annotated

import typer

from stj.cli.app import AsJson, Model, Wide, print_json, show_on_stderr, verb
from stj.cli.words import split_settings
from stj.config_loader import load_eval
from stj.text import show

_ATTACKS = """\
Attacks, on the worse answer of each pair:
  padding, format, flattery, authority   text and markup that say nothing
  master_key, master_key_only            an opener such as "Thought process:"
                                         before it, or in its place
  verdict, control_tokens                a planted verdict for it, alone or in
                                         a forged turn of the chat
  truncated, empty                       its first part, or nothing
The order of the answers is "swap".
"""


@verb(
    "attack",
    "stj attack runs/mini/iteration_3/model pairs.jsonl",
    about=_ATTACKS,
    docs="evaluation",
)
def _attack(
    model: Model,
    pairs: Annotated[
        str,
        typer.Argument(
            metavar="PAIRS",
            help="Pairs with a better answer: instruction, and chosen and rejected, or response_a, response_b and winner. "
            "heldout.limit=N takes the first N.",
        ),
    ],
    words: Annotated[list[str] | None, typer.Argument(metavar="CONF.yaml", help="Config files, as for `stj eval`.")] = None,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Measures how many right verdicts of a judge each attack flips.

    The pairs are judged as they are and under every attack, in one pass through the judge's weights.
    """
    from stj.evals.benchmarks.evaluation import read_scores
    from stj.evals.benchmarks.refs import benchmark_refs
    from stj.evals.evaluate import evaluate

    files, settings = split_settings(words or [])
    config = load_eval(files, settings)
    cards = benchmark_refs([f"attacks:{pairs.removeprefix('pairs:')}"], config.heldout.fields)
    done = evaluate(model, cards, config, partial(show_on_stderr if as_json else show, wide=wide))
    if as_json:
        print_json(read_scores(done.folder))
    done.check()
