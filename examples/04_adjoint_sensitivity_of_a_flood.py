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
# # What made this flood?
#
# A model that fits a flood can be asked what the flood was made of: which day's rain, how much of it was snow, how
# wet the soil was, which parameter it hangs on. The usual way is to change one thing at a time and run the model
# again, thousands of times for every day of the weather. The adjoint answers all of it at once: **one run and one
# sweep backwards give the derivative of the peak by everything**, every day of every forcing, every store at every
# date, every flux, every parameter and every weight of a network.
#
# The river is the Fulda of the [first notebook](01_first_hybrid_model.ipynb), with its assumptions about area and
# latitude. Running takes about a minute on one core. The pages on [sensitivity](../docs/sensitivity.md) and
# [identifiability](../docs/identifiability.md) say the same with fewer pictures.

# %%
import os
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from IPython.display import Image

from udehydro import Forcing, data, plot, simulate
from udehydro.models import exphydro_mended
from udehydro.sensitivity import (
    adjoint,
    compare_gradients,
    flood_peak,
    forward,
    low_flow_days,
    score,
    usual_ways,
    verify,
    volume,
)
from udehydro.training import nse
from udehydro.training.recipes import Periods, calibrate, hybridise

torch.set_num_threads(1)  # the problem is small: more threads would only get in each other's way
QUICK = os.environ.get("UDEHYDRO_QUICK", "0") != "0"  # a rehearsal in seconds, whose numbers mean nothing


def show(figure):
    return Image(plot.png(figure, dpi=90))


# %% [markdown]
# ## A model that fits
#
# The bucket is calibrated on six years. It is run as one member with one basin, hence the two batch dimensions.

# %%
record = data.fulda()
forcing = Forcing.from_dataset(record, ["prcp", "temp", "dayl"])
observed = torch.as_tensor(record["discharge"].values)
periods = Periods.of(train=("1980-01-01", "1985-12-31"), test=("1986-01-01", "1988-12-31"))
budget = dict(starts=1, steps=3, refit_steps=2) if QUICK else dict(starts=3, steps=60, refit_steps=30)
bucket = calibrate(exphydro_mended, forcing, observed, periods, progress=False, **budget)

members = forcing.independent()
seen = observed[:, None]


def given(trained):
    """What its runs start from, and its parameters."""
    with torch.no_grad():
        start = trained.parameters.storage0(trained.model.store_names)
        return dict(theta=trained.parameters(members), storage0=start)


whole = bucket.simulate(forcing)
flow = whole.discharge[:, 0, 0]
test = forcing.between(*periods.test)
print(f"NSE of 1986 to 1988, which played no part in the fit: {nse(flow[test], observed[test, 0]):.2f}")
peak = test.start + int(flow[test].argmax())
day = str(forcing.time[peak])[:10]
print(f"largest simulated flood of these years: {day}, {flow[peak]:.1f} mm/d ({observed[peak, 0]:.1f} observed)")

# %% [markdown]
# ## Which day's rain?
#
# The objective is the highest simulated discharge of the days around it. `adjoint` runs the model and its adjoint.

# %%
first, last = (str(forcing.time[peak] + np.timedelta64(d, "D"))[:10] for d in (-10, 10))
objective = flood_peak(first, last)
adjoint(bucket.model, members, objective, **given(bucket), fluxes=True)  # warms up
began = time.perf_counter()
flood = adjoint(bucket.model, members, objective, **given(bucket), fluxes=True)
seconds = time.perf_counter() - began
count = sum(g.numel() for g in (*flood.forcing.values(), *flood.fluxes.values(), *flood.storage.values()))
print(f"{count} derivatives, by every day of weather, fluxes and storages, in {1000 * seconds:.0f} ms")
show(plot.flood_attribution(flood, before=90))

# %% [markdown]
# The second panel is the derivative: what a millimetre more of precipitation on that day would have done to the peak.
# Its plateaus are snow: what fell frozen counts when it melts, not when it fell. The third is derivative times rain: to
# first order, what the rain that fell contributed. Warmth (fourth panel) took water away by evaporation long before.
#
# Is it so? A derivative is a promise about small changes, and it can be tested: more rain on the three days that
# matter most, run again.

# %%
slopes = flood.forcing["prcp"][:, 0, 0]
rows = []
for k in slopes.argsort(descending=True)[:3].tolist():
    for more in (0.1, 1.0, 10.0):
        rain = members.values["prcp"].clone()
        rain[k] += more
        wetter = replace(members, values={**members.values, "prcp": rain})
        with torch.no_grad():
            again = float(objective(simulate(bucket.model, wetter, **given(bucket))))
        change = again - float(flood.value)
        rows.append([str(forcing.time[k])[:10], more, float(slopes[k]) * more, change])
pd.DataFrame(rows, columns=["day", "more rain [mm]", "promised [mm/d]", "run again [mm/d]"]).round(4)

# %% [markdown]
# Small changes are as promised. For 10 mm the bucket is no longer linear, and a peak may move to another day:
# derivatives are local.
#
# ## What was water in store worth?
#
# Lambda is the derivative of the peak by a millimetre in a store at midnight: the adjoint state itself. As long as it
# freezes, the lambda of snow is flat: a millimetre waits, and counts as much as it will when it melts.

# %%
before = str(forcing.time[peak] - np.timedelta64(150, "D"))[:10]
show(plot.lambda_map(flood, unit="mm/d", window=(before, last)))

# %% [markdown]
# ## Which parameter, and which flux?
#
# Elasticities are percent of the result per percent of a parameter: of the flood, the runoff of the three years, and
# the (smoothed) number of days of low flow. The same parameter can raise one and lower another.

# %%
low = float(observed[test].quantile(0.1))
results = {
    "flood peak": flood,
    "runoff of 3 years": adjoint(bucket.model, members, volume("discharge", *periods.test), **given(bucket)),
    "days of low flow": adjoint(bucket.model, members, low_flow_days(low, 0.2 * low, *periods.test), **given(bucket)),
}
show(plot.tornado(results, element=0, title="Elasticities on 1986 to 1988"))

# %% [markdown]
# Fluxes can be asked as well: what would a millimetre more of a flux on one day have done, its law left as it is?
# Below, the sum over the 30 days up to the flood.

# %%
part = slice(peak - 29, peak + 1)
by_flux = {n: float(g[part].sum()) for n, g in flood.fluxes.items()}
pd.Series(by_flux, name="mm/d of the peak per mm/d on each of 30 days").round(3).to_frame()

# %% [markdown]
# ## When does weather matter?
#
# For the runoff of three years: one percent more precipitation, or one degree, in every month of the year.

# %%
show(plot.elasticity_through_year(results["runoff of 3 years"], title="Runoff of 1986 to 1988"))

# %% [markdown]
# ## Does a hybrid see the same flood?
#
# Two laws, evapotranspiration and discharge, are now learned by networks. Nothing changes in how the question is put:
# the networks are part of the model that is differentiated.

# %%
training = dict(seeds=1, steps=5) if QUICK else dict(seeds=1, steps=80)
hybrid = hybridise(bucket, ["et", "discharge"], forcing, observed, periods, progress=False, **training)
learned = adjoint(hybrid.model, members, objective, **given(hybrid))
print(f"NSE of 1986 to 1988: {nse(learned.run.discharge[test, 0, 0], observed[test, 0]):.2f}")
share = {}
for name, found in {"bucket": flood, "hybrid": learned}.items():
    made = (found.forcing["prcp"] * members.values["prcp"])[:, 0, 0] / found.value.squeeze()
    spans = {"that day": 1, "3 days": 3, "10 days": 10, "30 days": 30, "90 days": 90}
    share[name] = {"peak [mm/d]": float(found.value)} | {
        n: f"{100 * float(made[peak + 1 - d : peak + 1].sum()):.0f} %" for n, d in spans.items()
    }
pd.DataFrame(share)

# %% [markdown]
# Rain of the last days times its derivative, as a share of the peak. Both models see the same weather, and give the
# flood different histories: in the bucket rain of months before still counts, and shares add up to far more than 100 %,
# because its outflow rises exponentially with storage, so that the wettest days respond by more than they brought. The
# hybrid, which fits better, lays the flood on the rain of a few days. Derivatives are those of a model, not of a river.
#
# ## The other direction: what does the record say about parameters?
#
# For few parameters and the whole hydrograph, derivatives run forwards. Together with an error of the flow they say
# what each 60 days of the record tell about each parameter: zero nothing, one all that there is to know within its
# range.

# %%
names = [n for n in bucket.model.parameter_names if not exphydro_mended.parameters[n].fixed]
moved = forward(bucket.model, members, names, **given(bucket))
windows = moved.windows(0.3, width=60, step=15, within=periods.train)
show(plot.identifiability(windows))

# %%
information = moved.information(0.3, within=periods.train)
table = pd.DataFrame(
    {
        "value": {n: float(v.squeeze()) for n, v in given(bucket)["theta"].items() if n in names},
        "standard deviation [%]": dict(zip(names, (100 * information.relative_sd().squeeze()).tolist(), strict=True)),
    }
)
print("least known:", information.spectrum().direction(-1) if information.matrix.ndim == 2
      else information.spectrum()[0, 0].direction(-1))  # fmt: skip
table.round(3)

# %% [markdown]
# Snow parameters are told by the weeks of snow, those of the bucket by its wet and its dry times. The percentages
# take the errors of 0.3 mm/d to be independent from day to day and the model to be right; both flatter.
#
# ## Can it be trusted?
#
# `verify` compares every kind of derivative with central differences, on this model and this weather. Differences are
# slow (two runs a number) and blunt; they are good for nothing else.

# %%
short = forcing.isel(slice(0, 600))
season = (str(short.time[400])[:10], str(short.time[-1])[:10])
start = {n: float(whole.storage[0, 0, 0, i]) for i, n in enumerate(bucket.model.store_names)}
theta = {n: float(v.squeeze()) for n, v in given(bucket)["theta"].items()}
target = observed[: len(short)]
checked = verify(
    bucket.model, short, {"peak": flood_peak(*season), "NSE": score(nse, target, *season)},
    theta=theta, storage0=start, days=2 if QUICK else 5,
)  # fmt: skip
checked.groupby("quantity", sort=False)[["error", "kinks", "entries"]].agg(
    {"error": "max", "kinks": "sum", "entries": "sum"}
)

# %% [markdown]
# And there are other ways to a gradient. Here are ours and central differences; torchdiffeq, with backpropagation and
# with its continuous adjoint, is in [benchmarks](../docs/benchmarks.md#gradient-workshop), because it takes minutes.

# %%
ours = {n: w for n, w in usual_ways().items() if not n.startswith("torchdiffeq")}
ways = compare_gradients(
    bucket.model, short.isel(slice(400, 460 if QUICK else 600)), volume("discharge", *season),
    theta=theta, storage0=start, ways=ours,
)  # fmt: skip
ways[["own_error", "seconds", "megabytes"]]

# %% [markdown]
# ## What this does not show
#
# - **Derivatives are local.** They hold for small changes about one run. For the whole range of parameters there is
#   [global sensitivity](../docs/global_sensitivity.md), which uses the same adjoints.
# - **They are those of a model.** A model that is wrong about snow is wrong about what snow did to a flood.
# - **Kinks.** A peak moves to another day, snow melts out: there a derivative is that of one side.
# - **To change the past is one thing, to forecast another.** The same adjoint corrects storages and rain by observed
#   flow: see [data assimilation](../docs/assimilation.md).
