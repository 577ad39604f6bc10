"""Training from Python: what the command line calls too.

    from training import evaluate, export, train

    trained = train("images", "pictures", name="garden", publish="models")
    print(trained.accuracy, trained.folder)

What needs torch, matplotlib or scikit-learn is imported by the functions, so that importing this
module is quick.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec.structs import replace

import model_store
from model_store import Card
from model_store.validation import PlainName
from training.errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor

    from training.datasets import Data, Part
    from training.loop import Result
    from training.progress import Progress
    from training.recipe import DataRecipe, Recipe
    from training.report import Tested

Say = Callable[[str], None]
# Where the data is; of data with further sources, of each source in turn.
Places = str | Path | Sequence[str | Path]

IMPORTED = "imported"  # the key of a card's recipe that says what a model was imported from


@dataclass(frozen=True)
class Trained:
    """What `train` made: the model's card, and the folder that holds its files.

    `history` has the figures of each epoch. `published` is the version's folder in the store, if it
    was published; `report_failure` says why the report could not be written, if so.
    """

    card: Card
    folder: Path
    history: list[dict[str, float]]
    target: float
    report_failure: str = ""
    published: Path | None = None

    @property
    def accuracy(self) -> float:
        """The accuracy on the test part, 0..1."""
        return float(self.card.metrics["test_accuracy"])

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        low, high = self.card.metrics["test_accuracy_interval"]
        return low, high

    @property
    def reached(self) -> bool:
        """Whether the accuracy is the target, or more."""
        return self.accuracy >= self.target


@dataclass(frozen=True)
class Evaluated:
    """A checkpoint's figures on a part of its data, all in 0..1 (see `training.report.metrics`).

    `table` has precision, recall, F1 and support of each class, as text.
    """

    card: Card
    folder: Path
    figures: dict[str, Any]
    table: str

    @property
    def accuracy(self) -> float:
        """The accuracy, 0..1."""
        return float(self.figures["accuracy"])

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        low, high = self.figures["accuracy_interval"]
        return low, high


@dataclass(frozen=True)
class Compared:
    """The candidates of a recipe, as rows and as a Markdown table, and the best one's model."""

    card: Card
    folder: Path
    best: str
    rows: list[dict[str, Any]]
    table: str
    report_failure: str = ""


@dataclass(frozen=True)
class CrossValidated:
    """The figures of all folds' test pictures together, and the accuracy of each fold."""

    recipe: Recipe
    folder: Path
    figures: dict[str, Any]
    folds: list[float]
    split: str


@dataclass(frozen=True)
class LrRange:
    """A learning-rate range test: its steps, each with `lr` and `loss`, and the rate to train with,
    at which the loss falls fastest.
    """

    rows: list[dict[str, float]]
    suggested: float
    folder: Path


def train(
    recipe: str | Path | Recipe,
    data: Places | Data | None = None,
    *,
    out: str | Path | None = None,
    name: str | None = None,
    epochs: int | None = None,
    limit: int | None = None,
    device: str = "auto",
    resume: bool = False,
    publish: str | Path | None = None,
    min_accuracy: float | None = None,
    log: str | None = None,
    say: Say = print,
) -> Trained:
    """Trains a recipe, tests the best epoch's network and writes its files and report.

    `recipe` is a shipped recipe's name, the path of a .toml file, or a `Recipe`; `data` is the
    place of its data (else it is downloaded), or the data itself. The files are written into `out`
    (runs/NAME), and with `publish`, a store's folder, added there as the version that is served, if
    the target is reached: `min_accuracy`, 0..1, or the recipe's. `name` names the model, or else
    the recipe does.

    `epochs` counts instead of the recipe's; no part of the data has more than `limit` pictures;
    `device` is auto, cpu, cuda, cuda:1 or mps; `resume` continues an interrupted run. The `log`
    "tensorboard" is kept for TensorBoard. `say` gets each line of train.log.

    Raises `TrainingError`, `OSError`, or `KeyboardInterrupt` with what to do next.
    """
    from training import datasets, distributed, loop, report  # noqa: PLC0415
    from training.progress import Progress  # noqa: PLC0415

    chosen = with_changes(recipe, epochs=epochs)
    model = chosen.name if name is None else plain_name(name)
    held = data if isinstance(data, datasets.Data) else load(chosen, data, limit)
    folder = Path(out) if out is not None else Path("runs") / model
    with logged(folder, say, keep=resume) as tell:
        if distributed.is_writer():
            datasets.write_skipped(held, folder)
        progress = Progress(folder, log if distributed.is_writer() else None, resume=resume)
        with to_be_resumed(folder):
            result = loop.train(
                chosen,
                held,
                folder,
                resume=resume,
                say=tell,
                each_epoch=progress.epoch,
                device=device,
            )
        distributed.leave_to_the_first()
        card, failure = write_run(result, held, folder, model, progress)
        target = chosen.target if min_accuracy is None else min_accuracy
        trained = Trained(card, folder, result.history, target, failure)
        low, high = trained.interval
        tell(
            f"{card.name} {card.version}: test accuracy {trained.accuracy:.2%} "
            f"(95 % interval {low:.2%} to {high:.2%}) in {card.metrics['train_seconds']:.0f} s, "
            f"epoch {result.best_epoch}"
        )
        if advice := report.few(low, high):
            tell(advice)
        if target:
            tell(f"Target {target:.2%}: {'reached' if trained.reached else 'MISSED'}")
    if publish is None or not trained.reached:
        return trained
    place = model_store.add_version(folder, Path(publish) / card.name)
    return dataclasses.replace(trained, published=place)


def evaluate(
    model: str | Path,
    data: Places | None = None,
    *,
    store: str | Path = model_store.ROOT,
    split: str = "test",
    write: bool = False,
    recipe: str | Path | Recipe | None = None,
) -> Evaluated:
    """Measures a checkpoint as it is served, on the "test" or the "validation" part of its data, or
    on the test part of a further source, by its name.

    `model` is a folder that holds model.pt, that file, or a model's name in `store`, with a version
    as in ``digits@VERSION`` or else that which is served. With `write`
    the report's files are written again, beside the checkpoint; the test part must give the very
    accuracy that the card states. The data is read as the model's own recipe does or, for an
    imported model, as folders of pictures, unless another `recipe` is given. Raises
    `TrainingError` or `StoreError`.
    """
    from tasks import InputSpec  # noqa: PLC0415
    from training import checkpoint, datasets, loop, report  # noqa: PLC0415

    if write and split != "test":
        raise TrainingError("a report covers the test part: omit --split with --write")
    folder = checkpoint_folder(model, store)
    module, card = checkpoint.load_either(folder)
    source = data_recipe(card) if recipe is None else with_changes(recipe).data
    spec = InputSpec(card.input.shape, card.preprocessing)
    places = as_paths(data)
    if split == "test" and (places is None or isinstance(places, Path) or len(places) == 1):
        source = replace(source, also=[])  # the test part is of the first source alone
    held = datasets.load(source, places, card.task, spec)
    parts = {"test": held.test, "validation": held.validation, **held.others}
    if split not in parts:
        raise TrainingError(f"--split: no part “{split}”; the data has {', '.join(parts)}")
    part = parts[split]
    truth = label_places(card, held.labels)[part.labels]
    tested = report.Tested.of(truth, loop.predict(module, part), len(card.labels), card.thresholds)
    figures = tested.figures()
    if write:
        _check_same_test(card, figures)
        write_report(folder, card, tested, part, source.name)
    return Evaluated(card, folder, figures, report.table(tested, card.labels))


def export(model: str | Path, *, store: str | Path = model_store.ROOT) -> Card:
    """Writes a checkpoint's model.pt, model.onnx and card again, without training; its card.

    Its answers stay the same. `model` is as for `evaluate`. Raises `TrainingError` or
    `StoreError`; nothing is written then.
    """
    from training import checkpoint  # noqa: PLC0415

    return checkpoint.export_again(checkpoint_folder(model, store))


def compare(
    recipe: str | Path | Recipe,
    data: Places | None = None,
    *,
    out: str | Path | None = None,
    epochs: int | None = None,
    limit: int | None = None,
    device: str = "auto",
    resume: bool = False,
    say: Say = print,
) -> Compared:
    """Trains each of a recipe's candidates; only the one with the best validation is tested and
    exported, into `out` (runs/NAME-compare). The arguments are those of `train`.
    """
    from training import distributed, loop  # noqa: PLC0415

    chosen = with_changes(recipe, epochs=epochs)
    if not chosen.candidates:
        raise TrainingError(f"{chosen.name} has no [[candidates]] to compare; add at least one")
    held = load(chosen, data, limit)
    folder = Path(out) if out is not None else Path("runs") / f"{chosen.name}-compare"
    rows: list[dict[str, Any]] = []
    kept: Result | None = None
    best_row: dict[str, Any] | None = None
    for candidate in chosen.candidates:
        own = replace(chosen, network=candidate.network)
        place = folder / candidate.label
        resumed = resume and (place / loop.STATE).is_file()
        with logged(place, say, keep=resumed) as tell:
            tell(f"Candidate {candidate.label}")
            result = loop.train(own, held, place, resume=resumed, say=tell, device=device)
        best = result.history[result.best_epoch - 1]
        rows.append(
            {
                "candidate": candidate.label,
                "parameters": sum(each.numel() for each in result.classifier.parameters()),
                "validation_accuracy": best["validation_accuracy"],
                "validation_loss": best["validation_loss"],
                "best_epoch": result.best_epoch,
                "epochs": len(result.history),
                "seconds": round(sum(figures["seconds"] for figures in result.history), 1),
            }
        )
        if best_row is None or rows[-1]["validation_accuracy"] > best_row["validation_accuracy"]:
            kept, best_row = result, rows[-1]
    assert kept is not None and best_row is not None
    distributed.leave_to_the_first()
    card, failure = write_run(kept, held, folder, chosen.name)
    table = _table(rows)
    (folder / "compare.md").write_text(table, encoding="utf-8")
    (folder / "compare.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return Compared(card, folder, best_row["candidate"], rows, table, failure)


def cross_validate(
    recipe: str | Path | Recipe,
    data: Places | None = None,
    *,
    split: Literal["subject", "stratified", "random"] | None = None,
    out: str | Path | None = None,
    epochs: int | None = None,
    limit: int | None = None,
    device: str = "auto",
    resume: bool = False,
    say: Say = print,
) -> CrossValidated:
    """Trains on each fold, and reports on all folds' test pictures together, into `out`
    (runs/NAME-folds).

    `split` says how the folds are made: by "subject", so that nobody is in two of them,
    "stratified", each with the classes' shares, or "random"; by default as the recipe's
    “data.split” does if it makes folds, else stratified. The other arguments are those of `train`.
    """
    import numpy as np  # noqa: PLC0415

    from training import datasets, distributed, loop, report  # noqa: PLC0415

    chosen = with_changes(recipe, epochs=epochs)
    folder = Path(out) if out is not None else Path("runs") / f"{chosen.name}-folds"
    if split is None:
        split = "stratified" if chosen.data.split == "random" else chosen.data.split
    labels: list[str] = []
    truths, told = [], []
    accuracies = []
    parts = datasets.folds(chosen.data, as_paths(data), chosen.task, split, limit=limit)
    for index, held in enumerate(parts):
        fold = replace(chosen.data, split=split, fold=index)
        place = folder / f"fold-{index}"
        resumed = resume and (place / loop.STATE).is_file()
        with logged(place, say, keep=resumed) as tell:
            tell(f"Fold {index + 1} of {chosen.data.folds}")
            own = replace(chosen, data=fold)
            result = loop.train(own, held, place, resume=resumed, say=tell, device=device)
            scores = loop.predict(result.classifier, held.test)
            tested = report.Tested.of(held.test.labels, scores, len(held.labels), {})
            accuracies.append(float(tested.figures()["accuracy"]))
            tell(f"Test accuracy {accuracies[-1]:.2%} on {len(tested.truth)} pictures")
        labels = held.labels
        truths.append(tested.truth)
        told.append(tested.probabilities)
    distributed.leave_to_the_first()
    together = report.Tested(np.concatenate(truths), np.concatenate(told))
    figures = together.figures()
    report.write(folder, labels, together)
    summary = {**figures, "folds": accuracies, "split": split}
    (folder / "folds.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return CrossValidated(chosen, folder, figures, accuracies, split)


def lr_range(
    recipe: str | Path | Recipe,
    data: Places | None = None,
    *,
    out: str | Path | None = None,
    limit: int | None = None,
    device: str = "auto",
) -> LrRange:
    """Trains with a learning rate that rises step by step, to see which are too low or too high.

    Writes lr_range.csv and .png into `out` (runs/NAME-lr-range). The arguments are those of
    `train`. Raises `TrainingError`.
    """
    from training import loop, report  # noqa: PLC0415

    chosen = with_changes(recipe)
    folder = Path(out) if out is not None else Path("runs") / f"{chosen.name}-lr-range"
    rows = loop.lr_range(chosen, load(chosen, data, limit), device=device)
    suggested = loop.suggested_lr(rows)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lr_range.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ["lr", "loss"])
        table.writeheader()
        table.writerows(rows)
    report.draw_lr_range(rows, suggested, folder / "lr_range.png")
    return LrRange(rows, suggested, folder)


def with_changes(
    recipe: str | Path | Recipe, *, name: str | None = None, epochs: int | None = None
) -> Recipe:
    """The recipe, read if it is not one, with another `name` or number of `epochs`.

    With `epochs` there is no fine-tuning. Raises `TrainingError`.
    """
    from training import recipe as recipes  # noqa: PLC0415

    held = recipe if isinstance(recipe, recipes.Recipe) else recipes.read(str(recipe))
    if name is not None:
        held = replace(held, name=plain_name(name))
    if epochs is None:
        return held
    if epochs < 1:
        raise TrainingError("--epochs must be 1 or more")
    return replace(held, epochs=epochs, fine_tune=recipes.FineTuneRecipe())


def plain_name(name: str) -> str:
    """`name`, if it can be a model's; raises `TrainingError`."""
    try:
        return msgspec.convert(name, PlainName)
    except msgspec.ValidationError as error:
        raise TrainingError(
            f"“{name}” cannot name a model: use letters, digits, - and _ alone"
        ) from error


def checkpoint_folder(model: str | Path, store: str | Path) -> Path:
    """The folder of a checkpoint, given as its file, the folder, or a name in the store.

    Raises `TrainingError` or `StoreError`.
    """
    given = Path(model).expanduser()
    if given.name == model_store.CHECKPOINT and given.is_file():
        return given.parent
    folder, version = given, None
    if not given.is_dir() and "@" in given.name:
        name, version = model_store.split_name(given.name)
        folder = given.with_name(name)
    places = [place for place in (folder, Path(store) / folder) if place.is_dir()]
    # A folder of pictures may be called as the model is that was trained on them.
    holding = [place for place in places if model_store.is_model_folder(place)]
    if version is not None and holding:
        return model_store.version_folder(holding[0], version)
    if version is None and places:
        return model_store.current_folder((holding or places)[0])
    known = ", ".join(each.name for each in model_store.folders(Path(store))) or "none"
    raise TrainingError(
        f"there is no checkpoint {model}; name a folder that holds model.pt, or a model of the "
        f"store {store}: {known}"
    )


def load(recipe: Recipe, data: Places | None, limit: int | None = None) -> Data:
    """A recipe's data, from the place `data`, or downloaded; raises `TrainingError`.

    No part of it has more than `limit` pictures.
    """
    from training import datasets  # noqa: PLC0415

    return datasets.load(recipe.data, as_paths(data), recipe.task, limit=limit)


def as_paths(given: Places | None) -> Path | list[Path] | None:
    """The place of the data, or of each of its sources."""
    if given is None or isinstance(given, str | Path):
        return None if given is None else Path(given)
    return [Path(place) for place in given]


@contextmanager
def logged(folder: Path, say: Say, *, keep: bool) -> Iterator[Say]:
    """Makes the folder of a run; the function that it gives says a line and logs it there.

    With `keep` the log goes on from the one that is there. Of several processes that torchrun
    started, only the first one says and writes anything.
    """
    from training import distributed  # noqa: PLC0415

    if not distributed.is_writer():
        yield lambda line: None
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "train.log").open("a" if keep else "w", encoding="utf-8") as log:

        def tell(line: str) -> None:
            say(line)
            log.write(line + "\n")
            log.flush()

        yield tell


@contextmanager
def to_be_resumed(folder: Path) -> Iterator[None]:
    """Lets an interruption say how the run in `folder` goes on, once an epoch of it is saved."""
    from training import loop  # noqa: PLC0415

    try:
        yield
    except KeyboardInterrupt:
        if (folder / loop.STATE).exists():
            raise KeyboardInterrupt(
                "The last complete epoch is saved: continue with --resume."
            ) from None
        raise


def write_run(
    result: Result,
    data: Data,
    folder: Path,
    name: str,
    progress: Progress | None = None,
    *,
    reported: Mapping[str, Any] | None = None,
) -> tuple[Card, str]:
    """Tests the best epoch's network and writes its checkpoint, its card and then its report.

    `name` is the model's; of an update, `reported` is what people reported. Returns the card, and
    why the report could not be written, if so: the checkpoint of a long training is there all the
    same.
    """
    from training import checkpoint, loop, report  # noqa: PLC0415

    labels = len(data.labels)
    tested = report.Tested.of(
        data.test.labels, loop.predict(result.classifier, data.test), labels, result.thresholds
    )
    metrics = {
        "validation_accuracy": result.history[result.best_epoch - 1]["validation_accuracy"],
        **{f"test_{name}": value for name, value in tested.figures().items()},
        "train_seconds": round(sum(figures["seconds"] for figures in result.history), 1),
    }
    if data.rejects:
        told = loop.predict(result.classifier, data.validation)
        figures = report.Tested.of(
            data.validation.labels, told, labels, result.thresholds
        ).figures()
        kept = ("refused", "others_count", "others_caught")
        metrics |= {f"validation_{key}": figures[key] for key in kept if key in figures}
    for other, part in data.others.items():
        told = loop.predict(result.classifier, part)
        figures = report.Tested.of(part.labels, told, labels, result.thresholds).figures()
        metrics |= {f"test_{other}_{key}": value for key, value in figures.items()}
    if reported is not None:
        metrics["reports"] = reported
    card = checkpoint.export(result, result.recipe, data, metrics, folder, name=name)
    try:
        if progress is not None:
            progress.close(result.history)
        write_report(folder, card, tested, data.test, result.recipe.data.name)
    except Exception as error:  # of whatever kind
        return card, f"{type(error).__name__}: {error}"
    return card, ""


def write_report(folder: Path, card: Card, tested: Tested, part: Part, data: str) -> None:
    """Writes the report of a test on `part` of the data set `data` into `folder`."""
    import torch  # noqa: PLC0415

    from training import report  # noqa: PLC0415

    known = part.subset(part.labels < len(card.labels))
    report.write(folder, card.labels, tested, card.metrics.get("reports"))
    report.write_hardest(
        folder,
        card.labels,
        tested,
        pictures=lambda chosen: known.batch(torch.from_numpy(chosen)).numpy(),
        data=data,
    )


def _table(rows: list[dict[str, Any]]) -> str:
    """Candidates as a Markdown table, best first."""
    lines = [
        "| candidate | validation accuracy | validation loss | parameters | best epoch | seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in sorted(rows, key=lambda row: -row["validation_accuracy"]):
        lines.append(
            f"| {row['candidate']} | {row['validation_accuracy']:.2%} | "
            f"{row['validation_loss']:.4f} | {row['parameters']:,} | "
            f"{row['best_epoch']} of {row['epochs']} | {row['seconds']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def label_places(card: Card, labels: list[str]) -> Tensor:
    """The index of each of the data's `labels` in the card's, and that of none of them, (K + 1,).

    Raises `TrainingError`.
    """
    import torch  # noqa: PLC0415

    if sorted(labels) != sorted(card.labels):
        raise TrainingError(
            f"the data's labels ({', '.join(labels)}) are not those of {card.name} "
            f"({', '.join(card.labels)}); give data with the model's labels"
        )
    return torch.tensor([*(card.labels.index(label) for label in labels), len(labels)])


def _check_same_test(card: Card, figures: dict[str, Any]) -> None:
    """Raises `TrainingError` if the card is of another test than `figures`."""
    told = [(card.metrics.get(f"test_{name}"), figures[name]) for name in ("count", "accuracy")]
    if any(said not in (None, found) for said, found in told):
        raise TrainingError(
            f"nothing was written: the card of {card.name} is of another test "
            f"({told[0][0]} pictures, accuracy {told[1][0]}) than this one "
            f"({told[0][1]} pictures, accuracy {told[1][1]}); give the data that it was tested on"
        )


def data_recipe(card: Card) -> DataRecipe:
    """The data that a model was trained with, without the pictures added for training only; of an
    imported one, folders of pictures, most of which test it.
    """
    from training.recipe import DataRecipe  # noqa: PLC0415

    if IMPORTED in card.recipe:
        return DataRecipe(name="folders", validation=0.1, test=0.8)
    try:
        return replace(msgspec.convert(card.recipe["data"], DataRecipe), handwriting=0)
    except (KeyError, msgspec.ValidationError) as error:
        raise TrainingError(
            f"the card of {card.name} does not name its data; train the model again"
        ) from error
