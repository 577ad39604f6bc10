"""From untrusted bytes to an upright picture."""

from __future__ import annotations

import io
import math
import re
import warnings
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tasks.problems import Busy, TooLarge, UnreadableImage, UnsupportedMediaType

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
FORMAT_NAMES = "PNG, JPEG, WebP, GIF or BMP"
ENOUGH = 1024  # pixels of a picture's shorter side that suffice for any model
MUCH = 4 * ENOUGH**2  # pixels of a long, narrow picture beyond which it is reduced as well
MAX_SCANS = 50  # of a JPEG; progressive ones have about ten

ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LYING = (5, 6, 7, 8)  # orientations that swap width and height

# `decode` enforces its own limit before any pixel is decoded, with a clear error.
Image.MAX_IMAGE_PIXELS = None
# Untrusted pictures can cause thousands of Pillow's warnings: keep them out of the log.
warnings.filterwarnings("ignore", module=r"PIL\.")

# A JPEG marker: neither a stuffed byte, a restart nor another that stands alone.
MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
START_OF_SCAN, END = 0xDA, 0xD9


@dataclass(frozen=True)
class Picture:
    """An upright picture of mode L, RGB or RGBA, and its original size in pixels.

    `image` may be smaller than that: its shorter side is then `ENOUGH` pixels or more, or its area
    `MUCH` or more.
    """

    image: Image.Image
    width: int
    height: int


def header(content: bytes) -> tuple[str, int]:
    """A picture's format and number of pixels, without decoding it; "" and 0 if that fails."""
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        return image.format or "", image.width * image.height
    except Exception:  # `decode` says what is wrong
        return "", 0


def decode(content: bytes, max_pixels: int) -> Picture:
    """Reads a picture: upright by its EXIF, the first frame of an animation, eight bits deep.

    Raises `UnreadableImage`, `UnsupportedMediaType` or `TooLarge`, or `Busy` if memory runs out.
    """
    if not content:
        raise UnreadableImage("The image is empty (0 bytes). Choose a picture and send it again.")
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        width, height = image.size
    except Exception as error:  # decoders raise all kinds of errors on untrusted data
        foreign = _foreign_format(content)
        if foreign:
            raise UnsupportedMediaType(
                f"{foreign} pictures are not supported. Convert it to {FORMAT_NAMES} and send it "
                "again."
            ) from error
        raise UnreadableImage(f"This is not an image. Send a {FORMAT_NAMES} file.") from error
    if width * height > max_pixels:
        raise TooLarge(
            f"The image has {width} × {height} pixels; at most {max_pixels} are allowed. "
            "Send it at a smaller size."
        )
    try:
        orientation = _orientation(image)
        if image.format in ("JPEG", "MPO"):
            if _has_too_many_scans(content):
                raise ValueError("each scan of a JPEG takes as long as a picture")
            image.draft(None, (ENOUGH, ENOUGH))
        image.load()
        if image.width * image.height > max_pixels:
            raise ValueError("the first frame is larger than the picture")
        image = _eight_bits(image)
        factor = max(min(image.size) // ENOUGH, math.isqrt(image.width * image.height // MUCH))
        if factor > 1:
            image = image.reduce(factor)
        if orientation in UPRIGHT:
            image = image.transpose(UPRIGHT[orientation])
    except Exception as error:
        if isinstance(error, MemoryError) or "memory" in str(error):  # Pillow also has an OSError
            raise Busy(
                "There is too little memory to read the image. Send it at a smaller size.",
                {"Retry-After": "10"},
            ) from error
        raise UnreadableImage(
            "The image is damaged or cut short. Save or upload it again."
        ) from error
    if orientation in LYING:
        width, height = height, width
    return Picture(image, width, height)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; damaged EXIF data counts as upright, 1."""
    with suppress(Exception):
        return int(image.getexif().get(ORIENTATION, 1))
    return 1


def _has_too_many_scans(content: bytes) -> bool:
    """Whether a JPEG has so many scans that it must be meant to keep a server busy."""
    at = scans = 0
    while scans <= MAX_SCANS and (marker := MARKER.search(content, at)):
        if marker[1][0] == END:
            return False
        scans += marker[1][0] == START_OF_SCAN
        at = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")
    return scans > MAX_SCANS


def _eight_bits(image: Image.Image) -> Image.Image:
    """The picture in mode L, RGB or RGBA."""
    if image.mode.startswith("I"):
        # Pillow would clip 16 bits to the lowest eight, not scale them.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _foreign_format(content: bytes) -> str | None:
    """The name of a known but unsupported picture format, by its first bytes."""
    if content[4:8] == b"ftyp":
        brand = content[8:12]
        if brand.startswith(b"avi"):
            return "AVIF"
        if brand[:3] in (b"hei", b"hev", b"mif", b"msf"):
            return "HEIC"
    signatures = {
        b"II*\0": "TIFF",
        b"MM\0*": "TIFF",
        b"%PDF": "PDF",
        b"8BPS": "Photoshop",
        b"\xff\x0a": "JPEG XL",
        b"\0\0\0\x0cJXL ": "JPEG XL",
        b"\0\0\0\x0cjP  ": "JPEG 2000",
        b"\0\0\1\0": "Icon",
    }
    otherwise = "SVG" if b"<svg" in content[:1000].lower() else None
    return next((signatures[each] for each in signatures if content.startswith(each)), otherwise)
