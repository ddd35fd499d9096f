"""The two right-hand sides in JAX, and compiled ``lax.scan`` marches with one step a day.

What no store influences is computed for all days inside the compiled function, before the march.
"""

from __future__ import annotations

import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from .contestant import Contestant
from .task import WIDTH, Task

jax.config.update("jax_enable_x64", True)

NEWTON = 4
"""Newton iterations of every implicit step, a fixed number so that reverse mode can unroll them."""


def switch(x):
    return 0.5 * (1.0 + jnp.tanh(x / WIDTH))


def potential_evaporation(temp, dayl):
    return 29.8 * dayl * 0.611 * jnp.exp(17.3 * temp / (temp + 237.3)) / (temp + 273.2)


def weather(theta, prcp, temp, pet):
    """What no store influences, on one day or all."""
    snowfall = switch(theta["tmin"] - temp) * prcp
    warmth = temp - theta["tmax"]
    return snowfall, prcp - snowfall, theta["ddf"] * warmth, switch(warmth), pet, prcp, temp


def formula_fluxes(params, day, snow, soil):
    theta, pet = params["theta"], day[4]
    above = soil - theta["smax"]
    full, wet = switch(above), switch(soil)
    below = 1.0 - full
    et = wet * pet * (full + below * soil / theta["smax"])
    base = theta["qmax"] * (full + below * jnp.exp(theta["f"] * jnp.minimum(above, 0.0)))
    return et, wet * (base + full * above)


def neural_fluxes(params, day, snow, soil):
    _, _, _, _, pet, prcp, temp = day
    share = jax.nn.sigmoid(latent(params["networks"]["et"], snow, soil, temp))
    rate = jax.nn.softplus(latent(params["networks"]["discharge"], soil, prcp))
    return jnp.minimum(soil, share * pet), jnp.minimum(soil, rate)


def latent(network, *inputs):
    x = (jnp.stack(inputs, axis=-1) - network["centre"]) / network["spread"]
    for w, b in zip(network["weights"][:-1], network["biases"][:-1], strict=True):
        x = jnp.tanh(x @ w + b)
    return (x @ network["weights"][-1] + network["biases"][-1])[..., 0]


def rates(fluxes, params, day, snow, soil):
    """Tendencies of snow and soil, and discharge."""
    snowfall, rainfall, potential, melting = day[:4]
    melt = melting * switch(snow) * jnp.minimum(snow, potential)
    et, discharge = fluxes(params, day, snow, soil)
    return snowfall - melt, rainfall + melt - et - discharge, discharge


def euler_step(f, snow, soil):
    a, b, q = f(snow, soil)
    return snow + a, soil + b, q


def rk4_step(f, snow, soil):
    a1, b1, q1 = f(snow, soil)
    a2, b2, q2 = f(snow + 0.5 * a1, soil + 0.5 * b1)
    a3, b3, q3 = f(snow + 0.5 * a2, soil + 0.5 * b2)
    a4, b4, q4 = f(snow + a3, soil + b3)

    def mean(k1, k2, k3, k4):
        return (k1 + 2.0 * k2 + 2.0 * k3 + k4) / 6.0

    return snow + mean(a1, a2, a3, a4), soil + mean(b1, b2, b3, b4), mean(q1, q2, q3, q4)


def backward_euler_step(f, snow, soil):
    """A fixed number of Newton iterations from the state before; the 2 x 2 system in closed form."""
    x, y, one = snow, soil, jnp.ones_like(snow)
    for _ in range(NEWTON):
        # both columns of the Jacobian by forward mode; the compiler merges the two evaluations of the rates
        (a, b, _), (axx, byx, _) = jax.jvp(f, (x, y), (one, 0.0 * one))
        _, (axy, byy, _) = jax.jvp(f, (x, y), (0.0 * one, one))
        r, s = x - snow - a, y - soil - b
        m11, m12, m21, m22 = 1.0 - axx, -axy, -byx, 1.0 - byy
        det = m11 * m22 - m12 * m21
        x, y = x - (m22 * r - m12 * s) / det, y - (m11 * s - m21 * r) / det
    return x, y, f(x, y)[2]


STEPS = {"euler": euler_step, "rk4": rk4_step, "backward euler": backward_euler_step}


class Jax(Contestant):
    """A compiled function of (params, data) that returns daily discharge volumes, with reverse-mode gradient."""

    def __init__(self, name: str, task: Task, **limits):
        super().__init__(name, task, **limits)
        task = self.task
        self.fluxes = neural_fluxes if task.neural else formula_fluxes
        self.data = {n: jnp.asarray(v) for n, v in task.arrays().items()}
        networks = {
            n: {"weights": [jnp.asarray(w) for w in law["weights"]], "biases": [jnp.asarray(b) for b in law["biases"]]}
            for n, law in task.networks().items()
        }
        self.params = {
            "theta": {n: jnp.asarray(v.numpy()) for n, v in task.theta.items()},
            "networks": networks,
            "storage0": jnp.asarray(task.storage0.numpy()),
        }
        self.scales = {n: (law["centre"], law["spread"]) for n, law in task.networks().items()}

    def discharge(self, params, data):
        """(T, B) mm."""
        raise NotImplementedError

    def complete(self, params):
        """Parameters with the fixed input scales of the networks put beside their weights."""
        networks = {
            n: {**law, "centre": self.scales[n][0], "spread": self.scales[n][1]}
            for n, law in params["networks"].items()
        }
        return {**params, "networks": networks}

    def loss(self, params, data, days):
        error = self.discharge(params, data) - data["observed"]
        inside = (jnp.arange(len(error)) < days)[:, None]
        # where, not a product: what happens after these days must not matter
        return jnp.sum(jnp.where(inside, error, 0.0) ** 2) / (days * error.shape[1])

    def prepare(self) -> float:
        started = time.perf_counter()
        self.run = jax.jit(self.discharge).lower(self.params, self.data).compile()
        gradient = jax.jit(jax.value_and_grad(self.loss))
        self.differentiate = gradient.lower(self.params, self.data, self.task.days).compile()
        return time.perf_counter() - started

    def forward(self) -> np.ndarray:
        return np.asarray(self.run(self.params, self.data))

    def value_and_gradient(self, days: int) -> tuple[float, np.ndarray]:
        value, found = jax.block_until_ready(self.differentiate(self.params, self.data, days))
        networks = [found["networks"][n] for n in self.params["networks"]]
        theta = [found["theta"][n] for n in self.params["theta"]]
        return float(value), self.task.flatten(theta, networks, found["storage0"])


class Scan(Jax):
    """``lax.scan`` over the days."""

    def __init__(self, name: str, task: Task, step: str, **limits):
        super().__init__(name, task, **limits)
        self.step = STEPS[step]
        # measured: unrolling makes explicit steps of one basin faster, those of many basins and longer steps slower
        self.unroll = 4 if step == "euler" and task.basins == 1 else 1

    def march(self, params, data):
        """Storages at the end of every day and discharge volumes."""
        params = self.complete(params)
        pet = potential_evaporation(data["temp"], data["dayl"])
        days = weather(params["theta"], data["prcp"], data["temp"], pet)

        def one_day(state, day):
            snow, soil, q = self.step(partial(rates, self.fluxes, params, day), *state)
            return (snow, soil), (snow, soil, q)

        start = params["storage0"][:, 0], params["storage0"][:, 1]
        return jax.lax.scan(one_day, start, days, unroll=self.unroll)[1]

    def discharge(self, params, data):
        return self.march(params, data)[2]

    def residual(self) -> float:
        """Largest residual of an implicit step [mm]."""
        snow, soil, _ = jax.jit(self.march)(self.params, self.data)
        params = self.complete(self.params)
        pet = potential_evaporation(self.data["temp"], self.data["dayl"])
        days = weather(params["theta"], self.data["prcp"], self.data["temp"], pet)
        a, b, _ = rates(self.fluxes, params, days, snow, soil)
        start = params["storage0"]
        before = [jnp.concatenate([start[None, :, i], y[:-1]]) for i, y in enumerate((snow, soil))]
        found = [jnp.abs(y - last - f).max() for y, last, f in zip((snow, soil), before, (a, b), strict=True)]
        return float(max(found))
