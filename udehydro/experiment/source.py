"""Where data come from and how they are read, from flags or an experiment file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from udehydro import data
from udehydro.config import DEMO, Experiment
from udehydro.errors import ConfigError

_OPTIONS = ("area", "lat", "columns", "units", "dayfirst")


@dataclass(frozen=True)
class Source:
    """What `udehydro.data.read` is told; see `Experiment` for the meaning of each."""

    data: str
    basins: tuple[str, ...] = ()
    area: float | None = None
    lat: float | None = None
    columns: Mapping[str, str] | None = None
    units: Mapping[str, str] | None = None
    dayfirst: bool | None = None
    fill_gaps: int = 0

    @classmethod
    def of(cls, experiment: Experiment) -> Source:
        return cls(**{n: getattr(experiment, n) for n in cls.__dataclass_fields__})

    def read(self, *, gaps: str = "error") -> xr.Dataset:
        """The dataset, with the gaps filled that may be filled.

        Parameters
        ----------
        gaps : ``"keep"`` reads holes in the time axis as they are, to report on them.
        """
        if self.data == DEMO:
            if self.basins not in ((), ("all",), ("fulda",)):
                names = ", ".join(self.basins)
                raise ConfigError(f"basins: '{names}' is not in {DEMO}, which has the basin 'fulda' only.")
            return data.fulda()
        options = {n: getattr(self, n) for n in _OPTIONS if getattr(self, n) is not None}
        if self.fill_gaps or gaps == "keep":
            options["gaps"] = "keep"
        basins = "all" if self.basins == ("all",) else list(self.basins) or None
        try:
            dataset = data.read(self.data, basins, **options)
        except TypeError as error:  # a reader of a fixed layout cannot be told such things
            if "unexpected keyword" not in str(error):
                raise
            said = ", ".join(n for n in options)
            raise ConfigError(f"{self.data}: data of this layout do not take {said} ({error}). Leave it out.") from None
        return data.fill_gaps(dataset, max_steps=self.fill_gaps) if self.fill_gaps else dataset


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
    said = [f"record cut by {cut} step(s) at its ends, where {', '.join(there)} are not complete for all basins"]
    return data.with_notes(dataset.isel(time=kept), said) if cut else dataset
