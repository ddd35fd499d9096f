"""Ends of a column as networks take them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from udehydro import Forcing
from udehydro.richards.column import Atmospheric, Column, Flux, FreeDrainage, Grid, Head, SeepageFace, WaterTable
from udehydro.richards.inversion import Free, Inversion, Observed
from udehydro.richards.laws import Gardner
from udehydro.richards.pinn.ends import EVENTS, end_of, events_of

DAYS = np.linspace(0.0, 4.0, 41)
P = {"theta_r": 0.05, "theta_s": 0.4, "alpha": 0.1, "Ks": Free(10.0)}


def task(top, bottom, **series) -> Inversion:
    clock, values = Forcing.clock(days=DAYS), {n: torch.as_tensor(v) for n, v in series.items()}
    forcing = Forcing(values, dict.fromkeys(series, "cm/d"), clock.time_edge) if series else clock
    readings = Observed("theta", torch.full((41, 3), 0.2), 0.01, (5.0, 15.0, 25.0))
    return Inversion(Column(Grid.uniform(40.0, 20), Gardner(), top, bottom), forcing, P, -50.0, [readings])


def ends(asked: Inversion):
    return [end_of(asked, where, torch.as_tensor(DAYS), 0) for where in ("top", "bottom")]


def points(*days: float) -> torch.Tensor:
    return torch.tensor([[d, 0.0] for d in days], dtype=torch.float64)


def test_weather_is_rain_less_evaporation():
    rain = np.where(np.arange(40) < 10, 2.0, 0.0)
    top, bottom = ends(task(Atmospheric("rain", 0.5), WaterTable(100.0), rain=rain))
    assert top.wall.kind == "flux" and top.flux == 1.5
    assert torch.equal(top.wall(points(0.05, 0.95, 1.05, 4.0)), torch.tensor([-1.5, -1.5, 0.5, 0.5]).double())
    assert top.jumps == ((pytest.approx(1.0), 2.0),)
    assert bottom.wall.kind == "head" and not bottom.wall.upper and not bottom.jumps
    assert torch.equal(bottom.wall(points(1.0)), torch.tensor([-60.0]).double()), "40 cm, over water at 100 cm"
    assert events_of([top, bottom], 0.0) == (0.0, pytest.approx(1.0))


def test_largest_jumps_of_weather_that_never_rests():
    rain = torch.rand(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rain[20] = 30.0
    events = events_of(ends(task(Atmospheric("rain"), FreeDrainage(), rain=rain)), 0.0)
    assert len(events) == EVENTS and events[0] == 0.0 and list(events) == sorted(events)
    assert {round(e, 6) for e in events} >= {2.0, 2.1}, "before and behind the storm"


def test_heads_that_change_and_unknown_ends():
    psi = torch.where(torch.arange(40) < 20, -30.0, -10.0).double()
    top, bottom = ends(task(Flux(Free(0.0)), Head(psi)))
    assert top.wall is None and bottom.wall.kind == "head"
    assert bottom.wall(points(1.9, 2.1)).tolist() == [-30.0, -10.0] and bottom.flux == 0.0
    assert events_of([top, bottom], 0.0) == (0.0, pytest.approx(2.0))
    assert events_of(ends(task(Flux(Free(0.0)), FreeDrainage())), 0.0) == ()


def test_seepage_is_left_open():
    with pytest.warns(UserWarning, match="SeepageFace at the bottom"):
        assert end_of(task(Flux(-1.0), SeepageFace()), "bottom", torch.as_tensor(DAYS), 0).wall is None
