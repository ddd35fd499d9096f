"""An experiment from data to report: calibrate a formula, train the hybrid, compare both on unseen years."""

from udehydro.experiment.prepare import Record, prepare, read_dataset
from udehydro.experiment.results import Variant, metrics, to_dataset
from udehydro.experiment.run import run

__all__ = ["Record", "Variant", "metrics", "prepare", "read_dataset", "run", "to_dataset"]
