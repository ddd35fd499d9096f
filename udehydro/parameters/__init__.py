"""Where parameter values come from. A provider is an ``nn.Module`` that maps a forcing to theta.

Every provider owns its free tensors and their transforms and answers ``provider(forcing) -> dict[str, Tensor]`` in
physical units: static entries of shape (*batch), time-varying ones (T, *batch). It also answers
``provider.storage0(store_names)``: initial storages (*batch, S) in mm, or None to have the first year repeated.
:class:`Calibrated` searches values directly; any module that answers the same two questions can take its place.
"""

from udehydro.parameters.calibrated import INITIAL, Calibrated
from udehydro.parameters.transforms import from_unit, to_unit

__all__ = ["INITIAL", "Calibrated", "from_unit", "to_unit"]
