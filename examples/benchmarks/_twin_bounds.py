"""How far curves are from the truth, and how near data can bring them: the bound of Cramer and Rao."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from _twin_case import Truth
from torch import Tensor

from udehydro.richards.inversion import Bands, Fitted, Inversion
from udehydro.richards.laws import SoilLaw

CURVES = ("theta", "K", "log10 K")
OPEN = 1e-6
"""What priors count in the bound without priors: next to nothing, and enough for what no data tell."""


def truly(law: SoilLaw, p: Mapping, heads: Tensor) -> Bands:
    """Curves of a soil that is known."""
    return Bands(theta := law.theta(heads, p), 0.0 * theta, log_k := law.log_conductivity(heads, p), 0.0 * log_k)


def curves(found: Bands) -> Tensor:
    """(..., 3, points): water content, conductivity [cm/d], and its decimal logarithm."""
    return torch.stack([found.theta, torch.exp(found.log_k), found.log_k / math.log(10.0)], dim=-2)


def spread(found: Bands) -> Tensor:
    """Standard deviations of the three."""
    return torch.stack(
        [found.theta_sd, torch.exp(found.log_k) * found.log_k_sd, found.log_k_sd / math.log(10.0)], dim=-2
    )


def size(off: Tensor, true: Bands) -> Tensor:
    """Of what curves (..., 3, points) are off: ||off|| / ||true|| of theta and of K, root mean square of log10 K."""
    whole = curves(true).norm(dim=-1)
    whole[2] = off.shape[-1] ** 0.5
    return off.norm(dim=-1) / whole


def bounds(inversion: Inversion, true: Truth) -> dict:
    """Root mean square errors (3,) of curves that no unbiased search goes below, and what they leave out.

    Parameters
    ----------
    inversion : one column that starts from the truth, or from the nearest that its law can be.

    Returns
    -------
    dict of ``bare``: the bound without priors; ``prior``: with priors, as if truths came from them; ``nearest``: errors
    of the law nearest to the truth, which a bound knows nothing of; ``misfit``: chi2 by observation that this law, the
    coarser grid and the longer steps leave of data without errors.
    """
    x, precision = inversion.unknowns.start, torch.diag_embed(inversion.unknowns.precision)
    _, residuals, jacobian = inversion.residuals(x)
    residuals = torch.cat(residuals, dim=-1)
    chi2, exact = residuals.square().sum(-1), truly(true.law, true.p, true.heads())
    found = {"misfit": float(residuals.square().mean())}
    for name, share in {"bare": OPEN, "prior": 1.0}.items():
        normal = jacobian @ jacobian.mT + share * precision
        near = Fitted(inversion, x, chi2, {}, {}, normal, torch.zeros(1), torch.ones(1)).curves(true.heads())
        found[name] = size(spread(near), exact)[0].tolist()
        found["nearest"] = size(curves(near) - curves(exact), exact)[0].tolist()
    return found
