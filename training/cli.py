"""The command line of the training package."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import model_store
from model_store import CardError, StoreError
from training import api
from training.errors import TrainingError

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

CHECKPOINT_HELP = "model.pt, its folder, or a model of the store: NAME or NAME@VERSION"

RECIPES = Path(__file__).with_name("recipes")
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
        sys.stdout.flush()
    except (TrainingError, StoreError, CardError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has closed the pipe
        sys.stdout = None
        return 1
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


def add_commands(commands: Commands) -> None:
    """Adds training's commands; `run` takes the arguments that they give."""
    train = commands.add_parser(
        "train",
        help="train a recipe, report on it and export it",
        epilog="While it trains, curves.png in the results' folder is drawn again after an epoch, "
        "at most every ten seconds, and history.csv has every epoch.",
    )
    train.add_argument("recipe", metavar="RECIPE", help="a shipped recipe's name, or a .toml file")
    _add_data(train)
    train.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (runs/NAME)")
    train.add_argument("--name", help="the model's name, instead of the recipe's")
    train.add_argument("--resume", action="store_true", help="continue an interrupted run")
    train.add_argument(
        "--epochs", type=int, metavar="N", help="instead of the recipe's, for a quick try"
    )
    _add_computing(train)
    train.add_argument(
        "--publish",
        action="store_true",
        help="if the target is reached, add the result to the store as the version that the app "
        "serves from now on",
    )
    _add_store(train)
    _add_target(train)
    train.add_argument(
        "--log", choices=["tensorboard"], help="also log each epoch in the results' folder for it"
    )
    train.set_defaults(run=_train)

    compare = commands.add_parser(
        "compare", help="train each of a recipe's candidate networks and keep the best"
    )
    _add_runs(compare, "a recipe with [[candidates]]", "runs/NAME-compare")
    _add_computing(compare)
    compare.set_defaults(run=_compare)

    folds = commands.add_parser(
        "cross-validate",
        help="train a recipe once for each fold of the data, and test it on that fold",
    )
    _add_runs(folds, "a recipe for your own pictures", "runs/NAME-folds")
    _add_computing(folds)
    folds.add_argument(
        "--split",
        choices=["random", "stratified", "subject"],
        help="how folds are made (as the recipe says, or stratified); subject: nobody is in two",
    )
    folds.set_defaults(run=_cross_validate)

    evaluate = commands.add_parser("evaluate", help="measure a checkpoint as it is served")
    _add_checkpoint(evaluate)
    _add_data(evaluate)
    evaluate.add_argument(
        "--split",
        default="test",
        metavar="PART",
        help="test (the default), validation, or a further test part by its name",
    )
    evaluate.add_argument(
        "--recipe", metavar="RECIPE", help="read the data as this one does, not the model's own"
    )
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

    rates = commands.add_parser(
        "lr-range", help="find a learning rate: train while it rises, and see where the loss falls"
    )
    rates.add_argument("recipe", metavar="RECIPE", help="a shipped recipe's name, or a .toml file")
    _add_data(rates)
    rates.add_argument("--out", type=Path, metavar="DIR", help="(runs/NAME-lr-range)")
    _add_computing(rates)
    rates.set_defaults(run=_lr_range)

    for add in (_add_search, _add_ensemble, _add_distil, _add_import, _add_update):
        add(commands)


def _add_search(commands: Commands) -> None:
    search = commands.add_parser("search", help="search a recipe's best settings, by validation")
    _add_runs(search, "a recipe; its [search] says what is tried", "runs/NAME-search")
    search.add_argument("--trials", type=int, default=20, metavar="N", help="how many (20)")
    search.add_argument("--limit", type=int, metavar="N", help="train on N pictures alone")
    _add_device(search)
    search.set_defaults(run=_search)


def _add_ensemble(commands: Commands) -> None:
    ensemble = commands.add_parser("ensemble", help="make one checkpoint of several")
    ensemble.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help=CHECKPOINT_HELP)
    _add_data(ensemble)
    _add_made(ensemble)
    ensemble.set_defaults(run=_ensemble)


def _add_distil(commands: Commands) -> None:
    distil = commands.add_parser("distil", help="train a recipe on what a checkpoint answers")
    distil.add_argument("checkpoint", metavar="TEACHER", help=CHECKPOINT_HELP)
    distil.add_argument("recipe", metavar="RECIPE", help="of the network that learns")
    _add_data(distil)
    _add_made(distil)
    distil.add_argument("--epochs", type=int, metavar="N", help="instead of the recipe's")
    _add_computing(distil)
    distil.add_argument("--resume", action="store_true", help="continue an interrupted run")
    distil.add_argument(
        "--temperature", type=float, default=2.0, help="softens the teacher's answers (2)"
    )
    distil.add_argument(
        "--share", type=float, default=0.9, help="of the target that they make up, 0..1 (0.9)"
    )
    _add_target(distil)
    distil.set_defaults(run=_distil)


def _add_import(commands: Commands) -> None:
    importing = commands.add_parser(
        "import",
        help="make a checkpoint of a classifier made elsewhere",
        epilog="TorchScript and torch.export files can run code: import only files you trust.",
    )
    importing.add_argument(
        "file", type=Path, metavar="FILE", help="TorchScript (.pt), torch.export (.pt2) or .onnx"
    )
    importing.add_argument(
        "--labels", required=True, metavar="A,B,C|FILE.txt", help="in the network's order"
    )
    importing.add_argument(
        "--input", required=True, metavar="CxHxW", help="what it takes, such as 3x224x224"
    )
    _add_made(importing)
    importing.add_argument("--task", default="image", help="what a picture is to it (image)")
    importing.add_argument(
        "--mean", default="0", metavar="X,…", help="of pictures in 0..1, for each channel or all"
    )
    importing.add_argument("--std", default="1", metavar="X,…", help="likewise")
    gives = importing.add_mutually_exclusive_group()
    gives.add_argument("--logits", action="store_true", default=None, help="it gives logits")
    gives.add_argument(
        "--probabilities",
        dest="logits",
        action="store_false",
        default=None,
        help="it gives probabilities (else its answers to noise tell)",
    )
    importing.set_defaults(run=_import)


def _add_update(commands: Commands) -> None:
    update = commands.add_parser(
        "update",
        help="let a model learn from what people reported, and publish it if it is better",
        epilog="The exit status is 1 if the new version is not better and was not published.",
    )
    update.add_argument("name", metavar="NAME", help="a model of the store")
    update.add_argument(
        "--reports",
        default=os.environ.get("GLIMPSE_REPORTS"),
        metavar="URL",
        help="the database of reports (the setting GLIMPSE_REPORTS)",
    )
    _add_data(update)
    update.add_argument(
        "--recipe", metavar="RECIPE", help="its [update] counts, not that of the model's own recipe"
    )
    update.add_argument("--out", type=Path, metavar="DIR", help="(runs/NAME-update)")
    update.add_argument("--dry-run", action="store_true", help="do all but publish")
    update.add_argument("--resume", action="store_true", help="continue an interrupted update")
    _add_device(update)
    _add_store(update)
    update.set_defaults(run=_update)


def _add_runs(parser: argparse.ArgumentParser, recipe: str, out: str) -> None:
    """Adds the arguments of commands with several runs."""
    parser.add_argument("recipe", metavar="RECIPE", help=recipe)
    _add_data(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"({out})")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run")
    parser.add_argument("--epochs", type=int, metavar="N", help="instead of the recipe's")


def _add_computing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--limit", type=int, metavar="N", help="use N pictures of each part, for a quick try"
    )
    _add_device(parser)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", default="auto", help="auto (the best there is), cpu, cuda, cuda:1 or mps"
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        metavar="DIR",
        help="folder of the data's files (else downloaded); again for each further source",
    )


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--min-accuracy",
        type=float,
        metavar="SHARE",
        help="the target, 0..1, instead of the recipe's: exit with 1 if it is missed",
    )


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store",
        type=Path,
        default=os.environ.get("GLIMPSE_MODEL_STORE") or model_store.ROOT,
        metavar="DIR",
        help="the folder of model folders (the setting GLIMPSE_MODEL_STORE, or the shipped one)",
    )


def _add_made(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of commands that make a model of others."""
    parser.add_argument("--name", required=True, help="the model's name")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for it (runs/NAME)")
    parser.add_argument(
        "--publish", action="store_true", help="add it to the store too, to be served"
    )
    _add_store(parser)


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="CHECKPOINT",
        help=CHECKPOINT_HELP,
    )
    _add_store(parser)


def _train(arguments: argparse.Namespace) -> int:
    trained = api.train(
        arguments.recipe,
        arguments.data,
        out=arguments.out,
        name=arguments.name,
        epochs=arguments.epochs,
        limit=arguments.limit,
        device=arguments.device,
        resume=arguments.resume,
        publish=arguments.store if arguments.publish else None,
        min_accuracy=arguments.min_accuracy,
        log=arguments.log,
        say=_say,
    )
    return _trained(trained, publish=arguments.publish)


def _trained(trained: api.Trained, *, publish: bool) -> int:
    """Says where the model of a run is; returns the exit status."""
    _written(trained.folder, trained.published)
    if publish and not trained.published:
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
        limit=arguments.limit,
        device=arguments.device,
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
        split=arguments.split,
        out=arguments.out,
        epochs=arguments.epochs,
        limit=arguments.limit,
        device=arguments.device,
        resume=arguments.resume,
        say=_say,
    )
    low, high = found.figures["accuracy_interval"]
    print(
        f"{found.recipe.name}, {len(found.folds)} folds ({found.split}): accuracy "
        f"{found.figures['accuracy']:.2%} of {found.figures['count']} pictures (95 % interval "
        f"{low:.2%} to {high:.2%}), folds {min(found.folds):.2%} to {max(found.folds):.2%}; "
        f"written to {found.folder}"
    )
    return 0


def _lr_range(arguments: argparse.Namespace) -> int:
    found = api.lr_range(
        arguments.recipe,
        arguments.data,
        out=arguments.out,
        limit=arguments.limit,
        device=arguments.device,
    )
    print(
        f"The loss falls fastest at lr = {found.suggested:.1e} (lr_range.png shows it); written to "
        f"{found.folder}"
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
        recipe=arguments.recipe,
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
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415
    else:
        import tomli as tomllib  # noqa: PLC0415

    print("Recipes")
    for file in sorted(RECIPES.glob("*.toml")):
        print(f"  {file.stem:18} {tomllib.loads(file.read_text('utf-8'))['description']}")
    print("Models")
    for folder in model_store.folders(arguments.store):
        try:
            card = model_store.read_card(model_store.current_folder(folder))
        except StoreError as error:
            print(f"  {folder.name:18} unusable: {error}")
        else:
            accuracy = card.metrics.get("test_accuracy")
            told = "not tested" if accuracy is None else f"test accuracy {accuracy:.2%}"
            print(f"  {card.name:18} {card.version}  {told}")
    print("“glimpse models” lists every version")
    return 0


def _search(arguments: argparse.Namespace) -> int:
    from training.search import search  # noqa: PLC0415

    found = search(
        arguments.recipe,
        arguments.data,
        trials=arguments.trials,
        epochs=arguments.epochs,
        limit=arguments.limit,
        device=arguments.device,
        out=arguments.out,
        resume=arguments.resume,
        say=_say,
    )
    print(found.table)
    print(f"The best settings are the recipe {found.file}, to train with")
    return 0


def _ensemble(arguments: argparse.Namespace) -> int:
    from training.ensemble import ensemble  # noqa: PLC0415

    made = ensemble(
        arguments.checkpoints,
        arguments.data,
        name=arguments.name,
        out=arguments.out,
        store=arguments.store,
        publish=arguments.store if arguments.publish else None,
        say=_say,
    )
    return _written(made.folder, made.published)


def _distil(arguments: argparse.Namespace) -> int:
    from training.distil import distil  # noqa: PLC0415

    made = distil(
        arguments.checkpoint,
        arguments.recipe,
        arguments.data,
        name=arguments.name,
        temperature=arguments.temperature,
        share=arguments.share,
        store=arguments.store,
        out=arguments.out,
        epochs=arguments.epochs,
        limit=arguments.limit,
        device=arguments.device,
        resume=arguments.resume,
        publish=arguments.store if arguments.publish else None,
        min_accuracy=arguments.min_accuracy,
        say=_say,
    )
    return _trained(made, publish=arguments.publish)


def _update(arguments: argparse.Namespace) -> int:
    if not arguments.reports:
        raise TrainingError("name the database of reports: --reports URL, or set GLIMPSE_REPORTS")
    from training.update import update  # noqa: PLC0415

    try:
        import reports  # noqa: PLC0415

        accepted = list(reports.open_database(arguments.reports).accepted(arguments.name))
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"reports need {error.name}, which is not installed: pip install 'glimpse[reports]'"
        ) from error
    except ValueError as error:
        raise TrainingError(f"--reports: {error}") from error
    except reports.Away as error:
        raise TrainingError(
            f"the database of reports cannot be read ({error}); start it, and try again"
        ) from error
    updated = update(
        arguments.name,
        accepted,
        arguments.data,
        store=arguments.store,
        recipe=arguments.recipe,
        out=arguments.out,
        device=arguments.device,
        dry_run=arguments.dry_run,
        resume=arguments.resume,
        say=_say,
    )
    if updated.refusal:
        print(f"Its report is {updated.folder / 'report.txt'}")
        return 1
    print(f"Written to {updated.folder}")
    if updated.published is not None:
        print(f"Published as {updated.published.name}: servers take it within seconds")
    return _report_status(updated.report_failure, updated.folder)


def _import(arguments: argparse.Namespace) -> int:
    from training import importing  # noqa: PLC0415

    made = importing.import_model(
        arguments.file,
        name=arguments.name,
        labels=importing.read_labels(arguments.labels),
        shape=importing.read_shape(arguments.input),
        task=arguments.task,
        takes=importing.Takes(
            importing.read_numbers(arguments.mean),
            importing.read_numbers(arguments.std),
            arguments.logits,
        ),
        out=arguments.out,
        publish=arguments.store if arguments.publish else None,
        say=_say,
    )
    return _written(made.folder, made.published)


def _written(folder: Path, published: Path | None) -> int:
    print(f"Written to {folder}")
    if published is not None:
        print(f"Published in {published}: the app serves it from now on")
    return 0
