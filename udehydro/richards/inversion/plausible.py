"""What measured water contents and heads cannot be, and what they probably are instead."""

from __future__ import annotations

import warnings

from torch import Tensor

from udehydro.errors import DataError

SUCTIONS = "Suctions? Heads are negative in unsaturated soil: give -psi."


def check_contents(name: str, theta: Tensor) -> None:
    """Refuse water contents (of what was measured) that are not 0 to 1.

    Raises
    ------
    DataError
        Says from where to where they go.
    """
    if not bool(((theta < 0.0) | (theta > 1.0)).any()):
        return
    hints = [f"{theta.min():g} for what is missing? Give NaN."] if bool((theta < -1.0).any()) else []
    hints += ["Per cent? Divide by 100."] if bool((theta > 1.0).any()) else []
    hints = hints or ["An offset of the sensor? Correct it, or mask these values with NaN."]
    raise DataError(f"{name}: water contents are 0 to 1, got {theta.min():g} to {theta.max():g}. {' '.join(hints)}")


def check_heads(name: str, psi: Tensor, depth: Tensor | float, stacklevel: int) -> None:
    """Refuse heads (of what was measured) most of which stand above the surface, ``depth`` over their sensor; warn
    where most are above zero.

    Raises
    ------
    DataError
    """
    text = f"{name}: {int((psi > 0.0).sum())} of {psi.numel()} heads are above zero, up to {psi.max():g} cm. "
    if bool((psi > depth).double().mean() > 0.5):
        raise DataError(text + SUCTIONS)
    if bool((psi > 0.0).double().mean() > 0.5):
        warnings.warn(f"{text}{SUCTIONS} Below a water table all is well.", stacklevel=stacklevel + 1)
