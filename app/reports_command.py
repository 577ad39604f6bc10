"""`app reports`: what people have reported, for the server's operator."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reports import Database

UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
AGE = re.compile(r"([0-9]{1,5})([hdw])")


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `reports` with its own commands."""
    parser = commands.add_parser("reports", help="count, list, export or remove reports")
    parser.add_argument("--reports", metavar="URL", help="their database (GLIMPSE_REPORTS)")
    parser.set_defaults(run=run, action=_count)
    own = parser.add_subparsers(metavar="COMMAND")

    listing = own.add_parser("list", help="list them, without who sent them")
    listing.add_argument("--status", choices=["new", "accepted", "rejected"], default="new")
    listing.add_argument("--model", metavar="NAME")
    listing.set_defaults(action=_list)

    purge = own.add_parser("purge", help="remove old ones, whatever their status")
    purge.add_argument("--older", type=_age, required=True, metavar="AGE", help="90d, 12w or 36h")
    purge.set_defaults(action=_purge)

    export = own.add_parser("export", help="write the accepted pictures, a folder a class")
    export.add_argument("folder", type=Path, metavar="DIR")
    export.add_argument("--model", metavar="NAME", help="of this model alone, right in DIR")
    export.add_argument("--all", action="store_true", help="new reports too, as they are labelled")
    export.add_argument("--whole", action="store_true", help="whole pictures, where they are kept")
    export.set_defaults(action=_export)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from app.config import settings  # noqa: PLC0415

    try:
        url = arguments.reports or settings()["REPORTS"]
        if not url:
            raise ValueError("name the database by GLIMPSE_REPORTS, or by --reports URL")
        import reports  # noqa: PLC0415

        try:
            arguments.action(reports.Database(str(url)), arguments)
        except reports.Away as away:
            raise OSError(f"the database of reports cannot be used: {away}") from away
    except ImportError as error:
        return _failed(f"{error.name} is not installed: pip install -r requirements-reports.txt")
    except (OSError, ValueError) as error:
        return _failed(str(error))
    return 0


def _failed(text: str) -> int:
    print(f"error: {text}", file=sys.stderr)
    return 1


def _age(text: str) -> timedelta:
    found = AGE.fullmatch(text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} must be an age such as 90d, 12w or 36h")
    return int(found[1]) * UNITS[found[2]]


def _count(database: Database, arguments: argparse.Namespace) -> None:
    found: dict[tuple[str, str, str], Counter[str]] = {}
    for each in database.counts():
        by_status = found.setdefault((each.model, each.version, each.kind), Counter())
        by_status[each.status] += each.count
    if not found:
        print("There are no reports.")
    for (model, version, kind), by_status in found.items():
        told = ", ".join(f"{by_status[each]} {each}" for each in ("new", "accepted", "rejected"))
        print(f"{model}@{version}  {kind}: {told}")


def _list(database: Database, arguments: argparse.Namespace) -> None:
    after = None
    while True:
        page = database.page(arguments.status, model=arguments.model, after=after)
        for each in page.reports:
            right = each.label if each.status == "accepted" else each.said
            print(
                f"{each.id:>6}  {each.created:%Y-%m-%d %H:%M}  {each.model}@{each.version}  "
                f"{each.kind}: {each.predicted} ({each.score:.4f}, {each.verdict})"
                + (f" -> {right or 'none of these'}" if each.kind == "report" or each.label else "")
            )
        if (after := page.after) is None:
            return


def _purge(database: Database, arguments: argparse.Namespace) -> None:
    print(f"{database.purge(arguments.older)} removed.")


def _export(database: Database, arguments: argparse.Namespace) -> None:
    folder = arguments.folder
    count = database.export(folder, arguments.model, every=arguments.all, whole=arguments.whole)
    print(f"{count} pictures in {folder}.")
