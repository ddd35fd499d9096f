"""What came out of training: variants of a model, their scores, and the files that hold them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from udehydro import saved
from udehydro.balance import Balance
from udehydro.experiment.folder import model_folder
from udehydro.experiment.prepare import Record
from udehydro.forcing import Forcing
from udehydro.settings import Period
from udehydro.simulate import simulate
from udehydro.simulation import Simulation
from udehydro.solvers import Solver
from udehydro.training import kge, nse

if TYPE_CHECKING:
    from udehydro.discovery.recipe import Distilled

SCORES = {"nse": nse, "kge": kge}


@dataclass(frozen=True)
class Variant:
    """A model run over the record.

    Attributes
    ----------
    name : ``exphydro``, ``hybrid``, ...
    simulation : batch (basin, 1): every basin is a member of its own.
    seconds : spent on training, all basins together.
    chosen : per basin, what the validation period chose.
    history : rows of the training before and after the choice.
    distilled : formulas written from networks, per basin; the simulation is then by the model of all candidates.
    """

    name: str
    simulation: Simulation
    seconds: float = 0.0
    chosen: tuple[dict, ...] = ()
    history: tuple[dict, ...] = ()
    refit_history: tuple[dict, ...] = ()
    distilled: tuple[Distilled, ...] = ()

    @property
    def discharge(self) -> Tensor:
        """(T, basin), mm/d."""
        flow = self.simulation.discharge.detach()
        return flow.reshape(len(flow), -1)

    def parameters(self, basin: int) -> dict[str, float]:
        """Values of one basin, physical units."""
        if self.distilled:
            return self.distilled[basin].theta()
        return {n: float(_of_basin(v, basin)) for n, v in self.simulation.theta.items()}

    def storage0(self, basin: int) -> dict[str, float]:
        """Initial storages of one basin, mm."""
        return {n: float(self.simulation.store(n)[0].flatten()[basin]) for n in self.simulation.model.store_names}

    def model(self, basin: int) -> Balance:
        """The model of one basin; with networks, that of all basins, whose member it is."""
        return self.distilled[basin].model if self.distilled else self.simulation.model

    def balance_error(self, basin: int) -> float:
        """Largest |error| of any store and interval, mm."""
        return float(self.simulation.max_balance_error().flatten()[basin])

    def closes(self, basin: int) -> bool:
        """Whether the balance closes to round-off."""
        return self.balance_error(basin) <= float(self.simulation.balance_tolerance().flatten()[basin])


def _of_basin(value: Tensor, basin: int) -> Tensor:
    flat = value.detach().flatten()
    return flat[basin] if len(flat) > 1 else flat[0]


def scores(simulated: Tensor, observed: Tensor, forcing: Forcing, period: Period) -> list[dict[str, float]]:
    """NSE and KGE of every basin in a period; series (T, basin) in mm/d from one continuous run."""
    part = forcing.between(*period)
    columns = {n: score(simulated[part], observed[part]).tolist() for n, score in SCORES.items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def metrics(record: Record, variants: list[Variant]) -> dict:
    """The content of ``metrics.json``; ``train`` is all of the training period, validation included."""
    p = record.periods
    periods = {"train": Period(*p.train), "valid": Period(*p.valid), "test": Period(*p.test)}
    basins: dict[str, dict] = {b: {} for b in record.basins}
    for v in variants:
        found = {n: scores(v.discharge, record.observed, record.forcing, period) for n, period in periods.items()}
        for i, basin in enumerate(record.basins):
            basins[basin][v.name] = {
                **{n: rows[i] for n, rows in found.items()},
                "balance_error_mm": v.balance_error(i),
                "seconds": v.seconds,
                "parameters": v.parameters(i),
            }
    return {"schema": 1, "basins": basins}


def complaints(record: Record, variants: list[Variant], found: dict) -> list[str]:
    """What makes a result a bad one: scores that are not finite, a balance that does not close."""
    said = []
    for basin, by_variant in found["basins"].items():
        for name, values in by_variant.items():
            bad = [f"{p} {s}" for p in ("train", "valid", "test") for s, x in values[p].items() if not math.isfinite(x)]
            if bad:
                said.append(f"basin {basin}, {name}: {', '.join(bad)} not finite (do the observations vary there?)")
    for v in variants:
        for i, basin in enumerate(record.basins):
            if not v.closes(i):
                said.append(f"basin {basin}, {v.name}: the water balance is open by {v.balance_error(i):.1e} mm")
    return said


def save_models(out: Path, record: Record, variants: list[Variant]) -> None:
    """Every variant and basin as a folder ``models/<variant>/<basin>``."""
    for v in variants:
        for i, basin in enumerate(record.basins):
            about = {"variant": v.name, "basin": basin, "scheme": v.simulation.report.scheme}
            about["record_start"] = str(record.forcing.time[0].astype("datetime64[D]"))
            folder = model_folder(out, v.name, basin)
            saved.save(folder, v.model(i), v.parameters(i), storage0=v.storage0(i), member=i, **about)


def to_dataset(record: Record, variants: list[Variant]) -> xr.Dataset:
    """All simulations in one Dataset (variant, time, basin), with observations and forcing; CF units.

    A flux that a variant lacks (two fluxes merged into one learned flux) is NaN there.
    """
    parts = {v.name: by_basin(v.simulation, record.basins) for v in variants}
    first = next(iter(parts.values()))
    out = xr.Dataset(coords=first.coords, attrs={"Conventions": "CF-1.11", "title": "udehydro simulations"})
    out = out.assign_coords(variant=("variant", np.array(list(parts), dtype=object)))
    for name in dict.fromkeys(n for p in parts.values() for n in p.data_vars if n != "time_bounds"):
        like = next(p[name] for p in parts.values() if name in p)
        rows = [p[name].values if name in p else np.full(like.shape, np.nan) for p in parts.values()]
        out[name] = (("variant", *like.dims), np.stack(rows), like.attrs)
    out["time_bounds"] = first["time_bounds"]
    observed = {"units": "mm/d", "long_name": "observed discharge, NaN where missing and in the warm-up"}
    out["observed"] = (("time", "basin"), record.observed.cpu().numpy(), observed)
    for name, values in record.forcing.values.items():
        out[name] = (("time", "basin"), values.cpu().numpy(), {"units": record.forcing.units[name]})
    return out


def by_basin(simulation: Simulation, basins: tuple[str, ...]) -> xr.Dataset:
    """The Dataset of a run, with the members (basin, 1) as basins."""
    found = simulation.to_xarray()
    if "member" in found.dims:
        found = found.isel(basin=0, drop=True).rename(member="basin")
    attrs = {"cf_role": "timeseries_id"}
    found = found.assign_coords(basin=("basin", np.array(basins, dtype=object), attrs))
    for name in ("time", "time_edge", "time_bounds"):  # CF wants the bounds in the units of what they bound
        found[name].encoding |= {"units": "minutes since 1970-01-01", "dtype": "int64"}
    return found


def run_saved(model: saved.Saved, forcing: Forcing, solver: Solver) -> Simulation:
    """Run a saved model over a record with batch (basin,).

    It starts from its own initial storages where the record begins on their day, else from the first year repeated.
    """
    first = str(forcing.time[0].astype("datetime64[D]"))
    start = model.storage0 if model.about.get("record_start", first) == first else None
    with torch.no_grad():
        balance = model.model.to(forcing.like.device)
        return simulate(balance, forcing, theta=model.theta, storage0=start, solver=solver)
