"""Models on disk: a readable ``model.json`` and, where there are networks, ``weights.safetensors``. No pickle.

Formulas are stored as text, which is read, not executed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

import udehydro
from udehydro.balance import Balance
from udehydro.errors import ConfigError, DataError, StructureError
from udehydro.files import write_atomic, write_json_atomic
from udehydro.laws import FormulaLaw, Fraction, Multiplier, NeuralLaw, Positive, Signed, SmallNetwork
from udehydro.laws.neural import Output
from udehydro.structure import FORMULA, Flux, Law, Quantity, Range, Structure, reads, suggest

FORMAT = 1
MODEL, WEIGHTS = "model.json", "weights.safetensors"
_BUILT = ("laws", "parameters", "initial_storage", "weights", "sha256", "format")
_OUTPUTS: dict[str, type[Output]] = {c.__name__: c for c in (Positive, Fraction, Multiplier)}
_SMALL_OUTPUTS = {**_OUTPUTS, "Signed": Signed}


@dataclass(frozen=True)
class Saved:
    """A model with its parameter values, of one basin.

    Attributes
    ----------
    model : Balance, without member axis: it runs on any batch.
    theta : parameter -> value, physical units.
    storage0 : store -> initial storage [mm], or None to find it by repeating the first year.
    about : further entries of ``model.json`` (variant, basin, versions).
    """

    model: Balance
    theta: dict[str, float]
    storage0: dict[str, float] | None = None
    about: dict[str, object] = field(default_factory=dict)


def save(
    folder: str | Path,
    model: Balance,
    theta: Mapping[str, float],
    *,
    storage0: Mapping[str, float] | None = None,
    member: int = 0,
    **about: object,
) -> Path:
    """Write the model of one basin.

    Parameters
    ----------
    folder : made where it is missing; the weights are written first and ``model.json``, which names them, last.
    theta : value per parameter, physical units.
    storage0 : initial storage per store, mm, where it was calibrated.
    member : which one of networks with a member axis.
    **about : what else to remember: variant, basin, ...

    Raises
    ------
    StructureError
        For a model with a law that is no formula of its structure, `NeuralLaw`, `SmallNetwork` or `FormulaLaw`.
    """
    folder = Path(folder)
    declared = model.structure.parameters
    content = {
        "format": FORMAT,
        "structure": model.structure.name,
        "laws": {item.name: _spec_of(item) for item in _installed(model)},
        "parameters": {n: {"value": float(v), "unit": declared[n].unit} for n, v in theta.items()},
        "initial_storage": None if storage0 is None else {n: float(v) for n, v in storage0.items()},
        **about,
        "versions": {"udehydro": udehydro.__version__, "torch": torch.__version__},
    }
    tensors = {n: _of_member(n, v, member) for n, v in model.state_dict().items()}
    if tensors:
        data = safetensors.torch.save(tensors)
        write_atomic(folder / WEIGHTS, data)
        content |= {"weights": WEIGHTS, "sha256": hashlib.sha256(data).hexdigest()}
    write_json_atomic(folder / MODEL, content)
    return folder


def load(folder: str | Path, structures: Mapping[str, Structure]) -> Saved:
    """Read what `save` wrote.

    Parameters
    ----------
    folder : with ``model.json``.
    structures : name -> Structure the model may be built on.

    Raises
    ------
    DataError
        For files that are missing, damaged or of another format.
    ConfigError
        For a formula without sympy.
    """
    folder = Path(folder)
    content = _read(folder / MODEL)
    try:
        name = content["structure"]
        if name not in structures:
            raise DataError(f"{folder / MODEL}: the structure '{name}' is not known.{suggest(name, structures)}")
        theta = {n: float(p["value"]) for n, p in content["parameters"].items()}
        initial = content["initial_storage"]
        storage0 = None if initial is None else {n: float(v) for n, v in initial.items()}
        laws = content["laws"]
        structure = structures[name].replace(**{n: _law(s["replaces"]) for n, s in laws.items() if "replaces" in s})
        model = Balance(structure, **{n: _law(spec) for n, spec in laws.items()})
        _check_values(model, theta, storage0 or {})
    except (DataError, ConfigError):
        raise
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise DataError(f"{folder / MODEL}: does not describe a model ({error!r}). Save it again.") from error
    if content.get("weights") or model.state_dict():  # never random weights in place of those that were trained
        _load_weights(folder, model, content.get("sha256"))
    about = {n: v for n, v in content.items() if n not in _BUILT}
    return Saved(model, theta, storage0, about)


def _check_values(model: Balance, theta: Mapping[str, float], storage0: Mapping[str, float]) -> None:
    """Every parameter and storage is known, there and finite."""
    model.theta(theta, torch.zeros((), dtype=torch.float64, device="cpu"))
    if storage0 and set(storage0) != set(model.store_names):
        raise StructureError(f"initial storages of {sorted(storage0)}, the stores are {list(model.store_names)}")
    for name, value in {**theta, **storage0}.items():
        if not math.isfinite(value):
            raise StructureError(f"'{name}' is {value}")


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file. Name the folder of a saved model.") from None
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{path}: is no model of format {FORMAT}, the one this version of udehydro reads.")
    return content


def _load_weights(folder: Path, model: Balance, sha256: str) -> None:
    path = folder / WEIGHTS
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). It belongs to {MODEL} beside it.") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DataError(f"{path}: differs from the SHA-256 in {MODEL}: restore it, or train again.")
    try:
        model.load_state_dict(safetensors.torch.load(data))
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise DataError(f"{path}: does not fit the laws in {MODEL} ({error}).") from None


def _installed(model: Balance) -> list[Flux | Quantity]:
    """Those with a law that is no formula of the structure, but was put in the place of one."""
    items = (*model.structure.quantities, *model.structure.fluxes)
    return [i for i in items if i.formula is not None or isinstance(i.law, nn.Module | FormulaLaw | SmallNetwork)]


def _spec_of(item: Flux | Quantity) -> dict[str, object]:
    """The law, with the formula under it where it reads that and it is not the structure's own, either."""
    spec = _spec(item.name, item.law)
    if FORMULA in reads(item.law) and isinstance(item.formula, FormulaLaw):
        spec["replaces"] = _spec(item.name, item.formula)
    return spec


def _spec(name: str, law: Law) -> dict[str, object]:
    """What is needed to build a law again, its weights apart."""
    if isinstance(law, FormulaLaw):
        constants = {n: asdict(r) for n, r in law.constants.items()}
        return {"kind": "formula", "expression": law.text, "constants": constants, "empirical": law.empirical}
    if isinstance(law, SmallNetwork):
        return _small_spec(law)
    if not isinstance(law, NeuralLaw):
        what = getattr(law, "__name__", type(law).__name__)
        raise StructureError(
            f"The law of '{name}', {what}, cannot be saved: only NeuralLaw, SmallNetwork and FormulaLaw can."
        )
    signs = law.net.signs.flatten().tolist()
    return {
        "kind": "NeuralLaw",
        "inputs": list(law.inputs),
        "output": {"kind": type(law.output).__name__, **asdict(law.output)},
        "hidden": [w.shape[-1] for w in law.net.weights][:-1],
        "increasing": [n for n, s in zip(law.inputs, signs, strict=True) if s > 0],
        "decreasing": [n for n, s in zip(law.inputs, signs, strict=True) if s < 0],
        "tau": law.tau,
    }


def _small_spec(law: SmallNetwork) -> dict[str, object]:
    """All but the weights, which are parameters."""
    (limit,) = {r.high for r in law.constants.values()}
    return {
        "kind": "SmallNetwork",
        "name": law.name,
        "inputs": list(law.inputs),
        "outputs": list(getattr(law, "outputs", ())),
        "hidden": list(law.sizes[1:-1]),
        "activation": law.activation,
        "output": {"kind": type(law.output).__name__, **asdict(law.output)},
        "scale": {n: list(pair) for n, pair in law.scale.items()},
        "tau": law.tau,
        "limit": limit,
    }


def _law(spec: Mapping) -> NeuralLaw | SmallNetwork | FormulaLaw:
    kind = spec["kind"]
    if kind == "formula":
        return _formula(spec)
    if kind == "SmallNetwork":
        return _small_network(spec)
    if kind != "NeuralLaw":
        raise StructureError(f"a law of kind {kind!r}")
    options = {**spec["output"]}
    output = _OUTPUTS[options.pop("kind")](**options)
    given = {n: spec[n] for n in ("hidden", "increasing", "decreasing", "tau")}
    if given["tau"] is not None and not float(given["tau"]) > 0.0:
        raise StructureError(f"tau is {given['tau']!r}")
    return NeuralLaw(*spec["inputs"], output=output, **given)


def _small_network(spec: Mapping) -> SmallNetwork:
    options = {**spec["output"]}
    output = _SMALL_OUTPUTS[options.pop("kind")](**options)
    given = {n: spec[n] for n in ("name", "outputs", "hidden", "activation", "scale", "tau", "limit")}
    for n in ("limit",) if given["tau"] is None else ("limit", "tau"):
        if type(given[n]) not in (int, float) or not 0.0 < given[n] < math.inf:
            raise StructureError(f"{n} is {given[n]!r}")
    return SmallNetwork(*spec["inputs"], output=output, **given)


def _formula(spec: Mapping) -> FormulaLaw:
    text, empirical = spec["expression"], spec["empirical"]
    constants = {n: Range(**r) for n, r in spec["constants"].items()}
    numbers = [v for r in constants.values() for v in (r.low, r.high, r.default)]
    texts = [text, *(r.unit for r in constants.values())]
    flags = [empirical, *(r.fixed for r in constants.values())]
    for values, kinds in ((numbers, (int, float)), (texts, (str,)), (flags, (bool,))):
        for value in values:
            if type(value) not in kinds:
                raise StructureError(f"{value!r} in the formula {text!r}")
    return FormulaLaw(text, constants, empirical)


def _of_member(name: str, value: Tensor, member: int) -> Tensor:
    """Weights (M, in, out), biases (M, 1, out) and scales (M, 1, in) of one member, as of a network without members."""
    chosen = value[member] if value.ndim == 3 else value
    chosen = chosen.flatten() if name.endswith(("centre", "spread")) else chosen
    return chosen.detach().cpu().clone().contiguous()
