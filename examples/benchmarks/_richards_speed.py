"""Speed of the column against the same equations given to integrators of scipy, at comparable errors."""

from __future__ import annotations

import numpy as np
import torch
from _report import table
from _richards_common import clocked, lost
from scipy.integrate import solve_ivp

from udehydro import Forcing
from udehydro.richards.column import Adaptive, Column, Grid, Head, flow
from udehydro.richards.exact import CASES
from udehydro.richards.laws import VanGenuchten

CELLS, BATCH, SAMPLE, REPEATS = 100, 1000, 4, 5
CASE = CASES["celia"]
OURS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
THEIRS = {"LSODA": (1e-4, 1e-5, 1e-6, 1e-7), "BDF": (1e-3, 1e-4, 1e-5, 1e-6)}
NAMES = ("theta_r", "theta_s", "alpha", "n", "Ks")


def run() -> dict:
    true = lines("LSODA", 1e-11, conductivities(1)[0])[0]
    check = lines("BDF", 1e-10, conductivities(1)[0])[0]
    ways = {f"ours, {t:g}": (lambda t=t: ours(t)) for t in OURS}
    ways |= {f"{m}, {t:g}": (lambda m=m, t=t: theirs(m, t)) for m, ts in THEIRS.items() for t in ts}
    found = {name: judged(call(), true) for name, call in ways.items()}
    seconds = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, call in ways.items():
            seconds[name].append(clocked(call)[1])
    for name, several in seconds.items():
        found[name] |= {"seconds": float(np.median(several)), "all": several}
    apart = {"references": float(np.abs(true - check).max()), "cells": float(np.abs(true - finer()).max())}
    return {"one": found, "apart": apart, "many": many(), "gradient": gradient()}


def conductivities(columns: int) -> np.ndarray:
    """Ks of columns: the first that of the case, the others spread around it by a fifth."""
    spread = np.random.default_rng(0).normal(0.0, 0.2, columns)
    spread[0] = 0.0
    return CASE.soil["Ks"] * np.exp(spread)


def ours(tolerance: float, ks: np.ndarray | None = None, grad: bool = False, cells: int = CELLS):
    """A run of one column, or of one for every conductivity."""
    soil = {n: torch.tensor(CASE.soil[n]) for n in NAMES}
    batch = () if ks is None else (len(ks),)
    soil["Ks"] = torch.as_tensor(conductivities(1)[0] if ks is None else ks)
    if grad:
        soil = {n: v.expand(batch).clone().requires_grad_() for n, v in soil.items()}
    column = Column(Grid.uniform(CASE.length, cells), VanGenuchten(), Head(CASE.psi_top), Head(CASE.psi_base))
    clock = Forcing.clock(days=[0.0, *CASE.times], batch=batch)
    found = flow(column, clock, soil, CASE.psi_i, steps=Adaptive(tolerance))
    if grad:
        found.storage[-1].sum().backward()
    return found


def finer() -> np.ndarray:
    """Water contents of the cells, as means of eight times finer ones."""
    found = ours(1e-5, cells=8 * CELLS).theta[1:].numpy()
    return found.reshape(len(found), CELLS, -1).mean(-1)


def theirs(method: str, tolerance: float):
    return lines(method, tolerance, conductivities(1)[0])


def lines(method: str, tolerance: float, ks: float) -> tuple[np.ndarray, float, int]:
    """Water contents (time, cell), balance error [cm] and steps of the method of lines for the heads of the cells.

    Cells and fluxes are those of the column: half cells at both ends, means of conductivities. The first and the last
    unknown are what has moved through the ends; all depends on neighbours only, which both integrators are told.
    """
    dz, theta, capacity, conductivity = CASE.length / CELLS, *curves(ks)
    distance = np.full(CELLS + 1, dz)
    distance[[0, -1]] = 0.5 * dz

    def rates(t: float, y: np.ndarray) -> np.ndarray:
        psi = np.concatenate([[CASE.psi_top], y[1:-1], [CASE.psi_base]])
        k = conductivity(psi)
        down = 0.5 * (k[1:] + k[:-1]) * (1.0 - np.diff(psi) / distance)
        inner = (down[:-1] - down[1:]) / (dz * capacity(y[1:-1]))
        return np.concatenate([[down[0]], inner, [down[-1]]])

    y0 = np.concatenate([[0.0], np.full(CELLS, CASE.psi_i), [0.0]])
    banded = {"lband": 1, "uband": 1} if method == "LSODA" else {"jac_sparsity": sparsity(CELLS + 2)}
    found = solve_ivp(
        rates, (0.0, CASE.times[-1]), y0, method, t_eval=CASE.times, rtol=tolerance, atol=tolerance, **banded
    )
    if not found.success:
        raise RuntimeError(f"{method} at {tolerance:g}: {found.message}")
    held = theta(found.y[1:-1].T)
    gain = (held - theta(np.array(CASE.psi_i))).sum(1) * dz
    return held, float(np.abs(gain - (found.y[0] - found.y[-1])).max()), int(found.nfev)


def sparsity(n: int) -> np.ndarray:
    return np.tri(n, n, 1) - np.tri(n, n, -2)


def curves(ks: float):
    """Van Genuchten's water content, its slope and conductivity for arrays of heads below zero."""
    s = CASE.soil
    m = 1.0 - 1.0 / s["n"]
    span = s["theta_s"] - s["theta_r"]

    def theta(psi):
        return s["theta_r"] + span * (1.0 + (-s["alpha"] * psi) ** s["n"]) ** -m

    def capacity(psi):
        x = (-s["alpha"] * psi) ** s["n"]
        return span * m * s["n"] * x / -psi * (1.0 + x) ** (-m - 1.0)

    def conductivity(psi):
        saturation = (1.0 + (-s["alpha"] * psi) ** s["n"]) ** -m
        return ks * saturation ** s["l"] * (1.0 - (1.0 - saturation ** (1.0 / m)) ** m) ** 2

    return theta, capacity, conductivity


def judged(found, true: np.ndarray) -> dict:
    """Errors of water content against steps that cost nothing, of the balance, and steps or calls of the equations."""
    if isinstance(found, tuple):
        held, missed, calls = found
        return {"error": float(np.abs(held - true).max()), "lost": missed, "calls": calls}
    off = np.abs(found.theta[1:].numpy() - true).max()
    steps, iterations = int(found.accepted + found.rejected), int(found.iterations)
    missed = lost(found) * float(found.storage[-1])
    return {"error": float(off), "lost": missed, "steps": steps, "calls": iterations}


def many(tolerance: float = 1e-4) -> dict:
    """A thousand columns at once; scipy takes a few of them one after the other."""
    ks, found, counts = conductivities(BATCH), {"ours": [], **{m: [] for m in THEIRS}}, 0
    for _ in range(REPEATS):
        batch, seconds = clocked(lambda: ours(tolerance, ks))
        found["ours"].append(seconds)
        counts = int((batch.accepted + batch.rejected).sum())
        for method in THEIRS:
            _, seconds = clocked(lambda m=method: [lines(m, tolerance, k) for k in ks[:SAMPLE]])
            found[method].append(seconds * BATCH / SAMPLE)
    return {"seconds": found, "steps": counts}


def gradient(tolerance: float = 1e-4) -> dict:
    """Seconds of a run, and of one with the gradient of the water stored by five parameters: of one column, of many."""
    found = {}
    for name, ks in (("one", None), ("many", conductivities(BATCH))):
        pairs = []
        for _ in range(3):
            with torch.no_grad():
                plain = clocked(lambda ks=ks: ours(tolerance, ks))[1]
            pairs.append((plain, clocked(lambda ks=ks: ours(tolerance, ks, grad=True))[1]))
        found[name] = np.median(pairs, axis=0).tolist()
    return found


def section(found: dict) -> str:
    many, grad = found["many"], found["gradient"]
    rows = [
        [n, f"{np.median(s):.1f}", f"{1e3 * np.median(s) / BATCH:.1f}", share(many["seconds"]["ours"], s)]
        for n, s in many["seconds"].items()
    ]
    more = {n: with_ / plain for n, (plain, with_) in grad.items()}
    pace = many["steps"] / np.median(many["seconds"]["ours"])
    return f"""Celia's column (New Mexico, {CELLS} cells of 1 cm, one day) by ours, and by `solve_ivp` of scipy for the
heads of the same cells with the same fluxes, in numpy, their Jacobian known to be tridiagonal (LSODA is compiled code;
BDF is Python; both vary their order). Errors are the largest of water content at 0.25 and 1 d against LSODA at 1e-11 on
the same cells, so that they are those of time alone; BDF at 1e-10 has the same to {found["apart"]["references"]:.0e}.
Medians of {REPEATS} runs in turn.

{one_table(found["one"])}

{comparison(found["one"])}

Ours is of second order, and pays for small errors, where LSODA is the faster. The error of cells of 1 cm is
{found["apart"]["cells"]:.0e} here, at the front, far above those of time.

{BATCH} columns whose Ks differ, all at 1e-4: ours at once, {many["steps"]} steps in all, {pace:.0f} a second; scipy
{SAMPLE} columns one after the other, times {BATCH // SAMPLE}. Medians of {REPEATS}, and of shares (their range):

{table(["", "s", "ms a column", "time of ours as a share"], rows)}

With the gradient of the stored water by five parameters (of each column) ours takes {more["one"]:.1f} times a plain
run for one column ({grad["one"][1]:.2f} s), {more["many"]:.1f} times for {BATCH} ({grad["many"][1]:.1f} s);
the adjoint is torch's, step by step, in many small calls that a batch shares. Differences would take six runs of scipy,
and have its tolerance as noise."""


def share(mine: list[float], other: list[float]) -> str:
    """Median and range of ratios of runs in turn."""
    ratios = np.divide(mine, other)
    return f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"


def comparison(one: dict) -> str:
    """The fastest run of each integrator that is at least as good as ours at 1e-4."""
    mine, lines = one["ours, 0.0001"], []
    for method, tolerances in THEIRS.items():
        runs = [(f"{t:g}", one[f"{method}, {t:g}"]) for t in tolerances]
        fits = [pair for pair in runs if pair[1]["error"] <= mine["error"]]
        if fits:
            t, r = min(fits, key=lambda pair: pair[1]["seconds"])
            lines.append(
                f"{method} at {t} is at least as good as ours at 1e-4, which takes {share(mine['all'], r['all'])} of "
                f"its time; it misses {r['lost']:.0e} cm of water, ours {mine['lost']:.0e}."
            )
    return " ".join(lines)


def one_table(one: dict) -> str:
    rows = [
        [name, f"{r['error']:.1e}", f"{r['lost']:.0e}", str(r.get("steps", "")), str(r["calls"]), f"{r['seconds']:.3f}"]
        for name, r in one.items()
    ]
    head = ["integrator, tolerance", "error of theta", "balance, cm", "steps", "iterations, or calls of the rates", "s"]
    return table(head, rows)
