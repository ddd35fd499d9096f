"""Tables and words of the page on Schwingbach, part by part."""

from __future__ import annotations

import numpy as np
from _report import table
from _schwingbach_column import ITERATIONS
from _schwingbach_data import DEPTHS
from _schwingbach_known import NAMES, curves
from _schwingbach_networks import CELLS, SEEDS
from _schwingbach_runs import BETWEEN, CLOSE, PIECE, SHIFT, STORMS, WIDTHS, WINDOW, mean
from _schwingbach_scores import SKIP

PROBES = [f"{d:g} cm" for d in DEPTHS]
LAWS = ("van Genuchten", "free form")
TELLS = 0.5
"""Share of the standard deviation beforehand that has to go for a curve to count as known."""


def lag_table(clock: dict) -> str:
    rows = []
    for depth in clock["lags"]["2014"]:
        cells = [f"{r[depth][0]:+d} h ({r[depth][1]:.2f}; {r[depth][2]:.2f})" for r in clock["lags"].values()]
        rows.append([f"{depth} cm", *cells])
    return table(["probe", *clock["lags"]], rows)


def milli(values) -> list[str]:
    return [f"{1e3 * v:.1f}" for v in values]


def choice(kept: dict) -> str:
    rows = []
    named = {f"{n}, van Genuchten": r for n, r in kept["columns"]["tried"].items()}
    named |= {f"{kept['columns']['best']}, free form, priors {w}": r for w, r in kept["forms"]["tried"].items()}
    for name, r in named.items():
        s = r["scores"]
        rows.append([name, str(r["unknowns"]), f"{r['misfit']:.2f}", *milli(s["rmse"]), *milli(s["ub"])])
    s = kept["clock"]["as stored"]
    rows.append(["two soils, clock as stored", str(s["unknowns"]), f"{s['misfit']:.2f}", *milli(s["scores"]["rmse"])])
    rows[-1] += milli(s["scores"]["ub"])
    name = kept["forms"]["class"]
    for label, s in (
        (f"{name}, not fitted", kept["forms"]["classes"][name]),
        ("as at the start", kept["forms"]["persistence"]),
    ):
        rows.append([label, "0", "", *milli(s["rmse"]), *milli(s["ub"])])
    head = ["", "unknowns", "chi2 / N", *PROBES, *(f"{p}, no mean error" for p in PROBES)]
    return table(head, rows)


def limits(kept: dict) -> str:
    best = kept["columns"]["best"]
    won = mean(kept["columns"]["tried"][best]["scores"]) < mean(kept["forms"]["persistence"])
    widths, wide = ", ".join(f"{w:g}" for w in WIDTHS), kept["forms"]["wide"]
    return f"""Taken: {best} (the fewest within {CLOSE - 1:.0%} of the least error; roots are there to compare, as
their heads, from textbooks, would decide what probes leave open), and priors of {wide:g} of {widths} for free forms.
The fitted column {"beats" if won else "does not beat"} persistence in winter, when probes stay near field capacity.
With the clock as stored the mean content of winter happens to be nearer, and the fit is three times worse. Searches
end after {ITERATIONS} steps, at which free forms had not converged."""


def gauges(kept: dict) -> str:
    shifted = max(kept["column"][n]["shifted"] for n in LAWS)
    both = [said(kept["column"]["van Genuchten"]["gauges"]), said(kept["networks"]["gauges"])]
    rows = [[name, *(g[name] for g in both)] for name in both[0]]
    return f"""What `check_gauge` says, van Genuchten:

{table(["", "column under its weather", "between probes, all fluxes unknown"], rows)}

With all heads moved by {SHIFT:g} cm no probe changes by more than {shifted:.0e} in the storms of {" to ".join(STORMS)}:
heads are those of the prior and the formula, not of the data."""


def said(gauges: str) -> dict[str, str]:
    """Sentences of gauges by name, without what each means and what would help."""
    lines = (line.split(" (", 1) for line in gauges.splitlines())
    return {name: rest.split("): ", 1)[1].split(" Would ")[0] for name, rest in lines}


def known(kept: dict) -> str:
    rows = []
    for name in LAWS:
        r = kept["column"][name]
        for i, band in enumerate(r["bands"]):
            theta, after, before = (np.array(band[k]) for k in ("theta", "after", "before"))
            cells = []
            for a, b in zip(after, before, strict=True):
                cells.append(f"{np.nanmedian(a):.2f} of {np.nanmedian(b):.2f}")
            rows.append([name, f"{i + 1}", f"{theta[0]:.3f} to {theta[-1]:.3f}", *cells])
    wider = ", ".join(f"{kept['column'][n]['wider']:.1f}" for n in LAWS)
    head = ["law", "soil", "theta", *NAMES]
    return f"""Standard deviations of curves at a water content (medians over the middle 90 % of readings), after the
data of what they were before. Errors of the probes hang together over time; bands are wider for that, by {wider}.

{table(head, rows)}

{told(kept)}"""


def told(kept: dict) -> str:
    """Which curves data tell of, in words."""
    told_, not_ = [], []
    for j, name in enumerate(NAMES):
        ratios = [
            np.nanmedian(np.array(b["after"])[j]) / np.nanmedian(np.array(b["before"])[j])
            for b in kept["column"]["free form"]["bands"]
        ]
        (told_ if max(ratios) < TELLS else not_).append(f"{name} ({', '.join(f'{r:.2f}' for r in ratios)})")
    return f"""By the free form, which has room to say so, the data leave less than {TELLS:g} of what was open in every
soil for {", ".join(told_) or "nothing"}, and more for {", ".join(not_) or "nothing"} (shares by soil). A factor of e is
1: the topsoil, with one probe in it, is known to little more than an order of magnitude. That pF seems known does not
speak against the shift: over these contents heads differ by hundreds to thousands of cm, which follows from D and K,
and {-SHIFT:g} cm matter at the wet end alone. Nothing is known beyond these water contents."""


def networks(kept: dict) -> str:
    rows, wanted = [], np.array(kept["networks"]["van Genuchten"]["expected"])
    for name in LAWS:
        r = kept["networks"][name]
        water, rmse = np.array(r["passed"]), np.median(np.array(r["rmse"]), 0)
        total, course = water[:, -1], [np.corrcoef(level(w), level(wanted))[0, 1] for w in water]
        rows.append([
            name, f"{np.median(r['misfit']):.2f} / {max(r['misfit']):.2f}", *milli(rmse),
            f"{np.median(r['physics']):.0e} / {max(r['physics']):.0e}",
            f"{np.median(total):.1f} ({total.min():.1f} to {total.max():.1f})",
            f"{np.median(course):.2f} ({min(course):.2f} to {max(course):.2f})", f"{r['seconds']:.0f}",
        ])  # fmt: skip
    head = ["law", "chi2 / N, median / worst", *(f"RMSE {p}" for p in PROBES), "physics, median / worst"]
    given = ", ".join(milli(kept["networks"]["column"]))
    head += ["water through 10 cm [cm]", "correlation of its course", "processor, s a seed"]
    return f"""From {" to ".join(WINDOW)}, {len(SEEDS)} seeds: `learn` with three probes, 10 to 40 cm, and nothing said
of rain, evaporation or the start. What passes 10 cm comes out. It should be {wanted[-1]:.1f} cm: rain less evaporation
and what is stored above.

{table(head, rows)}

A column of {CELLS} cells, given soils, daily fluxes and the first contents of the best seed, unpolished, has
{given}. Seeds fit alike and disagree by a constant flux, as `check_gauge` says of the offset: from probes alone a rate
of infiltration is not known. Its course is, in part: with mean rates taken out, sums correlate with those expected as
shown. {spread(kept)}"""


def level(water: np.ndarray) -> np.ndarray:
    """A sum over time without its mean rate."""
    return water - water[-1] * np.arange(1, len(water) + 1) / len(water)


def spread(kept: dict) -> str:
    """How far curves of seeds lie apart, in the subsoil, and how far from the column's."""
    band, parts = kept["column"]["van Genuchten"]["bands"][-1], []
    for name, setting in BETWEEN.items():
        each = [curves(setting.form, p[-1], np.array(band["theta"])) for p in kept["networks"][name]["soils"]]
        apart = np.nanmedian(np.nanstd(each, axis=0), axis=-1)
        off = np.nanmedian(np.abs(np.nanmedian(each, 0) - np.array(band["found"])), -1)
        parts.append(f"{name} " + ", ".join(f"{n} {a:.2f}, {o:.2f}" for n, a, o in zip(NAMES, apart, off, strict=True)))
    return f"""Curves of the subsoil at a water content, standard deviation of seeds, and median distance from the
column's van Genuchten curves: {"; ".join(parts)}.
Seeds share data, start and priors: that they agree more with each other than with the column proves neither. The scale,
which networks hardly know, moves K and its slope; D is what both agree on best."""


def filling(kept: dict) -> str:
    rows = []
    for name, each in kept["fill"]["scores"].items():
        rmse, ub, nse = (np.array([s[k][0] for s in each]) for k in ("rmse", "ub", "nse"))
        worst = f" / {1e3 * rmse.max():.1f}" if len(each) > 1 else ""
        cells = [f"{1e3 * np.median(rmse):.1f}{worst}", f"{1e3 * np.median(ub):.1f}", f"{np.median(nse):.2f}"]
        rows.append([name, *cells])
    return f"""In the last autumn 25 cm is hidden, 10 and 40 cm are read. Soils stay as they were found with all three
probes; networks find the state between, {PIECE} days at a time, {len(SEEDS)} seeds (median / worst). Networks read
10 and 40 cm of later hours, too. "Moved" and the regression know 25 cm of the year before as well.
Networks go to the end of their ramp here (`given`): with the default of `learn`, settled on twins and tried once
on this autumn afterwards, they follow probes more closely (chi2 / N 0.9) and 25 cm less (12.4 and 11.6).

{table(["25 cm", "RMSE, 1e-3", "no mean error", "NSE"], rows)}

The column's soils, better known by their bands, are worse here; why, these data do not say."""


def unseen(kept: dict) -> str:
    rows = []
    for name, r in kept["depth"].items():
        if name != "seconds":
            cells = [
                f"{f * r[w][k][0]:.{d}f}" for w in r for k, f, d in (("rmse", 1e3, 1), ("ub", 1e3, 1), ("nse", 1, 2))
            ]
            rows.append([name, *cells])
    head = [f"{k}, {w}" for w in ("same months", "last autumn") for k in ("RMSE", "no mean error", "NSE")]
    return f"""Columns fitted to 10 and 40 cm alone. (Between these two probes without rain no soil could be told from
any other: both are boundaries.)

{table(["25 cm", *head], rows)}"""


def autumn(kept: dict) -> str:
    rows = []
    for name, s in kept["season"]["scores"].items():
        rows.append([name, *milli(s["rmse"]), *milli(s["ub"]), *(f"{x:.2f}" for x in s["nse"])])
    head = ["", *(f"{k}, {p}" for k in ("RMSE", "no mean error", "NSE") for p in PROBES)]
    return f"""From the readings of the first hour and the weather on, {SKIP} days left out:

{table(head, rows)}"""
