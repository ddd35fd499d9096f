"""Distilling curves: which law of soils, and which formula, runs within their bands on the range they are known on.

Points of a curve that was learned are no independent measurements, and there can be any number of them: what counts is
whether a law stays within the bands, and how few values it needs for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.richards.inversion.curves import Bands, CurveFit, fit_curves
from udehydro.richards.inversion.free import Free
from udehydro.richards.laws import BrooksCorey, Gardner, Haverkamp, SoilLaw, VanGenuchten
from udehydro.richards.pinn.formulas import SHAPES, Formula, formulas, preferred
from udehydro.structure import Range

LEAST = (1e-3, 0.02)
"""Least standard deviations of water contents, and of the logarithm of conductivity: no law is truer than that."""
STARTS = 12
"""Of the search of a law."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A law through both curves: the fit, its root mean square distance in standard deviations, and how many values it
    needed."""

    fit: CurveFit = field(repr=False)
    off: float
    size: int

    @property
    def p(self) -> dict[str, float]:
        return {n: float(v) for n, v in self.fit.p.items()}


@dataclass(frozen=True, eq=False)
class DistilledCurves:
    """What was found, the preferred first: the shortest within the bands, else the nearest.

    Attributes
    ----------
    laws : name -> :class:`Fit`.
    theta, log_k : formulas of the water content and of the natural logarithm of the conductivity in cm/d.
    """

    laws: dict[str, Fit]
    theta: list[Formula]
    log_k: list[Formula]


def distil_curves(
    curves: Bands,
    psi: Tensor,
    *,
    laws: Sequence[SoilLaw] | None = None,
    shapes: Mapping[str, Mapping[str, Mapping[str, Range]]] = SHAPES,
    most: int = 2,
    seed: int = 0,
) -> DistilledCurves:
    """Laws and formulas of curves of one soil.

    Parameters
    ----------
    curves : (N,) at heads ``psi`` (N,) below zero, on the range that was visited (:func:`~udehydro.richards.inversion.
        visited`): as ``curves`` of a fit of one column, or ``ensemble`` of what networks learned.
    laws : candidates; by default Gardner, Brooks and Corey, van Genuchten, and Haverkamp.
    shapes : for ``theta`` and ``log_k``, what formulas are sums of: expression -> its constants, as of a
        :class:`~udehydro.discovery.Term`.
    most : shapes in a formula, beside a constant.

    Raises
    ------
    ConfigError
        For curves of several soils, heads that are not below zero, and curves or bands that are not finite.
    """
    psi = torch.as_tensor(psi, dtype=torch.float64)
    if psi.ndim != 1 or curves.theta.shape != psi.shape or not bool((psi < 0.0).all()):
        raise ConfigError(
            f"Curves {tuple(curves.theta.shape)} at heads {tuple(psi.shape)}: give those of one soil, as "
            ".ensemble(psi), at heads below zero."
        )
    if not all(bool(c.isfinite().all()) for c in curves):
        raise ConfigError(
            "Curves or their bands are not finite: leave out seeds that failed (.ensemble does), and heads that data "
            "say nothing of."
        )
    theta = curves.theta, curves.theta_sd.clamp_min(LEAST[0])
    log_k = curves.log_k, curves.log_k_sd.clamp_min(LEAST[1])
    candidates = [Gardner(), BrooksCorey(), VanGenuchten(), Haverkamp()] if laws is None else laws
    fits = {type(law).__name__: _fit(law, psi, theta, log_k, seed) for law in candidates}
    order = preferred([(f.off, f.size) for f in fits.values()])
    named = list(fits.items())
    texts = [formulas(shapes[n], -psi, *c, most) for n, c in (("theta", theta), ("log_k", log_k))]
    return DistilledCurves(dict(named[i] for i in order), *texts)


def _fit(law: SoilLaw, psi: Tensor, theta: tuple, log_k: tuple, seed: int) -> Fit:
    """The best of several starts."""
    generator, free = torch.Generator().manual_seed(seed), {}
    known = {"theta_r": 0.5 * theta[0].min(), "theta_s": theta[0].max(), "Ks": torch.exp(log_k[0].max())}
    for name, r in law.ranges.items():
        if r.fixed:
            continue
        u = torch.rand(STARTS, generator=generator, dtype=torch.float64)
        start = r.low * (r.high / r.low) ** u if r.low > 0.0 else r.low + (r.high - r.low) * u
        start[0] = r.default
        free[name] = Free(known[name].expand(STARTS).clamp(r.low, r.high) if name in known else start)
    values = theta[0], torch.exp(log_k[0])
    points = [
        tuple(t.expand(STARTS, -1) for t in (psi, v, sd)) for v, sd in zip(values, (theta[1], log_k[1]), strict=True)
    ]
    found = fit_curves(law, free, theta=points[0], conductivity=points[1], steps=200)
    best = int(found.chi2.nan_to_num(torch.inf).argmin())
    law, p = found.soil(best)
    again = {n: Free(v) if n in free else v for n, v in p.items()}
    one = fit_curves(law, again, theta=(psi, *theta), conductivity=(psi, values[1], log_k[1]), steps=50)
    return Fit(one, float((one.chi2 / (2 * len(psi))).sqrt()), len(free))
