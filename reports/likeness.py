"""How alike two pictures are, by their difference hashes."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 9, 8  # each pixel but a row's last is compared with the next


def likeness(png: bytes) -> int:
    """The difference hash of a picture, 64 bits: whether it gets darker from each part of the
    picture to the one on its right.
    """
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        small = image.convert("L").resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    grey = np.asarray(small).astype(np.int16)
    bits = np.packbits(grey[:, :-1] > grey[:, 1:])
    return int.from_bytes(bits.tobytes(), "big")


def distance(one: int, other: int) -> int:
    """In how many of 64 bits two hashes differ: 0 for copies, about 32 for unlike pictures."""
    return (one ^ other).bit_count()
