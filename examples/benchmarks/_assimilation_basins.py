"""The basins of the assimilation benchmark: their records, and the bucket M0 calibrated for each, kept in a cache."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from _report import camels
from bucket_and_hybrids import M0_REFIT, M0_STARTS, M0_STEPS, TRAIN, VALID, cache, chosen_basins
from torch import Tensor

from udehydro import Balance, Forcing, Simulation, simulate
from udehydro.data import read
from udehydro.files import write_json_atomic
from udehydro.models import exphydro_mended
from udehydro.training.recipes import INITIAL, Periods, calibrate

MODEL = Balance(exphydro_mended)


@dataclass(frozen=True)
class Basins:
    """Records of all basins side by side, and their open loops.

    ``observed`` (T, B) mm/d. ``before``: parameters fitted before the validation years, ``refitted``: on all training
    years; each name -> (B,), with initial storages under the names of the stores.
    """

    forcing: Forcing
    observed: Tensor
    before: dict[str, Tensor]
    refitted: dict[str, Tensor]

    def take(self, index: list[int]) -> Basins:
        """Some of the basins."""
        values = {n: v[:, index] for n, v in self.forcing.values.items()}
        names = tuple(self.forcing.basins[i] for i in index)
        parameters = ({n: v[index] for n, v in p.items()} for p in (self.before, self.refitted))
        return Basins(replace(self.forcing, values=values, basins=names), self.observed[:, index], *parameters)

    def theta(self, which: str) -> dict[str, Tensor]:
        return {n: v for n, v in getattr(self, which).items() if n in MODEL.parameter_names}

    def open_loop(self, which: str, until: str) -> Simulation:
        """One continuous run from the start of the record to a date."""
        record = self.forcing.isel(slice(0, self.forcing.between(until, until).stop))
        start = {n: getattr(self, which)[n] for n in MODEL.store_names}
        with torch.no_grad():
            return simulate(MODEL, record, theta=self.theta(which), storage0=start)


def basins() -> Basins:
    """All chosen basins; calibrated on the first call, from the cache afterwards."""
    names = chosen_basins()
    dataset = read(camels(), names)
    forcing = Forcing.from_dataset(dataset, ["prcp", "temp", "dayl"])
    observed = torch.as_tensor(dataset.discharge.transpose("time", "basin").values)
    kept = _file()
    if not kept.exists():
        write_json_atomic(kept, _calibrated(forcing, observed))
    found = json.loads(kept.read_text())
    if found["basins"] != names:
        raise SystemExit(f"{kept} is for other basins: remove it.")
    values = ({n: torch.tensor(v, dtype=torch.float64) for n, v in found[w].items()} for w in ("before", "refitted"))
    return Basins(forcing, observed, *values)


def _file() -> Path:
    return cache().with_name("assimilation_basins.json")


def _calibrated(forcing: Forcing, observed: Tensor) -> dict:
    """M0 of every basin as in bucket_and_hybrids.py, all at once."""
    known = forcing.between(*TRAIN).stop
    found = calibrate(
        exphydro_mended, forcing.isel(slice(0, known)), observed[:known], Periods.of(TRAIN, valid=VALID),
        starts=M0_STARTS, steps=M0_STEPS, refit_steps=M0_REFIT, initial=dict.fromkeys(MODEL.store_names, INITIAL),
    )  # fmt: skip
    kept = {"basins": list(found.basins)}
    for name, parameters in (("before", found.before_refit), ("refitted", found.parameters)):
        start = parameters.storage0(MODEL.store_names)[:, 0].unbind(-1)
        values = {n: v[:, 0] for n, v in parameters().items()} | dict(zip(MODEL.store_names, start, strict=True))
        kept[name] = {n: v.detach().tolist() for n, v in values.items()}
    return kept
