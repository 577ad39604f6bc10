"""What faults do to the app: damaged pictures, slow clients, signals, full disks, time.

Runs each fault against the real app, in this process or under gunicorn as it is shipped, and
writes a table of what happened:

    python benchmarks/robustness.py --out robustness.md [--only mutations,signals] [--soak 30]

For Linux. Takes about an hour with --soak 30; the disks need root, schemathesis an environment
(--environment DIR, made where there is none). Exits with 1 where a fault did harm.
"""

from __future__ import annotations

import argparse
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import robustness_clients as clients
from benchmarks import robustness_mutations as mutations
from benchmarks import robustness_processes as processes
from benchmarks.robustness_server import FAILED, TOP, Bench, Outcome

PACKAGES = ("gunicorn", "flask", "werkzeug", "pillow", "torch")

Arguments = argparse.Namespace
Section = Callable[[Arguments, Bench], Iterable[Outcome]]


def run_mutations(arguments: Arguments, bench: Bench) -> Iterable[Outcome]:
    return mutations.run(
        count=arguments.mutants,
        processes=arguments.processes,
        seed=arguments.seed,
        most_seconds=arguments.most_seconds,
        keep=arguments.keep,
    )


def run_schemathesis(arguments: Arguments, bench: Bench) -> Iterable[Outcome]:
    with bench.server() as server:
        return clients.schemathesis(
            server,
            bench.picture,
            environment=arguments.environment or bench.folder / "environment",
            seed=arguments.seed,
            examples=arguments.examples,
            folder=arguments.keep or bench.folder,
        )


def run_clients(arguments: Arguments, bench: Bench) -> Iterable[Outcome]:
    with bench.server() as server:
        yield from clients.slow_clients(
            server, bench.picture, seconds=arguments.seconds, most_delay=arguments.most_delay
        )


def run_signals(arguments: Arguments, bench: Bench) -> Iterable[Outcome]:
    yield processes.killed_worker(bench)
    yield from processes.terminated(bench)
    yield processes.reloaded(bench)
    yield processes.recycled(bench)
    yield processes.fresh_workers(bench, arguments.rounds)


def run_checkpoints(arguments: Arguments, bench: Bench) -> Iterable[Outcome]:
    return processes.checkpoints(bench)


def run_disks(arguments: Arguments, bench: Bench) -> Iterable[Outcome]:
    return processes.disks(bench)


def run_soak(arguments: Arguments, bench: Bench) -> Iterable[Outcome]:
    yield processes.soak(bench, minutes=arguments.soak, seed=arguments.seed)


SECTIONS: dict[str, Section] = {
    "mutations": run_mutations,
    "schemathesis": run_schemathesis,
    "clients": run_clients,
    "signals": run_signals,
    "checkpoints": run_checkpoints,
    "disks": run_disks,
    "soak": run_soak,
}


def table(rows: Iterable[Outcome], minutes: float) -> str:
    """The report in Markdown."""
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    lines = ["| section | fault | what happened | |", "| --- | --- | --- | --- |"]
    for row in rows:
        cells = (row.section, row.fault, row.happened, row.state)
        plain = (" ".join(cell.replace("|", "/").split()) for cell in cells)
        lines.append(f"| {' | '.join(plain)} |")
    made = f"`benchmarks/robustness.py`, {time.strftime('%Y-%m-%d')}, {minutes:.0f} minutes, "
    return "\n".join([*lines, "", made + f"Python {platform.python_version()}, {versions}.", ""])


def names(text: str) -> list[str]:
    """Sections by their names, with commas between."""
    chosen = text.split(",")
    for name in chosen:
        if name not in SECTIONS:
            known = ", ".join(SECTIONS)
            raise argparse.ArgumentTypeError(f"there is no section {name}; known are {known}")
    return chosen


def parsed() -> Arguments:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    add = parser.add_argument
    add("--only", type=names, default=list(SECTIONS), help=f"some of {', '.join(SECTIONS)}")
    add("--out", type=Path, help="a Markdown file for the table")
    add("--keep", type=Path, help="a folder for mutants that fail or are slow, and for logs")
    add("--seed", type=int, default=1, help="of all that is drawn by chance")
    add("--config", type=Path, default=TOP / "gunicorn.conf.py", help="gunicorn's configuration")
    add("--mutants", type=int, default=20_000, help="mutated pictures")
    add("--processes", type=int, default=2, help="processes that try them")
    add("--most-seconds", type=float, default=3.0, help="processor seconds a mutant may take")
    add("--environment", type=Path, help="an environment of schemathesis, made where missing")
    add("--examples", type=int, default=200, help="schemathesis' test cases an operation")
    add("--seconds", type=float, default=20.0, help="of a normal client beside slow ones")
    add("--most-delay", type=float, default=2.0, help="seconds, its p99 beside them")
    add("--rounds", type=int, default=40, help="times that all workers are killed")
    add("--soak", type=float, default=30.0, metavar="MINUTES", help="of good and bad requests")
    return parser.parse_args()


def stop(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends this program as Ctrl-C does: what it has started ends with it."""
    raise KeyboardInterrupt


def main() -> int:
    arguments = parsed()
    signal.signal(signal.SIGTERM, stop)
    started = time.monotonic()
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    rows: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="glimpse-robustness-") as folder:
        Path(folder).chmod(0o755)  # a user without rights looks for its TMPDIR in it
        picture = mutations.encoded(mutations.drawn(), "PNG")
        bench = Bench(Path(folder), arguments.config.resolve(), picture)
        for name in arguments.only:
            begun = time.monotonic()
            try:
                for row in SECTIONS[name](arguments, bench):
                    rows.append(row)
                    print(f"{row.state:8} {row.fault}: {row.happened}", flush=True)
            except Exception as error:  # the other sections are worth their figures
                rows.append(
                    Outcome(name, "the section", f"{type(error).__name__}: {error}", FAILED)
                )
                print(f"{FAILED:8} {name}: {type(error).__name__}: {error}", flush=True)
            print(f"{name} took {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
            if arguments.out is not None:
                arguments.out.write_text(table(rows, (time.monotonic() - started) / 60))
        if arguments.keep is not None and (Path(folder) / "server.log").is_file():
            (arguments.keep / "server.log").write_bytes((Path(folder) / "server.log").read_bytes())
    return 1 if any(row.state == FAILED for row in rows) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
