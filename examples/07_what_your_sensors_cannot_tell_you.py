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
# # What your sensors cannot tell you
#
# You have dug a pit, put ten moisture sensors into its wall, and logged them through two rains. The fit to the Richards
# equation is perfect. Are the curves right, theta(psi) and K(psi)? They need not be: **some soils cannot be told from
# each other by moisture, however good the sensors**. This notebook makes two such soils, asks the library what data can
# tell before anything is fitted, fits curves that are perfect and wrong, gets the family of all curves that would have
# been as perfect, and shows which single instrument decides, and where to put it.
#
# Running takes a few minutes on one core. The page [from sensors to soil curves](../docs/inversion.md) has the theory.

# %%
import os
import time
import warnings
from dataclasses import replace

import numpy as np
import torch
from IPython.display import Image
from matplotlib.figure import Figure

from udehydro import Forcing, plot
from udehydro.richards.column import Adaptive, Column, Fixed, Flux, FreeDrainage, Grid, WaterContent, flow
from udehydro.richards.inversion import Free, Inversion, Observed, check_gauge, family, fit, pieces, visited
from udehydro.richards.laws import Gauged, MonotoneSpline, VanGenuchten, soil_class

torch.set_num_threads(1)  # the problem is small: more threads would only get in each other's way
torch.set_default_dtype(torch.float64)
QUICK = os.environ.get("UDEHYDRO_QUICK", "0") != "0"  # a rehearsal in seconds, whose numbers mean nothing


def axes(*titles):
    """A figure with one panel a title."""
    figure = Figure(figsize=(10.0, 4.0), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(titles)))
    for panel, title in zip(panels, titles, strict=True):
        panel.set_title(title, fontsize="medium")
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def show(figure):
    return Image(plot.png(figure, dpi=90))


# %% [markdown]
# ## Ten perfect sensors
#
# Thirty centimetres of loam, moist at the start, with two rains and a little evaporation between them; water leaves
# below by gravity. Length is in cm, time in days, fluxes are positive upwards, heads are negative. So that we know what
# has to come out, the soil is one that we made up, and the readings are those of the column.

# %%
loam = {"theta_r": 0.065, "theta_s": 0.41, "Ks": 10.0, "alpha": 0.05, "n": 2.2}
law = VanGenuchten()
days = np.linspace(0.0, 4.0, 25 if not QUICK else 9)
middle = 0.5 * (days[1:] + days[:-1])
rain = torch.as_tensor(np.where((middle < 0.5) | ((middle > 2.0) & (middle < 2.5)), -6.0, 0.1))
record = Forcing.clock(days=days)
start = WaterContent(law.theta(torch.tensor(-60.0), loam))
DEPTHS = (1.0, 3.0, 5.0, 8.0, 11.0, 14.0, 17.0, 20.0, 24.0, 28.0)
CELLS, STEPS = (16, Adaptive(3e-3)) if not QUICK else (6, Fixed(1))


def pit(law, top=rain, cells=CELLS):
    return Column(Grid.uniform(30.0, cells), law, Flux(top), FreeDrainage())


ours = flow(pit(law), record, loam, start, steps=STEPS)
print(ours)
print(f"water contents from {ours.theta.min():.2f} to {ours.theta.max():.2f}")
print(f"heads from {ours.psi.min():.0f} to {ours.psi.max():.0f} cm")

# %% [markdown]
# ## Two soils nobody can tell apart
#
# Here is a second soil: at every water content its suction is 40 cm more. It holds the same water at the start, and the
# same rain falls on it.

# %%
pair, moved = Gauged(law), loam | {"shift": -40.0}
theirs = flow(pit(pair), record, moved, start, steps=STEPS)
print(f"heads differ by {(theirs.psi - ours.psi).abs().max():.1f} cm, ", end="")
print(f"water contents by {(theirs.theta - ours.theta).abs().max():.0e}, ", end="")
print(f"recharge by {(theirs.recharge - ours.recharge).abs().max():.0e} cm")

suction = torch.logspace(0.5, 2.5, 100)
figure, (left, right) = axes("Their retention curves", "What four of ten sensors read in them")
for name, p, colour in (("our soil", loam, "C0"), ("the other soil", moved, "C3")):
    left.plot(suction, pair.theta(-suction, p), colour, label=name)
left.set(xscale="log", xlabel="suction [cm]", ylabel="water content [-]")
left.legend(frameon=False)
blank = Observed("theta", torch.full((len(days), len(DEPTHS)), 0.2), 0.005, depth=DEPTHS)
for i in range(0, len(DEPTHS), 3):
    right.plot(days, blank.of(ours, ours.column)[:, i], "C0", lw=3, alpha=0.4)
    right.plot(days, blank.of(theirs, theirs.column)[:, i], "C3--", lw=1.2)
    right.text(days[-1], blank.of(ours, ours.column)[-1, i], f" {DEPTHS[i]:g} cm", fontsize="small", va="center")
right.set(xlabel="day", ylabel="water content [-]")
show(figure)

# %% [markdown]
# The difference in water contents is rounding. It is no accident of this soil: written in water contents, the Richards
# equation knows the diffusivity D(theta) and K(theta), and D needs only the *slope* of the retention curve. Where the
# zero of the head is, it does not know. More sensors, better sensors, more rain: all of no help.

# %% [markdown]
# ## Ask first
#
# `check_gauge` says what a set of data can tell, before anything is fitted. The readings get the errors of good
# sensors, 0.005; the curves get no formula, they are monotone splines that start as a clay loam.

# %%
noise = torch.Generator().manual_seed(0)
planted = flow(pit(law, cells=4 * CELLS), record, loam, start, steps=Adaptive(1e-4 if not QUICK else 1e-2))


def read(kind, depth, sigma, log=False):
    """A sensor's readings with their errors."""
    blank = torch.full((len(days), *np.shape(depth)), 0.2 if kind == "theta" else -1.0)
    exact = Observed(kind, blank, sigma, depth=depth).of(planted, planted.column)
    error = sigma * torch.randn(exact.shape, generator=noise)
    return Observed(kind, exact * torch.exp(error) if log else exact + error, sigma, depth=depth, log=log)


moisture = read("theta", DEPTHS, 0.005)
spline = MonotoneSpline(free="parameters", knots=(0.0, 1.0, 1.75, 2.25, 2.75, 3.25, 4.0, 5.0, 8.0))
guess = spline.imitate(law, soil_class("clay loam") | {"entry": 1.0})
unknown = {n: Free(float(v), prior=1.5) for n, v in guess.items()}
unknown |= {"theta_r": 0.065, "theta_s": Free(0.40, 0.3, 0.6), "Ks": Free(float(guess["Ks"]), prior=2.0)}


def asked(*series, top=rain):
    return Inversion(pit(spline, top), record, unknown, start, series, steps=STEPS)


sensors = asked(moisture)
alone = check_gauge(sensors)
print(alone)

# %% [markdown]
# Four things might stay open, and with rain and moisture known, one does: the **shift**. A fit would not notice.
# (Numbers behind "known to" are those of the curves asked about, here a clay loam's; what is free is free for
# all.)

# %% [markdown]
# ## A fit that is perfect and wrong, and its family


# %%
def found_by(task, **how):
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said above
        found = fit(task, steps=25 if not QUICK else 2, **how)
    seconds = time.perf_counter() - started
    print(f"chi2 / N = {float(found.misfit):.2f} after {int(found.iterations)} iterations, {seconds:.0f} s")
    return found


dry, wet = (float(h) for h in visited(planted))
psi = torch.linspace(dry, wet, 60)


def off(curves):
    """Relative error of a retention curve where our soil has been."""
    true = law.theta(psi, loam)
    return float(torch.linalg.norm(curves - true) / torch.linalg.norm(true))


by_moisture = found_by(sensors)
print(f"retention off by {100 * off(by_moisture.curves(psi).theta):.0f} %")

# %% [markdown]
# Residuals are as small as the errors of the sensors: nothing is left to explain. And the retention curve is off. What
# may be trusted is what the equation sees: D and K at a water content, as well as noisy sensors tell them. D is a slope
# and hears more of the noise.


# %%
def by_content(found):
    """Errors of D and K at the water contents of our soil."""
    p = found.setting.p[0]
    same = spline.head(law.theta(psi, loam), p)
    pairs = {"D(theta)": (spline.diffusivity(same, p), law.diffusivity(psi, loam))}
    pairs["K(theta)"] = spline.conductivity(same, p), law.conductivity(psi, loam)
    for name, (got, true) in pairs.items():
        print(f"{name} off by {100 * float(torch.linalg.norm(got - true) / torch.linalg.norm(true)):.0f} %")


by_content(by_moisture)

# %% [markdown]
# The honest answer is not one curve. `family` returns all that fit as well, between what is plausible: heads stay below
# zero and move no further than they span. Each member can be run on the column to see that it does fit.

# %%
members = family(by_moisture, alone, size=24)
print(members)
errors = [off(t) for t in members.curves(psi)[0]]
print(f"nearest member to our soil: off by {100 * min(errors):.0f} %")
some = (0, 1, len(members) - 1) if not QUICK else (0,)
print("chi2 of the fit, and of both ends of the family:", [f"{c:.3f}" for c in members.chi2(some)[:, 0].tolist()])

# %%
figure, panels = axes("Retention", "Conductivity")
ends = [h.tolist() for h in members.visited()]
for i, (drier, wetter) in enumerate(zip(*ends, strict=True)):
    own = -torch.logspace(np.log10(max(-wetter, 0.3)), np.log10(-drier), 60)
    for panel, curve in zip(panels, members.curves(own), strict=True):
        how = {"color": "C3", "lw": 2.2} if i == 0 else {"color": "C3", "lw": 0.8, "alpha": 0.35}
        panel.plot(-own, curve[i], **how, label={0: "the fit", 1: "its family"}.get(i), zorder=3 if i == 0 else 1)
for panel, curve, label in zip(panels, (law.theta, law.conductivity), ("water content [-]", "K [cm/d]"), strict=True):
    panel.plot(-psi, curve(psi, loam), "k--", lw=2, label="our soil", zorder=4)
    panel.set(xscale="log", xlabel="suction [cm]", ylabel=label, xlim=(1.0, None))
panels[1].set_yscale("log")
panels[0].legend(frameon=False)
show(figure)

# %% [markdown]
# Every line is drawn over the heads that its soil would visit. All of them give the same moisture, to the last digit;
# our soil is among them, up to the errors of the sensors, and the fit is just the one that the search met first. Had we
# fitted van Genuchten's formula, it would have given an answer all the same: that of the formula, not of the data.

# %% [markdown]
# ## One tensiometer decides. Where?
#
# A head is what the equation lacks. Any tensiometer will do in principle; how well depends on how wet the soil is
# around it. Tensiometers err by some per cent of the suction, say 3. Here is what one would know of the shift, by
# depth, and if it were read three times only, while the soil beside it is dry, or while it is wet:


# %%
def shift_known_by(tensiometer):
    return float(check_gauge(asked(moisture, tensiometer), by_moisture.x)["shift"].sd)


at = (2.0, 10.0, 28.0) if not QUICK else ()
for depth in at:
    whole = read("psi", depth, 0.03, log=True)
    h = whole.values.abs()
    line = f"at {depth:4.0f} cm, read at suctions of {h.min():.0f} to {h.max():.0f} cm: shift known to "
    print(line + f"{shift_known_by(whole):.2f} cm")
one = read("psi", 10.0, 0.03, log=True)
order = one.values.argsort()
for name, kept in (("the driest", order[:3]), ("the wettest", order[-3:]))[: None if not QUICK else 1]:
    few = torch.full_like(one.values, torch.nan)
    few[kept] = one.values[kept]
    known = shift_known_by(replace(one, values=few))
    print(f"three readings, {name} at 10 cm, suctions about {-few.nanmean():.0f} cm: shift known to {known:.2f} cm")

# %% [markdown]
# Wet readings are worth more, even more so where soils dry out to suctions of metres: heads at the wet end then hang
# on those at the dry end through soil that conducts next to nothing. So: **one tensiometer, where and when the soil is
# wet.** A water table, a pond or a seepage face is a known head, too.

# %%
tensiometer = read("psi", 10.0, 0.03, log=True)
both = asked(moisture, tensiometer)
print(check_gauge(both, by_moisture.x)["shift"])
with_head = found_by(both)
print(f"retention off by {100 * off(with_head.curves(psi).theta):.1f} %")
by_content(with_head)
wide = -torch.logspace(0.5, 2.3, 80)
curves = {"moisture alone": by_moisture.curves(wide), "and a tensiometer": with_head.curves(wide)}
curves["our soil"] = (law.theta(wide, loam), law.conductivity(wide, loam))
show(plot.soil_curves(curves, wide, visited=(dry, wet)))

# %% [markdown]
# The head puts the curve where it belongs. A series of heads is a slope, too, so that D is nearer; K by water content
# had been as good before. Mind the band of the fit to moisture alone: it is that of the curves around the fit, held
# there by what splines are and by priors, and our soil is outside. Along what is free, a band is no answer; the family
# is.
#
# ## What a flux decides
#
# So far the rain was known. Where it is not, say under a crop, K is no longer known either: K + c explains the same
# moisture, with all fluxes less c. Here the flux through the top is unknown in four pieces, in a soil like ours:

# %%
hidden = Free(torch.full((4,), -1.0), spread=pieces((0.0, 0.5, 2.0, 2.5, 4.0), middle))
formula = {n: Free(v) for n, v in loam.items()}


def flux_check(*series, top=hidden):
    return check_gauge(Inversion(pit(law, top), record, formula, start, series, steps=STEPS))["offset"]


print(flux_check(moisture))

# %% [markdown]
# What would decide is one flux through either end: known weather, or what leaves below, caught in a dish.

# %%
outflow = Observed("recharge", planted.recharge, 0.05)
for name, verdict in (
    ("what leaves, to 0.5 mm", flux_check(moisture, outflow)),
    ("the rain", flux_check(moisture, top=rain)),
):
    print(f"{name}: offset of K known to {float(verdict.sd):.2g} cm/d")

# %% [markdown]
# Two tensiometers at unlike water contents would do it as well: heads then have a scale, and gravity, whose scale is
# known, is compared to it.
#
# ## What to install
#
# | data | what is known | what stays open | what to add |
# |---|---|---|---|
# | moisture | D(theta), slope of K(theta) | shift of heads, offset of K | a flux, and a head |
# | moisture, a flux | D(theta), K(theta) | shift: retention over suction | one tensiometer, where it is wet |
# | moisture, a flux, a dry head | the same | most of the shift | a wet head |
# | moisture, a flux, a wet head | both curves where soil has been | what is beyond | a drought, a wet winter |
# | heads alone | K / C | scale of water and fluxes, level of water | one water content, one flux |
#
# Ask `check_gauge` before you dig; if something stays open, report the `family`, not the curve that a search came upon.
# Networks are no different: the [page on networks](../docs/pinn.md) asks the same question first.
