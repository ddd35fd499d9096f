"""udehydro: differentiable modelling in the geosciences."""

from udehydro.balance import Balance
from udehydro.errors import ConfigError, DataError, SolverError, StructureError, UdehydroError
from udehydro.forcing import Forcing
from udehydro.laws import FormulaLaw, Fraction, Head, Multiplier, NeuralLaw, Positive, SharedNetwork, SmallNetwork
from udehydro.parameters import Calibrated
from udehydro.simulate import simulate, spin_up
from udehydro.simulation import Simulation
from udehydro.structure import (
    ATMOSPHERE,
    GROUNDWATER,
    OUTLET,
    Bound,
    Flux,
    Quantity,
    Range,
    Structure,
    bound,
    flux,
    quantity,
)

__version__ = "0.1.0"

__all__ = [
    "ATMOSPHERE",
    "GROUNDWATER",
    "OUTLET",
    "Balance",
    "Bound",
    "Calibrated",
    "ConfigError",
    "DataError",
    "Flux",
    "Forcing",
    "FormulaLaw",
    "Fraction",
    "Head",
    "Multiplier",
    "NeuralLaw",
    "Positive",
    "Quantity",
    "Range",
    "SharedNetwork",
    "SmallNetwork",
    "Simulation",
    "SolverError",
    "Structure",
    "StructureError",
    "UdehydroError",
    "bound",
    "flux",
    "quantity",
    "simulate",
    "spin_up",
]
