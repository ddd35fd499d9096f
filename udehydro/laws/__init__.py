"""Laws: what computes a flux or a quantity. A plain function is a law; so is a network."""

from udehydro.laws.dimensions import Dimension, dimension_of
from udehydro.laws.formula import FormulaLaw
from udehydro.laws.neural import Fraction, Head, Multiplier, NeuralLaw, Perceptron, Positive, SharedNetwork
from udehydro.laws.small_network import Signed, SmallNetwork
from udehydro.laws.smooth import excess, limiter, power, saturation, switch

__all__ = [
    "Dimension",
    "FormulaLaw",
    "Fraction",
    "Head",
    "Multiplier",
    "NeuralLaw",
    "Perceptron",
    "Positive",
    "SharedNetwork",
    "Signed",
    "SmallNetwork",
    "dimension_of",
    "excess",
    "limiter",
    "power",
    "saturation",
    "switch",
]
