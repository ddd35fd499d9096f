"""The compiled driver: laws traced from PyTorch, written as source, compiled by numba into one loop per model."""

from udehydro.solvers.compiled.driver import Compiled, available, compiled, has_networks, is_built

__all__ = ["Compiled", "available", "compiled", "has_networks", "is_built"]
