"""JPEG files as viewers take them: the end may be missing, if next to nothing else is."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image

SIGNATURE = b"\xff\xd8\xff"
END = b"\xff\xd9"
MAX_SCANS = 50  # progressive files have about ten
MAX_PARTS = 10_000
MAX_MISSING = 0.05  # share of a picture that may be missing
FILL = 128  # what the decoder puts where nothing is left to decode

# A marker: neither a stuffed byte, a restart nor another that stands alone.
MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
PROGRESSIVE, START_OF_SCAN, END_OF_IMAGE = 0xC2, 0xDA, 0xD9


def ended(jpeg: bytes) -> tuple[bytes, bool]:
    """The file with an end, and whether it had one.

    Raises `ValueError` if it has so many scans or parts that it must be meant to keep a server
    busy, or if it ends before the scans that show its details.
    """
    at = scans = parts = 0
    is_progressive = is_detailed = False
    while marker := MARKER.search(jpeg, at):
        kind = marker[1][0]
        parts += 1
        if parts > MAX_PARTS:
            raise ValueError("its decoder takes memory for each part")
        if kind == END_OF_IMAGE:
            return jpeg, True
        at = marker.end() + int.from_bytes(jpeg[marker.end() : marker.end() + 2], "big")
        is_progressive |= kind == PROGRESSIVE
        if kind == START_OF_SCAN:
            scans += 1
            # Its last three bytes: the first and the last frequency, then the bits left out.
            first, _, precision = jpeg[at - 3 : at].ljust(3, b"\0")
            is_detailed = first > 0 and precision & 15 == 0
            if scans > MAX_SCANS:
                raise ValueError("each scan of a JPEG takes as long as a picture")
    if jpeg.endswith(END):  # it stands behind what only looks like a marker
        return jpeg, True
    if is_progressive and not is_detailed:
        raise ValueError("the details are missing")
    return jpeg + END, False


def is_whole(image: Image.Image) -> bool:
    """Whether nearly all of a picture whose file had no end is there.

    A picture that has so much of just that grey is taken for one that is cut short.
    """
    filled = np.asarray(image).reshape(image.height * image.width, -1) == FILL
    return bool(filled.all(axis=1).mean() <= MAX_MISSING)
