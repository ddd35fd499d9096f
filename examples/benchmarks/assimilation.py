"""4D-Var with the bucket M0 on CAMELS basins: planted storages on real weather, and forecasts of 1 to 10 days.

Sizes of errors and lengths of windows are chosen on years that the model was not fitted to; then the test years are
opened once. Parts are kept in a cache outside the repository; ``--report`` writes the page from what is there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter

import numpy as np
import torch
import xarray as xr
from _assimilation_basins import basins
from _assimilation_forecasts import BLOCK, CHOOSE, FLOOR, GRID, JUDGE, choose, chosen, gain, judge
from _assimilation_twin import section, twin
from _report import DOCS, table, write
from bucket_and_hybrids import TEST, TRAIN, VALID, cache, gauge_names

from udehydro.files import write_atomic, write_json_atomic
from udehydro.plot import style
from udehydro.plot.assimilation import draw_skill

SCRIPT = "assimilation"
SHOWN = (1, 3, 5, 10)
KINDS = ("open loop", "4D-Var", "open loop + AR(1)", "4D-Var + AR(1)", "persistence")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fresh", action="store_true", help="forget the cache, but for the calibrated buckets")
    parser.add_argument("--report", action="store_true", help="write the page from the cache, run nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept, found = cache().with_name(f"{SCRIPT}.json"), {}
    if kept.exists() and not options.fresh:
        found = json.loads(kept.read_text())
    records = basins()
    parts = {"twin": lambda: twin(records), "choice": lambda: choose(records)}
    parts["test"] = lambda: judge(records, found["choice"])
    for name, run in parts.items():
        if name not in found and not options.report:
            started = time.perf_counter()
            found[name] = run()
            found[f"{name} seconds"] = time.perf_counter() - started
            write_json_atomic(kept, found)
    report(found, records.forcing.basins)


def report(found: dict, gauges: tuple[str, ...]) -> None:
    names = {g: gauge_names()[g] for g in gauges}
    one, own = (xr.Dataset.from_dict(found["test"][w]) for w in ("one", "own"))
    best, each = chosen(found["choice"])
    seconds = [found[f"{p} seconds"] for p in ("twin", "choice", "test")]
    body = f"""### Planted storages

{section(found["twin"], names)}

### Forecasts

M0 of every basin, calibrated as in bucket_and_hybrids.py. Forecasts of 1 to 10 days with the weather that came, issued
every day of {TEST[0]} to {TEST[1]} ({len(JUDGE.issued)} dates), so that every lead is scored on the same days but for
the ends; lead 1 is the day that begins with the issue.

- **open loop**: the model as it is. It runs on from the start of the record and sees no flow.
- **4D-Var**: initial storages and rain multipliers (one for {BLOCK} days) of the window before the issue, by its flow.
- **AR(1)**: the last error before the issue, of open loop or analysis, taken on with the lag-1 coefficient of errors of
  the open loop in the years {TRAIN[0][:4]} to {TRAIN[1][:4]}. It costs nothing, and is what an analysis has to beat.
- **persistence**: the last flow observed.

Chosen for each basin on {VALID[0]} to {VALID[1]} (every {CHOOSE.every} days, by the model fitted to the years before
them) from {len(GRID)} settings, by the mean over leads of the logarithm of the error by that of the open loop: windows
of 1, 3, 10 or 30 days; standard deviation of storages 0.1, 0.3, 1 or 3 times that over the years; of the logarithm of
rain multipliers 0.2 or 0.4; of flow 0.15 or 0.3 of it plus {FLOOR} of its mean. The best setting for all is {best}
(window, storage, rain, flow). Windows of 60 and 120 days, errors of flow that grow backwards in time, correlated ones
and those of logarithms, multipliers by day, correlated or none were tried on the same years and gave no more. Test
years were opened once, with the setting of each basin and with that for all. {lengths(each)}

{summary(own, one)}

{verdict(own)}

NSE at leads of 1, 3, 5 and 10 days: open loop / 4D-Var / open loop + AR(1) / 4D-Var + AR(1). "Better": at how many of
10 leads 4D-Var has a smaller error than the open loop, and than open loop + AR(1).

{basins_table(own, names, each)}

![Skill by lead time]({SCRIPT}.png)

{100 * float(own.converged.mean()):.1f} % of the windows converged within 60 evaluations. Planted storages took
{seconds[0]:.0f} s, choosing {seconds[1]:.0f} s, the test years {seconds[2]:.0f} s, on one thread of a machine with
other work."""
    picture(own)
    write(SCRIPT, "4D-Var: planted storages, and forecasts of ten days", body)


def lengths(settings: list) -> str:
    """What the chosen windows say of the model."""
    counts = Counter(s.past for s in settings)
    told = ", ".join(f"{days} d: {n}" for days, n in sorted(counts.items()))
    return (
        f"Basins by the window chosen: {told}. Short windows win although they know less: errors of the model itself, "
        "for which there is no control, seem to spoil what a longer one could add."
    )


def summary(own: xr.Dataset, one: xr.Dataset) -> str:
    """Medians over basins, and how often the open loop is beaten."""
    rows = []
    sets = [(k, own, k) for k in KINDS] + [("4D-Var, one setting for all basins", one, "4D-Var")]
    for label, found, kind in sets:
        medians = [f"{float(found.nse.sel(forecast=kind, lead=d).median()):.2f}" for d in SHOWN]
        gains = gain(found, kind)
        beaten = [f"{int((gains[d - 1] < 0).sum())}" for d in SHOWN] + [f"{int((gains < 0).all(0).sum())}"]
        mean = f"{100 * (np.exp(gains.mean()) - 1):+.0f} %"
        rows.append([label, *medians, mean, " / ".join(beaten[:-1]), beaten[-1]] if kind != "open loop" else
                    [label, *medians, "", "", ""])  # fmt: skip
    head = ["", *(f"median NSE, lead {d} d" for d in SHOWN), "RMSE by that of the open loop, mean of basins and leads"]
    head += [f"basins better than open loop at {', '.join(map(str, SHOWN))} d", "at all ten leads"]
    return table(head, rows)


def verdict(own: xr.Dataset) -> str:
    """Where 4D-Var is worse, by name."""
    gains, cheap = gain(own), gain(own, "open loop + AR(1)")
    worst = {str(b): 100 * (np.exp(gains[:, i].max()) - 1) for i, b in enumerate(own.basin.values)}
    worse = [f"{b} ({v:+.0f} %)" for b, v in worst.items() if v > 0]
    lines = [
        f"4D-Var is worse than the open loop at some lead in {len(worse)} of {len(worst)} basins (by how much at "
        f"most): {', '.join(worse) or 'none'}."
    ]
    for d in SHOWN:
        lost = int((gains[d - 1] > cheap[d - 1]).sum())
        lines.append(f"At {d} d it is worse than open loop + AR(1) in {lost}.")
    clear, cheaply = (int((np.exp(g) < 0.99).all(0).sum()) for g in (gains, cheap))
    lines.append(
        f"Better than the open loop by more than 1 % at all ten leads: 4D-Var {clear}, open loop + AR(1) {cheaply}."
    )
    return " ".join(lines)


def basins_table(own: xr.Dataset, names: dict[str, str], settings: list) -> str:
    gains, cheap = gain(own), gain(own, "open loop + AR(1)")
    rows = []
    for i, (gauge, name) in enumerate(names.items()):
        cells = [
            " / ".join(f"{float(own.nse.sel(forecast=k, lead=d, basin=gauge)):.2f}" for k in KINDS[:4]) for d in SHOWN
        ]
        better = f"{int((gains[:, i] < 0).sum())}, {int((gains[:, i] < cheap[:, i]).sum())}"
        rows.append([f"{gauge} {name}", *cells, better, str(settings[i])])
    return table(["basin", *(f"{d} d" for d in SHOWN), "better", "window, storage, rain, flow"], rows)


def picture(own: xr.Dataset) -> None:
    figure = style.figure(10.0, 4.2)
    left, right = figure.subplots(1, 2)
    draw_skill(left, own, forecasts=[k for k in KINDS if k != "4D-Var + AR(1)"])
    left.set_ylim(-0.2, 1.0)
    left.set_title("median over basins, and their middle half", fontsize="medium", loc="left")
    for kind, colour in zip(KINDS[1:4], style.LINES[1:4], strict=True):
        ratio = np.exp(gain(own, kind))
        right.plot(own.lead, np.median(ratio, axis=1), "o-", color=colour, markersize=3.0, label=kind)
        if kind == "4D-Var":
            right.plot(own.lead, ratio, color=colour, linewidth=0.6, alpha=0.5)
    right.axhline(1.0, color="0.3", linewidth=0.8)
    style.tidy(right, "lead time [d]", "RMSE by that of the open loop", "median, and every basin for 4D-Var")
    right.legend(frameon=False, fontsize="small")
    write_atomic(DOCS / f"{SCRIPT}.png", style.png(figure, dpi=100))


if __name__ == "__main__":
    main()
