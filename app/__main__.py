"""``python -m app``: commands for the server's operator."""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from app.reports_command import add_command as add_reports


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    arguments = _parser().parse_args(argv)
    status: int = arguments.run(arguments)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app", description="Commands for the app that serves the models."
    )
    add_commands(parser.add_subparsers(required=True, metavar="COMMAND"))
    return parser


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the app's commands; each one's `run` takes the arguments and gives the exit status."""
    check = commands.add_parser("check", help="report what is installed here and what is missing")
    check.set_defaults(run=_check)

    predict = commands.add_parser("predict", help="classify pictures in files and folders")
    predict.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="file or folder")
    predict.add_argument("--model", metavar="NAME", help="(the setting GLIMPSE_DEFAULT_MODEL)")
    predict.add_argument(
        "--store", type=Path, metavar="DIR", help="the folder of models (GLIMPSE_MODEL_STORE)"
    )
    predict.add_argument(
        "--whole", action="store_true", help="each picture is already the crop of one face"
    )
    forms = predict.add_mutually_exclusive_group()
    for form in ("json", "csv"):
        forms.add_argument(
            f"--{form}", dest="form", action="store_const", const=form, help=f"print {form.upper()}"
        )
    predict.set_defaults(run=_predict)

    _add_models(commands)
    add_reports(commands)

    key = commands.add_parser("key", help="create an API key, and its digest for GLIMPSE_API_KEYS")
    key.set_defaults(run=_key)


def _add_models(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    models = commands.add_parser("models", help="list the models' versions; choose or remove some")
    models.set_defaults(run=_models, action="list")
    actions = models.add_subparsers(metavar="ACTION")
    use = actions.add_parser("use", help="serve a version from now on")
    use.add_argument("version", metavar="NAME@VERSION")
    use.set_defaults(action="use")
    prune = actions.add_parser("prune", help="remove old versions, but never one that serves")
    prune.add_argument("name", nargs="?", metavar="NAME", help="(every model)")
    prune.add_argument("--keep", type=int, required=True, metavar="N", help="versions of a model")
    prune.set_defaults(action="prune")
    for parser, default in ((models, None), (use, argparse.SUPPRESS), (prune, argparse.SUPPRESS)):
        parser.add_argument(
            "--store",
            type=Path,
            default=default,
            metavar="DIR",
            help="the folder of models (GLIMPSE_MODEL_STORE)",
        )


def _check(arguments: argparse.Namespace) -> int:
    from app.check import check  # noqa: PLC0415

    return check()


def _predict(arguments: argparse.Namespace) -> int:
    from app.predict_command import predict_files  # noqa: PLC0415

    if arguments.store is not None:
        os.environ["GLIMPSE_MODEL_STORE"] = str(arguments.store)
    try:
        form, whole = arguments.form or "text", arguments.whole
        return predict_files(arguments.pictures, arguments.model, form=form, whole=whole)
    except BrokenPipeError:  # the reader has closed the pipe
        sys.stdout = None
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130


def _models(arguments: argparse.Namespace) -> int:
    from app import models_command  # noqa: PLC0415

    store = arguments.store
    if arguments.action == "use":
        return models_command.use(store, arguments.version)
    if arguments.action == "prune":
        return models_command.prune(store, arguments.name, arguments.keep)
    return models_command.show(store)


def _key(arguments: argparse.Namespace) -> int:
    key = secrets.token_urlsafe(32)
    print(f"key     {key}")
    print(f"digest  {hashlib.sha256(key.encode()).hexdigest()}")
    print("Give the key to a client; put the digest into GLIMPSE_API_KEYS.")
    print("Or keep the key to sign in to /review; put the digest into GLIMPSE_REVIEW_KEYS.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
