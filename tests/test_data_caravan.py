"""Caravan, written here in small in both of its formats."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from udehydro import data
from udehydro.errors import DataError

DAYS = pd.date_range("2001-01-01", periods=12)


def series(fao=True):
    values = {
        "total_precipitation_sum": 3.0,
        "temperature_2m_mean": 5.0,
        "temperature_2m_min": 1.0,
        "temperature_2m_max": 9.0,
        "surface_net_solar_radiation_mean": 90.0,
        "streamflow": np.r_[np.nan, np.full(11, 1.5)],
    }
    both = {"potential_evaporation_sum_ERA5_LAND": 6.0, "potential_evaporation_sum_FAO_PENMAN_MONTEITH": 2.0}
    values |= both if fao else {"potential_evaporation_sum": 4.0}
    return pd.DataFrame({"date": DAYS} | values)


def write_caravan(root, kind="netcdf", ids=("camels_01013500", "camels_01022500"), fao=True):
    folder = root / "timeseries" / kind / "camels"
    folder.mkdir(parents=True)
    for id_ in ids:
        if kind == "netcdf":
            xr.Dataset(series(fao).set_index("date")).to_netcdf(folder / f"{id_}.nc")
        else:
            series(fao).to_csv(folder / f"{id_}.csv", index=False)
    tables = root / "attributes" / "camels"
    tables.mkdir(parents=True)
    rows = "\n".join(f"{id_},47.2,-68.6,Fish River,USA,2252.7" for id_ in ids)
    (tables / "attributes_other_camels.csv").write_text(
        f"gauge_id,gauge_lat,gauge_lon,gauge_name,country,area\n{rows}\n"
    )
    (tables / "attributes_caravan_camels.csv").write_text(
        "gauge_id,p_mean,aridity_ERA5_LAND\n" + "\n".join(f"{i},3.1,0.5" for i in ids) + "\n"
    )
    return root


@pytest.mark.parametrize("kind", ["netcdf", "csv"])
def test_read(tmp_path, kind):
    ds = data.read(write_caravan(tmp_path, kind), basins="all")
    assert dict(ds.sizes) == {"time": 12, "basin": 2}
    np.testing.assert_allclose(ds["prcp"], 3.0)
    np.testing.assert_allclose(ds["pet"], 2.0)
    assert np.isnan(ds["discharge"].values[0]).all()
    assert ds["area"].values[0] == 2252.7 and ds["name"].values[0] == "Fish River"
    assert ds["p_mean"].values[1] == 3.1
    assert ds["prcp"].attrs["units"] == "mm/d"
    assert any("PENMAN" in line for line in data.notes(ds))


def test_choice_of_pet_and_extra(tmp_path):
    write_caravan(tmp_path)
    column = "potential_evaporation_sum_ERA5_LAND"
    ds = data.read(tmp_path, ["camels_01013500"], pet=column, extra=["surface_net_solar_radiation_mean"])
    np.testing.assert_allclose(ds["pet"], 6.0)
    np.testing.assert_allclose(ds["surface_net_solar_radiation_mean"], 90.0)
    with pytest.raises(DataError, match="Candidates"):
        data.read(tmp_path, ["camels_01013500"], pet="pet")


def test_older_versions_have_one_pet(tmp_path):
    ds = data.read(write_caravan(tmp_path, fao=False), ["camels_01022500"])
    np.testing.assert_allclose(ds["pet"], 4.0)


def test_id_without_prefix_is_explained(tmp_path):
    with pytest.raises(DataError, match="camels_01013500"):
        data.read(write_caravan(tmp_path), ["01013500"])
