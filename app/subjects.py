"""What in a picture is to be classified, by the task of the model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.decode import Picture
from app.errors import NothingToClassify
from model_store import ink

TASKS = {"digit": [1, ink.SIZE, ink.SIZE]}  # and the shape of what each gives a network


def digit(picture: Picture) -> NDArray[np.uint8]:
    """The digit in `picture` as the network takes it: (1, 28, 28); raises `NothingToClassify`."""
    try:
        return ink.normalise(picture.image)[np.newaxis]
    except ink.BlankError as error:
        raise NothingToClassify(
            "The picture is blank: no ink was found. Draw a digit, or send a picture in which "
            "the digit stands out from its background."
        ) from error
