"""What a run returns: names, units, means over intervals, files, parts; spin-up."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from tables import MODELS, weather

from udehydro import Balance, DataError, Forcing, NeuralLaw, StructureError, simulate, spin_up
from udehydro.models import exphydro, exphydro_mended, linear
from udehydro.simulate import SPIN_UP_CHANGE
from udehydro.solvers import Stepping

CASE = MODELS[2]


def run(record=None, model=None, **options):
    model = model or CASE.build()
    options.setdefault("storage0", CASE.start())
    with torch.no_grad():
        return simulate(model, record or weather(12), theta=CASE.parameters(model), **options)


class TestSimulation:
    def test_shapes_and_names(self):
        s = run()
        assert s.storage.shape == (13, 2, 2) and s.volume.shape == (12, 2, 6)
        assert s.store("soil").shape == (13, 2) and torch.equal(s.store("soil"), s.storage[..., 1])
        assert s.rate("et").shape == s.discharge.shape == (12, 2)
        assert torch.equal(s.rate("discharge"), s.discharge)
        assert torch.equal(s.rate("baseflow"), s.volume[..., 4] / 1.0)
        assert set(s.theta) == set(s.model.parameter_names)

    def test_unknown_names(self):
        with pytest.raises(StructureError, match="No flux or group 'evap'.*Known: snowfall, .*discharge"):
            run().rate("evap")
        with pytest.raises(StructureError, match="No store 'sol'. Did you mean 'soil'"):
            run().store("sol")

    @pytest.mark.parametrize("hours", [1.0, [24.0, 6.0, 36.0, 1.0] * 3], ids=["hourly", "uneven"])
    def test_discharge_is_a_mean_over_the_interval(self, hours):
        """mm/d whatever the interval: volume / dt; and the volumes of a finer run add up to those of a coarser."""
        record = weather(12, hours=hours)
        s = run(record)
        days = np.diff(record.time_edge) / np.timedelta64(1, "D")
        volume = s.volume[..., 4] + s.volume[..., 5]
        assert torch.allclose(s.discharge, volume / torch.as_tensor(days).unsqueeze(1), rtol=1e-14)
        assert torch.allclose(s.rate("rainfall") + s.rate("snowfall"), record.values["prcp"], rtol=1e-12, atol=1e-12)

    def test_days(self):
        """Lengths from the edges: a leap second of rounding would show; 1e-14."""
        record = weather(4, hours=[1.0, 3.0, 24.0, 0.25])
        assert torch.allclose(record.days, torch.tensor([1 / 24, 0.125, 1.0, 1 / 96]), rtol=1e-14)

    def test_balance_error_sees_an_error(self):
        """A tenth of a millimetre put into one store on one day is found there and nowhere else."""
        s = run()
        storage = s.storage.clone()
        storage[5:, 1, 1] += 0.1
        found = replace(s, storage=storage).balance_error
        assert found[4, 1, 1].item() == pytest.approx(0.1, abs=1e-9)
        assert (found.abs() > 1e-9).sum().item() == 1
        assert bool((replace(s, storage=storage).max_balance_error() > s.balance_tolerance()).tolist()[1])

    def test_between(self):
        s = run()
        part = s.between("2001-11-28", "2001-12-01")
        assert part.storage.shape[0] == 5 and part.volume.shape[0] == 4
        assert torch.equal(part.discharge, s.discharge[3:7])
        assert str(part.forcing.time_edge[0])[:10] == "2001-11-28"
        assert torch.equal(part.max_balance_error(), s.balance_error[3:7].abs().amax(-1).amax(0))

    def test_between_cuts_time_varying_parameters(self):
        model, record = CASE.build(), weather(12)
        theta = {**CASE.parameters(model), "ddf": torch.linspace(2, 3, 12).unsqueeze(1).expand(-1, 2)}
        s = simulate(model, record, theta=theta, storage0=CASE.start())
        part = s.between("2001-11-28", "2001-12-01")
        assert torch.equal(part.theta["ddf"], s.theta["ddf"][3:7])
        again = simulate(model, part.forcing, theta=part.theta, storage0=part.storage[0])
        assert torch.allclose(again.storage, part.storage, rtol=1e-12, atol=1e-9)

    def test_between_outside_the_record(self):
        with pytest.raises(
            DataError, match="No data between 1990-01-01 and 1990-02-01: the record runs from 2001-11-25"
        ):
            run().between("1990-01-01", "1990-02-01")


class TestXarray:
    def test_cf_attributes(self):
        data = run().to_xarray()
        assert data.attrs["Conventions"].startswith("CF-")
        assert data["soil"].attrs["units"] == "mm" and data["soil"].dims == ("time_edge", "basin")
        for name in ("et", "discharge", "melt"):
            assert data[name].attrs["units"] == "mm/d"
            assert data[name].attrs["cell_methods"] == "time: mean"
            assert data[name].dims == ("time", "basin")
        assert data["time"].attrs["bounds"] == "time_bounds"
        assert data["time_bounds"].dims == ("time", "bounds")
        assert (data["time_bounds"][:, 0] == data["time"]).all()
        assert (data["time_bounds"][:, 1].values == data["time_edge"].values[1:]).all()
        assert list(data["basin"].values) == ["b0", "b1"]
        assert data.attrs["max_balance_error_mm"] <= 1e-9
        assert all(v.attrs.get("units") for n, v in data.data_vars.items() if n != "time_bounds")

    def test_numbers(self):
        s = run()
        data = s.to_xarray()
        assert np.array_equal(data["discharge"].values, s.discharge.numpy())
        assert np.array_equal(data["snow"].values, s.store("snow").numpy())

    def test_members(self):
        data = run(weather(5).with_members(3)).to_xarray()
        assert data["discharge"].dims == ("time", "member", "basin")
        assert data["discharge"].shape == (5, 3, 2)

    def test_without_batch(self):
        record = weather(5, 1)
        record = replace(record, values={n: v[:, 0] for n, v in record.values.items()}, basins=())
        model = CASE.build()
        theta = {n: v[0] for n, v in CASE.parameters(model).items()}
        s = simulate(model, record, theta=theta, storage0={"snow": 1.0, "soil": 100.0})
        assert s.to_xarray()["discharge"].dims == ("time",)

    def test_a_run_with_gradient(self):
        model = CASE.build()
        theta = {n: v.requires_grad_() for n, v in CASE.parameters(model).items()}
        assert simulate(model, weather(3), theta=theta, storage0=CASE.start()).to_xarray()["et"].shape == (3, 2)

    @pytest.mark.parametrize("hours", [24.0, 1.0, [24.0, 6.0, 36.0, 1.0] * 3], ids=["daily", "hourly", "uneven"])
    def test_netcdf_round_trip(self, tmp_path, hours):
        """Values bit for bit, times exactly, units; nothing else left in the folder."""
        s = run(weather(12, hours=hours))
        path = s.to_netcdf(tmp_path / "run.nc")
        assert [p.name for p in tmp_path.iterdir()] == ["run.nc"]
        with xr.open_dataset(path) as back:
            data = s.to_xarray()
            for name in data.data_vars:
                assert np.array_equal(back[name].values, data[name].values), name
            for name in ("time", "time_edge"):
                assert np.array_equal(back[name].values, data[name].values), name
            assert back["soil"].attrs["units"] == "mm" and back["time"].attrs["bounds"] == "time_bounds"
            assert list(back["basin"].values) == ["b0", "b1"]


class TestSpinUp:
    def record(self, years: float = 2.0, basins: int = 2):
        """Weather that repeats every 365 days."""
        year = weather(365, basins, seed=4, rain=5.0)
        count = int(365 * years)
        values = {n: torch.cat([v, v, v])[:count] for n, v in year.values.items()}
        return Forcing(values, year.units, np.datetime64("2001-01-01") + np.arange(count + 1), year.basins)

    def test_converges(self):
        """One more year changes no storage by 0.1 mm, and the report says how many it took."""
        model, record = Balance(linear), self.record(1.0)
        theta = {"k": torch.tensor([0.05, 0.01])}
        storage, cycles, settled = spin_up(model, record, theta=theta)
        assert bool(settled.all())
        assert 1 < cycles < 10 and not storage.requires_grad
        s = simulate(model, record, theta=theta)
        assert torch.equal(s.storage[0], storage)
        assert (s.storage[-1] - s.storage[0]).abs().max().item() < SPIN_UP_CHANGE
        assert any(f"initial storage from {cycles} repetition(s)" in n for n in s.report.notes)

    def test_at_most_ten_years(self):
        """A reservoir of 3 years never settles to 0.1 mm in ten: it stops there."""
        model = Balance(linear)
        _, cycles, settled = spin_up(model, self.record(1.0), theta={"k": torch.tensor([0.001, 0.1])})
        assert cycles == 10 and settled.tolist() == [False, True]
        assert any(
            "not settled to 0.1 mm in 2 element(s)" in n
            for n in simulate(model, self.record(1.0), theta={"k": 0.001}).report.notes
        )

    def test_an_element_does_not_depend_on_the_others(self):
        model, record = Balance(linear), self.record(1.0)
        alone = spin_up(model, record, theta={"k": 0.05}).storage[1]
        beside = spin_up(model, record, theta={"k": torch.tensor([0.001, 0.05])}).storage[1]
        assert torch.allclose(alone, beside, rtol=0, atol=1e-9)  # the solver's own tolerance

    def test_only_the_first_year_counts(self):
        model, record = Balance(linear), self.record(2.0)
        values = {n: v.clone() for n, v in record.values.items()}
        values["prcp"][365:] += 50.0
        a = spin_up(model, record, theta={"k": 0.05})
        b = spin_up(model, replace(record, values=values), theta={"k": 0.05})
        assert torch.equal(a.storage, b.storage) and a.cycles == b.cycles

    def test_time_varying_parameters(self):
        model, record = Balance(linear), self.record(1.5)
        daily = torch.full((len(record), 2), 0.05)
        a, b = (spin_up(model, record, theta={"k": k})[0] for k in (0.05, daily))
        assert torch.equal(a, b)

    def test_a_record_shorter_than_a_year(self):
        storage = spin_up(Balance(linear), weather(30), theta={"k": 0.5}).storage
        assert bool((storage > 0).all())

    def test_gradient_does_not_pass_through_it(self):
        k = torch.tensor(0.5, requires_grad=True)
        s = simulate(Balance(linear), weather(30), theta={"k": k})
        assert s.storage.requires_grad
        s.storage[0].sum().backward()
        assert k.grad is None or float(k.grad) == 0.0


class TestForcing:
    def record(self, **changes):
        return replace(weather(4), **changes)

    def test_errors(self):
        record = weather(4)
        edges = record.time_edge
        nan = record.values["prcp"].clone()
        nan[2, 1] = float("nan")
        cases = [
            ({"time_edge": edges[::-1]}, "strictly increasing time edges"),
            ({"time_edge": edges[:1]}, "at least one interval"),
            ({"time_edge": edges[:-1]}, r"one common shape \(T=3, \*batch\)"),
            ({"values": {**record.values, "temp": torch.zeros(4, 3)}}, "one common shape"),
            ({"basins": ("a",)}, r"1 basin names for a batch of shape \(2,\)"),
            ({"values": {**record.values, "prcp": nan}}, "'prcp' has 1 missing.*basin b1, 2001-11-27"),
        ]
        for changes, message in cases:
            with pytest.raises(DataError, match=message):
                replace(record, **changes)

    def test_missing_forcing_and_wrong_unit(self):
        record = weather(4)
        with pytest.raises(DataError, match="needs forcing 'dayl', which the data lack.*Known: prcp, temp"):
            run(replace(record, values={n: v for n, v in record.values.items() if n != "dayl"}))
        with pytest.raises(
            DataError, match="Forcing 'temp' comes in K, the model 'exphydro_mended' needs degC: convert it"
        ):
            run(replace(record, units={**record.units, "temp": "K"}))

    def test_isel_between_label(self):
        record = weather(12)
        assert record.between("2001-11-26", "2001-11-28") == slice(1, 4)
        part = record.isel(slice(1, 4))
        assert len(part) == 3 and torch.equal(part.values["temp"], record.values["temp"][1:4])
        assert record.label(2, [1]) == "basin b1, 2001-11-27"
        assert weather(3, hours=6.0).label(1, [0]) == "basin b0, 2001-11-25T06:00"

    def test_with_members_copies_nothing(self):
        record = weather(4)
        wide = record.with_members(5)
        assert wide.batch == (5, 2)
        assert wide.values["prcp"].data_ptr() == record.values["prcp"].data_ptr()


def test_published_and_mended_agree_away_from_the_edges():
    """Same parameters, moist soil: mean discharge within 5 % - the mending changes what happens at empty and full."""
    record = weather(60, seed=2)
    theta = CASE.parameters(Balance(exphydro_mended))
    start = {"snow": 10.0, "soil": torch.tensor([200.0, 330.0])}
    a, b = (
        simulate(Balance(s), record, theta=theta, storage0=start, solver=Stepping()).discharge.mean(0)
        for s in (exphydro, exphydro_mended)
    )
    assert torch.allclose(a, b, rtol=0.05)


@pytest.mark.parametrize("batch", [(2,), (4, 1), (1, 2)])
def test_networks_with_members_need_a_batch_of_as_many(batch):
    model = Balance(exphydro_mended, et=NeuralLaw("soil", members=2))
    forcing = weather(5, 1)
    values = {n: v.reshape(-1, *(1,) * len(batch)).expand(-1, *batch) for n, v in forcing.values.items()}
    with pytest.raises(StructureError, match=r"laws.et.net.*2 member"):
        simulate(model, replace(forcing, values=values, basins=()), storage0={"snow": 0.0, "soil": 100.0})


def test_weights_of_another_precision_are_refused():
    model = Balance(exphydro_mended, et=NeuralLaw("soil"))
    forcing = weather(5, 1).to(dtype=torch.float32)
    start = {"snow": 0.0, "soil": 100.0}
    with pytest.raises(StructureError, match="float64 on cpu, the forcing is torch.float32"):
        simulate(model, forcing, storage0=start)
    assert simulate(model.to(forcing.like), forcing, storage0=start).storage.dtype == torch.float32
