"""For robustness.py: small pictures of every format that Pillow writes, and mutations of them."""

from __future__ import annotations

import io
import json
import multiprocessing
import multiprocessing.connection
import random
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.robustness_server import FAILED, TOP, Outcome, is_flat, judged, pss

SECTION = "mutations"
ALLOWED = (200, 400, 413, 415, 422)
EVERY = 10  # one in so many goes to a face model
FACE_SIDE = 300  # the longer side of the photos that are mutated, pixels
HANGS = 20  # times the seconds that a request may take, after which a process counts as hung
SAMPLE = 50  # requests between two looks at the memory
SHOWN = 5  # failures that the report tells one by one

Mutate = Callable[[bytearray, random.Random, list[bytes]], bytearray]


# --- pictures ---------------------------------------------------------------------------------


def drawn(side: int = 96) -> Image.Image:
    """A seven, dark on light, RGB."""
    picture = Image.new("RGB", (side, side), (250, 248, 240))
    line = [(0.2 * side, 0.2 * side), (0.75 * side, 0.2 * side), (0.4 * side, 0.85 * side)]
    ImageDraw.Draw(picture).line(line, fill=(20, 20, 40), width=max(1, side // 12))
    return picture


def photo() -> Image.Image:
    """A photo of four faces, RGB."""
    with Image.open(TOP / "tests" / "photos" / "family.jpg") as picture:
        picture.thumbnail((FACE_SIDE, FACE_SIDE))
        small: Image.Image = picture.convert("RGB")
    return small


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png_by_hand(values: NDArray[Any], colour: int, *, interlaced: bool = False) -> bytes:
    """What Pillow does not write: 16 bits a channel, and Adam7; `values` is (H, W[, C])."""
    depth = values.dtype.itemsize * 8
    height, width = values.shape[:2]
    data = values.astype(">u2") if depth == 16 else values
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2)]
        passes += [(0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [
        b"\0" + row.tobytes()
        for top, left, down, across in passes
        for row in data[top::down, left::across]
    ]
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    body = png_chunk(b"IDAT", zlib.compress(b"".join(rows)))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + body + png_chunk(b"IEND", b"")


def read_formats(picture: Image.Image) -> Iterator[tuple[str, bytes]]:
    """The picture as every kind of file that the app reads."""
    grey, eight = picture.convert("L"), picture.quantize(8)
    clear = picture.convert("RGBA")
    clear.putalpha(grey.point(lambda level: 255 - level))
    frames: dict[str, Any] = {"save_all": True, "append_images": [picture.rotate(90), picture]}
    turned = Image.Exif()
    turned[0x0112] = 6
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield f"PNG {mode}", encoded(picture.convert(mode), "PNG")
    for bits in (1, 2, 4):
        yield f"PNG palette of {bits} bits", encoded(picture.quantize(2**bits), "PNG", bits=bits)
    yield "PNG palette, one transparent", encoded(eight, "PNG", transparency=0)
    yield "PNG palette with alphas", encoded(eight, "PNG", transparency=bytes(range(0, 256, 32)))
    yield "PNG transparent colour", encoded(picture, "PNG", transparency=(250, 248, 240))
    yield "PNG transparent ink", encoded(clear, "PNG")
    yield "PNG EXIF", encoded(picture, "PNG", exif=turned)
    yield "PNG animated", encoded(picture, "PNG", **frames)
    values = np.asarray(picture)
    wide = values.astype(np.uint16) * 257
    yield "PNG 16-bit grey", png_by_hand(wide[..., 0], 0)
    yield "PNG 16-bit RGB", png_by_hand(wide, 2)
    yield "PNG 16-bit RGBA", png_by_hand(np.dstack([wide, wide[..., :1]]), 6)
    yield "PNG interlaced grey", png_by_hand(values[..., 0], 0, interlaced=True)
    yield "PNG interlaced RGB", png_by_hand(values, 2, interlaced=True)
    yield "PNG interlaced 16-bit", png_by_hand(wide, 2, interlaced=True)
    for mode in ("L", "RGB", "CMYK"):
        yield f"JPEG {mode}", encoded(picture.convert(mode), "JPEG")
    yield "JPEG progressive", encoded(picture, "JPEG", progressive=True)
    yield "JPEG CMYK progressive", encoded(picture.convert("CMYK"), "JPEG", progressive=True)
    yield "JPEG 4:4:4", encoded(picture, "JPEG", subsampling=0, quality=95)
    yield "JPEG with restarts", encoded(picture, "JPEG", restart_marker_blocks=3)
    yield "JPEG EXIF-rotated", encoded(picture, "JPEG", exif=turned)
    yield "JPEG MPO", encoded(picture, "MPO", **frames)
    yield "WebP lossy", encoded(picture, "WEBP")
    yield "WebP lossless", encoded(picture, "WEBP", lossless=True)
    yield "WebP with alpha", encoded(clear, "WEBP")
    yield "WebP EXIF", encoded(picture, "WEBP", exif=turned)
    yield "WebP animated", encoded(picture, "WEBP", **frames)
    yield "GIF", encoded(picture, "GIF")
    yield "GIF transparent", encoded(eight, "GIF", transparency=1)
    yield "GIF animated", encoded(picture, "GIF", **frames, duration=50, disposal=2)
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"BMP {mode}", encoded(picture.convert(mode), "BMP")


def foreign_formats(picture: Image.Image) -> Iterator[tuple[str, bytes]]:
    """The picture as every other kind of file that Pillow both reads and writes."""
    Image.init()
    known = {"PNG", "JPEG", "WEBP", "GIF", "BMP", "MPO"}
    for kind in sorted(set(Image.SAVE) & set(Image.OPEN) - known):
        for mode in ("RGB", "L", "P", "1", "F"):
            with suppress(OSError, ValueError, KeyError):  # of another mode, or a mere stub
                yield f"{kind} {mode}", encoded(picture.convert(mode), kind)
                break
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg"):
        yield f"TIFF {compression}", encoded(picture, "TIFF", compression=compression)
    yield "TGA RLE", encoded(picture, "TGA", compression="tga_rle")
    yield "JPEG 2000 codestream", encoded(picture, "JPEG2000", no_jp2=True)


@dataclass(frozen=True)
class Sources:
    """Pictures by their names, those that the app reads and the others."""

    read: list[tuple[str, bytes]]
    foreign: list[tuple[str, bytes]]

    @property
    def all(self) -> list[tuple[str, bytes]]:
        """Both."""
        return [*self.read, *self.foreign]


@lru_cache(maxsize=2)
def sources(*, faces: bool) -> Sources:
    """Files of a photo or of a drawn digit."""
    picture = photo() if faces else drawn()
    return Sources(list(read_formats(picture)), list(foreign_formats(picture)))


# --- mutations --------------------------------------------------------------------------------

EDGES = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def flip_bytes(content: bytearray, chance: random.Random, __: list[bytes]) -> bytearray:
    """Some bytes, or single bits of them."""
    for _ in range(chance.randint(1, 20)):
        at = chance.randrange(len(content))
        content[at] = chance.choice([chance.randrange(256), content[at] ^ 1 << chance.randrange(8)])
    return content


def flip_in_head(content: bytearray, chance: random.Random, __: list[bytes]) -> bytearray:
    """Some of the first 64 bytes."""
    for _ in range(chance.randint(1, 4)):
        content[chance.randrange(min(64, len(content)))] = chance.randrange(256)
    return content


def truncate(content: bytearray, chance: random.Random, _: list[bytes]) -> bytearray:
    """The file's beginning, or now and then its end."""
    at = chance.randrange(len(content))
    return content[:at] if chance.random() < 0.85 else content[at:]


def _block(content: bytearray, chance: random.Random) -> tuple[int, int]:
    start = chance.randrange(len(content))
    return start, min(len(content), start + chance.choice([1, 2, 4, 16, 64, 256, 1024]))


def duplicate_block(content: bytearray, chance: random.Random, _: list[bytes]) -> bytearray:
    """A block once more, or up to 200 times."""
    start, end = _block(content, chance)
    return content[:end] + content[start:end] * chance.choice([1, 1, 2, 10, 200]) + content[end:]


def delete_block(content: bytearray, chance: random.Random, _: list[bytes]) -> bytearray:
    """Without a block."""
    start, end = _block(content, chance)
    return content[:start] + content[end:]


def _length_fields(content: bytes) -> list[tuple[int, str]]:
    """Where lengths and sizes stand, with the format that struct has for them."""
    found: list[tuple[int, str]] = []
    if content[:4] == b"\x89PNG":
        found += [(16, ">I"), (20, ">I")]
        at = 8
        while at + 12 <= len(content) and len(found) < 100:
            found.append((at, ">I"))
            at += 12 + struct.unpack_from(">I", content, at)[0]
    elif content[:2] == b"\xff\xd8":
        at = 2
        while at + 9 < len(content) and content[at] == 0xFF and len(found) < 100:
            found.append((at + 2, ">H"))
            if content[at + 1] in (0xC0, 0xC1, 0xC2):
                found += [(at + 5, ">H"), (at + 7, ">H")]
            at += 2 + struct.unpack_from(">H", content, at + 2)[0]
    elif content[:4] == b"RIFF":
        found += [(4, "<I"), (24, "<H"), (26, "<H"), (24, "<I"), (27, "<I")]
        at = 12
        while at + 8 <= len(content) and len(found) < 100:
            found.append((at + 4, "<I"))
            at += 8 + (struct.unpack_from("<I", content, at + 4)[0] + 1 & ~1)
    elif content[:3] == b"GIF":
        found += [(6, "<H"), (8, "<H"), (10, "<B"), (13, "<B")]
        at = content.find(b"\x2c")
        found += [(at + offset, "<H") for offset in (1, 3, 5, 7) if at > 0]
    elif content[:2] == b"BM":
        found += [(at, "<I") for at in (2, 10, 14, 18, 22, 30, 34, 46)] + [(28, "<H")]
    return found


def edit_length(content: bytearray, chance: random.Random, _: list[bytes]) -> bytearray:
    """A length or size becomes another, often one at an edge."""
    known = _length_fields(bytes(content)) or [
        (chance.randrange(min(64, len(content))), chance.choice(["<H", ">H", "<I", ">I"]))
    ]
    for at, form in chance.sample(known, min(len(known), chance.randint(1, 2))):
        size = struct.calcsize(form)
        if at + size > len(content):
            continue
        value = chance.choice([*EDGES, chance.randrange(2**31), chance.randrange(5000)])
        if chance.random() < 0.3:
            value = struct.unpack_from(form, content, at)[0] + chance.randint(-9, 9)
        struct.pack_into(form, content, at, value % 2 ** (8 * size))
    return content


def splice(content: bytearray, chance: random.Random, others: list[bytes]) -> bytearray:
    """This file's beginning and another's end."""
    other = chance.choice(others)
    return content[: chance.randrange(len(content))] + other[chance.randrange(len(other)) :]


def swap_head(content: bytearray, chance: random.Random, others: list[bytes]) -> bytearray:
    """Another file's first bytes over this one's."""
    size = chance.choice([2, 4, 8, 12, 32, 100])
    return bytearray(chance.choice(others)[:size]) + content[size:]


def mend_checksums(content: bytearray, _: random.Random, __: list[bytes]) -> bytearray:
    """A PNG's checksums made right again, so that what was mutated is looked at."""
    at = 8
    while content[:4] == b"\x89PNG" and at + 12 <= len(content):
        end = at + 8 + struct.unpack_from(">I", content, at)[0]
        if end + 4 > len(content):
            break
        struct.pack_into(">I", content, end, zlib.crc32(content[at + 4 : end]))
        at = end + 4
    return content


MUTATIONS: tuple[Mutate, ...] = (
    flip_bytes,
    flip_in_head,
    truncate,
    duplicate_block,
    delete_block,
    edit_length,
    splice,
    swap_head,
)


@dataclass(frozen=True)
class Case:
    """A file to send, what was done to which picture, and whether to a face model.

    `whole` is the status of a picture that nothing was done to, where it is known.
    """

    name: str
    content: bytes
    faces: bool
    whole: int = 0


def case(seed: int, index: int, *, faces: bool) -> Case:
    """The `index`-th file, always the same one; the first ones are the pictures as they are."""
    to_faces = faces and index % EVERY == 0
    pictures = sources(faces=to_faces)
    turn = index // EVERY if to_faces else index
    if turn < len(pictures.all):
        name, content = pictures.all[turn]
        return Case(f"{name}, whole", content, to_faces, 200 if turn < len(pictures.read) else 0)
    chance = random.Random(f"{seed} {index}")
    # Most of what the app does not read it leaves at the first bytes.
    name, content = chance.choice(pictures.read if chance.random() < 0.85 else pictures.foreign)
    others = [file for _, file in pictures.all]
    mutant, done = bytearray(content), []
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        mutation = chance.choice(MUTATIONS)
        mutant = mutation(mutant or bytearray(1), chance, others)
        done.append(mutation.__name__)
    if chance.random() < 0.6:
        mutant = mend_checksums(mutant, chance, others)
    return Case(f"{name}, {' '.join(done)}", bytes(mutant), to_faces)


# --- the run ----------------------------------------------------------------------------------


@dataclass
class Part:
    """What one process has seen."""

    statuses: Counter[str] = field(default_factory=Counter)
    slowest: list[tuple[float, float, int]] = field(default_factory=list)  # CPU, wall, index
    failures: list[tuple[int, str]] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    done: int = 0


def wrong(response: Any) -> str:
    """What is wrong with an answer; empty where nothing is."""
    if response.status_code not in ALLOWED:
        return f"status {response.status_code}: {response.text[:200]}"
    try:
        answer = json.loads(response.data)
    except ValueError:
        return f"status {response.status_code}: a body that is not JSON"
    if response.status_code == 200:
        (result,) = answer["results"]
        parts = result.get("faces") or result.get("subjects") or [result]
        # A number's own predictions are its likeliest alone.
        sums = [sum(each["score"] for each in part["predictions"]) for part in parts]
        own = sum(each["score"] for each in result["predictions"])
        good = result["label"] and all(abs(each - 1) < 1e-3 for each in sums) and 0 < own < 1.001
        return "" if good else f"scores whose sums are {own:.3f} and {sums}"
    if response.mimetype != "application/problem+json":
        return f"status {response.status_code} as {response.mimetype}"
    good = isinstance(answer.get("detail"), str) and len(answer["detail"]) > 10
    return "" if good and answer.get("status") == response.status_code else f"problem {answer}"


def work(
    pipe: multiprocessing.connection.Connection,
    current: Any,
    seed: int,
    indices: range,
    model: str | None,
) -> None:
    """A process: sends the files of `indices` to the app, and what it saw through `pipe`."""
    from app import create_app

    client = create_app().test_client()
    part = Part()
    for index in indices:
        this = case(seed, index, faces=model is not None)
        current.value = index
        query = f"?model={model}&faces=detect" if this.faces else ""
        kind = "image/png" if index % 2 else "application/octet-stream"
        wall, cpu = time.monotonic(), time.process_time()
        response = client.post("/api/predict" + query, data=this.content, content_type=kind)
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        part.statuses[str(response.status_code)] += 1
        part.slowest = sorted([*part.slowest, (cpu, wall, index)], reverse=True)[:SHOWN]
        fault = wrong(response)
        if not fault and this.whole and this.whole != response.status_code:
            fault = f"a whole picture, status {response.status_code}: {response.text[:200]}"
        if fault:
            part.failures.append((index, fault))
        part.done += 1
        if part.done % SAMPLE == 0:
            part.memory.append(pss(multiprocessing.current_process().pid or 0))
            pipe.send(part)
    pipe.send(part)
    pipe.close()


def face_model() -> str | None:
    """A model of the store that takes faces, or none."""
    import model_store

    for folder in model_store.folders():
        with suppress(model_store.StoreError):
            if model_store.read_card(folder).task == "face":
                return folder.name
    return None


@dataclass
class _Process:
    """A running process and what it was given."""

    process: Any
    pipe: multiprocessing.connection.Connection
    current: Any
    left: range
    part: Part = field(default_factory=Part)
    seen: int = -1
    since: float = 0.0


def _start(seed: int, indices: range, model: str | None) -> _Process:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    current = context.Value("q", -1)
    process = context.Process(
        target=work, args=(sender, current, seed, indices, model), daemon=True
    )
    process.start()
    sender.close()
    return _Process(process, receiver, current, indices, since=time.monotonic())


def run(
    *, count: int, processes: int, seed: int, most_seconds: float, keep: Path | None
) -> list[Outcome]:
    """The section: `count` files through as many processes, and what came back."""
    model = face_model()
    parts: list[Part] = []
    dead: list[tuple[int, str]] = []
    running = [_start(seed, range(first, count, processes), model) for first in range(processes)]
    started = told = time.monotonic()
    try:
        while running:
            for each in list(running):
                with suppress(EOFError):
                    while each.pipe.poll():
                        each.part = each.pipe.recv()
                index = each.current.value
                if index != each.seen:
                    each.seen, each.since = index, time.monotonic()
                elif time.monotonic() - each.since > HANGS * most_seconds + 60:
                    each.process.kill()
                    dead.append((index, f"no answer in {HANGS * most_seconds + 60:.0f} s"))
                    each.process.join()
                if each.process.is_alive():
                    continue
                running.remove(each)
                parts.append(each.part)
                if each.process.exitcode:
                    if not dead or dead[-1][0] != index:
                        dead.append((index, f"the process ended with {each.process.exitcode}"))
                    rest = range(max(index, each.left.start) + processes, count, processes)
                    if index >= 0 and rest:
                        running.append(_start(seed, rest, model))
            if time.monotonic() - told > 30:
                told = time.monotonic()
                done = sum(part.done for part in [*parts, *(each.part for each in running)])
                print(f"  {done} of {count} mutants", file=sys.stderr, flush=True)
            time.sleep(0.2)
    finally:
        for each in running:
            each.process.kill()
            each.process.join()
    return _outcomes(
        parts,
        dead,
        count=count,
        processes=processes,
        seed=seed,
        model=model,
        most_seconds=most_seconds,
        keep=keep,
        minutes=(time.monotonic() - started) / 60,
    )


def _outcomes(
    parts: list[Part],
    dead: list[tuple[int, str]],
    *,
    count: int,
    processes: int,
    seed: int,
    model: str | None,
    most_seconds: float,
    keep: Path | None,
    minutes: float,
) -> list[Outcome]:
    statuses: Counter[str] = sum((part.statuses for part in parts), Counter())
    failures = sorted(dead + [failure for part in parts for failure in part.failures])
    slowest = sorted((each for part in parts for each in part.slowest), reverse=True)[:SHOWN]

    def named(index: int) -> Case:
        return case(seed, index, faces=model is not None)

    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        for index in {*(each[2] for each in slowest), *(index for index, _ in failures)}:
            (keep / f"mutant-{seed}-{index}.bin").write_bytes(named(index).content)
    told = ", ".join(f"{status}: {number}" for status, number in sorted(statuses.items()))
    to_faces = len(range(0, count, EVERY)) if model else 0
    drawn_from = len(sources(faces=False).all)
    total = sum(statuses.values())
    rows = [
        judged(
            SECTION,
            f"{count} mutants of {drawn_from} kinds of files, {to_faces} of them to "
            f"{model or 'no face model'}, seed {seed}",
            f"{told}; {len(failures)} wrong answers or dead processes; {minutes:.0f} minutes in "
            f"{processes} processes",
            good=not failures and total == count,
        )
    ]
    for index, fault in failures[:SHOWN]:
        rows.append(Outcome(SECTION, f"mutant {index}: {named(index).name}", fault, FAILED))
    if slowest:
        cpu, wall, index = slowest[0]
        rows.append(
            judged(
                SECTION,
                f"the slowest of them, at most {most_seconds:g} s of processor time",
                f"{cpu:.2f} s ({wall:.2f} s on the clock): mutant {index}, {named(index).name}, "
                f"{len(named(index).content)} bytes",
                good=cpu <= most_seconds,
            )
        )
    flats = [is_flat(part.memory) for part in parts if len(part.memory) >= 6]
    if flats:
        shown = ", ".join(f"{before:.0f} to {after:.0f} MB" for _, before, after in flats)
        rows.append(
            judged(
                SECTION,
                "memory of each process (PSS), middle third to last third",
                shown,
                good=all(flat for flat, _, _ in flats),
            )
        )
    return rows
