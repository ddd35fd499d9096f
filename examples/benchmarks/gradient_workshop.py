"""The gradient workshop on rain-pulsed forcing: ways to a gradient by error, time and memory, and known defects."""

from __future__ import annotations

import argparse

import pandas as pd
import torch
from _report import DOCS, table, write
from sensitivity_adjoint import Basins

from udehydro import Balance, plot
from udehydro.files import write_atomic
from udehydro.models import exphydro_mended
from udehydro.sensitivity import Way, compare_gradients, usual_ways, volume
from udehydro.sensitivity.naive import OneCall
from udehydro.sensitivity.workshop import LIMITS
from udehydro.solvers import RK4, Stepping, Torchdiffeq

SCRIPT = "gradient_workshop"
BASIN, FIRST, LAST = "11143000", "1982-10-01", "1983-03-31"
FINE = 1e-7


def ways() -> dict[str, Way]:
    """The usual ones, and calls with other tolerances, fixed steps, and parameters that were not named."""
    found = usual_ways()
    loose = {"rtol": 1e-3, "atol": 1e-3}
    for name, call in {
        "one call, rtol 1e-3": OneCall(**loose),
        f"one call, rtol {FINE:g}": OneCall(rtol=FINE, atol=FINE),
    }.items():
        adjoint = OneCall(adjoint=True, rtol=call.rtol, atol=call.atol)
        found[f"torchdiffeq dopri5 in {name}, continuous adjoint"] = Way(adjoint, same_steps=call)
    found["torchdiffeq dopri5 in one call, parameters not named"] = Way(
        OneCall(adjoint=True, named=False, **LIMITS), same_steps=OneCall(**LIMITS)
    )
    quarter = Torchdiffeq("rk4", step_size=0.25)
    found["torchdiffeq rk4, 4 steps, backpropagation"] = Way(quarter, same_steps=quarter)
    found["torchdiffeq rk4, 4 steps, continuous adjoint"] = Way(
        Torchdiffeq("rk4", step_size=0.25, adjoint=True), same_steps=quarter
    )
    tape = Stepping(RK4, substeps=4, gradient="tape")
    found["our rk4, 4 steps, exact adjoint"] = Way(Stepping(RK4, substeps=4), same_steps=tape)
    return found


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    basins, model = Basins([BASIN]), Balance(exphydro_mended)
    whole, given = basins.forcing, basins.of(model)
    forcing = whole.isel(whole.between(FIRST, LAST))
    start = basins.run(model).storage[whole.between(FIRST, LAST).start]
    found = compare_gradients(
        model, forcing, volume("discharge", FIRST, LAST), theta=given["theta"], storage0=start, ways=ways(),
        progress=True,
    )  # fmt: skip
    title = f"Gradient of the discharge of {len(forcing)} days by parameters and storages, basin {BASIN}"
    write_atomic(DOCS / f"{SCRIPT}.png", plot.png(plot.gradient_ways(found, title), dpi=80))
    write(SCRIPT, "Gradient workshop", page(found, forcing))


def page(found: pd.DataFrame, forcing) -> str:
    rain = forcing.values["prcp"]
    rows = []
    for name, r in found.iterrows():
        errors = [f"{r[n]:.1e}" for n in ("value_error", "true_error", "own_error")]
        numbers = [*errors, f"{1e3 * r['seconds']:.0f}", f"{r['megabytes']:.2f}"]
        rows.append([str(name), *(numbers if not r["failure"] else [r["failure"], "", "", "", ""])])
    head = ["way", "error of the value", "error of the gradient", "against autograd through the same steps", "ms", "MB"]
    return f"""EXP-HYDRO (mended, published parameters), basin {BASIN}, {FIRST} to {LAST}: {len(forcing)} days, rain on
{int((rain > 0.1).sum())} of them, up to {float(rain.max()):.0f} mm/d. Gradient of the volume of discharge by all
parameters and initial storages, in relative changes, by `sensitivity.compare_gradients`; errors are relative, in norm,
against SDIRK2 with 64 steps a day. dopri5 at rtol = atol = {LIMITS["rtol"]:g} unless said; time is the median of 3 warm
calls (one, beyond 20 s), memory the peak of tensors.

{table(head, rows)}

What is known of continuous adjoints on pulses of rain shows here. Called once over the record, error control sees a
pulse only where a stage falls on it: the value is wrong by far more than the tolerance, a looser one makes it worse, a
tighter one does not end. The adjoint integrates backwards over the same jumps and errs in its own way, so that it is
not even the gradient of the value that was computed (last error column). `jump_t` is no way out: torchdiffeq stops
heeding it after a step that lands on a jump, without a word. Called interval by interval, the continuous adjoint is
right to about its tolerance, at many times the price of the exact discrete one. And it has no gradient by what it was
not told of, without an error.

![Ways to a gradient](gradient_workshop.png)"""


if __name__ == "__main__":
    main()
