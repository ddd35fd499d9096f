"""An experiment as one flat YAML file: strict about names, plain about what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path

import yaml

from udehydro import models, settings
from udehydro.errors import ConfigError
from udehydro.settings import Period
from udehydro.solvers import BACKWARD_EULER, SDIRK2, AllAtOnce, Automatic, Compiled, Solver, Stepping
from udehydro.structure import Structure, suggest
from udehydro.training.losses import KGE, NSE, LogNSE, Loss, SqrtNSE

STRUCTURES: dict[str, Structure] = {n: s for n in models.__all__ if isinstance(s := getattr(models, n), Structure)}
LOSSES: dict[str, Loss] = {"nse": NSE(), "kge": KGE(), "sqrt_nse": SqrtNSE(), "log_nse": LogNSE()}
SCHEMES = {"sdirk2": SDIRK2, "backward_euler": BACKWARD_EULER}
SOLVERS: dict[str, Callable[..., Solver]] = {
    "automatic": Automatic,
    "all_at_once": AllAtOnce,
    "compiled": Compiled,
    "stepping": Stepping,
}
DEMO = "demo:fulda"
"""Name under which the shipped demonstration data are read."""


@dataclass(frozen=True)
class Experiment:
    """Everything that determines a run; ``to_yaml`` and ``from_yaml`` keep every digit of it.

    Attributes
    ----------
    data : file or folder that `udehydro.data.read` takes, or ``demo:fulda``.
    train, test, valid : inclusive dates. Without ``valid`` the last 20 % of ``train`` choose settings, and the model
        is then fitted again to all of ``train``; so it is for a ``valid`` inside ``train``.
    out : output folder.
    basins : ids, ``("all",)``, or ``()`` for data of one basin.
    model : name of a structure in `udehydro.models`.
    neural : fluxes or groups of fluxes of the model to be learned by networks, started from the calibrated formula.
    discover : those of them that are to be written as formulas afterwards; by default those with ``libraries``. What
        is to be learned is by default what is to be written.
    libraries : candidate terms for some of these, in place of the usual ones: flux -> ``terms``, and how many
        ``most`` a law may have. A term is a text, or has ``term``, ``constants`` (name -> [low, high, unit, start])
        and ``factor`` ([low, high, unit, start] of a constant in front).
    keep : laws of each number of terms that networks nominate for every flux; all combinations are refitted.
    sure : whether formulas are examined: profiles of their constants and verdicts.
    seed : draws initial parameters and weights.
    device : where tensors live, as PyTorch calls it.
    starts : initial parameter sets per basin in the calibration; ``steps`` evaluations before the choice among them,
        and ``refit_steps`` after it.
    seeds : networks per basin, trained side by side from different weights; ``neural_steps``
        evaluations, a fifth by Adam at ``learning_rate``, the others by L-BFGS; ``penalty`` on the mean
        square of the weights.
    loss : nse, kge, sqrt_nse or log_nse.
    solver, scheme, substeps : numerics.
    warmup_days : days at the start of the record that are never scored.
    area : km2, turns m3/s into mm/d; lat : degrees north, gives day length. Both only where the data do not state them.
    columns, units : variable -> column of the table, variable or column -> unit.
    dayfirst : reads 03/04/1999 as 3 April.
    fill_gaps : longest gap in the forcing, in steps, that may be filled; 0 refuses gaps.
    """

    data: str
    train: Period
    test: Period
    out: str
    valid: Period | None = None
    basins: tuple[str, ...] = ()
    model: str = "exphydro"
    neural: tuple[str, ...] = ()
    discover: tuple[str, ...] = ()
    libraries: Mapping[str, Mapping] | None = None
    keep: int = 5
    sure: bool = True
    seed: int = 0
    device: str = "cpu"
    starts: int = 8
    steps: int = 100
    refit_steps: int = 40
    seeds: int = 2
    neural_steps: int = 150
    learning_rate: float = 0.01
    penalty: float = 0.0
    loss: str = "nse"
    solver: str = "automatic"
    scheme: str = "sdirk2"
    substeps: int = 1
    warmup_days: int = 365
    area: float | None = None
    lat: float | None = None
    columns: Mapping[str, str] | None = None
    units: Mapping[str, str] | None = None
    dayfirst: bool | None = None
    fill_gaps: int = 0

    def __post_init__(self):
        for name, known in (("model", STRUCTURES), ("loss", LOSSES), ("solver", SOLVERS), ("scheme", SCHEMES)):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name}: '{getattr(self, name)}' is not known.{suggest(getattr(self, name), known)}")
        if not self.learning_rate > 0 or self.penalty < 0:
            raise ConfigError("learning_rate has to be above zero, and penalty not below.")
        _check_neural(self)
        for name in self.discover:
            if name not in self.neural:
                raise ConfigError(f"discover: '{name}' is learned by no network.{suggest(name, self.neural)}")
        for name in self.libraries or {}:
            if name not in self.discover:
                raise ConfigError(
                    f"libraries: '{name}' is not to be written as a formula.{suggest(name, self.discover)}"
                )
        _check_periods(self)

    @classmethod
    def of(cls, values: Mapping[str, object], where: str = "settings") -> Experiment:
        """From plain values (text, numbers, lists), each checked; unknown and missing names are errors."""
        known = {f.name: f for f in fields(cls)}
        for name in values:
            if name not in known:
                raise ConfigError(f"{where}: unknown setting '{name}'.{suggest(str(name), known)}")
        parsed = {n: _PARSERS[n](v, n) for n, v in values.items() if v is not None}
        # what is to be written as a formula has to be learned, and has candidates for that
        parsed["discover"] = parsed.get("discover") or tuple(parsed.get("libraries", ()))
        parsed["neural"] = parsed.get("neural") or parsed["discover"]
        missing = [n for n, f in known.items() if f.default is MISSING and n not in parsed]
        if missing:
            flags = ", ".join(f"--{n}" for n in missing)
            raise ConfigError(f"{where}: {', '.join(missing)} missing; add to the YAML file, or give {flags}.")
        return cls(**parsed)

    @classmethod
    def from_yaml(cls, path: str | Path, **overrides: object) -> Experiment:
        """Read a YAML file; ``overrides`` that are not None take the place of what it says.

        Data at a relative path are looked for beside the file first, then in the working directory.
        """
        values = load(Path(path))
        beside = Path(path).parent / str(values.get("data", ""))
        if "data" in values and beside.exists():
            values["data"] = str(beside)
        return cls.of({**values, **_given(overrides)}, str(path))

    @classmethod
    def from_flags(cls, config: str | Path | None = None, **flags: object) -> Experiment:
        """From command-line flags (None: not given), on top of a YAML file where there is one."""
        return cls.from_yaml(config, **flags) if config else cls.of(_given(flags), "flags")

    def to_yaml(self) -> str:
        """All settings as YAML, with those left at their defaults."""
        return yaml.safe_dump(self.plain(), sort_keys=False, allow_unicode=True, width=120)

    def plain(self) -> dict[str, object]:
        """Settings as text, numbers and lists."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    def differences(self, other: Experiment) -> list[str]:
        """``name: mine, theirs`` for every setting that differs; the output folder does not count."""
        mine, theirs = self.plain(), other.plain()
        return [f"{n}: {mine[n]}, {theirs[n]}" for n in mine if n != "out" and mine[n] != theirs[n]]

    def located(self) -> Experiment:
        """The same with an absolute path to the data, so that it can be repeated from anywhere."""
        there = self.data != DEMO and Path(self.data).exists()
        return self.with_(data=str(Path(self.data).resolve())) if there else self

    def with_(self, **changes: object) -> Experiment:
        return replace(self, **changes)

    def make_solver(self) -> Solver:
        return SOLVERS[self.solver](SCHEMES[self.scheme], substeps=self.substeps)


def _check_neural(e: Experiment) -> None:
    s = STRUCTURES[e.model]
    known = [*s.groups, *(f.name for f in s.fluxes)]
    for name in e.neural:
        if name not in known:
            raise ConfigError(f"neural: model '{e.model}' has no flux or group '{name}'.{suggest(name, known)}")
    if len(set(e.neural)) != len(e.neural):
        raise ConfigError(f"neural: {', '.join(e.neural)} names something twice.")
    for group, members in s.groups.items():
        if group in e.neural and (inside := [n for n in e.neural if n != group and n in members]):
            raise ConfigError(f"neural: {', '.join(inside)} is part of the group '{group}'. Give one of them.")


def _check_periods(e: Experiment) -> None:
    valid = e.valid or e.train
    for name, period in (("train", e.train), ("valid", valid)):
        if period.overlaps(e.test):
            raise ConfigError(
                f"{name} ({period}) and test ({e.test}) overlap: the test period is opened once, after every choice. "
                "Separate them."
            )
    if e.train.start < e.test.start <= valid.end:
        raise ConfigError(
            f"test ({e.test}) lies between train ({e.train}) and valid ({valid}), both learned from as one. "
            "Put test before or after both."
        )
    inside = e.train.contains(valid) and valid.end == e.train.end
    if e.valid and (e.valid.contains(e.train) or not (inside or e.valid.start > e.train.end)):
        raise ConfigError(f"valid ({e.valid}) has to be the end of train ({e.train}), or to come after it.")


class _Strict(yaml.SafeLoader):
    """Safe YAML in which nothing is said twice: of two settings of a name YAML would take the last, silently."""

    def construct_mapping(self, node, deep=False):
        names = [k.value for k, _ in node.value if isinstance(k, yaml.ScalarNode)]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise yaml.constructor.ConstructorError(None, None, f"{', '.join(twice)} given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load(
    path: Path,
    kind: str = "experiment file",
    begin: str = "Write lines such as 'train: 1981-10-01/1990-09-30'.",
) -> dict[str, object]:
    """Settings of a YAML file: text, numbers, lists and mappings, no name twice.

    Raises
    ------
    ConfigError
        For a file that cannot be read, or holds none; ``kind`` and ``begin`` are words of the messages.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Strict)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Check the path of the {kind}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds no settings. {begin}")
    return {str(n): v for n, v in values.items()}


def _given(values: Mapping[str, object]) -> dict[str, object]:
    return {n: v for n, v in values.items() if v is not None}


def _plain(value: object) -> object:
    if isinstance(value, Period):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


_WHOLE = (
    "seed",
    "keep",
    "starts",
    "steps",
    "refit_steps",
    "seeds",
    "neural_steps",
    "substeps",
    "warmup_days",
    "fill_gaps",
)
_FROM_ZERO = ("seed", "warmup_days", "fill_gaps")
_PARSERS: dict[str, Callable[[object, str], object]] = (
    dict.fromkeys(("data", "out", "model", "device", "loss", "solver", "scheme"), settings.text)
    | dict.fromkeys(("train", "test", "valid"), settings.period)
    | dict.fromkeys(("basins", "neural", "discover"), settings.names)
    | {n: settings.whole(0 if n in _FROM_ZERO else 1) for n in _WHOLE}
    | dict.fromkeys(("area", "lat", "learning_rate", "penalty"), settings.real)
    | dict.fromkeys(("columns", "units"), settings.mapping)
    | dict.fromkeys(("dayfirst", "sure"), settings.flag)
    | {"libraries": settings.libraries}
)
