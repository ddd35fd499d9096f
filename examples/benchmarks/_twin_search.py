"""The searches of the inverse twin: what is learned, from what, and where it starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from _twin_bounds import bounds, curves, size, spread, truly
from _twin_case import (
    CELLS,
    DEPTHS,
    ENTRY,
    GUESS,
    HEIGHT,
    SIGMA_PSI,
    SIGMA_THETA,
    STEPS,
    TENSIOMETER,
    Truth,
    column,
    initial_at,
    observe,
    weather,
)
from torch import Tensor

from udehydro.richards.column import Adaptive, Grid
from udehydro.richards.inversion import Fitted, Free, Inversion, Observed, check_gauge, fit, knots
from udehydro.richards.laws import FreeForm, MonotoneNet, MonotoneSpline, SoilLaw, VanGenuchten, soil_class

SEEDS = tuple(range(10))
ITERATIONS = 100
PSI0 = -50.0
"""Heads at the start [cm] where a search begins that does not know them."""
FIXED = ("l", "entry")
"""Parameters of van Genuchten's formula that count as known."""
KNOTS = (0.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0, 3.25, 3.5, 4.0, 5.0, 8.0)
"""In x, which is pF + 1 in dry soil: a quarter of a decade apart from 2 to 300 cm."""
PRIORS = {"theta_r": 0.05, "theta_s": 0.05, "Ks": 2.0, "G": 1.0, "H": 1.0}
"""Standard deviations of what is known beforehand around the guess: of Ks and of rises G and H those of logarithms."""
CHOICE, WIDTHS = tuple(range(100, 105)), (0.5, 1.0, 2.0, 4.0)
"""Seeds on which the width of priors was chosen, and widths to choose from."""
UNITS = 8
"""Width of each of the two networks."""
SHOWN = -torch.logspace(0.0, 3.5, 141, dtype=torch.float64)
"""Heads of curves to look at [cm]."""


def free_form() -> MonotoneSpline:
    return MonotoneSpline(KNOTS, free="parameters")


@dataclass(frozen=True)
class Kind:
    """A way to learn: the law, whether a tensiometer is read, whether heads at the start are known, and the standard
    deviation of weights around those that imitate the guess; laws without weights have None. ``wider`` : by how much
    priors are wider than chosen."""

    law: Callable[[], SoilLaw] = free_form
    tensiometer: bool = True
    psi0_known: bool = True
    weights: float | None = None
    wider: float = 1.0


KINDS = {
    "free form": Kind(),
    "free form, wide priors": Kind(wider=8.0),
    "free form, unknown start": Kind(psi0_known=False),
    "free form, no tensiometer": Kind(tensiometer=False),
    "free form, neither": Kind(tensiometer=False, psi0_known=False),
    "networks": Kind(lambda: MonotoneNet(UNITS), weights=1.0),
    "van Genuchten": Kind(VanGenuchten),
}


def like(law: SoilLaw, p: Mapping[str, float]) -> dict:
    """Parameters of a law that is, or imitates, a soil of van Genuchten's."""
    return law.imitate(VanGenuchten(), p) if isinstance(law, FreeForm) else dict(p)


def inversion(
    kind: Kind,
    theta: Tensor,
    psi: Tensor,
    start: Mapping[str, float] | None = None,
    *,
    width: float = 1.0,
    steps: Adaptive = STEPS,
    cells: int = CELLS,
) -> Inversion:
    """Columns with sensors (T + 1, seed, ...), each seed with unknowns of its own.

    ``start`` : the soil where the search begins, and around which priors lie; the guess by default. ``width`` of
    priors, in units of :data:`PRIORS`.
    """
    law, batch = kind.law(), theta.shape[1:-1]
    p = like(law, start or soil_class(GUESS) | {"entry": ENTRY})
    observed = [Observed("theta", theta, SIGMA_THETA, DEPTHS)]
    if kind.tensiometer:
        observed.append(Observed("psi", psi, SIGMA_PSI, TENSIOMETER, log=True))
    psi0 = initial_at(Grid.uniform(HEIGHT, cells).depth)
    if not kind.psi0_known:
        ends = initial_at((0.0, HEIGHT)) if start else torch.full((2,), PSI0, dtype=torch.float64)
        between = knots((0.0, HEIGHT), Grid.uniform(HEIGHT, cells).depth)
        psi0 = Free(ends.expand(*batch, -1), low=-1e4, high=-1.0, spread=between)
    free = {n: v if n in FIXED else _free(n, v, batch, kind.wider * width) for n, v in p.items()}
    return Inversion(column(law, cells), weather(batch), free, psi0, observed, kind.weights, steps=steps)


def _free(name: str, value: float, batch: Sequence[int], width: float) -> Free:
    sd = PRIORS.get(name, PRIORS.get(name.rstrip("0123456789")))
    return Free(torch.full(batch, float(value), dtype=torch.float64), prior=width * sd if sd else None)


def limits(true: Truth, kind: Kind, **how) -> dict:
    """What data can tell at best, see :func:`_twin_bounds.bounds`, and which gauges they leave open."""
    asked = inversion(kind, true.theta.unsqueeze(1), true.psi.unsqueeze(1), true.p, **how)
    gauges = check_gauge(asked)
    return bounds(asked, true) | {"free": gauges.free, "weak": gauges.weak}


def learn(true: Truth, kind: Kind, seeds: Sequence[int], **how) -> dict:
    """Curves learned from the data of every seed, and the seconds that all took together.

    Seeds are columns of one search; those of networks have one each, as columns share the weights of their law.
    """
    result, seconds = {}, 0.0
    for some in [seeds] if kind.weights is None else [(s,) for s in seeds]:
        asked = inversion(kind, *observe(true, some), **how)
        started = time.perf_counter()
        found = fit(asked, steps=ITERATIONS, gauge="ignore")
        seconds += time.perf_counter() - started
        for name, values in told(true, found).items():
            result.setdefault(name, []).extend(values)
    return result | {"seconds": seconds, "seeds": list(seeds)}


def told(true: Truth, found: Fitted) -> dict:
    """Of every seed: errors of curves (seed, 3), the share of each within 1.96 of the standard deviations that the
    search claims, chi2 by observation, and curves to look at (seed, 3, shown) with standard deviations."""
    exact, near, seen = truly(true.law, true.p, true.heads()), found.curves(true.heads()), found.curves(SHOWN)
    off = curves(near) - curves(exact)
    return {
        "errors": size(off, exact).tolist(),
        "inside": (off.abs() <= 1.96 * spread(near)).double().mean(-1).tolist(),
        "chi2": found.misfit.tolist(),
        "iterations": found.iterations.tolist(),
        "converged": found.converged.tolist(),
        "values": [dict(zip(found.names, v, strict=True)) for v in found.values.tolist()],
        "curves": curves(seen).tolist(),
        "sd": spread(seen).tolist(),
    }


def choose(soils: Sequence[Truth], kind: Kind) -> dict[str, float]:
    """By the width of priors: the mean of the logarithm of errors, over seeds that count for nothing else."""
    found = {}
    for width in WIDTHS:
        off = [learn(true, kind, CHOICE, width=width)["errors"] for true in soils]
        found[str(width)] = float(torch.tensor(off).log().mean())
    return found


def chosen(choice: Mapping[str, float]) -> float:
    return float(min(choice, key=choice.get))
