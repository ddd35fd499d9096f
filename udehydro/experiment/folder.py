"""The output folder: never overwritten by accident, resumed only with the settings and data it was begun with."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from urllib.parse import quote

import numpy as np
import xarray as xr

from udehydro.config import Experiment
from udehydro.errors import ConfigError
from udehydro.files import write_atomic, write_json_atomic

CONFIG, METRICS, SIMULATION, REPORT, RUN = "config.yaml", "metrics.json", "simulation.nc", "report.html", "run.json"
MODELS, FIGURES, CHECKPOINTS = "models", "figures", "checkpoints"
OURS = (CONFIG, METRICS, SIMULATION, REPORT, RUN, MODELS, FIGURES, CHECKPOINTS)


def open_folder(experiment: Experiment, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Make the output folder ready, and write ``config.yaml`` into it.

    Raises
    ------
    ConfigError
        Where there are results already and neither ``resume`` nor ``overwrite`` is asked for, or where the folder to
        resume was begun with other settings.
    """
    if resume and overwrite:
        raise ConfigError("--resume goes on with what is there, --overwrite removes it: give one of them.")
    out = Path(experiment.out)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is a file, not a folder. Choose another --out.")
    present = [name for name in OURS if (out / name).exists()]
    if present and not resume and not overwrite:
        raise ConfigError(
            f"{out}: holds results already ({', '.join(present)}). Add --resume to go on with that run, --overwrite to "
            "replace it, or choose another --out."
        )
    if overwrite:
        clear(out)
    if resume and (out / CONFIG).exists():
        _same_settings(experiment, out)
    write_atomic(out / CONFIG, experiment.to_yaml())
    return out


def clear(out: Path) -> None:
    """Remove what a run wrote, the settings last; anything else in the folder stays."""
    for name in sorted(OURS, key=lambda n: n == CONFIG):
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _same_settings(experiment: Experiment, out: Path) -> None:
    different = experiment.differences(Experiment.from_yaml(out / CONFIG))
    if different:
        raise ConfigError(
            f"{out}: cannot be resumed with other settings. Now and then: {'; '.join(different)}. Use the settings in "
            f"{out / CONFIG}, or choose another --out."
        )


def same_data(out: Path, dataset: xr.Dataset, *, resume: bool) -> str:
    """Digest of the data, compared on resuming with that of the data the run was begun with."""
    digest, path = fingerprint(dataset), out / CHECKPOINTS / "data.json"
    if resume and path.exists() and json.loads(path.read_text()).get("sha256") != digest:
        raise ConfigError(
            f"{out}: cannot be resumed, the data have changed since the run was begun. Start again with --overwrite."
        )
    write_json_atomic(path, {"sha256": digest})
    return digest


def fingerprint(dataset: xr.Dataset) -> str:
    """SHA-256 over dates, basins and values of all variables."""
    digest = hashlib.sha256()
    for name in ("time", "basin", *sorted(map(str, dataset.data_vars))):
        values = dataset[name].values
        digest.update(name.encode())
        digest.update(
            repr(values.tolist()).encode() if values.dtype == object else np.ascontiguousarray(values).tobytes()
        )
    return digest.hexdigest()


def safe_name(basin: str) -> str:
    """A basin id as the name of a file, different for different ids."""
    name = quote(basin, safe=" ")
    return f"%2E{name[1:]}" if name.startswith(".") else name or "_"


def model_folder(out: str | Path, variant: str, basin: str) -> Path:
    return Path(out) / MODELS / variant / safe_name(basin)
