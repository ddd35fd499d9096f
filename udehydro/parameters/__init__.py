"""Where parameter values come from. A provider is an ``nn.Module`` that maps a forcing to theta.

Every provider owns its free tensors and their transforms and answers ``provider(forcing) -> dict[str, Tensor]`` in physical
units: static entries of shape (*batch), time-varying ones (T, *batch). :class:`Calibrated` searches values directly;
a regional provider maps basin attributes through a network, a dynamic one maps the forcing itself.
"""

from udehydro.parameters.calibrated import Calibrated
from udehydro.parameters.transforms import from_unit, to_unit

__all__ = ["Calibrated", "from_unit", "to_unit"]
