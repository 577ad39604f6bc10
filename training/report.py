"""The reports of a run: curves, confusion matrix, classification report and others."""

from __future__ import annotations

import base64
import io
import json
import math
import textwrap
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import (
    average_precision_score,
    classification_report,
    confusion_matrix,
    f1_score,
    precision_recall_curve,
)
from torch import Tensor

from training import loop

mpl.use("Agg")  # reports are files: no screen is needed
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

mpl.rcParams["text.parse_math"] = False  # a class may be called “$5 to $10”

Labels = NDArray[np.int64]
Indices = NDArray[np.int64]
Pictures = NDArray[np.uint8]
BINS = 15
POINTS = 60  # of a precision-recall curve in report.json
HARDEST = 24  # pictures in hardest.json
MANY = 64  # classes; with more, a report lists the most confused pairs, and draws no class alone
COUNTED = 30  # classes of a matrix with room for counts
LONGEST = 24  # characters of a class's name in a picture or a table of text
CONFUSIONS = 1000  # pairs in report.json of more than `MANY` classes
DRAWN_CONFUSIONS = 30
WIDE = 0.1  # of an interval: test pictures so few that their accuracy says little

# Fonts with the letters that matplotlib's own lacks, if they are installed.
OTHER_FONTS = (
    "Noto Sans CJK JP", "WenQuanYi Micro Hei", "Hiragino Sans", "Microsoft YaHei", "Malgun Gothic",
    "Arial Unicode MS", "Noto Sans Arabic", "Noto Sans Devanagari", "Noto Emoji", "Segoe UI Emoji",
)  # fmt: skip
INSTALLED = [name for name in OTHER_FONTS if name in font_manager.get_font_names()]
mpl.rcParams["font.family"] = ["sans-serif", *INSTALLED]

# What `write` leaves.
FILES = (
    "report.txt", "report.json", "report.png",
    "confusion_matrix.png", "confusions.png", "precision_recall.png", "reliability.png",
)  # fmt: skip

# Data sets whose pictures may be published, and the credit that their licences require. All others
# show people, are for research only, or are the user's own: none of their pictures are published.
CREDITS = {"mnist": "MNIST, Yann LeCun and Corinna Cortes, CC BY-SA 3.0"}


@dataclass(frozen=True)
class Tested:
    """What a network that knows K labels said of a part.

    `truth` (N,) and `probabilities` (N, K) are those of the pictures of a label. Where the network
    rejects, `refused` (N,) says which of these were, and `caught` (M,) which of the pictures of
    none of the labels.
    """

    truth: Labels
    probabilities: NDArray[np.float32]
    refused: NDArray[np.bool_] | None = None
    caught: NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls, labels: Tensor, scores: Tensor, count: int, thresholds: Mapping[str, float]
    ) -> Tested:
        """By the `scores` (N, K or K + 1) of pictures whose `labels` (N,) are below `count`, or
        `count` where they show none, and a card's `thresholds`.
        """
        known = labels < count
        probabilities, none = loop.split_scores(scores, count)
        own = labels[known].numpy(), probabilities[known].numpy()
        if "none" not in thresholds:
            return cls(*own)
        refused = none > thresholds["none"]
        return cls(*own, refused[known].numpy(), refused[~known].numpy())

    def figures(self) -> dict[str, Any]:
        """See `metrics`; and the share that was `refused`, and of the others that was `caught`."""
        found = metrics(self.truth, self.probabilities)
        if self.refused is not None:
            found["refused"] = float(self.refused.mean())
        if self.caught is not None and len(self.caught):
            found["others_count"] = len(self.caught)
            found["others_caught"] = float(self.caught.mean())
        return found


def metrics(truth: Labels, probabilities: NDArray[np.float32]) -> dict[str, Any]:
    """Figures of predictions on a part: accuracy with its 95 % interval, macro F1, recall a
    class and calibration, all in 0..1. `truth` is (N,), `probabilities` (N, K).
    """
    predicted = probabilities.argmax(1)
    hits = int((predicted == truth).sum())
    matrix = confusion_matrix(truth, predicted, labels=range(probabilities.shape[1]))
    support = matrix.sum(1)
    return {
        "count": len(truth),
        "accuracy": hits / len(truth),
        "accuracy_interval": wilson(hits, len(truth)),
        "macro_f1": float(f1_score(truth, predicted, average="macro", zero_division=0)),
        "recall": [float(r) for r in matrix.diagonal() / np.maximum(support, 1)],
        "calibration_error": calibration_error(truth, probabilities),
    }


def wilson(hits: int, count: int) -> list[float]:
    """The 95 % interval of a share (Wilson, 1927)."""
    z, share = 1.96, hits / count
    middle = share + z * z / (2 * count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return [(middle - reach) / (1 + z * z / count), (middle + reach) / (1 + z * z / count)]


def calibration_error(truth: Labels, probabilities: NDArray[np.float32]) -> float:
    """The expected calibration error of the best label's score (Guo et al., 2017), 0..1."""
    gaps = [abs(right - score) * n for score, right, n in reliability(truth, probabilities)]
    return float(sum(gaps) / len(truth))


def reliability(
    truth: Labels, probabilities: NDArray[np.float32]
) -> list[tuple[float, float, int]]:
    """The best label's score by bins that are equally wide: for each that holds pictures, their
    mean score, the share of them that is right, both 0..1, and how many they are.
    """
    score, right = probabilities.max(1), probabilities.argmax(1) == truth
    bins = np.minimum((score * BINS).astype(int), BINS - 1)
    return [
        (float(score[own].mean()), float(right[own].mean()), int(own.sum()))
        for own in (bins == index for index in np.unique(bins))
    ]


def write(
    folder: Path, names: list[str], tested: Tested, reported: Mapping[str, Any] | None = None
) -> None:
    """Writes the report of a test into `folder`: figures first, then pictures of them.

    Of an update, `reported` is what people reported, see `training.update`.

    In report.json ``reliability`` holds the bins of `reliability`, and ``precision_recall`` each
    class's curve as [recall, precision] points. Of
    more than `MANY` classes it holds neither these nor the ``confusion_matrix``, but the most
    frequent ``confusions`` as [true class, predicted class, count].
    """
    for file in FILES:  # of an older report
        (folder / file).unlink(missing_ok=True)
    truth, probabilities = tested.truth, tested.probabilities
    predicted = probabilities.argmax(1)
    matrix = confusion_matrix(truth, predicted, labels=range(len(names)))
    pairs = [(names[true], names[told], count) for true, told, count in confusions(matrix)]
    text = table(tested, names)
    figures = classification_report(truth, predicted, output_dict=True, **_layout(names))
    figures["average_precision"] = average_precision(truth, probabilities)
    bins = reliability(truth, probabilities)
    figures["reliability"] = [(round(s, 5), round(r, 5), n) for s, r, n in bins]
    if len(names) > MANY:
        figures["confusions"] = pairs[:CONFUSIONS]
    else:
        figures["confusion_matrix"] = matrix.tolist()
        figures["precision_recall"] = precision_recall(truth, probabilities)
    if reported is not None:
        figures["reports"] = dict(reported)
        text += "\n" + reported_text(reported)
    (folder / "report.txt").write_text(text, encoding="utf-8")
    _write_json(folder / "report.json", figures)
    draw_reliability(bins, folder / "reliability.png")
    if len(names) > MANY:
        draw_confusions(pairs[:DRAWN_CONFUSIONS], folder / "confusions.png")
    else:
        draw_matrix(matrix, names, folder / "confusion_matrix.png")
        draw_precision_recall(truth, probabilities, names, folder / "precision_recall.png")
        draw_text(text, folder / "report.png")


def write_reported(folder: Path, reported: Mapping[str, Any]) -> None:
    """Writes the report of an update that has made no version, in place of any other."""
    for file in FILES:
        (folder / file).unlink(missing_ok=True)
    (folder / "report.txt").write_text(reported_text(reported), encoding="utf-8")
    _write_json(folder / "report.json", {"reports": dict(reported)})


def reported_text(reported: Mapping[str, Any]) -> str:
    """What people reported, and what a model has learnt from it, as text."""
    learnt, held_back = reported["learnt"], reported["held_back"]
    lines = ["What people reported", "", f"{'':24} {'learnt':>9} {'held back':>9}"]
    for label in dict.fromkeys([*learnt["labels"], *held_back["labels"]]):
        numbers = [each["labels"].get(label, 0) for each in (learnt, held_back)]
        lines.append(f"{_shown(label):>24} {numbers[0]:9} {numbers[1]:9}")
    for name in ("count", "reporters"):
        shown = "reports" if name == "count" else name
        lines.append(f"{shown:>24} {learnt[name]:9} {held_back[name]:9}")
    lines += ["", f"learnt by the version {reported['from']}"]
    for reason, count in reported["left_out"].items():
        lines.append(f"left out, {reason.replace('_', ' ')}: {count}")
    for key, name in (
        ("test", "reports held back"),
        ("validation", "validation pictures"),
        ("others", "validation pictures of none of the labels"),
    ):
        if own := reported.get(key):
            lines.append(
                f"{name}: {own['before']} of {own['count']} right before, {own['after']} after; "
                f"{own['won']} won, {own['lost']} lost"
            )
    if "test" in reported:
        lines.append(f"McNemar's exact test, one-sided: p = {reported['test']['p']:.2g}")
        lines.append(
            f"validation accuracy lost: {reported['validation']['most_lost']:.3%} at most (Tango's "
            f"test, one-sided, {1 - reported['level']:.0%})"
        )
    if "refusal" in reported:
        lines.append(f"not published: {reported['refusal']}")
    return "\n".join(lines) + "\n"


def confusions(matrix: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """The mistakes in a confusion matrix, most frequent first: (true, predicted, count)."""
    wrong = matrix - np.diag(matrix.diagonal())
    true, told = wrong.nonzero()
    counts = wrong[true, told]
    order = (-counts).argsort(kind="stable")
    return [(int(true[at]), int(told[at]), int(counts[at])) for at in order]


def average_precision(truth: Labels, probabilities: NDArray[np.float32]) -> list[float | None]:
    """The area under each class's precision-recall curve, 0..1; none without pictures."""
    return [
        float(average_precision_score(truth == label, probabilities[:, label]))
        if (truth == label).any()
        else None
        for label in range(probabilities.shape[1])
    ]


def precision_recall(
    truth: Labels, probabilities: NDArray[np.float32]
) -> list[list[list[float]] | None]:
    """Each class's precision-recall curve as at most `POINTS` points [recall, precision] by rising
    recall, from the best precision at full recall down; none for a class without pictures.
    """
    return [
        _thinned(truth == label, probabilities[:, label]) if (truth == label).any() else None
        for label in range(probabilities.shape[1])
    ]


def _thinned(right: NDArray[np.bool_], score: NDArray[np.float32]) -> list[list[float]]:
    """The points of the curve that straight lines between the others would miss the most."""
    precision, recall, _ = precision_recall_curve(right, score)
    whole = np.flatnonzero(recall == 1)[-1]  # lower thresholds only lose precision
    points = np.stack([recall[whole:], precision[whole:]], 1)[::-1]
    way = np.abs(np.diff(points, axis=0, prepend=points[:1])).sum(1).cumsum()
    chosen = np.array([0, len(points) - 1])
    while len(chosen) < POINTS:
        lines = [np.interp(way, way[chosen], points[chosen, axis]) for axis in (0, 1)]
        gaps = np.abs(points - np.stack(lines, 1)).max(1)
        if gaps.max() < 1e-5:
            break
        chosen = np.sort(np.append(chosen, gaps.argmax()))
    thinned: list[list[float]] = points[chosen].round(5).tolist()
    return thinned


def write_hardest(
    folder: Path,
    names: list[str],
    tested: Tested,
    *,
    pictures: Callable[[Indices], Pictures],
    data: str,
) -> None:
    """Writes hardest.json: the test pictures whose true label got the lowest scores.

    `pictures` reads those of given indices (n,) as (n, C, H, W). Where the licence of the data set
    `data` does not let its pictures be published, nothing is written, and an older file is taken
    away.
    """
    file = folder / "hardest.json"
    if data not in CREDITS:
        file.unlink(missing_ok=True)
        return
    truth, probabilities = tested.truth, tested.probabilities
    order = probabilities[np.arange(len(truth)), truth].argsort(kind="stable")[:HARDEST]
    shown = pictures(order)
    told = [
        {
            "label": names[truth[index]],
            "prediction": names[probabilities[index].argmax()],
            "score": round(float(probabilities[index].max()), 4),
            "picture": _data_url(picture),
        }
        for index, picture in zip(order, shown, strict=True)
    ]
    _write_json(file, {"credit": CREDITS[data], "pictures": told})


def _data_url(picture: NDArray[np.uint8]) -> str:
    """A picture (C, H, W) of one or three channels as a PNG in a data: URL."""
    pixels = picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def draw_precision_recall(
    truth: Labels, probabilities: NDArray[np.float32], names: list[str], file: Path
) -> None:
    """A panel for each class with its precision-recall curve and average precision."""
    areas = average_precision(truth, probabilities)
    columns = min(5, len(names))
    rows = -(-len(names) // columns)
    figure, panels = plt.subplots(
        rows, columns, figsize=(2.4 * columns, 2.5 * rows), layout="constrained",
        sharex=True, sharey=True, squeeze=False,
    )  # fmt: skip
    for panel, label in zip(panels.flat, range(rows * columns), strict=True):
        if label >= len(names):
            panel.axis("off")
            continue
        panel.set(title=_shown(names[label]), xlim=(0, 1.02), ylim=(0, 1.02))
        panel.grid(alpha=0.3)
        if areas[label] is not None:
            precision, recall, _ = precision_recall_curve(truth == label, probabilities[:, label])
            panel.step(recall, precision, where="post")
            panel.text(0.05, 0.06, f"AP {areas[label]:.3f}", transform=panel.transAxes)
    figure.supxlabel("recall")
    figure.supylabel("precision")
    _save(figure, file)


def draw_reliability(bins: list[tuple[float, float, int]], file: Path) -> None:
    """The share that is right against the score, and how many pictures have such a score."""
    scores, rights, counts = zip(*bins, strict=True)
    error = sum(abs(right - score) * n for score, right, n in bins) / sum(counts)
    figure, (panel, below) = plt.subplots(
        2, 1, figsize=(4.5, 5.5), layout="constrained", sharex=True, height_ratios=(3, 1)
    )
    panel.plot([0, 1], [0, 1], color="grey", linestyle=":", label="well calibrated")
    panel.plot(scores, rights, marker="o", label="measured")
    panel.set(title="Reliability", ylabel="share right", xlim=(0, 1.02), ylim=(0, 1.02))
    panel.text(0.05, 0.7, f"calibration error {error:.2%}", transform=panel.transAxes)
    panel.grid(alpha=0.3)
    panel.legend(loc="upper left")
    below.bar(scores, counts, width=0.6 / BINS)
    below.set(xlabel="score of the best label", ylabel="pictures", yscale="log")
    _save(figure, file)


def table(tested: Tested, names: list[str]) -> str:
    """Precision, recall, F1 and support of each class, the accuracy's interval, and what was
    refused, as text.
    """
    truth, predicted = tested.truth, tested.probabilities.argmax(1)
    shown = _layout([_shown(name) for name in names])
    text: str = classification_report(truth, predicted, digits=4, **shown)
    low, high = wilson(int((predicted == truth).sum()), len(truth))
    lines = [f"95 % interval of the accuracy: {low:.2%} to {high:.2%}"]
    lines += textwrap.wrap(few(low, high), 60)
    for what, refused in (("these", tested.refused), ("others", tested.caught)):
        if refused is not None and len(refused):
            lines.append(f"refused: {refused.mean():.2%} of {len(refused)} {what}")
    return text + "\n" + "\n".join(lines) + "\n"


def few(low: float, high: float) -> str:
    """What to do about an interval of the accuracy that is wide; nothing about a narrow one."""
    if high - low <= WIDE:
        return ""
    return (
        f"The interval is {100 * (high - low):.0f} points wide, since there are few test pictures. "
        "More of them, or cross-validate, tell more."
    )


def _layout(names: list[str]) -> dict[str, Any]:
    return {"labels": range(len(names)), "target_names": names, "zero_division": 0}


def draw_curves(history: list[dict[str, float]], file: Path) -> None:
    """Loss and accuracy over the epochs, training beside validation."""
    epochs = range(1, len(history) + 1)
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for panel, what in zip(panels, ("loss", "accuracy"), strict=True):
        for part, name in (("train", "training"), ("validation", "validation")):
            values = [figures[f"{part}_{what}"] for figures in history]
            panel.plot(epochs, values, marker=".", label=name)
        panel.set(title=what.capitalize(), xlabel="epoch", ylabel=what)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
        panel.legend()
    _save(figure, file)


def draw_lr_range(rows: list[dict[str, float]], suggested: float, file: Path) -> None:
    """The loss at each learning rate of a range test, and the `suggested` rate."""
    figure, panel = plt.subplots(figsize=(7, 4), layout="constrained")
    panel.plot([row["lr"] for row in rows], [row["loss"] for row in rows])
    panel.axvline(suggested, color="grey", linestyle=":", label=f"falls fastest at {suggested:.1e}")
    panel.set(title="Learning-rate range test", xlabel="learning rate", ylabel="loss", xscale="log")
    panel.grid(alpha=0.3)
    panel.legend()
    _save(figure, file)


def draw_matrix(matrix: NDArray[np.int64], names: list[str], file: Path) -> None:
    """The confusion matrix: rows are true labels, coloured by the share of the row.

    Of more than `COUNTED` classes it has no counts.
    """
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    counted = len(names) <= COUNTED
    side = 2 + (0.6 if counted else 0.2) * len(names)
    shown = [_shown(name) for name in names]
    turn = 90 if max(map(len, shown)) > 5 or not counted else 0
    figure, panel = plt.subplots(figsize=(side, side), layout="constrained")
    panel.imshow(share, cmap="Blues", vmin=0, vmax=1)
    panel.set(title="Confusion matrix", xlabel="predicted", ylabel="true")
    panel.set_xticks(range(len(names)), shown, rotation=turn)
    panel.set_yticks(range(len(names)), shown)
    for (row, column), count in np.ndenumerate(matrix) if counted else ():
        colour = "white" if share[row, column] > 0.5 else "black"
        panel.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=9)
    _save(figure, file)


def draw_confusions(pairs: list[tuple[str, str, int]], file: Path) -> None:
    """The most frequent mistakes (true class, predicted class, count) as bars."""
    figure, panel = plt.subplots(figsize=(9, 1.2 + 0.25 * len(pairs)), layout="constrained")
    names = [f"{_shown(true)} → {_shown(told)}" for true, told, _ in pairs]
    panel.barh(range(len(pairs)), [count for *_, count in pairs])
    panel.set_yticks(range(len(pairs)), names)
    panel.invert_yaxis()
    panel.set(title="The most frequent mistakes: true → predicted", xlabel="test pictures")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    _save(figure, file)


def _shown(name: str) -> str:
    """A class's name in one short line."""
    line = " ".join(name.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def draw_text(text: str, file: Path) -> None:
    """The classification report as a picture."""
    lines = text.splitlines()
    figure = plt.figure(figsize=(0.1 * max(map(len, lines)) + 0.4, 0.19 * len(lines) + 0.4))
    figure.text(
        0.5, 0.5, "\n".join(lines), family=["monospace", *INSTALLED],
        fontsize=11, ha="center", va="center", multialignment="left",
    )  # fmt: skip
    _save(figure, file)


def _save(figure: Any, file: Path) -> None:
    with warnings.catch_warnings():
        # No installed font has the letter: report.json has the name, the picture an empty box.
        warnings.filterwarnings("ignore", r"Glyph .* missing from")
        figure.savefig(file, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _write_json(file: Path, values: Any) -> None:
    file.write_text(_laid_out(values, "\n") + "\n", encoding="utf-8")


def _laid_out(values: Any, line: str) -> str:
    """JSON with a line for each innermost list, so that matrices are readable."""
    if isinstance(values, dict) and values:
        each = [
            f"{json.dumps(key, ensure_ascii=False)}: {_laid_out(value, line + ' ')}"
            for key, value in values.items()
        ]
        first, last = "{}"
    elif isinstance(values, list) and any(isinstance(value, list | dict) for value in values):
        each = [_laid_out(value, line + " ") for value in values]
        first, last = "[]"
    else:
        return json.dumps(values, ensure_ascii=False)
    return f"{first}{line} {f',{line} '.join(each)}{line}{last}"
