# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A soil column that can be asked and taught
#
# Between rain and groundwater lies unsaturated soil, and the Richards equation with two curves that nobody can measure
# over their whole range: how much water soil holds at a suction, theta(psi), and how well it conducts, K(psi). This
# notebook runs a layered column through a storm, asks it by one backward sweep what its recharge hangs on, and then
# goes the other way: **from moisture sensors to both curves**, without a formula for either. Before it fits anything
# it asks what the sensors can tell at all. The answer is less than one would hope, and one tensiometer changes it.
#
# Running takes a few minutes on one core. The page on [unsaturated flow](../docs/unsaturated.md) has the equations.

# %%
import os
import time
import warnings

import numpy as np
import torch
from IPython.display import Image

from udehydro import Forcing, plot
from udehydro.richards.column import (
    Adaptive,
    Atmospheric,
    Column,
    Flux,
    FreeDrainage,
    Grid,
    Layer,
    WaterContent,
    flow,
)
from udehydro.richards.inversion import Free, Inversion, Observed, check_gauge, fit, visited
from udehydro.richards.laws import Gauged, MonotoneSpline, VanGenuchten, soil_class

torch.set_num_threads(1)  # the problem is small: more threads would only get in each other's way
torch.set_default_dtype(torch.float64)
QUICK = os.environ.get("UDEHYDRO_QUICK", "0") != "0"  # a rehearsal in seconds, whose numbers mean nothing


def show(figure):
    return Image(plot.png(figure, dpi=90))


# %% [markdown]
# ## A storm on loam over sandy loam
#
# Ten days by the hour: a storm of 12 cm in a day and a half that ponds and runs off, then dry weather with evaporation
# as far as the soil can give it, then a shower. Length is in cm, time in days, fluxes are positive upwards.

# %%
hours = np.datetime64("2001-05-01") + np.arange(10 * 24 + 1) * np.timedelta64(1, "h")
day = np.arange(len(hours) - 1) / 24
rain = torch.zeros(len(day))
rain[torch.as_tensor((day >= 0.5) & (day < 0.75))] = 40.0  # cm/d
rain[torch.as_tensor((day >= 1.5) & (day < 2.0))] = 4.0
rain[torch.as_tensor((day >= 7.0) & (day < 7.25))] = 6.0
rain.requires_grad_()
evaporation = torch.as_tensor(0.8 * np.clip(np.sin(2 * np.pi * (day - 0.25)), 0.0, None))
clock = Forcing.clock(hours)

law = VanGenuchten()
upper, lower = (dict(soil_class(n), entry=1.0) for n in ("loam", "sandy loam"))
leaves = {}
for layer, p in (("loam", upper), ("sandy loam", lower)):
    for name in ("theta_s", "Ks", "alpha", "n"):
        p[name] = leaves[layer, name] = torch.tensor(p[name]).requires_grad_()
edges = [*np.arange(0.0, 40.0, 2.0), *np.arange(40.0, 100.1, 4.0)] if not QUICK else [*np.arange(0.0, 100.1, 10.0)]
field = Column(
    Grid(tuple(map(float, edges))),
    [Layer(law, 40.0), Layer(law)],
    top=Atmospheric(rain, evaporation, pond=0.3),
    bottom=FreeDrainage(),
)
started = time.perf_counter()
run = flow(field, clock, [upper, lower], psi0=-150.0, steps=Adaptive(1e-3))
print(f"{len(day)} hours, {field.grid.cells} cells: {time.perf_counter() - started:.1f} s")
for name in ("infiltration", "runoff", "evaporation", "recharge"):
    print(f"{name:>13s} {getattr(run, name).sum().item():7.2f} cm")
print(f"water that got lost: {run.balance_error.abs().max().item():.1e} cm in any hour")
show(plot.soil_column(run))

# %% [markdown]
# ## What does the recharge hang on?
#
# One sweep backwards through the run gives the derivative of the recharge by everything that went in: eight parameters
# of two soils, and the rain of each of 240 hours. Rain of some hours is worth more than that of others: what falls on
# the pond runs off, what falls late is still on its way down.

# %%
total = run.recharge.sum()
started = time.perf_counter()
gradients = torch.autograd.grad(total, [*leaves.values(), rain])
print(f"{len(leaves) + len(day)} derivatives in {time.perf_counter() - started:.1f} s")
for (layer, name), value, g in zip(leaves, leaves.values(), gradients, strict=False):
    print(f"{name:>8s} of the {layer:<10s} +10 %: recharge {100 * 0.1 * (value * g / total).item():+6.2f} %")
worth = gradients[-1] * 24.0  # per cm of rain: a rate of 1 cm/d for an hour is 1/24 cm
for start, stop in ((0.5, 0.75), (1.5, 2.0), (7.0, 7.25)):
    at = (day >= start) & (day < stop)
    print(f"a cm more rain in day {start} to {stop}: {worth[at].min():.2f} to {worth[at].max():.2f} cm of recharge")

# %% [markdown]
# ## From sensors to curves: what can they tell?
#
# Now the other way. A lysimeter of 40 cm has ten moisture sensors with an error of 0.005, and we know what goes in and
# out at its surface: two irrigations and evaporation between them. The soil is the loam of Bandai and Ghezzehei (2021).
# To know what has to come out, the readings are made by the column itself, on a finer grid.

# %%
truth = {"theta_r": 0.078, "theta_s": 0.43, "Ks": 24.96, "alpha": 0.036, "n": 1.56, "entry": 1.0}
days = np.linspace(0.0, 6.0, 73 if not QUICK else 13)
middle = 0.5 * (days[1:] + days[:-1])
surface = torch.as_tensor(np.where((middle < 0.25) | ((middle > 2.5) & (middle < 2.75)), -10.0, 0.15))
record = Forcing.clock(days=days)
DEPTHS = (1.0, 3.0, 5.0, 8.0, 12.0, 16.0, 20.0, 25.0, 30.0, 36.0)


def lysimeter(law, cells):
    return Column(Grid.uniform(40.0, cells), law, Flux(surface), FreeDrainage())


def read(run, kind, depth, sigma, log=False):
    """A sensor's readings, with their errors."""
    blank = Observed(kind, torch.zeros(len(days), *np.shape(depth)), sigma, depth=depth)
    exact = blank.of(run, run.column)
    error = sigma * torch.randn(exact.shape, generator=generator)
    return Observed(kind, exact * torch.exp(error) if log else exact + error, sigma, depth=depth, log=log)


generator = torch.Generator().manual_seed(1)
CELLS = 20 if not QUICK else 8
start = law.theta(torch.tensor(-200.0), truth)
planted = flow(
    lysimeter(law, 4 * CELLS), record, truth, WaterContent(start), steps=Adaptive(1e-4 if not QUICK else 1e-2)
)
moisture = read(planted, "theta", DEPTHS, 0.005)
tensiometer = read(planted, "psi", 5.0, 0.03, log=True)

# %% [markdown]
# The curves have no formula: two monotone splines, of the logarithms of saturation and conductivity over pF. They start
# as another soil, a sandy loam, and know beforehand only that neighbouring soils are likelier than far ones.

# %%
spline = MonotoneSpline(free="parameters", knots=(0.0, 1.0, 1.75, 2.25, 2.75, 3.25, 4.0, 5.0, 8.0))
guess = spline.imitate(law, dict(soil_class("sandy loam"), entry=1.0))
LEVELS = {"theta_r": (0.0, 0.15), "theta_s": (0.3, 0.6), "Ks": (0.5, 2000.0)}
unknown = {
    n: Free(float(v), *LEVELS[n], prior=0.05 if "theta" in n else 1.5) if n in LEVELS else Free(float(v), prior=1.5)
    for n, v in guess.items()
}
steps = Adaptive(1e-3 if not QUICK else 1e-2)
sensors = Inversion(lysimeter(spline, CELLS), record, unknown, WaterContent(start), [moisture], steps=steps)
print(check_gauge(sensors))

# %% [markdown]
# **Ten sensors, each read every two hours, cannot tell the retention curve from one at other suctions.** The equation
# in water contents does not know the zero of the head: move every head by the same amount, and the sensors read the
# same. Not nearly, exactly. Here are two soils whose curves lie 30 cm apart:

# %%
pair = Gauged(law)
twin = flow(lysimeter(pair, CELLS), record, truth | {"shift": -30.0}, WaterContent(start), steps=steps)
same = flow(lysimeter(law, CELLS), record, truth, WaterContent(start), steps=steps)
print(f"heads differ by {(twin.psi - same.psi).abs().max().item():.1f} cm, ", end="")
print(f"water contents by {(twin.theta - same.theta).abs().max().item():.0e}")

# %% [markdown]
# A fit would not notice: it ends at some curve, with residuals as small as the noise. The library says so instead. One
# tensiometer in the wet half of the soil decides:

# %%
both = Inversion(lysimeter(spline, CELLS), record, unknown, WaterContent(start), [moisture, tensiometer], steps=steps)
print(check_gauge(both)["shift"])

# %%
found = {}
for name, task in (("ten moisture sensors", sensors), ("and a tensiometer", both)):
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said above
        found[name] = fit(task, steps=25 if not QUICK else 2)
    f = found[name]
    seconds = time.perf_counter() - started
    print(f"{name}: chi2 / N = {float(f.misfit):.2f}, {int(f.iterations)} iterations, {seconds:.0f} s")

psi = -torch.logspace(0.3, 3.2, 80)
dry, wet = visited(planted)
curves = {n: f.curves(psi) for n, f in found.items()}
curves["truth"] = (law.theta(psi, truth), law.conductivity(psi, truth))
show(plot.soil_curves(curves, psi, visited=(float(dry), float(wet))))

# %% [markdown]
# Both fits explain the sensors as well as their noise allows. Only one of them is right, and only the bands and the
# check tell which. Within the heads that the soil has visited:

# %%
inside = (psi > dry) & (psi < wet)
for name, f in found.items():
    got = f.curves(psi)
    theta, k = law.theta(psi, truth)[inside], law.conductivity(psi, truth)[inside]
    error = torch.linalg.norm(got.theta[inside] - theta) / torch.linalg.norm(theta)
    log_k = (got.log_k[inside] - torch.log(k)).square().mean().sqrt() / np.log(10.0)
    print(f"{name}: retention off by {100 * error.item():.1f} %, log10 K by {log_k.item():.2f}")

# %% [markdown]
# ## Where to go from here
#
# - [Unsaturated flow](../docs/unsaturated.md): boundaries, laws, solutions to judge by, and the inversion in full.
# - [Recharge](../docs/recharge.md): the drainage of a column as the forcing of a groundwater store, with gradients
#   through both.
# - [Benchmarks](../docs/benchmarks.md): exact solutions, HYDRUS-1D, the inverse twin against the Cramer-Rao bound, and
#   real soils, failures included.
