"""Systems that are not water balances: any units, boundaries by name, signed states, no forcing."""

import copy

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from toy import U0, lotka_volterra

from udehydro import (
    ATMOSPHERE,
    OUTLET,
    Balance,
    ConfigError,
    DataError,
    Forcing,
    Range,
    SolverError,
    Structure,
    StructureError,
    flux,
    simulate,
    spin_up,
)
from udehydro.sensitivity import differences, taylor_test
from udehydro.solvers import RK4, SDIRK2, AllAtOnce, Automatic, Compiled, Stepping, Torchdiffeq

LV = Balance(lotka_volterra)
EDGES = np.linspace(0.0, 3.0, 31)
RUNGE = Stepping(RK4, substeps=3)
SOLVERS = [RUNGE, AllAtOnce(SDIRK2, substeps=3), Torchdiffeq("dopri5", rtol=1e-9, atol=1e-10)]


def record(batch=(), intervals=30):
    return Forcing.clock(days=np.linspace(0.0, 3.0, intervals + 1), batch=batch)


def reference():
    """States (31, 2) by an adaptive method at 1e-10."""

    def slopes(t, u):
        x, y = u
        return [1.3 * x - 0.9 * x * y, 0.8 * x * y - 1.8 * y]

    options = {"rtol": 1e-10, "atol": 1e-12, "method": "DOP853", "t_eval": EDGES}
    return torch.as_tensor(solve_ivp(slopes, (0.0, 3.0), list(U0.values()), **options).y.T.copy())


class TestClock:
    def test_days_are_exact(self):
        """A tenth of a day is 8640 s, also after 20000 days, where a double is off by 30 ns."""
        assert (np.diff(record().time_edge) == np.timedelta64(8640, "s")).all()
        late = Forcing.clock(days=20000.0 + np.linspace(0.0, 3.0, 31))
        assert (np.diff(late.time_edge) == np.timedelta64(8640, "s")).all()
        assert torch.equal(record().days, torch.full((30,), 0.1))

    def test_other_lengths_do_not_drift(self):
        """Sevenths of a day: every edge within half a nanosecond and the precision of the number."""
        found = Forcing.clock(days=np.arange(71) / 7).time_edge
        exact = np.arange(71) * 86_400_000_000_000 / 7
        assert np.abs((found - found[0]).astype("int64") - exact).max() <= 1

    def test_time_is_the_middle(self):
        found = record((2, 1))
        assert found.values["time"].shape == (30, 2, 1) and found.units == {"time": "d"}
        assert torch.allclose(found.values["time"][:, 1, 0], torch.arange(30) * 0.1 + 0.05)
        dates = np.datetime64("1990-05-01") + np.arange(4)
        assert Forcing.clock(dates).values["time"].tolist() == [0.5, 1.5, 2.5]
        assert Forcing.clock(days=[5, 6, 8]).values["time"].tolist() == [5.5, 7.0]
        assert record().isel(slice(10, 20)).values["time"][0].item() == pytest.approx(1.05)

    def test_names_and_type(self):
        found = Forcing.clock(days=EDGES, batch=(2, 3), members=("a", "b"), basins=range(3), dtype=torch.float32)
        assert found.label(1, (1, 2)) == "member b, basin 2, 2000-01-01T02:24"
        assert found.like.dtype == torch.float32

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({}, "either as dates"),
            ({"time_edge": np.datetime64("2001-01-01") + np.arange(3), "days": [0, 1]}, "either as dates"),
            ({"days": [0.0, np.nan]}, "finite numbers"),
            ({"days": [0.0, 1e5]}, "between -90000 and 90000"),
            ({"days": [0.0, 0.0]}, "strictly increasing"),
            ({"days": [0, 1], "batch": (2,), "members": ("a", "b")}, "member, basin"),
        ],
    )
    def test_bad_input(self, options, says):
        with pytest.raises(DataError, match=says):
            Forcing.clock(**options)

    def test_laws_read_it(self):
        """dS/dt = t: the middle makes the sum over intervals exact, t^2 / 2."""

        @flux("outside", "s")
        def inflow(time):
            return time

        s = Structure("ramp", {"s": "1"}, {"time": "d"}, {}, (inflow,), boundaries=("outside",))
        run = simulate(Balance(s), record(), storage0={"s": 0.0})
        assert torch.allclose(run.store("s"), torch.as_tensor(EDGES**2 / 2), atol=1e-13)


class TestLotkaVolterra:
    def test_runge_kutta_against_scipy(self):
        """Published accuracy of 3 substeps per sample: 5e-7; allowed 2e-6."""
        run = simulate(LV, record(), storage0=U0, solver=RUNGE)
        assert (run.storage - reference()).abs().max() < 2e-6

    @pytest.mark.parametrize(("solver", "order"), [(Stepping(RK4), 4), (AllAtOnce(SDIRK2), 2)], ids=["RK4", "SDIRK2"])
    def test_order_of_convergence(self, solver, order):
        """Halving the step divides the error by 2^order, within 15 % of the exponent."""
        exact = reference()[-1]
        errors = [
            (simulate(LV, record(intervals=n), storage0=U0, solver=solver).storage[-1] - exact).norm().item()
            for n in (60, 120)
        ]
        assert np.log2(errors[0] / errors[1]) == pytest.approx(order, rel=0.15)

    @pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
    @pytest.mark.parametrize("batch", [(), (3,), (3, 1)], ids=str)
    def test_every_driver_and_batch(self, solver, batch):
        """Members with other parameters and starts are the single runs, and everything closes to round-off."""
        alpha = torch.tensor([1.3, 1.1, 1.6])
        start = torch.tensor(list(U0.values())) * torch.tensor([1.0, 0.5, 1.5])[:, None]
        shape = batch or (3,)
        single = [
            simulate(LV, record(), theta=default(alpha=a), storage0=s, solver=solver).storage
            for a, s in zip(alpha, start, strict=True)
        ]
        if batch:
            theta, storage0 = default(alpha=alpha.reshape(shape)), start.reshape(*shape, 2)
            run = simulate(LV, record(batch), theta=theta, storage0=storage0, solver=solver)
            found = run.storage.reshape(31, 3, 2)
            # a batch shares the adaptive steps of torchdiffeq (tolerance 1e-9); the others solve to 1e-9
            assert torch.allclose(found, torch.stack(single, 1), rtol=0, atol=1e-7)
        else:
            run = simulate(LV, record(), storage0=U0, solver=solver)
            assert (run.storage - reference()).abs().max() < 2e-3
        assert (run.max_balance_error() <= run.balance_tolerance()).all()

    def test_all_at_once_is_stepping(self):
        options = {"substeps": 2, "tolerance": 1e-12}
        one, other = (
            simulate(LV, record((2, 1)), storage0=U0, solver=s(SDIRK2, **options)).storage
            for s in (AllAtOnce, Stepping)
        )
        assert torch.allclose(one, other, rtol=0, atol=1e-11)

    @pytest.mark.parametrize("solver", [RUNGE, AllAtOnce(SDIRK2, tolerance=1e-12)], ids=["RK4", "SDIRK2"])
    def test_gradient(self, solver):
        """Central differences, and a Taylor remainder that falls with the square of the step."""
        names = ("alpha", "beta", "gamma", "delta")
        weights = torch.linspace(-1, 1, 31)[:, None] * torch.tensor([1.0, -0.5])

        def value(point):
            theta = dict(zip(names, point[:4], strict=True))
            run = simulate(LV, record(), theta=theta, storage0=point[4:], solver=solver)
            return (weights * run.storage).sum() + run.rate("u_y").square().mean()

        point = torch.tensor([1.3, 0.9, 0.8, 1.8, *U0.values()], requires_grad=True)
        (gradient,) = torch.autograd.grad(value(point), point)
        found = differences(lambda points: torch.stack([value(p) for p in points]), point.detach()).against(gradient)
        assert found.error < 1e-8 and found.excluded == 0  # a smooth system: nothing but round-off is left
        assert taylor_test(value, point, gradient=gradient).order == pytest.approx(2.0, abs=0.05)

    def test_units_and_file(self, tmp_path):
        data = simulate(LV, record((2, 1)), storage0=U0).to_xarray()
        assert data["x"].attrs["units"] == "1" and data["u_x"].attrs["units"] == "1/d"
        assert "discharge" not in data and data.attrs["max_balance_error"] < 1e-12
        assert data["x"].dims == ("time_edge", "member", "basin")
        simulate(LV, record(), storage0=U0).to_netcdf(tmp_path / "lv.nc")

    def test_no_discharge(self):
        run = simulate(LV, record(), storage0=U0)
        with pytest.raises(StructureError, match="'lotka_volterra' enters the outlet.*rate.*growth.*store.*x, y"):
            _ = run.discharge
        with pytest.raises(StructureError, match="No flux or group 'discharge'.*Known: growth, decay, u_x, u_y"):
            run.rate("discharge")

    def test_initial_state_has_to_be_given(self):
        for start in (simulate, spin_up):
            with pytest.raises(DataError, match="no first year to repeat.*x, y"):
                start(LV, record())


def default(**changed):
    return {n: r.default for n, r in lotka_volterra.parameters.items()} | changed


@flux("outside", "angle", signed=True)
def turn(speed):
    return speed


@flux("outside", "speed", signed=True)
def pull(angle):
    return -4.0 * angle


@flux("water", OUTLET)
def leak(water):
    return 5.0 * water


@flux(ATMOSPHERE, "heat", signed=True)
def warming(heat):
    return 10.0 - heat


@flux("heat", OUTLET, signed=True)
def cooling(heat):
    return 0.1 * heat


def oscillator(**options):
    """A spring, which swings below zero, and a bucket that SDIRK2 with one step a day empties too far."""
    return Structure(
        "spring",
        {"angle": "rad", "speed": "rad/d", "water": "mm"},
        {},
        {},
        (turn, pull, leak),
        boundaries=("outside",),
        **options,
    )


class TestSignedStores:
    SIGNED = Balance(oscillator(signed_stores=("angle", "speed")))
    START = {"angle": 1.0, "speed": 0.0, "water": 0.0}
    RECORD = Forcing.clock(days=np.arange(11))

    def run(self, model=None, water=0.0, **options):
        driver = options.pop("driver", Stepping)
        start = self.START | {"water": water}
        return simulate(model or self.SIGNED, self.RECORD, storage0=start, solver=driver(SDIRK2, **options))

    @pytest.mark.parametrize("driver", [Stepping, AllAtOnce, Automatic])
    def test_negative_states_are_no_undershoot(self, driver):
        run = self.run(driver=driver)
        assert run.store("angle").min() < -0.1 and run.report.undershoots == 0
        self.run(driver=driver, undershoot="raise")
        unsigned = self.run(Balance(oscillator()), driver=driver)
        assert unsigned.report.undershoots > 0 and torch.equal(unsigned.storage, run.storage)

    @pytest.mark.parametrize("driver", [Stepping, AllAtOnce])
    def test_only_stores_of_water_are_split(self, driver):
        """The spring alone needs no split; a bucket beside it is cut until it stays above zero."""
        assert self.run(driver=driver, undershoot="split").report.split_intervals == 0
        assert self.run(driver=driver, water=9.0).report.undershoots > 0
        run = self.run(driver=driver, water=9.0, undershoot="split")
        assert run.report.split_intervals > 0 and run.report.undershoots == 0
        assert run.store("angle").min() < -0.1

    def test_the_store_that_undershoots_is_named(self):
        with pytest.raises(SolverError, match=r"falls to -[\d.]+ mm in 2000-01-01 \(water"):
            self.run(water=9.0, undershoot="raise")

    @pytest.mark.parametrize("driver", [Compiled, Automatic])
    def test_drivers_that_cannot_leave_them_out_say_so(self, driver):
        with pytest.raises(ConfigError, match="angle, speed.*Stepping or AllAtOnce"):
            self.run(driver=driver, undershoot="split")

    def test_unknown_names(self):
        with pytest.raises(StructureError, match="unknown store 'angel'. Did you mean 'angle'"):
            oscillator(signed_stores=("angel",))

    def test_they_outlive_changes_of_laws(self):
        changed = copy.deepcopy(self.SIGNED).structure.replace(leak=lambda water: 2.0 * water)
        assert changed.signed_stores == ("angle", "speed")


class TestUnits:
    def test_of_stores_and_rates(self):
        run = TestSignedStores().run()
        assert [run.unit(n) for n in ("angle", "turn", "pull", "leak")] == ["rad", "rad/d", "rad/d/d", "mm/d"]
        data = run.to_xarray()
        assert data["discharge"].attrs["units"] == "mm/d" and data["pull"].attrs["units"] == "rad/d/d"
        assert "max_balance_error" in data.attrs

    def test_discharge_of_mixed_units_is_refused(self):
        s = Structure(
            "mixed",
            {"water": "mm", "heat": "MJ/m2"},
            {},
            {"k": Range(0.0, 1.0, "1/d")},
            (leak, warming, cooling),
            groups={"energy": ("warming", "cooling")},
        )
        run = simulate(Balance(s), Forcing.clock(days=range(4)), storage0={"water": 1.0, "heat": 0.0})
        with pytest.raises(StructureError, match="different units.*leak, cooling"):
            _ = run.discharge
        assert run.unit("energy") == "MJ/m2/d" and run.unit("discharge") == ""
        assert "discharge" not in run.to_xarray()
