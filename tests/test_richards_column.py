"""The soil column: exact and trusted solutions, orders, balances, every boundary, gradients against differences."""

import numpy as np
import pytest
import torch
from test_device import elsewhere

from udehydro import Forcing
from udehydro.errors import ConfigError, DataError, SolverError
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
    compiled,
    flow,
    geometric,
    harmonic,
    tridiagonal,
    upwind,
)
from udehydro.richards.column.run import begin, go
from udehydro.richards.exact import CASES, SrivastavaYeh, SrivastavaYehLayers
from udehydro.richards.laws import Corrected, Gardner, Gauged, MonotoneSpline, VanGenuchten, soil_class
from udehydro.sensitivity.checks import differences
from udehydro.solvers import BACKWARD_EULER, SDIRK2
from udehydro.solvers.tableau import TR_BDF2

LOAM = {"theta_r": 0.065, "theta_s": 0.41, "Ks": 10.0, "alpha": 0.05, "n": 2.2}
SOFT = {"theta_r": 0.06, "theta_s": 0.40, "Ks": 24.0, "alpha": 1.0}


def clock(*days, batch=()):
    return Forcing.clock(days=[0.0, *days], batch=batch)


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


class TestExact:
    def error(self, cells, tolerance):
        """Errors of theta and psi on the column of Srivastava and Yeh that Bandai and Ghezzehei (2022) chose."""
        exact = SrivastavaYeh(0.06, 0.40, 1.0, 24.0, 10.0, 2.4, 21.6)
        grid, days = Grid.uniform(10.0, cells), np.linspace(0.0, 10 / 24, 6)
        z = 10.0 - grid.depth
        column = Column(grid, Gardner(), top=Flux(-21.6), bottom=Head(0.0))
        psi0 = torch.as_tensor(exact.psi(z, 0.0))
        run = flow(column, Forcing.clock(days=days), SOFT, psi0, steps=Adaptive(tolerance))
        assert float(run.balance_error.abs().max()) < 1e-13
        found = (run.theta.numpy(), exact.theta), (run.psi.numpy(), exact.psi)
        return np.array([relative(v[1:], np.stack([f(z, t) for t in days[1:]])) for v, f in found])

    def test_second_order_in_space(self):
        # steps of an error of 1e-6 add 1e-5, a hundredth of the coarser error
        assert (np.log2(self.error(20, 1e-6) / self.error(40, 1e-6)) > 1.9).all()

    @pytest.mark.slow
    def test_two_hundred_cells(self):
        """1.3e-5 of theta: twenty times below the best of 2000 PINN runs."""
        coarse, fine = self.error(100, 1e-7), self.error(200, 1e-7)
        assert fine[0] < 1.5e-5 and fine[1] < 1e-4 and (np.log2(coarse / fine) > 1.9).all()

    def test_two_layers(self):
        """Interfaces keep the order: conductivities differ by ten there, and water contents too."""
        exact = SrivastavaYehLayers((0.06, 0.06), (0.40, 0.35), 1.0, (24.0, 240.0), (6.0, 4.0), 2.4, 21.6)
        p = [SOFT | {"Ks": 240.0, "theta_s": 0.35}, SOFT]
        errors = []
        for cells in (20, 40):
            grid = Grid.uniform(10.0, cells)
            z = 10.0 - grid.depth
            column = Column(grid, [Layer(Gardner(), 4.0), Layer(Gardner())], Flux(-21.6), Head(0.0))
            psi0 = torch.as_tensor(exact.psi(z, 0.0))
            run = flow(column, clock(2 / 24, 5 / 24), p, psi0, steps=Adaptive(1e-6))
            errors.append(relative(run.theta[1:].numpy(), np.stack([exact.theta(z, t) for t in (2 / 24, 5 / 24)])))
        assert errors[1] < 1e-3 and np.log2(errors[0] / errors[1]) > 1.9

    def case(self, name, cells, tolerance):
        case = CASES[name]
        grid = Grid.uniform(case.length, cells)
        layer = Layer(getattr(laws, case.law)(), specific_storage=case.specific_storage)
        column = Column(grid, layer, Head(case.psi_top), Head(case.psi_base))
        psi0 = column.hydrostatic(case.length) if case.psi_i is None else case.psi_i
        run = flow(column, clock(*case.times), case.soil, psi0, steps=Adaptive(tolerance))
        assert float((run.balance_error / run.storage[1:]).abs().max()) < 1e-12
        return case, run, run.storage[1:] - run.storage[0]

    @pytest.mark.parametrize(("name", "cells"), [("celia", 100), ("haverkamp sand", 80)])
    def test_fronts(self, name, cells):
        """Within the error of grids of 1 and 0.5 cm, which falls to that of the reference on finer ones (below)."""
        case, run, gain = self.case(name, cells, 1e-3)
        assert torch.allclose(gain, torch.tensor(case.storage), rtol=0.02)
        depth = run.column.grid.depth
        inside = np.array(case.depth) < case.front[-1]
        found = np.interp(case.depth, depth, run.psi[-1].numpy())
        assert np.abs(found / case.psi - 1)[inside].max() < 0.01

    @pytest.mark.slow
    @pytest.mark.parametrize(("name", "cells"), [("celia", 400), ("haverkamp sand", 200)])
    def test_fine_fronts(self, name, cells):
        case, run, gain = self.case(name, cells, 1e-4)
        # 0.13 % at 6 h, 0.05 % at the end: the error of a front two to three cells wide
        assert torch.allclose(gain, torch.tensor(case.storage), rtol=2e-3)
        found = np.interp(case.depth, run.column.grid.depth, run.psi[-1].numpy())
        assert np.abs(found / case.psi - 1).max() < 0.01
        theta, at = run.theta[-1].numpy(), run.column.grid.depth
        middle = 0.5 * (theta[0] + theta[-1])
        assert abs(np.interp(-middle, -theta, at) - case.front[-1]) < 0.05

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["miller sand", "miller loam", "miller clay loam"])
    def test_ponded_infiltration_into_dry_soil(self, name):
        """Sharp fronts below saturated soil (Miller et al. 1998); the soil above the front is saturated."""
        case, run, gain = self.case(name, 100, 1e-3)
        assert float(run.psi[-1, 0]) > 0.0 and float(gain[-1]) > 0.0
        assert float(run.psi[-1].max()) < case.psi_top

    def test_order_in_time(self):
        """Differences between runs of h, h/2, h/4 fall by 2^order; the source makes the state smooth and forced."""
        grid = Grid.uniform(20.0, 8)
        column = Column(grid, VanGenuchten(), Flux(-0.5), FreeDrainage(), Source(torch.linspace(0.1, 0.0, 8)))
        for tableau, order in ((BACKWARD_EULER, 1), (SDIRK2, 2)):
            runs = [flow(column, clock(1.0), LOAM, -60.0, tableau=tableau, steps=Fixed(n)) for n in (16, 32, 64)]
            gaps = [(a.theta[-1] - b.theta[-1]).norm() for a, b in zip(runs, runs[1:], strict=False)]
            assert abs(float(torch.log2(gaps[0] / gaps[1])) - order) < 0.1

    def test_adaptive_steps_keep_their_tolerance(self):
        grid = Grid.uniform(50.0, 15)
        column = Column(grid, VanGenuchten(), Flux(-2.0), FreeDrainage())
        fine = flow(column, clock(1.0), LOAM, -200.0, steps=Adaptive(1e-6))
        for tolerance in (1e-3, 1e-4):
            run = flow(column, clock(1.0), LOAM, -200.0, steps=Adaptive(tolerance))
            # errors of some tens of steps add up, but soil forgets them
            assert float((run.theta - fine.theta).abs().max()) < 5.0 * tolerance
            assert int(run.accepted) < int(fine.accepted) / 3


class TestBoundaries:
    grid = Grid.graded(100.0, 1.0, 1.3)

    def test_water_at_rest_stays_at_rest(self):
        for layers in (VanGenuchten(), [Layer(VanGenuchten(), self.grid.edges[4]), Layer(Gardner())]):
            column = Column(self.grid, layers)
            psi0 = column.hydrostatic(60.0)
            run = flow(column, clock(10.0), {**LOAM}, psi0)
            assert torch.allclose(run.psi[-1], psi0, atol=1e-9) and int(run.accepted) < 20
        lying = Column(self.grid, VanGenuchten(), horizontal=True)
        assert torch.allclose(flow(lying, clock(10.0), LOAM, -50.0).psi, torch.tensor(-50.0), atol=1e-9)

    def test_free_drainage_is_unit_gradient(self):
        psi = torch.tensor(-40.0)
        k = VanGenuchten().conductivity(psi, LOAM)
        run = flow(Column(self.grid, VanGenuchten(), Flux(-k), FreeDrainage()), clock(1.0, 3.0), LOAM, psi)
        assert torch.allclose(run.psi, psi, atol=1e-8)
        assert torch.allclose(run.recharge, k * torch.tensor([1.0, 2.0])) and torch.allclose(run.top, run.bottom)

    def test_water_table_is_a_head_at_the_bottom(self):
        runs = [
            flow(Column(self.grid, VanGenuchten(), Flux(0.0), bottom), clock(500.0), LOAM, -80.0)
            for bottom in (WaterTable(70.0), Head(30.0))
        ]
        assert torch.equal(runs[0].psi, runs[1].psi) and float(runs[0].bottom[0]) > 0.0
        assert torch.allclose(runs[0].psi[-1], runs[0].column.hydrostatic(70.0), atol=1.0)

    def test_saturated_layers_are_resistances_in_series(self):
        """q = -(drop of head) / sum(L / Ks), whatever the weighting."""
        grid = Grid.uniform(50.0, 10)
        layers, p = [Layer(Gardner(), 20.0), Layer(Gardner())], [SOFT | {"Ks": 100.0}, SOFT | {"Ks": 1.0}]
        for weighting in (harmonic, upwind):
            column = Column(grid, layers, Head(5.0), Head(10.0), weighting=weighting)
            run = flow(column, clock(1.0), p, 1.0)
            assert torch.allclose(run.bottom, torch.tensor(-(55.0 - 10.0) / (20.0 / 100.0 + 30.0 / 1.0)))

    def test_seepage_face_lets_out_and_not_in(self):
        column = Column(self.grid, VanGenuchten(), Flux(0.0), SeepageFace())
        wet = flow(column, clock(1.0, 200.0), LOAM, 0.0)
        assert float(wet.recharge[0]) > 1.0 and abs(float(wet.ends[-1, 1])) < 1e-9
        rest = column.hydrostatic(100.0)
        assert torch.allclose(wet.psi[-1, -2:], rest[-2:], atol=1.0) and bool((wet.psi[-1] >= rest).all())
        dry = flow(column, clock(1.0), LOAM, -300.0)
        assert abs(float(dry.recharge)) < 1e-9 and float(dry.ends[0, 1]) < 0.0

    def test_rain_ponds_runs_off_and_dries(self):
        """Four days: more rain than the soil takes, a pond that sinks in, evaporation met, evaporation not met."""
        rain, pet = torch.tensor([60.0, 0.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 0.5, 3.0])
        edges = np.array(["2000-01-01", "2000-01-02", "2000-01-03", "2000-01-04", "2000-01-24"], "datetime64[ns]")
        forcing = Forcing({"rain": 10.0 * rain, "pet": pet}, {"rain": "mm/d", "pet": "cm/d"}, edges)
        top = Atmospheric("rain", "pet", pond=2.0, driest=-1000.0)
        run = flow(Column(self.grid, VanGenuchten(), top, FreeDrainage()), forcing, LOAM, -200.0)
        assert torch.allclose(run.pond[:3], torch.tensor([0.0, 2.0, 0.0])) and float(run.runoff[0]) > 10.0
        assert torch.allclose(run.infiltration[0], 60.0 - run.runoff[0] - 2.0)
        assert torch.allclose(run.infiltration[1], torch.tensor(2.0))
        assert torch.allclose(run.evaporation[:3], torch.tensor([0.0, 0.0, 0.5]))
        assert 0.0 < float(run.evaporation[3]) < 30.0 and float(run.ends[-1, 0]) == -1000.0
        assert torch.equal(run.runoff[1:], torch.zeros(3)) and float(run.balance_error.abs().max()) < 1e-12

    def test_roots(self):
        """Potential where soil is moist, nothing where it is too wet or too dry; shared out by density."""
        roots = RootUptake(0.4, torch.tensor([2.0] * 4 + [0.0] * (self.grid.cells - 4)))
        column = Column(self.grid, VanGenuchten(), sinks=[roots])
        for psi, share in ((-100.0, 1.0), (-9000.0, 0.0), (-5.0, 0.0)):
            run = flow(column, clock(0.01), LOAM, psi, steps=Fixed(1))
            assert torch.allclose(run.uptake[0, 0], torch.tensor(0.004 * share), rtol=0.01, atol=1e-6)
            assert float(run.balance_error.abs().max()) < 1e-13

    def test_weightings_agree_on_fine_grids(self):
        found = []
        for weighting in (upwind, geometric, harmonic):
            column = Column(Grid.uniform(20.0, 60), VanGenuchten(), Flux(-1.0), FreeDrainage(), weighting=weighting)
            found.append(flow(column, clock(0.5), LOAM, -50.0, steps=Fixed(8)).theta[-1])
        assert float((found[1] - found[2]).abs().max()) < 1e-3
        assert float((found[0] - found[2]).abs().max()) < 1e-2

    def test_saturated_soil_between_fluxes_is_refused(self):
        column = Column(self.grid, VanGenuchten(), Flux(-1.0), Flux(0.0))
        with pytest.raises(SolverError, match=r"2000-01-01, .*misses its balance.*specific storage") as failure:
            flow(column, clock(1.0, batch=(2,)), LOAM, torch.tensor([[0.0], [-100.0]]), steps=Fixed(4))
        assert failure.value.failed.tolist() == [True, False]


GRID = Grid.graded(30.0, 2.0, 1.6)
CELLS = GRID.cells
EDGES = np.array(["2000-01-01", "2000-01-02", "2000-01-04"], dtype="datetime64[ns]")
WEIGHT = torch.linspace(1.0, 2.0, CELLS, dtype=torch.float64)
ROOTS = torch.linspace(1.0, 0.1, CELLS, dtype=torch.float64)
SOIL = tuple(LOAM)
VALUES = {
    "a": torch.tensor([1.0, 0.2], dtype=torch.float64),
    "b": torch.tensor([0.3, 0.9], dtype=torch.float64),
    "h": torch.tensor([-20.0, -70.0], dtype=torch.float64),
    "f": torch.tensor([-1.0, -0.3], dtype=torch.float64),
    "l": torch.tensor([0.5, 1.5], dtype=torch.float64),
    "d": torch.tensor([45.0, 25.0], dtype=torch.float64),
}
KINDS = {
    "fluxes": (Flux("f"), Flux("b"), ()),
    "heads": (Head("h"), WaterTable("d"), ()),
    "rain and drainage": (Atmospheric("a", "b"), FreeDrainage(), ()),
    "roots and a source": (Flux(0.0), Head(-50.0), ("roots", "source")),
    "pond and seepage": (Atmospheric(30.0, "b", pond="l"), SeepageFace(), ()),
    "drying": (Atmospheric(0.0, 2.0, driest=-300.0), Flux("a"), ()),
}


def objective(x, kind, tableau):
    """Something of everything (N,) for points (N, n): soil, initial heads and pond, values of boundaries and sinks."""
    top, bottom, sinks = KINDS[kind]
    p = dict(zip(SOIL, x[:, : len(SOIL)].T, strict=True))
    rest = x[:, len(SOIL) :]
    psi0, pond0, series = rest[:, :CELLS], rest[:, CELLS], rest[:, CELLS + 1 :].reshape(len(x), -1, 2)
    values = {n: s.T for n, s in zip(VALUES, series.unbind(1), strict=True)}
    made = {"roots": lambda: RootUptake("b", ROOTS), "source": lambda: Source(0.01 * values["a"][..., None] * ROOTS)}
    column = Column(GRID, VanGenuchten(), top, bottom, [made[s]() for s in sinks])
    forcing = Forcing(values, {n: "cm/d" if n in "abf" else "cm" for n in values}, EDGES)
    pond0 = pond0 if isinstance(top, Atmospheric) and not isinstance(top.pond, float) else 0.0
    run = flow(column, forcing, p, psi0, pond0=pond0, tableau=tableau, steps=Fixed(3))
    heads = 0.01 * (run.psi * WEIGHT).sum((0, -1)) + 0.1 * run.ends.sum((0, -1))
    moved = (run.top + 2.0 * run.bottom.square() + run.runoff.square() + 3.0 * run.evaporation).sum(0)
    return heads + moved + (run.theta * WEIGHT).sum((0, -1)) + run.uptake.sum((0, -1)) + run.storage.square().sum(0)


class TestGradients:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("tableau", [BACKWARD_EULER, SDIRK2], ids=lambda t: t.name)
    def test_against_differences(self, kind, tableau):
        """All inputs at once; Newton's residual of 1e-10 cm leaves differences that much round-off."""
        start = torch.linspace(-60.0, -40.0, CELLS)
        x = torch.cat([torch.tensor(list(LOAM.values())), start, torch.tensor([0.3]), *VALUES.values()])
        point = x[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(point, kind, tableau).sum(), point)
        found = differences(lambda points: objective(points, kind, tableau), x, steps=(1e-3, 1e-4, 1e-5))
        agreement = found.against(gradient[0])
        assert float(agreement.error) < 1e-6 and int(agreement.excluded) <= 2, agreement

    def test_adaptive_gradient_is_that_of_the_steps_taken(self):
        """The steps taken, as intervals of a forcing of their own: gradient and differences of the same run."""
        rain, soil = torch.tensor([0.0, 30.0, 0.0, 0.0]), soil_class("loam")
        top = lambda rain: Atmospheric(rain, 0.5, pond=0.5)  # noqa: E731
        column, steps = Column(GRID, VanGenuchten(), top(rain), FreeDrainage()), Adaptive(1e-3)
        forcing = Forcing.clock(days=torch.arange(5.0).numpy())
        begun = begin(column, forcing, soil, -80.0, 0.0, SDIRK2)
        taken = go(begun, SDIRK2, steps, True, False).tape
        h, k = torch.cat([s.h for s in taken]), torch.cat([s.interval for s in taken])
        replay = Column(GRID, VanGenuchten(), top(rain[k]), FreeDrainage())
        clocked = Forcing.clock(days=torch.cat([torch.zeros(1), h.cumsum(0)]).numpy())

        def total(run):
            return run.storage[-1] + run.runoff.sum() + 2.0 * run.bottom.sum() + 0.01 * run.psi[-1].mean()

        def again(alpha):
            return total(flow(replay, clocked, soil | {"alpha": alpha}, -80.0, steps=Fixed(1)))

        alpha = torch.tensor(soil["alpha"], requires_grad=True)
        adaptive = total(flow(column, forcing, soil | {"alpha": alpha}, -80.0, steps=steps))
        (gradient,), (same,) = (torch.autograd.grad(y, alpha) for y in (adaptive, again(alpha)))
        assert len(h) > 30 and torch.allclose(adaptive, again(alpha), rtol=1e-10)
        assert torch.allclose(gradient, same, rtol=1e-8)
        with torch.no_grad():
            change = (again(alpha + 1e-6) - again(alpha - 1e-6)) / 2e-6
        assert torch.allclose(gradient, change, rtol=1e-5)

    def test_parameters_by_cell_layer_and_column_and_weights_of_networks(self):
        class Learned(Gardner):
            def __init__(self):
                super().__init__()
                self.gain = torch.nn.Parameter(torch.tensor(0.3))

            def conductivity(self, psi, p):
                return super().conductivity(psi, p) * torch.exp(self.gain * torch.tanh(psi / 50.0))

        law = Learned()
        column = Column(GRID, [Layer(law, GRID.edges[3]), Layer(VanGenuchten())], Flux(-0.5), FreeDrainage())
        upper = {"theta_r": 0.05, "theta_s": torch.tensor([0.4, 0.45]), "Ks": torch.full((2, 3), 20.0), "alpha": 0.03}
        upper["Ks"].requires_grad_()

        def total():
            run = flow(column, clock(1.0, batch=(2,)), [upper, LOAM], -50.0, steps=Fixed(4))
            return (run.recharge * torch.tensor([1.0, 3.0])).sum()

        by_gain, by_ks = torch.autograd.grad(total(), [law.gain, upper["Ks"]])
        for leaf, grad, at in ((law.gain, by_gain, ()), (upper["Ks"], by_ks, (1, 2))):
            values = []
            for change in (1e-4, -1e-4):
                with torch.no_grad():
                    leaf[at] += change
                    values.append(total())
                    leaf[at] -= change
            assert torch.allclose((values[0] - values[1]) / 2e-4, grad[at], rtol=1e-6)

    def test_the_order_of_a_backward_pass_is_no_matter(self):
        """Two halves of an objective have gradients that add up to that of the whole."""
        x = torch.tensor(-50.0, requires_grad=True)
        run = flow(Column(GRID, VanGenuchten(), Flux(-1.0), FreeDrainage()), clock(0.5, 1.0), LOAM, x, steps=Fixed(2))
        parts = [torch.autograd.grad(v.sum(), x, retain_graph=True)[0] for v in (run.psi, run.bottom)]
        assert torch.allclose(sum(parts), torch.autograd.grad(run.psi.sum() + run.bottom.sum(), x)[0])


class TestBatch:
    def test_columns_do_not_know_of_each_other(self):
        """Each column has steps of its own, so a batch is its columns to the last digits of Newton's iteration."""
        ks = torch.tensor([[2.0, 10.0, 50.0], [5.0, 20.0, 1.0]])
        forcing = clock(0.3, 1.0, batch=(2, 3))
        column = Column(GRID, VanGenuchten(), Atmospheric(8.0, pond=1.0), FreeDrainage())
        run = flow(column, forcing, LOAM | {"Ks": ks}, -300.0)
        assert run.psi.shape == (3, 2, 3, CELLS) and run.runoff.shape == (2, 2, 3) and len(run.accepted.unique()) > 1
        for i in ((0, 2), (1, 2)):
            alone = flow(column, clock(0.3, 1.0), LOAM | {"Ks": ks[i]}, -300.0)
            assert torch.allclose(run.psi[:, *i], alone.psi, rtol=1e-9)
            assert int(run.accepted[i]) == int(alone.accepted)

    def test_dataset(self):
        forcing = Forcing({"q": torch.full((2, 2), -1.0)}, {"q": "cm/d"}, EDGES, basins=("a", "b"))
        run = flow(Column(GRID, VanGenuchten(), Flux("q"), FreeDrainage()), forcing, LOAM, -100.0)
        data = run.to_xarray()
        assert data["psi"].dims == ("time_edge", "column", "depth") and data["psi"].attrs["units"] == "cm"
        assert data["top"].dims == ("time", "column") and float(data["top"][0, 0]) == pytest.approx(-1.0)
        water = (data["theta"] * data["thickness"]).sum("depth")
        assert np.allclose(water, data["storage"]) and data.attrs["max_balance_error_cm"] < 1e-12

    def test_follows_its_inputs(self):
        p = {n: torch.tensor([v, v], requires_grad=True) for n, v in LOAM.items()}
        forcing = Forcing({"q": torch.tensor([[-0.5, -1.0]] * 2)}, {"q": "cm/d"}, EDGES)
        layers = [Layer(VanGenuchten(), GRID.edges[2]), Layer(VanGenuchten())]
        roots = RootUptake(0.1, ROOTS)
        column = Column(GRID, layers, Atmospheric(1.0, 0.2), WaterTable(40.0), [roots])
        with elsewhere():
            run = flow(column, forcing, p, -80.0, steps=Adaptive(1e-2, first=0.1))
            (run.psi.sum() + run.recharge.sum()).backward()
        assert all(bool(v.grad.isfinite().all()) for v in p.values())

    def test_single_precision(self):
        forcing = clock(1.0).to(dtype=torch.float32)
        run = flow(Column(GRID, VanGenuchten(), Flux(-1.0), FreeDrainage()), forcing, LOAM, -50.0)
        again = flow(Column(GRID, VanGenuchten(), Flux(-1.0), FreeDrainage()), clock(1.0), LOAM, -50.0)
        assert run.psi.dtype == torch.float32
        assert torch.allclose(run.psi.double(), again.psi, rtol=1e-3)


class TestTridiagonal:
    def system(self, batch, n):
        lower, upper, right = torch.randn(3, batch, n).unbind(0)
        return lower, 3.0 + torch.rand(batch, n), upper, right

    def dense(self, lower, diagonal, upper):
        parts = (torch.diag_embed(diagonal), torch.diag_embed(lower[:, 1:], -1), torch.diag_embed(upper[:, :-1], 1))
        return sum(parts)

    @pytest.mark.parametrize("n", [1, 2, 7, 64])
    def test_against_dense(self, n):
        lower, diagonal, upper, right = self.system(3, n)
        expected = torch.linalg.solve(self.dense(lower, diagonal, upper), right)
        for solve in (tridiagonal.solve, tridiagonal.reduction):
            assert torch.allclose(solve(lower, diagonal, upper, right), expected, rtol=1e-10, atol=1e-12)

    def test_gradient(self):
        parts = [v.requires_grad_() for v in self.system(2, 5)]
        assert torch.autograd.gradcheck(tridiagonal.solve, parts)


class TestErrors:
    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Grid((0.0, 2.0, 1.0)), "increasing"),
            (lambda: Grid((1.0, 2.0)), "from 0 at the surface"),
            (lambda: Grid.uniform(-1.0, 3), "depth above zero"),
            (lambda: Grid.graded(100.0, 1.0, 0.5), "never reach"),
            (lambda: Column(GRID, [Layer(Gardner(), 3.3), Layer(Gardner())]), "put one there"),
            (lambda: Column(GRID, [Layer(Gardner()), Layer(Gardner())]), "needs a thickness"),
            (lambda: Column(GRID, [Layer(Gardner(), GRID.edges[2])]), "the column at 30"),
            (lambda: Column(GRID, Gardner(), FreeDrainage()), "top is one of Head"),
            (lambda: Column(GRID, Gardner(), Flux), "an object"),
            (lambda: Column(GRID, Gardner(), bottom=WaterTable(3.0), horizontal=True), "no water table"),
            (lambda: Layer(torch.nn.Linear(1, 1)), "needs a SoilLaw"),
            (lambda: Fixed(0), "at least one step"),
            (lambda: Adaptive(tolerance=0.0), "Steps need tolerance"),
        ],
    )
    def test_descriptions(self, make, message):
        with pytest.raises(ConfigError, match=message):
            make()

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"p": {"theta_r": 0.1}}, ConfigError, "needs the parameter 'theta_s'"),
            ({"p": LOAM | {"alhpa": 1.0}}, ConfigError, "Did you mean 'alpha'"),
            ({"p": LOAM | {"Ks": torch.ones(3)}}, ConfigError, "parameter 'Ks' has shape"),
            ({"p": LOAM | {"Ks": float("nan")}}, ConfigError, "not finite"),
            ({"p": [LOAM, LOAM]}, ConfigError, "parameters of 2 layer"),
            ({"psi0": torch.zeros(4)}, ConfigError, "psi0 has shape"),
            ({"psi0": float("inf")}, ConfigError, "psi0 is not finite"),
            ({"pond0": 1.0}, ConfigError, "needs an Atmospheric top"),
            ({"tableau": TR_BDF2}, ConfigError, "Take SDIRK2"),
            ({"column": Column(GRID, VanGenuchten(), Flux("rain"))}, DataError, "needs forcing 'rain'"),
            ({"column": Column(GRID, VanGenuchten(), Flux("time"))}, DataError, "needs cm/d"),
            ({"column": Column(GRID, VanGenuchten(), sinks=[Source(torch.ones(2))])}, ConfigError, "'rate' of Source"),
        ],
    )
    def test_runs(self, change, error, message):
        given = {"column": Column(GRID, VanGenuchten()), "forcing": clock(1.0, batch=(2,)), "p": LOAM, "psi0": -50.0}
        with pytest.raises(error, match=message):
            flow(**(given | change))


@pytest.mark.parametrize("law", [MonotoneSpline(members=3), Corrected(VanGenuchten(), members=3)])
@pytest.mark.parametrize("batch", [(), (3,), (3, 2)])
def test_laws_with_members_are_refused(law, batch):
    with pytest.raises(ConfigError, match="layer 0 answers .* laws with members do not go into a column"):
        flow(Column(GRID, law), clock(1.0, batch=batch), {n: LOAM.get(n, 0.1) for n in law.ranges}, -50.0)


@pytest.mark.parametrize("law", [VanGenuchten(), Gauged(VanGenuchten()), Corrected(VanGenuchten())])
def test_inference_mode(law):
    """Laws and roots without loops, whose slopes need autograd, and values that were made in inference mode."""
    column = Column(GRID, law, Flux(-0.5), FreeDrainage(), RootUptake(0.1, torch.ones(GRID.cells)))
    with torch.no_grad():
        expected = flow(column, clock(1.0), LOAM, -50.0)
    with torch.inference_mode():
        p = {n: torch.tensor(v) for n, v in LOAM.items()}
        found = flow(column, clock(1.0), p, torch.tensor(-50.0))
    assert torch.equal(found.psi, expected.psi) and torch.equal(found.uptake, expected.uptake)


@pytest.mark.parametrize("entry", [0.0, 2.0])
def test_compiled_law_is_the_law(entry):
    """Torch takes log(1 + e^x) for x beyond 20, an error of 2e-9; slopes of K where K is Ks to 1e-12 are left out."""
    psi = torch.cat([torch.tensor([5.0, 0.0, -1.0]), -torch.logspace(-1, 6, 50)]).expand(2, -1)
    p = LOAM | {"n": torch.tensor([[1.3], [3.0]]), "entry": entry, "l": -0.5}
    p = {n: torch.as_tensor(v) for n, v in p.items()}
    fallback = type("Same", (VanGenuchten,), {})()
    for a, b in zip(compiled.local(VanGenuchten(), psi, p), compiled.local(fallback, psi, p), strict=True):
        assert torch.allclose(a, b, rtol=1e-7, atol=1e-14)
