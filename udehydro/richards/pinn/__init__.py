"""Physics-informed networks for the Richards equation: fields as networks, laws of the column as their soil."""

from udehydro.richards.pinn.clock import Clock
from udehydro.richards.pinn.content_law import ContentLaw
from udehydro.richards.pinn.contents import Contents, Transport, learn_contents
from udehydro.richards.pinn.distil import DistilledCurves, distil_curves
from udehydro.richards.pinn.field import Ansatz, Box, Field, Profile
from udehydro.richards.pinn.learn import Learned, learn
from udehydro.richards.pinn.problem import Counts, Problem, Region, Wall, Weights
from udehydro.richards.pinn.residuals import Data
from udehydro.richards.pinn.soil import Soil
from udehydro.richards.pinn.solution import FORWARD, Solution, march, solve
from udehydro.richards.pinn.stages import Stage, Trained, train
from udehydro.richards.pinn.system import Extra, System, Term
from udehydro.richards.pinn.train import Adam, Levenberg
from udehydro.richards.pinn.turns import turns

__all__ = [
    "FORWARD",
    "Adam",
    "Ansatz",
    "Box",
    "Clock",
    "ContentLaw",
    "Contents",
    "Counts",
    "Data",
    "DistilledCurves",
    "Extra",
    "Field",
    "Learned",
    "Levenberg",
    "Problem",
    "Profile",
    "Region",
    "Soil",
    "Solution",
    "Stage",
    "System",
    "Term",
    "Trained",
    "Transport",
    "Wall",
    "Weights",
    "distil_curves",
    "learn",
    "learn_contents",
    "march",
    "solve",
    "train",
    "turns",
]
