"""M50 on a CAMELS basin, trained from many starts in several ways."""

from __future__ import annotations

import time

import torch
from _report import SHARED

from udehydro import Balance, Forcing, simulate
from udehydro.data import read
from udehydro.models import exphydro_mended, m50
from udehydro.parameters import Calibrated
from udehydro.training import Stage, fit, multiple_shooting, nse, standardise, teach
from udehydro.training.members import take
from udehydro.training.recipes import INITIAL

BASIN, TRAIN, UNSEEN = "01013500", ("1980-10-01", "1986-09-30"), ("1986-10-01", "1990-09-30")
EVALUATIONS, TEACH = 120, 300
"""Evaluations of loss and gradient of a start in all, whatever the recipe; steps of teaching."""
BUCKET = dict(starts=4, steps=80)
PLAIN = (Stage("adam", 24), Stage("lbfgs", EVALUATIONS - 24))
GROWING = (Stage("adam", 24, share=1 / 3), Stage("lbfgs", 32, share=2 / 3), Stage("lbfgs", EVALUATIONS - 56))
PIECES = dict(segments=6, stage=Stage("lbfgs", 20))


class Basin:
    """Record, observed flow, calibrated bucket."""

    def __init__(self):
        dataset = read(SHARED / "camels-us", [BASIN])
        forcing = Forcing.from_dataset(dataset, ["prcp", "temp", "dayl"])
        whole = slice(forcing.between(*TRAIN).start, forcing.between(*UNSEEN).stop)
        self.forcing, self.observed = forcing.isel(whole), torch.as_tensor(dataset.discharge.values)[whole]
        began = time.process_time()
        model, self.bucket = Balance(exphydro_mended), self.scattered(Balance(exphydro_mended), BUCKET["starts"], True)
        result = self.fitted(model, self.bucket, (Stage("lbfgs", BUCKET["steps"]),))
        self.bucket = take(self.bucket, [int(result.train.argmin())])
        self.seconds = time.process_time() - began
        self.score = self.scored(model, self.bucket)

    def scattered(self, model: Balance, members: int, first: bool = False) -> Calibrated:
        """Parameters and initial storages anywhere in their ranges; the first at its defaults if asked."""
        made = Calibrated.of(model, (members, 1), initial=dict.fromkeys(model.store_names, INITIAL))
        made.scatter(torch.Generator().manual_seed(0), keep_first=first)
        return made

    def record(self, members: int) -> tuple[Forcing, torch.Tensor]:
        return self.forcing.independent(members), self.observed.repeat(1, members)[..., None]

    def fitted(self, model: Balance, parameters: Calibrated, stages):
        record, observed = self.record(parameters.batch[0])
        return fit(model, parameters, record, observed, train=TRAIN, stages=stages, progress=None)

    def default(self, members: int):
        """The bucket with its defaults, for whose inputs the networks of random starts are scaled."""
        model = Balance(exphydro_mended)
        return self.run(Calibrated.of(model, (members, 1), initial=dict.fromkeys(model.store_names, INITIAL)))

    def scale(self) -> tuple[float, float]:
        """Mean and standard deviation of its soil storage [mm]."""
        soil = self.default(1).store("soil")[:-1]
        return float(soil.mean()), float(soil.std())

    def run(self, parameters: Calibrated):
        """A run of the bucket over the training period."""
        model, record = Balance(exphydro_mended), self.record(parameters.batch[0])[0]
        record = record.isel(slice(0, record.between(*TRAIN).stop))
        with torch.no_grad():
            start = parameters.storage0(model.store_names)
            return simulate(model, record, theta=parameters(record), storage0=start)

    def scored(self, model: Balance, parameters: Calibrated) -> dict:
        """1 - NSE in training, NSE in the years after it."""
        record, observed = self.record(parameters.batch[0])
        with torch.no_grad():
            start = parameters.storage0(model.store_names)
            run = simulate(model, record, theta=parameters(record), storage0=start)
        observed = observed.clone()
        observed[:365] = torch.nan
        scores = [nse(run.discharge[p], observed[p])[:, 0] for p in (record.between(*TRAIN), record.between(*UNSEEN))]
        soil = run.store("soil")[:, :, 0].mean(0).tolist()
        return {"loss": (1.0 - scores[0]).tolist(), "unseen": scores[1].tolist(), "soil": soil}

    def trained(self, members: int, start: str, stages=PLAIN, shoot: bool = False) -> dict:
        """M50 from ``start``: ``"random"``, ``"calibrated"`` parameters, or networks ``"taught"`` as well."""
        model, many = m50(0, members), [0] * members
        parameters = self.scattered(model, members) if start == "random" else take(self.bucket, many)
        teacher = self.default(members) if start == "random" else self.run(take(self.bucket, many))
        if start == "taught":
            teach(model, teacher, steps=TEACH)
        else:
            standardise(model, teacher)
        if shoot:
            record, observed = self.record(members)
            multiple_shooting(model, parameters, record, observed, train=TRAIN, **PIECES)
            stages = (Stage("lbfgs", EVALUATIONS - 3 * PIECES["stage"].steps),)
        self.fitted(model, parameters, stages)
        return self.scored(model, parameters)


BASIN_RECIPES = {
    "random": lambda b, m: b.trained(m, "random"),
    "random, growing horizon": lambda b, m: b.trained(m, "random", GROWING),
    "random, multiple shooting": lambda b, m: b.trained(m, "random", shoot=True),
    "calibrated parameters": lambda b, m: b.trained(m, "calibrated"),
    "calibrated and taught": lambda b, m: b.trained(m, "taught"),
    "taught, growing horizon": lambda b, m: b.trained(m, "taught", GROWING),
}
