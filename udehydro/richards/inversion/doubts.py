"""What speaks against a fit, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from udehydro.richards.inversion.fit import Fitted

MISFIT = 4.0
"""chi2 per observation from which something is wrong: the model, the units, or sigma."""
PERFECT = 1e-2
"""Below it a gain is no matter, and data without errors have gains without end."""
SHOWN = 6


def at_limit(fitted: Fitted) -> Tensor:
    """(members, P) whether a value ended at one of its limits."""
    u, x = fitted.inversion.unknowns, fitted.x
    span = u.high - u.low
    slack = 1e-4 * torch.where(span.isfinite(), span, 0.0)
    return (x <= u.low + slack) | (x >= u.high - slack)


def doubts(fitted: Fitted) -> str:
    """What of a fit is not to be trusted, and what to do; nothing where there is nothing to say."""
    found = [_limits(fitted), _unfinished(fitted), _misfit(fitted)]
    return "\n".join(f"- {line}" for line in found if line)


def _limits(fitted: Fitted) -> str:
    at = at_limit(fitted)
    if not bool(at.any()):
        return ""
    many = len(at) > 1
    names = [
        f"{name} ({int(count)} of {len(at)})" if many else name
        for name, count in zip(fitted.names, at.sum(0).tolist(), strict=True)
        if count
    ]
    return f"at a limit: {_some(names)}. Wider limits, Free(low=, high=)? More data, a prior, or a number instead?"


def _unfinished(fitted: Fitted) -> str:
    going = ~fitted.converged & (fitted.misfit > PERFECT)
    left = int(going.sum())
    if not left:
        return ""
    most = int(fitted.iterations[going].max())
    return f"{left} of {len(fitted.converged)} member(s) have not converged in {most} iterations: fit(steps=)."


def _misfit(fitted: Fitted) -> str:
    misfit = fitted.misfit
    bad = misfit > MISFIT
    if not bool(bad.any()):
        return ""
    worst = int(misfit.nan_to_num(torch.inf).argmax())
    by = [f"{n} {float(v[worst]) / max(int(fitted.counts[n][worst]), 1):.3g}" for n, v in fitted.parts.items()]
    return (
        f"chi2 / N is {float(misfit[worst]):.3g}{_where(bad, worst)}, where one is expected ({_some(by)}). A unit, "
        "sigma, the start, or the model?"
    )


def _where(bad: Tensor, worst: int) -> str:
    return f" of member {worst} ({int(bad.sum())} of {len(bad)} above {MISFIT:g})" if len(bad) > 1 else ""


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
