"""The command line of the training package."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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


PUBLISHED = (".pt", ".onnx", ".json", ".png", ".txt", ".log")  # what of a run


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

    compare = commands.add_parser(
        "compare", help="train each of a recipe's candidate networks and keep the best"
    )
    _add_runs(compare, "a recipe with [[candidates]]", "runs/NAME-compare")
    compare.set_defaults(run=_compare)

    folds = commands.add_parser(
        "cross-validate", help="train a recipe on each fold of people, test on the others"
    )
    _add_runs(folds, "a recipe for folders of pictures", "runs/NAME-folds")
    folds.set_defaults(run=_cross_validate)

    evaluate = commands.add_parser("evaluate", help="measure a checkpoint as it is served")
    evaluate.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="model.pt or its folder"
    )
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

    twin = commands.add_parser("twin", help="write a checkpoint's ONNX twin again")
    twin.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="model.pt or its folder")
    twin.set_defaults(run=_twin)

    listing = commands.add_parser("list", help="list the shipped recipes and the store's models")
    listing.set_defaults(run=_list)
    return parser


def _add_runs(parser: argparse.ArgumentParser, recipe: str, out: str) -> None:
    """What commands of several runs take."""
    parser.add_argument("recipe", metavar="RECIPE", help=recipe)
    _add_data(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"({out})")
    parser.add_argument("--resume", action="store_true", help="go on after an interruption")
    parser.add_argument("--epochs", type=int, metavar="N", help="instead of the recipe's")


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


def _compare(arguments: argparse.Namespace) -> int:
    """Trains each candidate; the one that validates best alone is tested and exported."""
    from training import loop  # noqa: PLC0415

    recipe = _recipe(arguments)
    if not recipe.candidates:
        raise TrainingError(f"{arguments.recipe} has no [[candidates]] to compare")
    data = load(recipe.data, arguments.data)
    out: Path = arguments.out or Path("runs") / f"{recipe.name}-compare"
    rows: list[dict[str, Any]] = []
    kept: tuple[Recipe, Result] | None = None
    for candidate in recipe.candidates:
        chosen = dataclasses.replace(recipe, network=candidate.network)
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
    """One of several runs: its folder, whether it has a state to resume, and what logs a line."""
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
        fold = dataclasses.replace(recipe.data, split="subject", fold=index)
        data = load(fold, arguments.data)
        with _logged(out / f"fold-{index}", resume=arguments.resume) as (folder, resume, say):
            say(f"Fold {index + 1} of {recipe.data.folds}")
            result = loop.train(
                dataclasses.replace(recipe, data=fold), data, folder, resume=resume, say=say
            )
            chances = loop.probabilities(result.classifier, data.test.pictures).numpy()
            truth = data.test.labels.numpy()
            accuracies.append(float((chances.argmax(1) == truth).mean()))
            say(f"Test accuracy {accuracies[-1]:.2%} on {len(truth)} pictures")
        labels = data.labels
        truths.append(truth)
        told.append(chances)
    truth, chances = np.concatenate(truths), np.concatenate(told)
    figures = report.metrics(truth, chances)
    report.write(out, labels, truth, chances, history=None)
    summary = {**figures, "folds": accuracies, "split": "by subject"}
    (out / "folds.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    low, high = figures["accuracy_interval"]
    print(
        f"{recipe.name}, {len(accuracies)} folds by subject: accuracy {figures['accuracy']:.2%} "
        f"of {len(truth)} pictures (95 % interval {low:.2%} to {high:.2%}), folds "
        f"{min(accuracies):.2%} to {max(accuracies):.2%}; written to {out}"
    )
    return 0


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
    for name, part in data.others.items():
        told = loop.probabilities(result.classifier, part.pictures).numpy()
        figures = report.metrics(part.labels.numpy(), told)
        metrics |= {f"test_{name}_{key}": value for key, value in figures.items()}
    report.write(folder, data.labels, truth, chances, result.history)
    report.write_hardest(
        folder,
        data.labels,
        truth,
        chances,
        pictures=data.test.pictures.numpy(),
        data=recipe.data.name,
    )
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
        if file.suffix in PUBLISHED and file.name != "state.pt":
            shutil.copyfile(file, place / file.name)
    print(f"Published in {place}")


def _twin(arguments: argparse.Namespace) -> int:
    import torch  # noqa: PLC0415

    from training import export  # noqa: PLC0415

    folder = _folder(arguments.checkpoint)
    module, card = model_store.load(folder)
    shape = (64, *card.input["shape"])
    pictures = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0))
    export.export_twin(module, card, pictures.to(torch.uint8), folder)
    print(f"Written to {folder / model_store.TWIN}")
    return 0


def _folder(given: Path) -> Path:
    """The folder of a checkpoint that is named by its file or its folder."""
    folder = given.parent if given.name == "model.pt" else given
    if not folder.is_dir():
        raise TrainingError(f"there is no checkpoint {given}; name a folder that holds model.pt")
    return folder


def _evaluate(arguments: argparse.Namespace) -> int:
    from training import loop, report  # noqa: PLC0415

    if arguments.write and arguments.split != "test":
        raise TrainingError("a report is of the test part: leave --split out with --write")
    folder = _folder(arguments.checkpoint)
    module, card = model_store.load(folder)
    recipe = _data_recipe(card)
    data = load(recipe, arguments.data)
    part = data.test if arguments.split == "test" else data.validation
    truth, chances = part.labels.numpy(), loop.probabilities(module, part.pictures).numpy()
    figures = report.metrics(truth, chances)
    if arguments.write:
        _check_same_test(card, figures)
        report.write(folder, card.labels, truth, chances, history=None)
        report.write_hardest(
            folder,
            card.labels,
            truth,
            chances,
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
        print(report.table(truth, chances, card.labels))
    return 0


def _check_same_test(card: Card, figures: dict[str, Any]) -> None:
    """A report beside a card must be of the test that the card tells of; `TrainingError`."""
    told = [(card.metrics.get(f"test_{name}"), figures[name]) for name in ("count", "accuracy")]
    if any(said not in (None, found) for said, found in told):
        raise TrainingError(
            f"nothing was written: the card of {card.name} tells of another test "
            f"({told[0][0]} pictures, accuracy {told[1][0]}) than this one "
            f"({told[0][1]} pictures, accuracy {told[1][1]}); give the data that it was tested on"
        )


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
