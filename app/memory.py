"""Returning freed memory to the system."""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
LARGE = 8 * 1024 * 1024  # bytes


def give_back_large_blocks() -> None:
    """Makes glibc map each block of `LARGE` bytes or more separately, and unmap it when freed.

    By default it raises that threshold up to 32 MiB as blocks are freed, above the size of
    pictures, and every thread keeps its peak memory. Other C libraries are not affected.
    """
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGE)
        # With one threshold set, glibc trims to 128 KiB after each request, and the next request
        # allocates again. Twice the other threshold is glibc's own ratio.
        mallopt(M_TRIM_THRESHOLD, 2 * LARGE)
        mallopt(M_ARENA_MAX, 2)  # else each of many threads would keep as much


def give_back_what_is_free() -> None:
    """Makes glibc return all free memory, even between blocks in use; takes 0.2 ms or more.

    Otherwise a worker keeps about 60 MB after a photo.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
