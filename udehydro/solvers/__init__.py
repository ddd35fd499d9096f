"""Solvers: frozen dataclasses that turn a problem into storages and volumes."""

from udehydro.solvers.all_at_once import AllAtOnce
from udehydro.solvers.automatic import Automatic
from udehydro.solvers.compiled import Compiled
from udehydro.solvers.forward import Sensitivity, directions, forward_sensitivity
from udehydro.solvers.problem import Problem, Solver, SolverReport
from udehydro.solvers.stepping import Stepping
from udehydro.solvers.tableau import BACKWARD_EULER, EXPLICIT_EULER, HEUN, RK4, SDIRK2, TR_BDF2, Tableau
from udehydro.solvers.torchdiffeq import Torchdiffeq

__all__ = [
    "BACKWARD_EULER",
    "EXPLICIT_EULER",
    "HEUN",
    "RK4",
    "SDIRK2",
    "TR_BDF2",
    "AllAtOnce",
    "Automatic",
    "Compiled",
    "Problem",
    "Sensitivity",
    "Solver",
    "SolverReport",
    "Stepping",
    "Tableau",
    "Torchdiffeq",
    "directions",
    "forward_sensitivity",
]
