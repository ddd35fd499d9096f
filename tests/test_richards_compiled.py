"""Compiled loops of the soil column against the laws, and against the same run in torch."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from udehydro import Forcing
from udehydro.errors import SolverError
from udehydro.richards import laws
from udehydro.richards.column import (
    Adaptive,
    Atmospheric,
    Column,
    Fixed,
    Flux,
    FreeDrainage,
    Grid,
    Head,
    Layer,
    RootUptake,
    SeepageFace,
    Source,
    WaterTable,
    arithmetic,
    compiled,
    compiled_march,
    flow,
    geometric,
    harmonic,
    kernels,
    upwind,
)
from udehydro.richards.column.problem import bind
from udehydro.richards.exact import CASES
from udehydro.richards.laws import haverkamp, monotone_net, monotone_spline, van_genuchten
from udehydro.solvers import BACKWARD_EULER, SDIRK2, chain_numba

pytestmark = pytest.mark.skipif(chain_numba.njit is None, reason="needs numba")

LOAM = {"theta_r": 0.065, "theta_s": 0.41, "Ks": 10.0, "alpha": 0.05, "n": 2.2}
SILT = {"theta_r": 0.05, "theta_s": 0.46, "Ks": 6.0, "alpha": 0.016, "n": 1.4, "entry": 2.0}
GRID = Grid.graded(60.0, 1.5, 1.5)
ROOTS = torch.linspace(1.0, 0.0, GRID.cells, dtype=torch.float64)


def column_of(*values):
    return torch.tensor(values)[:, None]


LAWS = {
    "van Genuchten": (laws.VanGenuchten(), {"n": column_of(1.3, 3.0), "l": -0.5}),
    "with air entry": (laws.VanGenuchten(), {"n": column_of(1.3, 3.0), "entry": column_of(2.0, 0.0)}),
    "Gardner": (laws.Gardner(), {"alpha": column_of(0.5, 0.02)}),
    "Haverkamp": (laws.Haverkamp(), {"Ks": column_of(816.0, 1.0)}),
    "Haverkamp, logarithm": (laws.HaverkampLog(), {"beta": column_of(4.0, 1.2)}),
    "Brooks-Corey": (laws.BrooksCorey(), {"lambda": column_of(0.2, 3.0), "l": 0.5}),
    "spline": (laws.MonotoneSpline(), {"theta_s": column_of(0.4, 0.5)}),
    "spline of parameters": (laws.MonotoneSpline(free="parameters"), {"G5": column_of(0.05, 2.0), "H9": 3.0}),
    "network": (laws.MonotoneNet(7), {"Ks": column_of(3.0, 30.0)}),
}


class TestLaws:
    @pytest.fixture(autouse=True)
    def exact(self, monkeypatch):
        """Torch takes x for log(1 + e^x) beyond 20, an error of 2e-9."""
        for module in (van_genuchten, haverkamp, monotone_spline, monotone_net):
            monkeypatch.setattr(module, "softplus", lambda x: torch.logaddexp(x, torch.zeros_like(x)))

    @pytest.mark.parametrize("name", LAWS)
    def test_a_loop_is_its_law(self, name):
        law, p = LAWS[name]
        p = {n: torch.as_tensor(v) for n, v in (law.defaults | p).items()}
        edges = torch.tensor([5.0, 0.0, -1e-9, -0.999999, -1.0, -1.000001, -2.0, -2.000001, -14.999, -15.0, -15.001])
        psi = torch.cat([edges, -torch.logspace(-3, 7, 300)]).expand(2, -1)
        other = copy.deepcopy(law)
        other.__class__ = type("Other", (type(law),), {})
        for found, expected in zip(compiled.local(law, psi, p), compiled.local(other, psi, p), strict=True):
            assert torch.allclose(found, expected, rtol=1e-10, atol=1e-15), (found / expected - 1).abs().max()
        assert torch.equal(compiled.local(law, psi, p)[0][:, 0], p["theta_s"].expand(2, 1)[:, 0])

    def test_parameters_of_cells(self):
        law, psi = laws.BrooksCorey(), -torch.logspace(0, 3, 6).expand(2, -1)
        p = {n: torch.as_tensor(v) for n, v in law.defaults.items()} | {"entry": torch.rand(2, 6) + 5.0}
        found = torch.stack(compiled.local(law, psi, p))
        for i in range(6):
            one = compiled.local(law, psi[:, i : i + 1], p | {"entry": p["entry"][:, i : i + 1]})
            assert torch.equal(found[..., i : i + 1], torch.stack(one))

    def test_members_are_left_to_torch(self):
        assert not compiled.usable(Column(GRID, laws.MonotoneSpline(members=3)), torch.zeros(1))
        assert compiled.usable(Column(GRID, laws.MonotoneSpline()), torch.zeros(1))


def clock(*days, batch=()):
    return Forcing.clock(days=[0.0, *days], batch=batch)


def celia():
    case = CASES["celia"]
    column = Column(Grid.uniform(case.length, 25), laws.VanGenuchten(), Head(case.psi_top), Head(case.psi_base))
    return column, clock(*case.times), case.soil, case.psi_i


def storms():
    """Ponding, overflow, drying; three columns of different conductivity."""
    edges = np.datetime64("2001-05-01") + np.arange(5)
    rain = torch.tensor([0.0, 30.0, 0.0, 1.0])[:, None] * torch.ones(3)
    forcing = Forcing({"rain": 10.0 * rain, "pet": 0.4 + 0.0 * rain}, {"rain": "mm/d", "pet": "cm/d"}, edges)
    top = Atmospheric("rain", "pet", pond=torch.tensor([0.5, 1.0, 0.2]), driest=-2000.0)
    layers = [Layer(laws.VanGenuchten(), GRID.edges[5]), Layer(laws.VanGenuchten())]
    upper = LOAM | {"Ks": torch.tensor([1.0, 10.0, 80.0])}
    return Column(GRID, layers, top, FreeDrainage()), forcing, [upper, SILT], -80.0


def seepage():
    return Column(GRID, laws.VanGenuchten(), Flux(0.0), SeepageFace()), clock(0.5, 20.0), LOAM, -0.5


def roots():
    """Uptake, a drip, a water table that moves."""
    edges = np.datetime64("2001-05-01") + np.arange(4)
    forcing = Forcing({"t": torch.tensor([[0.6], [0.0], [0.9]])}, {"t": "cm/d"}, edges)
    sinks = [RootUptake("t", ROOTS), Source(torch.rand(3, 1, GRID.cells) * 0.01)]
    table = WaterTable(torch.tensor([[70.0], [50.0], [65.0]]))
    return Column(GRID, laws.VanGenuchten(), Flux(-0.1), table, sinks), forcing, LOAM, -200.0


def layers():
    """Laws of different kinds, one with parameters of its cells; specific storage below."""
    column = Column(
        GRID,
        [Layer(laws.BrooksCorey(), GRID.edges[4]), Layer(laws.MonotoneSpline(), None, 1e-4)],
        Head(2.0),
        Flux(0.0),
        weighting=geometric,
    )
    upper = laws.BrooksCorey().defaults | {"Ks": torch.rand(2, 4) + 10.0}
    return column, clock(0.05, 2.0, batch=(2,)), [upper, None], torch.tensor([[-100.0], [-30.0]])


def lying():
    column = Column(GRID, laws.HaverkampLog(), SeepageFace(), Head(1.0), weighting=upwind, horizontal=True)
    return column, clock(0.3), None, -600.0


def network():
    law, soil = laws.MonotoneNet(), laws.VanGenuchten()
    p = law.imitate(soil, soil.defaults)
    return Column(GRID, law, Flux(-1.0), FreeDrainage(), weighting=harmonic), clock(1.0), p, -50.0


SETUPS = (celia, storms, seepage, roots, layers, lying, network)


def both(monkeypatch, call):
    """What a function returns or raises with compiled loops, and in torch."""
    loops, used, found = kernels.march, [], []
    monkeypatch.setattr(kernels, "march", lambda *args: used.append(True) or loops(*args))
    for _ in range(2):
        try:
            found.append(call())
        except SolverError as failure:
            found.append(failure)
        assert bool(used) == (len(found) == 1)
        monkeypatch.setattr(compiled, "usable", lambda *_: False)
        used.clear()
    return found


class TestRuns:
    """The same steps, and states apart by round-off, which Newton's iterations hardly add to."""

    @pytest.mark.parametrize(
        ("setup", "tableau", "steps"),
        [(setup, SDIRK2, Adaptive(1e-2)) for setup in SETUPS]
        + [(setup, BACKWARD_EULER, Fixed(20)) for setup in (seepage, roots, lying, network)]
        + [(storms, BACKWARD_EULER, Adaptive(1e-2, largest=0.2))],
        ids=lambda x: getattr(x, "__name__", type(x).__name__),
    )
    def test_all_that_a_run_returns(self, monkeypatch, setup, tableau, steps):
        given = setup()
        with torch.no_grad():
            fast, slow = both(monkeypatch, lambda: flow(*given, tableau=tableau, steps=steps))
        for name in ("accepted", "rejected", "iterations"):
            assert torch.equal(getattr(fast, name), getattr(slow, name))
        for name in ("psi", "theta", "ends", "pond", "top", "bottom", "runoff", "evaporation", "uptake", "storage"):
            assert torch.allclose(getattr(fast, name), getattr(slow, name), rtol=1e-10, atol=1e-10), name
        assert float(fast.balance_error.abs().max()) < 1e-11

    @pytest.mark.parametrize("setup", [storms, roots, layers])
    def test_gradients(self, monkeypatch, setup):
        """Tapes are the same, and so are the equations that the adjoint solves."""
        column, forcing, p, psi0 = setup()
        psi0 = torch.as_tensor(psi0).requires_grad_()

        def gradient():
            run = flow(column, forcing, p, psi0, steps=Adaptive(1e-2))
            return torch.autograd.grad(run.theta.square().sum() + run.bottom.sum() + run.uptake.sum(), psi0)[0]

        fast, slow = both(monkeypatch, gradient)
        assert torch.allclose(fast, slow, rtol=1e-8) and float(fast.abs().max()) > 0.0

    def test_many_calls_and_threads(self, monkeypatch):
        """Columns that finish in different calls of the loops, in parts of different threads."""
        given = storms()

        def found():
            ks = torch.tensor([1.0, 10.0, 80.0], requires_grad=True)
            run = flow(*given[:2], [LOAM | {"Ks": ks}, SILT], -80.0, steps=Adaptive(1e-2))
            return run.psi.detach(), run.accepted, torch.autograd.grad(run.bottom.sum(), ks)[0]

        whole = found()
        monkeypatch.setattr(compiled_march, "ROOM", 1)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
        assert all(torch.equal(a, b) for a, b in zip(whole, found(), strict=True)) and int(whole[1].min()) > 16

    @pytest.mark.parametrize(
        ("steps", "message"),
        [(Fixed(4), "misses its balance"), (Adaptive(smallest=1e-5), "misses its balance")],
        ids=["fixed", "adaptive"],
    )
    @pytest.mark.filterwarnings("ignore:psi0 is above zero")
    def test_failures(self, monkeypatch, steps, message):
        """Saturated soil between fluxes that do not agree."""
        column = Column(GRID, laws.VanGenuchten(), Flux(-1.0), Flux(0.0))
        start = torch.tensor([[-100.0], [1.0]])
        fast, slow = both(monkeypatch, lambda: flow(column, clock(1.0, batch=(2,)), LOAM, start, steps=steps))
        assert fast.failed.tolist() == slow.failed.tolist() == [False, True]
        assert str(fast) == str(slow) and message in str(fast)

    @pytest.mark.parametrize("steps", [Fixed(2), Adaptive(smallest=1e-5)], ids=["fixed", "adaptive"])
    def test_failures_at_different_times(self, monkeypatch, steps):
        """All columns that fail are named, whatever fails first; the message is of the first of them."""
        column = Column(GRID, laws.VanGenuchten(), Flux(-1.0), Flux(0.0))
        start = torch.tensor([[-30.0], [-20.0], [-10000.0], [0.0]])
        calls = lambda: flow(column, clock(*range(1, 13), batch=(4,)), LOAM, start, steps=steps)  # noqa: E731
        monkeypatch.setattr(compiled_march, "ROOM", 1)
        fast, slow = both(monkeypatch, calls)
        assert fast.failed.tolist() == slow.failed.tolist() == [True, True, False, True]
        assert str(fast).split(" misses")[0] == str(slow).split(" misses")[0] and "3 of 4 column(s)" in str(fast)

    @pytest.mark.parametrize("change", [{"smallest": 1e-3, "first": 1e-3}, {"most": 3}])
    def test_errors_too_large(self, monkeypatch, change):
        steps = Adaptive(1e-10, **change)
        given = celia()
        fast, slow = both(monkeypatch, lambda: flow(*given, steps=steps))
        assert str(fast) == str(slow) and "shorter" in str(fast)


class TestEquations:
    @pytest.mark.parametrize("setup", SETUPS)
    def test_are_those_in_torch(self, monkeypatch, setup):
        column, forcing, p, _ = setup()
        problem = bind(column, forcing, p)
        every = torch.arange(problem.columns)
        system = problem.system(problem.take(torch.zeros_like(every), every))
        nodes = GRID.cells if column.grid is GRID else column.grid.cells
        psi = 60.0 * torch.randn(problem.columns, nodes + 1 + len(column.layers)) - 30.0
        known, tau = torch.rand(psi.shape), torch.rand(len(psi))
        fast = system.linear(psi, known, tau)
        monkeypatch.setattr(compiled, "usable", lambda *_: False)
        for name, a, b in zip(fast._fields, fast, system.linear(psi, known, tau), strict=True):
            assert torch.allclose(a, b, rtol=1e-11, atol=1e-13), name

    def test_what_is_left_to_torch(self):
        column = Column(GRID, laws.VanGenuchten())
        own = type("Own", (laws.Gardner,), {})()
        mean = lambda upper, lower, drive: arithmetic(upper, lower, drive)  # noqa: E731
        assert compiled.usable(column, torch.zeros(1)) and not compiled.usable(column, torch.zeros(1).float())
        assert not compiled.usable(column, torch.zeros(1, device="meta"))
        for other in (Column(GRID, own), Column(GRID, laws.Gardner(), weighting=mean)):
            assert not compiled.usable(other, torch.zeros(1))


def test_an_empty_pond_does_not_feed_evaporation():
    """After a storm, a saturated column that may not pond: no cell stores anything when evaporation begins."""
    column, forcing, p, psi0 = storms()
    top = dataclasses.replace(column.top, pond=0.0)
    run = flow(dataclasses.replace(column, top=top), forcing, p, psi0)
    assert float(run.evaporation[2:].min()) > 0.39 and float(run.psi[2, 2].min()) > 0.0
