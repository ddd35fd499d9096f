"""run: from an experiment to a folder of results."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import xarray as xr

import udehydro
from udehydro.balance import Balance
from udehydro.config import LOSSES, STRUCTURES, Experiment
from udehydro.errors import ConfigError
from udehydro.experiment import folder as files
from udehydro.experiment.pictures import Drawn, draw
from udehydro.experiment.prepare import Record, prepare
from udehydro.experiment.results import Variant, complaints, metrics, save_models, to_dataset
from udehydro.experiment.source import Source
from udehydro.experiment.story import tell
from udehydro.files import write_atomic, write_json_atomic, write_netcdf_atomic
from udehydro.training.recipes import Trained, calibrate, default_laws, hybridise

if TYPE_CHECKING:
    from udehydro.discovery import Library

HYBRID, FORMULA = "hybrid", "formula"


def say(text: str) -> None:
    """A line of progress, on the error stream: the standard one is for results."""
    print(text, file=sys.stderr, flush=True)


def run(
    experiment: Experiment,
    dataset: xr.Dataset | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> dict:
    """Calibrate, train, simulate, score, and write everything to ``experiment.out``.

    Parameters
    ----------
    dataset : instead of reading ``experiment.data``.
    resume : go on with a run that was interrupted; ``overwrite`` replaces one.
    progress : lines and bars on the error stream.

    Returns
    -------
    dict
        The content of ``metrics.json``, with what speaks against the result under ``complaints``.

    Raises
    ------
    ConfigError, DataError, StructureError
        For input that cannot be used.
    SolverError
        Where a simulation cannot be trusted.
    """
    tell_user = say if progress else _silent
    _check_device(experiment.device)
    experiment = experiment.located()
    tell_user(f"[1/5] Reading and checking {experiment.data}")
    dataset = dataset if dataset is not None else Source.of(experiment).read()
    model = Balance(STRUCTURES[experiment.model])
    record = prepare(experiment, dataset, model.forcing_names)
    libraries = _checked(experiment)
    out = files.open_folder(experiment, resume=resume, overwrite=overwrite)
    digest = files.same_data(out, record.dataset, resume=resume)
    started = time.perf_counter()
    variants = train(experiment, record, libraries, out, resume=resume, progress=progress, tell_user=tell_user)
    tell_user(f"[4/5] Scoring {', '.join(v.name for v in variants)} and writing the models")
    found = metrics(record, variants)
    save_models(out, record, variants)
    write_netcdf_atomic(to_dataset(record, variants), out / files.SIMULATION)
    tell_user("[5/5] Drawing figures and writing the report")
    pictures = _write_pictures(out, experiment, record, variants)
    tell(out / files.REPORT, experiment, record, variants, found, pictures)
    write_json_atomic(out / files.RUN, _about(digest, time.perf_counter() - started, variants))
    write_json_atomic(out / files.METRICS, found)
    return {**found, "complaints": complaints(record, variants, found)}


def train(
    experiment: Experiment,
    record: Record,
    libraries: Mapping[str, Library],
    out: Path,
    *,
    resume: bool,
    progress: bool,
    tell_user: Callable,
) -> list[Variant]:
    """The calibrated formula and, where fluxes are to be learned, the hybrid started from it."""
    e, folder = experiment, out / files.CHECKPOINTS
    common = {"loss": LOSSES[e.loss], "solver": e.make_solver(), "warmup_days": e.warmup_days, "seed": e.seed}
    common |= {"resume": resume, "progress": progress}
    tell_user(f"[2/5] Calibrating {e.model}: {len(record.basins)} basin(s), {e.starts} starts each")
    common["checkpoint"] = folder / e.model
    budget = {"starts": e.starts, "steps": e.steps, "refit_steps": e.refit_steps}
    given = (record.forcing, record.observed, record.periods)
    formula = calibrate(STRUCTURES[e.model], *given, **budget, **common)
    variants = [_variant(e.model, formula, record, e)]
    if not e.neural:
        tell_user("[3/5] No networks asked for (--neural)")
        return variants
    tell_user(f"[3/5] Training networks for {', '.join(e.neural)}: {e.seeds} per basin, started from {e.model}")
    common["checkpoint"] = folder / HYBRID
    budget = {"seeds": e.seeds, "steps": e.neural_steps, "learning_rate": e.learning_rate, "penalty": e.penalty}
    hybrid = hybridise(formula, list(e.neural), *given, **budget, **common)
    variants.append(_variant(HYBRID, hybrid, record, e))
    if e.discover:
        tell_user(f"[3/5] Writing the networks of {', '.join(e.discover)} as formulas")
        variants.append(_distilled(formula, hybrid, libraries, record, e, folder / FORMULA, resume, progress))
    return variants


def _checked(e: Experiment) -> dict[str, Library]:
    """Candidate terms of the laws to be written; errors of what is to be learned come before anything is trained."""
    structure = STRUCTURES[e.model]
    Balance(structure, **default_laws(structure, e.neural, None, e.seed))
    if not e.discover:
        return {}
    from udehydro.discovery import usual  # needs sympy, which other runs do not
    from udehydro.discovery.library import from_plain

    own = e.libraries or {}
    return {n: from_plain(structure, n, own[n]) if n in own else usual(structure, n) for n in e.discover}


def _distilled(
    formula, hybrid, libraries, record: Record, e: Experiment, folder: Path, resume: bool, progress: bool
) -> Variant:
    """Formulas of the learned laws, put back; the other networks give way to the calibrated formulas."""
    from udehydro.discovery import distil

    found = distil(
        formula, hybrid, libraries, record.forcing, record.observed, record.periods, solver=e.make_solver(),
        warmup_days=e.warmup_days, checkpoint=folder, resume=resume, progress=progress, keep=e.keep, sure=e.sure,
    )  # fmt: skip
    simulation = found.simulate(record.forcing, e.make_solver())
    return Variant(FORMULA, simulation, found.seconds, distilled=found.basins)


def _variant(name: str, trained: Trained, record: Record, experiment: Experiment) -> Variant:
    simulation = trained.simulate(record.forcing, experiment.make_solver())
    return Variant(
        name, simulation, trained.seconds, tuple(trained.chosen), tuple(trained.history), tuple(trained.refit_history)
    )


def _write_pictures(out: Path, experiment: Experiment, record: Record, variants: list[Variant]) -> list[Drawn]:
    drawn = []
    for picture in draw(record, variants, experiment.neural):
        write_atomic(out / files.FIGURES / f"{picture.name}.png", picture.png)
        drawn.append(picture)
    return drawn


def _about(digest: str, seconds: float, variants: list[Variant]) -> dict:
    """What is true of this very run: versions, command, data, time."""
    versions = {"udehydro": udehydro.__version__, "torch": torch.__version__, "python": platform.python_version()}
    chosen = {v.name: list(v.chosen) for v in variants}
    return {
        "versions": versions,
        "arguments": sys.argv[1:],
        "data_sha256": digest,
        "seconds": seconds,
        "chosen": chosen,
    }


def _check_device(name: str) -> None:
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device: '{name}' cannot be used here ({reason}). Use --device cpu.") from None


def _silent(text: str) -> None:
    """Say nothing."""
