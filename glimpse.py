"""``glimpse``: every command of the app and of training, for an installed package."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import app.__main__ as serving
from training import cli as training


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="glimpse", description="Train image classifiers and serve them."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands)
    serving.add_commands(commands)
    without_training = set(commands.choices)
    training.add_commands(commands)
    arguments = parser.parse_args(argv)
    if arguments.command in without_training:
        status: int = arguments.run(arguments)
        return status
    training.ask_for_huge_pages()
    try:
        return training.run(arguments)
    except ModuleNotFoundError as error:
        print(
            f"error: {arguments.command} needs {error.name}, which is not installed: "
            "pip install 'glimpse[train]'",
            file=sys.stderr,
        )
        return 2


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = commands.add_parser(
        "serve",
        help="serve the models and their pages",
        epilog="GUNICORN_CMD_ARGS takes gunicorn's own options, such as --workers 2.",
    )
    serve.add_argument("--bind", metavar="ADDRESS", help="(GLIMPSE_BIND, or 127.0.0.1:8000)")
    serve.add_argument(
        "--store",
        type=Path,
        metavar="DIR",
        help="the folder of model folders (GLIMPSE_MODEL_STORE, or the models that are shipped)",
    )
    serve.set_defaults(run=_serve)


def _serve(arguments: argparse.Namespace) -> int:
    """Becomes gunicorn, with the app's settings, in the current folder."""
    for name, value in (("BIND", arguments.bind), ("MODEL_STORE", arguments.store)):
        if value is not None:
            os.environ[f"GLIMPSE_{name}"] = str(value)
    from gunicorn.app.wsgiapp import run  # noqa: PLC0415
    from gunicorn.util import getcwd  # noqa: PLC0415

    # gunicorn would put the current folder first, and that may hold modules of the same names.
    sys.path.append(getcwd())
    sys.argv = ["gunicorn", "-c", "python:app.gunicorn_settings", "app:create_app()"]
    run(prog="glimpse serve")
    return 0


if __name__ == "__main__":
    sys.exit(main())
