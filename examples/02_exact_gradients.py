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
# # What the solver does
#
# A daily water balance is a chain of small equations: the storage of tonight depends on the storage of last night.
# This page shows how `udehydro` solves all of them at once, why its gradients are exact, and what else comes out of the
# same machinery: the influence of every earlier day on one flood, the response of the hydrograph to every parameter,
# errors of the daily step, second derivatives. It uses the river of the [first notebook](01_first_hybrid_model.ipynb)
# and runs in about a minute on one core. What is said here in pictures is said in words in
# [numerics](../docs/numerics.md).

# %%
import os
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from IPython.display import Image
from torchdiffeq import odeint_adjoint

from udehydro import Balance, Forcing, data, plot, simulate
from udehydro.models import exphydro_mended
from udehydro.plot import style
from udehydro.simulate import pose
from udehydro.solvers import (
    BACKWARD_EULER,
    SDIRK2,
    TR_BDF2,
    AllAtOnce,
    Compiled,
    Stepping,
    Torchdiffeq,
    chain,
    compiled,
    forward_sensitivity,
    newton,
)
from udehydro.training import nse

torch.set_num_threads(1)  # the problem is small: more threads would only get in each other's way
QUICK = os.environ.get("UDEHYDRO_QUICK", "0") != "0"  # a rehearsal in seconds on shorter records
BLUE, RED, GREEN, PURPLE, ORANGE, SKY = style.LINES


def show(figure):
    return Image(plot.png(figure, dpi=90))


# %% [markdown]
# The model is EXP-HYDRO with two stores, snow and soil, in the variant whose outflows stop at the empty store. Its
# parameters are not fitted here; any reasonable ones will do. `years(n)` is a run of the first n years, which starts
# from storages found by repeating 1979.

# %%
model = Balance(exphydro_mended)
record = data.fulda()
forcing = Forcing.from_dataset(record, model.forcing_names)
observed = torch.as_tensor(record["discharge"].values).reshape(len(forcing), 1)
theta = {"f": 0.03, "smax": 500.0, "qmax": 12.0, "ddf": 3.0, "tmax": 0.52, "tmin": 0.33}

whole = simulate(model, forcing, theta=theta)
start = whole.storage[0]
print(f"{len(forcing)} days, NSE {nse(whole.discharge[365:], observed[365:]).item():.2f}")
print(whole.report.solver, "started from", dict(zip(model.store_names, start[0].tolist(), strict=True)))


def years(n):
    """Forcing of the first years of the record."""
    return forcing.isel(slice(0, round(365.25 * (0.1 if QUICK else n))))


# %% [markdown]
# ## All days at once
#
# Backward Euler asks of every day that storage tonight = storage last night + what the fluxes move at the storage of
# tonight. Solved day by day, that is a Newton iteration a day, each waiting for the one before. Instead, **guess the
# storages of all nights**, linearise every day around its guess, and the days become one chain of linear equations that
# a single sweep solves. Rates and Jacobians of all days come from one call, which costs hardly more than that of
# one day. Repeat until every day's equation holds. The whole idea is fifteen lines:


# %%
def all_at_once(problem, start, tolerance=1e-10):
    """Storages (store, night, basin) of backward Euler, and the guesses and residuals [mm] on the way."""
    start, h = start.movedim(-1, 0).unsqueeze(1), problem.days.unsqueeze(1)
    point = problem.at(slice(None))  # forcing and parameters of all days
    guess, path = start.repeat(1, len(problem.days), 1), []
    while True:
        slope, jacobian = newton.rates_and_jacobian(problem.model, point, guess)
        last_night = torch.cat([start, guess[:, :-1]], dim=1)
        residual = guess - last_night - h * slope
        path.append((guess, residual.abs().amax((0, 2))))
        if path[-1][1].max() < tolerance:
            return guess, path
        (update,), _, _ = chain.forward(BACKWARD_EULER, h, [jacobian], [-residual])
        guess = guess + update


two = years(2)
problem = pose(model, two, theta)
nights, path = all_at_once(problem, start)

reference = simulate(model, two, theta=theta, storage0=start, solver=Stepping(BACKWARD_EULER)).storage[1:]
library = simulate(model, two, theta=theta, storage0=start, solver=AllAtOnce(BACKWARD_EULER)).storage[1:]
print(f"{len(two)} days in {len(path) - 1} sweeps")
for name, found in {"these fifteen lines": nights.movedim(0, -1), "AllAtOnce": library}.items():
    difference = (found - reference).abs().max().item()
    print(f"{name}: storages differ from those of Stepping, one day after the other, by at most {difference:.0e} mm")
    assert difference < 1e-9

# %%
figure = style.figure(9, 6.5)
above, below = figure.subplots(2, 1, sharex=True)
days = np.arange(1, len(two) + 1)
soil = model.store_names.index("soil")
shown = [0, 1, 2, 3, 4]
for n, colour in zip(shown, ["0.75", SKY, GREEN, ORANGE, RED], strict=True):
    above.plot(days, path[min(n, len(path) - 1)][0][soil, :, 0], color=colour, lw=1.2, label=f"after {n} sweeps")
above.plot(days, nights[soil, :, 0], color="black", lw=0.8, ls="--", label="solution")
low, high = nights[soil].min().item(), nights[soil].max().item()
above.set_ylim(low - 0.5 * (high - low), high + 0.5 * (high - low))
style.tidy(above, "", "soil storage [mm]", "Guesses of all days, sweep by sweep")
above.legend(frameon=False, ncols=3, fontsize="small")
sizes = np.log10(np.stack([r.numpy() for _, r in path]).clip(1e-12))
image = below.imshow(
    sizes, aspect="auto", cmap="magma", extent=(0.5, len(two) + 0.5, len(path) - 0.5, -0.5), vmin=-12, vmax=2
)
style.tidy(below, "day of the record [d]", "sweeps done", "What is left of every day's equation")
below.grid(False)
figure.colorbar(image, ax=below, label="log10 of residual [mm]")
show(figure)

# %% [markdown]
# Days do not wait for those before them: after five sweeps most of two years are solved together, because a wrong
# storage last night matters little tonight if the linearised equation is about right. Last come the months after day
# 300, where rain on dry soil raised the storage most and the first guesses were far off. On other records, with
# stiff laws or networks, this plain loop would sometimes overshoot. `AllAtOnce` adds what makes it safe: steps that do
# not reduce a day's residual are shortened for that day only, days behind the converged front and basins that are done
# leave, blocks that fail are halved and at last stepped through one day at a time. And the trajectory of the last run
# is the first guess of the next. The numbers are those of `Stepping`.
#
# ## Time
#
# Does it pay? One gradient of 1 - NSE by all parameters, by the ways at hand. The first rows differ in the driver only
# and return the same numbers. torchdiffeq solves by explicit Runge-Kutta steps of its own choice; here it is called day
# by day, so that it cannot step over rain. `Compiled` needs numba (`pip install "udehydro[fast]"`), and the seconds it
# takes to compile a model once are not counted.

# %%
part = years(0.5)
target = observed[: len(part)]


def gradient(solver, forcing=part, **more):
    """Value and gradient of 1 - NSE by all parameters, in relative changes of each, and the seconds it took."""
    free = {n: torch.tensor(v, dtype=torch.float64, requires_grad=True) for n, v in (theta | more).items()}
    began = time.perf_counter()
    run = simulate(model, forcing, theta=free, storage0=start, solver=solver)
    loss = 1.0 - nse(run.discharge, target).sum()
    loss.backward()
    seconds = time.perf_counter() - began
    return loss.item(), torch.stack([p.grad * p.detach() for p in free.values()]), seconds


warm = AllAtOnce()
solvers = {
    "Stepping": Stepping(),
    "AllAtOnce, first run": AllAtOnce(),
    "AllAtOnce, started from a run nearby": warm,
    "Compiled": Compiled(warm_start=False),
    "torchdiffeq dopri5, through the solver": Torchdiffeq("dopri5", rtol=1e-6, atol=1e-6),
    "torchdiffeq dopri5, continuous adjoint": Torchdiffeq("dopri5", adjoint=True, rtol=1e-6, atol=1e-6),
}
gradient(warm, f=0.031)  # leaves a trajectory in warm.memory
if compiled.available():
    gradient(Compiled())  # compiles
else:
    del solvers["Compiled"]

exact = gradient(Stepping())[1]
rows = {}
for name, solver in solvers.items():
    _, found, seconds = gradient(solver)
    difference = (found - exact).norm() / exact.norm()
    rows[name] = {"seconds": f"{seconds:.3f}", "relative difference of gradient from Stepping": f"{difference:.0e}"}
print(f"One gradient over {len(part)} days, one basin, one thread of this machine:")
pd.DataFrame(rows).T

# %% [markdown]
# The seconds are those of the machine that made this page, and of a small problem: run it on yours. Two things are
# general. The drivers of one scheme return the same gradient, so the choice among them is one of speed only, and the
# default, `Automatic`, makes it for you. And torchdiffeq differs because it answers another question: it takes as many
# steps within the day as its tolerance asks for, SDIRK2 takes one. What that costs is shown further down.
#
# ## Is the gradient exact?
#
# The solver does not differentiate its own iterations. At the solution every day's equation holds, the implicit
# function theorem gives the derivative of each day by the day before, and **one linear sweep backwards** carries the
# derivative of the objective through all days (the discrete adjoint). It costs about as much as one more sweep.
# `gradient="tape"` gets the same numbers another way, by autograd through the steps one after the other.
#
# The classic test compares with central differences, (J(p + d) - J(p - d)) / 2d. The error of the difference falls with
# d squared, until round-off, which grows as 1 / d, takes over: a V. If an exact gradient is the reference, the left arm
# goes down as far as round-off lets it.

# %%
solver = AllAtOnce(tolerance=1e-12)
_, adjoint, _ = gradient(solver)
_, tape, _ = gradient(replace(solver, gradient="tape"))
print(f"adjoint against tape: {((adjoint - tape).norm() / tape.norm()):.0e}")

steps = np.geomspace(1e-1, 1e-10, 10 if QUICK else 19)
errors = {}
for i, name in enumerate(theta):
    errors[name] = []
    for d in steps:
        with torch.no_grad():
            values = []
            for sign in (1, -1):
                moved = theta | {name: theta[name] * (1 + sign * d)}
                run = simulate(model, part, theta=moved, storage0=start, solver=solver)
                values.append(1.0 - nse(run.discharge, target).item())
        errors[name].append(abs((values[0] - values[1]) / (2 * d) / adjoint[i].item() - 1))

figure = style.figure(9, 4)
axes = figure.subplots()
for (name, found), colour in zip(errors.items(), style.LINES, strict=True):
    axes.loglog(steps, np.maximum(found, 1e-14), "o-", ms=3, lw=1, color=colour, label=name)
guide = steps[steps > 1e-4]
axes.loglog(guide, 0.3 * guide**2, color="0.5", ls="--", lw=1, label="slope 2")
style.tidy(
    axes, "relative step of the parameter [1]", "relative difference from the adjoint [1]",
    "Central differences against the adjoint gradient",
)  # fmt: skip
axes.legend(frameon=False, ncols=2, fontsize="small")
show(figure)

# %% [markdown]
# No step of a difference is good for everything, and each parameter asks for two runs. The adjoint has no step, and
# all parameters, or all weights of a network, come from one backward pass. `tolerance` is the residual that the solver
# leaves in a day's equation [mm]; it was tightened here only to push the round-off of the differences down.
#
# One warning. `tmax` was chosen as 0.52 degC on purpose. Temperatures are recorded to a tenth of a degree, so that with
# 0.50 a day lies exactly on the kink of the melt formula, where the potential melt turns positive. There the
# derivatives to the left and right differ. The adjoint takes a value between them that autograd chooses, a central
# difference their mean:


# %%
def with_tmax(value):
    with torch.no_grad():
        return simulate(model, part, theta=theta | {"tmax": value}, storage0=start, solver=solver).discharge


for value in (0.52, 0.50):
    on_kink = int((part.values["temp"] == value).sum())
    _, found, _ = gradient(solver, tmax=value)
    ends = [1.0 - nse(with_tmax(value + d), target).item() for d in (1e-5, -1e-5)]
    ratio = (ends[0] - ends[1]) / 2e-5 * value / found[list(theta).index("tmax")].item()
    print(f"tmax = {value:.2f} degC: {on_kink} days at the kink, difference over adjoint {ratio:.7f}")

# %% [markdown]
# ## Lambda: what one flood owes to every earlier day
#
# The sweep backwards carries a quantity with a meaning of its own. After `backward()`, `report.adjoint` holds lambda,
# the derivative of the objective by the storage at every midnight. Let the objective be the highest daily discharge of
# the second winter. Then lambda says how many mm/d the peak would have risen had there been one more millimetre in
# the snow, or in the soil, on any evening before.

# %%
run = simulate(model, two, theta=theta, storage0=start.clone().requires_grad_(), solver=AllAtOnce())
late = run.discharge[len(two) // 2 :, 0]
peak = len(two) // 2 + int(late.argmax())
run.discharge[peak, 0].backward()
influence = run.report.adjoint[:, 0]  # (edges, stores)

window = slice(max(0, peak - 150), peak + 2)
edges = np.arange(window.start, window.stop) - peak
figure = style.figure(9, 6)
above, below = figure.subplots(2, 1, sharex=True)
noon, before = edges[:-1] + 0.5, slice(window.start, peak + 1)
above.bar(noon, two.values["prcp"][before, 0], 1.0, color=SKY, label="precipitation [mm/d]")
above.plot(noon, run.discharge[before, 0].detach(), color="black", label="discharge [mm/d]")
above.plot(edges, run.store("snow")[window, 0].detach(), color=PURPLE, label="snow storage [mm]")
style.tidy(above, "", "mm/d, mm", f"Before the peak of {str(two.time[peak])[:10]}")
above.legend(frameon=False, fontsize="small")
for name, colour in (("snow", PURPLE), ("soil", ORANGE)):
    below.plot(edges, influence[window, model.store_names.index(name)], color=colour, label=f"one mm more in {name}")
style.tidy(below, "time from the start of the day of the peak [d]", "lambda [mm/d of peak per mm]")
below.legend(frameon=False, fontsize="small")
show(figure)

# %% [markdown]
# Storage after the peak has no influence; storage long before has little, because what was there has drained or
# evaporated. In mild weather a millimetre of snow melts at once and counts about as much as one in the soil. While it
# freezes, the lambda of snow is flat: it waits, and counts as much as it will when it melts. On the last day it is too
# late for most of it.
#
# ## Forward sensitivities: how the whole hydrograph responds
#
# The adjoint has one number at the end and everything at the beginning. The other direction, few parameters and the
# whole hydrograph, is a linear sweep forwards with the Jacobians of the run. Below: the change of daily discharge if
# one parameter is raised by 10 % of its value, to first order, after a year in which the stores forget their start.

# %%
three = years(3)
sensitivity = forward_sensitivity(pose(model, three, theta), start, list(theta), AllAtOnce())
flows = [model.flux_names.index(n) for n in ("baseflow", "overflow")]
response = sensitivity.volume[..., flows].sum(-1)[..., 0] / three.days  # (parameter, day), mm/d per unit

again = simulate(model, three, theta=theta, storage0=start, solver=AllAtOnce())
later = slice(0 if QUICK else 365, None)  # the storages at the start are given, and no parameter changes them
figure = style.figure(9, 6)
above, below = figure.subplots(2, 1, sharex=True)
above.plot(three.time[later], again.discharge[later, 0], color="black", lw=1)
style.tidy(above, "", "discharge [mm/d]", "Discharge, and what 10 % more of each parameter does to it")
for i, (name, colour) in enumerate(zip(theta, style.LINES, strict=True)):
    unit = exphydro_mended.parameters[name].unit
    label = f"{name} + {0.1 * theta[name]:.2g} {unit}"
    below.plot(three.time[later], response[i, later] * 0.1 * theta[name], color=colour, lw=1, label=label)
style.tidy(below, "", "change of discharge [mm/d]")
below.legend(frameon=False, ncols=3, fontsize="small")
show(figure)

# %%
free = torch.tensor(theta["f"], dtype=torch.float64, requires_grad=True)
again = simulate(model, three, theta=theta | {"f": free}, storage0=start, solver=AllAtOnce())
again.discharge.mean().backward()
print(f"d(mean discharge)/df: forward {response[0].mean():.12f}, backward {free.grad:.12f} mm/d per (1/mm)")

# %% [markdown]
# Two sweeps in opposite directions agree to the last digits. Curves with the same shape are parameters that discharge
# cannot tell apart; we come back to that.
#
# ## A trap: one call to an adaptive solver, and a continuous adjoint
#
# A common way to train such models is to hand the whole record to an adaptive integrator, which looks up the weather
# by time, and to take gradients from the continuous adjoint, a second differential equation integrated backwards. Both
# have a catch here. Rain is a series of pulses, and a step that has grown in dry weather may pass over one without
# noticing. And the backward integration follows a trajectory of its own, which need not be that of the forward run.
# Here is how that looks, with the objective 'mean soil storage at midnight' and its derivative by `f`, over the first
# winter.

# %%
winter = forcing.isel(slice(0, 15 if QUICK else 120))


class Lookup(torch.nn.Module):
    """The right-hand side as a function of time [d], the way torchdiffeq wants it."""

    def __init__(self, f):
        super().__init__()
        self.f, self.problem = torch.nn.Parameter(torch.tensor(f, dtype=torch.float64)), pose(model, winter, theta)

    def forward(self, t, y):
        weather, values = self.problem.at(min(max(int(t), 0), len(winter) - 1))
        values = [self.f if n == "f" else v for n, v in zip(model.parameter_names, values, strict=True)]
        return torch.stack(model.tendency(model.fluxes(y.unbind(-1), weather, values)), -1)


def naive(rtol, f=theta["f"]):
    """Objective [mm], its derivative by the continuous adjoint [mm per (1/mm)], and soil storage at the midnights."""
    function, midnights = Lookup(f), torch.arange(len(winter) + 1.0, dtype=torch.float64)
    path = odeint_adjoint(function, start, midnights, rtol=rtol, atol=10 * rtol, method="dopri5")[:, 0, soil]
    path[1:].mean().backward()
    return path[1:].mean().item(), function.f.grad.item(), path.detach()


def ours(solver, f=theta["f"]):
    """The same by a solver of this package."""
    free = torch.tensor(f, dtype=torch.float64, requires_grad=True)
    path = simulate(model, winter, theta=theta | {"f": free}, storage0=start, solver=solver).store("soil")[:, 0]
    path[1:].mean().backward()
    return path[1:].mean().item(), free.grad.item(), path.detach()


fine = ours(AllAtOnce(SDIRK2, substeps=64, tolerance=1e-11))
ways = {f"dopri5 in one call, continuous adjoint, rtol {r:.0e}": (naive, r) for r in (1e-4, 1e-5)}
ways["SDIRK2, one step a day"] = ours, AllAtOnce(tolerance=1e-11)
ways["SDIRK2, accuracy=0.001"] = ours, AllAtOnce(accuracy=1e-3, tolerance=1e-11)

rows, paths = {}, {}
for name, (function, argument) in ways.items():
    value, slope, paths[name] = function(argument)
    d = 1e-4 * theta["f"]
    own = (function(argument, theta["f"] + d)[0] - function(argument, theta["f"] - d)[0]) / (2 * d)
    rows[name] = {
        "error of the mean storage [mm]": f"{abs(value - fine[0]):.1e}",
        "error of the gradient, against a fine run": f"{abs(slope / fine[1] - 1):.1e}",
        "gradient against differences of the same solver": f"{abs(slope / own - 1):.1e}",
    }
print(f"mean soil storage {fine[0]:.3f} mm, derivative by f {fine[1]:.1f} mm per (1/mm)")
pd.DataFrame(rows).T

# %%
figure = style.figure(9, 4.5)
above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 2])
above.bar(winter.time, winter.values["prcp"][:, 0], 1.0, color=SKY)
style.tidy(above, "", "precipitation [mm/d]", "Error of soil storage at midnight")
for (name, found), colour in zip(paths.items(), (RED, ORANGE, BLUE, GREEN), strict=True):
    below.plot(winter.time_edge, found - fine[2], color=colour, lw=1.2, label=name)
style.tidy(below, "", "error of storage [mm]")
below.legend(frameon=False, fontsize="small")
show(figure)

# %% [markdown]
# In one call, days of rain are sampled at a few points and come out too large or too small by millimetres, which no
# tolerance promised. The gradient may come close to that of the true problem, but it is not the gradient of the
# numbers returned: these jump whenever the integrator chooses other steps, so that differences of the objective,
# which a line search relies on, may say something else altogether (here `f` was moved by 0.01 %). One SDIRK2 step a
# day has an error, too, but a smaller one here, and its gradient is that of its numbers, to the round-off of the
# differences. (`Torchdiffeq` in this package goes day by day and refuses the one call.)
#
# ## Where the daily step is not enough
#
# One step a day is a modelling choice with an error. `accuracy=` makes it small where it is not: each day is done again
# in twice as many steps, the difference is its error, and days above the limit get more steps, for each basin
# separately. `report.substeps` says where they went.

# %%
refined = simulate(model, two, theta=theta, storage0=start, solver=AllAtOnce(accuracy=0.01))
substeps = refined.report.substeps[:, 0]
print(f"{int(substeps.sum())} steps for {len(two)} days; {int((substeps > 1).sum())} days have more than one")

figure = style.figure(9, 6)
above, middle, below = figure.subplots(3, 1, sharex=True)
above.bar(two.time, two.values["prcp"][:, 0], 1.0, color=SKY)
style.tidy(above, "", "precipitation [mm/d]", "Steps that accuracy=0.01 mm asks for")
middle.plot(two.time_edge, refined.store("snow")[:, 0], color=PURPLE, lw=1)
style.tidy(middle, "", "snow storage [mm]")
below.step(two.time, substeps, where="post", color=RED, lw=1)
style.tidy(below, "", "steps a day [1]")
show(figure)

# %%
fine = simulate(model, two, theta=theta, storage0=start, solver=AllAtOnce(substeps=64))
figure = style.figure(9, 4)
axes = figure.subplots()
schemes = {
    "backward Euler, one step a day": (AllAtOnce(BACKWARD_EULER), RED),
    "TR-BDF2, one step a day": (AllAtOnce(TR_BDF2), ORANGE),
    "SDIRK2, one step a day": (AllAtOnce(SDIRK2), BLUE),
    "SDIRK2, accuracy=0.01": (AllAtOnce(accuracy=0.01), GREEN),
}
for name, (chosen, colour) in schemes.items():
    other = simulate(model, two, theta=theta, storage0=start, solver=chosen)
    error = (other.discharge - fine.discharge).abs()[:, 0].sort(descending=True).values
    axes.semilogy(np.linspace(0, 100, len(error)), error.clamp_min(1e-9), color=colour, lw=1.2, label=name)
style.tidy(
    axes, "share of days with at least this error [%]", "error of daily discharge [mm/d]",
    f"Against 64 steps a day; mean discharge {fine.discharge.mean():.2f} mm/d",
)  # fmt: skip
axes.legend(frameon=False, fontsize="small")
show(figure)

# %% [markdown]
# Steps go to days on which snow runs out or melting sets in, where a law bends within the day; second order is
# the cheapest gain. For training, choose once and pass `substeps=run.report.substeps`: a loss whose steps change with
# the parameters jumps a little.
#
# ## Second derivatives
#
# The adjoint gives first derivatives only. With `gradient="tape"` the gradient can be differentiated again. The Hessian
# times a vector, without the Hessian, costs about one more backward pass. Here it is done four times, for the Hessian
# of 1 - NSE by the logarithms of four parameters.

# %%
names = ["f", "smax", "qmax", "ddf"]


def loss(logs, solver):
    values = theta | dict(zip(names, logs.exp(), strict=True))
    return 1.0 - nse(simulate(model, part, theta=values, storage0=start, solver=solver).discharge, target).sum()


def slope(logs, **options):
    logs = logs.detach().requires_grad_()
    (found,) = torch.autograd.grad(loss(logs, AllAtOnce(tolerance=1e-12, **options)), logs)
    return found


logs = torch.tensor([theta[n] for n in names], dtype=torch.float64).log().requires_grad_()
(first,) = torch.autograd.grad(loss(logs, AllAtOnce(tolerance=1e-12, gradient="tape")), logs, create_graph=True)
hessian = torch.stack([torch.autograd.grad(first, logs, v, retain_graph=True)[0] for v in torch.eye(4).double()])
differences = torch.stack([(slope(logs + 1e-5 * v) - slope(logs - 1e-5 * v)) / 2e-5 for v in torch.eye(4).double()])
print(f"not symmetric by {(hessian - hessian.T).abs().max():.0e}; ", end="")
print(f"largest difference from differences of adjoint gradients {(hessian - differences).abs().max():.0e}")
values, vectors = torch.linalg.eigh(hessian.detach())
columns = [f"eigenvalue {v:.3g}" for v in values]
pd.DataFrame(vectors.numpy(), index=[f"log {n}" for n in names], columns=columns).round(2)

# %% [markdown]
# Eigenvectors with an eigenvalue near zero are combinations of parameters that the loss hardly feels, which the curves
# of the same shape above hinted at. (A negative one says that these parameters are not at a minimum.)
#
# ## What this does not show
#
# - **One river, one small model.** Times and errors depend on both; [benchmarks](../docs/benchmarks.md) has more
#   basins, larger models and other packages, and counts what failed.
# - **The gradient is exact for the discrete equations.** It inherits the error of the daily step, and it knows nothing
#   of errors in model and data.
# - **At a kink it is one-sided**, see the warning about `tmax`.
#
# ## Where to go from here
#
# [Numerics](../docs/numerics.md) has the equations, the safeguards, and what is refused;
# [extending](../docs/extending.md) shows how to write a tableau or a solver of your own.
