"""Recipes: everything that a training run depends on, as a TOML file."""

from __future__ import annotations

import dataclasses
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.augmentation import Augmentation
from training.errors import TrainingError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHIPPED = Path(__file__).resolve().parent / "recipes"


@dataclass(frozen=True)
class DataRecipe:
    """Which data, and how it is split; see `training.datasets`.

    `validation` and `test` are numbers of pictures, or below 1 shares of them, that are split
    off by the seed `split_seed` where the data has no such part of its own: at "random", or by
    "subject" (fold `fold` of `folds`). `size` and `channels` are those of the pictures that the
    network takes (folders and arrays), `classes` the classes' names, in their order. `labels`
    chooses among FER2013's and FER+'s labels. `handwriting` made-up digits are added to MNIST's
    training part.
    """

    name: str = "mnist"
    validation: float = 5000
    test: float = 0.2
    split: str = "random"
    folds: int = 10
    fold: int = 0
    split_seed: int = 0
    size: int = 48
    channels: int = 1
    classes: list[str] = field(default_factory=list)
    labels: str = "original"
    handwriting: int = 0


@dataclass(frozen=True)
class NetworkRecipe:
    """An architecture by name, and its own options (see `training.architectures`)."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """A network that `compare` trains in the place of the recipe's own, and what to call it."""

    label: str
    network: NetworkRecipe


@dataclass(frozen=True)
class OptimiserRecipe:
    """An optimiser by its name in `torch.optim`, and its own options (``lr`` and the like)."""

    name: str = "Adam"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FinishRecipe:
    """A last phase after the recipe's own epochs, on pictures closer to real ones.

    `epochs` more (0: none) at a learning rate that falls from `lr` to nothing, with its own
    milder `augmentation` and without label smoothing; the optimiser is the recipe's, made anew.
    Without `soft` it aims at one label a picture, also where the data has shares of labels.
    `handwriting` is the share of the made-up digits, 0..1, that it goes on with.
    """

    epochs: int = 0
    lr: float = 1e-3
    soft: bool = True
    handwriting: float = 1.0
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class Recipe:
    """A training run.

    `schedule` is "constant"; "one-cycle" (Smith and Topin, 2018: the learning rate rises to its
    full value over the first `warm_up` part of the run and falls to nothing); or "plateau" (the
    learning rate is multiplied by `plateau_factor` after `plateau_patience` epochs without a
    lower validation loss). `sampler` is "shuffled" or "balanced", which draws each class as often
    as any other. `top_up` adds augmented copies to each class that holds less than that share of
    the largest one, up to it (0: none). `standardise` is what pictures are brought to mean 0 and
    deviation 1 by: the whole "data", or each "picture" by itself, which takes its light out.
    `mirror` makes the network look at each picture and its mirror image and take the mean; `zoom`
    does so for the picture that many pixels closer and further at each side (0: not).
    `balance` makes rare classes be found more often, from 0 (as often as they are trained on) to 1
    (as often as all others, where they are trained on as often as they come); below 0 less often,
    down to -1 (as often as they come, where the sampler is "balanced").
    `average` is the decay a step of the averaged weights that are then validated and exported
    (0: none).
    `choose_by` is what makes the best epoch: validation "accuracy", or "loss", which tells
    networks apart that differ by a few pictures only.
    `patience` ends a run after so many epochs without a new best (0: never). `target` is the
    test accuracy, 0..1, that the recipe must reach.
    """

    name: str
    description: str
    task: str
    network: NetworkRecipe
    data: DataRecipe = field(default_factory=DataRecipe)
    optimiser: OptimiserRecipe = field(default_factory=OptimiserRecipe)
    augmentation: Augmentation = field(default_factory=Augmentation)
    finish: FinishRecipe = field(default_factory=FinishRecipe)
    epochs: int = 10
    batch_size: int = 128
    choose_by: str = "accuracy"
    schedule: str = "constant"
    warm_up: float = 0.2
    plateau_factor: float = 0.5
    plateau_patience: int = 10
    sampler: str = "shuffled"
    top_up: float = 0.0
    standardise: str = "data"
    mirror: bool = False
    zoom: int = 0
    balance: float = 0.0
    label_smoothing: float = 0.0
    average: float = 0.0
    patience: int = 0
    seed: int = 0
    target: float = 0.0
    limits: list[str] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, for cards and for comparing runs."""
        return dataclasses.asdict(self)


def shipped() -> list[str]:
    """The names of the recipes that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def read(name: str) -> Recipe:
    """The shipped recipe `name`, or the one in the TOML file of that path; `TrainingError`."""
    path = Path(name)
    if path.suffix != ".toml":
        path = SHIPPED / f"{name}.toml"
        if not path.is_file():
            known = ", ".join(shipped())
            raise TrainingError(
                f"no recipe “{name}”; give one of {known}, or a path to a .toml file"
            )
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"cannot read the recipe {path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainingError(f"{path} is not valid TOML: {error}") from error
    recipe: Recipe = _build(Recipe, values, str(path), "")
    _check(recipe, str(path))
    return recipe


def _build(kind: Any, values: dict[str, Any], file: str, where: str) -> Any:
    """Makes the dataclass `kind` of `values`, naming whatever key is unknown, missing or wrong."""
    known = {item.name: item for item in dataclasses.fields(kind)}
    takes_options = "options" in known
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if takes_options and key != "name":
            arguments.setdefault("options", {})[key] = value
        elif key in known:
            arguments[key] = _value(str(known[key].type), value, file, f"{where}{key}")
        else:
            names = ", ".join(sorted(known))
            raise TrainingError(f"{file}: unknown key “{where}{key}”; known are {names}")
    for item in known.values():
        required = (
            item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        )
        if required and item.name not in arguments:
            raise TrainingError(f"{file}: the key “{where}{item.name}” is missing")
    return kind(**arguments)


_TABLES = {
    "DataRecipe": DataRecipe,
    "NetworkRecipe": NetworkRecipe,
    "OptimiserRecipe": OptimiserRecipe,
    "Augmentation": Augmentation,
    "FinishRecipe": FinishRecipe,
}


def _value(kind: str, value: Any, file: str, where: str) -> Any:
    if kind in _TABLES:
        if not isinstance(value, dict):
            raise TrainingError(f"{file}: “{where}” must be a table, [{where}]")
        return _build(_TABLES[kind], value, file, f"{where}.")
    if kind == "list[Candidate]":
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise TrainingError(f"{file}: “{where}” must be tables, [[{where}]]")
        return [_build(Candidate, item, file, f"{where}.") for item in value]
    fits = {
        "str": isinstance(value, str),
        "bool": isinstance(value, bool),
        "int": type(value) is int,
        "float": type(value) in (int, float) and math.isfinite(value),
        "list[str]": isinstance(value, list) and all(isinstance(item, str) for item in value),
    }
    if not fits[kind]:
        raise TrainingError(f"{file}: “{where}” must be of type {kind}, not {value!r}")
    return float(value) if kind == "float" else value


def _check(recipe: Recipe, file: str) -> None:
    widest = dataclasses.asdict(recipe.augmentation)
    edge = widest.pop("edge")
    data = recipe.data
    rules = [
        (recipe.epochs >= 1, "“epochs” must be 1 or more"),
        (recipe.batch_size >= 2, "“batch_size” must be 2 or more"),
        (
            recipe.schedule in ("constant", "one-cycle", "plateau"),
            "“schedule” is constant, one-cycle or plateau",
        ),
        (0 < recipe.plateau_factor < 1, "“plateau_factor” must lie between 0 and 1"),
        (recipe.plateau_patience >= 0, "“plateau_patience” must be 0 or more"),
        (recipe.sampler in ("shuffled", "balanced"), "“sampler” is shuffled or balanced"),
        (0 <= recipe.top_up <= 1, "“top_up” must be 0 to 1"),
        (recipe.standardise in ("data", "picture"), "“standardise” is data or picture"),
        (recipe.choose_by in ("accuracy", "loss"), "“choose_by” is accuracy or loss"),
        (recipe.zoom >= 0, "“zoom” must be 0 or more"),
        (-1 <= recipe.balance <= 1, "“balance” must be -1 to 1"),
        (recipe.finish.epochs >= 0, "“finish.epochs” must be 0 or more"),
        (recipe.finish.lr > 0, "“finish.lr” must be above 0"),
        (0 <= recipe.finish.handwriting <= 1, "“finish.handwriting” must be 0 to 1"),
        (0 < recipe.warm_up < 1, "“warm_up” must lie between 0 and 1"),
        (0 <= recipe.average < 1, "“average” must be 0 or more and less than 1"),
        (0 <= recipe.label_smoothing < 1, "“label_smoothing” must be 0 or more and less than 1"),
        (recipe.task in ("digit", "face"), "“task” must be digit or face"),
        (data.validation > 0 and data.test > 0, "“data.validation” and “data.test” are above 0"),
        (data.split in ("random", "subject"), "“data.split” is random or subject"),
        (0 <= data.fold < data.folds >= 3, "“data.folds” is 3 or more, “data.fold” less than it"),
        (data.size >= 8, "“data.size” must be 8 or more"),
        (data.channels in (1, 3), "“data.channels” must be 1 or 3"),
        (
            data.labels in ("original", "mixed", "ferplus"),
            "“data.labels” is original, mixed or ferplus",
        ),
        (data.handwriting >= 0, "“data.handwriting” must be 0 or more"),
        (0 <= recipe.seed < 2**63, "“seed” must be 0 or more and less than 2**63"),
        (0 <= recipe.data.split_seed < 2**32, "“data.split_seed” must be 0 to 2**32 - 1"),
        (min(widest.values()) >= 0, "“augmentation” takes 0 or more for each change"),
        (
            max(widest[name] for name in ("thickness", "blur", "flip", "erase")) <= 1,
            "“thickness”, “blur”, “flip” and “erase” are 1 at most",
        ),
        (edge in ("zeros", "border", "reflection"), "“edge” is zeros, border or reflection"),
        (_plain(recipe.name), "“name” takes letters, digits, - and _"),
        (
            all(_plain(candidate.label) for candidate in recipe.candidates),
            "a candidate's “label” takes letters, digits, - and _",
        ),
        (
            len({candidate.label for candidate in recipe.candidates}) == len(recipe.candidates),
            "each candidate needs a “label” of its own",
        ),
    ]
    for holds, message in rules:
        if not holds:
            raise TrainingError(f"{file}: {message}")


def _plain(name: str) -> bool:
    return name.replace("-", "").replace("_", "").isalnum()
