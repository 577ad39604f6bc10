"""PNG files as viewers take them: what makes the picture must be right, and nothing else."""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
USED = (b"tRNS", b"eXIf")  # if their checksum is right


def needed(png: bytes) -> bytes:
    """The file without the chunks that do not make the picture.

    A long text, a large colour profile or a wrong checksum keeps nobody from reading it then, and
    nothing that is compressed is unpacked but the pixels.
    """
    kept, at = [SIGNATURE], len(SIGNATURE)
    while at + 12 <= len(png):
        size, name = struct.unpack_from(">I4s", png, at)
        end = at + 12 + size
        if name in NEEDED or (name in USED and _is_right(png[at + 4 : end])):
            kept.append(png[at:end])
        at = end
    return b"".join(kept)


def _is_right(chunk: bytes) -> bool:
    """Whether a chunk, from its name to its checksum, is as it was written."""
    return zlib.crc32(chunk[:-4]) == int.from_bytes(chunk[-4:], "big")
