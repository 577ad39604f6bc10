"""What in a picture is to be classified, by the task of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app import faces
from app.decode import Picture
from app.errors import NothingToClassify, NotReady
from app.faces import Face, NoDetectorError
from model_store import Card, ink

MOST_FACES = 256  # of a photo, the largest ones

DIGIT_SHAPE = [1, ink.SIZE, ink.SIZE]


@dataclass(frozen=True)
class Subject:
    """Something to classify, as the network takes it, uint8 (C, H, W), and where it was found.

    `box` is x, y, width and height in pixels of the upright picture as it was sent.
    """

    pixels: NDArray[np.uint8]
    box: dict[str, int]


def fits(card: Card) -> bool:
    """Whether pictures of the shape that the card asks for can be made of what people send."""
    channels, height, width = card.input["shape"]
    if card.task == "face":
        return channels in (1, 3) and height == width >= 8
    return bool(card.input["shape"] == DIGIT_SHAPE)


def subjects(picture: Picture, card: Card, *, whole: bool) -> Sequence[Subject]:
    """What `picture` holds for the model of `card`, one or more.

    Faces are largest first; `whole` takes the picture as one face's crop. Of digits the first is
    all the ink as one; others are the digits, from left to right, of what may be a number. Raises
    `NothingToClassify`, or `NotReady` where faces cannot be found on this machine.
    """
    if card.task == "face":
        return _faces(picture, card.input["shape"], whole=whole)
    try:
        scale = picture.width / picture.image.width
        return [
            Subject(digit.pixels[np.newaxis], _box(*digit.box, scale=scale, picture=picture))
            for digit in ink.read(picture.image)
        ]
    except ink.BlankError as error:
        raise NothingToClassify(
            "The picture is blank: no ink was found. Draw a digit, or send a picture in which "
            "the digit stands out from its background."
        ) from error


def _faces(picture: Picture, shape: Sequence[int], *, whole: bool) -> list[Subject]:
    channels, size, _ = shape
    photo = _opaque(picture.image)
    if whole:
        box = {"x": 0, "y": 0, "width": picture.width, "height": picture.height}
        return [Subject(faces.whole(photo, size, channels), box)]
    try:
        found = faces.find(photo)[:MOST_FACES]
    except NoDetectorError as error:
        raise NotReady(
            f"Faces cannot be found on this server: {error}. Cut the face out and send it with "
            "faces=whole."
        ) from error
    if not found:
        raise NothingToClassify(
            "No face was found. Choose a photo in which a face is sharp and larger than 20 pixels "
            "(to the API, one face's crop goes with faces=whole)."
        )
    scale = picture.width / photo.width
    return [
        Subject(faces.cut(photo, face, size, channels), _face_box(face, scale, picture))
        for face in found
    ]


def _face_box(face: Face, scale: float, picture: Picture) -> dict[str, int]:
    right, bottom = face.x + face.width, face.y + face.height
    return _box(face.x, face.y, right, bottom, scale=scale, picture=picture)


def _box(
    left: float, top: float, right: float, bottom: float, *, scale: float, picture: Picture
) -> dict[str, int]:
    """A box of the decoded picture in whole pixels within the picture as it was sent."""
    x, y = max(0, round(left * scale)), max(0, round(top * scale))
    width = min(picture.width, round(right * scale)) - x
    height = min(picture.height, round(bottom * scale)) - y
    return {"x": x, "y": y, "width": max(1, width), "height": max(1, height)}


def _opaque(image: Image.Image) -> Image.Image:
    """Without transparency: on white."""
    if image.mode != "RGBA":
        return image
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image).convert("RGB")
