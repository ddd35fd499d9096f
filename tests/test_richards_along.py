"""Derivatives of a column along directions: the transpose of its adjoint, for everything a run is made of."""

import pytest
import torch
from test_richards_column import CELLS, EDGES, GRID, KINDS, LOAM, ROOTS, VALUES, clock

from udehydro import Forcing
from udehydro.errors import ConfigError, SolverError
from udehydro.richards.column import (
    Adaptive,
    Atmospheric,
    Column,
    Fixed,
    Flux,
    FreeDrainage,
    Head,
    Layer,
    RootUptake,
    Source,
    WaterContent,
    flow,
    flow_along,
)
from udehydro.richards.laws import Corrected, Gardner, MonotoneNet, VanGenuchten
from udehydro.solvers import BACKWARD_EULER, SDIRK2

STATES = ("psi", "theta", "ends", "pond", "top", "bottom", "runoff", "evaporation", "uptake", "storage")


def weigh(states, seed):
    """A random functional of all states, of all columns; of slopes (batch before it) one for every direction."""
    generator, total = torch.Generator().manual_seed(seed), 0.0
    for name in STATES:
        series = getattr(states, name)
        shape = series.shape if not hasattr(states, "lead") else (series.shape[0], *series.shape[2:])
        total = total + (torch.rand(shape, generator=generator, dtype=series.dtype) * series).sum()
    return total


class Slopes:
    """Slopes along one direction, without the axis of directions."""

    def __init__(self, slopes, direction):
        for name in STATES:
            setattr(self, name, getattr(slopes, name)[:, direction])


def check(column, forcing, p, psi0, leaves, along, **options):
    """<w, J v> of :func:`flow_along` is <J^T w, v> of the gradient of :func:`flow`, for each direction v."""
    run = flow(column, forcing, p, psi0, **options)
    gradients = torch.autograd.grad(weigh(run, 1), list(leaves.values()), allow_unused=True, materialize_grads=True)
    again, slopes = flow_along(column, forcing, p, psi0, along, **options)
    assert torch.equal(again.psi, run.psi) and not slopes.psi.requires_grad
    count = len(next(iter(along.values())))
    assert slopes.psi.shape == (len(forcing) + 1, count, *forcing.batch, column.grid.cells)
    for i in range(count):
        expected = sum((g * along[k][i]).sum() for k, g in zip(leaves, gradients, strict=True) if k in along)
        found = weigh(Slopes(slopes, i), 1)
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-11), (i, float(found), float(expected))


def directions(leaves, count=3):
    generator = torch.Generator().manual_seed(0)
    found = {
        k: torch.rand(count, *v.shape, generator=generator, dtype=v.dtype) * (1.0 + v.detach().abs())
        for k, v in leaves.items()
    }
    for v in found.values():
        v[2] = 0.0
    first = next(iter(found))
    found[first][2] = 1.0
    return found


class TestTranspose:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("tableau", [BACKWARD_EULER, SDIRK2], ids=lambda t: t.name)
    def test_every_boundary(self, kind, tableau):
        top, bottom, sinks = KINDS[kind]
        made = {"roots": RootUptake("b", ROOTS), "source": Source(torch.full((CELLS,), 0.01, requires_grad=True))}
        column = Column(GRID, VanGenuchten(), top, bottom, [made[s] for s in sinks])
        forcing = Forcing(VALUES, {n: "cm/d" if n in "abf" else "cm" for n in VALUES}, EDGES)
        p = {n: torch.tensor(v, requires_grad=True) for n, v in LOAM.items()}
        psi0 = torch.linspace(-60.0, -40.0, CELLS).requires_grad_()
        leaves = {("soil", 0, n): v for n, v in p.items()} | {"psi0": psi0}
        if sinks:
            leaves["sink", 1, "rate"] = made["source"].rate
        check(column, forcing, p, psi0, leaves, directions(leaves), tableau=tableau, steps=Fixed(3))

    @pytest.mark.parametrize("steps", [Fixed(3), Adaptive(1e-3)], ids=["fixed", "adaptive"])
    def test_batches_layers_and_values_of_boundaries(self, steps):
        """Values by column, by cell, in time and in common; the soil below saturates and is compressed."""
        shapes = {"Ks": torch.full((2, 3), 20.0), "theta_s": torch.tensor([0.4, 0.45])}
        upper = {n: v.requires_grad_() for n, v in shapes.items()} | {"theta_r": 0.05, "alpha": 0.03}
        lower = {n: torch.tensor(v, requires_grad=True) for n, v in LOAM.items()}
        rain = torch.tensor([[30.0, 2.0], [0.0, 1.0]], requires_grad=True)
        evaporation = torch.tensor(0.5, requires_grad=True)
        psi0 = torch.tensor([[-50.0], [-80.0]], requires_grad=True)
        column = Column(
            GRID,
            [Layer(Gardner(), GRID.edges[3]), Layer(VanGenuchten(), specific_storage=1e-4)],
            Atmospheric(rain, evaporation, pond=0.5),
            Head(15.0),
        )
        leaves = {("soil", 0, n): upper[n] for n in shapes} | {("soil", 1, n): v for n, v in lower.items()}
        leaves |= {("top", 0, "rain"): rain, ("top", 0, "evaporation"): evaporation}
        forcing = clock(0.4, 1.0, batch=(2,))
        along = directions(leaves)
        moved = {"psi0": torch.rand(3, 2, 1, dtype=torch.float64)}
        check(column, forcing, [upper, lower], psi0, leaves | {"psi0": psi0}, along | moved, steps=steps)

    @pytest.mark.parametrize("law", [MonotoneNet(4), Corrected(VanGenuchten(), 3)], ids=lambda law: type(law).__name__)
    def test_weights(self, law):
        p = law.imitate(VanGenuchten(), LOAM) if isinstance(law, MonotoneNet) else LOAM
        column = Column(GRID, law, Flux(-1.0), FreeDrainage())
        leaves = dict(enumerate(column.weights()))
        check(column, clock(1.0), p, -50.0, leaves, directions(leaves), steps=Fixed(4))

    def test_initial_water_content(self):
        """Heads at the start follow from soil and content: the content itself does not move with the soil."""
        p = {n: torch.tensor(v, requires_grad=True) for n, v in LOAM.items()}
        theta0 = torch.linspace(0.15, 0.3, CELLS).requires_grad_()
        column = Column(GRID, VanGenuchten(), Flux(-1.0), FreeDrainage())
        leaves = {("soil", 0, n): v for n, v in p.items()} | {"theta0": theta0}
        check(column, clock(1.0), p, WaterContent(theta0), leaves, directions(leaves), steps=Fixed(4))
        still = {("soil", 0, "alpha"): torch.ones(1)}
        _, slopes = flow_along(column, clock(1.0), p, WaterContent(theta0.detach()), still, steps=Fixed(2))
        assert float(slopes.theta[0].abs().max()) < 1e-14 and float(slopes.psi[0].abs().max()) > 1.0

    def test_parts(self, monkeypatch):
        """Steps followed, and laws differentiated, in parts are those taken at once."""
        from udehydro.richards.column import tangent

        column, along = Column(GRID, VanGenuchten(), Flux(-1.0), FreeDrainage()), {("soil", 0, "n"): torch.ones(2)}
        whole = flow_along(column, clock(1.0), LOAM, -50.0, along, steps=Fixed(5))[1]
        monkeypatch.setattr(tangent, "MOST", 40)
        parts = flow_along(column, clock(1.0), LOAM, -50.0, along, steps=Fixed(5))[1]
        assert torch.allclose(whole.psi, parts.psi, rtol=1e-12) and torch.allclose(whole.bottom, parts.bottom)


def test_errors():
    column = Column(GRID, VanGenuchten(), Flux(-1.0), FreeDrainage())
    for along, message in (({("soil", 0, "beta"): torch.ones(1)}, "has no"), ({}, "as many directions")):
        with pytest.raises(ConfigError, match=message):
            flow_along(column, clock(1.0), LOAM, -50.0, along)
    with pytest.raises(ConfigError, match="as many directions"):
        flow_along(column, clock(1.0), LOAM, -50.0, {"psi0": torch.ones(2), ("soil", 0, "n"): torch.ones(3)})
    with pytest.raises(ConfigError, match="starts from psi0: .* not 'theta0'"):
        flow_along(column, clock(1.0), LOAM, -50.0, {"theta0": torch.ones(1)})
    with pytest.raises(ConfigError, match="starts from theta0: .* not 'psi0'"):
        flow_along(column, clock(1.0), LOAM, WaterContent(0.2), {"psi0": torch.ones(1)})
    with pytest.raises(SolverError, match="theta0=0.5 of cell 0 is beyond what its soil holds"):
        flow(column, clock(1.0), LOAM, WaterContent(0.5))
