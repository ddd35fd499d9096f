"""Discovery: from a law that networks have learned to the formulas that data bear out. Needs sympy.

:func:`sample` reads the learned laws where the model went, a :class:`Library` says what formulas may be made of,
:func:`discover` refits all candidates through the ODE and ranks them.
"""

from udehydro.discovery.again import discover_again
from udehydro.discovery.controls import free_network, reading_shuffled, shuffled
from udehydro.discovery.discover import Engine, discover
from udehydro.discovery.examine import Examined, examine
from udehydro.discovery.identify import Profile, Spectrum, fisher_spectrum, offset_profile, profile
from udehydro.discovery.judge import outside, preferred, score
from udehydro.discovery.library import Library, Term, outflows, polynomials, products, shares
from udehydro.discovery.nominate import Nominee, nominate
from udehydro.discovery.recipe import Distillation, Distilled, distil
from udehydro.discovery.sample import Samples, sample
from udehydro.discovery.search import Ranked, Task, search
from udehydro.discovery.union import Candidate, Union, describe
from udehydro.discovery.usual import usual
from udehydro.discovery.verdict import Verdict, verdict, whitened, with_halved_steps

__all__ = [
    "Candidate",
    "Distillation",
    "Distilled",
    "Engine",
    "Examined",
    "Library",
    "Nominee",
    "Profile",
    "Ranked",
    "Samples",
    "Spectrum",
    "Task",
    "Term",
    "Union",
    "Verdict",
    "describe",
    "discover",
    "discover_again",
    "distil",
    "examine",
    "fisher_spectrum",
    "free_network",
    "nominate",
    "offset_profile",
    "outflows",
    "outside",
    "polynomials",
    "preferred",
    "products",
    "profile",
    "reading_shuffled",
    "sample",
    "score",
    "search",
    "shares",
    "shuffled",
    "usual",
    "verdict",
    "whitened",
    "with_halved_steps",
]
