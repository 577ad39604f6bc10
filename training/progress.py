"""What a run leaves while it goes on: history.csv and .json, curves.png, TensorBoard's logs."""

from __future__ import annotations

import csv
import json
import shutil
import time
from pathlib import Path
from typing import Any

from training import report
from training.errors import TrainingError

LOGS = ("tensorboard",)
BETWEEN = 10  # seconds between two drawings of the curves, so that short epochs stay short

Figures = dict[str, float]


class Progress:
    """Writes the figures of each epoch into a run's folder, and into the `log`, if one is named.

    Raises `TrainingError` for a log that is unknown, or whose package is missing.
    """

    def __init__(self, folder: Path, log: str | None = None, *, resume: bool = False) -> None:
        self.folder = folder
        self.drawn = time.monotonic()
        self.writer = None if log is None else _writer(log, folder / log, resume=resume)

    def epoch(self, history: list[Figures]) -> None:
        """Writes the `history` so far, of which the last epoch is new."""
        self.write(history)
        if time.monotonic() - self.drawn >= BETWEEN:
            report.draw_curves(history, self.folder / "curves.png")
            self.drawn = time.monotonic()
        if self.writer is not None:
            for name, value in history[-1].items():
                part, _, what = name.rpartition("_")
                self.writer.add_scalar(f"{what}/{part}" if part else what, value, len(history))
            self.writer.flush()

    def write(self, history: list[Figures]) -> None:
        """Writes history.csv and history.json."""
        with (self.folder / "history.csv").open("w", encoding="utf-8", newline="") as file:
            rows = csv.DictWriter(
                file, ["epoch", *dict.fromkeys(key for e in history for key in e)]
            )
            rows.writeheader()
            rows.writerows({"epoch": at, **each} for at, each in enumerate(history, 1))
        text = json.dumps(history, indent=1)
        (self.folder / "history.json").write_text(text + "\n", encoding="utf-8")

    def close(self, history: list[Figures]) -> None:
        """Writes and draws the whole `history`."""
        self.write(history)
        report.draw_curves(history, self.folder / "curves.png")
        if self.writer is not None:
            self.writer.close()


def _writer(log: str, folder: Path, *, resume: bool) -> Any:
    if log not in LOGS:
        raise TrainingError(f"no log “{log}”; known are {', '.join(LOGS)}")
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415
    except ImportError as error:
        raise TrainingError(
            "--log tensorboard needs the package tensorboard: pip install tensorboard"
        ) from error
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    return SummaryWriter(folder)
