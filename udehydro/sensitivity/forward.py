"""forward: how all of a run responds to a few parameters and initial storages, as series over time."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from udehydro.balance import Balance
from udehydro.errors import ConfigError, StepBoundWarning, StructureError
from udehydro.forcing import Forcing
from udehydro.parameters import INITIAL
from udehydro.sensitivity.information import Information, Windows, fisher, fisher_windows, sizes
from udehydro.sensitivity.start import given_start
from udehydro.simulate import pose
from udehydro.simulation import Simulation
from udehydro.solvers import Automatic, forward_sensitivity
from udehydro.solvers.one_step import OneStep
from udehydro.structure import Range
from udehydro.training.gaussian import Gaussian


@dataclass(frozen=True)
class Forward:
    """Derivatives of a whole run by P values: parameters, and stores for their initial storage.

    Attributes
    ----------
    names : of the values.
    values : (*batch, P) where the derivatives were taken; of a parameter that varies in time its mean.
    spans : (*batch, P) as in :class:`Information`.
    run : the simulation.
    derivatives : a Simulation that holds the derivatives of storages and volumes, with a leading axis P.
    """

    names: tuple[str, ...]
    values: Tensor
    spans: Tensor
    run: Simulation = field(repr=False)
    derivatives: Simulation = field(repr=False)

    @property
    def storage(self) -> dict[str, Tensor]:
        """Store -> derivative at the edges of intervals (P, T + 1, *batch), mm per unit of the value."""
        return {n: self.derivatives.store(n) for n in self.run.model.store_names}

    @property
    def discharge(self) -> Tensor:
        """(P, T, *batch), mm/d per unit of the value."""
        return self.derivatives.discharge

    def rate(self, flux: str) -> Tensor:
        """Of the mean rate of a flux or group (P, T, *batch), mm/d per unit of the value."""
        return self.derivatives.rate(flux)

    def of(self, name: str) -> Tensor:
        """Of ``"discharge"``, a flux, a group, or a store at the ends of intervals (P, T, *batch)."""
        return _series(self.derivatives, name)

    def scaled(self, name: str = "discharge", by: str | Mapping[str, float] = "value") -> Tensor:
        """Derivative x value, or x "range", or x sizes by name (P, T, *batch): mm/d for a change as large as that."""
        size = self.values if by == "value" else sizes(self.names, self.values, self.spans, by)
        return self.of(name) * size.movedim(-1, 0).unsqueeze(1)

    def elasticity(self, name: str = "discharge") -> Tensor:
        """Percent of a series per percent of a value (P, T, *batch); infinite or NaN where the series is zero."""
        return self.scaled(name) / _series(self.run, name)

    def information(
        self,
        error: Gaussian | Tensor | float,
        name: str = "discharge",
        *,
        observed: Tensor | None = None,
        within: tuple[str, str] | None = None,
    ) -> Information:
        """Fisher information of the values in a series measured with Gaussian errors.

        Information of several series, or of basins that share values, adds up: sum the matrices.

        Parameters
        ----------
        error : standard deviation, a number or a series (T, *batch), mm/d, which may be NaN where nothing is measured;
            or a :class:`Gaussian`, which may be of logarithms and correlated from day to day.
        name : ``"discharge"``, a flux, a group, or a store (at the ends of intervals).
        observed : (T, *batch), or without the leading axes of the batch: only its gaps (NaN) matter, they count for
            nothing. By default every interval was measured.
        within : inclusive dates. Leave out a warm-up, in which initial storages still matter.

        Raises
        ------
        ConfigError, DataError
            For shapes that do not fit, and nothing measured.
        """
        return self._information(fisher(self._whitened(error, name, observed, within)[0]))

    def windows(
        self,
        error: Gaussian | Tensor | float,
        width: int,
        step: int | None = None,
        name: str = "discharge",
        *,
        observed: Tensor | None = None,
        within: tuple[str, str] | None = None,
    ) -> Windows:
        """The same of windows of ``width`` intervals, one every ``step`` of them (by default side by side).

        Parameters and errors as in :meth:`information`; the width has to be a multiple of the step. The last window
        ends with the record and may be shorter.
        """
        jacobian, part = self._whitened(error, name, observed, within)
        step = width if step is None else step
        each = fisher_windows(jacobian, width, step)
        first = part.start + step * np.arange(len(each))
        edges = self.run.forcing.time_edge[np.stack([first, np.minimum(first + width, part.stop)], axis=1)]
        return Windows(edges, self._information(each), self._information(fisher(jacobian)), self.run)

    def _information(self, matrix: Tensor) -> Information:
        return Information(self.names, matrix, self.values, self.spans)

    def _whitened(self, error, name: str, observed, within) -> tuple[Tensor, slice]:
        """Derivatives in units of sigma (P, T', *batch), zero where nothing was measured, and the intervals T'."""
        series = _series(self.run, name)
        part = slice(0, len(series)) if within is None else self.run.forcing.between(*within)
        valid = torch.zeros_like(series, dtype=torch.bool)
        valid[part] = True if observed is None else ~_expanded("observed", observed, series).isnan()[part]
        if not bool(valid.any()):
            raise ConfigError("Nothing is measured in the intervals that count: 'observed' is NaN in all of them.")
        if not isinstance(error, Gaussian):
            error = Gaussian(torch.where(valid, _expanded("sigma", error, series), 1.0) if np.ndim(error) else error)
        if isinstance(error.sigma, Tensor) and error.sigma.ndim:
            error = replace(error, sigma=_expanded("sigma", error.sigma, series))
        slope = error.residual(series, torch.zeros_like(series).masked_fill(~valid, torch.nan))[1]
        return error.whiten(self.of(name) * slope, valid)[:, part], part

    def to_xarray(self):
        """Dataset of derivatives by (parameter, time, basin), with units per unit of the parameter."""
        import xarray as xr

        run, s = self.run, self.run.model.structure
        dims = ("member", "basin")[2 - len(run.forcing.batch) :] if run.forcing.batch else ()
        units = [s.stores[n] if n in s.stores else s.parameters[n].unit for n in self.names]
        data = {"value": (("parameter", *dims), self.values.movedim(-1, 0).cpu().numpy())}

        def put(name: str, axis: str, values: Tensor, unit: str) -> None:
            attrs = {"units": f"{unit} per unit of the parameter"} if unit else {}
            data[name] = (("parameter", axis, *dims), values.cpu().numpy(), attrs)

        for name, values in self.storage.items():
            put(name, "time_edge", values, s.stores[name])
        for name in run.model.flux_names:
            put(name, "time", self.rate(name), run.unit(name))
        with suppress(StructureError):  # a model without an outlet
            put("discharge", "time", self.discharge, run.unit("discharge"))
        coords = {"parameter": list(self.names), "unit": ("parameter", units)}
        coords |= {"time": run.forcing.time, "time_edge": run.forcing.time_edge}
        coords |= {"basin": list(run.forcing.basins)} if run.forcing.basins and dims else {}
        coords |= {"member": list(run.forcing.members)} if run.forcing.members and len(dims) == 2 else {}
        return xr.Dataset(data, coords, {"title": f"forward sensitivities of {s.name}"})


def forward(
    model: Balance,
    forcing: Forcing,
    names: Sequence[str],
    *,
    theta: Mapping[str, Tensor | float] | None = None,
    storage0: Tensor | Mapping[str, Tensor | float],
    solver: OneStep | None = None,
    ranges: Mapping[str, Range] | None = None,
) -> Forward:
    """Derivatives of all storages and fluxes over time by a few parameters and initial storages.

    Exact for the discrete run: one run, and one linear recurrence for every name. For one number and many inputs,
    :func:`adjoint` is cheaper. Takes 8 P T (stores + fluxes) bytes for every element of the batch.

    Parameters
    ----------
    names : of parameters, and stores for their initial storage. One that varies in time is moved by the same amount
        at all times.
    theta, solver : as in :func:`simulate`; the solver has to be a one-step scheme.
    storage0 : (*batch, S) or a value per store [mm]. Without a default, because storages from repeating the first year
        would depend on the parameters, and that is not differentiated: give ``spin_up(...).storage`` to hold them.
    ranges : in place of what the model declares, and of initial storages (0 to 2000 mm where none is given).

    Raises
    ------
    ConfigError
        For names that are unknown, or given twice, and solvers that are no one-step scheme.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise ConfigError(f"Given twice: {', '.join(twice)}.")
    problem = pose(model, forcing, theta)
    start = given_start(model, forcing, storage0)
    found = forward_sensitivity(problem, start, names, solver or Automatic())
    for message in found.report.bounds:
        warnings.warn(message, StepBoundWarning, stacklevel=2)
    used = {n: v.detach() for n, v in zip(model.parameter_names, problem.theta, strict=True)}
    run = Simulation(model, forcing, *found.run, found.report, used)
    values = torch.stack([_value(run, n) for n in names], dim=-1)
    spans = torch.stack([_span(run, n, v, ranges or {}) for n, v in zip(names, values.unbind(-1), strict=True)], dim=-1)
    derivatives = replace(run, storage=found.storage, volume=found.volume)
    return Forward(names, values, spans, run, derivatives)


def _series(simulation: Simulation, name: str) -> Tensor:
    """(T, *batch), behind the axis P of derivatives; storages at the ends of intervals."""
    if name not in simulation.model.store_names:
        return simulation.discharge if name == "discharge" else simulation.rate(name)
    ends, record = simulation.store(name), simulation.forcing
    return ends.narrow(ends.ndim - len(record.batch) - 1, 1, len(record))


def _value(run: Simulation, name: str) -> Tensor:
    if name in run.model.store_names:
        return run.store(name)[0]
    value, batch = run.theta[name], run.forcing.batch
    return value.mean(0) if value.ndim > len(batch) else value.expand(batch)


def _span(run: Simulation, name: str, value: Tensor, ranges: Mapping[str, Range]) -> Tensor:
    s = run.model.structure
    range_ = ranges.get(name) or s.parameters.get(name)
    if range_ is None and s.stores[name] == INITIAL.unit and name not in s.signed_stores:
        range_ = INITIAL
    if range_ is None:
        return torch.full_like(value, torch.nan)
    if range_.logarithmic:
        return value * np.log(range_.high / range_.low)
    return torch.full_like(value, range_.high - range_.low)


def _expanded(what: str, values, series: Tensor) -> Tensor:
    """Values by time, and by what of the batch they know, in the shape of a series (T, *batch)."""
    values = values if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values, dtype=float))
    values = values.to(series)
    if 0 < values.ndim <= series.ndim and len(values) == len(series):
        wide = values.reshape(len(values), *(1,) * (series.ndim - values.ndim), *values.shape[1:])
        if all(a in (1, b) for a, b in zip(wide.shape, series.shape, strict=True)):
            return wide.expand(series.shape)
    raise ConfigError(f"'{what}' has shape {tuple(values.shape)}, needs {tuple(series.shape)} (time, *batch).")
