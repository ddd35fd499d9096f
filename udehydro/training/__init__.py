"""Training: losses, optimisers, fit, teacher pretraining, checkpoints."""

from udehydro.training.fit import FitResult, fit
from udehydro.training.losses import KGE, NSE, Combined, LogNSE, SqrtNSE
from udehydro.training.members import Members, take
from udehydro.training.metrics import kge, log_nse, nse, sqrt_nse
from udehydro.training.objective import discharge
from udehydro.training.stage import Stage
from udehydro.training.teach import standardise, teach

__all__ = [
    "KGE",
    "NSE",
    "Combined",
    "FitResult",
    "LogNSE",
    "Members",
    "SqrtNSE",
    "Stage",
    "discharge",
    "fit",
    "kge",
    "log_nse",
    "nse",
    "sqrt_nse",
    "standardise",
    "take",
    "teach",
]
