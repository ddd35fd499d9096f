"""fit_curves: a soil law through measured points of its retention and conductivity."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from udehydro.richards.inversion.curve_search import Search
from udehydro.richards.inversion.free import Free
from udehydro.richards.inversion.points import points_of, tensor
from udehydro.richards.laws.base import SoilLaw
from udehydro.training.levenberg import covariance_of, minimise


class Bands(NamedTuple):
    """Curves of a fit at N heads with their standard deviations, (*sample, N): water content, and the natural logarithm
    of the conductivity in cm/d."""

    theta: Tensor
    theta_sd: Tensor
    log_k: Tensor
    log_k_sd: Tensor


@dataclass(frozen=True, eq=False)
class CurveFit:
    """What was found; ``*sample`` is () for one sample.

    Attributes
    ----------
    law : as given. Its weights are not changed; see :meth:`soil`.
    names : of the P values of a sample that were searched, weights last.
    x : (*sample, P) what was searched: the logarithm where limits are far apart, else the value.
    p : all parameters of the law as numbers, those that were free (*sample,).
    chi2 : (*sample,) squared residuals in units of sigma, and squared distances from priors; ``parts`` of "theta",
        "conductivity" and "prior"; ``counts`` how many points of each, which the parts are about for a good fit.
    covariance : (*sample, P, P) of x, by Laplace's approximation: of the curves linearised at what was found, errors
        and priors being what they were said to be, limits left out.
    iterations, converged : (*sample,).
    """

    law: SoilLaw
    names: tuple[str, ...]
    x: Tensor
    p: dict[str, Tensor | float]
    chi2: Tensor
    parts: Mapping[str, Tensor]
    counts: Mapping[str, Tensor]
    covariance: Tensor = field(repr=False)
    iterations: Tensor
    converged: Tensor
    search: Search = field(repr=False)

    @property
    def sd(self) -> Tensor:
        """Standard deviation (*sample, P) of x: of logarithms, a relative error."""
        return self.covariance.diagonal(dim1=-2, dim2=-1).sqrt()

    def curves(self, psi: Tensor) -> Bands:
        """Both curves and what is not known of them, at heads (N,) or (*sample, N)."""
        search = self.search
        psi = tensor(psi).expand(search.samples, -1)
        x = self.x.reshape(search.samples, -1)
        found, slopes = search.curves(x, search.fixed, psi, psi)
        covariance = self.covariance.reshape(search.samples, *self.covariance.shape[-2:])
        spread = [torch.einsum("snp,spq,snq->sn", s, covariance, s).clamp_min(0.0).sqrt() for s in slopes]
        return Bands(*(search.one(t) for t in (found[0], spread[0], found[1], spread[1])))

    def soil(self, sample: int = 0) -> tuple[SoilLaw, dict[str, float]]:
        """A law with the weights of a sample, and its ``p``, as columns take them."""
        law, x = deepcopy(self.law), self.x.reshape(self.search.samples, -1)[sample]
        for name, w in self.search.weights(x).items():
            law.get_parameter(name).data.copy_(w)
        pick = lambda v: float(v.reshape(-1)[sample if v.ndim else 0]) if isinstance(v, Tensor) else v  # noqa: E731
        return law, {n: pick(v) for n, v in self.p.items()}


def fit_curves(
    law: SoilLaw,
    p: Mapping[str, Tensor | float | Free],
    *,
    theta: tuple | None = None,
    conductivity: tuple | None = None,
    weights: float | None = None,
    smooth: Mapping[str, float] | None = None,
    steps: int = 100,
    tolerance: float = 1e-8,
    progress: bool = False,
) -> CurveFit:
    """Fit a soil law to points of its curves, by least squares on exact derivatives; with priors, maximum a posteriori.

    Many samples are fitted side by side, each for itself: points are then (sample, N), starts of free values (sample,).
    Points of both curves count by their sigma, so that shared parameters listen to both.

    Parameters
    ----------
    law : without members. Every sample has its own weights, which start from those of the law.
    p : its parameters; :class:`Free` where they are to be found, within the ranges of the law or limits given.
    theta : (psi, values, sigma): heads [cm], water contents, standard deviation of their errors. NaN is not measured.
    conductivity : (psi, values, sigma): heads [cm], conductivities [cm/d], standard deviation of their natural
        logarithm.
    weights : standard deviation of what is known of the law's weights around their present values, which then are
        searched, too; None leaves them alone.
    smooth : for names such as ``G`` of ``G1``, ``G2``, ... of a spline: standard deviation of the difference between
        the moves of neighbours from their starts, in what is searched. A start is then a shape that is kept where there
        are no points.
    steps, tolerance : most iterations, and the relative gain in chi2 at which a sample has converged.

    Raises
    ------
    ConfigError
        Where nothing is free, for names the law does not have, for starts that samples would share, for more unknowns
        than points and priors can tell, and for a value that nothing depends on.
    DataError
        For heads above zero, water contents outside 0 to 1, conductivities not above zero, and shapes that do not fit.
    """
    points = {"theta": points_of("theta", theta), "conductivity": points_of("conductivity", conductivity)}
    search = Search(law, p, points, weights, smooth or {})
    x, now, iterations, converged = minimise(
        search.evaluate,
        search.start,
        search.low.expand_as(search.start),
        search.high.expand_as(search.start),
        torch.ones_like(search.start, dtype=torch.bool),
        steps=steps,
        tolerance=tolerance,
        progress="curves" if progress else None,
    )
    one = search.one
    parts = dict(zip((*points, "prior"), one(now.parts).unbind(-1), strict=True))
    counts = {n: one(q.measured.sum(-1)) for n, q in search.points.items()}
    return CurveFit(
        law, search.names, one(x), search.physical(x), one(now.chi2), parts, counts,
        one(covariance_of(now.normal)), one(iterations), one(converged), search,
    )  # fmt: skip
