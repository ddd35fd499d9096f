"""fit: find the free values of an inversion by nonlinear least squares."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from udehydro.errors import ConfigError, SolverError
from udehydro.richards.column.result import ColumnRun
from udehydro.richards.inversion.curves import Bands
from udehydro.richards.inversion.doubts import at_limit, doubts
from udehydro.richards.inversion.free import Free
from udehydro.richards.inversion.gauge import heed
from udehydro.richards.inversion.inversion import Inversion
from udehydro.richards.inversion.setting import Setting
from udehydro.richards.inversion.summary import line, table
from udehydro.richards.inversion.visited import bands
from udehydro.richards.laws import Corrected
from udehydro.richards.laws.free_form import FreeForm
from udehydro.training.levenberg import Normal, covariance_of, minimise


@dataclass(frozen=True, eq=False)
class Fitted:
    """What was found.

    Attributes
    ----------
    inversion : what was asked.
    x : (members, P) what was searched; ``values`` in physical units, ``names`` of both.
    chi2 : (members,) squared residuals in units of sigma, and squared distances from priors; ``parts`` (members,) of
        every series, by name; ``counts`` (members,) observations of each, by name, which the parts are about where the
        fit is as good as sigma says.
    normal : (members, P, P) matrix of the last normal equations, priors included.
    iterations, converged : (members,).
    """

    inversion: Inversion
    x: Tensor
    chi2: Tensor
    parts: Mapping[str, Tensor]
    counts: Mapping[str, Tensor]
    normal: Tensor = field(repr=False)
    iterations: Tensor
    converged: Tensor

    def __repr__(self) -> str:
        return line(self)

    def summary(self, member: int = 0) -> str:
        """A table of name, value, standard deviation, and what ended at a limit; standard deviations in per cent are
        relative, of values whose logarithm was searched."""
        return table(self, member)

    @property
    def names(self) -> tuple[str, ...]:
        return self.inversion.unknowns.names

    @property
    def values(self) -> Tensor:
        """(members, P) in physical units."""
        return self.inversion.unknowns.physical(self.x)

    @property
    def misfit(self) -> Tensor:
        """chi2 by observation (members,), priors left out: about one where the fit is as good as sigma says."""
        return sum(self.parts.values()) / sum(self.counts.values()).clamp_min(1)

    @property
    def at_limit(self) -> tuple[tuple[str, ...], ...]:
        """By member, the names of values that ended at one of their limits: the data ask for more, or say nothing."""
        return tuple(
            tuple(n for n, here in zip(self.names, row, strict=True) if here) for row in at_limit(self).tolist()
        )

    @property
    def setting(self) -> Setting:
        """Column, ``p`` and ``psi0`` as found, ready for :func:`~udehydro.richards.column.flow`."""
        return self.inversion.at(self.x)

    def run(self, progress: bool = False) -> ColumnRun:
        """The column as found."""
        return self.inversion.run(self.x, progress)

    def curves(self, psi: Tensor, layer: int = 0) -> Bands:
        """Curves of a layer at heads ``psi`` (N,) with their standard deviations (*batch, N)."""
        return bands(self, psi, layer)

    @property
    def covariance(self) -> Tensor:
        """Covariance (members, P, P) of what was searched, by Laplace's approximation: of the column linearised at what
        was found, errors and priors being what they were said to be. A value that nothing tells of gets a large number,
        not infinity."""
        return covariance_of(self.normal)

    @property
    def sd(self) -> Tensor:
        """Standard deviation (members, P) of what was searched: a relative error where that is the logarithm
        (``inversion.unknowns.logarithmic``)."""
        return self.covariance.diagonal(dim1=-2, dim2=-1).sqrt()


def fit(
    inversion: Inversion,
    *,
    x: Tensor | None = None,
    steps: int = 40,
    tolerance: float = 1e-5,
    gauge: Literal["warn", "refuse", "ignore"] = "warn",
    progress: bool = False,
) -> Fitted:
    """Find the free values that explain the observations best: maximum likelihood, or with priors maximum a posteriori.

    Levenberg-Marquardt on the exact derivatives of the column, bounds kept. Columns that share no unknown are fitted
    side by side, each with a damping of its own; columns that cannot be run at a trial go back.

    Parameters
    ----------
    x : (members, P) where to start, in place of the starts of the free values.
    steps, tolerance : most iterations, and the relative gain in chi2 at which a member has converged.
    gauge : what to do where curves without a formula are to be found that the data leave open (see
        :func:`check_gauge`), before anything is fitted; formulas have no room for that, but may be hardly known.
    progress : whether to show a bar.

    Weights of laws that are unknowns are left as they were found.

    Raises
    ------
    ConfigError
        Where the data leave curves open, or hardly determine them, and that is to be refused.
    SolverError
        Where a column cannot be run at the start; names it.

    Warns
    -----
    UserWarning
        For curves that the data hardly determine; for values that ended at limits, members that did not converge, and
        a misfit far beyond what sigma says.
    """
    heed(inversion, gauge, x, needed=_free_form(inversion))
    unknowns, task = inversion.unknowns, _Task(inversion, _start(inversion, x))
    everything = torch.ones_like(unknowns.low, dtype=torch.bool)
    found, now, iterations, converged = minimise(
        task.evaluate,
        task.x,
        unknowns.low,
        unknowns.high,
        everything,
        steps=steps,
        tolerance=tolerance,
        progress="inversion" if progress else None,
    )
    unknowns.put_weights(found)
    parts = {n: now.parts[:, i] for i, n in enumerate(task.names)}
    fitted = Fitted(inversion, found, now.chi2, parts, task.counts, now.normal, iterations, converged)
    if text := doubts(fitted):
        warnings.warn(f"What was found is in doubt:\n{text}", stacklevel=2)
    return fitted


def _free_form(inversion: Inversion) -> bool:
    """Whether curves without a formula are searched."""
    laws = [layer.law for layer in inversion.column.layers]
    if inversion.weights is not None:
        return any(isinstance(law, FreeForm | Corrected) for law in laws)
    pairs = zip(laws, inversion.unknowns.setting.p, strict=True)
    return any(isinstance(law, FreeForm) and any(isinstance(v, Free) for v in p.values()) for law, p in pairs)


def _start(inversion: Inversion, x: Tensor | None) -> Tensor:
    """A start within the bounds."""
    u = inversion.unknowns
    x = u.start if x is None else x.to(u.start).expand_as(u.start)
    return torch.minimum(torch.maximum(x, u.low), u.high)


class _Task:
    """Normal equations of an inversion. All members are run at once; those not asked stay where they last ran."""

    def __init__(self, inversion: Inversion, x: Tensor):
        self.inversion, self.x, self.known = inversion, x.clone(), x.clone()
        self.names = _names(inversion)
        self.counts = dict(zip(self.names, inversion.measured(len(x)), strict=True))

    def evaluate(self, x: Tensor, index: Tensor) -> Normal:
        full, failed = self.known.clone(), torch.zeros(len(self.known), dtype=torch.bool, device=x.device)
        full[index] = x
        for _ in range(len(self.known) + 1):
            try:
                normal = self._linearise(full)
                break
            except (SolverError, ConfigError) as error:  # of values that a column cannot have
                bad = self._members(error)
                if bool((full == self.known)[bad].all()) or not bool(bad.any()):
                    raise
                failed |= bad
                full[bad] = self.known[bad]
        normal.chi2[failed | ~normal.chi2.isfinite()] = torch.inf
        good = normal.chi2.isfinite()
        self.known[good] = full[good]
        return normal.take(index)

    def _members(self, error: SolverError | ConfigError) -> Tensor:
        members, failed = len(self.known), getattr(error, "failed", None)
        if failed is None:
            return torch.ones(members, dtype=torch.bool, device=self.known.device)
        failed = failed.reshape(-1)
        return failed if members > 1 else failed.any().reshape(1)

    def _linearise(self, x: Tensor) -> Normal:
        u = self.inversion.unknowns
        _, found, jacobian = self.inversion.residuals(x)
        residual, off = torch.cat(found, dim=-1), x - u.start
        parts = torch.stack([r.square().sum(-1) for r in found], dim=-1)
        gradient = (jacobian @ residual.unsqueeze(-1)).squeeze(-1) + u.precision * off
        normal = jacobian @ jacobian.mT + torch.diag_embed(u.precision)
        return Normal(parts.sum(-1) + (u.precision * off.square()).sum(-1), gradient, normal, parts)


def _names(inversion: Inversion) -> list[str]:
    """Names of series, numbered where two have the same."""
    names, found = [s.name for s in inversion.observed], []
    for i, n in enumerate(names):
        found.append(n if names.count(n) == 1 else f"{n} ({names[:i].count(n) + 1})")
    return found
