"""CAMELS-US in its official layout, written here in small."""

import numpy as np
import pandas as pd
import pytest

from udehydro import data
from udehydro.errors import DataError

AREA_M2 = 864e6  # 1 m3/s is then 0.1 mm/d
CFS = 0.028316846592


def write_camels(root, basin="01013500", huc="01", source="daymet", days=40, flags=("A", "A:e", "A"), flow=None):
    time = pd.date_range("1999-12-01", periods=days)
    stem = {"daymet": "cida", "maurer": "maurer", "nldas": "nldas"}[source]
    forcing = root / "basin_mean_forcing" / source / huc / f"{basin}_lump_{stem}_forcing_leap.txt"
    forcing.parent.mkdir(parents=True, exist_ok=True)
    head = "Year Mnth Day Hr\tdayl(s)\tprcp(mm/day)\tsrad(W/m2)\tswe(mm)\ttmax(C)\ttmin(C)\tvp(Pa)"
    rows = [f"{t:%Y %m %d} 12\t43200.00\t{i:.2f}\t200.00\t0.00\t10.00\t2.00\t500.00" for i, t in enumerate(time)]
    forcing.write_text("\n".join(["47.24", "250.00", f"{AREA_M2:.0f}", head, *rows]) + "\n")
    streams = root / "usgs_streamflow" / huc / f"{basin}_streamflow_qc.txt"
    streams.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, t in enumerate(pd.date_range("1999-12-05", periods=days)):
        flag = "M" if i == 3 else flags[i % len(flags)]
        value = -999.0 if i == 3 else 100.0 + i
        lines.append(f"{basin} {t:%Y %m %d} {value:9.2f} {flag}")
    streams.write_text("\n".join(lines) + "\n")
    return root


def write_attributes(root):
    folder = root / "camels_attributes_v2.0"
    folder.mkdir()
    (folder / "camels_topo.txt").write_text(
        "gauge_id;gauge_lat;gauge_lon;elev_mean;area_gages2\n01013500;47.2;-68.6;251;432\n01022500;44;-67;92;573\n"
    )
    (folder / "camels_name.txt").write_text("gauge_id;huc_02;gauge_name\n01013500;01;Fish River\n")
    return root


def test_series_units_and_header(tmp_path):
    ds = data.read(write_attributes(write_camels(tmp_path)), basins=["01013500"])
    assert dict(ds.sizes) == {"time": 40, "basin": 1}
    assert ds.indexes["time"][0] == pd.Timestamp("1999-12-01")
    np.testing.assert_allclose(ds["dayl"], 12.0)
    np.testing.assert_allclose(ds["temp"], 6.0)
    assert ds["area"].item() == pytest.approx(864.0)
    assert (ds["lat"].item(), ds["elevation"].item(), ds["lon"].item()) == (47.24, 250.0, -68.6)
    assert ds["name"].item() == "Fish River"
    # flow starts four days later, 100 cfs on the first of them
    assert np.isnan(ds["discharge"].values[:4]).all()
    assert ds["discharge"].values[4, 0] == pytest.approx(100 * CFS * 0.1)
    assert np.isnan(ds["discharge"].values[7, 0])
    text = " ".join(data.notes(ds))
    assert "header of the forcing file" in text and "outside the period" in text and "swe(mm)" in text


def test_flags_and_estimated_values(tmp_path):
    write_camels(tmp_path)
    ds = data.read_camels_us(tmp_path)
    assert set(np.unique(ds["discharge_flag"].values[4:])) == {0.0, 1.0, 2.0}
    strict = data.read_camels_us(tmp_path, drop_estimated=True)
    assert np.isfinite(strict["discharge"]).sum() < np.isfinite(ds["discharge"]).sum()
    assert any("left out" in line for line in data.notes(strict))
    assert any("none attached" in line for line in data.notes(ds))


def test_area_of_the_attributes(tmp_path):
    ds = data.read_camels_us(write_attributes(write_camels(tmp_path)), area="area_gages2")
    assert ds["area"].item() == 432.0
    assert ds["discharge"].values[4, 0] == pytest.approx(100 * CFS * 0.2)


@pytest.mark.parametrize("source", ["maurer", "nldas"])
def test_other_forcings(tmp_path, source):
    write_camels(tmp_path, source=source)
    assert data.read_camels_us(tmp_path, forcing=source).sizes["time"] == 40
    with pytest.raises(DataError, match=source):
        data.read_camels_us(tmp_path)


def test_two_basins(tmp_path):
    write_camels(tmp_path)
    write_camels(tmp_path, basin="01022500", days=20)
    ds = data.read(tmp_path, basins="all")
    assert list(ds["basin"].values) == ["01013500", "01022500"]
    assert np.isnan(ds["prcp"].sel(basin="01022500").values[20:]).all()
