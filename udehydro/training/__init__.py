"""Training: losses, optimisers, fit, least squares, teacher pretraining, checkpoints."""

from udehydro.training.fit import FitResult, fit
from udehydro.training.gaussian import Gaussian
from udehydro.training.least_squares import LeastSquares, least_squares
from udehydro.training.losses import KGE, NSE, Combined, Correlation, LogNSE, SqrtNSE
from udehydro.training.members import Members, take
from udehydro.training.metrics import kge, log_nse, nse, sqrt_nse
from udehydro.training.observed import Observed, discharge
from udehydro.training.shooting import multiple_shooting
from udehydro.training.stage import Stage
from udehydro.training.teach import standardise, teach

__all__ = [
    "KGE",
    "NSE",
    "Combined",
    "Correlation",
    "FitResult",
    "Gaussian",
    "LeastSquares",
    "LogNSE",
    "Members",
    "Observed",
    "SqrtNSE",
    "Stage",
    "discharge",
    "fit",
    "kge",
    "least_squares",
    "log_nse",
    "multiple_shooting",
    "nse",
    "sqrt_nse",
    "standardise",
    "take",
    "teach",
]
