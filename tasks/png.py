"""PNG files as viewers take them: what makes the picture must be right, and nothing else."""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
NEEDED = (b"IHDR", b"PLTE")
USED = (b"tRNS", b"eXIf")  # if their checksums are right
PIXELS = b"IDAT"  # what follows them is not needed


def needed(png: bytes) -> bytes:
    """The file without the chunks that do not make the picture.

    A long text, a large colour profile or a wrong checksum keeps nobody from reading it then, and
    nothing that is compressed is unpacked but the pixels.
    """
    head, pixels, at = [SIGNATURE], [], len(SIGNATURE)
    while at + 12 <= len(png):
        size, name = struct.unpack_from(">I4s", png, at)
        chunk = png[at : at + 12 + size]
        at += len(chunk)
        if name == PIXELS:
            pixels.append(chunk)
        elif not pixels and (name in NEEDED or (name in USED and _is_right(chunk))):
            head.append(chunk)
    return b"".join([*head, *pixels])


def _is_right(chunk: bytes) -> bool:
    """Whether a chunk's checksum is that of its name and content."""
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
