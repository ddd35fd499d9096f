"""What a record tells of parameters, as numbers to tell: standard deviations, pairs, windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from udehydro.cli.sensitivity.case import Case
from udehydro.errors import ConfigError
from udehydro.plot.style import numbers
from udehydro.sensitivity import Forward, Information, Windows
from udehydro.training.gaussian import Gaussian

PAIRS = 5
"""Pairs of values that are listed, the hardest to tell apart first."""
FLOOR = 0.01
"""Of mean flow, added where errors are a share of the flow: as small as those of no flow may be."""


@dataclass(frozen=True)
class Error:
    """Errors of measured discharge: ``size`` in mm/d, or as a share of the flow; correlated from day to day."""

    size: float
    share: bool
    correlation: float

    @classmethod
    def parse(cls, text: str, correlation: float) -> Error:
        """From ``0.3`` (mm/d) or ``10%``."""
        share = text.strip().endswith("%")
        try:
            size = float(text.strip().removesuffix("%"))
        except ValueError:
            size = np.nan
        if not (np.isfinite(size) and size > 0.0):
            raise ConfigError(f"--sigma: '{text}' has to be above zero, in mm/d (0.3) or in percent of the flow (10%).")
        if not 0.0 <= correlation < 1.0:
            raise ConfigError(f"--correlation has to be at least 0 and below 1, got {correlation:g}.")
        return cls(0.01 * size if share else size, share, correlation)

    def of(self, case: Case) -> Gaussian:
        """The errors of the discharge that a case runs with."""
        flow = case.run.discharge
        mean = flow[case.forcing.between(*case.period)].mean(0)
        sigma = self.size * (flow.clamp_min(0.0) + FLOOR * mean) if self.share else self.size
        return Gaussian(sigma, correlation=self.correlation)

    def __str__(self) -> str:
        size = f"{100.0 * self.size:g} % of the flow" if self.share else f"{self.size:g} mm/d"
        between = f"correlated by {self.correlation:g} from one step to the next"
        return f"{size}, {between if self.correlation else 'independent from one step to the next'}"


@dataclass(frozen=True)
class Told:
    """Sensitivities of discharge, their information, that of windows, and whether gaps of the record are left out."""

    case: Case
    error: Error
    found: Forward
    information: Information
    windows: Windows
    gaps: bool

    @property
    def names(self) -> tuple[str, ...]:
        return self.found.names

    def unit(self, name: str) -> str:
        s = self.case.run.model.structure
        return s.stores.get(name) or s.parameters[name].unit

    def parameters(self, basin: int) -> dict[str, dict]:
        """Value, standard deviation, also as a share of value and range, content, and the window that tells most."""
        i = self.information
        sd, content, values, spans = (numbers(v)[basin] for v in (i.sd(), i.content(), i.values, i.spans))
        each, rows = numbers(self.windows.each.content())[:, basin], {}
        for j, name in enumerate(self.names):
            first, end = self.windows.edges[int(np.nan_to_num(each[:, j], nan=-1.0).argmax())]
            rows[name] = {
                "value": float(values[j]),
                "unit": self.unit(name),
                "sd": float(sd[j]),
                "relative_sd": float(sd[j] / abs(values[j])) if values[j] else np.inf,
                "sd_by_range": float(sd[j] / spans[j]),
                "content": float(content[j]),
                "best_window": [str(t.astype("datetime64[D]")) for t in (first, end - np.timedelta64(1, "s"))],
                "best_window_content": float(each[:, j].max()),
            }
        return rows

    def pairs(self, basin: int) -> list[dict]:
        """Collinearity of the pairs that are hardest to tell apart."""
        if len(self.names) < 2:
            return []
        found = {pair: float(v[basin]) for pair, v in self.information.collinearities(2).items()}
        order = sorted(found, key=lambda pair: -found[pair])[:PAIRS]
        return [{"names": list(pair), "index": found[pair]} for pair in order]

    def collinearity(self, basin: int) -> float:
        """Of all values."""
        return float(self.information.collinearity()[basin])

    def summary(self) -> dict:
        """The content of ``summary.json``."""
        basins, spectrum = {}, self.information.spectrum()
        for i, basin in enumerate(self.case.basins):
            one = spectrum[i]
            vectors = numbers(one.vectors)
            directions = [{"sd": float(sd), "shares": dict(zip(self.names, vectors[:, k].tolist(), strict=True))}
                          for k, sd in enumerate(one.sd)]  # fmt: skip
            basins[basin] = {
                "parameters": self.parameters(i),
                "collinearity": self.collinearity(i),
                "pairs": self.pairs(i),
                "directions": directions,
            }
        error = {"size": self.error.size, "share_of_flow": self.error.share, "correlation": self.error.correlation}
        return {"analysis": "forward", "error": error, "gaps_left_out": self.gaps, "basins": basins}

    def to_xarray(self) -> xr.Dataset:
        """Sensitivities over time, and the information of the period and its windows."""
        i, w, edges = self.information, self.windows, self.windows.edges.astype("datetime64[ns]")
        line, by_window = ("parameter", "basin"), ("window", "basin", "parameter")
        matrices = {"fisher": i.matrix, "covariance": i.covariance()}
        vectors = {"sd": i.sd(), "relative_sd": i.relative_sd(), "content": i.content()}
        windows = {"window_content": w.each.content(), "window_share": w.share}
        data = {n: (("basin", "parameter", "other"), numbers(v)) for n, v in matrices.items()}
        data |= {n: (line, numbers(v.T)) for n, v in vectors.items()}
        data |= {n: (by_window, numbers(v)) for n, v in windows.items()}
        data["collinearity"] = ("basin", numbers(i.collinearity()))
        coords = {"other": list(self.names)}
        coords |= {"window_start": ("window", edges[:, 0]), "window_end": ("window", edges[:, 1])}
        found = self.found.to_xarray().assign_coords(coords).assign(data)
        return found.assign_attrs(error_of_discharge=str(self.error))
