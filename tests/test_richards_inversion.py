"""Inversion of columns: unknowns and observations, fits that find what was planted, and what is refused."""

import numpy as np
import pytest
import torch

from udehydro import Forcing
from udehydro.errors import ConfigError, DataError, SolverError
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
    WaterContent,
    flow,
)
from udehydro.richards.inversion import Free, Inversion, Observed, fit, knots, pieces, visited
from udehydro.richards.inversion import inversion as inversion_module
from udehydro.richards.laws import Gardner, MonotoneSpline, VanGenuchten

LOAM = {"theta_r": 0.065, "theta_s": 0.41, "Ks": 10.0, "alpha": 0.05, "n": 2.2}
GRID = Grid.graded(40.0, 2.0, 1.3)
DAYS = np.array([0.0, 0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0])
RAIN = torch.tensor([-6.0, -6.0, -1.0, 0.3, 0.3, -4.0, 0.3], dtype=torch.float64)
STEPS = Adaptive(1e-3)


def clock(batch=()):
    return Forcing.clock(days=DAYS, batch=batch)


def column(top=None, law=None):
    return Column(GRID, law or VanGenuchten(), top or Flux(RAIN), FreeDrainage())


def truth(batch=(), p=None, psi0=-150.0, top=None):
    if top is None and batch:
        top = Flux(RAIN.reshape(-1, *(1,) * len(batch)))
    return flow(column(top), clock(batch), p or LOAM, psi0, steps=STEPS)


def observe(run, kinds, noise=0.0, seed=0):
    """Series of a run as they would be observed, with noise in units of their sigma."""
    generator, found = torch.Generator().manual_seed(seed), []
    for kind, options in kinds.items():
        blank = Observed.__new__(Observed)
        for n, v in {"kind": kind, "depth": None, "support": 0.0, "log": False, "cumulative": False, **options}.items():
            object.__setattr__(blank, n, v)
        series = blank.of(run, run.column).detach()
        error = noise * options["sigma"] * torch.randn(series.shape, generator=generator, dtype=series.dtype)
        series = series * torch.exp(error) if options.get("log") else series + error
        found.append(Observed(kind, series, **options))
    return found


SENSORS = {
    "theta": {"sigma": 0.005, "depth": (2.0, 8.0, 15.0, 30.0)},
    "psi": {"sigma": 0.03, "depth": 5.0, "log": True},
}


class TestFree:
    def test_coordinates(self):
        """Logarithms between limits of one sign far apart, whichever sign; else the value."""
        for free, sign in ((Free(-10.0, -1e4, -1.0), -1.0), (Free(2.0, 0.1, 50.0), 1.0), (Free(2.0, 0.0, 50.0), 0.0)):
            coordinate = free.within(None, "here")
            assert coordinate.sign == sign
            x = coordinate.forward(free.start)
            assert torch.allclose(coordinate.back(x), free.start)
            low, high = coordinate.bounds
            assert low < float(x) < high
            change = (coordinate.back(x + 1e-6) - coordinate.back(x - 1e-6)) / 2e-6
            assert torch.allclose(coordinate.slope(x), change, rtol=1e-8)

    def test_knots_and_pieces(self):
        between = knots((0.0, 10.0, 30.0), [0.0, 5.0, 20.0, 40.0])
        assert torch.allclose(between @ torch.tensor([1.0, 3.0, 7.0]), torch.tensor([1.0, 2.0, 5.0, 7.0]))
        steps = pieces((0.0, 1.0, 3.0), [0.5, 1.0, 2.9])
        assert torch.equal(steps @ torch.tensor([4.0, 9.0]), torch.tensor([4.0, 9.0, 9.0]))

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Free(1.0, 2.0, 1.0), "low < high"),
            (lambda: Free(1.0, prior=0.0), "standard deviation"),
            (lambda: Free(float("nan")), "finite"),
            (lambda: Free([1.0, 2.0], spread=np.ones((3, 3))), "spread is"),
            (lambda: Free(9.0, 0.0, 1.0).within(None, "alpha"), "alpha starts from .* outside"),
            (lambda: knots((1.0, 0.0), [0.0]), "rise"),
            (lambda: pieces((0.0, 1.0), [2.0]), "all points between"),
        ],
    )
    def test_errors(self, make, message):
        with pytest.raises(ConfigError, match=message):
            make()


class TestUnknowns:
    def inversion(self, batch, p, psi0=-150.0, top=None):
        run = truth(batch)
        return Inversion(column(top or Flux(RAIN.reshape(-1, *(1,) * len(batch)))), clock(batch), p, psi0,
                         observe(run, SENSORS), steps=Fixed(2))  # fmt: skip

    def jacobian(self, inversion, x):
        """By differences of residuals."""
        columns = []
        for i in range(x.shape[1]):
            h = 1e-5 * torch.eye(x.shape[1])[i]
            sides = [torch.cat(inversion.residuals(x + s * h)[1], -1) for s in (1.0, -1.0)]
            columns.append((sides[0] - sides[1]) / 2e-5)
        return torch.stack(columns, dim=1)

    def check(self, inversion):
        x = inversion.unknowns.start
        _, residuals, jacobian = inversion.residuals(x)
        assert jacobian.shape == (*x.shape, torch.cat(residuals, -1).shape[1])
        assert torch.allclose(jacobian, self.jacobian(inversion, x), rtol=1e-5, atol=1e-5 * float(jacobian.abs().max()))

    def test_apart(self):
        """Columns that share nothing are members of their own."""
        p = LOAM | {"Ks": Free([5.0, 20.0]), "alpha": Free([0.04, 0.06])}
        inversion = self.inversion((2,), p, Free([-100.0, -200.0], -1e4, -1.0))
        assert inversion.unknowns.names == ("Ks", "alpha", "psi0") and inversion.unknowns.start.shape == (2, 3)
        self.check(inversion)
        assert torch.allclose(inversion.unknowns.physical(inversion.unknowns.start)[:, 0], torch.tensor([5.0, 20.0]))

    def test_shared(self):
        """One soil under all columns, initial heads of each."""
        p = LOAM | {"Ks": Free(5.0), "alpha": Free(0.04)}
        inversion = self.inversion((2,), p, Free([[-100.0, -50.0], [-200.0, -80.0]], spread=knots((0, 40), GRID.depth)))
        names = (
            "Ks",
            "alpha",
            "psi0[0] of column 0",
            "psi0[0] of column 1",
            "psi0[1] of column 0",
            "psi0[1] of column 1",
        )
        assert inversion.unknowns.names == names and inversion.unknowns.start.shape == (1, 6)
        self.check(inversion)
        setting = inversion.at(inversion.unknowns.start)
        assert setting.psi0.shape == (2, GRID.cells) and setting.p[0]["Ks"].shape == ()

    def test_values_in_time_layers_and_one_object_twice(self):
        middles = 0.5 * (DAYS[1:] + DAYS[:-1])
        q = Free([-5.0, 0.2], spread=pieces((0.0, 0.5, 3.0), middles))
        same = Free(8.0)
        layers = [Layer(Gardner(), GRID.edges[4]), Layer(VanGenuchten())]
        p = [{"theta_r": 0.05, "theta_s": 0.4, "Ks": same, "alpha": Free(0.03)}, LOAM | {"Ks": same}]
        soil = Column(
            GRID,
            layers,
            Flux(q),
            FreeDrainage(),
            [RootUptake(0.1, Free(torch.ones(1), spread=np.ones((GRID.cells, 1))))],
        )
        inversion = Inversion(
            soil, clock((2,)), p, WaterContent(Free(0.2)), observe(truth((2,)), SENSORS), steps=Fixed(2)
        )
        assert inversion.unknowns.names == ("Ks", "layer 0 alpha", "top q[0]", "top q[1]", "sink 0 density", "theta0")
        self.check(inversion)

    @pytest.mark.filterwarnings("ignore:What was found is in doubt")  # few iterations, on purpose
    def test_weights_and_priors(self):
        """Weights of laws are unknowns where asked, and end where the fit ends."""
        law = MonotoneSpline(knots=(0.0, 2.0, 3.0, 8.0))
        before = [w.detach().clone() for w in law.parameters()]
        observed = observe(truth(), SENSORS)
        p = {"theta_r": 0.065, "theta_s": 0.41, "Ks": Free(10.0, prior=0.1)}
        inversion = Inversion(column(law=law), clock(), p, -150.0, observed, weights=0.5, steps=Fixed(2))
        u = inversion.unknowns
        assert u.start.shape == (1, 7) and u.names[0] == "Ks" and u.names[-1] == "weights 1[2]"
        assert torch.allclose(u.precision[0], torch.tensor([100.0] + [4.0] * 6))
        self.check(inversion)
        for w, b in zip(law.parameters(), before, strict=True):
            w.data.copy_(b)
        fitted = fit(inversion, steps=3)
        assert float(fitted.chi2[0]) < float(torch.cat(inversion.residuals(u.start)[1], -1).square().sum())
        moved = torch.cat([w.detach() for w in law.parameters()])
        inversion.at(fitted.x)
        assert torch.equal(moved, torch.cat([w.detach() for w in law.parameters()]))


class TestObserved:
    def test_sensors(self):
        """Points are interpolated within their layer, a support averages over the cells it covers."""
        run = truth()
        theta, depth = run.theta, torch.as_tensor(GRID.depth)
        point = Observed("theta", torch.zeros(len(DAYS)), 0.1, depth=float(depth[3])).of(run, run.column)
        assert torch.allclose(point, theta[:, 3])
        middle = Observed("psi", torch.zeros(len(DAYS)), 0.1, depth=0.5 * float(depth[3] + depth[4]))
        assert torch.allclose(middle.of(run, run.column), 0.5 * (run.psi[:, 3] + run.psi[:, 4]))
        whole = Observed("theta", torch.zeros(len(DAYS)), 0.1, depth=20.0, support=40.0).of(run, run.column)
        assert torch.allclose(whole, run.storage / 40.0)

    def test_volumes(self):
        run = truth()
        total = Observed("recharge", torch.zeros(len(DAYS)), 0.1, cumulative=True).of(run, run.column)
        assert float(total[0]) == 0.0 and torch.allclose(total[-1], run.recharge.sum())
        assert torch.equal(Observed("infiltration", torch.zeros(7), 0.1).of(run, run.column), run.infiltration)

    def test_logarithms_know_the_sign(self):
        """A head of +20 cm is no suction of 20 cm; on the wet side residuals keep growing, with their own slopes."""
        psi = torch.tensor([-30.0, -20.0, -1.0, -1e-3, -1e-4, 0.0, 1e-3, 1.0, 20.0])
        value, slope = inversion_module._logarithm(-psi)
        assert bool((value.diff() < 0.0).all()) and torch.allclose(value[:3], torch.log(-psi[:3]))
        x = -psi.clone().requires_grad_()
        assert torch.allclose(torch.autograd.grad(inversion_module._logarithm(x)[0].sum(), x)[0], slope)
        wet = Column(GRID, VanGenuchten(), Head(20.0), Head(60.0))
        seen = Observed("psi", torch.full((8,), -22.5), 0.03, depth=2.5, log=True)
        task = Inversion(wet, clock(), LOAM | {"Ks": Free(10.0)}, wet.hydrostatic(-20.0), seen, steps=Fixed(2))
        run, (residual,), jacobian = task.residuals(task.unknowns.start)
        assert float(run.psi.min()) > 20.0 and float(residual.max()) < -100.0 and bool(jacobian.isfinite().all())

    def test_missing_values_say_nothing(self):
        series = observe(truth(), SENSORS)
        values = series[0].values.clone()
        values[2:4, 1] = float("nan")
        gaps = Observed("theta", values, 0.005, depth=SENSORS["theta"]["depth"])
        inversion = Inversion(column(), clock(), LOAM | {"Ks": Free(5.0)}, -150.0, gaps, steps=STEPS)
        _, (residuals,), jacobian = inversion.residuals(inversion.unknowns.start)
        missing = values.isnan().flatten()
        assert bool((residuals[0, missing] == 0.0).all()) and bool((residuals[0, ~missing][4:] != 0.0).all())
        assert bool((jacobian[0, 0, missing] == 0.0).all()) and bool(jacobian.isfinite().all())
        assert {n: c.tolist() for n, c in fit(inversion).counts.items()} == {"theta at 2, 8, 15, 30 cm": [30]}

    @pytest.mark.parametrize(
        ("make", "error", "message"),
        [
            (lambda: Observed("tetha", torch.zeros(8), 0.1, depth=5.0), ConfigError, "Did you mean 'theta'"),
            (lambda: Observed("theta", torch.zeros(8), 0.1), ConfigError, "needs the depth"),
            (lambda: Observed("recharge", torch.zeros(8), 0.1, depth=5.0), ConfigError, "has no depth"),
            (lambda: Observed("storage", torch.zeros(8), 0.1, cumulative=True), ConfigError, "no volume"),
            (lambda: Observed("theta", torch.full((8,), torch.nan), 0.1, depth=5.0), DataError, "no values"),
            (lambda: Observed("theta", torch.full((8,), torch.inf), 0.1, depth=5.0), DataError, "infinite"),
            (lambda: Observed("theta", torch.zeros(8), 0.0, depth=5.0), DataError, "above zero"),
            (lambda: Observed("psi", torch.zeros(8), 0.1, depth=5.0, log=True), DataError, "no logarithm"),
            (lambda: Observed("psi", torch.linspace(-3.0, 3.0, 8), 0.1, depth=5.0, log=True), DataError, "both signs"),
        ],
    )
    def test_errors(self, make, error, message):
        with pytest.raises(error, match=message):
            make()

    @pytest.mark.parametrize(
        ("series", "error", "message"),
        [
            (Observed("theta", torch.zeros(8), 0.1, depth=41.0), ConfigError, "not in 0 to 40"),
            (Observed("theta", torch.zeros(8), 0.1, depth=2.0, support=5.0), ConfigError, "not in 0 to 40"),
            (Observed("theta", torch.zeros(7), 0.1, depth=5.0), DataError, r"expected \(8,\): edges"),
            (Observed("recharge", torch.zeros(8), 0.1), DataError, r"expected \(7,\): intervals"),
            (Observed("theta", torch.zeros(8), 0.1, depth=(5.0,)), DataError, "x sensors"),
        ],
    )
    def test_what_does_not_fit_a_column(self, series, error, message):
        with pytest.raises(error, match=message):
            Inversion(column(), clock(), LOAM | {"Ks": Free(5.0)}, -150.0, series)


class TestFit:
    free = {"theta_s": Free([0.45, 0.38]), "Ks": Free([30.0, 4.0]), "alpha": Free([0.1, 0.03]), "n": Free([1.6, 2.8])}

    def test_finds_what_was_planted(self):
        """Exact data: the soil itself, from two starts at once."""
        observed = observe(truth((2,)), SENSORS)
        fitted = fit(
            Inversion(column(Flux(RAIN[:, None])), clock((2,)), LOAM | self.free, -150.0, observed, steps=STEPS)
        )
        expected = torch.tensor([LOAM[n] for n in fitted.names])
        assert bool(fitted.converged.all()) and torch.allclose(fitted.values, expected.expand(2, -1), rtol=1e-4)
        assert float(fitted.chi2.max()) < 1e-4

    def test_noise(self):
        """Errors of estimates are what the last normal equations say, over 16 columns with errors of their own."""
        observed = observe(truth((16,)), SENSORS, noise=1.0)
        p = LOAM | {n: Free(torch.full((16,), LOAM[n] * 1.2)) for n in ("Ks", "alpha", "n")}
        fitted = fit(Inversion(column(Flux(RAIN[:, None])), clock((16,)), p, -150.0, observed, steps=STEPS))
        assert 0.7 < float(fitted.misfit.mean()) < 1.3
        # Ks and alpha are searched in logarithms, n is not
        error = torch.stack([fitted.x[:, 0] - np.log(10.0), fitted.values[:, 1] - 0.05, fitted.values[:, 2] - 2.2], 1)
        if bool(fitted.inversion.unknowns.logarithmic[1]):
            error[:, 1] = torch.log(fitted.values[:, 1] / 0.05)
        z = error / fitted.sd
        assert 0.5 < float(z.square().mean()) < 1.6 and float(z.abs().max()) < 4.5

    def test_gaps_of_members(self):
        """Every member has as many observations as its own series, and a misfit of its own."""
        (theta,) = observe(truth((2,)), {"theta": SENSORS["theta"]}, noise=1.0)
        theta.values[2:, 1] = torch.nan
        p = LOAM | {"Ks": Free([10.0, 10.0])}
        fitted = fit(Inversion(column(Flux(RAIN[:, None])), clock((2,)), p, -150.0, theta, steps=Fixed(2)), steps=3)
        assert fitted.counts["theta at 2, 8, 15, 30 cm"].tolist() == [32, 8]
        assert torch.allclose(fitted.misfit, fitted.chi2 / torch.tensor([32.0, 8.0]))

    def test_initial_heads_and_surface_flux(self):
        """State at the start and an unknown flux at the surface, the soil known."""
        middles = 0.5 * (DAYS[1:] + DAYS[:-1])
        q = Free([0.0] * 7, -20.0, 5.0, spread=pieces(DAYS, middles))
        psi0 = Free([-100.0, -100.0], -1e4, -1.0, spread=knots((0.0, 40.0), GRID.depth))
        start = knots((0.0, 40.0), GRID.depth) @ torch.tensor([-150.0, -110.0], dtype=torch.float64)
        observed = observe(truth(psi0=start), {"theta": {"sigma": 0.001, "depth": (1.5, 5.0, 10.0, 20.0, 35.0)}})
        fitted = fit(Inversion(column(Flux(q)), clock(), LOAM, psi0, observed, steps=STEPS))
        assert torch.allclose(fitted.values[0, :7], RAIN, atol=0.02)
        assert torch.allclose(fitted.values[0, 7:], torch.tensor([-150.0, -110.0]), rtol=0.02)

    def test_outflow_and_weather(self):
        """Evaporation that the soil limits, recharge and storage; columns that share the soil."""
        top = Atmospheric(RAIN.neg().clamp_min(0.0)[:, None], torch.tensor([0.2, 0.5]))
        run = truth((2,), top=top)
        kinds = {"recharge": {"sigma": 0.01, "cumulative": True}, "storage": {"sigma": 0.02}}
        p = LOAM | {"Ks": Free(4.0), "n": Free(1.8)}
        fitted = fit(Inversion(column(top), clock((2,)), p, -150.0, observe(run, kinds), steps=STEPS))
        assert torch.allclose(fitted.values, torch.tensor([[10.0, 2.2]]), rtol=1e-4) and fitted.x.shape == (1, 2)
        assert {n: c.tolist() for n, c in fitted.counts.items()} == {"cumulative recharge": [16], "storage": [16]}

    def test_bounds_and_priors(self):
        observed = observe(truth(), SENSORS)
        task = Inversion(column(), clock(), LOAM | {"Ks": Free(4.0, high=6.0)}, -150.0, observed, steps=STEPS)
        with pytest.warns(UserWarning, match="at a limit: Ks. Wider"):
            bound = fit(task)
        assert bound.at_limit == (("Ks",),) and float(bound.misfit[0]) > 4.0
        assert float(bound.values[0, 0]) == pytest.approx(6.0)
        task = Inversion(column(), clock(), LOAM | {"Ks": Free(4.0, prior=1e-4)}, -150.0, observed, steps=STEPS)
        with pytest.warns(UserWarning, match="chi2 / N is .*, where one is expected"):
            known = fit(task)
        assert known.at_limit == ((),)
        assert float(known.values[0, 0]) == pytest.approx(4.0, rel=1e-2)
        assert float(known.sd[0, 0]) < 1.01e-4

    def test_information_is_that_of_the_last_normal_equations(self):
        observed = observe(truth(), SENSORS)
        inversion = Inversion(
            column(), clock(), LOAM | {"alpha": Free(0.05), "n": Free(2.2)}, -150.0, observed, steps=STEPS
        )
        fitted = fit(inversion)
        information = inversion.information(fitted.x)
        assert information.names == ("alpha", "n")
        scale = torch.where(inversion.unknowns.logarithmic, fitted.values[0], 1.0)
        assert torch.allclose(information.sd() / scale, fitted.sd[0], rtol=1e-6)

    @pytest.mark.filterwarnings("ignore:What was found is in doubt")  # few iterations, on purpose
    def test_bands(self):
        """Curves with the spread that parameters drawn from their covariance give them."""
        observed = observe(truth((2,)), SENSORS)
        p = LOAM | {"Ks": Free(10.0), "n": Free([2.2, 2.0])}
        task = Inversion(column(Flux(RAIN[:, None])), clock((2,)), p, -150.0, observed, steps=Fixed(2))
        fitted = fit(task, steps=3)
        assert fitted.names == ("Ks", "n of column 0", "n of column 1")
        psi = -torch.tensor([1.0, 10.0, 100.0])
        found = fitted.curves(psi)
        assert found.theta.shape == found.log_k_sd.shape == (2, 3)
        draws = torch.distributions.MultivariateNormal(fitted.x[0], 1e-6 * fitted.covariance[0]).sample((800,))
        law, values = VanGenuchten(), [task.unknowns.physical(x[None])[0] for x in draws]
        for c in (0, 1):
            soils = [LOAM | {"Ks": float(v[0]), "n": float(v[1 + c])} for v in values]
            theta = torch.stack([law.theta(psi, s) for s in soils]).std(0)
            log_k = torch.stack([law.log_conductivity(psi, s) for s in soils]).std(0)
            assert torch.allclose(found.theta_sd[c], 1e3 * theta, rtol=0.12)
            assert torch.allclose(found.log_k_sd[c], 1e3 * log_k, rtol=0.12)

    @pytest.mark.filterwarnings("ignore:What was found is in doubt")  # few iterations, on purpose
    def test_bands_of_what_differs_by_cell(self):
        observed = observe(truth(), SENSORS)
        for ks in (Free([8.0, 12.0], spread=knots((0.0, 40.0), GRID.depth)), torch.full((GRID.cells,), 10.0)):
            p = LOAM | {"Ks": ks, "n": Free(2.2)}
            fitted = fit(Inversion(column(), clock(), p, -150.0, observed, steps=Fixed(2)), steps=1)
            with pytest.raises(ConfigError, match="'Ks' of layer 0 differs by cell"):
                fitted.curves(-torch.tensor([10.0]))

    @pytest.mark.filterwarnings("ignore:What was found is in doubt")  # few iterations, on purpose
    def test_bands_of_weights(self):
        law = MonotoneSpline(knots=(0.0, 1.0, 2.0, 3.0, 5.0, 8.0))
        p = {"theta_r": 0.065, "theta_s": 0.41, "Ks": 10.0}
        task = Inversion(column(law=law), clock(), p, -150.0, observe(truth(), SENSORS), weights=0.5, steps=Fixed(2))
        found = fit(task, steps=2).curves(-torch.tensor([10.0, 100.0, 1e6]))
        assert bool((found.log_k_sd > 0).all()) and float(found.log_k_sd[2]) > float(found.log_k_sd[0])

    def test_visited(self):
        run = truth((2,))
        dry, wet = visited(run, share=0.8)
        values = run.psi.transpose(0, 1).flatten(1).numpy()
        assert np.allclose(dry, np.quantile(values, 0.1, axis=1)) and np.allclose(wet, np.quantile(values, 0.9, axis=1))
        assert torch.equal(visited(run, share=1.0)[0], run.psi.amin((0, -1)))
        with pytest.raises(ConfigError, match="share"):
            visited(run, share=1.5)

    @pytest.mark.filterwarnings("ignore:What was found is in doubt")  # few iterations, on purpose
    def test_a_member_that_cannot_be_run_goes_back(self, monkeypatch):
        """The others go on; where the start itself fails, the error names the column."""
        from udehydro.richards.inversion import inversion as module

        observed = observe(truth((2,)), SENSORS)
        p = LOAM | {"Ks": Free([30.0, 5.0])}
        task = Inversion(column(Flux(RAIN[:, None])), clock((2,)), p, -150.0, observed, steps=STEPS)
        run, calls = module.flow_along, []

        def fails(column, forcing, p, *rest, **options):
            calls.append(p[0]["Ks"].tolist())
            if p[0]["Ks"][0] < 29.0:
                raise SolverError("no", torch.tensor([True, False]))
            return run(column, forcing, p, *rest, **options)

        monkeypatch.setattr(module, "flow_along", fails)
        fitted = fit(task, steps=12)
        assert float(fitted.values[1, 0]) == pytest.approx(10.0, rel=1e-3) and float(fitted.values[0, 0]) >= 29.0
        assert len(calls) > 5
        monkeypatch.undo()
        saturated = Inversion(
            Column(GRID, VanGenuchten(), Flux(-1.0), Flux(0.0)), clock(), LOAM | {"Ks": Free(5.0)}, 0.0,
            Observed("storage", torch.ones(8), 0.1), steps=Fixed(2),
        )  # fmt: skip
        with pytest.raises(SolverError, match="2000-01-01"):
            fit(saturated)

    def test_nothing_to_find(self):
        with pytest.raises(ConfigError, match="Nothing is to be found"):
            Inversion(column(), clock(), LOAM, -150.0, observe(truth(), SENSORS))

    def test_head_at_the_top(self):
        """Ponded infiltration, cumulative: sorptivity and conductivity."""
        top = Head(Free(0.5, 0.0, 3.0))
        run = truth(top=Head(1.0), psi0=-400.0)
        observed = observe(run, {"infiltration": {"sigma": 0.05, "cumulative": True}})
        task = Inversion(column(top), clock(), LOAM | {"Ks": Free(5.0)}, -400.0, observed, steps=STEPS)
        fitted = fit(task)
        assert float(fitted.chi2[0]) < 1.0 and float(fitted.values[0, 0]) == pytest.approx(10.0, rel=0.05)
