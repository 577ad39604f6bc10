"""The base of tasks: how a picture becomes a network's input, and scores become an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.decode import Picture

Pixels = NDArray[np.uint8]  # (C, H, W), as a network takes one picture
Probabilities = NDArray[np.float64]
Verdict = Literal["sure", "unsure", "none"]

UNSURE = 0.8  # a best score below it is unsure, if the card has no threshold of its own


class Box(msgspec.Struct, frozen=True):
    """A place in pixels of the upright picture, from its top left corner."""

    x: int
    y: int
    width: int
    height: int


class Frame(msgspec.Struct, frozen=True):
    """Where in the upright picture, in its pixels, lies what a network saw of it.

    A rectangle, turned about its middle by `angle` degrees, clockwise; it may reach beyond the
    picture.
    """

    x: float
    y: float
    width: float
    height: float
    angle: float = 0.0


class Prediction(msgspec.Struct, frozen=True):
    """A label and its score, 0..1."""

    label: str
    score: float


@dataclass(frozen=True)
class InputSpec:
    """A network's input: uint8 pictures of `shape` (C, H, W), prepared as the card says."""

    shape: tuple[int, int, int]
    preprocessing: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """Something to classify: the network's pixels, uint8 (C, H, W), and where it was found.

    `verdict` is the best that its answer can have: how well it is seen, whatever the scores.
    `frame` is where its pixels lie in the picture, if the task says so.
    """

    pixels: Pixels
    box: Box
    verdict: Verdict = field(default="sure", kw_only=True)
    frame: Frame | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Answer:
    """What a picture shows.

    `predictions` are those of the whole picture, best first. `subjects` are its parts, with their
    `probabilities`, (len(subjects), K), and their own `verdicts`. `whole` is what the network saw
    of the whole picture.
    """

    predictions: list[Prediction]
    verdict: Verdict
    subjects: Sequence[Subject]
    probabilities: Probabilities
    verdicts: Sequence[Verdict]
    whole: Subject


class Task:
    """How a kind of model reads pictures: one instance per task, registered under its `name`.

    A subclass overrides what differs from the default, in which the whole picture is the only
    subject.
    """

    name: str
    page = "try.html"  # the template of the page on which a model is tried
    sample_file = "picture.jpg"  # the file in the code samples of a model's page
    subject_list: Literal["subjects", "faces"] = "subjects"  # where an answer lists its subjects
    takes_crops = False  # whether faces=whole takes a picture as one subject's crop
    about_people = False  # whether pages warn against judging people by the answers
    # Kept in a new model's card; `prepare` gets it back in `spec`.
    preprocessing: ClassVar[Mapping[str, Any]] = {}

    def misfit(self, spec: InputSpec) -> str | None:
        """Why `prepare` cannot produce what `spec` asks for, or none.

        A clause without a full stop; the caller adds which keys of a recipe to change.
        """
        channels, height, width = spec.shape
        if channels not in (1, 3) or not (8 <= height <= 1024 and 8 <= width <= 1024):
            return "1 or 3 channels and sides of 8 to 1,024 pixels are possible"
        return None

    def lacks(self) -> str | None:
        """What is missing here to find subjects, or none. Also warms up the first search."""
        return None

    def finder(self) -> str | None:
        """What finds subjects on this machine, as a sentence, or none."""
        return None

    def prepare(self, image: Image.Image, spec: InputSpec) -> Pixels:
        """One subject's upright picture as the network takes it.

        `image` is of mode L, RGB or RGBA, as `decode` gives it. Training and serving both call
        this. Raises `NothingToClassify`.
        """
        raise NotImplementedError

    def find(self, picture: Picture, spec: InputSpec, *, whole: bool = False) -> Sequence[Subject]:
        """What `picture` holds for a model, one subject or more.

        `whole` says that the picture is one subject's crop. Raises `NothingToClassify`, or
        `NotReady` if subjects cannot be found on this machine.
        """
        box = Box(0, 0, picture.width, picture.height)
        return [Subject(self.prepare(picture.image, spec), box)]

    def answer(
        self,
        subjects: Sequence[Subject],
        probabilities: Probabilities,
        labels: Sequence[str],
        thresholds: Mapping[str, float],
        *,
        none: Probabilities,
    ) -> Answer:
        """What the picture shows, given the `probabilities` (N, K) of its N subjects, and how
        likely each of them shows `none` of the labels (N,).
        """
        verdicts = [
            self.verdict(subject, rank(labels, own), thresholds, none=float(share))
            for subject, own, share in zip(subjects, probabilities, none, strict=True)
        ]
        predictions = rank(labels, probabilities[0])
        return Answer(predictions, verdicts[0], subjects, probabilities, verdicts, subjects[0])

    def verdict(
        self,
        subject: Subject,
        predictions: Sequence[Prediction],
        thresholds: Mapping[str, float],
        *,
        none: float = 0.0,
    ) -> Verdict:
        """Whether the best of one subject's `predictions` may be relied on, or whether it is
        too likely to show `none` of the labels.
        """
        if none > thresholds.get("none", 1.0):
            return "none"
        if subject.verdict != "sure":
            return subject.verdict
        is_sure = predictions[0].score >= thresholds.get("unsure", UNSURE)
        return "sure" if is_sure else "unsure"


def rank(labels: Sequence[str], probabilities: Probabilities) -> list[Prediction]:
    """The labels with their probabilities (K,), best first."""
    order = np.argsort(-probabilities, kind="stable").tolist()
    return [Prediction(labels[at], round(float(probabilities[at]), 9)) for at in order]


def scaled_box(left: float, top: float, right: float, bottom: float, picture: Picture) -> Box:
    """Edges in pixels of the decoded picture as a box in the picture as it was sent."""
    scale = picture.width / picture.image.width
    x, y = max(0, round(left * scale)), max(0, round(top * scale))
    width = min(picture.width, round(right * scale)) - x
    height = min(picture.height, round(bottom * scale)) - y
    return Box(x, y, max(1, width), max(1, height))


def on_white(image: Image.Image) -> Image.Image:
    """The picture without transparency: what is transparent is white."""
    if image.mode != "RGBA":
        return image
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image).convert("RGB")


def as_pixels(image: Image.Image, channels: int) -> Pixels:
    """The picture in grey (1 channel) or colour (3), as uint8 (C, H, W)."""
    converted = image.convert("L" if channels == 1 else "RGB")
    values = np.asarray(converted).reshape(converted.height, converted.width, channels)
    return np.ascontiguousarray(values.transpose(2, 0, 1))
