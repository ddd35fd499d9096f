"""What was found, as a table to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from udehydro.errors import ConfigError
from udehydro.richards.inversion.doubts import at_limit

if TYPE_CHECKING:
    from udehydro.richards.inversion.fit import Fitted

NOTHING = 1e3
"""Relative standard deviation beyond which a value counts as unknown."""


def line(fitted: Fitted) -> str:
    """A fit in a line."""
    members, count = fitted.x.shape
    misfit = ", ".join(f"{m:.3g}" for m in fitted.misfit[:4].tolist()) + (", ..." if members > 4 else "")
    done = f"{int(fitted.converged.sum())} of {members} converged"
    return f"Fitted({count} value(s) of {members} member(s), chi2 / N {misfit}, {done}; summary() has a table)"


def table(fitted: Fitted, member: int) -> str:
    """Name, value, standard deviation (in per cent of the value where its logarithm was searched), and limits.

    Raises
    ------
    ConfigError
        For a member that is not there.
    """
    if not 0 <= member < len(fitted.x):
        raise ConfigError(f"member={member} is none of the {len(fitted.x)} member(s).")
    columns = (fitted.names, fitted.values[member], fitted.sd[member], fitted.inversion.unknowns.logarithmic)
    ends, rows = at_limit(fitted)[member].tolist(), [("name", "value", "sd", "")]
    parts = zip(*(c if isinstance(c, tuple) else c.tolist() for c in columns), ends, strict=True)
    for name, value, sd, relative, at in parts:
        error = f"{100.0 * sd:.2g} %" if relative else f"{sd:.2g}"
        rows.append((name, f"{value:.4g}", error if sd < NOTHING or not relative else "unknown", "at a limit" * at))
    width = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [f"{n:<{width[0]}}  {v:>{width[1]}}  {s:>{width[2]}}  {at}".rstrip() for n, v, s, at in rows]
    converged = "converged" if bool(fitted.converged[member]) else "not converged"
    return "\n".join([*lines, f"chi2 / N {float(fitted.misfit[member]):.3g}, {converged}"])
