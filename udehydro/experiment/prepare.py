"""From a data source to what models and scores need: checked, complete, cut to the periods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from udehydro import data
from udehydro.config import DEMO, Experiment
from udehydro.errors import ConfigError, DataError
from udehydro.forcing import Forcing
from udehydro.settings import Period
from udehydro.training.recipes import Periods

_READER_OPTIONS = ("area", "lat", "columns", "units", "dayfirst")


@dataclass(frozen=True)
class Record:
    """What an experiment works on.

    Attributes
    ----------
    dataset : with notes on every treatment.
    forcing : (T, basin), from the start of the record to the end of the last period.
    observed : (T, basin) discharge [mm/d], NaN where missing and in the warm-up.
    periods : inclusive dates of training, validation and test.
    findings : warnings of the data check.
    """

    dataset: xr.Dataset
    forcing: Forcing
    observed: Tensor
    periods: Periods
    findings: tuple[str, ...] = ()

    @property
    def named_periods(self) -> dict[str, Period]:
        """``train`` (without validation), ``valid``, ``test``: what is scored and shaded."""
        p = self.periods
        return {n: Period(*d) for n, d in (("train", p.fit_on), ("valid", p.valid), ("test", p.test)) if d}

    @property
    def basins(self) -> tuple[str, ...]:
        return self.forcing.basins


def read_dataset(experiment: Experiment) -> xr.Dataset:
    """Read the data an experiment names, and fill the gaps it allows to fill."""
    e = experiment
    if e.data == DEMO:
        if e.basins not in ((), ("all",), ("fulda",)):
            raise ConfigError(f"basins: '{', '.join(e.basins)}' is not in {DEMO}, which has the basin 'fulda' only.")
        return data.fulda()
    options = {n: getattr(e, n) for n in _READER_OPTIONS if getattr(e, n) is not None}
    if e.fill_gaps:
        options["gaps"] = "keep"
    basins = "all" if e.basins == ("all",) else list(e.basins) or None
    try:
        dataset = data.read(e.data, basins, **options)
    except TypeError as error:  # a reader of a fixed layout has nothing to be told
        if "unexpected keyword" not in str(error):
            raise
        raise ConfigError(f"{e.data}: data of this layout take no such setting ({error}). Leave it out.") from None
    return data.fill_gaps(dataset, max_steps=e.fill_gaps) if e.fill_gaps else dataset


def prepare(experiment: Experiment, dataset: xr.Dataset, forcings: Sequence[str], *, scored: bool = True) -> Record:
    """Check the data, add day length or PET where the model needs them, and lay out the periods.

    Parameters
    ----------
    forcings : names the model reads.
    scored : whether observations are needed.
    """
    report = data.check(dataset).raise_if_errors()
    dataset = complete(dataset, forcings)
    periods = Periods.of(experiment.train, experiment.test, experiment.valid)
    named = {"train": experiment.train, "valid": Period(*periods.valid), "test": experiment.test}
    if scored:
        _require_cover(dataset, named)
        last = np.datetime64(max(p.end for p in named.values())) + np.timedelta64(1, "D")
        dataset = dataset.isel(time=np.flatnonzero(dataset["time"].values < last))
    forcing = Forcing.from_dataset(dataset, list(forcings), device=torch.device(experiment.device))
    observed = observations(dataset, forcing, experiment.warmup_days)
    if scored:
        _require_observed(forcing, observed, named, experiment.warmup_days)
    warnings = tuple(f"{f.kind}: {f.message}" for f in report.findings if f.severity == "warning")
    return Record(dataset, forcing, observed, periods, warnings)


def complete(dataset: xr.Dataset, forcings: Sequence[str]) -> xr.Dataset:
    """Add ``dayl`` and ``pet`` where they are needed and missing; cut the ends that some basin does not cover."""
    if "dayl" in forcings and "dayl" not in dataset:
        dataset = data.add_day_length(dataset)
    if "pet" in forcings and "pet" not in dataset:
        dataset = data.add_pet(dataset)
    there = [n for n in forcings if n in dataset]
    full = np.ones(dataset.sizes["time"], dtype=bool)
    for name in there:
        full &= np.isfinite(dataset[name].transpose("time", "basin").values).all(axis=1)
    if not full.any() or full.all():
        return dataset
    kept = slice(int(full.argmax()), len(full) - int(full[::-1].argmax()))
    cut = len(full) - (kept.stop - kept.start)
    dataset = dataset.isel(time=kept)
    said = [f"record cut by {cut} step(s) at its ends, where {', '.join(there)} are not complete for all basins"]
    return data.with_notes(dataset, said) if cut else dataset


def observations(dataset: xr.Dataset, forcing: Forcing, warmup_days: int) -> Tensor:
    """Discharge (T, basin) in mm/d with the first days, and everything missing, as NaN."""
    like = forcing.like
    if "discharge" not in dataset:
        return torch.full_like(like, torch.nan)
    values = np.ascontiguousarray(dataset["discharge"].transpose("time", "basin").values)
    observed = torch.as_tensor(values, dtype=like.dtype, device=like.device).clone()
    warm = forcing.time < forcing.time[0] + np.timedelta64(warmup_days, "D")
    observed[torch.as_tensor(warm, device=like.device)] = torch.nan
    return observed


def _require_cover(dataset: xr.Dataset, periods: dict[str, Period]) -> None:
    if "discharge" not in dataset:
        raise DataError(
            f"{dataset.attrs.get('source', 'data')}: no discharge, so there is nothing to fit to or to score. Name its "
            f"column (columns: {{discharge: ...}}). Found: {', '.join(map(str, dataset.data_vars))}."
        )
    first, last = (str(dataset["time"].values[i].astype("datetime64[D]")) for i in (0, -1))
    for name, period in periods.items():
        if period.start < first or period.end > last:
            raise ConfigError(f"{name} ({period}) reaches beyond the record, which runs from {first} to {last}.")


def _require_observed(forcing: Forcing, observed: Tensor, periods: dict[str, Period], warmup: int) -> None:
    for name, period in periods.items():
        part = observed[forcing.between(*period)]
        empty = [b for b, some in zip(forcing.basins, part.isfinite().sum(0) > 1, strict=True) if not some]
        if empty:
            raise DataError(
                f"{name} ({period}): basin {', '.join(empty[:5])} has no observed discharge there, once the first "
                f"{warmup} days of the record are left out as warm-up. Choose other dates or leave the basin out."
            )
