"""Errors a user can act on: each message says what is wrong, where, and what to do."""


class UdehydroError(Exception):
    """Base of every error the package raises on purpose."""


class StructureError(UdehydroError, ValueError):
    """A model graph, a law or a parameter name does not fit together."""


class DataError(UdehydroError, ValueError):
    """Input data that cannot be used as they are; names file, column, date and remedy."""


class ConfigError(UdehydroError, ValueError):
    """A setting that is unknown, contradictory or out of range."""


class StepBoundWarning(UserWarning):
    """Parameters beyond a bound of the model, where an implicit step may have several solutions or none."""


class SolverError(UdehydroError, ArithmeticError):
    """A solver could not return a trustworthy number.

    Attributes
    ----------
    failed : Tensor or None
        Boolean mask of shape ``(*batch)`` marking the batch elements that failed, so that a caller who
        runs many independent members can reject those and keep the others.
    substeps : int or None
        Substeps per interval that an explicit scheme needs to be stable, where that is the remedy.
    """

    def __init__(self, message: str, failed=None, substeps: int | None = None):
        super().__init__(message)
        self.failed = failed
        self.substeps = substeps
