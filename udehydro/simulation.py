"""Simulation: what a run returns, with names, units and the exact balance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from udehydro.balance import Balance
from udehydro.errors import StructureError
from udehydro.forcing import Forcing
from udehydro.solvers.problem import SolverReport
from udehydro.structure import OUTLET, Structure, suggest


@dataclass(frozen=True)
class Simulation:
    """Storages and flux volumes of a run.

    Attributes
    ----------
    storage : (T + 1, *batch, S) at the interval edges, in the units of the stores (mm in water balances).
    volume : (T, *batch, F) per interval, in the unit of the stores that the fluxes join.
    report : what the solver did (iterations, split intervals, undershoots).
    theta : parameters used, physical units.
    """

    model: Balance
    forcing: Forcing
    storage: Tensor
    volume: Tensor
    report: SolverReport
    theta: dict[str, Tensor]

    @property
    def discharge(self) -> Tensor:
        """Water that left through the outlet, (T, *batch) mm/d: a mean over each interval, as a gauge records it.

        Raises StructureError for a model in which no flux joins the outlet, or fluxes of different units do.
        """
        fluxes = self.model.structure.fluxes
        self._check_outlet()
        volumes = self.volume.unbind(-1)  # one node of the graph, whose backward pass fills no zeros flux by flux
        out = sum(v for v, f in zip(volumes, fluxes, strict=True) if f.sink == OUTLET)
        back = sum(v for v, f in zip(volumes, fluxes, strict=True) if f.source == OUTLET)
        return (out - back) / self._days

    @property
    def _days(self) -> Tensor:
        return self.forcing.days.reshape(-1, *(1,) * len(self.forcing.batch))

    @property
    def _outlet(self) -> list[str]:
        """Names of the fluxes that enter or leave the outlet."""
        return [f.name for f in self.model.structure.fluxes if OUTLET in (f.source, f.sink)]

    def _check_outlet(self) -> None:
        s, joined = self.model.structure, self._outlet
        if not joined:
            raise StructureError(
                f"No flux of model '{s.name}' enters the outlet, so it has no discharge: ask for rate(name) of "
                f"{', '.join(self.model.flux_names)}, or for store(name) of {', '.join(self.model.store_names)}."
            )
        if len(units := _units(s, joined)) > 1:
            raise StructureError(
                f"Fluxes of different units ({', '.join(units)}) enter the outlet of model '{s.name}', so their sum is "
                f"no discharge: ask for rate(name) of {', '.join(joined)}."
            )

    def rate(self, name: str) -> Tensor:
        """Mean rate of a flux or a group of fluxes over each interval, (T, *batch) mm/d (see :meth:`unit`)."""
        names, groups = self.model.flux_names, self.model.structure.groups
        members = groups.get(name, (name,))
        if not members or not set(members) <= set(names):
            known = (*names, *(g for g, parts in groups.items() if parts))
            raise StructureError(f"No flux or group '{name}'.{suggest(name, known)}")
        return sum(self.volume[..., names.index(m)] for m in members) / self._days

    def unit(self, name: str) -> str:
        """Unit of a store, or of the rate of a flux or group: that of the stores it joins, per day.

        Empty where these are several, or none.
        """
        s = self.model.structure
        if name in s.stores:
            return s.stores[name]
        return rate_unit(s, s.groups.get(name, (name,)))

    def store(self, name: str) -> Tensor:
        """Storage at the interval edges, (T + 1, *batch) mm (see :meth:`unit`)."""
        names = self.model.store_names
        if name not in names:
            raise StructureError(f"No store '{name}'.{suggest(name, names)}")
        return self.storage[..., names.index(name)]

    @property
    def balance_error(self) -> Tensor:
        """Change of storage minus net volume moved in, (T, *batch, S): zero to round-off, whatever the laws."""
        net = self.volume @ self.model.incidence.to(self.volume)
        return self.storage.diff(dim=0) - net

    def max_balance_error(self) -> Tensor:
        """Largest |balance error| of any store and interval, (*batch)."""
        return self.balance_error.abs().amax(-1).amax(0)

    def balance_tolerance(self) -> Tensor:
        """What round-off may reach, (*batch): 1e-9 + 1e-12 x largest storage or volume (double precision)."""
        largest = torch.maximum(self.storage.abs().amax((0, -1)), self.volume.abs().amax((0, -1)))
        return 1e-9 + 1e-12 * largest

    def reversed_fluxes(self) -> dict[str, float]:
        """Most negative volume (per interval) of every flux that ran backwards without being declared ``signed``."""
        lowest = {
            f.name: float(self.volume[..., i].detach().min())
            for i, f in enumerate(self.model.structure.fluxes)
            if not f.signed
        }
        return {name: value for name, value in lowest.items() if value < -1e-9}

    def between(self, start: str, end: str) -> Simulation:
        """The part from date ``start`` to date ``end``, both inclusive."""
        part = self.forcing.between(start, end)
        return Simulation(
            self.model,
            self.forcing.isel(part),
            self.storage[part.start : part.stop + 1],
            self.volume[part],
            self.report,
            {n: v[part] if v.ndim > len(self.forcing.batch) else v for n, v in self.theta.items()},
        )

    def to_xarray(self):
        """CF-style Dataset: storages on ``time_edge``, rates and discharge on ``time`` with bounds, all with units.

        No discharge where the model has none.
        """
        import xarray as xr

        batch = self.forcing.batch
        dims = ("member", "basin")[2 - len(batch) :] if batch else ()
        s = self.model.structure
        data = {}
        for name in self.model.store_names:
            attrs = {
                "units": s.stores[name],
                "long_name": f"storage of {name}",
                "cell_methods": "time_edge: point",
            }
            data[name] = (("time_edge", *dims), _numpy(self.store(name)), attrs)
        for f in s.fluxes:
            attrs = _rate_attributes(s, [f.name], f"{f.name} ({f.source} to {f.sink})")
            data[f.name] = (("time", *dims), _numpy(self.rate(f.name)), attrs)
        if self._outlet and len(_units(s, self._outlet)) <= 1:
            attrs = _rate_attributes(s, self._outlet, "discharge (volume that left through the outlet)")
            data["discharge"] = (("time", *dims), _numpy(self.discharge), attrs)
        edges = self.forcing.time_edge
        data["time_bounds"] = (("time", "bounds"), np.stack([edges[:-1], edges[1:]], axis=1))
        coords = {
            "time": (
                "time",
                edges[:-1],
                {"bounds": "time_bounds", "standard_name": "time", "long_name": "start of interval"},
            ),
            "time_edge": ("time_edge", edges, {"standard_name": "time", "long_name": "edges of intervals"}),
        }
        if self.forcing.basins and batch:
            coords["basin"] = ("basin", list(self.forcing.basins), {"cf_role": "timeseries_id"})
        worst = float(self.max_balance_error().detach().max())
        dataset = xr.Dataset(
            data,
            coords,
            {
                "Conventions": "CF-1.11",
                "title": f"udehydro simulation with model {s.name}",
                "solver": self.report.solver,
                "max_balance_error_mm" if set(s.stores.values()) == {"mm"} else "max_balance_error": worst,
                "split_intervals": self.report.split_intervals,
                "undershoot_intervals": self.report.undershoots,
                "reversed_fluxes": ", ".join(
                    f"{n} ({v:.3g} {self.unit(n).removesuffix('/d')})" for n, v in self.reversed_fluxes().items()
                )
                or "none",
            },
        )
        # CF wants bounds in the units of their coordinate; whole numbers keep uneven edges exact
        for name in ("time", "time_edge", "time_bounds"):
            dataset[name].encoding.update(_time_encoding(edges))
        return dataset

    def to_netcdf(self, path: str | Path) -> Path:
        """Write :meth:`to_xarray` atomically to a NetCDF file."""
        from udehydro.files import write_netcdf_atomic

        path = Path(path)
        write_netcdf_atomic(self.to_xarray(), path)
        return path


def _units(s: Structure, fluxes: Sequence[str]) -> set[str]:
    """Units of the stores that some fluxes join."""
    ends = {end for f in s.fluxes if f.name in fluxes for end in (f.source, f.sink)}
    return {unit for store, unit in s.stores.items() if store in ends}


def rate_unit(s: Structure, fluxes: Sequence[str]) -> str:
    units = _units(s, fluxes)
    return f"{units.pop()}/d" if len(units) == 1 else ""


def _rate_attributes(s: Structure, fluxes: Sequence[str], long_name: str) -> dict[str, str]:
    """Attributes of a mean rate; without units where none can be told."""
    unit = rate_unit(s, fluxes)
    return ({"units": unit} if unit else {}) | {"long_name": long_name, "cell_methods": "time: mean"}


def _time_encoding(edges: np.ndarray) -> dict[str, str]:
    """The coarsest unit that counts all edges in whole numbers."""
    since_epoch = edges.astype("datetime64[ns]").astype("int64")
    for unit, length in (("days", 86_400_000_000_000), ("seconds", 1_000_000_000)):
        if not (since_epoch % length).any():
            return {"units": f"{unit} since 1970-01-01", "dtype": "int64"}
    return {"units": "nanoseconds since 1970-01-01", "dtype": "int64"}


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()
