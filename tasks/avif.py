"""How large the pictures in an AVIF file are, before they are decoded.

Pillow knows the size that the container names. The decoder takes memory for the size that the
coded pictures name, which may be a thousand times that.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice

MOST_EXTENTS = 4096  # of items, and of the pieces they lie in; a decoder takes memory for each
SEQUENCE_HEADER = 1  # kind of open bitstream unit (OBU)


def most_pixels(avif: bytes) -> int:
    """The pixels of the largest picture in the file; raises `ValueError` if there is none."""
    meta = _boxes(_boxes(avif)[b"meta"][4:])
    return max(_pixels(header) for item in _items(avif, meta) for header in _sequence_headers(item))


def check(content: bytes) -> None:
    """Raises `ValueError` if an AVIF or HEIF file names too many items or pieces of them."""
    boxes = _boxes(content)
    if b"iloc" in (meta := _boxes(boxes.get(b"meta", b"")[4:])):
        for _ in _items(content, meta):
            pass


def _boxes(content: bytes) -> dict[bytes, bytes]:
    """The contents of the boxes by their types, the first of each."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at + 8 <= len(content):
        size, head = int.from_bytes(content[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(content[at + 8 : at + 16], "big"), 16
        end = at + size if size else len(content)
        if size and size < head:
            raise ValueError("a box smaller than its head")
        found.setdefault(content[at + 4 : at + 8], content[at + head : end])
        at = end
    return found


def _items(avif: bytes, meta: dict[bytes, bytes]) -> Iterator[bytes]:
    """The bytes of each item, as the box `iloc` of ISO/IEC 14496-12 says where they are."""
    iloc, sources = io.BytesIO(meta[b"iloc"]), (avif, meta.get(b"idat", b""))

    def number(size: int) -> int:
        if len(read := iloc.read(size)) < size:
            raise ValueError("a list of items that is cut short")
        return int.from_bytes(read, "big")

    def count(size: int, most: int) -> int:
        if (counted := number(size)) > most:
            raise ValueError("too many items or pieces of them")
        return counted

    version = number(4) >> 24
    sizes = number(2)
    of_offset, of_length, of_base, of_index = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    left = 2 * len(avif)  # bytes, or a small file could cost a lot of work
    extents = MOST_EXTENTS
    for _ in range(count(4 if version == 2 else 2, MOST_EXTENTS)):
        number(4 if version == 2 else 2)
        source = sources[number(2) & 1] if version else avif
        number(2)
        base, item = number(of_base), b""
        pieces = count(2, extents)
        extents -= pieces
        for _ in range(pieces):
            number(of_index if version else 0)
            start, length = base + number(of_offset), number(of_length)
            item += source[start : start + length if length else None]
            left -= len(item)
            if left < 0:
                raise ValueError("items that are larger than the file")
        yield item


def _sequence_headers(item: bytes) -> Iterator[bytes]:
    """The sequence headers among the OBUs of an item, as AV1's specification has them."""
    at = 0
    while at < len(item):
        head = item[at]
        at += 1 + (head >> 2 & 1)
        size = len(item) - at
        if head & 2:
            size = shift = 0
            while at < len(item) and shift < 56:
                byte = item[at]
                at, size, shift = at + 1, size | (byte & 127) << shift, shift + 7
                if byte < 128:
                    break
        if head >> 3 & 15 == SEQUENCE_HEADER:
            yield item[at : at + size]
        at += size


def _pixels(header: bytes) -> int:
    """The most pixels that a picture after this sequence header may have."""
    bits = iter("".join(f"{byte:08b}" for byte in header[:200]))

    def number(size: int) -> int:
        return int("0" + "".join(islice(bits, size)), 2)

    number(4)
    if is_still := number(1):
        number(5)
    else:
        has_model = delay = 0
        if number(1):  # timing
            number(64)
            if number(1):  # a number after as many zeros as it has bits
                number(next((zeros for zeros in range(32) if number(1)), 32))
            if has_model := number(1):
                delay = number(5) + 1
                number(42)
        has_delay = number(1)
        for _ in range(number(5) + 1):  # operating points
            number(12)
            number(1 if number(5) > 7 else 0)
            number(2 * delay + 1 if has_model and number(1) else 0)
            number(4 if has_delay and number(1) else 0)
    of_width, of_height = number(4) + 1, number(4) + 1
    pixels = (number(of_width) + 1) * (number(of_height) + 1)
    # A frame of a film may be larger, as far as its sizes' bits go.
    return pixels if is_still else max(pixels, (1 << of_width + of_height) // 4)
