"""The page of the benchmark on real soils."""

from __future__ import annotations

import numpy as np
from _report import table
from _soils_contest import VG, Folds, by_layer
from _soils_data import LEAST, LEAST_K, PROFILES, Ring, evidence, swiss, validation
from _soils_infiltration import held_out
from _soils_predict import BOOK, FOUND
from _soils_report import by_count, contest, failures, flowed, predictions, reasons, rings, tried

SHOWN = (VG, "two van Genuchten humps", "spline about a loam", "monotone network", "straight lines in pF")
FORMULA = "two van Genuchten humps"
FREE = ("spline about a loam", "spline about that fit", "monotone network")
PARTS = ("theta choice", "k choice", "theta", "k", "prediction", "dense", "rings")


def page(found: dict, theta: Folds, k: Folds, runs: list[Ring], test: list[int]) -> str:
    """``theta``, ``k``: the test layers; ``test``: the test plots among all runs."""
    seconds = ", ".join(f"{n} {found[f'{n} seconds']:.0f} s" for n in PARTS)
    return flowed(f"""What free-form laws are worth on measured soils, against formulas, by points not fitted to.
Laws are fitted by `fit_curves` (retention, conductivity) and by `Inversion` (infiltration). All choices (knots, priors,
sizes, weights of the two curves) were made on some profiles and plots, by the same held-out error; the others were
opened once, but for what is said below.

### Retention of Swiss forest soils

{retention(found, theta)}

### Conductivity between measured conductivities

{between(found, k)}

### Conductivity from retention and Ks alone

{alone(found["prediction"])}

### One soil with many points

{dense(found["dense"])}

### Infiltration from rings in Kenya

{rings_words(runs, test)}

{rings(found["rings"], runs, test)}

{rings_verdict(found["rings"], runs, test)}

![Real soils](richards_real_soils.png)

Processor time: {seconds}.""")


def retention(found: dict, theta: Folds) -> str:
    soils, out = swiss()
    whole = len(soils) + sum(out.values())
    chosen, others = validation(soils)
    profiles = ", ".join(p for i, p in enumerate(PROFILES) if i % 3 == 2)
    errors, choice = found["theta"], found["theta choice"]
    free, mean = best(theta, errors, FREE), {n: np.log(by_layer(theta, np.array(e))).mean() for n, e in errors.items()}
    ratio = lambda n: np.exp(mean[n] - mean[VG])  # noqa: E731
    return f"""Richard and Luescher's layers (1978 to 1987): {len(soils)} of {whole} have {LEAST} heads
or more (left out: {reasons(out)}). To choose: {len(chosen)} layers of {profiles}; to report: {len(others)} layers
of the other profiles. Each head of a layer in turn is held out and predicted from the rest, the ends by extrapolation;
errors are root mean squares over a layer's heads. "Two van Genuchten humps" is Durner's law (1994), a formula about as
flexible as free forms. "That fit" is the plain van Genuchten one. Straight lines between neighbours know nothing of
soils.

{contest(theta, errors, choice, 4)}

{by_count(theta, errors, SHOWN)}

{failures(theta, errors, free, FORMULA, 4)}

So one hump is not enough for these soils. The best free form has {ratio(free):.2f} of its error (ratio of geometric
means), and a formula with two humps {ratio(FORMULA):.2f}: no need to leave formulas, only this one. Between heads
straight lines do as well; at the ends they do not. On the layers to choose by, geometric means of the settings tried
(how many): {tried(choice)}."""


def between(found: dict, k: Folds) -> str:
    chosen = Folds.of_k(validation(swiss()[0])[0]).soils
    errors = found["k"]
    first, lines = best(k, errors, FREE), "straight lines in pF"
    mean = {n: np.exp(np.log(by_layer(k, np.array(errors[n]))).mean()) for n in (first, lines, VG)}
    return f"""{len(k.soils)} test layers with {LEAST_K} conductivities or more; {len(chosen)} to choose by, few for so
many settings, so that the choice itself is fitted. Both curves are fitted at once, and each conductivity in turn is
held out. Ks is free, the measured one is not used. Errors are of log10 K.

{contest(k, errors, found["k choice"], 3)}

{failures(k, errors, first, FORMULA, 2)} Neither beats what costs nothing: {mean[lines]:.3f} for straight lines,
{mean[first]:.3f} for the best free form, {mean[VG]:.3f} for van Genuchten."""


def alone(found: dict) -> str:
    rules, layers = found["rules"], found["layers"]
    mean = {n: np.exp(np.mean([0.5 * np.log(np.mean(np.square(e))) for e in r["errors"]])) for n, r in rules.items()}
    low, high = (10 ** f(m for n, m in mean.items() if n.endswith(f"own formula{BOOK}")) for f in (min, max))
    say = lambda n: f"{10 ** mean[n]:.1f}"  # noqa: E731
    tuned = {n: say(f"{n}, Mualem's integral{FOUND}") for n in ("van Genuchten", "spline")}
    plain = {n: say(f"{n}, Mualem's integral{BOOK}") for n in ("van Genuchten", "spline")}
    return f"""The harder and more useful test: of a layer's conductivities only the saturated one is used
({len(layers["test"])} test layers). Free forms have no conductivity of their own, so that Mualem's integral (1976) is
taken over their retention, from an entry chosen on the layers to choose by ({len(layers["validation"])}, of two
profiles). Numbers found there are the same for all soils. The integrals without a factor were added after the test had
been opened; no number of theirs was found on it.

{predictions(rules, layers["test"])}

Nothing here is good. Formulas as in textbooks are off by factors of {low:.0f} to {high:.0f} (from geometric means), as
the measured Ks is that of macropores. Mualem's integral over the spline is off by {plain["spline"]}, over van
Genuchten's curve by {plain["van Genuchten"]}: a better retention curve buys a little. With an l and a factor found on
other soils they are off by {tuned["spline"]} and {tuned["van Genuchten"]}: two profiles do not speak for others. A line
in pF and ln Ks, which does not look at the retention at all, is off by {say("a line in pF and ln Ks")}. Measured
conductivities, a few, are what helps: see above."""


def dense(found: dict) -> str:
    names = sorted((n for n in found if isinstance(found[n], dict)), key=lambda n: found[n]["theta within"])
    times = found[VG]["theta within"] / found[names[0]]["theta within"]
    digits = {"theta within": 4, "theta beyond": 4, "k within": 3, "k beyond": 3}
    rows = [[n, *(f"{found[n][w]:.{d}f}" for w, d in digits.items())] for n in names]
    body = table(["", "theta, within", "theta, beyond", "log10 K, within", "log10 K, beyond"], rows)
    return f"""An evaporation experiment (of SoilHyP): {found["points"]} contents and {found["conductivities"]}
conductivities, in ten blocks of neighbouring heads, of which one is held out at a time; "within" are the eight inner
blocks, "beyond" is the driest. Settings are those chosen for the Swiss conductivities. The unit of K is not stated and
taken for cm/d, which changes no error.

{body}

With points this many, the error of water contents within is {times:.1f} times smaller with the {names[0]} than with
van Genuchten. Beyond the driest point van Genuchten's conductivity is the better guess: there, a formula is all that is
known."""


def rings_words(runs: list[Ring], test: list[int]) -> str:
    e = {n: 100.0 * v if " to a " in n else v for n, v in evidence().items()}
    depth, rate = e["depth to a millimetre"], e["rate to a millimetre"]
    step, jump = np.exp(e["step"]), np.exp(e["jump"])
    return f"""Runs of infiltrometers (HydroMe; Omuto 2006): {len(runs)} plots with one run each, so that no run can
be judged by a replicate. Units are not stated, and of the two columns only one can be right. In all {e["rows"]} rows
Cumrate is the plain sum of Rate, whatever the step. But Rate times the step is a whole number of millimetres in
{depth:.0f} % of the {e["long"]} rows with steps above a minute, as readings of a scale are, and Rate in {rate:.0f} %.
Where the step grows (by {step:.1f} in the median, {e["jumps"]} times), Rate does not jump (by {jump:.2f}). So Rate is
in cm/min and Cumrate lacks the steps: volumes here are sums of Rate times step.

A column of 2 m under a head of zero, free drainage below, uniform at the start; soil and initial state are unknown.
Fitted to the first two thirds of each run, judged by the volume of the last. To choose: every third plot
({len(runs) - len(test)}); to report: {len(test)}. Directions are those of the Fisher information, without priors."""


def rings_verdict(found: dict, runs: list[Ring], test: list[int]) -> str:
    median = {n: 100 * np.median(np.abs(held_out(runs, one["volume"])[test])) for n, one in found.items()}
    signed = {n: held_out(runs, one["volume"])[test] for n, one in found.items()}
    uniform = [n for n in found if n.startswith(("van Genuchten", "spline"))]
    over = ", ".join(f"{n}: {int((signed[n] > 0).sum())} of {len(test)}" for n in uniform)
    done = "; ".join(f"{n}: {sum(one['converged'])}" for n, one in found.items() if "converged" in one)
    first = sum(d[6:].startswith("Ks") for d in found["spline, priors; prior 1.0"]["best"])
    last = median["the rate of the last third fitted"]
    beat = ", ".join(n for n, m in median.items() if m < last) or "nothing here does"
    return f"""Rates go on falling, faster than in a uniform soil from a uniform state, where they approach Ks. So
uniform soils promise too much (runs overestimated: {over}), with a formula or a free form alike: what fails is the
column, not its law. Carrying the last rate on ({last:.0f} %) is what a model has to beat: {beat}. A run tells of two or
three directions, however many values are free; the best known of the spline with prior 1.0 has its largest share in Ks
in {first} of {len(runs)} runs. Of {len(runs)} runs, searches that converged: {done}. These plots were opened three
times: an initial head of -1000 cm instead of a water content, and shorter searches, gave other
numbers and the same verdict."""


def best(folds: Folds, errors: dict, names: tuple[str, ...]) -> str:
    return min(names, key=lambda n: np.log(by_layer(folds, np.array(errors[n]))).mean())
