"""Soil over groundwater: a column drains into a Balance; water and gradients pass through both solvers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_device import elsewhere

from udehydro import OUTLET, Balance, Forcing, Range, Structure, flux, simulate
from udehydro.errors import ConfigError, DataError, StructureError
from udehydro.models import linear
from udehydro.richards.column import Atmospheric, Column, Fixed, FreeDrainage, Grid, WaterTable, flow
from udehydro.richards.laws import VanGenuchten
from udehydro.richards.link import recharge_forcing
from udehydro.sensitivity.checks import differences
from udehydro.solvers import BACKWARD_EULER, SDIRK2, AllAtOnce, Automatic, Stepping, Torchdiffeq

SOLVERS = {
    "automatic": Automatic(),
    "stepping": Stepping(SDIRK2),
    "stepping, backward Euler x2": Stepping(BACKWARD_EULER, substeps=2),
    "all at once": AllAtOnce(SDIRK2),
    "torchdiffeq": Torchdiffeq("rk4"),
}
LOAM = {"theta_r": 0.065, "theta_s": 0.41, "Ks": 10.0, "alpha": 0.05, "n": 2.2}
GRID = Grid.graded(60.0, 2.0, 1.6)
DAYS = 8
RAIN = torch.tensor([0.5, 4.0, 14.0, 0.0, 0.0, 1.0, 0.0, 0.0], dtype=torch.float64)  # cm/d
STEPS = Fixed(2)


@flux("soil", "groundwater", signed=True)
def percolation(recharge):
    """What the column gives or takes, mm/d."""
    return recharge


@flux("groundwater", OUTLET)
def baseflow(groundwater, k):
    """Q = k S, mm/d."""
    return k * groundwater


reservoir = Structure(
    name="reservoir",
    stores={"groundwater": "mm"},
    forcings={"recharge": "mm/d"},
    parameters={"k": Range(0.001, 1.0, "1/d", default=0.1)},
    fluxes=(percolation, baseflow),
    boundaries=("soil",),
)
AQUIFER = Balance(reservoir)


def edges(days=DAYS, per_day=1):
    return np.datetime64("2001-05-01", "ns") + np.arange(days * per_day + 1) * np.timedelta64(24 // per_day, "h")


def weather(rain, per_day=1, **names):
    """Rain by day (DAYS, *batch) in cm/d and 0.4 cm/d of evaporation, on ``per_day`` intervals a day."""
    rain = rain.repeat_interleave(per_day, 0)
    values = {"rain": rain, "pet": torch.full_like(rain, 0.4)}
    return Forcing(values, {"rain": "cm/d", "pet": "cm/d"}, edges(len(rain) // per_day, per_day), **names)


def drain(forcing, bottom=None, psi0=-60.0, **soil):
    """A run of the column; the storm of the third day ponds on it and runs off."""
    column = Column(GRID, VanGenuchten(), Atmospheric("rain", "pet", pond=0.5), bottom or FreeDrainage())
    return flow(column, forcing, LOAM | soil, psi0, steps=STEPS)


def discharge(run, k=0.2, solver=None, **link):
    return simulate(
        AQUIFER, recharge_forcing(run, **link), theta={"k": k}, storage0={"groundwater": 5.0}, solver=solver
    )


class TestWater:
    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("bottom", [FreeDrainage(), WaterTable(80.0)], ids=lambda b: type(b).__name__)
    def test_is_conserved_through_both(self, bottom, solver):
        """Soil, pond and groundwater gain what rain brought, less evaporation, runoff and discharge, every day [mm]."""
        run = drain(weather(RAIN), bottom)
        below = discharge(run, solver=SOLVERS[solver])
        gain = 10.0 * run.storage.diff(dim=0) + below.store("groundwater").diff(dim=0)
        lost = 10.0 * (run.evaporation + run.runoff) + below.discharge
        assert float(run.runoff.sum()) > 1.0 and float(run.pond.max()) == pytest.approx(0.5)
        assert torch.allclose(gain, 10.0 * RAIN - lost, rtol=0.0, atol=1e-9)

    def test_a_store_follows_what_drains(self):
        """The closed form of a linear reservoir whose inflow is constant through each day."""
        run = drain(weather(RAIN))
        store, k = torch.tensor(5.0), 0.2
        found = discharge(run, k, Torchdiffeq("rk4", step_size=0.05)).store("groundwater")
        for day, inflow in enumerate(10.0 * run.recharge):
            store = store * np.exp(-k) + inflow / k * (1.0 - np.exp(-k))
            assert torch.allclose(found[day + 1], store, rtol=1e-7)

    def test_a_model_may_read_it_as_what_it_calls_its_inflow(self):
        run = drain(weather(RAIN))
        forcing = recharge_forcing(run, name="prcp")
        found = simulate(Balance(linear), forcing, theta={"k": 0.2}, storage0={"storage": 5.0})
        assert torch.equal(found.discharge, discharge(run).discharge)
        assert set(forcing.values) == {"rain", "pet", "prcp"} and forcing.units["prcp"] == "mm/d"

    def test_rise_from_groundwater(self):
        """Dry soil draws water up: the flux runs backwards, and an emptied store goes on giving."""
        run = drain(weather(0.0 * RAIN), WaterTable(80.0), psi0=-300.0)
        below = discharge(run)
        assert bool((run.recharge < 0.0).all())
        assert torch.allclose(below.rate("percolation"), 10.0 * run.recharge, rtol=1e-12)
        assert float(below.store("groundwater").min()) < 0.0 and below.report.undershoots > 0
        assert set(below.reversed_fluxes()) == {"baseflow"}  # percolation is declared as signed
        stops = Balance(reservoir, baseflow=lambda groundwater, k: k * groundwater.clamp_min(0.0))
        dry = simulate(stops, recharge_forcing(run), storage0={"groundwater": 5.0}, solver=Stepping(BACKWARD_EULER))
        assert dry.reversed_fluxes() == {} and float(dry.discharge[-1]) == 0.0
        gain = dry.storage[-1] - dry.storage[0]
        assert torch.allclose(gain, 10.0 * run.recharge.sum() - dry.discharge.sum(), rtol=0.0, atol=1e-9)


class TestGradients:
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_discharge_by_soil_rain_and_reservoir(self, solver):
        """Through both adjoints, against central differences of both runs; a storm that ponds and runs off included."""
        weight = torch.linspace(1.0, 3.0, DAYS)

        def objective(x):
            """(N,) of points (N, n): Ks, alpha, k, the initial storage, and rain of every day."""
            run = drain(weather(x[:, 4:].T), Ks=x[:, 0], alpha=x[:, 1])
            found = simulate(
                AQUIFER,
                recharge_forcing(run),
                theta={"k": x[:, 2]},
                storage0={"groundwater": x[:, 3]},
                solver=SOLVERS[solver],
            )
            return (weight[:, None] * found.discharge).sum(0) + found.storage[-1, :, 0].square()

        x = torch.cat([torch.tensor([10.0, 0.05, 0.2, 5.0]), RAIN + 0.1])
        point = x[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(point).sum(), point)
        steps = (1e-3, 1e-4, 1e-5)
        for entries in (slice(0, 1), slice(2, 3), slice(4, None), slice(None)):

            def part(points, entries=entries):
                whole = x.repeat(len(points), 1)
                whole[:, entries] = points
                return objective(whole)

            agreement = differences(part, x[entries], steps=steps).against(gradient[0, entries])
            assert float(agreement.error) < 1e-6 and int(agreement.excluded) == 0, (entries, agreement)

    def test_shares_and_days_pass_gradients(self):
        def objective(x):
            """(N,) of points (N, 3): shares of two soils, and k."""
            share = torch.block_diag(*(x[:, :2, None] / x[:, :2].sum(1)[:, None, None])).to(x)
            run = drain(weather(RAIN[:, None].expand(-1, 2 * len(x)), 4), Ks=torch.tensor([10.0, 2.0]).repeat(len(x)))
            daily = Forcing.clock(edges(), batch=(len(x),))
            return discharge(run, x[:, 2], forcing=daily, share=share).discharge.square().sum(0)

        x = torch.tensor([0.3, 0.9, 0.2])
        point = x[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(point).sum(), point)
        agreement = differences(objective, x, steps=(1e-3, 1e-4, 1e-5)).against(gradient[0])
        assert float(agreement.error) < 1e-6 and int(agreement.excluded) == 0


class TestBatch:
    ks = torch.tensor([10.0, 3.0, 30.0], dtype=torch.float64)

    def test_columns_of_basins_are_each_alone(self):
        names = ("a", "b", "c")
        run = drain(weather(RAIN[:, None] * torch.tensor([1.0, 0.5, 0.1]), basins=names), Ks=self.ks)
        forcing = recharge_forcing(run)
        assert (
            forcing.basins == names and forcing.batch == (3,) and forcing.values["rain"] is run.forcing.values["rain"]
        )
        assert np.array_equal(forcing.time_edge, run.forcing.time_edge)
        together = discharge(run, torch.tensor([0.1, 0.2, 0.3])).discharge
        for i, (part, k) in enumerate(zip((1.0, 0.5, 0.1), (0.1, 0.2, 0.3), strict=True)):
            alone = discharge(drain(weather(RAIN * part), Ks=self.ks[i]), k).discharge
            assert torch.allclose(together[:, i], alone, rtol=1e-9)

    def test_soils_of_one_basin(self):
        """The mean of three soils; their mean rain comes along."""
        rain = RAIN[:, None] * torch.tensor([1.0, 0.5, 0.1])
        run, share = drain(weather(rain, basins=("x", "y", "z")), Ks=self.ks), [0.5, 0.3, 0.2]
        forcing = recharge_forcing(run, share=share)
        assert forcing.batch == () and forcing.basins == ()
        mean = sum(s * 10.0 * run.recharge[:, i] for i, s in enumerate(share))
        assert torch.allclose(forcing.values["recharge"], mean, rtol=1e-14)
        assert torch.allclose(forcing.values["rain"], RAIN * (0.5 + 0.15 + 0.02), rtol=1e-14)

    def test_soils_of_many_basins_conserve_water(self):
        """Four columns in two basins, one of them in both, under two members."""
        rain = RAIN[:, None, None] * torch.tensor([[1.0], [0.4]]).expand(2, 4)
        run = drain(weather(rain), Ks=torch.tensor([10.0, 3.0, 30.0, 8.0]))
        share = torch.tensor([[0.7, 0.0], [0.3, 0.2], [0.0, 0.5], [0.0, 0.3]])
        record = Forcing.clock(edges(), batch=(2, 2), basins=("a", "b"))
        below = discharge(run, torch.tensor([0.1, 0.4]), forcing=record, share=share)
        assert below.discharge.shape == (DAYS, 2, 2) and below.forcing.basins == ("a", "b")
        moved = 10.0 * (rain - run.evaporation - run.runoff - run.storage.diff(dim=0)) @ share
        gain = below.store("groundwater").diff(dim=0)
        assert torch.allclose(gain + below.discharge, moved, rtol=0.0, atol=1e-9)

    def test_one_column_over_many_reservoirs(self):
        run, k = drain(weather(RAIN)), torch.tensor([0.1, 0.2])
        found = discharge(run, k, forcing=Forcing.clock(edges(), batch=(3, 2))).discharge
        assert found.shape == (DAYS, 3, 2)
        assert torch.allclose(found[:, 1, 1], discharge(run, 0.2).discharge, rtol=1e-12)


class TestIntervals:
    def test_hours_drain_into_days(self):
        """Sums of four intervals a day, and of days into two uneven parts of the record."""
        run, other = drain(weather(RAIN, 4)), weather(RAIN)
        daily = recharge_forcing(run, other)
        assert set(daily.values) == {"rain", "pet", "recharge"} and daily.units["recharge"] == "mm/d"
        expected = 10.0 * run.recharge.reshape(DAYS, 4).sum(1)
        assert torch.allclose(daily.values["recharge"], expected, rtol=1e-14)
        parts = recharge_forcing(run, Forcing.clock(edges()[[0, 3, 8]]))
        expected = torch.stack([expected[:3].mean(), expected[3:].mean()])
        assert torch.allclose(parts.values["recharge"], expected, rtol=1e-14)

    def test_part_of_a_run(self):
        """A column that has been run before the record begins gives what it gives during it."""
        run = drain(weather(RAIN, 4))
        part = recharge_forcing(run, weather(RAIN).isel(slice(2, 7)))
        assert torch.equal(part.values["recharge"], recharge_forcing(run, weather(RAIN)).values["recharge"][2:7])

    def test_precision_and_device_follow_the_forcing(self):
        run, record = drain(weather(RAIN)), weather(RAIN).to(dtype=torch.float32)
        assert recharge_forcing(run, record).values["recharge"].dtype == torch.float32
        run = drain(weather(RAIN[:, None].expand(-1, 2), 2))
        record = weather(RAIN)
        with elsewhere():
            recharge_forcing(run, record, share=[0.4, 0.6])


class TestErrors:
    def run(self, batch=(2,), **names):
        """Two days of columns."""
        return drain(weather(RAIN[:2].reshape(2, *(1 for _ in batch)).expand(-1, *batch), **names))

    @pytest.mark.parametrize(
        ("share", "message"),
        [
            ([1.2, -0.2], "not negative"),
            ([float("nan"), 1.0], "finite"),
            ([60.0, 40.0], r"add up to one, not 100\.0"),
            ([[1.0, 0.5], [0.0, 0.4]], r"add up to one, not \[1\.0, 0\.9"),
            ([0.3, 0.3, 0.4], r"shape \(3,\), the run a batch \(2,\)"),
            (1.0, r"shape \(\)"),
        ],
    )
    def test_shares(self, share, message):
        with pytest.raises(ConfigError, match=message):
            recharge_forcing(self.run(), share=share)

    def test_shares_without_columns_to_average(self):
        with pytest.raises(ConfigError, match=r"a batch \(\)"):
            recharge_forcing(self.run(()), share=[1.0])
        with pytest.raises(ConfigError, match="without members"):
            recharge_forcing(self.run((2, 2)), share=[0.5, 0.5])

    @pytest.mark.parametrize(
        "time_edge",
        [edges(2) + np.timedelta64(1, "h"), edges(3), edges(2) - np.timedelta64(1, "D"), edges(2, 2)],
        ids=["shifted", "longer", "earlier", "finer"],
    )
    def test_dates(self, time_edge):
        with pytest.raises(DataError, match=r"no interval of the run does.*2001-05-01 to 2001-05-03"):
            recharge_forcing(self.run(), Forcing.clock(time_edge, batch=(2,)))

    def test_batches(self):
        for batch in ((), (3,), (2, 1)):
            record = Forcing.clock(edges(2), batch=batch)
            with pytest.raises(DataError, match=r"batch \(2,\), which does not broadcast"):
                recharge_forcing(self.run(), record)

    def test_names_of_basins(self):
        run, record = self.run(basins=("a", "b")), Forcing.clock(edges(2), batch=(2,), basins=("b", "a"))
        with pytest.raises(DataError, match="basins of the run are a, b, those of the forcing b, a"):
            recharge_forcing(run, record)
        swapped = recharge_forcing(run, record, share=torch.tensor([[0.0, 1.0], [1.0, 0.0]])).values["recharge"]
        assert torch.equal(swapped.flip(1), recharge_forcing(run).values["recharge"])
        assert recharge_forcing(run, replace(record, basins=())).basins == ()

    def test_names_of_members(self):
        run = self.run((2, 2), members=("m", "n"))
        record = Forcing.clock(edges(2), batch=(2, 1), members=("n", "m"))
        with pytest.raises(DataError, match=r"members of the run are m, n, .* n, m: put them in one order\.$"):
            recharge_forcing(run, record, share=[[0.5], [0.5]])

    def test_series(self):
        with pytest.raises(DataError, match="a series 'rain' already"):
            recharge_forcing(self.run(), name="rain")
        with pytest.raises(DataError, match="needs forcing 'recharge', which the data lack. Did you mean 'recharg'"):
            simulate(AQUIFER, recharge_forcing(self.run(), name="recharg"), storage0={"groundwater": 0.0})
        with pytest.raises(StructureError, match="no parameter"):
            simulate(AQUIFER, recharge_forcing(self.run()), theta={"kk": 1.0})
