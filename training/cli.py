"""The command line of the training package."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import model_store
from model_store import CardError, StoreError
from training import api
from training.errors import TrainingError

WITHOUT_REPORT = 3  # an exit status


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, 1 (a target was missed), 2, 3 (the report
    could not be written) or 130 (Ctrl-C).
    """
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
    except KeyboardInterrupt as interrupt:
        print(f"\n{interrupt or 'Interrupted.'}", file=sys.stderr)
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
    train.add_argument("--name", help="the model's name, instead of the recipe's")
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
    train.add_argument(
        "--log", choices=["tensorboard"], help="also log each epoch in the results' folder for it"
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
    again.set_defaults(run=_export)

    listing = commands.add_parser("list", help="list the shipped recipes and the store's models")
    _add_store(listing)
    listing.set_defaults(run=_list)


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
    trained = api.train(
        arguments.recipe,
        arguments.data,
        out=arguments.out,
        name=arguments.name,
        epochs=arguments.epochs,
        resume=arguments.resume,
        publish=arguments.store if arguments.publish else None,
        min_accuracy=arguments.min_accuracy,
        log=arguments.log,
        say=_say,
    )
    print(f"Written to {trained.folder}")
    if trained.published:
        print(f"Published in {trained.published}")
    elif arguments.publish:
        print("Not published: the target was missed. --min-accuracy sets another target.")
    status = _report_status(trained.report_failure, trained.folder)
    return status if trained.reached else 1


def _report_status(failure: str, folder: Path) -> int:
    """0, or `WITHOUT_REPORT` and what to do where the report could not be written."""
    if not failure:
        return 0
    print(
        f"warning: the model is written, but not its report ({failure}); to try again: evaluate "
        f"{folder} --write, with the --data of the training",
        file=sys.stderr,
    )
    return WITHOUT_REPORT


def _compare(arguments: argparse.Namespace) -> int:
    compared = api.compare(
        arguments.recipe,
        arguments.data,
        out=arguments.out,
        epochs=arguments.epochs,
        resume=arguments.resume,
        say=_say,
    )
    print(compared.table)
    print(
        f"Kept {compared.best}: test accuracy {compared.card.metrics['test_accuracy']:.2%}; "
        f"written to {compared.folder}"
    )
    return _report_status(compared.report_failure, compared.folder)


def _cross_validate(arguments: argparse.Namespace) -> int:
    found = api.cross_validate(
        arguments.recipe,
        arguments.data,
        out=arguments.out,
        epochs=arguments.epochs,
        resume=arguments.resume,
        say=_say,
    )
    low, high = found.figures["accuracy_interval"]
    print(
        f"{found.recipe.name}, {len(found.folds)} folds by subject: accuracy "
        f"{found.figures['accuracy']:.2%} of {found.figures['count']} pictures (95 % interval "
        f"{low:.2%} to {high:.2%}), folds {min(found.folds):.2%} to {max(found.folds):.2%}; "
        f"written to {found.folder}"
    )
    return 0


def _say(line: str) -> None:
    print(line, flush=True)  # a log of hours is read while it grows


def _export(arguments: argparse.Namespace) -> int:
    folder = api.checkpoint_folder(arguments.checkpoint, arguments.store)
    card = api.export(folder)
    print(f"{card.name} {card.version}: written again to {folder}; its answers are unchanged")
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    found = api.evaluate(
        arguments.checkpoint,
        arguments.data,
        store=arguments.store,
        split=arguments.split,
        write=arguments.write,
    )
    card, figures = found.card, found.figures
    if arguments.json:
        print(json.dumps({"name": card.name, "version": card.version, **figures}))
    else:
        low, high = found.interval
        print(f"{card.name} {card.version}, {arguments.split}, {figures['count']} pictures")
        print(f"accuracy {found.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%})")
        print(f"macro F1 {figures['macro_f1']:.4f}")
        print(f"calibration error {figures['calibration_error']:.4f}")
        print(found.table)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from training import recipe as recipes  # noqa: PLC0415

    print("Recipes")
    for name in recipes.shipped():
        recipe = recipes.read(name)
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
