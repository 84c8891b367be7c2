"""The verbs that say how far a judge can be trusted: calibrate, winrate."""

from dataclasses import asdict
from itertools import chain
from typing import Annotated

import typer

from stj.cli.app import (
    AsJson,
    Model,
    RedoJudgments,
    UseConf,
    check_directory_of,
    check_not_read,
    print_json,
    results_file,
    show_on_stderr,
    verb,
)
from stj.cli.words import split_settings
from stj.config_loader import load_use
from stj.text import show


@verb(
    "calibrate",
    "stj calibrate runs/mini/iteration_3/model labelled.jsonl --out judge.json",
    "stj calibrate MODEL labelled.jsonl vote.votes=8 --out calibration.json",
    docs="trust",
)
def _calibrate(
    model: Model,
    file: Annotated[
        str,
        typer.Argument(metavar="PAIRS", help="Labelled pairs, as `stj judge` reads them; pairs without a label do not count."),
    ],
    conf: UseConf = None,
    out: Annotated[str, typer.Option(metavar="FILE", help="Write the calibration to this file.")] = "calibration.json",
    overwrite: RedoJudgments = False,
) -> None:
    """Measures a judge's confidence on labelled pairs.

    Judge, `stj judge` and `stj serve` take the file, and abstain if the risk is too high.
    """
    from stj.judging.calibrate import calibrate
    from stj.judging.calibration_file import calibration_text
    from stj.judging.judge_file import Panel, unread_votes

    files, overrides = split_settings(conf or [])
    config = load_use(files, [*overrides, f"model={model}"])
    check_directory_of(out)
    check_not_read(out, file)
    panel = Panel(file=file, models=(config.model,), prompts=(config.vote.prompt,), config=config)
    calibration = calibrate(panel, overwrite=overwrite)
    with results_file(out) as stream:
        stream.write(calibration_text(calibration))
    for item in calibration.summary():
        show(item)
    for item in chain([f"stj: wrote {out}"], unread_votes(panel)):
        show_on_stderr(item)


@verb(
    "winrate",
    "stj winrate results.jsonl",
    "stj winrate results.jsonl --calibration calibration.json",
    docs="trust",
)
def _winrate(
    results: Annotated[
        str,
        typer.Argument(
            metavar="RESULTS", help="What `stj judge` wrote for pairs whose response_a is A's and response_b is B's."
        ),
    ],
    calibration: Annotated[
        str | None,
        typer.Option("--calibration", metavar="FILE", help="What `stj calibrate` wrote for this judge: corrects its errors."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Reports how often system A beats system B.

    A tie counts half. With a calibration, the rate and its interval are corrected for the judge's errors.
    """
    from stj.judging.calibration_file import read_calibration
    from stj.judging.winrate import read_verdicts, win_rate

    calibrated = read_calibration(calibration) if calibration else None
    rate = win_rate(read_verdicts(results, calibrated), calibrated)
    if as_json:
        print_json(asdict(rate))
        return
    for line in rate.lines():
        show(line)
