"""Laws: what computes a flux or a quantity. A plain function is a law; so is a network."""

from udehydro.laws.neural import Fraction, Head, Multiplier, NeuralLaw, Perceptron, Positive, SharedNetwork
from udehydro.laws.smooth import excess, limiter, power, saturation, switch

__all__ = [
    "Fraction",
    "Head",
    "Multiplier",
    "NeuralLaw",
    "Perceptron",
    "Positive",
    "SharedNetwork",
    "excess",
    "limiter",
    "power",
    "saturation",
    "switch",
]
