"""Faces in a photo: found, turned upright by their landmarks, and cropped as in FER2013.

tasks/face_detector.py runs the network; this module decides which parts of the photo it sees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks import face_view
from tasks.base import Frame, Verdict, as_pixels
from tasks.face_detector import Detection, NoDetectorError, detect

__all__ = ["Face", "NoDetectorError", "cut", "find", "verdict_of_crop"]

SIDE = 640  # the longer side for the first search, pixels
LARGE_SIDE = 1280  # the same if all faces found are small, or none is found
LONG = 3  # a photo's longer side, relative to its shorter one, from which on it is long
SHARED = 0.25  # of a tile's length that is also in the next one
LEAST_SCORE = 60  # of 100; below it, false alarms outnumber faces
SURE_SCORE = 84  # the same for further searches, which have more false alarms
CLOSE = 288  # side of the close-up in which a face is judged and its tilt measured, pixels
CLOSE_MARGIN = 1.5  # that side, relative to the face's
LEVELLED = 8  # the number of largest faces whose tilt is measured
UPRIGHT_SCORE = 0.88  # a face with a lower score may lie on its side
NEARLY_LEVEL = 8  # degrees; a face that was turned by more is measured again
SMALL = 24  # a face's side at SIDE below which others may be missed, pixels
TILTS = (-40, 40, 90, -90, 180)  # degrees by which a photo without upright faces is rotated
OVERLAP = 0.2  # intersection over union above which two boxes are the same face
NATURAL = 10  # degrees; heads in the training pictures are tilted by up to this
MARGIN = 1.09  # a crop's side, relative to the square root of the box's area

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Face:
    """A face: its box in the photo in pixels, its tilt in degrees (clockwise), its score 0..1.

    `verdict` says whether it is seen well enough for its expression to be judged.
    """

    x: float
    y: float
    width: float
    height: float
    tilt: float
    score: float
    verdict: Verdict = "sure"

    @property
    def side(self) -> float:
        """The side of a square with the box's area, pixels."""
        return math.sqrt(self.width * self.height)


def find(photo: Image.Image) -> list[Face]:
    """All faces of an upright photo (mode L or RGB), largest first; raises `NoDetectorError`.

    A margin around the photo helps to find a face that fills it. A long photo is also searched in
    tiles, and so is a large one without faces; one without upright faces is searched rotated.
    """
    longest = max(photo.size)
    faces = _look(photo, min(SIDE, max(longest, SIDE // 4)))
    if longest > SIDE and (not faces or min(face.side for face in faces) * SIDE < SMALL * longest):
        faces = _without_doubles(_look(photo, min(longest, LARGE_SIDE)) + faces)
    if longest > 2 * LARGE_SIDE and (not faces or longest > LONG * min(photo.size)):
        faces = _without_doubles(_sure(_look_in_tiles(photo)) + faces)
    if not faces:
        faces = _sure(_look(photo, SIDE // 2, margin=0.3))
    for tilt in TILTS:
        if faces:
            break
        faces = _sure(_look_tilted(photo, tilt))
    faces = sorted(faces, key=lambda face: -face.side)
    return [_examined(photo, face, level=at < LEVELLED) for at, face in enumerate(faces)]


def verdict_of_crop(crop: Image.Image) -> Verdict:
    """What `Face.verdict` is for the crop of one face; raises `NoDetectorError`.

    Its edges are where it was cut on purpose, so that a face may reach beyond them.
    """
    crop = _scaled(crop, min(1.0, CLOSE / max(crop.size)))
    side = max(crop.size) / MARGIN
    x, y = (crop.width - side) / 2, (crop.height - side) / 2
    close = _close_up(crop, Face(x, y, side, side, 0.0, 1.0))
    return face_view.verdict(close, _in_the_middle(close))


def cut(photo: Image.Image, face: Face, size: int, channels: int, margin: float = MARGIN) -> Bytes:
    """The crop of a face, uint8 (channels, size, size), framed as in FER2013 and turned upright by
    the part of its tilt that exceeds `NATURAL`.
    """
    mode = "L" if channels == 1 else "RGB"
    return as_pixels(_upright(photo, face, size, margin, _turn(face), mode=mode), channels)


def frame(face: Face, margin: float = MARGIN) -> Frame:
    """What `cut` cuts out."""
    side = face.side * margin
    x, y = face.x + (face.width - side) / 2, face.y + (face.height - side) / 2
    return Frame(x, y, side, side, _turn(face))


def _turn(face: Face) -> float:
    return math.copysign(max(0.0, abs(face.tilt) - NATURAL), face.tilt)


def _upright(
    photo: Image.Image,
    face: Face,
    size: int,
    margin: float,
    tilt: float,
    *,
    mode: str,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    """A square of `size` pixels around a face, `margin` times as large as it, turned by `tilt`."""
    side = face.side * margin
    x, y = face.x + face.width / 2, face.y + face.height / 2
    # A face much larger than the crop is reduced first, since the transform samples few pixels.
    factor = max(1, int(side / (2 * size)))
    reach = side  # half the crop's diagonal, and room for the filter
    box = [round(edge) for edge in (x - reach, y - reach, x + reach, y + reach)]
    near = _padded(photo, box).convert(mode).reduce(factor)
    x, y, side = (x - box[0]) / factor, (y - box[1]) / factor, side / factor
    scale = side / size
    angle = math.radians(tilt)
    along, across = scale * math.cos(angle), scale * math.sin(angle)
    middle = size / 2
    matrix = (
        along, -across, x - along * middle + across * middle,
        across, along, y - across * middle - along * middle,
    )  # fmt: skip
    return near.transform((size, size), Image.Transform.AFFINE, matrix, resample)


def _padded(photo: Image.Image, box: list[int]) -> Image.Image:
    """The part of `photo` in `box`; beyond the photo, its edge pixels are repeated."""
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


def _scaled(photo: Image.Image, scale: float) -> Image.Image:
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    return photo.convert("RGB").resize(size, Image.Resampling.BILINEAR, reducing_gap=2)


def _look(photo: Image.Image, side: int, margin: float = 0.06) -> list[Face]:
    """The faces of `photo`, searched with its longer side at `side` pixels.

    It is padded by `margin` of that side all round, by repeating its edge.
    """
    scale = side / max(photo.size)
    small = _scaled(photo, scale)
    wide = int(margin * side)
    padded = np.pad(np.asarray(small), ((wide, wide), (wide, wide), (0, 0)), "edge")
    faces = []
    for score, x, y, width, height, *_ in detect(padded):
        if score < LEAST_SCORE or width < 1 or height < 1:
            continue
        at = (x - wide) / scale, (y - wide) / scale
        faces.append(Face(*at, width / scale, height / scale, 0.0, score / 100))
    return _without_doubles(faces)


def _look_in_tiles(photo: Image.Image) -> list[Face]:
    """The faces of `photo`, searched in overlapping parts of it along its longer side."""
    is_wide = photo.width > photo.height
    longer, shorter = max(photo.size), min(photo.size)
    length = min(longer, max(shorter, SIDE))
    count = math.ceil((longer / length - SHARED) / (1 - SHARED))
    faces = []
    for start in np.linspace(0, longer - length, count).round().tolist():
        x, y = (start, 0) if is_wide else (0, start)
        width, height = (length, shorter) if is_wide else (shorter, length)
        tile = photo.crop((x, y, x + width, y + height))
        faces += [
            replace(face, x=face.x + x, y=face.y + y)
            for face in _look(tile, min(length, LARGE_SIDE))
        ]
    return faces


def _look_tilted(photo: Image.Image, tilt: float) -> list[Face]:
    """The faces of `photo` rotated by `tilt` degrees, clockwise, in the photo's coordinates."""
    scale = min(1.0, SIDE / 2 / max(photo.size))
    small = _scaled(photo, scale)
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


def _examined(photo: Image.Image, face: Face, *, level: bool) -> Face:
    """The face with its verdict and, if it is to be levelled, with its tilt."""
    if level:
        face = _turned(photo, face)
    for _ in range(2):
        close = _close_up(photo, face)
        found = _in_the_middle(close)
        tilt = _tilt(found) if level and found else 0.0
        face = replace(face, tilt=face.tilt + tilt)
        if abs(tilt) < NEARLY_LEVEL:
            break
    verdict = face_view.verdict(close, found)
    if verdict == "sure" and (face.side < face_view.SMALL or _is_cut_off(face, photo)):
        verdict = "unsure"
    return replace(face, tilt=(face.tilt + 180) % 360 - 180, verdict=verdict)


def _is_cut_off(face: Face, photo: Image.Image) -> bool:
    """Whether the photo's edge cuts off a part of the face that its expression is read from."""
    aside, above = face_view.ASIDE * face.width, face_view.ABOVE * face.height
    return (
        min(face.x, photo.width - face.x - face.width) < -aside
        or min(face.y, photo.height - face.y - face.height) < -above
    )


def _turned(photo: Image.Image, face: Face) -> Face:
    """The face with the quarter turn that has the best detection score.

    The detector also finds faces that lie on their side or upside down, as if they were upright.
    """
    if face.score >= UPRIGHT_SCORE or face.tilt:
        return face
    near = _close_up(photo, face)
    found = {turn: _in_the_middle(near.rotate(turn)) for turn in (0, 90, 180, -90)}
    scores = {turn: each.score if each else 0 for turn, each in found.items()}
    best = max(scores, key=lambda turn: scores[turn])
    if scores[best] < max(SURE_SCORE, scores[0] + 4):
        return face
    return replace(face, tilt=float(best))


def _in_the_middle(close: Image.Image) -> Detection | None:
    """The face in the centre of a close-up, as the detector sees it, or none."""
    middle, reach = close.width / 2, close.width / 5
    found = [
        face
        for face in detect(np.asarray(close))
        if math.hypot(face.x + face.width / 2 - middle, face.y + face.height / 2 - middle) < reach
    ]
    return max(found, key=lambda face: face.score, default=None)


def _close_up(photo: Image.Image, face: Face) -> Image.Image:
    """The face with an equal margin around it, in colour, turned upright by its tilt."""
    if face.tilt:
        fast = Image.Resampling.BILINEAR
        return _upright(photo, face, CLOSE, CLOSE_MARGIN, face.tilt, mode="RGB", resample=fast)
    x, y = face.x + face.width / 2, face.y + face.height / 2
    reach = CLOSE_MARGIN * face.side / 2
    near = _padded(photo, [round(edge) for edge in (x - reach, y - reach, x + reach, y + reach)])
    near = near.convert("RGB")
    return near.resize((CLOSE, CLOSE), Image.Resampling.BILINEAR, reducing_gap=2)


def _tilt(face: Detection) -> float:
    """By how many degrees a face in a close-up is tilted, by its landmarks.

    The landmarks are accurate close up. In small faces they are placed as in an upright face, and
    in strongly tilted ones they follow the tilt only halfway.
    """
    marks = np.array(face.landmarks)
    eyes, mouth = marks[:2], marks[3:]
    across, down = eyes[1] - eyes[0], mouth.mean(0) - eyes.mean(0)
    by_eyes, by_mouth = math.atan2(across[1], across[0]), math.atan2(-down[0], down[1])
    tilt = math.degrees((by_eyes + by_mouth) / 2)
    # Landmarks of a head turned to the side say nothing about tilt.
    if abs(by_eyes - by_mouth) > math.radians(25) or abs(tilt) > 50:
        return 0.0
    return tilt


def _sure(faces: list[Face]) -> list[Face]:
    return [face for face in faces if face.score * 100 >= SURE_SCORE]


def _without_doubles(faces: list[Face]) -> list[Face]:
    """Of overlapping faces, only the one with the best score."""
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
