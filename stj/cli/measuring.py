"""The verbs that measure a judge: eval, score, compare."""

from functools import partial
from typing import Annotated, Literal

import typer

from stj.cli.app import (
    AsJson,
    Model,
    Wide,
    print_json,
    show_on_stderr,
    verb,
    whole_number,
)
from stj.cli.help import BENCHMARKS_HELP, RECORDED_HELP
from stj.cli.words import is_setting
from stj.config_loader import load_eval
from stj.errors import ConfigError
from stj.package_files import names_conf
from stj.text import show


@verb(
    "eval",
    "stj eval runs/mini/iteration_3/model pairs:mine.jsonl",
    "stj eval MODEL headline conf/small.yaml votes=32",
    about=BENCHMARKS_HELP,
    docs="evaluation",
)
def _eval(
    model: Model,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="BENCHMARK|CONF.yaml",
            help="Benchmarks, listed below, and config files. votes=32 takes majorities; prompt=FILE asks in other words.",
        ),
    ],
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Measures a judge on benchmarks, in both orders.

    All benchmarks are judged in one pass through the judge's weights.
    """
    from stj.evals.benchmarks.evaluation import read_scores
    from stj.evals.benchmarks.refs import benchmark_refs, is_benchmark_ref
    from stj.evals.evaluate import evaluate

    benchmarks = [word for word in words if is_benchmark_ref(word)]
    settings = [word for word in words if not is_benchmark_ref(word)]
    files = [word for word in settings if not is_setting(word) and names_conf(word)]
    unknown = [word for word in settings if not is_setting(word) and word not in files]
    config = load_eval(files, [word for word in settings if is_setting(word)])
    wanted = benchmark_refs([*unknown, *benchmarks], config.heldout.fields, config.heldout.ties)
    if not wanted:
        raise ConfigError("no benchmark given; `stj eval --help` lists them")
    done = evaluate(model, wanted, config, partial(show_on_stderr if as_json else show, wide=wide))
    if as_json:
        print_json(read_scores(done.folder))
    done.check()


@verb(
    "score",
    "stj score judged.jsonl --benchmark judgebench --parser paper",
    "stj score graded.jsonl --benchmark grades",
    about=f"{BENCHMARKS_HELP}\n{RECORDED_HELP}",
    docs="evaluation",
)
def _score(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="Rows of recorded judgments; for rewardbench also one object {subset: accuracy}."),
    ],
    benchmark: Annotated[
        str,
        typer.Option(metavar="NAME", help="A benchmark, listed below; mtbench:VOTES scores against the human votes in a file."),
    ],
    parser: Annotated[
        Literal["strict", "distinct", "paper"] | None,
        typer.Option(
            metavar="strict|distinct|paper",
            help="How verdicts are read: only at the end, the one distinct verdict anywhere, or by the official rule; "
            "all three if none is given.",
        ),
    ] = None,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="The format of the judgments, such as arena or judgelm. By default it is the benchmark's own, or the only "
            "other one that fits all judgments.",
        ),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="LOW-HIGH",
            help="For grades: the scale of rows that name none, such as 1-5. By default it is the first usual one that holds "
            "all labels.",
        ),
    ] = None,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Scores judgments that are recorded already; needs no model."""
    from stj.evals.benchmarks.refs import benchmark_ref
    from stj.evals.score import score_file

    record, tables = score_file(file, benchmark_ref(benchmark), parser, format_name, scale)
    if as_json:
        print_json(record)
        return
    for item in tables:
        show(item, wide=wide)


@verb(
    "compare",
    "stj compare runs/a runs/b",
    "stj compare runs/run/evals/A runs/run/evals/B",
    "stj compare results_A.jsonl results_B.jsonl",
    docs="evaluation",
)
def _compare(
    run_a: Annotated[
        str,
        typer.Argument(
            metavar="RUN_A",
            help="The directory of a run, or the one that `stj eval` wrote for one judge, or a file of results of `stj judge`.",
        ),
    ],
    run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="Another one of the same kind, on the same examples.")],
    rows: Annotated[
        int, typer.Option(metavar="N", parser=whole_number, help="How many of the rows that changed to list, of each kind.")
    ] = 5,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Compares two judges by example, or two whole runs.

    Shows the difference with a 95% interval, McNemar's exact p, and the rows that changed; of runs also the settings that
    differ, and each iteration.
    """
    from stj.evals.compare import changes_lines, compare_evaluations, comparisons_json, comparisons_table
    from stj.loop.compare_runs import are_runs, compare_runs

    if are_runs(run_a, run_b):
        compared = compare_runs(run_a, run_b)
        if as_json:
            print_json(compared.plain())
            return
        for item in compared.shown(rows):
            show(item, wide=wide)
        return
    comparisons = compare_evaluations(run_a, run_b)
    if as_json:
        print_json(comparisons_json(comparisons))
    else:
        show(comparisons_table(comparisons), wide=wide)
        for line in changes_lines(comparisons, rows):
            show(line)
