"""Finite-volume column: the Richards equation in one dimension, implicit in time, with exact gradients."""

from udehydro.richards.column.along import flow_along
from udehydro.richards.column.boundary import Atmospheric, Flux, FreeDrainage, Head, SeepageFace, WaterTable
from udehydro.richards.column.column import Column
from udehydro.richards.column.grid import Grid, Layer
from udehydro.richards.column.result import ColumnRun, States
from udehydro.richards.column.run import WaterContent, flow
from udehydro.richards.column.sinks import RootUptake, Source
from udehydro.richards.column.steps import Adaptive, Fixed
from udehydro.richards.column.weighting import arithmetic, geometric, harmonic, upwind

__all__ = [
    "Adaptive",
    "Atmospheric",
    "Column",
    "ColumnRun",
    "Fixed",
    "Flux",
    "FreeDrainage",
    "Grid",
    "Head",
    "Layer",
    "RootUptake",
    "SeepageFace",
    "Source",
    "States",
    "WaterContent",
    "WaterTable",
    "arithmetic",
    "flow",
    "flow_along",
    "geometric",
    "harmonic",
    "upwind",
]
