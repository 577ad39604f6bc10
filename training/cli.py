"""The command line of the training package."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import model_store
from model_store import Card, StoreError
from training import recipe as recipes
from training.datasets import Data, load
from training.errors import TrainingError
from training.recipe import DataRecipe, FinishRecipe, Recipe

if TYPE_CHECKING:
    from training.loop import Result


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, 1 (a target was missed), 2 or 130 (Ctrl-C)."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except (TrainingError, StoreError) as error:
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Train image classifiers and report how good they are.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a recipe, report on it and export it")
    train.add_argument("recipe", metavar="RECIPE", help="a shipped recipe's name, or a .toml file")
    _add_data(train)
    train.add_argument("--out", type=Path, metavar="DIR", help="where all is written (runs/NAME)")
    train.add_argument("--resume", action="store_true", help="go on after an interruption")
    train.add_argument("--epochs", type=int, metavar="N", help="instead of the recipe's, for a try")
    train.add_argument(
        "--publish",
        action="store_true",
        help="where the target is reached, put the result into model_store/NAME, "
        "which the app serves, in place of the old",
    )
    train.add_argument(
        "--min-accuracy",
        type=float,
        metavar="SHARE",
        help="the target, 0..1, instead of the recipe's: exit with 1 where it is missed",
    )
    train.set_defaults(run=_train)

    evaluate = commands.add_parser("evaluate", help="measure a checkpoint as it is served")
    evaluate.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="model.pt or its folder"
    )
    _add_data(evaluate)
    evaluate.add_argument("--split", choices=["test", "validation"], default="test")
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    evaluate.set_defaults(run=_evaluate)

    listing = commands.add_parser("list", help="list the shipped recipes and the store's models")
    listing.set_defaults(run=_list)
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the data's files (else downloaded)"
    )


def _train(arguments: argparse.Namespace) -> int:
    from training import loop  # noqa: PLC0415

    recipe = _recipe(arguments)
    data = load(recipe.data, arguments.data)
    folder: Path = arguments.out or Path("runs") / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "train.log").open("a" if arguments.resume else "w", encoding="utf-8") as log:
        say = _both(log)
        try:
            result = loop.train(recipe, data, folder, resume=arguments.resume, say=say)
        except KeyboardInterrupt:
            if (folder / loop.STATE).exists():
                print("\nThe last whole epoch is saved: go on with --resume.", file=sys.stderr)
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
    print(f"Written to {folder}")  # not into the log, which is published
    if arguments.publish and reached:
        _publish(folder, model_store.ROOT / recipe.name)
    elif arguments.publish:
        print("Not published: the target was missed; --min-accuracy sets another")
    return 0 if reached else 1


def _recipe(arguments: argparse.Namespace) -> Recipe:
    recipe = recipes.read(arguments.recipe)
    if arguments.epochs is None:
        return recipe
    if arguments.epochs < 1:
        raise TrainingError("--epochs must be 1 or more")
    return dataclasses.replace(recipe, epochs=arguments.epochs, finish=FinishRecipe())


def _export(result: Result, recipe: Recipe, data: Data, folder: Path) -> Card:
    """Tests the best epoch's network and writes its report, checkpoint and card."""
    # They need matplotlib and scikit-learn, slow to import and not for --help.
    from training import export, loop, report  # noqa: PLC0415

    truth = data.test.labels.numpy()
    chances = loop.probabilities(result.classifier, data.test.pictures).numpy()
    metrics = {
        "validation_accuracy": result.history[result.best_epoch - 1]["validation_accuracy"],
        **{f"test_{name}": value for name, value in report.metrics(truth, chances).items()},
        "train_seconds": round(sum(figures["seconds"] for figures in result.history), 1),
    }
    report.write(folder, data.labels, truth, chances, result.history)
    return export.export(result, recipe, data, metrics, folder)


def _both(log: Any) -> Callable[[str], None]:
    """Says a line on the terminal and in the log at once."""

    def say(line: str) -> None:
        print(line, flush=True)
        log.write(line + "\n")
        log.flush()

    return say


def _publish(folder: Path, place: Path) -> None:
    """Copies a run's checkpoint and report, but not its state, into the store."""
    place.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        if file.suffix in (".pt", ".json", ".png", ".txt", ".log") and file.name != "state.pt":
            shutil.copyfile(file, place / file.name)
    print(f"Published in {place}")


def _evaluate(arguments: argparse.Namespace) -> int:
    from training import loop, report  # noqa: PLC0415

    given: Path = arguments.checkpoint
    folder = given.parent if given.name == "model.pt" else given
    if not folder.is_dir():
        raise TrainingError(f"there is no checkpoint {given}; name a folder that holds model.pt")
    module, card = model_store.load(folder)
    data = load(_data_recipe(card), arguments.data)
    part = data.test if arguments.split == "test" else data.validation
    truth, chances = part.labels.numpy(), loop.probabilities(module, part.pictures).numpy()
    figures = report.metrics(truth, chances)
    if arguments.json:
        print(json.dumps({"name": card.name, "version": card.version, **figures}))
    else:
        low, high = figures["accuracy_interval"]
        print(f"{card.name} {card.version}, {arguments.split}, {figures['count']} pictures")
        print(f"accuracy {figures['accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%})")
        print(f"macro F1 {figures['macro_f1']:.4f}")
        print(f"calibration error {figures['calibration_error']:.4f}")
        print(report.table(truth, chances, card.labels))
    return 0


def _data_recipe(card: Card) -> DataRecipe:
    """The data that a model was trained with, without what was added for training alone."""
    try:
        return dataclasses.replace(DataRecipe(**card.recipe["data"]), handwriting=0)
    except (KeyError, TypeError) as error:
        raise TrainingError(f"the card of {card.name} does not say which data it had") from error


def _list(arguments: argparse.Namespace) -> int:
    print("Recipes")
    for name in recipes.shipped():
        recipe: Recipe = recipes.read(name)
        print(f"  {name:18} {recipe.description}")
    print("Models")
    for folder in model_store.folders():
        try:
            card = model_store.read_card(folder)
        except StoreError as error:
            print(f"  {folder.name:18} unusable: {error}")
        else:
            accuracy = card.metrics.get("test_accuracy", 0.0)
            print(f"  {card.name:18} {card.version}  test accuracy {accuracy:.2%}")
    return 0
