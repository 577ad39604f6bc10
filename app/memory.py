"""Memory of large pictures, given back to the system when it is freed."""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_MMAP_THRESHOLD = -3  # malloc.h
LARGE = 8 * 1024 * 1024  # bytes


def give_back_large_blocks() -> None:
    """Has glibc map each block of `LARGE` bytes or more by itself, and so unmap it when freed.

    Left alone it raises that size to 32 MiB as blocks are freed, above what pictures are made
    of, and every thread keeps the most that it has ever used. Other C libraries are left alone.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)
