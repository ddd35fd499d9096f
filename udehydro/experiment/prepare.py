"""From a data source to what models and scores need: checked, complete, cut to the periods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from udehydro import data
from udehydro.config import Experiment
from udehydro.errors import ConfigError, DataError
from udehydro.experiment.source import complete
from udehydro.forcing import Forcing
from udehydro.settings import Period
from udehydro.training.recipes import Periods


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


def prepare(experiment: Experiment, dataset: xr.Dataset, forcings: Sequence[str]) -> Record:
    """Check the data, add day length or PET where the model needs them, and lay out the periods.

    Parameters
    ----------
    forcings : names the model reads.

    Raises
    ------
    ConfigError, DataError
        For data with errors, periods beyond the record, and basins without observations in a period.
    """
    report = data.check(dataset).raise_if_errors()
    dataset = complete(dataset, forcings)
    periods = Periods.of(experiment.train, experiment.test, experiment.valid)
    named = {"train": experiment.train, "valid": Period(*periods.valid), "test": experiment.test}
    _require_cover(dataset, named)
    last = np.datetime64(max(p.end for p in named.values())) + np.timedelta64(1, "D")
    dataset = dataset.isel(time=np.flatnonzero(dataset["time"].values < last))
    forcing = Forcing.from_dataset(dataset, list(forcings), device=torch.device(experiment.device))
    observed = observations(dataset, forcing, experiment.warmup_days)
    _require_observed(forcing, observed, named, experiment.warmup_days)
    warnings = tuple(str(f) for f in report.findings if f.severity == "warning")
    return Record(dataset, forcing, observed, periods, warnings)


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
