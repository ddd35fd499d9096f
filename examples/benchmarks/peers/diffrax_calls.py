"""diffrax, compiled: discharge is a third state that only accumulates, daily volumes are its differences.

Forcing jumps at midnight, so no step may see the day after it. Constant steps run from just after midnight to just
before the next one (``EveryDay``); adaptive ones are cut there by diffrax's own ``jump_ts``. What depends on parameters
is computed inside the vector field: series that want a gradient would give every step a cotangent of their length.
"""

from __future__ import annotations

import diffrax
import equinox.internal as eqxi
import jax.numpy as jnp
import optimistix

from .jax_models import Jax, potential_evaporation, rates, weather
from .task import Task

ASIDE = 1e-6
"""Days before midnight at which the backsolve adjoint samples, so that its reverse steps start on the right day."""


class EveryDay(diffrax.AbstractStepSizeController):
    """One step a day, from just after midnight to just before the next."""

    def wrap(self, direction):
        return self

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
        return eqxi.prevbefore(t0 + 1.0), None

    def adapt_step_size(self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state):
        midnight = jnp.round(t1)
        jumped = jnp.asarray(True)
        return True, midnight, eqxi.prevbefore(midnight + 1.0), jumped, None, diffrax.RESULTS.successful


SOLVERS = {
    "Heun": diffrax.Heun,
    "Tsit5": diffrax.Tsit5,
    "Kvaerno3": lambda: diffrax.Kvaerno3(root_finder=_newton()),
    "implicit Euler": lambda: diffrax.ImplicitEuler(root_finder=_newton()),
}


def _newton():
    return optimistix.Newton(rtol=1e-9, atol=1e-9)


class Diffrax(Jax):
    """A constant step a day, or adaptive steps cut at midnight where ``tolerance`` is given."""

    def __init__(self, name: str, task: Task, solver: str, tolerance: float | None = None, **limits):
        super().__init__(name, task, **limits)
        self.solver, self.tolerance = SOLVERS[solver](), tolerance

    def field(self, t, state, args):
        params, raw = args
        k = jnp.clip(jnp.floor(t).astype(int), 0, self.task.days - 1)
        day = weather(params["theta"], *(r[k] for r in raw))
        snow, soil, _ = state
        return rates(self.fluxes, params, day, snow, soil)

    def discharge(self, params, data):
        start = params["storage0"][:, 0], params["storage0"][:, 1]
        pet = potential_evaporation(data["temp"], data["dayl"])
        args = self.complete(params), (data["prcp"], data["temp"], pet)
        accumulated = self.solve((*start, jnp.zeros_like(start[0])), args)
        return jnp.diff(accumulated, axis=0, prepend=jnp.zeros_like(accumulated[:1]))

    def solve(self, start, args):
        """Accumulated discharge at the end of every day (T, B)."""
        days, field = self.task.days, diffrax.ODETerm(self.field)
        if self.tolerance is None:
            controller, limit = EveryDay(), days
            save = diffrax.SaveAt(steps=True, fn=lambda t, y, args: y[2])
        else:
            midnights = jnp.arange(1.0, days)
            inner = diffrax.PIDController(rtol=self.tolerance, atol=self.tolerance, dtmax=1.0)
            controller, limit = diffrax.ClipStepSizeController(inner, jump_ts=midnights), 16 * days
            save = diffrax.SaveAt(ts=jnp.append(midnights, float(days)), fn=lambda t, y, args: y[2])
        return diffrax.diffeqsolve(
            field,
            self.solver,
            0.0,
            float(days),
            1.0 if self.tolerance else None,
            start,
            args,
            saveat=save,
            stepsize_controller=controller,
            max_steps=limit,
        ).ys


class DiffraxBacksolve(Diffrax):
    """The continuous adjoint. Midpoint steps of a day, because their stages never touch the end of the day."""

    def __init__(self, name: str, task: Task, **limits):
        super(Diffrax, self).__init__(name, task, **limits)

    def solve(self, start, args):
        days = self.task.days
        return diffrax.diffeqsolve(
            diffrax.ODETerm(self.field),
            diffrax.Midpoint(),
            0.0,
            float(days),
            1.0,
            start,
            args,
            saveat=diffrax.SaveAt(ts=jnp.arange(1.0, days + 1.0) - ASIDE),
            adjoint=diffrax.BacksolveAdjoint(),
            max_steps=days + 1,
        ).ys[2]
