"""Recipes: all settings of a training run, as a TOML file."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from model_store.card import RENAMED_IN_RECIPES
from model_store.validation import PlainName, complaint
from training.augmentation import Augmentation
from training.errors import TrainingError

if TYPE_CHECKING:
    from training.bases import Base

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHIPPED = Path(__file__).resolve().parent / "recipes"
BATCH_PIXELS = 32 * 160 * 160  # of all pictures in a batch: training then fits into 4 GB

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
ShareBelowOne = Annotated[float, Meta(ge=0, lt=1)]
HeldOut = Annotated[float, Meta(gt=0, le=1e9)]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of a recipe; an unknown key is an error."""


class DataRecipe(Table, frozen=True, kw_only=True):
    """The data and how it is split; see `training.datasets`.

    `validation` and `test` are numbers of pictures or, below 1, shares. `split` says how parts
    that the data does not have itself are split off, with the seed `split_seed`: at "random" by
    these numbers or shares, every class about alike; or by folds, fold `fold` of `folds` being
    the test part and the next one the validation part: "stratified" by class, or by "subject", so
    that nobody is in two of them. The network takes pictures of `size` pixels a side (0: 28 for
    MNIST and its kin, else 48) with `channels` channels; pictures of other shapes are cropped to
    their centre or letterboxed, as `fit` says. `classes` are the classes' names, in order; `rename`
    gives some of them another name. `labels` selects FER2013's or FER+'s labels. `handwriting` is
    the number of synthetic digits added to MNIST's training part. `most_skipped` is the share of
    the pictures that may be skipped because they cannot be read, and `memory` the gigabytes of
    pictures that are kept in memory; beyond, they are kept on disk.

    `also` are further sources, each a table like this one, in the order of their places (--data).
    Their training and validation pictures are added to this one's, and the test part of each is
    reported by itself; with `tests` false, a source that is split into folds has no test part:
    fold `fold` validates, and all others train. They have this one's labels; pictures of other
    classes are left out. A small one may count `times` over in an epoch.
    `reject` is the class of pictures that show none of the labels: it is no label itself, and the
    network learns to tell how likely a picture is of that kind. `drawings` is how often each
    figure of “strokes” is drawn, each time otherwise, and `doodles` the number of doodles, pairs
    and parts of digits that are added to these, for the class “none”.
    """

    name: str = "mnist"
    validation: HeldOut = 0.1
    test: HeldOut = 0.2
    split: Literal["random", "stratified", "subject"] = "random"
    folds: Annotated[int, Meta(ge=3)] = 10
    fold: Count = 0
    split_seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    size: Count = 0
    channels: Literal[1, 3] = 1
    fit: Literal["crop", "letterbox"] = "crop"
    classes: list[str] = []
    labels: Literal["original", "mixed", "votes", "ferplus"] = "original"
    rename: dict[str, str] = {}
    times: Annotated[int, Meta(ge=1, le=100)] = 1
    handwriting: Count = 0
    most_skipped: Share = 0.1
    memory: Annotated[float, Meta(ge=0, le=1e6)] = 0.25
    also: list[DataRecipe] = []
    tests: bool = True
    reject: str = ""
    drawings: Annotated[int, Meta(ge=1, le=100)] = 1
    doodles: Count = 0

    def __post_init__(self) -> None:
        if self.fold >= self.folds:
            raise ValueError("“data.fold” counts from 0: it must be less than “data.folds”")


class NetworkRecipe(Table, frozen=True):
    """An architecture by name, and its own options (see `training.architectures`).

    `base`, the key ``from``, is a checkpoint whose weights it goes on from: a model's name in the
    store, its folder or its file. Name and options are then that checkpoint's. Its last layer is a
    new one, unless the labels are the same. The first `keep` of its columns stand beside the
    trained ones as they are.
    """

    name: str = ""
    options: dict[str, Any] = {}
    base: str = msgspec.field(default="", name="from")
    keep: Count = 0

    def __post_init__(self) -> None:
        if self.keep and not self.base:
            raise ValueError("“network.keep” keeps columns of a checkpoint: set “network.from” too")
        if not self.name and not self.base:
            raise ValueError("the key “network.name” is missing")


class TransferRecipe(Table, frozen=True, kw_only=True):
    """How a network goes on from trained weights.

    In the first `head_epochs` epochs only the last layer is trained. `first_layer` is the first
    layer's learning rate as a share of the last one's; those between lie on a geometric line
    (Howard and Ruder, 2018). With `keep_norms` all batch norms keep the means and deviations that
    they came with, which suits few pictures.
    """

    head_epochs: Count = 0
    first_layer: Annotated[float, Meta(gt=0, le=1)] = 1.0
    keep_norms: bool = False


class Candidate(Table, frozen=True):
    """A network that `compare` trains in place of the recipe's own, and what to call it."""

    label: PlainName
    network: NetworkRecipe


class OptimiserRecipe(Table, frozen=True):
    """An optimiser by its name in `torch.optim`, and its own options (``lr`` and the like)."""

    name: str = "Adam"
    options: dict[str, Any] = {}


class Values(Table, frozen=True, kw_only=True):
    """What `search` tries for a key: numbers from `low` to `high`, or one of `choices`.

    Whole numbers give whole numbers. With `log`, each order of magnitude is tried equally often.
    """

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: Annotated[list[Any], Meta(min_length=1)] | None = None

    def __post_init__(self) -> None:
        if (self.choices is None) == (self.low is None or self.high is None):
            raise ValueError("a key of “search” needs “low” and “high”, or else “choices”")
        if self.low is not None and self.high is not None:
            if self.low >= self.high:
                raise ValueError("“low” must be less than “high” in each key of “search”")
            if self.log and self.low <= 0:
                raise ValueError("“low” must be above 0 in keys of “search” with “log”")


class FineTuneRecipe(Table, frozen=True, kw_only=True):
    """A last phase after the recipe's own epochs, on pictures closer to real ones.

    It lasts `epochs` (0: there is none), at a learning rate that falls linearly from `lr` to
    almost 0, with its own, milder `augmentation` and without label smoothing. The optimiser is the
    recipe's, started afresh. Without `soft` the target is a single label for each picture, even if
    the data has label shares. `handwriting` is the share of the synthetic digits, 0..1, that is
    kept in the training part.
    """

    epochs: Count = 0
    lr: Annotated[float, Meta(gt=0, le=1000)] = 1e-3
    soft: bool = True
    handwriting: Share = 1.0
    augmentation: Augmentation = Augmentation()


class UpdateRecipe(Table, frozen=True, kw_only=True):
    """How a model learns from what people reported; see `training.update`.

    Of each reporter the newest `most_each` reports count. About `held_back` of all, a share, are
    those of reporters from whom it does not learn: they test the new version. It learns for
    `epochs`, at the share `lr` of the recipe's learning rate, from at most `rehearsal` pictures of
    the recipe's own training part and the reports, which are repeated until they are the share
    `reports` of an epoch. Of the target of the former, the share `distil` is what the present
    version answers. With `old_weights` the new weights are a moving average that still holds that
    share of the old ones. It is published if it is better on the reports held back, and worse on
    the validation part by less than `most_loss`, each by a test at the `level`.
    """

    most_each: Annotated[int, Meta(ge=1)] = 200
    held_back: Annotated[float, Meta(gt=0, lt=1)] = 0.3
    epochs: Annotated[int, Meta(ge=1)] = 4
    lr: Annotated[float, Meta(gt=0, le=1)] = 0.1
    rehearsal: Annotated[int, Meta(ge=1)] = 20_000
    reports: Annotated[float, Meta(gt=0, lt=1)] = 0.2
    distil: Share = 0.0
    old_weights: ShareBelowOne = 0.0
    level: Annotated[float, Meta(gt=0, lt=0.5)] = 0.05
    most_loss: Annotated[float, Meta(gt=0, lt=1)] = 0.001


class Recipe(Table, frozen=True, kw_only=True):
    """A training run.

    Where `epochs`, `batch_size` or `warm_up` is 0, it follows from the number of pictures, as
    `fitted` says.
    `schedule` is "constant"; "linear" (the learning rate falls to almost 0); "one-cycle" (Smith and
    Topin, 2018: it rises to its full value over the first `warm_up` part of the run and falls to
    almost 0); or "plateau" (it is multiplied by `plateau_factor` after `plateau_patience` epochs
    without a lower validation loss).
    `sampler` is "shuffled" or "balanced", which samples all classes equally often. `top_up` adds
    augmented copies to each class that has less than that share of the largest, until it has that
    size (0: only classes of fewer than 20 pictures are topped up, to 20 at most).
    `normalise` brings pictures to mean 0 and standard deviation 1: by the statistics of the whole
    "data", of each "picture", which removes its brightness, or as for the "base", the weights that
    it goes on from. Test-time augmentation: `mirror` averages the logits over each picture and its
    mirror image, and `zoom` over the picture zoomed in and out by so many pixels at each side (0:
    not at all).
    `most_refused` is the share of the validation pictures of any label that a network which rejects
    may refuse by mistake: its threshold follows from it.
    `balance` shifts the class prior of the predictions: 0 keeps that of training, 1 makes all
    classes equally likely (if they are sampled at their true frequency), and -1 restores their true
    frequency (if the sampler is "balanced").
    `average` is the decay per step of a moving average of the weights, which is then validated and
    exported (0: none).
    `choose_by` selects the best epoch: by validation "accuracy", or by "loss", which is finer if
    epochs differ by a few pictures only; or it is the "last" one.
    `search` is what the command `search` tries, by the key's dotted name (“optimiser.lr”).
    `patience` stops a run after so many epochs without a new best (0: never). `target` is the
    test accuracy, 0..1, that the recipe must reach.
    """

    name: PlainName
    description: str
    task: PlainName
    network: NetworkRecipe
    data: DataRecipe = DataRecipe()
    optimiser: OptimiserRecipe = OptimiserRecipe()
    augmentation: Augmentation = Augmentation()
    fine_tune: FineTuneRecipe = FineTuneRecipe()
    transfer: TransferRecipe = TransferRecipe()
    update: UpdateRecipe = UpdateRecipe()
    epochs: Count = 0
    batch_size: Count = 0
    choose_by: Literal["accuracy", "loss", "last"] = "accuracy"
    schedule: Literal["constant", "linear", "one-cycle", "plateau"] = "constant"
    warm_up: ShareBelowOne = 0.0
    plateau_factor: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    plateau_patience: Count = 10
    sampler: Literal["shuffled", "balanced"] = "shuffled"
    top_up: Share = 0.0
    normalise: Literal["data", "picture", "base"] = "data"
    mirror: bool = False
    zoom: Count = 0
    most_refused: Annotated[float, Meta(gt=0, lt=1)] = 0.003
    balance: Annotated[float, Meta(ge=-1, le=1)] = 0.0
    label_smoothing: ShareBelowOne = 0.0
    average: ShareBelowOne = 0.0
    patience: Count = 0
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    target: Share = 0.0
    limits: list[str] = []
    candidates: list[Candidate] = []
    search: dict[str, Values] = {}

    def __post_init__(self) -> None:
        labels = [candidate.label for candidate in self.candidates]
        if len(set(labels)) < len(labels):
            raise ValueError("each of the “candidates” needs its own “label”")

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, for cards and for comparing runs."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        return values


def fitted(recipe: Recipe, pictures: int, base: Base | None = None) -> Recipe:
    """The recipe with all that it leaves open, for so many training `pictures`.

    A batch has about a 32nd of them, a power of two from 8 to 128, or fewer where they are so
    large that a batch would have more than `BATCH_PIXELS`. The epochs fall with the square
    root of their number: from scratch to 10 at least, from trained weights to 5 at least. The
    learning rate rises for a fifth of the epochs, or for 100 steps where that is longer. The
    network is that of the checkpoint `base`, if the recipe goes on from one.
    """
    network = recipe.network
    if base is not None:
        name, options = base.network["name"], {**base.network["options"], **network.options}
        if network.name not in ("", name):
            raise TrainingError(
                f"“network.name” is {network.name}, but {base.name} is a {name}; remove the key"
            )
        if network.keep:
            if not network.keep <= base.columns or base.columns < 2:
                raise TrainingError(base.does_not_keep(network.keep))
            options["columns"] = base.columns + network.keep
        network = replace(network, name=name, options=options)
    starts_trained = base is not None or recipe.normalise == "base"
    fits = 2 ** int(math.log2(BATCH_PIXELS / (recipe.data.size or 48) ** 2))
    batch_size = recipe.batch_size or min(
        2 ** round(math.log2(min(max(pictures / 32, 8), 128))), max(8, fits)
    )
    most, least = (16, 5) if starts_trained else (60, 10)
    epochs = recipe.epochs or min(max(round(most * math.sqrt(160 / pictures)), least), 2 * most)
    steps = epochs * -(-pictures // batch_size)
    warm_up = recipe.warm_up or min(max(0.2, 100 / steps), 0.3)
    return replace(recipe, network=network, epochs=epochs, batch_size=batch_size, warm_up=warm_up)


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
    return from_table(values, str(path))


def from_table(values: Any, name: str) -> Recipe:
    """The recipe in the parsed TOML file `name`; raises `TrainingError`, which names the file."""
    try:
        return msgspec.convert(_with_options(values), Recipe)
    except msgspec.ValidationError as error:
        reason = complaint(error, Recipe, RENAMED_IN_RECIPES)
        raise TrainingError(f"{name}: {reason}") from error


def to_table(recipe: Recipe) -> dict[str, Any]:
    """The TOML file, parsed, from which `read` makes `recipe`; without values that are defaults."""
    network = NetworkRecipe("any")
    default = Recipe(name="", description="", task="", network=network).to_dict()
    table = _difference(recipe.to_dict(), default)
    for holder in (table, *table.get("candidates", [])):
        for key in holder.keys() & {"network", "optimiser"}:
            holder[key] |= holder[key].pop("options", {})
    return table


def _difference(values: dict[str, Any], default: dict[str, Any]) -> dict[str, Any]:
    """What of `values` is not the same in `default`, table by table."""
    return {
        key: _difference(value, default[key]) if isinstance(default.get(key), dict) else value
        for key, value in values.items()
        if value != default.get(key)
    }


def _with_options(table: Any) -> Any:
    """`table` with the keys of networks and optimisers, but for the name, made their options."""
    if not isinstance(table, dict):
        return table
    values = dict(table)
    for key in ("network", "optimiser"):
        if isinstance(held := values.get(key), dict):
            own = ("name", "from", "keep") if key == "network" else ("name",)
            options = {name: value for name, value in held.items() if name not in own}
            named = {name: held[name] for name in own if name in held}
            values[key] = {**named, "options": options}
    if isinstance(candidates := values.get("candidates"), list):
        values["candidates"] = [_with_options(candidate) for candidate in candidates]
    return values
