"""A reader of BMP files for Pillow, of all the kinds that viewers show.

Pillow's own knows few bit fields and OS/2 headers. Importing this module registers the reader.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImagePalette

from tasks.problems import TooLarge

FORMAT = "BITMAP"  # its name in Pillow
SIGNATURE = b"BM"
CORE, INFO = 12, 40  # bytes of the oldest header and of the usual one
HEADERS = (CORE, *range(16, 65), 108, 124)
RAW, RLE8, RLE4, FIELDS, RLE24, FIELDS_WITH_ALPHA = 0, 1, 2, 3, 4, 6  # kinds of compression
RUNS = ((RLE8, 8), (RLE4, 4), (RLE24, 24))
END, MOVE = 1, 2  # what may stand in place of a run; 0 is the end of a row
NIBBLES = [bytes((byte >> 4, byte & 15)) for byte in range(256)]
MAX_RUNS = 4_000_000  # bytes, which take two seconds
NO_MASKS = (0, 0, 0, 0)

# Pillow's mode and raw mode of pixels that are not compressed, by their bits.
RAW_MODES = {
    1: ("P", "P;1"),
    2: ("P", "P;2"),
    4: ("P", "P;4"),
    8: ("P", "P"),
    16: ("RGB", "BGR;15"),
    24: ("RGB", "BGR"),
    32: ("RGB", "BGRX"),
}


class Header(NamedTuple):
    """What a header says; the masks of red, green, blue and alpha are 0 where there are none."""

    width: int
    height: int  # negative where the first row is the top one
    bits: int
    compression: int = RAW
    colours: int = 0
    masks: tuple[int, ...] = NO_MASKS


class BitmapFile(ImageFile.ImageFile):
    """A BMP file."""

    format = FORMAT
    format_description = "Windows and OS/2 bitmap"

    def _open(self) -> None:
        assert self.fp is not None
        start, size = struct.unpack("<10xII", self.fp.read(18))
        self.header = header = self._header(size)
        kind = header.compression, header.bits
        if size not in HEADERS or header.bits not in RAW_MODES:
            raise SyntaxError("not a bitmap")
        if header.compression != RAW and not any(header.masks) and kind not in RUNS:
            raise SyntaxError("not a bitmap's compression")
        self._size = header.width, abs(header.height)
        self._mode, raw_mode = RAW_MODES[header.bits]
        if self._mode == "P":
            order, most = "BGR" if size == CORE else "BGRX", 2**header.bits
            colours = self.fp.read(len(order) * min(header.colours or most, most))
            self.palette = ImagePalette.raw(order, colours)
        row = (header.width * header.bits + 31) // 32 * 4
        args = raw_mode, row, -1 if header.height > 0 else 1
        self.tile = [ImageFile._Tile("raw", (0, 0, *self.size), start or self.fp.tell(), args)]

    def _header(self, size: int) -> Header:
        assert self.fp is not None
        rest = self.fp.read(size - 4)
        if size == CORE:
            width, height, bits = struct.unpack("<HH2xH", rest)
            return Header(width, height, bits)
        # OS/2's may end early: what it lacks is 0.
        fields = struct.unpack("<ii2xHI12xI", rest[:32].ljust(32, b"\0"))
        header = Header._make((*fields, NO_MASKS))
        if header.compression not in (FIELDS, FIELDS_WITH_ALPHA):
            return header
        masks = rest[36:52]
        if size == INFO:
            masks = self.fp.read(12 if header.compression == FIELDS else 16)
        return header._replace(masks=struct.unpack("<4I", masks.ljust(16, b"\0")))

    def load(self) -> Any:
        """Decodes the pixels."""
        header = self.header
        if self.tile and header.compression != RAW:
            assert self.fp is not None
            self.fp.seek(self.tile[0].offset)
            unpack = self._fields if any(header.masks) else self._runs
            picture = unpack(self.fp.read())
            if header.height > 0:
                picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
            self._mode, self.im, self.tile = picture.mode, picture.im, []
        return super().load()

    def _fields(self, content: bytes) -> Image.Image:
        """The picture of bit fields, its rows in the file's order."""
        (width, height), size = self.size, self.header.bits // 8
        row = (width * size + 3) // 4 * 4
        rows = np.frombuffer(content, np.uint8, row * height).reshape(height, row)
        values = np.ascontiguousarray(rows[:, : width * size]).view(f"<u{size}")
        channels = np.stack([_field(values, mask) for mask in self.header.masks], axis=-1)
        # An alpha that is 0 everywhere is none.
        return Image.fromarray(channels if channels[..., 3].any() else channels[..., :3].copy())

    def _runs(self, content: bytes) -> Image.Image:
        """The picture of runs, its rows in the file's order, black where there is no run."""
        if len(content) > MAX_RUNS:
            raise TooLarge(
                f"The BMP file's runs have {len(content)} bytes; at most {MAX_RUNS} are allowed. "
                "Save it as PNG and send it again."
            )
        pixels, drawn = _unpacked(content, *self.size, self.header.bits)
        order = "BGR" if self.mode == "RGB" else "P"
        picture = Image.frombytes(self.mode, self.size, bytes(pixels), "raw", order)
        picture.palette = self.palette
        black = Image.new("RGB", self.size)
        return Image.composite(
            picture.convert("RGB"), black, Image.frombytes("L", self.size, bytes(drawn))
        )


def _field(values: NDArray[np.unsignedinteger], mask: int) -> NDArray[np.uint8]:
    """A field of each value, scaled to 0..255."""
    if mask == 0:
        return np.zeros(values.shape, np.uint8)
    shift = (mask & -mask).bit_length() - 1
    scaled = ((values & mask) >> shift) * np.float32(255 / (mask >> shift))
    return np.asarray(scaled + 0.5, np.uint8)


def _unpacked(content: bytes, width: int, height: int, bits: int) -> tuple[bytearray, bytearray]:
    """The pixels of runs, of one byte or three each; and 255 for each that a run has drawn, or 0.

    Raises `ValueError` if the runs end before the last row without saying so.
    """
    size = max(1, bits // 8)
    pixels, drawn = bytearray(width * height * size), bytearray(width * height)
    at = x = y = 0
    while y < height:
        if at + 2 > len(content):
            if y < height - 1:
                raise ValueError("the runs are cut short")
            break
        count, what = content[at : at + 2]
        at += 2
        if count == 0 and what <= MOVE:
            if what == END:
                break
            if what == MOVE:
                x, y, at = x + content[at], y + content[at + 1], at + 2
            else:
                x, y = 0, y + 1
            continue
        if count:  # so often the same: a pixel, or two of four bits
            run = content[at - 1 : at - 1 + size]
            run = NIBBLES[what] * ((count + 1) // 2) if bits == 4 else run * count
            at += size - 1
        else:  # so many pixels, at an even address
            count = what
            length = (count * bits + 7) // 8
            run = content[at : at + length]
            run = b"".join([NIBBLES[byte] for byte in run]) if bits == 4 else run
            at += length + length % 2
        shown = min(count, width - x, len(run) // size)
        if shown > 0:
            first = y * width + x
            pixels[first * size : (first + shown) * size] = run[: shown * size]
            drawn[first : first + shown] = b"\xff" * shown
        x += count
    return pixels, drawn


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(SIGNATURE)


Image.register_open(FORMAT, BitmapFile, _accept)
