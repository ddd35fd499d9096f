"""Tests of derivatives that anyone can run on their own function: differences, Taylor remainders, dot products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from udehydro.errors import ConfigError

STEPS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Relative steps of differences: truncation falls with the square of the step, round-off rises with its inverse."""
ROUND_OFF = 45.0
"""Error of a value in units of the last place of one plus its size, unless told otherwise: 1e-14 in float64."""


def own_size(value: Tensor) -> Tensor:
    """Size of values, by which relative changes are measured; one near zero."""
    return torch.where(value.abs() > 1e-3, value.abs(), 1.0)


@dataclass(frozen=True)
class Differences:
    """Central differences of ``values (*batch)`` by n entries, at K steps.

    Attributes
    ----------
    central : (K, n, *batch). Where a stencil holds a kink, the one of the next smaller step that holds none: the two
        one-sided differences then disagree by far more than the curvature seen at other steps explains.
    kinked : (K, n, *batch), where smaller steps do not help either.
    noise : (K, n, *batch), what round-off leaves of a difference; ``granted`` : that of entries from smaller steps.
    values : (*batch) of the function itself.
    """

    central: Tensor
    kinked: Tensor
    noise: Tensor
    granted: Tensor
    values: Tensor

    def against(self, gradient: Tensor) -> Agreement:
        """Compare a gradient (n, *batch), for each element of the batch."""
        if gradient.shape != self.central.shape[1:]:
            raise ConfigError(
                f"The gradient has shape {tuple(gradient.shape)}, its differences {tuple(self.central.shape[1:])}."
            )
        kept = ~self.kinked
        apart = ((self.central - gradient).abs() - self.granted).clamp_min(0.0)
        drift = self.central.diff(dim=0)
        parts = (apart, gradient.expand_as(kept), self.central, torch.cat([drift, drift[-1:]]), self.noise)
        gap, size, own, drift, lost = ((v * kept).square().sum(1).sqrt() for v in parts)
        # a step sees a slope that stands out of round-off and stays at the next one, as truncation does not
        largest = torch.maximum(size, own)
        seen = ((largest > lost) & (drift <= 0.5 * largest)).any(0)
        # what no step can tell from zero agrees with zero; where one can, the others have nothing to say
        blind = torch.maximum(gap, size) <= lost
        error = torch.where(blind, torch.where(seen, torch.inf, 0.0), gap / size)
        error = torch.where(kept.any(1), error, torch.inf)
        round_off = (lost / size).nan_to_num(nan=torch.inf)
        best = error.argmin(0, keepdim=True)
        found, excluded, round_off = (v.gather(0, best)[0] for v in (error, self.kinked.sum(1), round_off))
        return Agreement(found, excluded, gradient.shape[0], ~seen, round_off)


@dataclass(frozen=True)
class Agreement:
    """How a gradient of n entries agrees with differences.

    Attributes
    ----------
    error : relative, in norm over the entries without a kink, best over the steps (*batch); infinite where none is,
        and of a gradient of zero where differences see a slope. Steps that see none are left out where others do.
        Entries that a kink sent to a smaller step are granted the round-off of that.
    excluded : entries left out at that step because of a kink (*batch), of ``size``.
    unseen : where no step sees a slope: the whole gradient is zero, or too small for differences (*batch).
    round_off : of the differences at that step, as a share of the gradient (*batch): errors below it mean nothing.
    """

    error: Tensor
    excluded: Tensor
    size: int
    unseen: Tensor
    round_off: Tensor


def differences(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    scale: Tensor | None = None,
    steps: Sequence[float] = STEPS,
    round_off: float | None = None,
) -> Differences:
    """Central differences of a function by every entry of ``x (n,)``, with kinks found.

    Parameters
    ----------
    function : points (N, n) -> values (N, *batch); all points of all steps are asked for at once.
    scale : size of every entry (n,), by which steps are multiplied; the entry itself by default, or one where that is
        near zero.
    steps : at least two, falling.
    round_off : error of a value, as a share of one plus its size; 1e-14 by default in float64, as much more in float32.
    """
    if len(steps) < 2 or sorted(steps, reverse=True) != list(steps):
        raise ConfigError(f"Differences need at least two steps, the largest first, got {tuple(steps)}.")
    n, k = len(x), len(steps)
    scale = own_size(x) if scale is None else scale
    h = torch.as_tensor(steps, dtype=x.dtype, device=x.device)[:, None] * scale
    shifts = torch.diag_embed(h)
    points = torch.cat([x[None], (x + shifts).reshape(-1, n), (x - shifts).reshape(-1, n)])
    values = function(points).detach()
    middle, ends = values[0], values[1:].reshape(2, k, n, *values.shape[1:])
    h = h.reshape(k, n, *(1,) * middle.ndim)
    right, left = (ends[0] - middle) / h, (middle - ends[1]) / h
    jump, central = (right - left).abs(), 0.5 * (right + left)
    noise = _round_off(round_off, x) * (1.0 + middle.abs()) / h
    return Differences(*_smaller(central, _kinked(jump, h, noise), noise), middle)


def _kinked(jump: Tensor, h: Tensor, noise: Tensor) -> Tensor:
    """Whether a stencil holds a kink, from the gap between one-sided differences; all (K, n, *batch).

    The gap of a smooth function falls with the step, that of round-off rises, that of a kink does neither: it stays
    over three steps, or falls to that of the curvature at once. A kink within a stencil is within the larger ones, too;
    and a smaller one is free of it only where round-off would have let it be seen.
    """
    curvature = ((jump + noise) / h).amin(0)
    within = jump > 5.0 * curvature * h + 10.0 * noise
    within[1:] &= jump[:-1] > 0.3 * jump[1:]
    ratio = jump[:-1] / jump[1:].clamp_min(torch.finfo(jump.dtype).tiny)
    same = (ratio > 0.3) & (ratio < 3.0) & (jump[1:] > noise[1:])
    for three in (within[:-2], within[1:-1], within[2:]):
        three |= same[:-1] & same[1:]
    # two will do where round-off is far below; the largest steps may see the same by a change of curvature
    clear = same[1:] & (jump[2:] > 5.0 * noise[2:])
    for two in (within[1:-1], within[2:]):
        two |= clear
    within = within.flip(0).cummax(0).values.flip(0)
    count = within.sum(0, keepdim=True)
    seen = jump.gather(0, (count - 1).clamp_min(0))
    return within | ((count > 0) & (10.0 * noise >= seen))


def _smaller(central: Tensor, kinked: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Take the place of differences over a kink by those of the next step: a best step must not hide an entry."""
    central, noise = central.clone(), noise.expand_as(central).clone()
    moved, left = kinked, kinked.clone()
    for i in range(len(central) - 2, -1, -1):
        for value in (central, noise):
            value[i] = torch.where(kinked[i], value[i + 1], value[i])
        left[i] &= left[i + 1]
    return central, left, noise, torch.where(moved, noise, 0.0)


@dataclass(frozen=True)
class Taylor:
    """Remainders of a Taylor expansion along one direction, at falling steps.

    Attributes
    ----------
    steps : (K,); ``zeroth`` : |f(x + h d) - f(x)|; ``first`` : |f(x + h d) - f(x) - h <gradient, d>|.
    order : how the first remainder falls with the step: 2 for the right gradient of a smooth function, 1 for a wrong
        one. Infinite where the remainder is round-off at every step, as it is for a linear function.
    """

    steps: Tensor
    zeroth: Tensor
    first: Tensor
    order: float


def taylor_test(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    gradient: Tensor | None = None,
    direction: Tensor | None = None,
    steps: Sequence[float] = tuple(0.02 * 0.5**i for i in range(6)),
    round_off: float | None = None,
    seed: int = 0,
) -> Taylor:
    """Taylor-remainder test of a gradient (as in Farrell et al. 2013, SIAM J. Sci. Comput. 35:C369, section 6).

    Parameters
    ----------
    function : x of any shape -> one number.
    gradient : at x, in its shape; by autograd when left out.
    direction : in the shape of x; by default random, as large as x entry by entry (or of order one near zero).
    """
    x = x.detach()
    if gradient is None:
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(leaf), leaf)
    if direction is None:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(x.shape, generator=generator, dtype=x.dtype, device="cpu").to(x.device)
        direction = drawn * own_size(x)
    slope = (gradient * direction).sum()
    with torch.no_grad():
        base = function(x)
        moved = torch.stack([function(x + h * direction) for h in steps]) - base
    h = torch.as_tensor(steps, dtype=x.dtype, device=x.device)
    first = (moved - h * slope).abs()
    seen = first > 10.0 * _round_off(round_off, x) * (1.0 + base.abs())
    return Taylor(h, moved.abs(), first, _order(h[seen], first[seen]))


def _round_off(given: float | None, like: Tensor) -> float:
    return ROUND_OFF * torch.finfo(like.dtype).eps if given is None else given


def _order(h: Tensor, remainder: Tensor) -> float:
    """Median slope of the remainder between neighbouring steps, both in logarithms."""
    if len(h) < 2:
        return float("inf")
    return float((remainder.log().diff() / h.log().diff()).median())


def dot_product_test(
    push: Callable[[Tensor], Tensor], pull: Callable[[Tensor], Tensor], tangent: Tensor, cotangent: Tensor
) -> float:
    """Relative difference of <J u, w> and <u, J^T w>: whether a forward and an adjoint derivative belong together.

    Parameters
    ----------
    push : tangent u -> J u; ``pull`` : cotangent w -> J^T w, in the shape of u.

    Returns
    -------
    The difference as a share of |J u| |w|, which does not vanish where the two are orthogonal.
    """
    with torch.no_grad():
        along = push(tangent)
        size = along.norm() * cotangent.norm()
        gap = ((along * cotangent).sum() - (tangent * pull(cotangent)).sum()).abs()
    return float(gap / size) if float(size) else float(gap)
