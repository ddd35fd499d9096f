"""Adjoint sensitivities of a case as numbers to tell: changes by parameters, weather, days, initial storages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from udehydro.cli.sensitivity.case import Case
from udehydro.cli.sensitivity.goal import Goal
from udehydro.forcing import date
from udehydro.plot.style import column, numbers
from udehydro.sensitivity import Adjoint

DAYS = 5
"""Intervals of every series that are listed."""
FELT = 0.01
"""Share of the largest lambda from which on it counts as felt."""
NIL = 1e-9
"""Objectives closer to zero than this have no percent."""


@dataclass(frozen=True)
class Effects:
    """Derivatives of a goal; ``checked`` is the table of :func:`udehydro.sensitivity.verify`, where asked for.

    Changes are told in percent of the objective; of scores, and where it is zero, in its unit (``told_in``).
    """

    case: Case
    goal: Goal
    found: Adjoint
    checked: pd.DataFrame | None

    @property
    def values(self) -> np.ndarray:
        """The objective by basin."""
        return numbers(self.found.value)

    @property
    def relative(self) -> bool:
        return not self.goal.score and bool((np.abs(self.values) > NIL).all())

    @property
    def told_in(self) -> str:
        return "%" if self.relative else self.goal.shown

    def change(self, amount: float, basin: int) -> float:
        """A change in the unit of the objective, as it is told."""
        return 100.0 * float(amount) / float(self.values[basin]) if self.relative else float(amount)

    def parameters(self, basin: int) -> dict[str, dict]:
        """Of all that are no constants: value, derivative, elasticity, change for 1 % of the value and of the range."""
        elasticity, theta, rows = self.found.elasticity(), self.found.run.theta, {}
        for name, r in self.case.ranges.items():
            if r.fixed:
                continue
            given = theta[name], self.found.parameters[name], elasticity[name]
            value, slope, share = (float(v.expand(self.found.value.shape)[basin]) for v in given)
            span = value * np.log(r.high / r.low) if r.logarithmic else r.high - r.low
            rows[name] = {"value": value, "unit": r.unit, "derivative": slope, "elasticity": share}
            rows[name]["by_percent"] = self.change(0.01 * value * slope, basin)
            rows[name]["by_range"] = self.change(0.01 * span * slope, basin)
        return rows

    def storages(self, basin: int) -> dict[str, dict]:
        """Initial storages: value, derivative, and the change for 1 % of each."""
        rows = {}
        for j, name in enumerate(self.case.run.model.store_names):
            value, slope = float(self.case.start[basin, j]), float(self.found.storage0[name][basin])
            rows[name] = {"value": value, "unit": self.case.run.unit(name), "derivative": slope}
            rows[name]["by_percent"] = self.change(0.01 * value * slope, basin)
        return rows

    def series(self, name: str, basin: int) -> tuple[np.ndarray, np.ndarray, bool]:
        """A forcing (T,), the derivative by it (T,), and whether it is a rate, which is changed by shares of itself."""
        rate = self.case.run.model.structure.forcings[name].endswith("/d")
        return column(self.case.forcing.values[name], basin), column(self.found.forcing[name], basin), rate

    def throughout(self, name: str, basin: int) -> float:
        """Change where a rate is 1 %, or all else one unit, higher in all of the record."""
        values, slopes, rate = self.series(name, basin)
        return self.change(0.01 * (slopes * values).sum() if rate else slopes.sum(), basin)

    def days(self, name: str, basin: int) -> list[dict]:
        """Intervals in which a forcing matters most: by derivative times value of a rate, else by the derivative."""
        values, slopes, rate = self.series(name, basin)
        weight = np.abs(slopes * values) if rate else np.abs(slopes)
        time, rows = self.case.forcing.time, []
        for k in weight.argsort(kind="stable")[::-1][:DAYS]:
            if weight[k] > 0.0:
                row = {"date": date(time[k]), "value": float(values[k]), "derivative": float(slopes[k])}
                rows.append(row | ({"contribution": float(slopes[k] * values[k])} if rate else {}))
        return rows

    def felt(self, basin: int) -> tuple[str, str] | None:
        """First and last date between which water in some store matters; None where there is no lambda."""
        size = np.max([np.abs(column(v, basin)[:-1]) for v in self.found.storage.values()] or [[0.0]], axis=0)
        if not size.max() > 0.0:
            return None
        at = np.flatnonzero(size >= FELT * size.max())
        return tuple(str(self.case.forcing.time[k].astype("datetime64[D]")) for k in at[[0, -1]])

    def peak(self, basin: int) -> int:
        """The interval of a flood peak."""
        flow = column(self.case.run.discharge, basin)
        part = self.case.forcing.between(*self.case.period)
        return part.start + int(flow[part].argmax())

    def worst(self) -> dict | None:
        """The row of the check with the largest error; None without a check, and where all entries lie at kinks.

        Infinite where the gradient is zero and differences are not.
        """
        if self.checked is None or not len(compared := self.checked.query("kinks < entries")):
            return None
        # an error below the round-off of the differences means nothing, but for that of a gradient that was cut off
        blunt = np.isfinite(compared["error"]) & (compared["error"] <= compared["round_off"])
        return compared.loc[compared["error"].where(~blunt, 0.0).idxmax()].to_dict()

    def summary(self) -> dict:
        """The content of ``summary.json``."""
        basins, goal = {}, self.goal
        for i, basin in enumerate(self.case.basins):
            basins[basin] = {
                "value": float(self.values[i]),
                **({"peak_date": date(self.case.forcing.time[self.peak(i)])} if goal.name == "flood_peak" else {}),
                "elasticity": {n: p["elasticity"] for n, p in self.parameters(i).items()},
                "parameters": self.parameters(i),
                "storage0": self.storages(i),
                "weather": {n: self.throughout(n, i) for n in self.found.forcing},
                "influential_days": {n: self.days(n, i) for n in self.found.forcing},
            }
        objective = {"name": goal.name, "unit": goal.unit, "said": goal.said, "changes_in": self.told_in}
        found = {"analysis": "adjoint", "objective": objective, "basins": basins}
        return found if self.checked is None else found | {"verify": self.checked.to_dict("records")}
