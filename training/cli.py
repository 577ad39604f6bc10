"""The command line of the training package."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

import model_store
from model_store import Card, CardError, StoreError
from training.errors import TrainingError

# What needs torch, matplotlib or scikit-learn is imported by the commands: --help does without.
if TYPE_CHECKING:
    from torch import Tensor

    from tasks import InputSpec
    from training.datasets import Data
    from training.loop import Result
    from training.recipe import DataRecipe, Recipe


PUBLISHED = (".pt", ".onnx", ".json", ".png", ".txt", ".log")  # what of a run


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, 1 (a target was missed), 2 or 130 (Ctrl-C)."""
    return run(_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Runs the command that was parsed, and prints its errors; returns the exit status."""
    try:
        status: int = arguments.run(arguments)
    except (TrainingError, StoreError, CardError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}; check the path and the space that is left", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate memory" not in str(error):
            raise
        print("error: out of memory; lower the recipe's “batch_size”", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    return status


def ask_for_huge_pages() -> None:
    """Has torch allocate in huge pages; to be called before torch is imported.

    Each step makes and frees tensors of many megabytes, and mapping those in small pages takes
    longer than computing them.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Train image classifiers and report their accuracy.",
    )
    add_commands(parser.add_subparsers(required=True, metavar="COMMAND"))
    return parser


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds training's commands; `run` takes the arguments that they give."""
    train = commands.add_parser("train", help="train a recipe, report on it and export it")
    train.add_argument("recipe", metavar="RECIPE", help="a shipped recipe's name, or a .toml file")
    _add_data(train)
    train.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (runs/NAME)")
    train.add_argument("--resume", action="store_true", help="continue an interrupted run")
    train.add_argument(
        "--epochs", type=int, metavar="N", help="instead of the recipe's, for a quick try"
    )
    train.add_argument(
        "--publish",
        action="store_true",
        help="if the target is reached, copy the result to the store, "
        "which the app serves, in place of the old",
    )
    _add_store(train)
    train.add_argument(
        "--min-accuracy",
        type=float,
        metavar="SHARE",
        help="the target, 0..1, instead of the recipe's: exit with 1 if it is missed",
    )
    train.set_defaults(run=_train)

    compare = commands.add_parser(
        "compare", help="train each of a recipe's candidate networks and keep the best"
    )
    _add_runs(compare, "a recipe with [[candidates]]", "runs/NAME-compare")
    compare.set_defaults(run=_compare)

    folds = commands.add_parser(
        "cross-validate",
        help="train a recipe once for each fold, and test it on people it has not seen",
    )
    _add_runs(folds, "a recipe for folders of pictures", "runs/NAME-folds")
    folds.set_defaults(run=_cross_validate)

    evaluate = commands.add_parser("evaluate", help="measure a checkpoint as it is served")
    _add_checkpoint(evaluate)
    _add_data(evaluate)
    evaluate.add_argument("--split", choices=["test", "validation"], default="test")
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    evaluate.add_argument(
        "--write",
        action="store_true",
        help="write the report's files again, beside the checkpoint; the test part must give "
        "the very accuracy that the card states",
    )
    evaluate.set_defaults(run=_evaluate)

    again = commands.add_parser(
        "export", help="write a checkpoint's model.pt, model.onnx and card again, without training"
    )
    _add_checkpoint(again)
    again.set_defaults(run=_export_again)

    listing = commands.add_parser("list", help="list the shipped recipes and the store's models")
    _add_store(listing)
    listing.set_defaults(run=_list)

    search = commands.add_parser("search", help="search a recipe's best settings, by validation")
    _add_runs(search, "a recipe, whose [search] says what is tried", "runs/NAME-search")
    search.add_argument("--trials", type=int, default=20, metavar="N", help="how many (20)")
    search.add_argument("--limit", type=int, metavar="N", help="train on N pictures alone")
    search.set_defaults(run=_search)


def _add_runs(parser: argparse.ArgumentParser, recipe: str, out: str) -> None:
    """Adds the arguments of commands with several runs."""
    parser.add_argument("recipe", metavar="RECIPE", help=recipe)
    _add_data(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"({out})")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run")
    parser.add_argument("--epochs", type=int, metavar="N", help="instead of the recipe's")


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the data's files (else downloaded)"
    )


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store",
        type=Path,
        default=os.environ.get("GLIMPSE_MODEL_STORE") or model_store.ROOT,
        metavar="DIR",
        help="the folder of model folders (the setting GLIMPSE_MODEL_STORE, or the shipped one)",
    )


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="CHECKPOINT",
        help="model.pt, its folder, or the name of a model in the store",
    )
    _add_store(parser)


def _train(arguments: argparse.Namespace) -> int:
    from training import loop  # noqa: PLC0415

    recipe = _recipe(arguments)
    data = load(recipe.data, arguments.data, recipe.task)
    folder: Path = arguments.out or Path("runs") / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "train.log").open("a" if arguments.resume else "w", encoding="utf-8") as log:
        say = _both(log)
        try:
            result = loop.train(recipe, data, folder, resume=arguments.resume, say=say)
        except KeyboardInterrupt:
            if (folder / loop.STATE).exists():
                print(
                    "\nThe last complete epoch is saved: continue with --resume.", file=sys.stderr
                )
            raise
        card = _export(result, recipe, data, folder)
        accuracy = card.metrics["test_accuracy"]
        low, high = card.metrics["test_accuracy_interval"]
        say(
            f"{card.name} {card.version}: test accuracy {accuracy:.2%} "
            f"(95 % interval {low:.2%} to {high:.2%}) in {card.metrics['train_seconds']:.0f} s, "
            f"epoch {result.best_epoch}"
        )
        target = recipe.target if arguments.min_accuracy is None else arguments.min_accuracy
        reached: bool = accuracy >= target
        say(f"Target {target:.2%}: {'reached' if reached else 'MISSED'}")
    print(f"Written to {folder}")  # not to the log, which is published
    if arguments.publish and reached:
        _publish(folder, arguments.store / recipe.name)
    elif arguments.publish:
        print("Not published: the target was missed. --min-accuracy sets another target.")
    return 0 if reached else 1


def _compare(arguments: argparse.Namespace) -> int:
    """Trains each candidate; only the one with the best validation is tested and exported."""
    from training import loop  # noqa: PLC0415

    recipe = _recipe(arguments)
    if not recipe.candidates:
        raise TrainingError(
            f"{arguments.recipe} has no [[candidates]] to compare; add at least one"
        )
    data = load(recipe.data, arguments.data, recipe.task)
    out: Path = arguments.out or Path("runs") / f"{recipe.name}-compare"
    rows: list[dict[str, Any]] = []
    kept: tuple[Recipe, Result] | None = None
    for candidate in recipe.candidates:
        chosen = replace(recipe, network=candidate.network)
        with _logged(out / candidate.label, resume=arguments.resume) as (folder, resume, say):
            say(f"Candidate {candidate.label}")
            result = loop.train(chosen, data, folder, resume=resume, say=say)
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
        if kept is None or rows[-1]["validation_accuracy"] > max(
            row["validation_accuracy"] for row in rows[:-1]
        ):
            kept = chosen, result
    assert kept is not None
    card = _export(kept[1], kept[0], data, out)
    table = _table(rows)
    (out / "compare.md").write_text(table, encoding="utf-8")
    (out / "compare.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(table)
    best_row = max(rows, key=lambda row: float(row["validation_accuracy"]))
    print(
        f"Kept {best_row['candidate']}: test accuracy {card.metrics['test_accuracy']:.2%}; "
        f"written to {out}"
    )
    return 0


@contextmanager
def _logged(folder: Path, *, resume: bool) -> Iterator[tuple[Path, bool, Callable[[str], None]]]:
    """One of several runs: its folder, whether it has a state to resume, and its log function."""
    from training import loop  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    begun = resume and (folder / loop.STATE).is_file()
    with (folder / "train.log").open("a" if begun else "w", encoding="utf-8") as log:
        yield folder, begun, _both(log)


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


def _cross_validate(arguments: argparse.Namespace) -> int:
    """Trains on each fold and reports on all folds' test pictures together."""
    import numpy as np  # noqa: PLC0415

    from training import loop, report  # noqa: PLC0415

    recipe = _recipe(arguments)
    out: Path = arguments.out or Path("runs") / f"{recipe.name}-folds"
    labels: list[str] = []
    truths, told = [], []
    accuracies = []
    for index in range(recipe.data.folds):
        fold = replace(recipe.data, split="subject", fold=index)
        data = load(fold, arguments.data, recipe.task)
        with _logged(out / f"fold-{index}", resume=arguments.resume) as (folder, resume, say):
            say(f"Fold {index + 1} of {recipe.data.folds}")
            result = loop.train(replace(recipe, data=fold), data, folder, resume=resume, say=say)
            probabilities = loop.predict(result.classifier, data.test.pictures).numpy()
            truth = data.test.labels.numpy()
            accuracies.append(float((probabilities.argmax(1) == truth).mean()))
            say(f"Test accuracy {accuracies[-1]:.2%} on {len(truth)} pictures")
        labels = data.labels
        truths.append(truth)
        told.append(probabilities)
    truth, probabilities = np.concatenate(truths), np.concatenate(told)
    figures = report.metrics(truth, probabilities)
    report.write(out, labels, truth, probabilities, history=None)
    summary = {**figures, "folds": accuracies, "split": "by subject"}
    (out / "folds.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    low, high = figures["accuracy_interval"]
    print(
        f"{recipe.name}, {len(accuracies)} folds by subject: accuracy {figures['accuracy']:.2%} "
        f"of {len(truth)} pictures (95 % interval {low:.2%} to {high:.2%}), folds "
        f"{min(accuracies):.2%} to {max(accuracies):.2%}; written to {out}"
    )
    return 0


def _search(arguments: argparse.Namespace) -> int:
    from training import recipe as recipes  # noqa: PLC0415
    from training import search  # noqa: PLC0415

    _recipe(arguments)  # checks --epochs
    recipe = recipes.read(arguments.recipe)
    data = load(recipe.data, arguments.data, recipe.task)
    if arguments.limit is not None:
        data = search.limited(data, arguments.limit, recipe.seed)
    out: Path = arguments.out or Path("runs") / f"{recipe.name}-search"
    search.search(
        recipe,
        data,
        out,
        trials=arguments.trials,
        epochs=arguments.epochs,
        resume=arguments.resume,
        say=partial(print, flush=True),
    )
    print((out / "search.md").read_text(encoding="utf-8"))
    print(f"The best settings are the recipe {out / search.BEST}: train it")
    return 0


def load(recipe: DataRecipe, folder: Path | None, task: str, spec: InputSpec | None = None) -> Data:
    """The data that `recipe` names; see `training.datasets.load`."""
    from training import datasets  # noqa: PLC0415

    return datasets.load(recipe, folder, task, spec)


def _recipe(arguments: argparse.Namespace) -> Recipe:
    from training import recipe as recipes  # noqa: PLC0415

    recipe = recipes.read(arguments.recipe)
    if arguments.epochs is None:
        return recipe
    if arguments.epochs < 1:
        raise TrainingError("--epochs must be 1 or more")
    return replace(recipe, epochs=arguments.epochs, fine_tune=recipes.FineTuneRecipe())


def _export(result: Result, recipe: Recipe, data: Data, folder: Path) -> Card:
    """Tests the best epoch's network and writes its report, checkpoint and card."""
    from training import export, loop, report  # noqa: PLC0415

    truth = data.test.labels.numpy()
    probabilities = loop.predict(result.classifier, data.test.pictures).numpy()
    metrics = {
        "validation_accuracy": result.history[result.best_epoch - 1]["validation_accuracy"],
        **{f"test_{name}": value for name, value in report.metrics(truth, probabilities).items()},
        "train_seconds": round(sum(figures["seconds"] for figures in result.history), 1),
    }
    for name, part in data.others.items():
        told = loop.predict(result.classifier, part.pictures).numpy()
        figures = report.metrics(part.labels.numpy(), told)
        metrics |= {f"test_{name}_{key}": value for key, value in figures.items()}
    report.write(folder, data.labels, truth, probabilities, result.history)
    report.write_hardest(
        folder,
        data.labels,
        truth,
        probabilities,
        pictures=data.test.pictures.numpy(),
        data=recipe.data.name,
    )
    return export.export(result, recipe, data, metrics, folder)


def _both(log: Any) -> Callable[[str], None]:
    """Returns a function that prints a line and writes it to the log."""

    def say(line: str) -> None:
        print(line, flush=True)
        log.write(line + "\n")
        log.flush()

    return say


def _publish(folder: Path, place: Path) -> None:
    """Copies a run's checkpoint and report, but not its state, into the store."""
    place.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        if file.suffix in PUBLISHED and file.name != "state.pt":
            shutil.copyfile(file, place / file.name)
    print(f"Published in {place}")


def _export_again(arguments: argparse.Namespace) -> int:
    from training import export  # noqa: PLC0415

    folder = _folder(arguments)
    card = export.export_again(folder)
    print(f"{card.name} {card.version}: written again to {folder}; its answers are unchanged")
    return 0


def _folder(arguments: argparse.Namespace) -> Path:
    """The folder of a checkpoint, given as its file, the folder, or a name in the store."""
    given: Path = arguments.checkpoint
    folder = given.parent if given.name == "model.pt" else given
    for place in (folder, arguments.store / folder):
        if place.is_dir():
            return place
    raise TrainingError(
        f"there is no checkpoint {given}; name a folder that holds model.pt, or a model of the "
        f"store {arguments.store}"
    )


def _evaluate(arguments: argparse.Namespace) -> int:
    from tasks import InputSpec  # noqa: PLC0415
    from training import loop, report  # noqa: PLC0415

    if arguments.write and arguments.split != "test":
        raise TrainingError("a report covers the test part: omit --split with --write")
    folder = _folder(arguments)
    module, card = model_store.load(folder)
    recipe = _data_recipe(card)
    spec = InputSpec(card.input.shape, card.preprocessing)
    data = load(recipe, arguments.data, card.task, spec)
    part = data.test if arguments.split == "test" else data.validation
    truth = _places(card, data.labels)[part.labels].numpy()
    probabilities = loop.predict(module, part.pictures).numpy()
    figures = report.metrics(truth, probabilities)
    if arguments.write:
        _check_same_test(card, figures)
        report.write(folder, card.labels, truth, probabilities, history=None)
        report.write_hardest(
            folder,
            card.labels,
            truth,
            probabilities,
            pictures=part.pictures.numpy(),
            data=recipe.name,
        )
    if arguments.json:
        print(json.dumps({"name": card.name, "version": card.version, **figures}))
    else:
        low, high = figures["accuracy_interval"]
        print(f"{card.name} {card.version}, {arguments.split}, {figures['count']} pictures")
        print(f"accuracy {figures['accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%})")
        print(f"macro F1 {figures['macro_f1']:.4f}")
        print(f"calibration error {figures['calibration_error']:.4f}")
        print(report.table(truth, probabilities, card.labels))
    return 0


def _places(card: Card, labels: list[str]) -> Tensor:
    """The index of each of the data's `labels` in the card's (K,); raises `TrainingError`."""
    import torch  # noqa: PLC0415

    if sorted(labels) != sorted(card.labels):
        raise TrainingError(
            f"the data's labels ({', '.join(labels)}) are not those of {card.name} "
            f"({', '.join(card.labels)}); give data with the model's labels"
        )
    return torch.tensor([card.labels.index(label) for label in labels])


def _check_same_test(card: Card, figures: dict[str, Any]) -> None:
    """Raises `TrainingError` if the card is of another test than `figures`."""
    told = [(card.metrics.get(f"test_{name}"), figures[name]) for name in ("count", "accuracy")]
    if any(said not in (None, found) for said, found in told):
        raise TrainingError(
            f"nothing was written: the card of {card.name} is of another test "
            f"({told[0][0]} pictures, accuracy {told[1][0]}) than this one "
            f"({told[0][1]} pictures, accuracy {told[1][1]}); give the data that it was tested on"
        )


def _data_recipe(card: Card) -> DataRecipe:
    """The data that a model was trained with, without the pictures added for training only."""
    from training.recipe import DataRecipe  # noqa: PLC0415

    try:
        return replace(msgspec.convert(card.recipe["data"], DataRecipe), handwriting=0)
    except (KeyError, msgspec.ValidationError) as error:
        raise TrainingError(
            f"the card of {card.name} does not name its data; train the model again"
        ) from error


def _list(arguments: argparse.Namespace) -> int:
    from training import recipe as recipes  # noqa: PLC0415

    print("Recipes")
    for name in recipes.shipped():
        recipe: Recipe = recipes.read(name)
        print(f"  {name:18} {recipe.description}")
    print("Models")
    for folder in model_store.folders(arguments.store):
        try:
            card = model_store.read_card(folder)
        except StoreError as error:
            print(f"  {folder.name:18} unusable: {error}")
        else:
            accuracy = card.metrics.get("test_accuracy", 0.0)
            print(f"  {card.name:18} {card.version}  test accuracy {accuracy:.2%}")
    return 0
