"""Tables and words of the benchmark on real soils."""

from __future__ import annotations

from collections import Counter
from textwrap import fill

import numpy as np
from _report import table
from _soils_contest import VG, Folds, by_layer
from _soils_data import Ring, Soil
from _soils_infiltration import held_out

LINES = "straight lines in pF"
FREE = ("spline about a loam", "spline about that fit", "van Genuchten, corrected", "monotone network")


def contest(folds: Folds, errors: dict[str, list], chosen: dict[str, dict], digits: int) -> str:
    """Errors of all families by layer, against van Genuchten."""
    say = lambda x: f"{x:.{digits}f}"  # noqa: E731
    found = {n: by_layer(folds, np.array(e)) for n, e in errors.items()}
    ranked = sorted(found, key=lambda n: np.log(found[n]).mean())
    rows = []
    for name in ranked:
        r, e = found[name], np.abs(errors[name])
        ends = [np.median([e[folds.who == i][k] for i in range(len(folds.soils))]) for k in (0, -1)]
        inner = np.median(np.concatenate([e[folds.who == i][1:-1] for i in range(len(folds.soils))]))
        better, clear, worse = (int((r < f * found[VG]).sum()) for f in (1.0, 0.9, 1.1))
        against = "" if name == VG else f"{better} / {len(r) - better} ({clear} / {len(r) - worse})"
        worst = int(r.argmax())
        rows.append([
            name, chosen.get(name, {}).get("said", ""), say(np.exp(np.log(r).mean())), say(np.median(r)),
            say(r.max()) + f" ({folds.soils[worst].name})", say(inner), say(ends[0]), say(ends[1]), against,
        ])  # fmt: skip
    head = ["", "chosen", "geometric mean of layers", "median", "worst", "heads between", "wettest head", "driest head"]
    return table([*head, "layers better / worse than van Genuchten (by more than 10 %)"], rows)


def by_count(folds: Folds, errors: dict[str, list], names: tuple[str, ...]) -> str:
    """Medians of layers by how many heads they have."""
    heads = np.array([len(set(s.psi)) for s in folds.soils])
    rows = []
    for low, high in ((8, 10), (11, 12), (13, 99)):
        inside = (heads >= low) & (heads <= high)
        if inside.any():
            cells = [f"{np.median(by_layer(folds, np.array(errors[n]))[inside]):.4f}" for n in names]
            rows.append([f"{low} to {high}" if high < 99 else f"{low} or more", str(int(inside.sum())), *cells])
    return table(["heads", "layers", *names], rows)


def failures(folds: Folds, errors: dict[str, list], free: str, formula: str, digits: int) -> str:
    """Where the free-form law is worse than van Genuchten, and where both are bad, by name."""
    ours, theirs, rival = (by_layer(folds, np.array(errors[n])) for n in (free, VG, formula))
    say = lambda i: f"{folds.soils[i].name} ({theirs[i]:.{digits}f} to {ours[i]:.{digits}f}{why(folds.soils[i])})"  # noqa: E731
    worse = [i for i in np.argsort(theirs / ours) if ours[i] > theirs[i]]
    hard = [i for i in np.argsort(-ours)[:4]]
    odd = [i for i, s in enumerate(folds.soils) if s.oddities]
    fine = [i for i in range(len(folds.soils)) if i not in odd]
    ratio = lambda at: np.exp(np.log(ours[at] / theirs[at]).mean())  # noqa: E731
    words = [
        f"The {free} is worse than van Genuchten in {len(worse)} of {len(ours)} layers: "
        f"{', '.join(say(i) for i in worse) or 'none'}.",
        f"Its worst layers: {', '.join(say(i) for i in hard)}.",
        f"Its error by that of van Genuchten, geometric mean: {ratio(fine):.2f} in {len(fine)} layers without oddities"
        + (f", {ratio(odd):.2f} in {len(odd)} with." if odd else "."),
        f"By that of {formula}: {np.exp(np.log(ours / rival).mean()):.2f}; smaller in {int((ours < rival).sum())}.",
    ]
    return " ".join(words)


def why(soil: Soil) -> str:
    return f"; {', '.join(soil.oddities)}" if soil.oddities else ""


def tried(chosen: dict[str, dict]) -> str:
    """How much hangs on the setting, on the profiles it was chosen by."""
    parts = [
        f"{n} {min(v['tried'].values()):.3g} to {max(v['tried'].values()):.3g} ({len(v['tried'])})"
        for n, v in chosen.items()
        if len(v["tried"]) > 1
    ]
    return "; ".join(parts)


def predictions(found: dict, soils: list[str]) -> str:
    """Conductivity by retention and Ks."""
    rows = []
    for name, one in found.items():
        r = np.array([np.sqrt(np.mean(np.square(e))) for e in one["errors"]])
        bias = np.median(np.abs([np.mean(e) for e in one["errors"]]))
        c = ", ".join(f"{x:.2f}" for x in one["c"])
        rows.append([
            ", ".join(x for x in (name, one["setting"]) if x),
            f"{one['validation']:.2f}", f"{np.exp(np.log(r).mean()):.2f}", f"{np.median(r):.2f}",
            f"{r.max():.2f} ({soils[int(r.argmax())]})", f"{bias:.2f}", c,
        ])  # fmt: skip
    head = [
        "",
        "validation, geometric mean",
        "test, geometric mean",
        "median",
        "worst",
        "median of mean errors, absolute",
    ]
    return table([*head, "numbers found on validation"], rows)


def rings(found: dict[str, dict], all_: list[Ring], test: list[int]) -> str:
    """Infiltration: errors of the last third of runs."""
    rows, per = [], lambda x, sign="": f"{100 * x:{sign}.0f} %"
    for name, one in found.items():
        e = held_out(all_, one["volume"])
        there = e[test]
        known = f"{np.median(np.array(one['known'])[test]):g}" if "known" in one else ""
        misfit = f"{np.median(np.array(one['misfit'])[test]):.2f}" if "misfit" in one else ""
        valid = np.median(np.abs(np.delete(e, test)))
        worst = int(np.abs(there).argmax())
        rows.append([
            name, str(one.get("free", "")), known, misfit, per(valid), per(np.median(np.abs(there))),
            per(np.median(there), "+"), per(np.abs(there).max()) + f" ({all_[test[worst]].plot})",
        ])  # fmt: skip
    head = ["", "free values", "directions known to better than 100 %, median", "misfit, median chi2 / n"]
    head += ["error, validation", "error, test", "signed", "worst"]
    return table(head, rows)


def reasons(out: Counter) -> str:
    return ", ".join(f"{n} with {why}" for why, n in sorted(out.items()))


def flowed(text: str) -> str:
    """Paragraphs wrapped; tables, heads and pictures as they are."""
    parts = text.split("\n\n")
    return "\n\n".join(p if p[:1] in "|#!" else fill(p, 120, break_long_words=False) for p in parts)
