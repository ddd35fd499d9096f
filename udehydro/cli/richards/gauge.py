"""``udehydro richards gauge``."""

from __future__ import annotations

from pathlib import Path

import typer

from udehydro.cli.richards.case import FILE, read_case
from udehydro.cli.richards.run import say
from udehydro.cli.richards.words import told
from udehydro.cli.tables import table
from udehydro.richards.inversion import Gauges, check_gauge
from udehydro.richards.inversion.gauge import UNITS


def command(
    soil: Path = FILE,
    strict: bool = typer.Option(False, "--strict", help="Exit code 1 where something is open."),
) -> None:
    """What can the sensors of a soil file decide about its curves, whatever is done with them?

    \b
    udehydro richards gauge soil.yaml --strict

    Some changes of theta(psi) and K(psi) leave all readings as they are: all heads moved, fluxes and K scaled. The
    table says which of them sensors, boundaries and numbers that are given decide, and how well; asked at the starts.
    """
    case = read_case(soil)
    say(case.notes)
    with told(str(soil)):
        found = check_gauge(case.inversion())
    print(states(found))
    if strict and found.open:
        typer.echo(f"Bad result: open: {', '.join(found.open)}.", err=True)
        raise typer.Exit(1)


def states(found: Gauges) -> str:
    """All gauges as a table, and what would decide those that are open."""
    rows = []
    for label, gauge in found.gauges.items():
        state = "FREE" if gauge.free else "hardly known" if gauge.weak else "decided"
        known = "-" if gauge.free else f"{float(gauge.sd.max()):.2g}{UNITS[gauge.name]}"
        rows.append([label, state, known, "; ".join(gauge.fixed_by) or "nothing"])
    open_ = [str(found[n]) for n in found.open]
    return "\n".join([table(["gauge", "state", "known to", "by"], rows), *open_])


def record(found: Gauges) -> dict:
    """All gauges for a summary."""
    return {
        label: {"state": "free" if g.free else "hardly known" if g.weak else "decided",
                "sd": None if g.free else float(g.sd.max()), "by": list(g.fixed_by)}
        for label, g in found.gauges.items()
    }  # fmt: skip
