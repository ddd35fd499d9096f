"""An ansatz of one's own: the same head as the built-in form where it is the same, and exact derivatives."""

import numpy as np
import torch

from udehydro.richards import laws
from udehydro.richards.pinn.clock import Clock
from udehydro.richards.pinn.field import Ansatz, Box, Profile, product, start_gate, wall_gate
from udehydro.richards.pinn.jets import Orders
from udehydro.richards.pinn.problem import Counts, Problem, Region, Wall
from udehydro.richards.pinn.soil import Soil

SOFT = {"theta_r": 0.06, "theta_s": 0.40, "alpha": 1.0, "Ks": 24.0}
BOX = Box((0.0, 0.0), (0.4, 10.0))
Z = np.linspace(0.0, 10.0, 51)
WALLS = [Wall("flux", -21.6), Wall("kept", upper=False)]
GATE = product(start_gate(Clock(0.0, 0.4, (0.0,))), wall_gate(1, 0.0, 10.0))


def problem(**region):
    return Problem([Region(BOX, Soil(laws.Gardner(), SOFT), events=(0.0,), **region)], WALLS, 21.6, 2.0)


def test_the_built_in_form_as_an_ansatz():
    profile = Profile(Z, -(np.sin(Z / 3.0) ** 2))
    mine = Ansatz(profile, GATE, lambda u, known, gate: u * gate * 2.0 + known)
    built_in, own = problem(psi0=profile), problem(ansatz=mine)
    chi2 = []
    for p in (built_in, own):
        system = p.system(p.fields((0, 1), width=5, depth=2), 0, Counts(30, 9))
        chi2.append(system.normal(system.start()))
    torch.testing.assert_close(chi2[0].chi2, chi2[1].chi2)
    torch.testing.assert_close(chi2[0].normal, chi2[1].normal)


def test_derivatives_of_a_bent_ansatz():
    """Of psi = ln(0.1 + known exp(gate u)), against central differences."""

    def join(u, known, gate):
        v = u * gate
        y = torch.exp(v.value)
        k = known * v.through(y, y, y) + 0.1
        return k.through(torch.log(k.value), 1.0 / k.value, -1.0 / k.value**2)

    field = problem(ansatz=Ansatz(Profile(Z, 1.0 + np.cos(Z / 3.0)), GATE, join)).fields((0, 1), width=5, depth=2)[0]
    at, h = torch.tensor([[0.1, 3.0], [0.3, 7.0]], dtype=torch.float64), 1e-4
    jet, step = field(at, Orders((0, 1), (1,)))[0], torch.tensor([0.0, h], dtype=torch.float64)
    up, here, down = (field(at + k * step)[0].value for k in (1, 0, -1))
    torch.testing.assert_close(jet.d(1), (up - down) / (2 * h), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(jet.dd(1), (up - 2 * here + down) / h**2, rtol=1e-4, atol=1e-5)
    late, early = (field(at + k * step.flip(0))[0].value for k in (1, -1))
    torch.testing.assert_close(jet.d(0), (late - early) / (2 * h), rtol=1e-6, atol=1e-6)
