"""The verbs that say how far a judge can be trusted: calibrate, winrate."""

from typing import Annotated

import typer

from stj.cli.app import Model, UseConf, check_directory_of, results_file, show_on_stderr, verb
from stj.cli.words import split_settings
from stj.config_loader import load_use
from stj.text import show


@verb(
    "calibrate",
    "stj calibrate runs/mini/iteration_3/model labelled.jsonl --out calibration.json",
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Redo judgments that were made with other settings.")] = False,
) -> None:
    """Measures on labelled pairs how far a judge's confidence can be trusted.

    Judge, `stj judge` and `stj serve` take the file, and abstain where the risk is too high.
    """
    from stj.judging.calibrate import calibrate
    from stj.judging.calibration_file import calibration_text
    from stj.judging.judge_file import Panel

    files, overrides = split_settings(conf or [])
    config = load_use(files, [*overrides, f"model={model}"])
    check_directory_of(out)
    panel = Panel(file=file, models=(config.model,), prompts=(config.vote.prompt,), config=config)
    calibration = calibrate(panel, overwrite=overwrite)
    with results_file(out) as stream:
        stream.write(calibration_text(calibration))
    for item in calibration.summary():
        show(item)
    show_on_stderr(f"stj: wrote {out}")
