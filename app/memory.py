"""Memory that is freed, given back to the system."""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
LARGE = 8 * 1024 * 1024  # bytes


def give_back_large_blocks() -> None:
    """Has glibc map each block of `LARGE` bytes or more by itself, and so unmap it when freed.

    Left alone it raises that size to 32 MiB as blocks are freed, above what pictures are made
    of, and every thread keeps the most that it has ever used. Other C libraries are left alone.
    """
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGE)
        # Once one is set, glibc gives back whatever is above 128 KiB with each request, and the
        # next has to ask for it again. Twice the other is the ratio that it takes by itself.
        mallopt(M_TRIM_THRESHOLD, 2 * LARGE)
        mallopt(M_ARENA_MAX, 2)  # or each of many threads would keep as much for itself


def give_back_what_is_free() -> None:
    """Has glibc give all free memory back, also what lies between blocks in use: 0.2 ms and more.

    A worker keeps some 60 MB of a photo otherwise, until the next one.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
