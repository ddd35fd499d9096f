"""``udehydro demo``."""

from __future__ import annotations

from pathlib import Path

import typer

from udehydro.cli import options as o
from udehydro.cli.fit import finish
from udehydro.config import DEMO, Experiment
from udehydro.errors import ConfigError
from udehydro.experiment.folder import CONFIG, METRICS

SETTINGS = {
    "data": DEMO,
    "basins": "fulda",
    "model": "exphydro",
    "neural": "et,discharge",
    "discover": "et,discharge",
    "keep": 3,  # with all candidates, profiles and verdicts it would take twice as long
    "sure": False,
    "train": "1980-01-01/1985-12-31",
    "test": "1986-01-01/1988-12-31",
    "starts": 5,
    "steps": 60,
    "refit_steps": 30,
    "neural_steps": 120,
}


def command(
    out: str = typer.Option("out/demo", "--out", metavar="DIR", help="Folder for everything that is written."),
    seed: int = typer.Option(0, "--seed", help="Draws starts and initial weights."),
    device: str = o.DEVICE,
    quiet: bool = o.QUIET,
) -> None:
    """The Fulda, Germany: calibrate EXP-HYDRO, train networks for two of its fluxes, compare on unseen years.

    Takes a few minutes on two cores. The data (1979-1988, from the package spotpy) state neither basin area nor
    latitude; the report says what was assumed. An interrupted demo goes on where it was, a finished one starts anew.
    """
    from udehydro.experiment import run

    given = {**SETTINGS, "out": out, "seed": seed, "device": device}
    experiment = Experiment.from_flags(**given)
    finished = (Path(out) / METRICS).exists()
    if finished and Experiment.from_yaml(Path(out) / CONFIG).data != DEMO:
        raise ConfigError(f"{out}: holds the results of something else than the demo. Choose another --out.")
    try:
        found = run(experiment, resume=not finished, overwrite=finished, progress=not quiet)
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from here.")
        raise typer.Exit(130) from None
    finish(found, out)
