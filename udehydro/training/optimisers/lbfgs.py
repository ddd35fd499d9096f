"""L-BFGS for independent members, each with its own curvature and line search."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.training.optimisers.base import Evaluate, Saved, chosen, evaluated, merged

ACTIVE, CONVERGED, STALLED, FAILED = range(4)
"""Status of a member; FAILED: loss or gradient were not finite where it started."""


@dataclass(frozen=True)
class LBFGSState(Saved):
    """Accepted point of every member, its curvature history, and the line search under way."""

    x: Tensor  # (M, P) accepted point
    loss: Tensor  # (M,) there
    gradient: Tensor  # (M, P) there
    status: Tensor  # (M,) ACTIVE, CONVERGED, STALLED or FAILED
    iterations: Tensor  # (M,) accepted points
    evaluations: Tensor  # (M,) tried points
    flat: Tensor  # (M,) accepted points in a row that hardly lowered the loss
    moves: Tensor  # (M, memory, P) x_new - x_old, newest first, 0 where there is none
    turns: Tensor  # (M, memory, P) gradient_new - gradient_old
    weights: Tensor  # (M, memory) 1 / (move . turn), 0 where there is none yet
    direction: Tensor  # (M, P) of the line search; the next trial is x + length direction
    length: Tensor  # (M,) of the next trial
    trials: Tensor  # (M,) in this line search
    low: Tensor  # (M,) longest length known to lower the loss enough while still going downhill
    low_loss: Tensor  # (M,) there
    low_slope: Tensor  # (M,) there
    low_gradient: Tensor  # (M, P) there
    high: Tensor  # (M,) shortest length known to be too long, or infinity
    high_loss: Tensor  # (M,) there
    high_slope: Tensor  # (M,) there

    @property
    def active(self) -> Tensor:
        """``(M,)`` members still at work."""
        return self.status == ACTIVE


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS (Nocedal and Wright 2006, alg. 7.5) with a strong-Wolfe search per member.

    A trial at length t is accepted if ``f(t) <= f(0) + c1 t f'(0)`` (``decrease`` c1) and
    ``|f'(t)| <= c2 |f'(0)|`` (``curvature`` c2). At a kink the second may hold nowhere: after
    ``strong_trials`` trials ``f'(t) >= c2 f'(0)`` is enough (Lewis and Overton 2013). Intervals shrink by
    safeguarded cubic interpolation. A trial with a non-finite loss or gradient is too long, never accepted.

    Parameters
    ----------
    memory : int
        Pairs of move and turn kept per member.
    first_step : float
        Longest first trial along the bare gradient, Euclidean norm in units of x.
    max_step : float
        Longest move between accepted points.
    gradient_tolerance : float
        A member has converged when no entry of its gradient is larger,
    loss_tolerance : float
        or when three accepted points in a row lower its loss by less than this fraction.
    max_trials : int
        Trials in one line search. After that the longest step known to go down is taken; without one, the
        member forgets its history and starts along the gradient; if that fails too it is marked STALLED.
    """

    memory: int = 10
    first_step: float = 1.0
    max_step: float = math.inf
    gradient_tolerance: float = 1e-8
    loss_tolerance: float = 1e-12
    decrease: float = 1e-4
    curvature: float = 0.9
    strong_trials: int = 5
    max_trials: int = 25

    def __post_init__(self) -> None:
        if not (self.memory >= 1 and self.max_trials >= self.strong_trials >= 1):
            raise ConfigError("LBFGS needs memory >= 1 and max_trials >= strong_trials >= 1.")
        if not 0 < self.decrease < self.curvature < 1:
            raise ConfigError(f"LBFGS needs 0 < decrease < curvature < 1, not {self.decrease}, {self.curvature}.")
        if not (self.first_step > 0 and self.max_step > 0):
            raise ConfigError("LBFGS needs positive first_step and max_step.")

    def init(self, x: Tensor, evaluate: Evaluate) -> LBFGSState:
        x = x.detach().clone()
        loss, gradient, finite = evaluated(evaluate, x)
        done = gradient.abs().amax(1) <= self.gradient_tolerance
        zero, count = torch.zeros_like(loss), torch.zeros_like(loss, dtype=torch.int64)
        history = x.new_zeros(x.shape[0], self.memory, x.shape[1])
        state = LBFGSState(
            x=x,
            loss=loss,
            gradient=gradient,
            status=torch.where(finite, torch.where(done, CONVERGED, ACTIVE), FAILED),
            iterations=count,
            evaluations=count + 1,
            flat=count,
            moves=history,
            turns=history,
            weights=x.new_zeros(x.shape[0], self.memory),
            direction=-gradient,
            length=zero,
            trials=count,
            low=zero,
            low_loss=loss,
            low_slope=zero,
            low_gradient=gradient,
            high=zero + math.inf,
            high_loss=zero,
            high_slope=zero,
        )
        return self._search_from(state, finite)

    def step(self, state: LBFGSState, evaluate: Evaluate) -> LBFGSState:
        trial = _along(state, state.length)
        loss, gradient, finite = evaluated(evaluate, trial)
        falls, downhill, enough = self._judged(state, loss, gradient, finite)
        spent = state.trials + 1 >= self.max_trials
        search = self._narrowed(state, falls & downhill, loss, gradient)
        search = replace(search, trials=state.trials + 1, evaluations=state.evaluations + 1)
        search = merged(state.active, search, state)
        accepted = state.active & enough
        rescued = state.active & ~enough & spent & (search.low > 0)
        failed = state.active & ~enough & spent & ~(search.low > 0)
        moved = self._moved(
            search,
            accepted | rescued,
            chosen(accepted, trial, _along(search, search.low)),
            chosen(accepted, loss, search.low_loss),
            chosen(accepted, gradient, search.low_gradient),
        )
        return self._search_from(_forgotten(moved, failed), accepted | rescued | failed)

    def resume(self, tensors: dict[str, Tensor]) -> LBFGSState:
        return LBFGSState.from_tensors(tensors)

    def _longest(self, state: LBFGSState) -> Tensor:
        """Length ``(M,)`` at which a move reaches ``max_step``."""
        return self.max_step / state.direction.norm(dim=1)

    def _judged(self, state: LBFGSState, loss: Tensor, gradient: Tensor, finite: Tensor) -> tuple[Tensor, ...]:
        """Whether the trial lowers the loss enough, is still going downhill, and is to be accepted."""
        slope, slope_0 = _dot(gradient, state.direction), _dot(state.gradient, state.direction)
        # Near the minimum losses differ by round-off only; without slack nothing there would be acceptable.
        slack = 4 * torch.finfo(loss.dtype).eps * state.loss.abs()
        falls = finite & (loss <= state.loss + self.decrease * state.length * slope_0 + slack)
        downhill = slope < self.curvature * slope_0
        level = slope.abs() <= -self.curvature * slope_0
        weak = ~downhill & (state.trials + 1 >= self.strong_trials)
        at_limit = downhill & (state.length >= self._longest(state))
        return falls, downhill, falls & (level | weak | at_limit)

    def _narrowed(self, state: LBFGSState, longer: Tensor, loss: Tensor, gradient: Tensor) -> LBFGSState:
        """The trial becomes the lower end of the search where ``longer``, else the upper; next length."""
        slope = _dot(gradient, state.direction)
        low = replace(state, low=state.length, low_loss=loss, low_slope=slope, low_gradient=gradient)
        high = replace(state, high=state.length, high_loss=loss, high_slope=slope)
        new = merged(longer, low, high)
        secant = state.length + (state.length - state.low) * slope / (state.low_slope - slope)
        secant = torch.where(slope > state.low_slope, secant, math.inf)
        beyond = torch.minimum(secant.clamp(2 * state.length, 10 * state.length), self._longest(state))
        return replace(new, length=torch.where(new.high.isfinite(), _between(new), beyond))

    def _moved(self, state: LBFGSState, mask: Tensor, x: Tensor, loss: Tensor, gradient: Tensor) -> LBFGSState:
        """Members in ``mask`` accept the point and remember the curvature on the way there."""
        move, turn = x - state.x, gradient - state.gradient
        product = _dot(move, turn)
        size = move.norm(dim=1) * turn.norm(dim=1)
        curved = mask & (product > torch.finfo(loss.dtype).eps * size)  # else the estimate is not convex
        weight = 1 / torch.where(curved, product, 1)
        tolerance = max(self.loss_tolerance, 2 * torch.finfo(loss.dtype).eps)
        flat = torch.where(state.loss - loss <= tolerance * loss.abs(), state.flat + 1, 0)
        done = (gradient.abs().amax(1) <= self.gradient_tolerance) | (flat >= 3)
        new = replace(
            state,
            x=x,
            loss=loss,
            gradient=gradient,
            status=torch.where(done, CONVERGED, state.status),
            iterations=state.iterations + 1,
            flat=flat,
        )
        return replace(
            merged(mask, new, state),
            moves=chosen(curved, _pushed(move, state.moves), state.moves),
            turns=chosen(curved, _pushed(turn, state.turns), state.turns),
            weights=chosen(curved, _pushed(weight, state.weights), state.weights),
        )

    def _search_from(self, state: LBFGSState, mask: Tensor) -> LBFGSState:
        """Members in ``mask`` start a line search at their point; those no longer active get length 0."""
        direction = _quasi_newton(state)
        downhill = direction.isfinite().all(1) & (_dot(direction, state.gradient) < 0)
        # Round-off in an ill-conditioned history can turn the direction uphill: then it is forgotten.
        usable = downhill & (state.weights[:, 0] > 0)
        direction = chosen(usable, direction, -state.gradient)
        norm = direction.norm(dim=1)
        zero = torch.zeros_like(state.loss)
        first = torch.where(usable, zero + self.max_step, min(self.first_step, self.max_step)) / norm
        new = replace(
            state,
            weights=chosen(usable, state.weights, torch.zeros_like(state.weights)),
            direction=direction,
            length=torch.where(norm > 0, first.clamp(max=1), 0),
            trials=torch.zeros_like(state.trials),
            low=zero,
            low_loss=state.loss,
            low_slope=_dot(direction, state.gradient),
            low_gradient=state.gradient,
            high=zero + math.inf,
        )
        new = merged(mask, new, state)
        return replace(new, length=torch.where(new.active, new.length, 0))


def _along(state: LBFGSState, length: Tensor) -> Tensor:
    return state.x + length[:, None] * state.direction


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product per member. A plain sum: batched matmul may round differently with another M."""
    return (a * b).sum(-1)


def _pushed(newest: Tensor, history: Tensor) -> Tensor:
    """``history (M, memory, ...)`` with ``newest (M, ...)`` in front and the oldest dropped."""
    return torch.cat([newest[:, None], history[:, :-1]], dim=1)


def _forgotten(state: LBFGSState, failed: Tensor) -> LBFGSState:
    """Members whose search failed lose their history; those that had none are stalled."""
    stalled = failed & ~(state.weights[:, 0] > 0)
    weights = chosen(failed, torch.zeros_like(state.weights), state.weights)
    return replace(state, weights=weights, status=torch.where(stalled, STALLED, state.status))


def _quasi_newton(state: LBFGSState) -> Tensor:
    """``-H gradient``, two-loop recursion (Nocedal and Wright 2006, alg. 7.4); empty pairs do nothing."""
    pairs = list(zip(state.moves.unbind(1), state.turns.unbind(1), state.weights.unbind(1), strict=True))
    direction, shares = -state.gradient, []
    for move, turn, weight in pairs:  # newest first
        shares.append(weight * _dot(move, direction))
        direction = direction - shares[-1][:, None] * turn
    _, turn, weight = pairs[0]
    scale = torch.where(weight > 0, 1 / (weight * _dot(turn, turn)), 1)  # eq. 7.20
    direction = scale[:, None] * direction
    for (move, turn, weight), share in zip(reversed(pairs), reversed(shares), strict=True):
        direction = direction + (share - weight * _dot(turn, direction))[:, None] * move
    return direction


def _between(state: LBFGSState) -> Tensor:
    """Length inside (low, high): minimum of the cubic (Nocedal and Wright 2006, eq. 3.59), safeguarded."""
    width = state.high - state.low
    a = state.low_slope + state.high_slope + 3 * (state.low_loss - state.high_loss) / width
    b = (a.square() - state.low_slope * state.high_slope).sqrt()
    cubic = state.high - width * (state.high_slope + b - a) / (state.high_slope - state.low_slope + 2 * b)
    # Bisecting every third time bounds the number of trials, as interpolation alone does not.
    trusted = cubic.isfinite() & state.high_loss.isfinite() & (state.trials % 3 != 2)
    inside = cubic.clamp(state.low + 0.05 * width, state.high - 0.05 * width)
    return torch.where(trusted, inside, state.low + 0.5 * width)
