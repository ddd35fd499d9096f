"""Discovery: from a law that networks have learned to the formulas that data bear out. Needs sympy.

:func:`sample` reads the learned laws where the model went, a :class:`Library` says what formulas may be made of,
:func:`discover` refits all candidates through the ODE and ranks them.
"""

from udehydro.discovery.discover import Engine, discover
from udehydro.discovery.identify import Profile, Spectrum, fisher_spectrum, offset_profile, profile
from udehydro.discovery.judge import preferred, score
from udehydro.discovery.library import Library, Term, outflows, polynomials, products, shares
from udehydro.discovery.nominate import Nominee, nominate
from udehydro.discovery.recipe import Distillation, Distilled, distil
from udehydro.discovery.sample import Samples, sample
from udehydro.discovery.search import Ranked, Task, search
from udehydro.discovery.union import Candidate, Union, describe
from udehydro.discovery.usual import usual
from udehydro.discovery.verdict import Verdict, verdict, whitened, with_halved_steps

__all__ = [
    "Profile",
    "Spectrum",
    "fisher_spectrum",
    "offset_profile",
    "profile",
    "preferred",
    "score",
    "Verdict",
    "verdict",
    "whitened",
    "with_halved_steps",
    "Candidate",
    "Distillation",
    "Distilled",
    "Engine",
    "Library",
    "Nominee",
    "Ranked",
    "Samples",
    "Task",
    "Term",
    "Union",
    "describe",
    "discover",
    "distil",
    "nominate",
    "outflows",
    "polynomials",
    "products",
    "sample",
    "search",
    "shares",
    "usual",
]
