"""Forecasts from an analysis, beside what they have to beat, and their skill by lead time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from udehydro.assimilation.analysis import Analysis, batch_axes
from udehydro.errors import ConfigError, DataError
from udehydro.forcing import Forcing, date
from udehydro.simulate import simulate
from udehydro.simulation import Simulation
from udehydro.solvers import Automatic, Solver
from udehydro.training.metrics import nse, rmse


@dataclass(frozen=True)
class Forecast:
    """Discharge after a window, L intervals.

    Attributes
    ----------
    run, open_loop : continued from the end of the analysis, and from that of the background.
    series : kind of forecast -> discharge (L, *batch) mm/d: ``"4D-Var"``, ``"open loop"``, ``"persistence"`` of the
        last observed flow (NaN without one), and where the correlation of errors is given ``"open loop + AR(1)"`` and
        ``"4D-Var + AR(1)"``.
    """

    run: Simulation = field(repr=False)
    open_loop: Simulation = field(repr=False)
    series: Mapping[str, Tensor]

    def to_xarray(self):
        """Dataset of ``discharge`` (forecast, time, *batch) mm/d, time being the starts of the intervals."""
        import xarray as xr

        forcing = self.run.forcing
        dims, names = batch_axes(forcing)
        flow = torch.stack(list(self.series.values())).cpu().numpy()
        data = {"discharge": (("forecast", "time", *dims), flow, {"units": "mm/d"})}
        return xr.Dataset(data, {"forecast": list(self.series), "time": forcing.time, **names})


@torch.no_grad()
def forecast(
    analysis: Analysis,
    forcing: Forcing,
    *,
    theta: Mapping[str, Tensor | float] | None = None,
    correlation: float | Tensor | None = None,
    solver: Solver | None = None,
) -> Forecast:
    """Continue every analysis, and its open loop, with the weather of the following days.

    Parameters
    ----------
    forcing : L intervals that follow the window, of the same batch. It is used as it is: multipliers end with the
        window.
    theta : by default that of the analysis; needed where it varies in time.
    correlation : from interval to interval, of the errors of the open loop (see :func:`error_correlation`), a number or
        (*batch). The last error e seen is then taken on as ``correlation^lead e``, the usual correction of a forecast
        without assimilation; flows stay non-negative. Likewise what is left of it by the analysis. Where it is NaN, so
        are these forecasts.

    Raises
    ------
    DataError
        For a forcing that does not follow the window, or is that of other dates of issue or basins.
    ConfigError
        For parameters that vary in time without ``theta``, and a correlation beyond [-1, 1] or of another batch.
    """
    window = analysis.run.forcing
    if forcing.batch != window.batch or forcing.time_edge[0] != window.time_edge[-1]:
        raise DataError(
            f"The forecast has batch {forcing.batch} and starts {date(forcing.time_edge[0])}, the window has "
            f"{window.batch} and ends {date(window.time_edge[-1])}: it has to go on from there."
        )
    for here, there in ((forcing.members, window.members), (forcing.basins, window.basins)):
        if other := [(a, b) for a, b in zip(here, there, strict=False) if a != b]:
            raise DataError("The weather of the forecast is that of {}, where the window has {}.".format(*other[0]))
    if theta is None:
        theta = analysis.run.theta
        if varying := [n for n, v in theta.items() if v.ndim > len(window.batch)]:
            raise ConfigError(f"Give theta for the forecast: {', '.join(varying)} vary in time.")
    solver = solver or Automatic()
    runs = [simulate(analysis.run.model, forcing, theta=theta, storage0=r.storage[-1], solver=solver)
            for r in (analysis.run, analysis.open_loop)]  # fmt: skip
    last, age = _last(analysis.observed)
    flows = [r.discharge for r in runs]
    series = {"4D-Var": flows[0], "open loop": flows[1], "persistence": last.expand(flows[0].shape)}
    if correlation is not None:
        pairs = zip(("4D-Var", "open loop"), flows, (analysis.run, analysis.open_loop), strict=True)
        series |= {f"{n} + AR(1)": _corrected(f, r, analysis.observed, correlation, age) for n, f, r in pairs}
    return Forecast(*runs, series)


def error_correlation(simulated: Tensor, observed: Tensor) -> Tensor:
    """Lag-1 coefficient of errors (*batch): the least-squares one of ``e_t = r e_(t-1)``, over pairs without a gap.

    Arrays are (T, *batch), NaN in ``observed`` where missing; NaN where there is no pair. DataError where they differ.
    """
    if simulated.shape != observed.shape:
        raise DataError(f"Simulated flow has shape {tuple(simulated.shape)}, observed {tuple(observed.shape)}.")
    error = simulated - observed
    pairs = error[1:] * error[:-1]
    valid = ~pairs.isnan()
    square = torch.where(valid, error[:-1].square(), 0.0).sum(0)
    found = torch.where(valid, pairs, 0.0).sum(0) / square.clamp_min(torch.finfo(square.dtype).tiny)
    return torch.where(valid.any(0) & (square > 0.0), found, torch.nan).clamp(-1.0, 1.0)


def skill(forecast: Forecast, observed: Tensor):
    """Dataset of ``rmse`` [mm/d] and ``nse`` over the dates of issue, dims (forecast, lead, basin), lead in days.

    ``observed`` (L, member, basin) NaN where missing. All forecasts are scored where all of them and the observation
    are there; ``count`` (lead, basin) says how often. Raises DataError for other shapes.
    """
    import xarray as xr

    batch = forecast.run.forcing.batch
    shape = (len(forecast.run.forcing), *batch)
    if len(batch) != 2 or observed.shape != torch.Size(shape):
        raise DataError(
            f"Skill is over dates of issue, the members of a batch (member, basin): the forecast has {shape}, the "
            f"observations {tuple(observed.shape)}."
        )
    seen = observed.to(forecast.run.forcing.like)
    everywhere = torch.stack(list(forecast.series.values())).isfinite().all(0)
    seen = torch.where(everywhere, seen, torch.nan).movedim(1, 0)
    scores = {
        name: (metric, {"units": unit})
        for name, unit, metric in (
            ("rmse", "mm/d", [rmse(s.movedim(1, 0), seen) for s in forecast.series.values()]),
            ("nse", "1", [nse(s.movedim(1, 0), seen) for s in forecast.series.values()]),
        )
    }
    data = {n: (("forecast", "lead", "basin"), torch.stack(v).cpu().numpy(), a) for n, (v, a) in scores.items()}
    data["count"] = (("lead", "basin"), (~seen.isnan()).sum(0).cpu().numpy(), {"units": "1"})
    edges, basins = forecast.run.forcing.time_edge, forecast.run.forcing.basins
    lead = (edges[1:] - edges[0]) / np.timedelta64(1, "D")
    coords = {"forecast": list(forecast.series), "lead": ("lead", lead, {"units": "d", "long_name": "lead time"})}
    return xr.Dataset(data, coords | ({"basin": list(basins)} if basins else {}))


def _last(observed: Tensor) -> tuple[Tensor, Tensor]:
    """The last value that is there (*batch), NaN where none is, and how many intervals before the end it lies."""
    valid = ~observed.isnan()
    index = torch.arange(len(observed), device=observed.device).reshape(-1, *(1,) * (observed.ndim - 1))
    at = torch.where(valid, index, -1).amax(0)
    return observed.gather(0, at.clamp_min(0)[None])[0], len(observed) - 1 - at


def _corrected(flow: Tensor, window: Simulation, observed: Tensor, correlation: float | Tensor, age: Tensor) -> Tensor:
    """A forecast plus what is left of the last error seen."""
    correlation = torch.as_tensor(correlation, dtype=flow.dtype, device=flow.device)
    try:
        correlation = correlation.broadcast_to(flow.shape[1:])
    except RuntimeError:
        raise ConfigError(
            f"The correlation of errors has shape {tuple(correlation.shape)}, the batch is {tuple(flow.shape[1:])}."
        ) from None
    if bool((correlation.abs() > 1.0).any()):
        raise ConfigError("The correlation of errors has to lie within [-1, 1] everywhere.")
    lead = torch.arange(1, len(flow) + 1, device=flow.device).reshape(-1, *(1,) * (flow.ndim - 1))
    error, _ = _last(observed - window.discharge)
    return (flow + correlation ** (lead + age) * error).clamp_min(0.0)
