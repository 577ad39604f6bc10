"""Pictures with the answers that a checkpoint gave to them when it was made.

A server compares its own answers to them before it serves the checkpoint.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_store.store import StoreError, replace_file, title

PROBE = "probe.json"
MOST, MOST_BYTES = 8, 512 * 1024  # of pictures
TOLERANCE = 1e-2  # of a probability

Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class _Probe(msgspec.Struct):
    """Pictures, uint8 of `shape` (N, C, H, W), compressed by zlib, and their probabilities."""

    shape: tuple[int, int, int, int]
    pictures: bytes
    probabilities: list[list[float]]


def write_probe(folder: Path, pictures: NDArray[np.uint8], network: Network) -> None:
    """Writes the first of `pictures`, uint8 (N, C, H, W), with what `network` answers: (N, K)."""
    count = max(1, min(MOST, MOST_BYTES // math.prod(pictures.shape[1:])))
    chosen = np.ascontiguousarray(pictures[:count])
    rows = [[round(float(value), 6) for value in row] for row in network(chosen)]
    probe = _Probe(chosen.shape, zlib.compress(chosen.tobytes()), rows)
    replace_file(folder / PROBE, msgspec.json.encode(probe) + b"\n")


def check_probe(folder: Path, network: Network) -> None:
    """Raises `StoreError` if `network` answers otherwise than the checkpoint in `folder` did.

    Older checkpoints have no pictures to compare.
    """
    remedy = f"publish the version again, or remove {PROBE} if the answers are right"
    try:
        probe = msgspec.json.decode((folder / PROBE).read_bytes(), type=_Probe)
        # A copy, since torch wants to be able to write to it.
        pictures = np.frombuffer(bytearray(zlib.decompress(probe.pictures)), np.uint8)
        pictures = pictures.reshape(probe.shape)
        expected = np.array(probe.probabilities)
    except FileNotFoundError:
        return
    except (OSError, ValueError, zlib.error) as error:
        raise StoreError(f"{title(folder)}: {PROBE} is not valid ({error}); {remedy}") from error
    given = network(pictures)
    if given.shape != expected.shape or not np.allclose(given, expected, rtol=0, atol=TOLERANCE):
        raise StoreError(
            f"{title(folder)}: its network does not answer the pictures in {PROBE} as when it was "
            f"made; {remedy}"
        )
