"""Parts of the benchmark on Schwingbach: each takes what the parts before it found."""

from __future__ import annotations

import statistics
from dataclasses import replace

import numpy as np
import torch
from _schwingbach_column import Setting, classes, fitted, number, observed, predict
from _schwingbach_data import Record, as_stored, clocked, lags, period, record, silent, whole
from _schwingbach_known import bands, contents, dependence, moved
from _schwingbach_networks import SEEDS, between, filled, learned, parts
from _schwingbach_scores import as_below, climatology, interpolated, persistence, regressed, scores, with_offset

from udehydro.richards.inversion import Fitted, check_gauge

COLUMNS = {
    "one soil": Setting("one soil"),
    "two soils": Setting("two soils"),
    "three soils": Setting("three soils"),
    "two soils, roots": Setting("two soils", "roots"),
}
CLOSE = 1.05
"""Fewer soils are taken as long as the error in validation is no more than so many times the least. Roots are there to
compare: their textbook heads would decide what probes leave open."""
WIDTHS = (0.5, 1.0, 2.0)
"""Of priors of the shape of free forms, to choose from."""
BETWEEN = {"van Genuchten": Setting("two soils"), "free form": Setting("two soils", law="free form")}
"""Soils of networks."""
WINDOW = ("2015-11-13", "2015-11-28")
"""Days from which networks learn: the first wetting of winter, four storms."""
PIECE, SHIFT, STORMS = 14, -30.0, ("2015-11-15", "2015-11-20")
"""Days in which networks fill in 25 cm at once; a shift of heads [cm], and days, to show that no probe sees it."""


def mean(score: dict) -> float:
    return statistics.mean(score["rmse"])


def judged(fit: Fitted, here: Record) -> dict:
    """A fit, and its scores in a record that it has not seen."""
    simulated = predict(fit.setting.column, fit.setting.p, here)[1]
    return {
        "p": number(fit.setting.p), "misfit": float(fit.misfit), "unknowns": fit.x.shape[1],
        "limits": list(fit.at_limit[0]), "converged": bool(fit.converged[0]), "scores": scores(simulated, here),
    }  # fmt: skip


def clock(_) -> dict:
    """The clock of the probe at 25 cm, hours of rain that no probe has felt, and what the clock does to a fit."""
    table, fit, valid = clocked(), period("fit"), period("validation")
    return {
        "lags": {y: {f"{d:g}": v for d, v in lags(y, y).items()} for y in ("2014", "2015")},
        "silent": [str(t) for t in table.index[silent(table)]],
        "as stored": judged(fitted(COLUMNS["two soils"], as_stored(fit)), valid),
    }


def columns(_) -> dict:
    """Columns with van Genuchten soils fitted to the first period, by their errors in the second."""
    fit, valid = period("fit"), period("validation")
    tried = {n: judged(fitted(s, fit), valid) for n, s in COLUMNS.items()}
    errors = {n: mean(r["scores"]) for n, r in tried.items() if COLUMNS[n].evaporation == "surface"}
    return {"tried": tried, "best": next(n for n, e in errors.items() if e <= CLOSE * min(errors.values()))}


def forms(kept: dict) -> dict:
    """The same for widths of priors of free forms, which start from van Genuchten's; and texture classes."""
    fit, valid, best = period("fit"), period("validation"), kept["columns"]["best"]
    guess = kept["columns"]["tried"][best]["p"]
    free = {w: replace(COLUMNS[best], law="free form", wide=w) for w in WIDTHS}
    tried = {f"{w:g}": judged(fitted(s, fit, guess=guess), valid) for w, s in free.items()}
    by_class = {n: scores(x, valid) for n, x in classes(valid).items()}
    return {
        "tried": tried, "wide": float(min(tried, key=lambda w: mean(tried[w]["scores"]))),
        "classes": by_class, "class": min(by_class, key=lambda n: mean(by_class[n])),
        "persistence": scores(persistence(valid), valid),
    }  # fmt: skip


def laws(kept: dict) -> dict[str, Setting]:
    """Settings as chosen."""
    setting = COLUMNS[kept["columns"]["best"]]
    return {"van Genuchten": setting, "free form": replace(setting, law="free form", wide=kept["forms"]["wide"])}


def column(kept: dict) -> dict:
    """The chosen column fitted to both periods: what is known of its soils, and what probes show."""
    here, result, guess = whole(), {}, None
    for name, setting in laws(kept).items():
        fit = fitted(setting, here, guess=guess)
        guess = number(fit.setting.p) if guess is None else guess
        run = fit.run()
        simulated = observed(here).of(run, fit.setting.column)
        wider = dependence((simulated - here.theta).numpy())
        few = record(*STORMS)
        some, seen = predict(fit.setting.column, fit.setting.p, few)
        shifted = moved(fit.setting.column, number(fit.setting.p), some.psi[0], few, SHIFT, seen)
        count = len(fit.setting.p)
        result[name] = {
            "p": number(fit.setting.p), "misfit": float(fit.misfit), "unknowns": fit.x.shape[1],
            "limits": list(fit.at_limit[0]), "wider": wider, "shifted": shifted, "summary": fit.summary(),
            "scores": scores(simulated, here), "simulated": simulated.tolist(),
            "water": {n: float(getattr(run, n).sum()) for n in ("infiltration", "runoff", "evaporation", "recharge")},
            "storage": float(run.storage[-1] - run.storage[0]),
            "bands": [bands(fit, contents(here.theta[:, setting.probes(i)]), i, wider) for i in range(count)],
            "gauges": str(check_gauge(fit.inversion, fit.x)),
        }  # fmt: skip
    return result


def networks(_) -> dict:
    """Curves from the probes alone in one window, by law."""
    here = record(*WINDOW)
    result = {name: learned(setting, here) for name, setting in BETWEEN.items()}
    return result | checked(result["van Genuchten"], here)


def checked(r: dict, here: Record) -> dict:
    """What the best seed has found, given to the column as it is: errors of probes, and what they leave open."""
    best = int(np.argmin(r["chi2"]))
    found = np.diff(r["passed"][best], prepend=0.0), r["soils"][best]
    task = between(BETWEEN["van Genuchten"], here, found=found)
    run = task.run(task.unknowns.start)
    error = task.observed[0].of(run, run.column) - here.theta
    return {"column": error.square().mean(0).sqrt().tolist(), "gauges": str(check_gauge(task))}


def soils_between(kept: dict) -> dict[str, tuple[Setting, list[dict]]]:
    """Soils by which 25 cm is filled in: those of the networks' best seed, and the column's."""
    found = {}
    for name, setting in BETWEEN.items():
        r = kept["networks"][name]
        found[f"networks, {name}"] = setting, r["soils"][int(np.argmin(r["chi2"]))]
    name, setting = next(iter(laws(kept).items()))
    return found | {f"column, {name}": (setting, kept["column"][name]["p"])}


def fill(kept: dict, seeds=SEEDS) -> dict:
    """25 cm from 10 and 40 cm in the last autumn, by networks in known soils, by seed; and what costs nothing."""
    known, pieces = whole(), parts(period("test"), PIECE)
    here, shown = record(*(str(p.edges[k].astype("datetime64[D]")) for p, k in ((pieces[0], 0), (pieces[-1], -2)))), {}
    for label, (setting, p) in soils_between(kept).items():
        each = [filled(setting, p, piece, seeds) for piece in pieces]
        shown[label] = torch.cat([*(e[:, :-1] for e in each), each[-1][:, -1:]], 1).numpy()
    free = {
        "half-way between": interpolated(here), "as at 40 cm": as_below(here),
        "half-way, moved": with_offset(here, known), "regression": regressed(here, known),
        "as at its start": persistence(here)[:, 1],
    }  # fmt: skip
    middle = {n: np.median(x, 0).tolist() for n, x in shown.items()} | {n: x.tolist() for n, x in free.items()}
    judged_ = {n: [scores(x, here, (1,)) for x in each] for n, each in shown.items()}
    return {"scores": judged_ | {n: [scores(x, here, (1,))] for n, x in free.items()}, "shown": middle}


def depth(kept: dict) -> dict:
    """25 cm never seen: columns fitted to 10 and 40 cm, and their 25 cm in the same months and in the last autumn."""
    here, last, guess, result = whole(), period("test"), None, {}
    name = kept["forms"]["class"]
    for label, setting in BETWEEN.items():
        fit = fitted(setting, here, probes=(0, 2), guess=guess)
        guess = number(fit.setting.p) if guess is None else guess
        same = observed(here).of(fit.run(), fit.setting.column)[:, 1].numpy()
        result[f"column, {label}"] = same, predict(fit.setting.column, fit.setting.p, last)[1][:, 1].numpy()
    result[f"{name}, not fitted"] = tuple(classes(r)[name][:, 1].numpy() for r in (here, last))
    result["half-way between"] = tuple(interpolated(r) for r in (here, last))
    result["as at 40 cm"] = tuple(as_below(r) for r in (here, last))
    return {n: {w: scores(x, r, (1,)) for w, x, r in zip(("same months", "last autumn"), v, (here, last), strict=True)}
            for n, v in result.items()}  # fmt: skip


def season(kept: dict) -> dict:
    """The last autumn, from the readings of its first hour and its weather."""
    here, name = period("test"), kept["forms"]["class"]
    shown = {
        f"column, {n}": predict(s.column(), kept["column"][n]["p"], here)[1].numpy() for n, s in laws(kept).items()
    }
    shown |= {f"{name}, not fitted": classes(here)[name].numpy()}
    shown |= {"climatology": climatology(here), "as at its start": persistence(here)}
    return {
        "scores": {n: scores(x, here) for n, x in shown.items()},
        "shown": {n: x.tolist() for n, x in shown.items()},
    }


PARTS = {
    "clock": clock,
    "columns": columns,
    "forms": forms,
    "column": column,
    "networks": networks,
    "fill": fill,
    "depth": depth,
    "season": season,
}
