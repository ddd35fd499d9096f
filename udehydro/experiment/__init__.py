"""An experiment from data to report: calibrate a formula, train the hybrid, compare both on unseen years."""

from udehydro.experiment.prepare import Record, prepare
from udehydro.experiment.results import Variant, metrics, to_dataset
from udehydro.experiment.run import run
from udehydro.experiment.source import Source

__all__ = ["Record", "Source", "Variant", "metrics", "prepare", "run", "to_dataset"]
