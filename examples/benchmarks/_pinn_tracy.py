"""Tracy's square, wetted from above, for physics-informed networks, with an ansatz for what is singular in it.

In k = exp(alpha psi) the problem is diffusion in a gravity field. Its top jumps at the start, from k_r to
k_r + (1 - k_r) sin(pi x / L), and heads there change like the logarithm of the distance from the upper corners. Of

    exp(alpha psi) = k_r + (1 - k_r) sin(pi x / L) E(z, t) exp(a (L - z) / L N(t, x, z))

with network N the front that enters at first is E, that of diffusion alone from a constant top into a layer above a
base that stays dry: erfc(d / r) - erfc((2 L - d) / r), depth d, r = 2 sqrt(D t). Gravity, and what flows sideways, are
left to the network, which the head at the start and at all walls does not depend on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from _pinn_cases import Case, constant
from _richards_common import relative

from udehydro.richards import exact, laws
from udehydro.richards.pinn import Box, Problem, Region, Soil, Solution, Wall
from udehydro.richards.pinn.field import Ansatz
from udehydro.richards.pinn.jets import Jet
from udehydro.richards.pinn.points import grid

DAY = 86400.0
LENGTH, ALPHA, DRY, KS = 1524.0, 0.00328, -1524.0, 1e-3 * DAY
THETA = (0.15, 0.45)
LAST = 2e5 / DAY
"""By then [d] the front has come to the base."""
SIDE = 41
"""Times, and places along each axis, of the grid that errors are taken on, without the start."""
SOIL = Soil(laws.Gardner(), {"theta_r": THETA[0], "theta_s": THETA[1], "alpha": ALPHA, "Ks": KS})
TRUTH = exact.Tracy(*THETA, ALPHA, KS, LENGTH, DRY)
EARLY = (1e-4, 1e-3, 1e-2)
"""Of the time, before the first that errors are taken at."""
K_DRY = math.exp(ALPHA * DRY)
DIFFUSIVITY = KS / (ALPHA * (THETA[1] - THETA[0]))
BOX = Box((0.0, 0.0, 0.0), (LAST, LENGTH, LENGTH))
GATE = 2.0
"""a: scale of the exponent, some alpha L / 2."""


def square(own: bool = True, **options) -> Case:
    """The case with the ansatz, or with the head itself: psi_r and a network that the walls but the top multiply."""
    region, walls = Region(BOX, SOIL, ansatz=ANSATZ, events=(0.0,), crowd=(2,)), []
    if not own:
        region = Region(BOX, SOIL, constant(DRY), (0.0,), (2,))
        kept = [Wall("kept", axis=1, upper=False), Wall("kept", axis=1), Wall("kept", axis=2, upper=False)]
        walls = [*kept, Wall("head", lambda at: torch.log(_top(at[:, 1])) / ALPHA)]
    at = grid(BOX, SIDE, SIDE, SIDE).numpy()
    at = at[at[:, 0] > 0.0]
    t, x, z = at.T
    problem = Problem([region], walls, flux=KS, head=1.0 / ALPHA, **options)
    return Case(problem, at, TRUTH.theta(x, z, t=t), TRUTH.psi(x, z, t=t))


def before_training() -> float:
    """Error of the head where the network is zero."""
    case = square()
    field = case.problem.fields((0,), width=2, depth=1)[0]
    for weight in field.network.parameters():
        weight.data.zero_()
    found = field(torch.as_tensor(case.points))[0].value[0].numpy()
    return relative(found, case.psi)


def shown(case: Case, found: Solution) -> dict:
    """Heads (place, height) of the first seed, and true ones, half-way through; and the largest of the relative errors
    of all seeds at each of some early times."""
    at = np.isclose(case.points[:, 0], 0.5 * LAST)
    pair = found.psi(case.points[at])[0].numpy(), case.psi[at]
    kept = {name: p.reshape(SIDE, SIDE).tolist() for name, p in zip(("found", "true"), pair, strict=True)}
    return kept | {
        "early": [max(relative(p, true) for p in found.psi(at).numpy()) for at, true in map(entering, EARLY)]
    }


def entering(share: float) -> tuple[np.ndarray, np.ndarray]:
    """Points at a share of the time, as deep as the front has come, where that grid is too coarse; heads there."""
    t, deep = share * LAST, 6.0 * math.sqrt(DIFFUSIVITY * share * LAST)
    x, z = np.linspace(0.0, LENGTH, SIDE), np.linspace(LENGTH - deep, LENGTH, SIDE)
    at = np.stack(np.meshgrid([t], x, z, indexing="ij"), -1).reshape(-1, 3)
    return at, TRUTH.psi(at[:, 1], at[:, 2], t=t)


def _top(x: torch.Tensor) -> torch.Tensor:
    """exp(alpha psi) there."""
    return K_DRY + (1.0 - K_DRY) * torch.sin(math.pi * x / LENGTH).clamp_min(0.0)


def front(now: Sequence[Jet]) -> Jet:
    """(1 - k_r) sin(pi x / L) E."""
    depth = now[2] * -1.0 + LENGTH
    entered = _erfc(depth, now[0]) + _erfc(depth * -1.0 + 2.0 * LENGTH, now[0]) * -1.0
    angle = now[1] * (math.pi / LENGTH)
    sine = torch.sin(angle.value)
    return entered * angle.through(sine, torch.cos(angle.value), -sine) * (1.0 - K_DRY)


def _erfc(distance: Jet, time: Jet, least: float = 1e-12) -> Jet:
    """erfc(distance / 2 sqrt(D t)), zero at the start."""
    root = time.sqrt()
    r = root.value.clamp_min(least)
    x = distance * root.through(1.0 / r, -1.0 / r**2, 2.0 / r**3) * (0.5 / math.sqrt(DIFFUSIVITY))
    bell = 2.0 / math.sqrt(math.pi) * torch.exp(-(x.value**2))
    found = x.through(torch.erfc(x.value), -bell, 2.0 * x.value * bell)
    return Jet(found.channels.nan_to_num(0.0, 0.0, 0.0), found.orders)


def _join(u: Jet, known: Jet, gate: Jet) -> Jet:
    power = u * gate
    y = torch.exp(power.value)
    k = known * power.through(y, y, y) + K_DRY
    return k.through(torch.log(k.value), 1.0 / k.value, -1.0 / k.value**2) * (1.0 / ALPHA)


ANSATZ = Ansatz(front, lambda now: (now[2] * -1.0 + LENGTH) * (GATE / LENGTH), _join)
