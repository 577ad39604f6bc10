"""``python -m app``: commands for whoever runs the server."""

from __future__ import annotations

import argparse
import hashlib
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    arguments = _parser().parse_args(argv)
    status: int = arguments.run(arguments)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app", description="Look after the app that serves the models."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="tell what the app has here and what it lacks")
    check.set_defaults(run=_check)

    predict = commands.add_parser("predict", help="classify pictures in files and folders")
    predict.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="file or folder")
    predict.add_argument("--model", metavar="NAME", help="(the setting GLIMPSE_DEFAULT_MODEL)")
    predict.add_argument(
        "--whole", action="store_true", help="each picture is one face's crop already"
    )
    forms = predict.add_mutually_exclusive_group()
    for form in ("json", "csv"):
        forms.add_argument(
            f"--{form}", dest="form", action="store_const", const=form, help=f"print {form.upper()}"
        )
    predict.set_defaults(run=_predict)

    key = commands.add_parser("key", help="make an API key, and its digest for GLIMPSE_API_KEYS")
    key.set_defaults(run=_key)
    return parser


def _check(arguments: argparse.Namespace) -> int:
    from app.check import check  # noqa: PLC0415

    return check()


def _predict(arguments: argparse.Namespace) -> int:
    from app.classify import classify  # noqa: PLC0415

    try:
        return classify(
            arguments.pictures,
            arguments.model,
            form=arguments.form or "text",
            whole=arguments.whole,
        )
    except BrokenPipeError:  # whoever reads has seen enough
        sys.stdout = None
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130


def _key(arguments: argparse.Namespace) -> int:
    key = secrets.token_urlsafe(32)
    print(f"key     {key}")
    print(f"digest  {hashlib.sha256(key.encode()).hexdigest()}")
    print("Give the key to whoever may ask; put the digest into GLIMPSE_API_KEYS.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
