"""The method of Bandai and Ghezzehei (2021): retention and conductivity curves from water contents at sensors.

Written anew from the description in Water Resources Research 57, e2020WR027642. Three networks:

    psi(t, z) = -exp(N(t, z)),   theta(psi) = sigmoid(M1(-ln(-psi))),   K(psi) = exp(M2(-ln(-psi)))

M1 and M2 are monotone, since all their weights are squared. The loss is the sum of squared errors of theta and of
squared residuals theta_t - K_z psi_z - K psi_zz - K_z, both at the sensors and nowhere else, without initial or
boundary conditions; inputs are raw centimetres and days, z upward; numbers are float32; Adam, then L-BFGS-B of scipy.
Derivatives are carried forward by jets, which changes what an evaluation costs and nothing else.

``python _pinn_bandai.py --check`` sees that it does what it should.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from udehydro.richards.pinn.jets import Orders, coordinates
from udehydro.richards.pinn.network import Network

ORDERS = Orders((0, 1), (1,))
BLOCK = 2560
DRIEST, WETTEST = -np.log(1e6), -np.log(1e-3)
"""-ln(-psi) at heads of -1e6 and -0.001 cm: where curves are turned round."""


class Monotone(nn.Module):
    """A network of one input and output that rises, tanh between layers, all weights squared."""

    def __init__(self, depth: int, width: int, seed: int):
        super().__init__()
        sizes, draw = [1, *[width] * depth, 1], torch.Generator().manual_seed(seed)
        pairs = list(zip(sizes, sizes[1:], strict=False))
        starts = [torch.randn(p, generator=draw, dtype=torch.float32) * (2.0 / sum(p)) ** 0.5 for p in pairs]
        self.matrices = nn.ParameterList(starts)
        self.biases = nn.ParameterList(torch.zeros(b, dtype=torch.float32) for _, b in pairs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Value and slope at x (n,)."""
        value, slope, last = x.unsqueeze(1), torch.ones_like(x).unsqueeze(1), len(self.matrices) - 1
        for i, (root, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            value, slope = value @ root**2 + bias, slope @ root**2
            if i < last:
                value = torch.tanh(value)
                slope = slope * (1.0 - value**2)
        return value.squeeze(1), slope.squeeze(1)


class Networks(nn.Module):
    """Head, retention and conductivity."""

    def __init__(self, seed: int, field: tuple[int, int], curve: tuple[int, int]):
        super().__init__()
        self.field = Network(2, 1, depth=field[0], width=field[1], seeds=(seed,), adaptive=False).float()
        self.retention, self.conductivity = (Monotone(*curve, 2 * seed + i) for i in range(2))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Water content and residual [1/d] at the jets of points (1, 2, channel, n)."""
        log, log_t, log_z, log_zz = self.field(features, ORDERS)[0, 0].unbind(0)
        m, m_slope = self.retention(-log)
        n, n_slope = self.conductivity(-log)
        psi, theta, k = -torch.exp(log), torch.sigmoid(m), torch.exp(n)
        theta_t, k_z = -theta * (1.0 - theta) * m_slope * log_t, -k * n_slope * log_z
        psi_z, psi_zz = psi * log_z, psi * (log_z**2 + log_zz)
        return theta, theta_t - k_z * psi_z - k * psi_zz - k_z


def features(t: Tensor, z: Tensor) -> Tensor:
    return torch.stack([j.channels for j in coordinates(torch.stack([t, z], -1), ORDERS)]).unsqueeze(0)


@dataclass(eq=False)
class Fitted:
    """Curves and head that were found; arguments and results are float64 arrays.

    Attributes
    ----------
    losses : at the start, behind Adam and at the end.
    iterations, evaluations : of L-BFGS-B; ``message`` is what it said.
    seconds : that all took.
    """

    networks: Networks
    losses: tuple[float, float, float]
    iterations: int
    evaluations: int
    message: str
    seconds: float

    @torch.no_grad()
    def psi(self, t, z) -> np.ndarray:
        """Head [cm] at times [d] and heights [cm], of one shape."""
        t, z = (torch.as_tensor(np.asarray(x, float)) for x in np.broadcast_arrays(t, z))
        at = torch.stack([t.flatten(), z.flatten()])[None, :, None]
        return -torch.exp(self.networks.field(at, Orders())).reshape(t.shape).numpy()

    def theta(self, psi) -> np.ndarray:
        """Water content at heads below zero [cm]."""
        return self._curves(-np.log(-np.asarray(psi, float)))[0]

    def conductivity(self, psi) -> np.ndarray:
        """K [cm/d] at heads below zero [cm]."""
        return self._curves(-np.log(-np.asarray(psi, float)))[2]

    def diffusivity_of(self, theta) -> np.ndarray:
        """D = K dpsi/dtheta [cm2/d] at water contents; nan where the curve does not reach them."""
        x = self._turned(theta)
        _, slope, k = self._curves(x)
        return k * np.exp(-x) / slope

    def conductivity_of(self, theta) -> np.ndarray:
        """K [cm/d] at water contents; nan where the curve does not reach them."""
        return self._curves(self._turned(theta))[2]

    @torch.no_grad()
    def _curves(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """theta, its slope by x = -ln(-psi), and K."""
        flat = torch.as_tensor(x.reshape(-1))
        m, slope = self.networks.retention(flat)
        theta, k = torch.sigmoid(m), torch.exp(self.networks.conductivity(flat)[0])
        return tuple(a.reshape(x.shape).numpy() for a in (theta, theta * (1.0 - theta) * slope, k))

    def _turned(self, theta) -> np.ndarray:
        """x at water contents, by bisection."""
        theta = np.asarray(theta, float)
        low, high = (np.full(theta.shape, end) for end in (DRIEST, WETTEST))
        outside = (theta < self._curves(low)[0]) | (theta > self._curves(high)[0])
        for _ in range(60):
            middle = 0.5 * (low + high)
            above = self._curves(middle)[0] > theta
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return np.where(outside, np.nan, 0.5 * (low + high))


def fit(
    t,
    z,
    theta,
    seed: int = 0,
    *,
    adam: int = 1000,
    lbfgs: int = 50_000,
    field: tuple[int, int] = (8, 40),
    curve: tuple[int, int] = (1, 40),
) -> Fitted:
    """Fit all three networks to water contents.

    Parameters
    ----------
    t, z, theta : times [d], heights [cm, upward] and water contents (n,) of all readings.
    seed : of the weights, Glorot and Bengio (2010).
    adam, lbfgs : steps of Adam at its default rate, and at most so many iterations and evaluations of L-BFGS-B; the
        defaults are those of the paper.
    field, curve : layers and units; of curves the paper scanned 1 to 3 layers of 10 to 40.
    """
    start, networks = time.perf_counter(), Networks(seed, field, curve)
    t, z, theta = (torch.as_tensor(np.asarray(x, float).ravel()).float() for x in (t, z, theta))
    parts = [(features(*p[:2]), p[2]) for p in zip(*(x.split(BLOCK) for x in (t, z, theta)), strict=True)]

    def loss() -> float:
        networks.zero_grad()
        total = 0.0
        for jets, wanted in parts:
            found, residual = networks(jets)
            part = ((found - wanted) ** 2).sum() + (residual**2).sum()
            part.backward()
            total += part.item()
        return total

    moved = [p for p in networks.parameters() if p.requires_grad]
    first, optimiser = loss(), torch.optim.Adam(moved)
    for _ in range(adam):
        loss()
        optimiser.step()
    second = loss()

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        with torch.no_grad():
            vector_to_parameters(torch.as_tensor(x).float(), moved)
        return loss(), parameters_to_vector([p.grad for p in moved]).double().numpy()

    limits = dict(maxiter=lbfgs, maxfun=lbfgs, maxcor=50, maxls=50, ftol=np.finfo(float).eps)
    done = minimize(
        value, parameters_to_vector(moved).detach().double().numpy(), jac=True, method="L-BFGS-B", options=limits
    )
    third = value(done.x)[0]
    spent = time.perf_counter() - start
    return Fitted(networks.double(), (first, second, third), done.nit, done.nfev, done.message, spent)


def nested(networks: Networks, t: Tensor, z: Tensor) -> Tensor:
    """The residual as it is written, by nested differentiation."""
    t, z = t.clone().requires_grad_(), z.clone().requires_grad_()

    def d(y: Tensor, x: Tensor) -> Tensor:
        return torch.autograd.grad(y.sum(), x, create_graph=True)[0]

    w, log = networks.field.weights(), torch.stack([t, z], -1)
    for i in range(0, len(w) - 2, 2):
        log = torch.tanh(log @ w[i][0] + w[i + 1][0])
    psi = -torch.exp(log @ w[-2][0] + w[-1][0]).squeeze(-1)
    theta = torch.sigmoid(networks.retention(-torch.log(-psi))[0])
    k = torch.exp(networks.conductivity(-torch.log(-psi))[0])
    return d(theta, t) - d(k, z) * d(psi, z) - k * d(d(psi, z), z) - d(k, z)


def check() -> None:
    """Residuals against nested differentiation, and a short fit of a front that moves down."""
    t, z = (x.ravel() for x in np.meshgrid(np.linspace(0.0, 3.0, 61), -np.arange(1.0, 20.0, 2.0), indexing="ij"))
    theta = 0.1 + 0.25 / (1.0 + np.exp(-(z + 6.0 * t) / 3.0))
    networks = Networks(3, (3, 20), (2, 10)).double()
    at = [torch.as_tensor(x[::7]) for x in (t, z)]
    true = nested(networks, *at).detach()
    off = float((networks(features(*at))[1] - true).detach().abs().max() / true.abs().max())
    assert off < 1e-10, f"residuals are off by {off:.1e}"
    found = fit(t, z, theta, adam=300, lbfgs=300)
    first, second, third = found.losses
    assert third < second < first, f"losses {found.losses} do not fall"
    heads = -np.logspace(4.0, -1.0, 200)
    curves = [found.theta(heads), found.conductivity(heads)]
    assert all(np.isfinite(c).all() and (np.diff(c) > 0.0).all() for c in curves), "curves do not rise"
    visited = found.theta(found.psi(t, z))
    error = float(np.sqrt(np.mean((visited - theta) ** 2)))
    assert error < 0.5 * theta.std(), f"water contents are off by {error:.3f}"
    inner = np.quantile(visited, [0.1, 0.5, 0.9])
    x = found._turned(inner)
    np.testing.assert_allclose(found.theta(-np.exp(-x)), inner, rtol=1e-10)
    h = 1e-4 * np.exp(-x)
    capacity = (found.theta(-np.exp(-x) + h) - found.theta(-np.exp(-x) - h)) / (2.0 * h)
    np.testing.assert_allclose(found.diffusivity_of(inner), found.conductivity_of(inner) / capacity, rtol=1e-5)
    print(f"residuals agree to {off:.0e}; losses {first:.3g}, {second:.3g}, {third:.3g}; error of theta {error:.4f}")
    print(f"{found.iterations} iterations, {found.evaluations} evaluations, {found.seconds:.0f} s: {found.message}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", required=True)
    parser.parse_args()
    check()
