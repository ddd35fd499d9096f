"""Methods of global sensitivity analysis as the command line offers them: what is run, drawn and said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from udehydro import plot
from udehydro.plot.ranked import ranked
from udehydro.report import number
from udehydro.sensitivity import delsa, dgsm, morris, pawn, sobol

LITTLE = 0.01
"""Share of the variance below which a factor can be fixed."""


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes
    ----------
    measure : by which factors are ranked; ``shown`` : all that are listed.
    size : argument of the function that ``--samples`` sets.
    figure : of the results of one basin.
    meaning : of the numbers, in a sentence or two.
    idle : results of one basin -> whether each factor (K,) can be fixed; None where the method does not tell.
    """

    run: Callable[..., xr.Dataset]
    measure: str
    shown: tuple[str, ...]
    size: str
    figure: Callable[..., Figure]
    caption: str
    meaning: str
    idle: Callable[[xr.Dataset], np.ndarray] | None = None

    def leading(self, found: xr.Dataset, most: int = 3) -> str:
        """The factors that matter most, with the measure; of one basin."""
        order = self.order(found)[:most]
        return ", ".join(f"{n} ({number(float(found[self.measure].sel(factor=n)))})" for n in order)

    def vague(self, found: xr.Dataset) -> bool:
        """Whether the interval of the factor that matters most is wider than half of its measure."""
        conf = f"{self.measure}_conf"
        if conf not in found or not (order := self.order(found)):
            return False
        first = found.sel(factor=order[0])
        return float(first[conf]) > 0.5 * float(first[self.measure])

    def order(self, found: xr.Dataset) -> list[str]:
        """Factors by the measure, largest first; without those that have none."""
        values = found[self.measure]
        known = values["factor"].values[np.isfinite(values.values)]
        return sorted(map(str, known), key=lambda n: -float(values.sel(factor=n)))


def _bars(measure: str, label: str, **ends: str) -> Callable[..., Figure]:
    return lambda found, title: ranked(found, measure, label=label, title=title, **ends)


METHODS = {
    "sobol": Method(
        sobol, "ST", ("S1", "S1_conf", "ST", "ST_conf"), "samples", plot.sobol_bars,
        "Shares of the variance over the ranges: of each factor alone, and with all its interactions; 95 % intervals.",
        "S1 is the share of the variance that would go if a factor were known, ST the share that would stay if it "
        "alone were not. The difference is interaction.",
        lambda f: (f["ST"] + f["ST_conf"]).values < LITTLE,
    ),
    "morris": Method(
        morris, "mu_star", ("mu", "mu_star", "mu_star_conf", "sigma"), "trajectories", plot.morris_plane,
        "Mean size of elementary effects, and how much they differ from place to place. Above the dotted line effects "
        "differ more than they matter: the factor interacts, or acts non-linearly.",
        "mu_star is the mean size of the change of the result where a factor crosses its range, mu the mean change, "
        "sigma how much changes differ. It is for screening: a small mu_star does little, everywhere.",
    ),
    "dgsm": Method(
        dgsm, "bound", ("nu", "nu_conf", "bound", "bound_conf"), "samples",
        _bars("bound", "upper bound of the total share of variance"),
        "Upper bound of the total share of the variance, with 95 % intervals.",
        "nu is the mean square of the derivative by the share of a range, bound what the total Sobol index is at most: "
        "a factor with a small bound can be fixed, one with a large bound may still do little, and above 1 it says "
        "nothing.",
        lambda f: (f["bound"] + f["bound_conf"]).values < LITTLE,
    ),
    "pawn": Method(
        pawn, "median", ("median", "mean", "minimum", "maximum"), "samples",
        _bars("median", "Kolmogorov-Smirnov distance", low="minimum", high="maximum"),
        "How far the distribution of the result moves where a factor is held in a slice of its range: median over the "
        "slices, from the smallest to the largest.",
        "The numbers are distances between distributions, 0 to 1, over slices of a range. They are never zero: compare "
        "them with that of a factor that cannot matter.",
    ),
    "delsa": Method(
        delsa, "mean", ("mean", "nu", "bound", "bound_conf"), "samples", plot.delsa_curves,
        "At how much of the space a factor's share of the local variance is below a value: a curve on the right is one "
        "of a factor that matters everywhere, a steep rise at zero one of a factor that matters nowhere.",
        "mean is the mean share of a factor in the variance of the result about a point, over all points; bound what "
        "its total Sobol index is at most (for results without jumps).",
        lambda f: (f["bound"] + f["bound_conf"]).values < LITTLE,
    ),
}  # fmt: skip
