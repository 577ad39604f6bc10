"""The task `face`: every face in a photo, found, set upright and cut out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from PIL import Image

from tasks import face_finder
from tasks.base import (
    Box,
    Frame,
    InputSpec,
    Pixels,
    Subject,
    Task,
    Verdict,
    as_pixels,
    on_white,
    scaled_box,
)
from tasks.decode import Picture
from tasks.face_detector import NoDetectorError
from tasks.problems import NothingToClassify, NotReady

MOST_FACES = 256  # of a photo, the largest ones


class FaceTask(Task):
    """Faces, largest first; faces=whole takes the crop of one face."""

    name = "face"
    page = "faces.html"
    sample_file = "photo.jpg"
    subject_list = "faces"
    takes_crops = True
    about_people = True
    preprocessing: ClassVar[Mapping[str, Any]] = {
        "subject": "the largest faces found, upright, as squares",
        "colour": "as input",
    }

    def misfit(self, spec: InputSpec) -> str | None:
        """See `Task.misfit`."""
        if spec.shape[1] != spec.shape[2]:
            return "faces are cut out as squares"
        return super().misfit(spec)

    def lacks(self) -> str | None:
        """See `Task.lacks`."""
        try:
            face_finder.find(Image.new("L", (64, 64)))
        except NoDetectorError as error:
            return f"faces cannot be found, only crops classified: {error}"
        return None

    def finder(self) -> str | None:
        """See `Task.finder`."""
        return "faces are found by libfacedetection’s network (onnxruntime)"

    def prepare(self, image: Image.Image, spec: InputSpec) -> Pixels:
        """See `Task.prepare`: `image` is one face's crop."""
        channels, height, width = spec.shape
        crop = on_white(image).convert("L" if channels == 1 else "RGB")
        if crop.size != (width, height):
            crop = crop.resize((width, height), Image.Resampling.LANCZOS)
        return as_pixels(crop, channels)

    def find(self, picture: Picture, spec: InputSpec, *, whole: bool = False) -> Sequence[Subject]:
        """See `Task.find`."""
        if whole:
            return [replace(*super().find(picture, spec), verdict=_verdict(picture))]
        photo = on_white(picture.image)
        try:
            faces = face_finder.find(photo)[:MOST_FACES]
        except NoDetectorError as error:
            raise NotReady(
                f"Faces cannot be found on this server: {error}. Cut the face out and send it "
                "with faces=whole."
            ) from error
        if not faces:
            raise NothingToClassify(
                "No face was found. Choose a photo in which a face is sharp and larger than 20 "
                "pixels (or send the crop of one face to the API with faces=whole)."
            )
        channels, size, _ = spec.shape
        return [
            Subject(
                face_finder.cut(photo, face, size, channels),
                _box(face, picture),
                verdict=face.verdict,
                frame=_frame(face, picture),
            )
            for face in faces
        ]


TASK = FaceTask()


def _verdict(crop: Picture) -> Verdict:
    """How well a face is seen in its crop; where none can be found, the scores alone tell."""
    try:
        return face_finder.verdict_of_crop(on_white(crop.image))
    except NoDetectorError:
        return "sure"


def _frame(face: face_finder.Face, picture: Picture) -> Frame:
    """Where the face's crop lies in the picture as it was sent."""
    cut = face_finder.frame(face)
    scale = picture.width / picture.image.width
    x, y, width, height = (round(scale * each, 2) for each in (cut.x, cut.y, cut.width, cut.height))
    return Frame(x, y, width, height, round(cut.angle, 2))


def _box(face: face_finder.Face, picture: Picture) -> Box:
    return scaled_box(face.x, face.y, face.x + face.width, face.y + face.height, picture)
