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
# # From a network to an equation
#
# A network inside a water balance can learn a law that the model has wrong. This page goes on from there: it reads the
# network as a formula, lets the data decide between formulas, puts the winner back, and tests it on years that nobody
# looked at. The truth is planted, so that we can see when the answer is right and when it is not. What is done here in
# pictures is said in words in [discovery](../docs/discovery.md).
#
# The river is made up: ten years of weather, one bucket, and an evapotranspiration that the usual bucket does not have.
# As the soil fills, it saturates: PET (1 - exp(-4 s)), where s is the relative filling; the model says PET s.

# %%
import os

import numpy as np
import pandas as pd
import torch
from IPython.display import Image

from udehydro import Balance, Forcing, FormulaLaw, SmallNetwork, data, plot, simulate
from udehydro.discovery import Task, Union, discover, sample, shares
from udehydro.laws import Fraction
from udehydro.models import exphydro_mended
from udehydro.plot import style
from udehydro.training import Gaussian, Observed, least_squares, nse

torch.set_num_threads(1)  # the problem is small: more threads would only get in each other's way
QUICK = os.environ.get("UDEHYDRO_QUICK", "0") != "0"  # a rehearsal on a shorter record
BLUE, RED, GREEN, PURPLE, ORANGE, SKY = style.LINES
S = "saturation(soil, smax)"


def show(figure):
    """The figure as an image: the same bytes in a notebook and in a report."""
    return Image(plot.png(figure), width=900)


# %%
days, learned = (1200, 730) if QUICK else (3650, 2190)
weather = data.weather(days, seed=4, mean_temp=9.0)
forcing = Forcing.from_dataset(weather, ["prcp", "temp", "dayl"])
nature = Balance(exphydro_mended, et=FormulaLaw(f"pet * (1 - exp(-4 * {S}))"))
theta = {"smax": 260.0, "f": 0.025, "qmax": 12.0, "ddf": 2.5, "tmax": 1.0, "tmin": -1.0}
start = {"snow": 0.0, "soil": 120.0}
truth = simulate(nature, forcing, theta=theta, storage0=start)
noise = torch.exp(0.05 * torch.randn(truth.discharge.shape, generator=torch.Generator().manual_seed(1)))
observed = truth.discharge * noise  # 5 % errors, independent from day to day
fit, test = slice(180, learned), slice(learned, days)
soil = truth.store("soil")[:-1, 0] / theta["smax"]
print(f"relative filling, 5 to 95 %: {np.quantile(soil, 0.05):.2f} to {np.quantile(soil, 0.95):.2f}")

# %% [markdown]
# ## The model that has the law wrong
#
# Everything is fitted by the same tool: Levenberg-Marquardt on exact forward sensitivities, many members side by side.
# A member is a start, a network, or, further down, a candidate formula. The errors of discharge are known to be 5 %, so
# a chi2 of one per day means that nothing is left to explain.

# %%
flow = [Observed("discharge", observed[:, None], Gaussian(0.05, log_offset=0.02))]
BUCKET = ("smax", "f", "qmax")


def record(members):
    """The years to learn from, and those before them, once for every member."""
    return forcing.isel(slice(0, learned)).with_members(members)


def cut(series):
    """Observations of these years."""
    return [Observed(o.name, o.values[:learned], o.loss) for o in series]


guess = {n: theta[n] for n in theta} | start | {"width": 0.2, "tau": 1.0}
generator = torch.Generator().manual_seed(0)
spread = 0.6 + 0.8 * torch.rand(8, len(BUCKET), generator=generator, dtype=torch.float64)
starts = guess | {n: guess[n] * spread[:, i] for i, n in enumerate(BUCKET)}
bucket = least_squares(Balance(exphydro_mended), record(8), cut(flow), starts, BUCKET, score=fit)
best = int(bucket.chi2.argmin())
print(f"bucket with PET s: chi2 {bucket.chi2[best] / bucket.count:.1f} per day")

# %% [markdown]
# ## A network in its place
#
# Four hidden units are enough for one curve. The network gives a fraction of PET, so ET stays between zero and PET. Its
# weights are parameters of the model, and networks from different starts are members. They stop short of fitting the
# noise.

# %%
count = 3 if QUICK else 5
network = SmallNetwork("soil", name="net", hidden=(4,), output=Fraction("pet"), scale={"soil": (130.0, 70.0)}, tau=None)
hybrid = Balance(exphydro_mended, et=network)
weights = {n: v[:, 0] for n, v in network.initial(torch.Generator().manual_seed(3), count).items()}
begin = guess | {n: float(bucket.values[n][best]) for n in BUCKET} | weights
nets = least_squares(
    hybrid, record(count), cut(flow), begin, (*weights, *BUCKET), score=fit, steps=150,
    stop=1.02 * bucket.count, isotropic=1.0,
)  # fmt: skip
print("networks, chi2 per day:", [round(float(c), 2) for c in nets.chi2 / nets.count])

# %%
theta_nets = {n: nets.values[n][:, None] for n in hybrid.parameter_names}
store0 = torch.stack([nets.values[n] for n in hybrid.store_names], dim=-1)[:, None]
run = simulate(hybrid, record(count), theta=theta_nets, storage0=store0)
figure = style.figure(9.0, 3.6)
left, right = figure.subplots(1, 2)
s = torch.linspace(0.0, 1.0, 200, dtype=torch.float64)
left.plot(s, 1 - torch.exp(-4 * s), color="black", label="truth")
for m in range(count):
    pet = sample(hybrid, run, ("et",), structure=exphydro_mended, member=m, alone=True, points=400)
    x, y = pet.inputs["soil"], pet.learned["et"][0] / pet.inputs["pet"]
    order = x.argsort()
    left.plot(x[order] / theta["smax"], y[order], color=SKY, alpha=0.8, label="networks" if m == 0 else None)
style.tidy(left, "storage / true capacity [-]", "ET / PET [-]")
left.legend(frameon=False, fontsize="small")
daily = torch.stack([run.rate("et")[:, m, 0] for m in range(count)])
true_et = truth.rate("et")[:learned, 0]
right.plot(true_et[fit][::7], daily[0][fit][::7], ".", ms=2, color=SKY)
right.plot([0, 6], [0, 6], color="black", linewidth=0.8)
style.tidy(right, "true ET [mm/d]", "ET of a network [mm/d]")
show(figure)

# %% [markdown]
# Day by day the networks are right. As curves they may be shifted: discharge knows how much water is *added* to a
# store, not how much was there. A law learned from discharge is to be judged as a series, or after aligning storage.

# %%
error = (daily - true_et).square().mean(1).sqrt() / true_et.mean()
print("error of daily ET, share of the mean:", [f"{e:.3f}" for e in error[:count]])

# %% [markdown]
# ## Formulas
#
# The library holds what the field uses for ET: nine shapes of the filling, each times PET, so every one has the unit of
# the flux. The best network nominates; then *every* law is put into the model, and its constants, the capacity and the
# drainage are refitted to the discharge itself. An extended BIC decides.

# %%
member = int(nets.chi2.argmin())
seen = sample(hybrid, run, ("et",), structure=exphydro_mended, member=member, alone=True)
union = Union(exphydro_mended, {"et": shares("pet", S)})
known = guess | {n: float(bucket.values[n][best]) for n in BUCKET}
task = Task(forcing.isel(slice(0, learned)), cut(flow), known, BUCKET, score=fit)
found = discover(union, None, task, samples=seen, starts=2)
table = pd.DataFrame({
    "law": [found.laws(i)["et"].text for i in range(len(found.candidates))],
    "constants": found.constants,
    "chi2 per day": (found.fits.chi2 / found.fits.count).numpy().round(3),
    "gap": (found.criterion - found.criterion[0]).numpy().round(1),
})  # fmt: skip
table

# %% [markdown]
# The table is the result, not its first line: laws within 6 of the best are a class that these data do not tell apart.

# %%
print("class:", [found.laws(i)["et"].text for i in found.rivals])
law = found.laws(found.chosen)["et"]
print("chosen:", law.text, {n: round(r.default, 3) for n, r in law.constants.items()}, "(planted: a = 4)")
names, covariance = found.fits.take(torch.tensor([found.chosen])).covariance()
print(
    {
        n: f"{found.values(found.chosen)[n]:.4g} +- {float(v.sqrt()):.2g}"
        for n, v in zip(names, covariance.diagonal(), strict=True)
    }
)

# %% [markdown]
# ## Put back, and years that nobody looked at
#
# The formula goes into the model in the line the network had. All three run on, from the first day to the last.

# %%
values = found.values(found.chosen)


def over_all_years(model, found_values):
    """One run from the first day to the last; constants of a formula are at their defaults."""
    declared = model.structure.parameters
    theta = {n: found_values.get(n, declared[n].default) for n in model.parameter_names}
    return simulate(model, forcing, theta=theta, storage0={n: found_values[n] for n in start})


of_bucket, of_network = ({n: float(v[m]) for n, v in f.values.items()} for f, m in ((bucket, best), (nets, member)))
runs = {
    "bucket": over_all_years(Balance(exphydro_mended), of_bucket),
    "network": over_all_years(hybrid, of_network),
    "formula": over_all_years(Balance(exphydro_mended, et=law), values),
}
pd.DataFrame({
    "NSE learned years": {n: float(nse(r.discharge[fit], truth.discharge[fit])) for n, r in runs.items()},
    "NSE unseen years": {n: float(nse(r.discharge[test], truth.discharge[test])) for n, r in runs.items()},
    "balance error [mm]": {n: float(r.max_balance_error().max()) for n, r in runs.items()},
}).round(5)  # fmt: skip

# %%
shown = slice(learned, min(learned + 500, days))
figure = style.figure(9.0, 3.2)
axes = figure.subplots()
axes.plot(forcing.time[shown], truth.rate("et")[shown, 0], color="black", linewidth=2.5, alpha=0.35, label="truth")
for (name, r), colour in zip(runs.items(), (ORANGE, SKY, GREEN), strict=True):
    axes.plot(forcing.time[shown], r.rate("et")[shown, 0], color=colour, linewidth=0.9, label=name)
style.tidy(axes, "", "ET [mm/d]")
axes.legend(frameon=False, fontsize="small", ncols=4)
show(figure)

# %% [markdown]
# Evapotranspiration was never observed: it was learned from discharge, written down, and holds in unseen years. What
# makes that possible here is that the soil wetted and dried widely, that errors were independent, and that the rain was
# right. [Discovery](../docs/discovery.md) says what happens where they are not.
