"""From untrusted bytes to an upright picture."""

from __future__ import annotations

import io
import math
import warnings
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image, features

from tasks import avif, bmp, jpeg, png
from tasks.problems import (
    Busy,
    Problem,
    TooLarge,
    UnreadableImage,
    UnsupportedMediaType,
)

try:  # where it is installed, Pillow reads HEIC by it
    from pi_heif import register_heif_opener
except ImportError:
    HEIC = False
else:
    register_heif_opener(thumbnails=False)
    HEIC = True
AVIF = bool(features.check("avif"))

# What Pillow calls a format: what people call it, and the suffixes of its files.
FORMATS = {
    "PNG": ("PNG", (".png", ".apng")),
    "JPEG": ("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif")),
    "WEBP": ("WebP", (".webp",)),
    "GIF": ("GIF", (".gif",)),
    bmp.FORMAT: ("BMP", (".bmp", ".dib")),
    **({"AVIF": ("AVIF", (".avif",))} if AVIF else {}),
    **({"HEIF": ("HEIC", (".heic", ".heif", ".hif"))} if HEIC else {}),
}
_NAMES = [name for name, _ in FORMATS.values()]
FORMAT_NAMES = f"{', '.join(_NAMES[:-1])} or {_NAMES[-1]}"
SUFFIXES = frozenset(suffix for _, suffixes in FORMATS.values() for suffix in suffixes)
# Pictures that are told from other files although they are not read.
_OTHERS = ".tif .tiff .heic .heif .hif .avif .jxl .jp2 .j2k .svg .ico .cur .psd"
OTHER_SUFFIXES = frozenset(_OTHERS.split()) - SUFFIXES
ENOUGH = 1024  # pixels of a picture's shorter side that suffice for any model
MUCH = 4 * ENOUGH**2  # pixels of a long, narrow picture beyond which it is reduced as well

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
        image, _ = _opened(content)
        return image.format or "", image.width * image.height
    except Exception:  # `decode` says what is wrong
        return "", 0


def decode(content: bytes, max_pixels: int) -> Picture:
    """Reads a picture: upright as browsers show it, the first frame of an animation, eight bits
    deep.

    Raises `UnreadableImage`, `UnsupportedMediaType` or `TooLarge`, or `Busy` if memory runs out.
    """
    if not content:
        raise UnreadableImage("The image is empty (0 bytes). Choose a picture and send it again.")
    try:
        image, has_end = _opened(content)
        coded = avif.most_pixels(content) if image.format == "AVIF" else 0
    except Exception as error:  # decoders raise all kinds of errors on untrusted data
        raise _unreadable(content, error) from error
    width, height = image.size
    if max(width * height, coded) > max_pixels:
        shown = f"{width} × {height}" if width * height >= coded else coded
        raise TooLarge(
            f"The image has {shown} pixels; at most {max_pixels} are allowed. "
            "Send it at a smaller size."
        )
    orientation = _orientation(image)
    try:
        if image.format in ("JPEG", "MPO"):
            image.draft(None, (ENOUGH, ENOUGH))
        image.load()
        if image.width * image.height > max_pixels:
            raise ValueError("the first frame is larger than the picture")
        if not has_end and not jpeg.is_whole(image):
            raise ValueError("a part of the picture is missing")
        image = _eight_bits(image)
        factor = max(min(image.size) // ENOUGH, math.isqrt(image.width * image.height // MUCH))
        if factor > 1:
            image = image.reduce(factor)
        if orientation in UPRIGHT:
            image = image.transpose(UPRIGHT[orientation])
    except Exception as error:
        raise _unreadable(content, error) from error
    if orientation in LYING:
        width, height = height, width
    return Picture(image, width, height)


def _opened(content: bytes) -> tuple[Image.Image, bool]:
    """The picture, not yet decoded, and whether its file has the end that a JPEG must have."""
    has_end = True
    if content[4:8] == b"ftyp":
        avif.check(content)
    if content.startswith(png.SIGNATURE):
        content = png.needed(content)
    elif content.startswith(jpeg.SIGNATURE):
        content, has_end = jpeg.ended(content)
    elif content[4:12] == b"ftypavis":  # the picture that stands for the film, not the film
        content = content[:8] + b"avif" + content[12:]
    return Image.open(io.BytesIO(content), formats=tuple(FORMATS)), has_end


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; upright, 1, where browsers do not look at it or cannot read it.

    They do not in a WebP file, nor at XMP, nor at EXIF data behind the pixels of a PNG file.
    """
    if image.format != "WEBP":
        with suppress(Exception):
            exif = Image.Exif()
            exif.load(image.info["exif"])
            return int(exif[ORIENTATION])
    return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """The picture in mode L, RGB or RGBA."""
    if image.mode.startswith("I"):
        # Pillow would clip 16 bits to the lowest eight, not scale them. Cameras and scanners
        # put ten or twelve bits into sixteen.
        values = np.asarray(image)
        used = int(values.max()).bit_length()
        bits = max(used, 8) if used <= 12 else 16
        return Image.fromarray((values >> bits - 8).astype(np.uint8))
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


# The first bytes of picture files.
SIGNATURES = {
    png.SIGNATURE: "PNG",
    jpeg.SIGNATURE: "JPEG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"8BPS": "Photoshop",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\1\0": "Icon",
    b"\0\0\2\0\1\0": "Cursor",
}


def _unreadable(content: bytes, error: Exception) -> Problem:
    """The problem of a picture that cannot be read because of `error`."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, MemoryError) or "out of memory" in str(error):
        return Busy(
            "The server has too little memory for this picture now. Send it at a smaller size.",
            {"Retry-After": "10"},
        )
    name = _format_name(content)
    if name is None:
        return UnreadableImage(f"This is not an image. Send a {FORMAT_NAMES} file.")
    if name in _NAMES:
        return UnreadableImage(f"The {name} file is damaged or cut short. Save or upload it again.")
    return UnsupportedMediaType(
        f"{name} pictures are not supported. Convert it to {FORMAT_NAMES} and send it again."
    )


def _format_name(content: bytes) -> str | None:
    """The name of a picture's format, supported or not, by its first bytes."""
    if content[4:8] == b"ftyp":
        brand = content[8:12]
        if brand.startswith(b"avi"):
            return "AVIF"
        if brand[:3] in (b"hei", b"hev", b"mif", b"msf"):
            return "HEIC"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "WebP"
    if content.startswith(bmp.SIGNATURE) and not any(content[6:10]):  # a text has no zeros there
        return "BMP"
    name = next((SIGNATURES[each] for each in SIGNATURES if content.startswith(each)), None)
    return name or ("SVG" if b"<svg" in content[:1000].lower() else None)
