"""The state of one training run, its stages, and what a checkpoint holds of it."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import torch
from torch import Tensor, nn

from udehydro.errors import ConfigError, DataError, SolverError
from udehydro.forcing import Forcing
from udehydro.simulate import spin_up
from udehydro.solvers import Automatic
from udehydro.solvers.one_step import OneStep
from udehydro.solvers.warm import WarmStart
from udehydro.training import checkpoint as checkpoints
from udehydro.training.members import Members
from udehydro.training.objective import Objective
from udehydro.training.observed import targets
from udehydro.training.stage import Stage


class Run:
    """State of one training run: everything a checkpoint needs is an attribute here."""

    def __init__(
        self, model, parameters, forcing, observed, train, valid, loss, observe, solver, warmup, storage0, penalty
    ):
        self.targets = targets(observed, model, forcing, loss, observe)
        self.model, self.parameters = model, parameters
        self.solver, self.warm = solver or Automatic(), WarmStart()
        self._forget()
        self.given_storage0, self.penalty = storage0, penalty
        self.train = forcing.between(*train)
        self.valid = forcing.between(*valid) if valid is not None else None
        end = max(self.train.stop, self.valid.stop if self.valid else 0)
        self.forcing = forcing.isel(slice(0, end))
        skipped = int((forcing.time < forcing.time[0] + np.timedelta64(round(24 * warmup), "h")).sum())
        for target in self.targets:
            target.until(end, skipped)
            if not bool(target.values[target.rows(self.train)].isfinite().any()):
                of = f" of '{target.label}'" if target.label else ""
                raise DataError(f"No observation{of} between {train[0]} and {train[1]} after {warmup} days of warm-up.")
            target.prepare(self.train, self.valid)
        batch = forcing.batch
        self.members = Members((model, parameters), batch[0] if len(batch) > 1 else 1)
        self.settings = {"train": list(train), "valid": list(valid) if valid else None}
        self.settings |= {"observed": [target.told for target in self.targets]}
        self.settings |= {"solver": repr(solver), "warmup": warmup, "penalty": penalty, "names": self.members.names}
        self.stage = self.step_in_stage = self.since_best = self.done_steps = self.failures = 0
        self.spent, self._digest = 0.0, None
        self.history: list[dict] = []
        self.state = self.storage0 = self.carried = self.safe = None
        self.best_x = self.members.read()
        inf = torch.full_like(self.best_x[:, 0], torch.inf)
        self.best_train, self.best_valid, self.best_step = inf, inf, torch.zeros_like(inf, dtype=torch.int64)
        self.kept = self.best_step[None][:0]  # a row per stage

    def expect(self, runs: int) -> None:
        """Tell a solver that chooses its driver how many runs are to come."""
        self._forget(runs=runs)

    def _forget(self, **changes) -> None:
        """Go on with a copy of the solver: its guesses are those of this run and stage, kept in checkpoints."""
        if hasattr(self.solver, "memory"):
            self.solver = replace(self.solver, **changes)
            self.warm = self.solver.memory

    def run_stage(self, bar) -> None:
        """Run, or go on with, the present stage."""
        stage = self.stages[self.stage]
        optimiser = stage.build()
        if self.step_in_stage == 0:
            self._open_stage()
        objective = self._objective(stage)
        if self.state is None:
            self.state = self._first(optimiser, objective)
        elif self.safe is not None:  # resumed: members that fail are to be replaced as they would have been
            objective.safe = self.safe
        # what follows the last step to keep was thrown away when it was chosen
        steps = stage.steps if self.frozen_steps is None else int(self.frozen_steps[self.stage].max())
        while self.step_in_stage < steps and bool(self.state.active.any()):
            started = time.perf_counter()
            if stage.window is not None:
                objective = self._window(stage)
            tried = _Recorder(objective)
            self.state = optimiser.step(self.state, tried)
            self.carried = objective.final_storage
            self.safe = objective.safe if stage.window is None else None
            self.step_in_stage += 1
            self.done_steps += 1
            better = self._judge(stage, tried, objective)
            self.since_best = 0 if better else self.since_best + 1
            self.failures += objective.failures
            objective.failures = 0
            self._record(stage, objective, time.perf_counter() - started)
            bar.update(1)
            bar.set_postfix(self._shown(), refresh=False)
            self._save()
            if self.patience is not None and self.since_best >= self.patience and better is not None:
                break
        bar.update(max(0, stage.steps - self.step_in_stage))
        self.stage, self.step_in_stage, self.since_best = self.stage + 1, 0, 0
        self.state = self.safe = None
        self._save()

    def _open_stage(self) -> None:
        self._forget()  # a stage depends on the point it starts from, not on steps that were thrown away
        self.kept = torch.cat([self.kept, torch.zeros_like(self.best_step)[None]])
        if self.stage:
            self.members.write(self.best_x)
            by_train = self.valid is None or self.select == "train"
            if by_train and self.stages[self.stage].share != self.stages[self.stage - 1].share:
                # losses of a shorter period do not compare with those of a longer one
                self.best_train = torch.full_like(self.best_train, torch.inf)
        if self.parameters.storage0(self.model.store_names) is None:
            self.storage0 = self.given_storage0
            if self.storage0 is None:
                theta = {n: v.detach() for n, v in self.parameters(self.forcing).items()}
                self.storage0 = spin_up(self.model, self.forcing, theta=theta, solver=self.solver).storage
        self.carried = None

    def _objective(self, stage: Stage) -> Objective:
        train = self._share(stage)
        end = max(train.stop, self.valid.stop if self.valid else 0)
        return self._over(slice(0, end), train, self.valid, self.storage0)

    def _share(self, stage: Stage) -> slice:
        """The part of the train period that a stage learns from."""
        start, length = self.train.start, self.train.stop - self.train.start
        return slice(start, start + max(1, round(stage.share * length)))

    def _window(self, stage: Stage) -> Objective:
        """The next training window in time order; the first starts at the beginning of the record.

        What lies before the train period is simulated for its storages and never scored.
        """
        number, train = self.step_in_stage % self._windows(stage), self._share(stage)
        part = slice(number * stage.window, min((number + 1) * stage.window, train.stop))
        storage = self.storage0 if number == 0 or self.carried is None else self.carried
        scored = slice(min(max(train.start, part.start), part.stop) - part.start, part.stop - part.start)
        return self._over(part, scored, None, storage, carry=number > 0)

    def _over(self, part: slice, train: slice, valid: slice | None, storage0, carry: bool = False) -> Objective:
        parameters = _Carried(self.parameters) if carry else self.parameters
        solver = self.solver.over(part) if isinstance(self.solver, OneStep) else self.solver
        return Objective(
            self.model, parameters, self.members, self.forcing.isel(part), self.targets, train, valid, solver,
            [target.window(part) for target in self.targets], part.start == 0, storage0, self.penalty, safe=self.best_x,
        )  # fmt: skip

    def _first(self, optimiser, objective: Objective):
        objective.safe = self.best_x if self.stage else None
        try:
            state = optimiser.init(self.members.read(), objective)
        except SolverError as error:
            raise ConfigError(f"Training cannot start, the first simulation fails. {error}") from error
        if not bool(state.loss.isfinite().all()):
            member = int((~state.loss.isfinite()).nonzero()[0])
            name = self.forcing.members[member] if self.forcing.members else member
            raise ConfigError(
                f"Training cannot start: loss or gradient of member {name} is not finite. Check observations and start "
                "values."
            )
        self._judge_at(state.x, state.loss, objective.valid_loss)
        return state

    def _judge(self, stage: Stage, tried: _Recorder, objective: Objective) -> bool | None:
        """Whether a member has found a better point; None where it is too early to tell."""
        if stage.window is None:
            # of a line search under way only what lowers the loss counts: a refit may stop there, too
            loss = tried.loss.where(tried.loss <= self.state.loss, torch.inf)
            return self._judge_at(tried.x, loss, objective.valid_loss)
        # losses of single windows do not compare: judge once a pass, on the whole period
        due = self.step_in_stage % self._windows(stage) == 0 or self.step_in_stage == stage.steps
        if not due and (self.frozen_steps is None or self.step_in_stage not in self.frozen_steps[self.stage]):
            return None
        objective = self._objective(stage)
        loss, _ = objective(self.state.x)
        return self._judge_at(self.state.x, loss, objective.valid_loss)

    def _windows(self, stage: Stage) -> int:
        return -(-self._share(stage).stop // stage.window)

    def _judge_at(self, x: Tensor, loss: Tensor, valid: Tensor | None) -> bool:
        """Keep the best point of every member."""
        by_train = self.valid is None or valid is None or self.select == "train"
        score, best = (loss, self.best_train) if by_train else (valid, self.best_valid)
        better = (score < best) & loss.isfinite()
        if self.frozen_steps is not None:
            better = (self.step_in_stage <= self.frozen_steps[self.stage]) & loss.isfinite()
        self.best_x = torch.where(better[:, None], x, self.best_x)
        self.best_train = torch.where(better, loss, self.best_train)
        if valid is not None:
            self.best_valid = torch.where(better, valid, self.best_valid)
        self.best_step = self.best_step.masked_fill(better, self.done_steps)
        self.kept[-1] = self.kept[-1].masked_fill(better, self.step_in_stage)
        return bool(better.any())

    def _record(self, stage: Stage, objective: Objective, seconds: float) -> None:
        valid = objective.valid_loss.tolist() if self.valid is not None and objective.valid_loss is not None else None
        row = {"stage": self.stage, "optimiser": stage.optimiser, "step": self.done_steps, "seconds": seconds}
        row |= {"train": self.state.loss.tolist(), "valid": valid}
        parts = {}
        for target, (train, valid) in zip(self.targets, objective.parts, strict=True):
            if target.label:
                parts[target.label] = {"train": train.tolist(), "valid": None if valid is None else valid.tolist()}
        self.history.append(row | {"parts": parts} if parts else row)
        self.spent += seconds

    def _shown(self) -> dict[str, str]:
        shown = {"loss": f"{float(self.state.loss.median()):.4f}"}
        if self.valid is not None:
            shown["best valid"] = f"{float(self.best_valid.median()):.4f}"
        return shown

    def _fingerprint(self) -> str:
        """Digest of settings, model and data: what has to be the same for a run to be resumed."""
        if self._digest is None:
            told = self.settings | {"stages": [asdict(s) for s in self.stages], "patience": self.patience}
            told |= {"members": self.members.members, "model": repr(self.model), "parameters": repr(self.parameters)}
            told |= {"ranges": repr(getattr(self.parameters, "ranges", None))}
            told |= {"batch": self.forcing.batch, "labels": [self.forcing.basins, self.forcing.members]}
            # an address in memory, which an object without a repr of its own shows, is another one in every process
            text = re.sub(r" at 0x[0-9a-fA-F]+", "", json.dumps(told, sort_keys=True))
            digest = hashlib.sha256(text.encode())
            digest.update(self.forcing.time_edge.tobytes())
            named = {**self.forcing.values, "storage0": self.given_storage0}
            named |= {f"observed {i}": target.values for i, target in enumerate(self.targets)}
            for name, value in (*sorted(named.items()), *self.parameters.named_buffers()):
                digest.update(name.encode())
                if value is not None:
                    digest.update(value.detach().cpu().contiguous().numpy().tobytes())
            self._digest = digest.hexdigest()
        return self._digest

    def _save(self) -> None:
        if self.folder is None:
            return
        tensors = {
            "x": self.members.read(),
            "best_x": self.best_x,
            "best_train": self.best_train,
            "rng": checkpoints.rng_state(),
        }
        tensors |= {"best_valid": self.best_valid, "best_step": self.best_step, "kept": self.kept}
        for name in ("storage0", "carried", "safe"):
            if getattr(self, name) is not None:
                tensors[name] = getattr(self, name)
        tensors |= {f"warm.{n}": t for n, t in self.warm.tensors().items()}
        if self.state is not None:
            tensors |= {f"state.{n}": t for n, t in self.state.tensors().items()}
        meta = {"settings": self._fingerprint(), "stage": self.stage, "step_in_stage": self.step_in_stage}
        meta |= {"since_best": self.since_best, "done_steps": self.done_steps}
        meta |= {"history": self.history, "failures": self.failures, "seconds": self.spent}
        checkpoints.save(self.folder, self.done_steps + self.stage, tensors, meta)

    def resume(self) -> None:
        """Go on from the newest checkpoint; nothing to do where there is none."""
        found = checkpoints.load_latest(self.folder)
        if found is None:
            return
        tensors, meta = found
        if meta["settings"] != self._fingerprint():
            raise ConfigError(
                f"The checkpoint in {self.folder} was made with other settings, another model or other data, or by an "
                "older version: use a new folder, or what it was made with."
            )
        device = self.best_x.device
        tensors = {n: t.to(device) if n != "rng" else t for n, t in tensors.items()}
        self.members.write(tensors["x"])
        self.best_x, self.best_train = tensors["best_x"], tensors["best_train"]
        self.best_valid, self.best_step, self.kept = (tensors[n] for n in ("best_valid", "best_step", "kept"))
        self.storage0, self.carried, self.safe = (tensors.get(n) for n in ("storage0", "carried", "safe"))
        self.stage, self.step_in_stage = meta["stage"], meta["step_in_stage"]
        self.history, self.failures, self.spent = meta["history"], meta["failures"], meta["seconds"]
        self.since_best, self.done_steps = meta["since_best"], meta["done_steps"]
        checkpoints.set_rng_state(tensors["rng"])
        self.warm.load({n.removeprefix("warm."): t for n, t in tensors.items() if n.startswith("warm.")})
        state = {n.removeprefix("state."): t for n, t in tensors.items() if n.startswith("state.")}
        if state:
            self.state = self.stages[self.stage].build().resume(state)


class _Recorder:
    """Remembers the point of the last evaluation."""

    def __init__(self, objective: Objective):
        self.objective = objective

    def __call__(self, x: Tensor):
        loss, gradient = self.objective(x)
        self.x, self.loss = x.detach().clone(), loss.detach()
        return loss, gradient


class _Carried(nn.Module):
    """Parameters without their initial storages: later windows start from the carried ones."""

    def __init__(self, provider: nn.Module):
        super().__init__()
        self.provider = provider

    def forward(self, forcing: Forcing):
        return self.provider(forcing)

    def storage0(self, store_names: Sequence[str]) -> None:
        return None
